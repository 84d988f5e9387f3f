"""What was sent and is to be proven, and who is left alone, on every database."""

from __future__ import annotations

from typing import Any

import pytest
from alembic import command
from sqlalchemy import text

from dicom_node.claims import Claim, Outcome
from dicom_node.ledger import versions
from dicom_node.ledger.database import Database
from dicom_node.ledger.delivery_proofs import claim_of
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import BreakerState, DeliveryEvent, DeliveryState
from dicom_node.model import Delivery, Priority
from tests.unit.ledger import rows
from tests.unit.ledger.rows import a_job, a_result, delivery_of, finished, moves_of

TRANSACTION = "2.25.77"


def sent(ledger: Ledger, number: int = 1, **job: Any) -> list[Delivery]:
    """Have so many results sent to the archive at 420."""
    finished(ledger, *(a_result(n) for n in range(1, number + 1)), job=a_job(**job))
    for parcel in rows.sending(ledger):
        assert ledger.deliveries.accepted(parcel.delivery, "stored", 420.0)
    return [delivery_of(ledger, n) for n in range(1, number + 1)]


def claim(ledger: Ledger, number: int = 1) -> Claim:
    """Return the claim of a delivery as it stands now, due or not."""
    every = ledger.deliveries.in_states(*DeliveryState)
    [found] = [claim_of(one) for one in every if one.delivery.delivery_id == number]
    return found


def follow(
    ledger: Ledger, about: Claim, event: DeliveryEvent, why: str, now: float, **more: Any
) -> None:
    ledger.proofs.follow([(about, Outcome(event, why, **more))], now)


def asked(ledger: Ledger, transaction_uid: str = TRANSACTION, now: float = 430.0) -> int:
    due = ledger.proofs.due("archive", now, 9)
    return len(ledger.proofs.asked(due, transaction_uid, "asked", 1030.0, now))


def answered(ledger: Ledger, answers: dict[str, int], **changes: object) -> int:
    given = {"transaction_uid": TRANSACTION, "destinations": ["archive"], "now": 500.0} | changes
    return ledger.proofs.answered(answers=answers, **given)  # type: ignore[arg-type]


def test_what_was_sent_is_due_at_once_the_oldest_first(ledger: Ledger) -> None:
    assert ledger.proofs.due("archive", 9e9, 9) == []
    sent(ledger, 3, priority=Priority.HIGH)
    due = ledger.proofs.due("archive", 420.0, 2)
    assert [one.number for one in due] == [1, 2]
    assert due[0].sent_at == 420.0
    assert ledger.proofs.destinations_due(420.0) == [("archive", Priority.HIGH)]
    assert ledger.proofs.destinations_due(419.0) == []
    assert ledger.proofs.due("research", 420.0, 2) == []


def test_what_was_asked_for_waits_for_its_answer_and_is_due_when_it_comes(ledger: Ledger) -> None:
    sent(ledger, 2)
    assert asked(ledger) == 2
    assert ledger.proofs.due("archive", 1029.0, 9) == []
    assert answered(ledger, {"2.25.1": 0, "2.25.9": 0}) == 1
    [due] = ledger.proofs.due("archive", 500.0, 9)
    assert (due.sop_instance_uid, due.committed) == ("2.25.1", 0)
    assert answered(ledger, {"2.25.1": 0x0112}) == 0  # the first answer counts
    assert moves_of(ledger, "1")[-2:] == [("ASKED", "SENT", "SENT"), ("ANSWERED", "SENT", "SENT")]
    assert [one.number for one in ledger.proofs.due("archive", 1030.0, 9)] == [1, 2]


@pytest.mark.parametrize(
    "changes", [{"transaction_uid": "2.25.78"}, {"transaction_uid": ""}, {"destinations": []}]
)
def test_an_answer_to_something_else_counts_for_nothing(
    changes: dict[str, object], ledger: Ledger
) -> None:
    sent(ledger)
    asked(ledger)
    assert answered(ledger, {"2.25.1": 0}, **changes) == 0
    assert delivery_of(ledger).committed is None


def test_an_answer_to_an_older_request_or_an_older_sending_counts_for_nothing(
    ledger: Ledger,
) -> None:
    sent(ledger)
    asked(ledger)
    asked(ledger, "2.25.78", now=1030.0)
    assert answered(ledger, {"2.25.1": 0}) == 0
    follow(ledger, claim(ledger), DeliveryEvent.MISSED, "not there", 1040.0, not_before=1100.0)
    assert answered(ledger, {"2.25.1": 0}, transaction_uid="2.25.78") == 0
    for parcel in rows.sending(ledger, now=1100.0):
        ledger.deliveries.accepted(parcel.delivery, "stored", 1100.0)
    assert answered(ledger, {"2.25.1": 0}, transaction_uid="2.25.78") == 0
    assert delivery_of(ledger).committed is None


def test_a_late_answer_wakes_what_counted_as_unproven(ledger: Ledger) -> None:
    sent(ledger)
    asked(ledger)
    follow(ledger, claim(ledger), DeliveryEvent.UNPROVEN, "no answer", 9000.0)
    assert ledger.proofs.due("archive", 9e9, 9) == []
    assert answered(ledger, {"2.25.1": 0}, now=9500.0) == 1
    assert moves_of(ledger, "1")[-1] == ("ANSWERED", "UNPROVEN", "SENT")
    [due] = ledger.proofs.due("archive", 9500.0, 9)
    follow(ledger, due, DeliveryEvent.PROVEN, "committed", 9500.0)
    assert delivery_of(ledger).state is DeliveryState.PROVEN
    assert ledger.proofs.due("archive", 9e9, 9) == []


CONCLUSIONS = {
    DeliveryState.PROVEN: DeliveryEvent.PROVEN,
    DeliveryState.UNPROVEN: DeliveryEvent.UNPROVEN,
    DeliveryState.PENDING: DeliveryEvent.MISSED,
    DeliveryState.DEAD: DeliveryEvent.GIVEN_UP,
}


@pytest.mark.parametrize("state", CONCLUSIONS)
def test_a_conclusion_counts_once_and_for_what_it_was_drawn_from(
    state: DeliveryState, ledger: Ledger
) -> None:
    sent(ledger)
    old = claim(ledger)
    asked(ledger)
    answered(ledger, {"2.25.1": 0x0112})  # meanwhile
    follow(ledger, old, CONCLUSIONS[state], "why", 440.0)
    assert delivery_of(ledger).state is DeliveryState.SENT
    follow(ledger, claim(ledger), CONCLUSIONS[state], "why", 440.0)
    concluded = delivery_of(ledger)
    assert (concluded.state, concluded.reason) == (state, "why")
    assert moves_of(ledger, "1")[-1][1:] == ("SENT", state)


def test_what_is_missed_is_sent_again_and_counts_anew(ledger: Ledger) -> None:
    sent(ledger)
    follow(ledger, claim(ledger), DeliveryEvent.MISSED, "not there", 440.0, not_before=450.0)
    missed = delivery_of(ledger)
    assert (missed.resends, missed.failures, missed.tried_since) == (1, 0, 440.0)
    assert ledger.deliveries.ready("archive", 449.0, 9) == []
    [parcel] = rows.sending(ledger, now=450.0)
    ledger.deliveries.accepted(parcel.delivery, "stored", 451.0)
    again = delivery_of(ledger)
    assert (again.sent_at, again.resends, again.transaction_uid) == (451.0, 1, "")


@pytest.mark.parametrize("forget", [False, True])
def test_what_is_postponed_counts_its_failures_and_keeps_or_forgets_what_was_asked(
    forget: bool, ledger: Ledger
) -> None:
    sent(ledger)
    asked(ledger)
    event, how = DeliveryEvent.POSTPONED, {"not_before": 600.0, "forget": forget}
    follow(ledger, claim(ledger), event, "unreachable", 440.0, **how)
    held = delivery_of(ledger)
    assert (held.failures, held.not_before, held.reason) == (1, 600.0, "unreachable")
    assert held.transaction_uid == ("" if forget else TRANSACTION)


@pytest.mark.parametrize("state", [DeliveryState.PROVEN, DeliveryState.UNPROVEN])
def test_a_person_can_send_again_what_was_concluded(state: DeliveryState, ledger: Ledger) -> None:
    sent(ledger)
    follow(ledger, claim(ledger), CONCLUSIONS[state], "why", 440.0)
    assert ledger.deliveries.retry(1, 900.0)
    held = delivery_of(ledger)
    assert (held.state, held.resends, held.not_before) == (DeliveryState.PENDING, 0, 900.0)


def test_many_answers_at_once_are_all_kept(ledger: Ledger) -> None:
    answers = {f"2.25.{n}": n % 2 for n in range(1, 1200)}
    sent(ledger, 3)
    asked(ledger)
    assert answered(ledger, answers) == 3
    assert [delivery_of(ledger, n).committed for n in (1, 2, 3)] == [1, 0, 1]


# ---------------------------------------------------------------- waiting behind a breaker


def test_what_waited_for_too_long_is_given_up_and_nothing_else(ledger: Ledger) -> None:
    finished(ledger, a_result(1), a_result(2), job=a_job(destinations=("archive", "research")))
    assert ledger.deliveries.give_up_late("archive", 400.0, "down", 900.0) == 0
    assert ledger.deliveries.give_up_late("archive", 401.0, "down", 900.0) == 2
    states = {(p.delivery.destination, p.delivery.state) for p in ledger.deliveries.of_job("job-1")}
    assert states == {("archive", DeliveryState.DEAD), ("research", DeliveryState.PENDING)}


def test_a_breaker_opens_once_and_closes_when_it_is_answered(ledger: Ledger) -> None:
    breakers = ledger.breakers
    assert breakers.get("archive") is None
    assert breakers.opened("archive", 3, "unreachable", 110.0, 100.0)
    assert not breakers.opened("archive", 4, "unreachable", 120.0, 101.0)
    [breaker] = breakers.all_open()
    assert (breaker.failures, breaker.not_before, breaker.opened_at) == (3, 110.0, 100.0)
    assert breakers.failed(breaker, "still", 130.0, 110.0)
    [breaker] = breakers.all_open()
    assert (breaker.failures, breaker.reason, breaker.opened_at) == (4, "still", 100.0)
    assert breakers.hurry(115.0) == 1
    assert breakers.answered("archive", "it answers", 120.0)
    assert not breakers.answered("archive", "it answers", 121.0)
    assert breakers.all_open() == []
    closed = breakers.get("archive")
    assert closed is not None
    assert closed.state is BreakerState.CLOSED
    assert breakers.hurry(130.0) == 0
    assert breakers.opened("archive", 1, "again", 210.0, 200.0)
    assert [move for move, *_ in moves_of(ledger, "archive")] == [
        *("OPENED", "FAILED", "ANSWERED"),
        "OPENED",
    ]


# ---------------------------------------------------------------- the migration


def test_what_was_sent_before_there_was_proof_counts_as_unproven(
    ledger: Ledger, database: Database
) -> None:
    finished(ledger, a_result(1), a_result(2))
    one, _ = rows.sending(ledger)
    ledger.deliveries.accepted(one.delivery, "stored", 420.0)
    _to(database, "0008")
    with database.reading() as connection:
        states = connection.execute(text("SELECT state FROM deliveries ORDER BY delivery_id"))
        assert list(states.scalars()) == ["SENT", "SENDING"]
    ledger.migrate()
    believed = delivery_of(ledger, 1)
    assert (believed.state, believed.sent_at) == (DeliveryState.UNPROVEN, 420.0)
    assert believed.reason == "sent before the node asked for proof: its Success was believed"
    assert ledger.events.of("1")[-1].reason == believed.reason
    assert delivery_of(ledger, 2).state is DeliveryState.SENDING
    assert ledger.proofs.destinations_due(9e9) == []


def _to(database: Database, revision: str) -> None:
    config = versions._config()
    with database.migrating() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
