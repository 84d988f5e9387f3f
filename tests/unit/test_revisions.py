"""What a study's next revision, a re-send and a new engine make of results that were sent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest
import yaml
from pydicom.dataset import FileDataset
from structlog.testing import capture_logs

from dicom_node.config.settings import Config, InferSettings, NodeSettings, Peer
from dicom_node.infer.engine_folders import load_manifest
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import JobState
from dicom_node.model import REJECTION, Job
from dicom_node.route.router import EngineLabel
from dicom_node.store.local import LocalStore
from dicom_node.store.record import digest_of
from dicom_node.worker import Worker
from tests import factories
from tests.factories import make_xray
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock
from tests.unit.route import made

ROOT = Path(__file__).parents[2]
ENGINE = "cxr_pneumonia"
PLAIN, HIDING = "plain", "hiding"
"""Two destinations: the second wants rejection notes."""
RULE = made.engine_rule("chest", {"Modality": "CR"}, ENGINE, to=(PLAIN, HIDING))


@dataclass
class Node:
    """The stages of a node from the arrival of an X-ray to what is due to be sent."""

    folder: Path
    hides: bool = True

    def __post_init__(self) -> None:
        self.engines_dir = self.folder / "engines"
        if not self.engines_dir.exists():
            shutil.copytree(ROOT / "engines" / ENGINE, self.engines_dir / ENGINE)
        where: dict[str, Any] = {"host": "127.0.0.1", "port": 11113}
        self.config = Config(
            node=NodeSettings(data_dir=self.folder / "data", engines_dir=self.engines_dir),
            infer=InferSettings(threads=1, runtime="onnxruntime"),
            peers={
                PLAIN: Peer(ae_title="PLAIN", **where),
                HIDING: Peer(ae_title="HIDING", rejection_note=self.hides, **where),
            },
        )
        self.ledger: Ledger = rows.new_ledger(self.folder)
        self.store = LocalStore(self.config.node.data_dir)
        self.clock = HandClock(1000.0)
        self.restart()

    def restart(self) -> None:
        """Read the engine's folder anew."""
        self.manifest = load_manifest(self.engines_dir / ENGINE)
        self.worker = Worker(self.config, self.ledger, self.store, self.clock, lambda _: None)

    def upgrade(self, version: str) -> None:
        file = self.engines_dir / ENGINE / "engine.yaml"
        written = yaml.safe_load(file.read_text())
        file.write_text(yaml.safe_dump(written | {"version": version}, sort_keys=False))
        self.restart()

    def receive(self, dataset: FileDataset) -> None:
        relative = f"instances/{dataset.SOPInstanceUID}-{self.clock.now:.0f}.dcm"
        file = factories.write(dataset, self.store.path(relative))
        self.ledger.studies.instance_stored(
            rows.an_instance(
                sop_instance_uid=str(dataset.SOPInstanceUID),
                study_instance_uid=factories.STUDY,
                series_instance_uid=factories.XRAY_SERIES,
                path=relative,
                digest=digest_of(file.read_bytes()).hex(),
            )
        )

    def work(self) -> list[Job]:
        """Complete and route the study if something came, do what is queued; return those jobs."""
        self.clock.now += 100
        for evidence in self.ledger.studies.receiving():
            self.ledger.studies.completed(evidence, "quiet", self.clock.now)
        labels = {ENGINE: EngineLabel(self.manifest.version, self.manifest.model_digest)}
        made.router(self.ledger, self.store, (RULE,), labels, self.clock).turn()
        jobs = self.ledger.jobs.in_states(JobState.QUEUED)
        for job in jobs:
            self.worker.do(job.job_id)
            done = rows.job_of(self.ledger, job.job_id)
            assert done.state is JobState.DONE, done.reason
        return jobs

    def due(self, job: Job, destination: str) -> dict[str, FileDataset]:
        """Return by kind what of a job is due to a destination."""
        return {
            parcel.result.kind: pydicom.dcmread(self.store.path(parcel.result.path))
            for parcel in self.ledger.deliveries.of_job(job.job_id)
            if parcel.delivery.destination == destination
        }


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with capture_logs():
        node = Node(tmp_path)
        node.receive(make_xray())
        yield node
    node.ledger.close()


def rejected_by(note: FileDataset) -> list[str]:
    return [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in references(note)]


def references(note: FileDataset) -> list[pydicom.Dataset]:
    return [item for item in note.ContentSequence if item.ValueType in {"IMAGE", "COMPOSITE"}]


def test_the_same_instance_again_makes_no_second_result(node: Node) -> None:
    [first] = node.work()
    before = node.ledger.results.of_job(first.job_id)
    node.receive(make_xray())
    assert node.work() == []
    assert node.ledger.results.of_job(first.job_id) == before
    assert len(node.ledger.deliveries.of_job(first.job_id)) == 2


def test_two_nodes_make_the_same_bytes_of_the_same_study(node: Node, tmp_path: Path) -> None:
    """As does one that lost its disk and got the study again."""
    other = Node(tmp_path / "other")
    other.receive(make_xray())
    [here], [there] = node.work(), other.work()
    contents = [
        [one.store.path(r.path).read_bytes() for r in one.ledger.results.of_job(job.job_id)]
        for one, job in ((node, here), (other, there))
    ]
    other.ledger.close()
    assert here.job_id == there.job_id
    assert contents[0] == contents[1]


def test_a_first_revision_takes_nothing_back(node: Node) -> None:
    [job] = node.work()
    assert set(node.due(job, PLAIN)) == set(node.due(job, HIDING)) == {"SR"}


def test_a_late_instance_makes_a_new_report_that_names_and_takes_back_the_old(node: Node) -> None:
    [first] = node.work()
    node.receive(make_xray(number=2))
    [second] = node.work()
    old, new = node.due(first, HIDING)["SR"], node.due(second, HIDING)["SR"]
    assert new.SOPInstanceUID != old.SOPInstanceUID
    assert new.SeriesInstanceUID == old.SeriesInstanceUID
    assert (old.InstanceNumber, new.InstanceNumber) == (1, 2)
    [study] = new.PredecessorDocumentsSequence
    [document] = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert document.ReferencedSOPInstanceUID == old.SOPInstanceUID

    note = node.due(second, HIDING)[REJECTION]
    title = note.ConceptNameCodeSequence[0]
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("113001", "DCM")
    assert rejected_by(note) == [old.SOPInstanceUID]
    [study] = note.CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == old.StudyInstanceUID
    [series] = study.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == old.SeriesInstanceUID
    assert str(note.PatientName) == str(old.PatientName)
    assert note.StudyInstanceUID == old.StudyInstanceUID
    assert note.SeriesInstanceUID not in {old.SeriesInstanceUID, factories.XRAY_SERIES}
    [said] = [
        item.TextValue
        for item in note.ContentSequence
        if item.ValueType == "TEXT" and item.ConceptNameCodeSequence[0].CodeValue == "113012"
    ]
    assert said == f"The series changed: report {new.SOPInstanceUID} replaces these."


def test_only_who_wants_notes_gets_them(node: Node) -> None:
    node.work()
    node.receive(make_xray(number=2))
    [second] = node.work()
    assert set(node.due(second, PLAIN)) == {"SR"}
    assert set(node.due(second, HIDING)) == {"SR", REJECTION}


def test_where_nobody_wants_notes_none_is_made(tmp_path: Path) -> None:
    with capture_logs():
        node = Node(tmp_path, hides=False)
        node.receive(make_xray())
        node.work()
        node.receive(make_xray(number=2))
        [second] = node.work()
    assert [one.kind for one in node.ledger.results.of_job(second.job_id)] == ["SR"]
    node.ledger.close()


def test_corrected_bytes_of_an_instance_are_another_revision(node: Node) -> None:
    """The same pixels of another patient: mask and source UIDs stay, the result must not."""
    [first] = node.work()
    node.receive(make_xray(PatientName="Corrected^Patient"))
    [second] = node.work()
    old, new = node.due(first, HIDING)["SR"], node.due(second, HIDING)["SR"]
    assert new.SOPInstanceUID != old.SOPInstanceUID
    assert str(new.PatientName) == "Corrected^Patient"
    assert rejected_by(node.due(second, HIDING)[REJECTION]) == [old.SOPInstanceUID]


def test_each_revision_takes_back_the_one_before_it(node: Node) -> None:
    reports = []
    for number in (1, 2, 3):
        node.receive(make_xray(number=number))
        [job] = node.work()
        reports.append(node.due(job, HIDING)["SR"].SOPInstanceUID)
    assert rejected_by(node.due(job, HIDING)[REJECTION]) == [reports[1]]
    assert len(set(reports)) == 3


def test_an_engine_of_a_new_version_reports_in_a_series_of_its_own(node: Node) -> None:
    [first] = node.work()
    node.upgrade("9.0.0")
    node.receive(make_xray(number=2))
    [second] = node.work()
    old, new = node.due(first, HIDING)["SR"], node.due(second, HIDING)["SR"]
    assert second.engine_version == "9.0.0"
    assert new.SeriesInstanceUID != old.SeriesInstanceUID
    assert new.SeriesDescription == f"{ENGINE} SR 9.0.0"
    [study] = new.PredecessorDocumentsSequence
    [series] = study.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == old.SeriesInstanceUID
    assert rejected_by(node.due(second, HIDING)[REJECTION]) == [old.SOPInstanceUID]


def test_a_second_attempt_makes_the_same_note(node: Node) -> None:
    """After a crash between saving and recording."""

    class LostBeforeItWasRecorded(Exception):
        pass

    def lose(name: str) -> None:
        if name == "encode.saved":
            raise LostBeforeItWasRecorded

    node.work()
    node.receive(make_xray(number=2))
    sound, node.worker = node.worker, Worker(node.config, node.ledger, node.store, node.clock, lose)
    with pytest.raises(AssertionError):
        node.work()
    [job] = node.ledger.jobs.in_states(JobState.QUEUED)
    lost = {path: path.read_bytes() for path in files_of(node, job)}
    assert len(lost) == 2
    node.clock.now += 90_000
    sound.do(job.job_id)
    assert {path: path.read_bytes() for path in files_of(node, job)} == lost
    assert set(node.due(job, HIDING)) == {"SR", REJECTION}


def files_of(node: Node, job: Job) -> list[Path]:
    return sorted((node.store.root / "results").rglob(f"{job.job_id}/*.dcm"))
