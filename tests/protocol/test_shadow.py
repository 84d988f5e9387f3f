"""A newer engine beside the one in use, on a whole node: compared, stopped, not sent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pydicom
import yaml

from dicom_node.harness.archive import Archive
from dicom_node.harness.scanner import send
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import ComparisonState, JobState, TrialState
from dicom_node.model import JobRole
from tests.node_process import ROOT, NodeProcess, wait_until

IN_USE, CANDIDATE = "cxr_pneumonia", "cxr_pneumonia_2"
FLIPPED, AGREED, LATER = (
    f"dx-nih-{n}.dcm" for n in ("00000002_000", "00000001_000", "00000003_000")
)
"""Probabilities of 0.11, 0.03 and 0.04: a threshold of 0.1 makes the first another class."""


def write_engines(folder: Path) -> Path:
    """Write the engine in use and a newer version of it, which has another threshold."""
    for name in (IN_USE, CANDIDATE):
        shutil.copytree(ROOT / "engines" / IN_USE, folder / name)
    file = folder / CANDIDATE / "engine.yaml"
    written = yaml.safe_load(file.read_text("utf-8"))
    written |= {"name": CANDIDATE, "version": "2.0.0"}
    written["classes"][0]["threshold"] = 0.1
    file.write_text(yaml.safe_dump(written), "utf-8")
    return folder


def write_rules(file: Path, trial: dict[str, Any]) -> Path:
    rule = {
        "name": "chest-x-ray",
        "when": {"Modality": ["CR", "DX"]},
        "engines": [{IN_USE: trial}],
        "destinations": ["archive"],
    }
    file.write_text(yaml.safe_dump({"rules": [rule]}), "utf-8")
    return file


def a_node(folder: Path, port: int, archive: Archive, trial: dict[str, Any]) -> NodeProcess:
    return NodeProcess(
        folder / "node",
        port,
        node={
            "engines_dir": str(write_engines(folder / "engines")),
            "rules_file": str(write_rules(folder / "rules.yaml", trial)),
        },
        peers={
            "archive": {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive.port},
            "scanner": {"ae_title": "SCANNER", "may_send": True},
        },
    )


def process(node: NodeProcess, files: list[Path], studies: int) -> None:
    """Send files; wait until nothing is open any more, what has to be compared included."""
    for answer in send(files, "127.0.0.1", node.port, called="DICOM_NODE"):
        assert answer.status == 0
    node.wait_done(studies)
    ledger = node.ledger()
    wait_until(lambda: not open_comparisons(ledger), 60.0, "the comparisons")
    ledger.close()


def open_comparisons(ledger: Ledger) -> int:
    return sum(
        ledger.trials.counts(trial.trial_id).get(ComparisonState.OPEN, 0)
        for trial in ledger.trials.all()
    )


def engines_received(archive: Archive) -> list[str]:
    """Return the engine of each report that the archive has, by its algorithm identification."""
    text = [str(pydicom.dcmread(one.path)) for one in archive.received()]
    return sorted(CANDIDATE if CANDIDATE in one else IN_USE for one in text)


def test_a_shadow_is_compared_and_never_sent_and_its_stop_rule_ends_it(
    data_dir: Path, tmp_path: Path, free_port: int
) -> None:
    stop = {"flips_above": "10%", "after_studies": 2}
    trial = {"shadow": {"engine": CANDIDATE, "stop": stop}}
    xrays = data_dir / "xray"
    with Archive(tmp_path / "archive") as archive:
        node = a_node(tmp_path, free_port, archive, trial).start()
        process(node, [xrays / FLIPPED, xrays / AGREED], studies=2)

        assert engines_received(archive) == [IN_USE] * 2
        ledger = node.ledger()
        shadows = [j for j in ledger.jobs.in_states(*JobState) if j.role is JobRole.SHADOW]
        assert [(job.engine_name, job.state) for job in shadows] == [(CANDIDATE, JobState.DONE)] * 2
        for job in shadows:
            assert len(ledger.results.of_job(job.job_id)) == 1  # kept
            assert ledger.deliveries.of_job(job.job_id) == []

        [stopped] = ledger.trials.all()
        assert stopped.state is TrialState.STOPPED
        assert stopped.reason == "another class on 50.0% of 2 studies (flips_above: 10%)"
        assert [
            event.event for event in ledger.events.of("1") if event.subject_kind == "trial"
        ] == [
            "CREATED",
            "STOPPED",
        ]
        [document] = json.loads(node.run_cli("status", "--shadow", "--json").stdout)
        assert document["summary"]["flips"] == 0.5
        assert document["summary"]["probability_largest"] == 0.0  # the network is the same
        assert document["summary"]["slower"] > 0
        shown = node.run_cli("status", "--shadow").stdout
        assert "2 compared, 0 failed, 0 open" in shown
        assert stopped.reason in node.run_cli("status").stdout
        study = shadows[0].study_instance_uid
        assert (
            "compared with cxr_pneumonia_2 2.0.0 (shadow)" in node.run_cli("explain", study).stdout
        )

        assert node.stop() == 0
        node.start()  # a stop survives it
        process(node, [xrays / LATER], studies=3)
        assert engines_received(archive) == [IN_USE] * 3
        assert len([j for j in ledger.jobs.in_states(*JobState) if j.role is JobRole.SHADOW]) == 2

        assert node.run_cli("retry", "t1").returncode == 0
        assert ledger.trials.all()[0].state is TrialState.RUNNING
        ledger.close()
        assert node.stop() == 0


def test_a_canary_is_sent_and_what_it_replaces_goes_out_if_it_fails(
    data_dir: Path, tmp_path: Path, free_port: int
) -> None:
    trial = {"canary": {"engine": CANDIDATE, "share": "100%", "stop": {"failures": 1}}}
    xrays = data_dir / "xray"
    with Archive(tmp_path / "archive") as archive:
        node = a_node(tmp_path, free_port, archive, trial).start()
        process(node, [xrays / FLIPPED], studies=1)
        assert engines_received(archive) == [CANDIDATE]
        assert node.stop() == 0

        (tmp_path / "engines" / CANDIDATE / "model.onnx").write_bytes(b"broken")
        node.start()
        process(node, [xrays / AGREED], studies=2)
        wait_until(lambda: len(archive.received()) == 2, 30.0, "the result in its place")
        assert engines_received(archive) == [IN_USE, CANDIDATE]
        ledger = node.ledger()
        [stopped] = ledger.trials.all()
        assert stopped.state is TrialState.STOPPED
        assert stopped.reason.startswith("failed on 1 studies")
        process(node, [xrays / LATER], studies=3)
        assert engines_received(archive) == [IN_USE, IN_USE, CANDIDATE]
        ledger.close()
        assert node.stop() == 0
