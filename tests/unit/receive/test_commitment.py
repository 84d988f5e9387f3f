"""Storage commitment as a function from a request to replies and a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.data_sets import decode
from dicom_node.errors import StorageError
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import CommitmentState
from dicom_node.model import Commitment, Instance, ReferencedInstance
from dicom_node.protocol.command import CommandField, us
from dicom_node.receive.commitment import CommitmentService
from dicom_node.receive.service import EventReport
from dicom_node.scu.commitment import (
    STORAGE_COMMITMENT_INSTANCE,
    STORAGE_COMMITMENT_PUSH_MODEL,
    is_acknowledged,
)
from tests.factories import CT_SERIES, make_instance
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock, moves_of
from tests.unit.receive.data_sets import BIG_ENDIAN, EXPLICIT, IMPLICIT
from tests.unit.receive.requests import Answer, Archive, a_data_set, a_request, answer

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
TRANSACTION = "1.2.826.0.1.77"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """Return an archive of three CT slices."""
    ledger = rows.new_ledger(tmp_path)
    archive = Archive(ledger)
    archive.keep(*(make_instance(number=number) for number in (1, 2, 3)))
    yield archive
    ledger.close()


def slice_of(number: int) -> str:
    return f"{CT_SERIES}.{number}"


def references(*pairs: tuple[str, str]) -> list[Dataset]:
    return [
        a_data_set(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=uid)
        for sop_class, uid in pairs
    ]


def ask(
    archive: Archive,
    *pairs: tuple[str, str],
    information: Dataset | bytes | None = None,
    action: int = 1,
    instance: str = STORAGE_COMMITMENT_INSTANCE,
    syntax: str = EXPLICIT,
    cancelled: Callable[[], bool] = lambda: False,
) -> Answer:
    if information is None:
        information = a_data_set(
            TransactionUID=TRANSACTION, ReferencedSOPSequence=references(*pairs)
        )
    request = a_request(
        CommandField.N_ACTION,
        STORAGE_COMMITMENT_PUSH_MODEL,
        information,
        sop_instance_uid=instance,
        syntax=syntax,
        cancelled=cancelled,
        action_type_id=us(action),
    )
    return answer(service_of(archive), request)


def service_of(archive: Archive) -> CommitmentService:
    return CommitmentService(archive.ledger, archive.caught_up, archive.is_held, HandClock(1000.0))


def only(ledger: Ledger) -> Commitment:
    [commitment] = ledger.commitments.in_states(*CommitmentState)
    return commitment


def told(report: EventReport, syntax: str = EXPLICIT) -> tuple[list[str], list[tuple[str, int]]]:
    """Return the committed and the failed instances of a report."""
    data_set = decode(report.data_set, syntax)
    assert data_set.TransactionUID == TRANSACTION
    committed = data_set.get("ReferencedSOPSequence", [])
    failed = data_set.get("FailedSOPSequence", [])
    return (
        [str(item.ReferencedSOPInstanceUID) for item in committed],
        [(str(item.ReferencedSOPInstanceUID), int(item.FailureReason)) for item in failed],
    )


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_what_is_held_is_committed_to(syntax: str, archive: Archive) -> None:
    found = ask(archive, (CT, slice_of(1)), (CT, slice_of(2)), syntax=syntax)
    assert found.statuses == [0]
    [report] = found.reports
    assert report.sop_class_uid == STORAGE_COMMITMENT_PUSH_MODEL
    assert report.sop_instance_uid == STORAGE_COMMITMENT_INSTANCE
    assert report.event_type_id == 1
    assert told(report, syntax) == ([slice_of(1), slice_of(2)], [])
    assert "FailedSOPSequence" not in decode(report.data_set, syntax)


def test_what_is_not_held_is_said_with_its_reason(archive: Archive) -> None:
    archive.lose(slice_of(3))
    found = ask(archive, (CT, slice_of(1)), (MR, slice_of(2)), (CT, slice_of(3)), (CT, "1.2.3.4"))
    [report] = found.reports
    assert report.event_type_id == 2
    assert told(report) == (
        [slice_of(1)],
        [(slice_of(2), 0x0119), (slice_of(3), 0x0112), ("1.2.3.4", 0x0112)],
    )


def test_an_instance_in_two_studies_is_committed_if_either_is_held(archive: Archive) -> None:
    archive.keep(make_instance(number=1, StudyInstanceUID="1.2.3", PatientID="SYN-2"))
    found = ask(archive, (CT, slice_of(1)))
    assert told(found.reports[0]) == ([slice_of(1)], [])


def test_an_instance_that_is_named_twice_is_reported_once(archive: Archive) -> None:
    found = ask(archive, (CT, slice_of(1)), (CT, slice_of(1)))
    assert told(found.reports[0]) == ([slice_of(1)], [])


def test_the_request_is_in_the_ledger_before_it_is_answered(archive: Archive) -> None:
    information = a_data_set(
        TransactionUID=TRANSACTION, ReferencedSOPSequence=references((CT, slice_of(1)))
    )
    request = a_request(
        CommandField.N_ACTION,
        STORAGE_COMMITMENT_PUSH_MODEL,
        information,
        sop_instance_uid=STORAGE_COMMITMENT_INSTANCE,
        action_type_id=us(1),
    )
    replies = service_of(archive)(request)
    next(replies)
    commitment = only(archive.ledger)
    assert commitment.calling_ae_title == "SCANNER"
    assert commitment.state is CommitmentState.PENDING
    # a receiver that is killed here leaves it to the reporter, in a minute
    assert commitment.not_before == 1060.0
    assert archive.ledger.commitments.requestors_ready(1059.0) == []
    assert archive.ledger.commitments.requestors_ready(1060.0) == ["SCANNER"]


def test_a_report_that_is_acknowledged_at_once_ends_it(archive: Archive) -> None:
    [report] = ask(archive, (CT, slice_of(1)), (CT, "1.2.3.4")).reports
    report.answered(0x0000)
    commitment = only(archive.ledger)
    assert commitment.state is CommitmentState.REPORTED
    assert "1 of 2 instances are not committed, the first is 1.2.3.4" in commitment.reason
    assert moves_of(archive.ledger, "1") == [
        ("CREATED", "", "PENDING"),
        ("ACKNOWLEDGED", "PENDING", "REPORTED"),
    ]


@pytest.mark.parametrize("status", [None, 0x0110, 0x0211])
def test_a_report_that_is_not_goes_out_on_an_association_of_ours(
    status: int | None, archive: Archive
) -> None:
    [report] = ask(archive, (CT, slice_of(1))).reports
    report.answered(status)
    assert only(archive.ledger).state is CommitmentState.PENDING
    assert archive.ledger.commitments.requestors_ready(1000.0) == ["SCANNER"]
    assert moves_of(archive.ledger, "1")[-1] == ("POSTPONED", "PENDING", "PENDING")


def test_who_has_gone_gets_his_report_on_an_association_of_ours(archive: Archive) -> None:
    found = ask(archive, (CT, slice_of(1)), cancelled=lambda: True)
    assert (found.statuses, found.reports) == ([0], [])
    assert archive.ledger.commitments.requestors_ready(1000.0) == ["SCANNER"]


def test_nothing_is_decided_while_the_ledger_is_behind(archive: Archive) -> None:
    archive.is_caught_up = False
    found = ask(archive, (CT, slice_of(1)))
    assert (found.statuses, found.reports) == ([0], [])
    assert archive.ledger.commitments.requestors_ready(1004.0) == []
    assert archive.ledger.commitments.requestors_ready(1005.0) == ["SCANNER"]


def test_a_store_that_fails_after_the_answer_leaves_the_request_in_the_ledger(
    archive: Archive,
) -> None:
    def fail(instance: Instance) -> bool:
        raise StorageError("the disk is gone")

    archive.is_held = fail  # type: ignore[method-assign]
    found = ask(archive, (CT, slice_of(1)))
    assert (found.statuses, found.reports) == ([0], [])
    assert archive.ledger.commitments.requestors_ready(1060.0) == ["SCANNER"]


def test_the_answer_to_a_report_is_noted_where_waiting_is_allowed(archive: Archive) -> None:
    noted: list[Callable[[], None]] = []
    service = CommitmentService(
        archive.ledger, archive.caught_up, archive.is_held, HandClock(), noted.append
    )
    information = a_data_set(
        TransactionUID=TRANSACTION, ReferencedSOPSequence=references((CT, slice_of(1)))
    )
    request = a_request(
        CommandField.N_ACTION,
        STORAGE_COMMITMENT_PUSH_MODEL,
        information,
        sop_instance_uid=STORAGE_COMMITMENT_INSTANCE,
        action_type_id=us(1),
    )
    [report] = answer(service, request).reports
    report.answered(0)
    assert only(archive.ledger).state is CommitmentState.PENDING
    [note] = noted
    note()
    assert only(archive.ledger).state is CommitmentState.REPORTED


def test_the_same_request_again_takes_the_place_of_the_first(archive: Archive) -> None:
    [first] = ask(archive, (CT, "1.2.3.4")).reports
    [second] = ask(archive, (CT, slice_of(1))).reports
    first.answered(0)  # too late: it is no longer the report of what was asked
    assert only(archive.ledger).state is CommitmentState.PENDING
    assert told(second) == ([slice_of(1)], [])
    second.answered(0)
    assert only(archive.ledger).state is CommitmentState.REPORTED


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"action": 2}, 0x0123),
        ({"instance": "1.2.3"}, 0x0112),
        ({"information": b""}, 0x0115),
        ({"information": a_data_set(TransactionUID=TRANSACTION)}, 0x0115),
        ({"information": a_data_set(ReferencedSOPSequence=references((CT, "1.2")))}, 0x0115),
        (
            {
                "information": a_data_set(
                    TransactionUID=TRANSACTION, ReferencedSOPSequence=references((CT, ""))
                )
            },
            0x0115,
        ),
        ({"information": b"\x08\x00\x95\x11UI\xff\xff1.2"}, 0x0115),
    ],
)
def test_a_request_of_no_use_is_refused_and_leaves_nothing(
    changes: dict[str, Any], status: int, archive: Archive
) -> None:
    found = ask(archive, **changes)
    assert found.statuses == [status]
    assert found.reports == []
    assert archive.ledger.commitments.counts() == {}


def test_another_operation_is_refused(archive: Archive) -> None:
    request = a_request(CommandField.N_CREATE, STORAGE_COMMITMENT_PUSH_MODEL)
    assert answer(service_of(archive), request).statuses == [0x0211]


@pytest.mark.parametrize(
    ("status", "expected"),
    [(0, True), (0x0107, True), (0xB000, True), (None, False), (0x0110, False), (0xA700, False)],
)
def test_what_counts_as_acknowledged(status: int | None, expected: bool) -> None:
    assert is_acknowledged(status) is expected


def test_a_large_request_is_taken(archive: Archive) -> None:
    pairs = [(CT, f"1.2.3.{number}") for number in range(1, 3000)]
    [report] = ask(archive, *pairs, (CT, slice_of(1))).reports
    committed, failed = told(report)
    assert (committed, len(failed)) == ([slice_of(1)], 2999)
    wanted = ReferencedInstance(CT, slice_of(1))
    outcome = archive.ledger.commitments.outcome(only(archive.ledger), archive.is_held)
    assert outcome.committed == (wanted,)
