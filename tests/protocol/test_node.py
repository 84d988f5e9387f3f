"""The whole node on real studies: once, again, late, from strangers, to an archive that is down."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
import yaml
from pydicom.uid import UID

from dicom_node.harness.archive import Archive
from dicom_node.harness.scanner import send
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryState, JobState, StudyState
from dicom_node.store.local import LocalStore
from tests.node_process import NodeProcess, is_done, wait_until

REPORT = "1.2.840.10008.5.1.4.1.1.88.34"  # Comprehensive 3D SR Storage

RequireProgram = Callable[[str], Path]


@dataclass(frozen=True)
class Running:
    """A node with its archive and its ledger."""

    node: NodeProcess
    archive: Archive
    ledger: Ledger

    def send(self, files: list[Path]) -> None:
        """Send, and wait until the ledger has it: rows follow behind the answers."""
        before = self.node.associations_ended()
        answers = send(files, "127.0.0.1", self.node.port, called="DICOM_NODE")
        assert [answer.status for answer in answers] == [0] * len(files)
        wait_until(lambda: self.node.associations_ended() > before, 10.0, "the rows")

    def wait_done(self, studies: int = 1) -> None:
        wait_until(lambda: is_done(self.ledger, studies), 90, "the end of all work")

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.node.run_cli("status", "--json").stdout)
        return document


@pytest.fixture
def running(tmp_path: Path, free_port: int) -> Iterator[Running]:
    with Archive(tmp_path / "archive") as archive:
        peers = {
            "archive": {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive.port},
            "scanner": {"ae_title": "SCANNER", "may_send": True},
        }
        node = NodeProcess(tmp_path / "node", free_port, peers=peers).start()
        ledger = node.ledger()
        yield Running(node, archive, ledger)
        ledger.close()
        assert node.stop() == 0


@pytest.fixture
def slices(data_dir: Path) -> list[Path]:
    """Sixteen slices through the lungs."""
    return sorted((data_dir / "ct-chest-lctsc-011").glob("*.dcm"))[16:32]


@pytest.fixture
def xray(data_dir: Path) -> Path:
    return data_dir / "xray" / "dx-nih-00000001_000.dcm"


def test_a_study_that_is_sent_again_changes_nothing(running: Running, xray: Path) -> None:
    running.send([xray])
    running.wait_done()
    running.send([xray])
    running.send([xray])
    wait_until(lambda: len(running.ledger.events.named("REPEATED")) == 2, what="two repeats")
    running.wait_done()
    [study] = running.ledger.studies.in_states([StudyState.ROUTED])
    assert study.revision == 1
    assert [received.count for received in running.archive.received()] == [1, 1]


def test_late_instances_make_a_new_revision_with_results_of_their_own(
    running: Running, slices: list[Path], xray: Path
) -> None:
    running.send(slices[:12])
    running.wait_done()
    first = {received.sop_instance_uid for received in running.archive.received()}
    running.send(slices[12:])
    running.wait_done()
    [study] = running.ledger.studies.in_states([StudyState.ROUTED])
    assert study.revision == 2
    jobs = running.ledger.jobs.of_study(study.study_instance_uid)
    assert [(job.revision, job.state) for job in jobs] == [(1, JobState.DONE), (2, JobState.DONE)]
    received = running.archive.received()
    assert len(received) == 4
    assert first < {one.sop_instance_uid for one in received}
    # one series an object kind: viewers show its newest, and the report names its predecessor
    assert len({one.series_instance_uid for one in received}) == 2
    reports = [pydicom.dcmread(one.path) for one in received if one.sop_class_uid == REPORT]
    old, new = sorted(reports, key=lambda report: int(report.InstanceNumber))
    assert (old.InstanceNumber, new.InstanceNumber) == (1, 2)
    assert "PredecessorDocumentsSequence" not in old
    [study_item] = new.PredecessorDocumentsSequence
    [series_item] = study_item.ReferencedSeriesSequence
    [document] = series_item.ReferencedSOPSequence
    assert document.ReferencedSOPInstanceUID == old.SOPInstanceUID
    assert series_item.SeriesInstanceUID == old.SeriesInstanceUID
    assert running.archive.conflicts() == ()


def test_a_late_series_does_not_run_the_first_one_again(
    running: Running, slices: list[Path], tmp_path: Path
) -> None:
    running.send(slices[:12])
    running.wait_done()
    other = pydicom.dcmread(slices[0])
    other.SeriesInstanceUID = UID("1.2.3.4.5")
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4.5.1")
    other.save_as(tmp_path / "other.dcm")
    running.send([tmp_path / "other.dcm"])
    running.wait_done()
    [study] = running.ledger.studies.in_states([StudyState.ROUTED])
    assert study.revision == 2
    [job] = running.ledger.jobs.of_study(study.study_instance_uid)
    assert [event.event for event in running.ledger.events.of(job.job_id)].count("STARTED") == 1
    assert [received.count for received in running.archive.received()] == [1, 1]


def test_a_corrected_study_gets_results_with_the_right_patient(
    running: Running, xray: Path, tmp_path: Path
) -> None:
    """Pixels and UIDs are as before, so is the finding; the header was wrong."""
    wrong = pydicom.dcmread(xray)
    wrong.PatientID = "SOMEBODY-ELSE"
    wrong.save_as(tmp_path / "wrong.dcm")
    running.send([tmp_path / "wrong.dcm"])
    running.wait_done()
    running.send([xray])
    wait_until(lambda: len(running.archive.received()) == 4, what="the corrected results")
    patients = [
        str(pydicom.dcmread(received.path, stop_before_pixels=True).PatientID)
        for received in running.archive.received()
    ]
    assert sorted(patients) == ["NIH-00000001"] * 2 + ["SOMEBODY-ELSE"] * 2


def test_an_archive_that_is_down_is_shown_with_its_reason_and_served_when_it_is_up(
    running: Running, xray: Path
) -> None:
    running.archive.stop()
    running.send([xray])
    wait_until(lambda: _postponed(running) == 2, what="two failed attempts")

    def are_shown_with_their_reason() -> bool:
        # while an attempt is under way, that is what is shown
        shown = [item for item in running.status()["open"] if item["what"] == "delivery"]
        return ["cannot be reached" in item["reason"] for item in shown] == [True, True]

    wait_until(are_shown_with_their_reason, what="both with their reason")
    running.archive.start()
    assert running.node.run_cli("retry", "--all").returncode == 0
    running.wait_done()
    assert [received.count for received in running.archive.received()] == [1, 1]
    assert running.status()["open"] == []


def _postponed(running: Running) -> int:
    pending = running.ledger.deliveries.in_states(DeliveryState.PENDING)
    return sum(parcel.delivery.failures > 0 for parcel in pending)


@pytest.mark.witness
def test_a_stranger_is_rejected_and_status_says_which_line_would_admit_him(
    running: Running, require_program: RequireProgram
) -> None:
    command: list[str | Path] = [
        require_program("echoscu"),
        "-aet",
        "STRANGER",
        "-aec",
        "DICOM_NODE",
    ]
    done = subprocess.run(
        [*command, "127.0.0.1", str(running.node.port)], capture_output=True, text=True, check=False
    )
    assert "Calling AE Title Not Recognized" in done.stdout + done.stderr
    refused = running.node.run_cli("status", "--refused").stdout
    assert "`ae_title: STRANGER` and `may_send: true`" in refused


@pytest.mark.witness
def test_storescu_sends_the_chest_ct_and_the_bytes_are_kept_as_they_came(
    running: Running, slices: list[Path], require_program: RequireProgram
) -> None:
    command: list[str | Path] = [
        require_program("storescu"),
        "-aet",
        "SCANNER",
        "-aec",
        "DICOM_NODE",
    ]
    subprocess.run(
        [*command, "--propose-jls-lossless", "127.0.0.1", str(running.node.port), *slices],
        check=True,
        env=os.environ | {"TCP_NODELAY": "1"},
    )
    running.wait_done()
    for file in slices:
        sent = pydicom.dcmread(file)
        study = running.ledger.studies.study_of_instance(sent.SOPInstanceUID)
        assert study is not None
        [row] = [
            one
            for one in running.ledger.studies.instances(study)
            if one.sop_instance_uid == sent.SOPInstanceUID
        ]
        kept = pydicom.dcmread(BytesIO(LocalStore(running.node.data).file(row.path).read_bytes()))
        assert kept.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
        assert kept.PixelData == sent.PixelData
    assert len(running.archive.received()) == 2


def test_no_patient_identity_stands_in_the_log_or_in_the_ledger(
    running: Running, slices: list[Path], xray: Path, data_dir: Path
) -> None:
    dog = data_dir / "xray" / "dx-thorax-canine-fuji.dcm"
    running.send([*slices[:12], xray, dog])
    running.wait_done(studies=3)
    identities = set()
    for file in (slices[0], xray, dog):
        header = pydicom.dcmread(file, stop_before_pixels=True)
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber"):
            identities.add(str(header.get(keyword) or ""))
    written = running.node.log().encode() + (running.node.data / "ledger.sqlite").read_bytes()
    written += (running.node.data / "ledger.sqlite-wal").read_bytes()
    found = [text for text in identities if len(text) > 3 and text.encode() in written]
    assert found == []
    assert len(identities) > 3


def test_a_second_node_on_the_same_folder_is_refused(running: Running) -> None:
    second = running.node.run_cli("serve")
    assert second.returncode == 2
    assert "another node already works in" in second.stderr


def test_a_dead_archive_does_not_hold_up_another(
    xray: Path, tmp_path: Path, free_port: int
) -> None:
    rules = {
        "rules": [
            {
                "name": "both",
                "when": {"Modality": "DX"},
                "engines": ["cxr_quality"],
                "destinations": ["dead", "alive"],
            }
        ]
    }
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    with Archive(tmp_path / "dead") as dead, Archive(tmp_path / "alive") as alive:
        dead.stop()
        peers = {
            "dead": {"ae_title": "DEAD", "host": "127.0.0.1", "port": dead.port},
            "alive": {"ae_title": "ALIVE", "host": "127.0.0.1", "port": alive.port},
            "scanner": {"ae_title": "SCANNER", "may_send": True},
        }
        settings = {"rules_file": str(tmp_path / "rules.yaml")}
        node = NodeProcess(tmp_path / "node", free_port, peers=peers, node=settings).start()
        send([xray], "127.0.0.1", free_port, called="DICOM_NODE")
        assert alive.wait_for(1)
        ledger = node.ledger()
        wait_until(lambda: _destinations(ledger, DeliveryState.UNPROVEN) == ["alive"])
        unsent = (DeliveryState.PENDING, DeliveryState.SENDING)
        assert _destinations(ledger, *unsent) == ["dead"]
        dead.start()
        assert dead.wait_for(1)
        assert dead.received()[0].digest == alive.received()[0].digest
        ledger.close()
        assert node.stop() == 0


def _destinations(ledger: Ledger, *states: DeliveryState) -> list[str]:
    return [parcel.delivery.destination for parcel in ledger.deliveries.in_states(*states)]
