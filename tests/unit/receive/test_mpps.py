"""Procedure steps and availability notifications: answers, and the evidence that they leave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.ledger.ledger import Ledger
from dicom_node.model import AnnouncedInstance, AnnouncementKind, AnnouncementStatus
from dicom_node.protocol.command import Command, CommandField, Element
from dicom_node.receive.availability import (
    INSTANCE_AVAILABILITY_NOTIFICATION,
    AvailabilityService,
)
from dicom_node.receive.mpps import MODALITY_PERFORMED_PROCEDURE_STEP, ProcedureStepService
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock
from tests.unit.receive.data_sets import EXPLICIT, IMPLICIT
from tests.unit.receive.requests import Answer, a_data_set, a_request, answer

CT = "1.2.840.10008.5.1.4.1.1.2"
SR = "1.2.840.10008.5.1.4.1.1.88.67"
STUDY = "1.2.3.1"
STEP = "1.2.3.99"
NOTIFICATION = "1.2.3.98"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = rows.new_ledger(tmp_path)
    yield ledger
    ledger.close()


@pytest.fixture
def clock() -> HandClock:
    return HandClock(1000.0)


def a_reference(uid: str, sop_class: str = CT, **more: Any) -> Dataset:
    return a_data_set(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=uid, **more)


def a_series(uid: str, images: list[Dataset], others: list[Dataset] | None = None) -> Dataset:
    return a_data_set(
        SeriesInstanceUID=uid,
        PerformingPhysicianName="Secret^Doctor",
        ReferencedImageSequence=images,
        ReferencedNonImageCompositeSOPInstanceSequence=others or [],
    )


def a_step(**changes: Any) -> Dataset:
    given: dict[str, Any] = {
        "PatientName": "Secret^Patient",
        "PatientID": "SECRET-1",
        "PatientBirthDate": "19700101",
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "PerformedSeriesSequence": [],
        "ScheduledStepAttributesSequence": [
            a_data_set(StudyInstanceUID=STUDY, AccessionNumber="SECRET-2")
        ],
    }
    merged = {key: value for key, value in (given | changes).items() if value is not None}
    return a_data_set(**merged)


def mpps(
    ledger: Ledger,
    field: CommandField,
    data_set: Dataset | bytes,
    uid: str = STEP,
    *,
    now: float = 1000.0,
    syntax: str = EXPLICIT,
    calling: str = "SCANNER",
) -> Answer:
    service = ProcedureStepService(ledger, HandClock(now))
    request = a_request(
        field,
        MODALITY_PERFORMED_PROCEDURE_STEP,
        data_set,
        sop_instance_uid=uid,
        syntax=syntax,
        calling=calling,
    )
    return answer(service, request)


def create(ledger: Ledger, step: Dataset | None = None, uid: str = STEP, **how: Any) -> Answer:
    return mpps(ledger, CommandField.N_CREATE, a_step() if step is None else step, uid, **how)


def change(ledger: Ledger, changes: Dataset, uid: str = STEP, **how: Any) -> Answer:
    return mpps(ledger, CommandField.N_SET, changes, uid, **how)


# ---------------------------------------------------------------- procedure steps


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_a_step_in_progress_is_evidence_of_its_study(syntax: str, ledger: Ledger) -> None:
    assert create(ledger, syntax=syntax).statuses == [0]
    [announced] = ledger.evidence.announced(STUDY)
    assert announced.kind is AnnouncementKind.MPPS
    assert announced.source_uid == STEP
    assert announced.calling_ae_title == "SCANNER"
    assert announced.status is AnnouncementStatus.IN_PROGRESS
    assert (announced.announced_at, announced.ended_at) == (1000.0, None)
    assert announced.instances == ()


def test_a_step_that_ends_names_its_instances(ledger: Ledger) -> None:
    create(ledger)
    changes = a_data_set(
        PerformedProcedureStepStatus="COMPLETED",
        PerformedSeriesSequence=[
            a_series("1.2.3.1.1", [a_reference("1.2.3.1.1.1"), a_reference("1.2.3.1.1.2")]),
            a_series("1.2.3.1.2", [], [a_reference("1.2.3.1.2.1", SR)]),
        ],
    )
    assert change(ledger, changes, now=1100.0).statuses == [0]
    [announced] = ledger.evidence.announced(STUDY)
    assert announced.status is AnnouncementStatus.COMPLETED
    assert (announced.announced_at, announced.ended_at) == (1000.0, 1100.0)
    assert announced.instances == (
        AnnouncedInstance("1.2.3.1.1", "1.2.3.1.1.1", CT),
        AnnouncedInstance("1.2.3.1.1", "1.2.3.1.1.2", CT),
        AnnouncedInstance("1.2.3.1.2", "1.2.3.1.2.1", SR),
    )
    reasons = [event.reason for event in ledger.events.named("ANNOUNCED")]
    assert reasons == [
        f"MPPS {STEP} of SCANNER: IN PROGRESS, 0 instances",
        f"MPPS {STEP} of SCANNER: COMPLETED, 3 instances",
    ]


def test_a_change_without_a_status_or_without_series_leaves_them_as_they_are(
    ledger: Ledger,
) -> None:
    first = [a_series("1.2.3.1.1", [a_reference("1.2.3.1.1.1")])]
    create(ledger)
    change(ledger, a_data_set(PerformedSeriesSequence=first), now=1010.0)
    change(ledger, a_data_set(PerformedProcedureStepStatus="DISCONTINUED"), now=1020.0)
    [announced] = ledger.evidence.announced(STUDY)
    assert announced.status is AnnouncementStatus.DISCONTINUED
    assert len(announced.instances) == 1
    assert len(ledger.events.named("ANNOUNCED")) == 2


def test_series_that_are_set_take_the_place_of_the_earlier_ones(ledger: Ledger) -> None:
    create(ledger)
    for uid in ("1.2.3.1.1", "1.2.3.1.2"):
        series = [a_series(uid, [a_reference(f"{uid}.1")])]
        change(ledger, a_data_set(PerformedSeriesSequence=series))
    [announced] = ledger.evidence.announced(STUDY)
    assert [one.series_instance_uid for one in announced.instances] == ["1.2.3.1.2"]


def test_a_step_of_two_studies_is_evidence_of_both(ledger: Ledger) -> None:
    scheduled = [a_data_set(StudyInstanceUID=uid) for uid in (STUDY, "1.2.3.2", STUDY)]
    create(ledger, a_step(ScheduledStepAttributesSequence=scheduled))
    for uid in (STUDY, "1.2.3.2"):
        [announced] = ledger.evidence.announced(uid)
        assert announced.study_instance_uids == (STUDY, "1.2.3.2")


def test_a_step_without_a_uid_gets_one_of_ours(ledger: Ledger) -> None:
    found = create(ledger, uid="")
    assert found.status == 0
    given = Command(found.replies[0].fields).text(Element.AFFECTED_SOP_INSTANCE_UID)
    [announced] = ledger.evidence.announced(STUDY)
    assert announced.source_uid == given
    assert given.startswith("2.25.")


def test_the_same_step_twice_is_a_duplicate(ledger: Ledger) -> None:
    create(ledger)
    again = create(ledger, a_step(PerformedSeriesSequence=None), now=1100.0)
    assert again.statuses == [0x0111]
    [announced] = ledger.evidence.announced(STUDY)
    assert announced.announced_at == 1000.0


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"PerformedProcedureStepStatus": None}, 0x0120),
        ({"PerformedProcedureStepStatus": ""}, 0x0121),
        ({"PerformedProcedureStepStatus": "COMPLETED"}, 0x0106),
        ({"PerformedProcedureStepStatus": "NONSENSE"}, 0x0106),
        ({"PerformedProcedureStepStatus": "AVAILABLE"}, 0x0106),
        ({"ScheduledStepAttributesSequence": None}, 0x0120),
        ({"ScheduledStepAttributesSequence": []}, 0x0121),
        ({"ScheduledStepAttributesSequence": [Dataset()]}, 0x0120),
        ({"ScheduledStepAttributesSequence": [a_data_set(StudyInstanceUID="")]}, 0x0121),
    ],
)
def test_a_step_that_lacks_something_is_refused(
    changes: dict[str, Any], status: int, ledger: Ledger
) -> None:
    assert create(ledger, a_step(**changes)).statuses == [status]
    assert ledger.evidence.announced(STUDY) == []


def test_a_step_under_no_uid_is_refused(ledger: Ledger) -> None:
    assert create(ledger, uid="../../etc").statuses == [0x0117]


@pytest.mark.parametrize("uid", ["1.2.3.4.5", "no uid", ""])
def test_an_unknown_step_cannot_be_changed(uid: str, ledger: Ledger) -> None:
    changes = a_data_set(PerformedProcedureStepStatus="COMPLETED")
    assert change(ledger, changes, uid).statuses == [0x0112]


@pytest.mark.parametrize("end", ["COMPLETED", "DISCONTINUED"])
def test_a_step_that_has_ended_is_no_longer_changed(end: str, ledger: Ledger) -> None:
    create(ledger)
    change(ledger, a_data_set(PerformedProcedureStepStatus=end), now=1100.0)
    late = change(ledger, a_data_set(PerformedProcedureStepStatus="IN PROGRESS"), now=1200.0)
    assert late.statuses == [0x0110]
    assert Command(late.replies[0].fields).number(Element.ERROR_ID) == 0xA506
    assert late.comment == "Performed Procedure Step Object may no longer be updated"
    [announced] = ledger.evidence.announced(STUDY)
    assert (announced.status.value, announced.ended_at) == (end, 1100.0)


def test_a_status_that_is_none_is_refused(ledger: Ledger) -> None:
    create(ledger)
    changes = a_data_set(PerformedProcedureStepStatus="DONE")
    assert change(ledger, changes).statuses == [0x0106]


def test_other_operations_are_refused(ledger: Ledger) -> None:
    assert mpps(ledger, CommandField.N_GET, b"").statuses == [0x0211]
    assert mpps(ledger, CommandField.N_ACTION, b"").statuses == [0x0211]


def test_nothing_that_identifies_a_patient_is_kept_or_logged(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series = [a_series("1.2.3.1.1", [a_reference("1.2.3.1.1.1")])]
    create(ledger, a_step(PerformedSeriesSequence=series))
    create(ledger, a_step(PerformedProcedureStepStatus="Secret^Status"), "1.2.3.97")
    notify(ledger, a_notification(StudyInstanceUID="Secret^Study"))
    ledger.close()
    files = [file.read_bytes() for file in tmp_path.iterdir() if file.is_file()]
    assert any(STEP.encode() in content for content in files)
    assert not any(b"ecret" in content or b"SECRET" in content for content in files)
    written = capsys.readouterr()
    assert "procedure_step" in written.out + written.err
    assert "ecret" not in (written.out + written.err).lower()


# ---------------------------------------------------------------- availability


def a_notification(**changes: Any) -> Dataset:
    given: dict[str, Any] = {
        "ReferencedPerformedProcedureStepSequence": [],
        "StudyInstanceUID": STUDY,
        "ReferencedSeriesSequence": [
            a_data_set(
                SeriesInstanceUID="1.2.3.1.1",
                ReferencedSOPSequence=[
                    a_reference(
                        "1.2.3.1.1.1", InstanceAvailability="ONLINE", RetrieveAETitle="PACS"
                    ),
                    a_reference(
                        "1.2.3.1.1.2", InstanceAvailability="NEARLINE", RetrieveAETitle="PACS"
                    ),
                ],
            )
        ],
    }
    merged = {key: value for key, value in (given | changes).items() if value is not None}
    return a_data_set(**merged)


def notify(
    ledger: Ledger,
    notification: Dataset | bytes,
    field: CommandField = CommandField.N_CREATE,
    uid: str = NOTIFICATION,
) -> Answer:
    request = a_request(
        field,
        INSTANCE_AVAILABILITY_NOTIFICATION,
        notification,
        sop_instance_uid=uid,
        calling="PACS",
    )
    return answer(AvailabilityService(ledger, HandClock(1000.0)), request)


def test_a_notification_is_evidence_of_what_the_peer_holds(ledger: Ledger) -> None:
    assert notify(ledger, a_notification()).statuses == [0]
    [announced] = ledger.evidence.announced(STUDY)
    assert announced.kind is AnnouncementKind.IAN
    assert announced.status is AnnouncementStatus.AVAILABLE
    assert announced.calling_ae_title == "PACS"
    assert announced.ended_at == 1000.0
    assert announced.instances == (
        AnnouncedInstance("1.2.3.1.1", "1.2.3.1.1.1", CT, "ONLINE"),
        AnnouncedInstance("1.2.3.1.1", "1.2.3.1.1.2", CT, "NEARLINE"),
    )


def test_the_same_notification_twice_is_a_duplicate(ledger: Ledger) -> None:
    notify(ledger, a_notification())
    assert notify(ledger, a_notification()).statuses == [0x0111]


def test_a_notification_is_no_step_that_could_be_changed(ledger: Ledger) -> None:
    notify(ledger, a_notification())
    changes = a_data_set(PerformedProcedureStepStatus="COMPLETED")
    assert change(ledger, changes, NOTIFICATION).statuses == [0x0112]
    assert notify(ledger, changes, CommandField.N_SET).statuses == [0x0211]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"StudyInstanceUID": None}, 0x0120),
        ({"StudyInstanceUID": ""}, 0x0121),
        ({"ReferencedSeriesSequence": None}, 0x0120),
        ({"ReferencedSeriesSequence": []}, 0x0121),
        ({"ReferencedSeriesSequence": [a_data_set(SeriesInstanceUID="1.2")]}, 0x0120),
        (
            {
                "ReferencedSeriesSequence": [
                    a_data_set(
                        SeriesInstanceUID="1.2", ReferencedSOPSequence=[a_reference("1.2.3")]
                    )
                ]
            },
            0x0120,
        ),
        (
            {
                "ReferencedSeriesSequence": [
                    a_data_set(
                        SeriesInstanceUID="1.2",
                        ReferencedSOPSequence=[
                            a_reference("1.2.3", InstanceAvailability="SOMEWHERE")
                        ],
                    )
                ]
            },
            0x0106,
        ),
    ],
)
def test_a_notification_that_lacks_something_is_refused(
    changes: dict[str, Any], status: int, ledger: Ledger
) -> None:
    assert notify(ledger, a_notification(**changes)).statuses == [status]
    assert ledger.evidence.announced(STUDY) == []
