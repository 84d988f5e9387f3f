"""The services beside C-STORE, asked by programs that we did not write or by pynetdicom."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
)

from dicom_node.errors import PeerRefused
from dicom_node.harness.scanner import send
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import CommitmentState
from dicom_node.model import AnnouncedInstance, AnnouncementStatus
from dicom_node.scu.address import Address
from dicom_node.scu.commitment import STORAGE_COMMITMENT_INSTANCE
from dicom_node.scu.find import Level, Query
from tests.factories import CT_SERIES, STUDY, make_ct_series, write_series
from tests.node_process import NodeProcess, wait_until
from tests.ports import free_port
from tests.protocol.commitment_scu import CommitmentScu, Report

RequireProgram = Callable[[str], Path]

SLICES = 12
TRANSACTION = "1.2.826.0.1.3680043.10.1714.7"


@dataclass(frozen=True)
class Running:
    """A node whose only peer may have an address for reports."""

    node: NodeProcess
    ledger: Ledger
    report_port: int

    def send(self, files: Sequence[Path]) -> None:
        answers = send(list(files), "127.0.0.1", self.node.port, called="DICOM_NODE")
        assert [answer.status for answer in answers] == [0] * len(files)

    def associate(self, *contexts: Any, handlers: Sequence[Any] = ()) -> Association:
        association = AE("SCANNER").associate(
            "127.0.0.1",
            self.node.port,
            contexts=[build_context(uid) for uid in contexts],
            ae_title="DICOM_NODE",
            evt_handlers=list(handlers),
        )
        assert association.is_established
        return association

    def commitment_states(self) -> list[CommitmentState]:
        found = self.ledger.commitments.in_states(*CommitmentState)
        return [commitment.state for commitment in found]


@pytest.fixture
def report_port() -> int:
    """Return a port on which the peer may listen for reports."""
    return free_port()


@pytest.fixture
def stopped(tmp_path: Path, free_port: int, report_port: int) -> Iterator[Running]:
    """Return a node that a test starts itself."""
    scanner = {"ae_title": "SCANNER", "may_send": True, "host": "127.0.0.1", "port": report_port}
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules: []\n")
    node = NodeProcess(
        tmp_path / "node",
        free_port,
        node={"rules_file": str(rules)},
        peers={"scanner": scanner},
    )
    ledger = node.ledger()
    yield Running(node, ledger, report_port)
    ledger.close()
    if node.is_running():
        assert node.stop() == 0


@pytest.fixture
def running(stopped: Running) -> Running:
    stopped.node.start()
    return stopped


@pytest.fixture
def slices(tmp_path: Path) -> list[Path]:
    return write_series(make_ct_series(SLICES), tmp_path / "slices")


# ---------------------------------------------------------------- C-FIND


def findscu(program: Path, running: Running, folder: Path, model: str, *keys: str) -> list[Dataset]:
    """Return the answers to a query of DCMTK's findscu, one file each."""
    folder.mkdir()
    command = [str(program), model, "-X", "-od", str(folder)]
    command += ["-aet", "SCANNER", "-aec", "DICOM_NODE"]
    for key in keys:
        command += ["-k", key]
    command += ["127.0.0.1", str(running.node.port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Failed" not in done.stderr, done.stderr
    return [pydicom.dcmread(file) for file in sorted(folder.glob("rsp*.dcm"))]


@pytest.mark.witness
def test_findscu_finds_everything_that_was_acknowledged_a_moment_before(
    running: Running, slices: list[Path], tmp_path: Path, require_program: RequireProgram
) -> None:
    program = require_program("findscu")
    running.send(slices)
    [study] = findscu(
        program,
        running,
        tmp_path / "study",
        "-S",
        "QueryRetrieveLevel=STUDY",
        f"StudyInstanceUID={STUDY}",
        "NumberOfStudyRelatedInstances",
        "NumberOfStudyRelatedSeries",
        "ModalitiesInStudy",
        "PatientName=synth*",
    )
    assert study.NumberOfStudyRelatedInstances == SLICES
    assert study.NumberOfStudyRelatedSeries == 1
    assert (study.ModalitiesInStudy, study.PatientName) == ("CT", "Synthetic^Patient")
    assert study.RetrieveAETitle == "DICOM_NODE"
    [series] = findscu(
        program,
        running,
        tmp_path / "series",
        "-S",
        "QueryRetrieveLevel=SERIES",
        f"StudyInstanceUID={STUDY}",
        "SeriesInstanceUID",
        "NumberOfSeriesRelatedInstances",
    )
    assert series.SeriesInstanceUID == CT_SERIES
    assert series.NumberOfSeriesRelatedInstances == SLICES
    images = findscu(
        program,
        running,
        tmp_path / "image",
        "-S",
        "QueryRetrieveLevel=IMAGE",
        f"StudyInstanceUID={STUDY}",
        f"SeriesInstanceUID={CT_SERIES}",
        "SOPInstanceUID",
        "InstanceNumber",
    )
    assert sorted(image.InstanceNumber for image in images) == list(range(1, SLICES + 1))
    assert len({str(image.SOPInstanceUID) for image in images}) == SLICES


@pytest.mark.witness
def test_findscu_finds_a_patient_and_his_studies(
    running: Running, slices: list[Path], tmp_path: Path, require_program: RequireProgram
) -> None:
    program = require_program("findscu")
    running.send(slices[:1])
    [patient] = findscu(
        program,
        running,
        tmp_path / "patient",
        "-P",
        "QueryRetrieveLevel=PATIENT",
        "PatientID=SYN*",
        "PatientName",
    )
    assert (patient.PatientID, patient.PatientName) == ("SYN-1", "Synthetic^Patient")
    [study] = findscu(
        program,
        running,
        tmp_path / "study",
        "-P",
        "QueryRetrieveLevel=STUDY",
        "PatientID=SYN-1",
        "StudyInstanceUID",
    )
    assert study.StudyInstanceUID == STUDY


def test_each_instance_is_counted_by_the_time_it_is_acknowledged(
    running: Running, slices: list[Path]
) -> None:
    """Stores and queries in turn on one association: no count is ever behind."""
    association = running.associate(CTImageStorage, StudyRootQueryRetrieveInformationModelFind)
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = STUDY
    query.NumberOfStudyRelatedInstances = None
    counts = []
    for file in slices:
        status = association.send_c_store(pydicom.dcmread(file))
        assert status.Status == 0
        found = list(association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind))
        counts += [int(one.NumberOfStudyRelatedInstances) for _, one in found if one is not None]
    association.release()
    assert counts == list(range(1, SLICES + 1))


def test_a_bad_identifier_is_refused_and_the_association_goes_on(running: Running) -> None:
    address = Address("127.0.0.1", running.node.port, "DICOM_NODE", "SCANNER")
    with Query(address) as query:
        for _ in range(2):  # the second on the same association
            with pytest.raises(PeerRefused) as refused:
                query.find(Level.SERIES, {})
            assert refused.value.status == 0xA900


# ---------------------------------------------------------------- storage commitment


def request_commitment(
    association: Association, references: Sequence[tuple[str, str]], transaction_uid: str
) -> int:
    request = Dataset()
    request.TransactionUID = transaction_uid
    items = []
    for sop_class_uid, sop_instance_uid in references:
        item = Dataset()
        item.ReferencedSOPClassUID = sop_class_uid
        item.ReferencedSOPInstanceUID = sop_instance_uid
        items.append(item)
    request.ReferencedSOPSequence = items
    status, _ = association.send_n_action(
        request, 1, StorageCommitmentPushModel, UID(STORAGE_COMMITMENT_INSTANCE)
    )
    return int(status.Status)


def slice_references(count: int) -> list[tuple[str, str]]:
    return [(CTImageStorage, f"{CT_SERIES}.{number}") for number in range(1, count + 1)]


def test_a_commitment_is_reported_on_the_association_of_its_request(
    running: Running, slices: list[Path]
) -> None:
    scu = CommitmentScu()
    association = running.associate(
        CTImageStorage,
        StorageCommitmentPushModel,
        handlers=[(evt.EVT_N_EVENT_REPORT, scu.take)],
    )
    for file in slices:
        assert association.send_c_store(pydicom.dcmread(file)).Status == 0
    wanted = slice_references(SLICES)
    assert request_commitment(association, wanted, TRANSACTION) == 0
    scu.wait_for_reports(1)
    wait_until(lambda: running.commitment_states() == [CommitmentState.REPORTED])
    association.release()
    [report] = scu.reports
    assert (report.event_type_id, report.transaction_uid) == (1, TRANSACTION)
    assert sorted(report.committed) == sorted(uid for _, uid in wanted)


def test_a_commitment_is_reported_on_a_new_association_after_a_release(
    running: Running, slices: list[Path]
) -> None:
    with CommitmentScu(running.report_port) as scu:
        association = running.associate(CTImageStorage, StorageCommitmentPushModel)
        for file in slices[:2]:
            assert association.send_c_store(pydicom.dcmread(file)).Status == 0
        wanted = [*slice_references(2), (CTImageStorage, "1.2.3.404")]
        assert request_commitment(association, wanted, TRANSACTION) == 0
        association.release()
        scu.wait_for_reports(1)
        wait_until(lambda: running.commitment_states() == [CommitmentState.REPORTED])
    assert scu.reports[-1] == Report(
        2,
        TRANSACTION,
        tuple(uid for _, uid in slice_references(2)),
        (("1.2.3.404", 0x0112),),
        as_scp=True,
    )


def test_a_commitment_survives_a_node_that_is_killed(running: Running, slices: list[Path]) -> None:
    running.send(slices)
    association = running.associate(StorageCommitmentPushModel)
    assert request_commitment(association, slice_references(SLICES), TRANSACTION) == 0
    association.release()
    wait_until(lambda: bool(running.ledger.commitments.requestors_ready(1e12)))
    running.node.kill()
    with CommitmentScu(running.report_port) as scu:
        running.node.start()
        scu.wait_for_reports(1)
        wait_until(lambda: running.commitment_states() == [CommitmentState.REPORTED])
    assert scu.reports[0].event_type_id == 1
    assert len(scu.reports[0].committed) == SLICES


@pytest.mark.parametrize("checkpoint", ["commitment.reporting", "commitment.answered"])
def test_a_node_that_is_killed_while_it_reports_reports_again(
    checkpoint: str, stopped: Running, slices: list[Path]
) -> None:
    stopped.node.start(kill_at=checkpoint)
    with CommitmentScu(stopped.report_port) as scu:
        association = stopped.associate(StorageCommitmentPushModel)
        assert request_commitment(association, slice_references(1), TRANSACTION) == 0
        association.release()
        stopped.node.wait_killed()
        before = len(scu.reports)
        assert before == (checkpoint == "commitment.answered")
        stopped.node.start()
        scu.wait_for_reports(before + 1)
        wait_until(lambda: stopped.commitment_states() == [CommitmentState.REPORTED])
    events = [event.event for event in stopped.ledger.events.of("1")]
    assert events[-4:] == ["STARTED", "INTERRUPTED", "STARTED", "ACKNOWLEDGED"]


def test_a_request_of_no_use_is_refused(running: Running) -> None:
    association = running.associate(StorageCommitmentPushModel)
    assert request_commitment(association, [], TRANSACTION) == 0x0115
    request = Dataset()
    request.TransactionUID = TRANSACTION
    status, _ = association.send_n_action(
        request, 2, StorageCommitmentPushModel, UID(STORAGE_COMMITMENT_INSTANCE)
    )
    assert status.Status == 0x0123
    association.release()
    assert running.commitment_states() == []


# ---------------------------------------------------------------- MPPS, availability


def test_a_procedure_step_is_evidence_from_its_beginning_to_its_end(running: Running) -> None:
    association = running.associate(ModalityPerformedProcedureStep)
    scheduled = Dataset()
    scheduled.StudyInstanceUID = STUDY
    step = Dataset()
    step.PatientName = "Secret^Patient"
    step.PerformedProcedureStepStatus = "IN PROGRESS"
    step.ScheduledStepAttributesSequence = [scheduled]
    step.PerformedSeriesSequence = []
    uid = UID("1.2.3.99")
    mpps = ModalityPerformedProcedureStep
    assert association.send_n_create(step, mpps, uid)[0].Status == 0
    assert association.send_n_create(step, mpps, uid)[0].Status == 0x0111
    [announced] = running.ledger.evidence.announced(STUDY)
    assert announced.status is AnnouncementStatus.IN_PROGRESS
    reference = Dataset()
    reference.ReferencedSOPClassUID = CTImageStorage
    reference.ReferencedSOPInstanceUID = f"{CT_SERIES}.1"
    series = Dataset()
    series.SeriesInstanceUID = CT_SERIES
    series.ReferencedImageSequence = [reference]
    end = Dataset()
    end.PerformedProcedureStepStatus = "COMPLETED"
    end.PerformedSeriesSequence = [series]
    assert association.send_n_set(end, mpps, uid)[0].Status == 0
    refused = association.send_n_set(end, mpps, uid)[0]
    assert (refused.Status, refused.ErrorID) == (0x0110, 0xA506)
    association.release()
    [announced] = running.ledger.evidence.announced(STUDY)
    assert announced.status is AnnouncementStatus.COMPLETED
    assert announced.instances == (AnnouncedInstance(CT_SERIES, f"{CT_SERIES}.1", CTImageStorage),)
    assert "Secret" not in running.node.log()


def test_a_notification_of_availability_is_evidence(running: Running) -> None:
    association = running.associate(InstanceAvailabilityNotification)
    reference = Dataset()
    reference.ReferencedSOPClassUID = CTImageStorage
    reference.ReferencedSOPInstanceUID = f"{CT_SERIES}.1"
    reference.InstanceAvailability = "ONLINE"
    reference.RetrieveAETitle = "PACS"
    series = Dataset()
    series.SeriesInstanceUID = CT_SERIES
    series.ReferencedSOPSequence = [reference]
    notification = Dataset()
    notification.ReferencedPerformedProcedureStepSequence = []
    notification.StudyInstanceUID = STUDY
    notification.ReferencedSeriesSequence = [series]
    status, _ = association.send_n_create(
        notification, InstanceAvailabilityNotification, UID("1.2.3.98")
    )
    association.release()
    assert status.Status == 0
    [announced] = running.ledger.evidence.announced(STUDY)
    assert announced.status is AnnouncementStatus.AVAILABLE
    assert announced.instances == (
        AnnouncedInstance(CT_SERIES, f"{CT_SERIES}.1", CTImageStorage, "ONLINE"),
    )
