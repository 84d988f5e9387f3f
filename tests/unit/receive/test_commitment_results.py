"""Results of storage commitment that archives bring, as a function from a request to replies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from dicom_node.ledger.database import Database
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryState
from dicom_node.model import CommitmentOutcome, ReferencedInstance
from dicom_node.protocol.command import CommandField, us
from dicom_node.receive.commitment_results import CommitmentResults
from dicom_node.scu.commitment import (
    STORAGE_COMMITMENT_INSTANCE,
    STORAGE_COMMITMENT_PUSH_MODEL,
    report_of,
)
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock, a_result, delivery_of, finished
from tests.unit.receive.data_sets import EXPLICIT, IMPLICIT
from tests.unit.receive.requests import Answer, a_request, answer

TRANSACTION = "2.25.77"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Return a ledger with two results that the archive was asked to commit to."""
    ledger = rows.new_ledger(tmp_path)
    finished(ledger, a_result(1), a_result(2))
    for parcel in rows.sending(ledger):
        ledger.deliveries.accepted(parcel.delivery, "stored", 420.0)
    due = ledger.proofs.due("archive", 420.0, 9)
    assert len(ledger.proofs.asked(due, TRANSACTION, "asked", 9000.0, 420.0)) == 2
    yield ledger
    ledger.close()


def report(
    ledger: Ledger,
    *,
    transaction_uid: str = TRANSACTION,
    calling: str = "ARCHIVE",
    instance: str = STORAGE_COMMITMENT_INSTANCE,
    event_type: int = 2,
    syntax: str = EXPLICIT,
    information: bytes | None = None,
) -> Answer:
    """Say that the first is committed, and the second is not there."""
    one, two = (ReferencedInstance(rows.SEGMENTATION_STORAGE, f"2.25.{n}") for n in (1, 2))
    outcome = CommitmentOutcome((one,), ((two, 0x0112),))
    encoded = report_of(transaction_uid, outcome, syntax) if information is None else information
    service = CommitmentResults(ledger, {"ARCHIVE": ["archive"]}, HandClock(500.0))
    request = a_request(
        CommandField.N_EVENT_REPORT,
        STORAGE_COMMITMENT_PUSH_MODEL,
        encoded,
        sop_instance_uid=instance,
        syntax=syntax,
        calling=calling,
        event_type_id=us(event_type),
    )
    return answer(service, request)


def answers(ledger: Ledger) -> list[int | None]:
    return [delivery_of(ledger, number).committed for number in (1, 2)]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_a_result_is_in_the_ledger_when_it_is_acknowledged_and_due_at_once(
    syntax: str, ledger: Ledger
) -> None:
    assert ledger.proofs.due("archive", 500.0, 9) == []
    assert report(ledger, syntax=syntax).statuses == [0]
    assert answers(ledger) == [0, 0x0112]
    assert len(ledger.proofs.due("archive", 500.0, 9)) == 2
    assert {delivery_of(ledger, n).state for n in (1, 2)} == {DeliveryState.SENT}


@pytest.mark.parametrize("calling", ["SCANNER", "STRANGER", ""])
def test_another_peer_than_the_one_that_was_asked_counts_for_nothing(
    calling: str, ledger: Ledger
) -> None:
    assert report(ledger, calling=calling).statuses == [0]
    assert answers(ledger) == [None, None]


def test_another_transaction_counts_for_nothing_and_need_not_be_repeated(ledger: Ledger) -> None:
    assert report(ledger, transaction_uid="2.25.78").statuses == [0]
    assert answers(ledger) == [None, None]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"instance": "1.2.3"}, 0x0112),
        ({"event_type": 3}, 0x0113),
        ({"information": b""}, 0x0115),
        ({"information": b"\x08\x00\x95"}, 0x0115),
    ],
)
def test_what_is_no_result_is_refused(
    changes: dict[str, object], status: int, ledger: Ledger
) -> None:
    assert report(ledger, **changes).status == status  # type: ignore[arg-type]
    assert answers(ledger) == [None, None]


def test_when_the_ledger_fails_the_archive_is_told_to_report_again(
    ledger: Ledger, tmp_path: Path
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    with database.writing() as connection:
        connection.execute(text("ALTER TABLE deliveries RENAME TO hidden"))
    assert report(ledger).status == 0x0213
    with database.writing() as connection:
        connection.execute(text("ALTER TABLE hidden RENAME TO deliveries"))
    database.close()
    assert answers(ledger) == [None, None]
