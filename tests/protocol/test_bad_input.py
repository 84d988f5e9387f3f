"""Broken and awkward files: stored with a clear refusal, or refused at the door; never a traceback.

Through the network as a scanner would send them, and through `dicom-node process`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from dicom_node.cli.app import app
from dicom_node.harness.archive import Archive
from dicom_node.harness.scanner import echo, send
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import JobState, StudyState
from tests.node_process import ROOT, NodeProcess, is_done, wait_until
from tests.ports import free_port

RequireProgram = Callable[[str], Path]

SUCCESS = 0x0000
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
NO_CONTEXT = None  # its SOP Class is none of the standard's: the presentation context is refused

AT_THE_DOOR = {
    "bad_sequence.dcm": CANNOT_UNDERSTAND,  # its UIDs are hashes, with letters
    "blank-uids-ct-j2k-1.dcm": CANNOT_UNDERSTAND,
    "blank-uids-ct-j2k-2.dcm": CANNOT_UNDERSTAND,
    "emri_small_jpeg_2k_lossless_too_short.dcm": SUCCESS,
    "explicit_VR-UN.dcm": SUCCESS,
    "fo-dicom-D_CLUNIE_CT1_RLE_FRAGS.dcm": SUCCESS,
    "fo-dicom-GH1146.dcm": DOES_NOT_MATCH,  # File Meta and data set name different instances
    "fo-dicom-GH1301.dcm": SUCCESS,
    "fo-dicom-GH178.dcm": SUCCESS,
    "fo-dicom-GH220.dcm": NO_CONTEXT,
    "fo-dicom-GH223.dcm": CANNOT_UNDERSTAND,
    "fo-dicom-GH227.dcm": SUCCESS,
    "fo-dicom-GH487.dcm": CANNOT_UNDERSTAND,
    "fo-dicom-Issue1097_FailToOpenDeflatedFileWithSQ.dcm": NO_CONTEXT,
    "no-meta-length.dcm": CANNOT_UNDERSTAND,
    "no-pixel-data.dcm": SUCCESS,
    "no-pixel-spacing.dcm": SUCCESS,
}
TILTED = "awkward-series/ct-head-tilt-variable-spacing"
MIXED = "awkward-series/mr-mixed-orientation"

EVERYTHING_GOES_TO_AN_ENGINE = {
    "rules": [
        {
            "name": name,
            "when": {"Modality": modalities},
            "engines": engines,
            "destinations": ["archive"],
        }
        for name, modalities, engines in (
            ("ct", ["CT", "OT", "US", "SC"], ["ct_lungs"]),
            ("mr", ["MR"], ["mr_brain"]),
            ("x-ray", ["CR", "DX"], ["cxr_quality", "cxr_pneumonia"]),
        )
    ]
}


@dataclass(frozen=True)
class Sent:
    """A node that got every bad file, and what it answered."""

    node: NodeProcess
    archive: Archive
    ledger: Ledger
    answers: dict[str, int | None]


@pytest.fixture(scope="module")
def sent(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:
    folder = tmp_path_factory.mktemp("bad_input")
    rules = folder / "rules.yaml"
    rules.write_text(yaml.safe_dump(EVERYTHING_GOES_TO_AN_ENGINE))
    port = free_port()
    with Archive(folder / "archive") as archive:
        peers = {
            "archive": {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive.port},
            "scanner": {"ae_title": "SCANNER", "may_send": True},
        }
        node = NodeProcess(folder / "node", port, node={"rules_file": str(rules)}, peers=peers)
        node.start()
        bad = [data_dir / "malformed" / name for name in AT_THE_DOOR]
        awkward = [*(data_dir / TILTED).glob("*.dcm"), *(data_dir / MIXED).glob("*.dcm")]
        animals = [data_dir / "xray" / "dx-thorax-canine-fuji.dcm"]
        answers = {}
        for batch in ([file] for file in bad), [awkward], [animals]:
            for files in batch:
                for answer in send(files, "127.0.0.1", port, called="DICOM_NODE"):
                    answers[answer.file.name] = answer.status
        ledger = node.ledger()
        wait_until(lambda: _ended(ledger), what="the end of all studies")
        yield Sent(node, archive, ledger, answers)
        ledger.close()
        assert node.stop() == 0


def _ended(ledger: Ledger) -> bool:
    studies = len(ledger.studies.in_states(list(StudyState)))
    return studies > 0 and is_done(ledger, studies)


def test_every_malformed_file_has_its_line_here(data_dir: Path) -> None:
    assert {file.name for file in (data_dir / "malformed").iterdir()} == AT_THE_DOOR.keys()


@pytest.mark.parametrize("name", AT_THE_DOOR)
def test_the_door_takes_a_malformed_file_or_refuses_it_with_the_status(
    name: str, sent: Sent
) -> None:
    assert sent.answers[name] == AT_THE_DOOR[name]


def test_what_was_refused_is_listed_with_its_reason(sent: Sent) -> None:
    refusals = sent.ledger.events.named("REFUSED")
    wanted = [
        status for status in AT_THE_DOOR.values() if status in {DOES_NOT_MATCH, CANNOT_UNDERSTAND}
    ]
    assert len(refusals) >= len(wanted)
    assert all(event.reason for event in refusals)
    listed = sent.node.run_cli("status", "--refused")
    assert listed.returncode == 0
    assert "Study Instance UID is missing" in " ".join(listed.stdout.split())


def test_no_study_is_stuck_and_no_engine_made_a_result(sent: Sent) -> None:
    jobs = sent.ledger.jobs.in_states(*JobState)
    assert jobs
    assert {job.state for job in jobs} == {JobState.REFUSED}
    known = ("was made for", "tilt", "a multi-frame object that does not describe its frames")
    assert all(any(words in job.reason for words in known) for job in jobs)
    assert sent.archive.received() == ()


def test_the_tilted_series_is_refused_for_its_tilt(sent: Sent) -> None:
    assert any("18.5 degrees" in job.reason for job in sent.ledger.jobs.in_states(JobState.REFUSED))


def test_the_dog_is_refused_because_it_is_no_frontal_chest(sent: Sent) -> None:
    reasons = [job.reason for job in sent.ledger.jobs.in_states(JobState.REFUSED)]
    assert any("ViewPosition is absent" in reason for reason in reasons)


def test_the_node_is_well_and_nothing_was_left_behind(sent: Sent) -> None:
    assert echo("127.0.0.1", sent.node.port, called="DICOM_NODE") == SUCCESS
    assert list((sent.node.data / "incoming").iterdir()) == []
    assert sent.ledger.events.named("STAGE_FAILED") == []
    assert "Traceback" not in sent.node.log()


@pytest.mark.witness
@pytest.mark.parametrize(
    ("name", "proposing", "expected"),
    [
        ("fo-dicom-D_CLUNIE_CT1_RLE_FRAGS.dcm", "--propose-rle", "Success"),
        ("no-pixel-spacing.dcm", "--propose-rle", "Success"),
        ("fo-dicom-GH1301.dcm", "--propose-little", "Success"),
        ("fo-dicom-GH223.dcm", "--propose-little", "CannotUnderstand"),
    ],
)
def test_storescu_gets_the_same_answers(
    name: str,
    proposing: str,
    expected: str,
    data_dir: Path,
    sent: Sent,
    require_program: RequireProgram,
) -> None:
    command: list[str | Path] = [
        require_program("storescu"),
        "-v",
        "-aet",
        "SCANNER",
        "-aec",
        "DICOM_NODE",
        proposing,
    ]
    file = data_dir / "malformed" / name
    done = subprocess.run(
        [*command, "127.0.0.1", str(sent.node.port), file],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"TCP_NODELAY": "1"},
    )
    assert expected in done.stdout + done.stderr


# ---------------------------------------------------------------- dicom-node process


def _process(source: Path, out: Path, engine: str) -> tuple[int, str]:
    config = str(ROOT / "config" / "node.yaml")
    command = ["process", str(source), "--out", str(out), "--engine", engine, "--config", config]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "400"})
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize("name", AT_THE_DOOR)
def test_process_refuses_a_malformed_file_with_a_reason(
    name: str, data_dir: Path, tmp_path: Path
) -> None:
    code, output = _process(data_dir / "malformed" / name, tmp_path, "ct_lungs")
    assert code == 1
    assert "refused: " in output or "no DICOM image" in output or "cannot be read" in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("folder", "engine", "reason"),
    [(TILTED, "ct_lungs", "gantry tilt"), (MIXED, "mr_brain", "not what mr_brain was made for")],
)
def test_process_refuses_an_awkward_series_with_its_reason(
    folder: str, engine: str, reason: str, data_dir: Path, tmp_path: Path
) -> None:
    code, output = _process(data_dir / folder, tmp_path, engine)
    assert code == 1
    assert reason in output
    assert list(tmp_path.iterdir()) == []
