"""infer, then encode, on the runtime that runs no network."""

from __future__ import annotations

from pathlib import Path

from dicom_node.infer.engine_loading import load_engine
from dicom_node.infer.runtimes.choice import Wishes
from dicom_node.inference import infer_and_encode
from tests.factories import make_xray, write

ENGINE = Path(__file__).parents[2] / "engines" / "cxr_quality"
WARNING = "No network was run: the values are zeros, for a test of the wiring"


def test_what_no_network_has_seen_says_so_in_the_finding_and_in_the_report(tmp_path: Path) -> None:
    file = write(make_xray(), tmp_path / "x.dcm")
    engine = load_engine(ENGINE, threads=1, wishes=Wishes(runtime="null"))
    outcome = infer_and_encode(engine, [file], 0.0, "key", "NODE")
    assert outcome.finding.warnings[0] == WARNING
    assert outcome.finding.engine.runtime == "null: answers zeros, no network was run"
    [report] = outcome.encoded
    assert WARNING.encode() in report.content


def test_what_a_network_has_seen_does_not(tmp_path: Path) -> None:
    file = write(make_xray(), tmp_path / "x.dcm")
    outcome = infer_and_encode(load_engine(ENGINE, threads=1), [file], 0.0, "key", "NODE")
    assert WARNING not in outcome.finding.warnings
