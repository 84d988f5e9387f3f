"""Originals that were sent and are to be proven, on every database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from alembic import command
from sqlalchemy import func, select, text

from dicom_node.claims import Claim, Forwarded, Outcome
from dicom_node.ledger import schema, versions
from dicom_node.ledger.database import Database
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryEvent, DeliveryState
from dicom_node.model import Forward, ForwardTask, InstanceKey, Priority
from tests.unit.ledger.rows import STUDY, an_instance, receive
from tests.unit.route.made import key_of

TRANSACTION = "2.25.77"
KEYS = tuple(key_of(an_instance(number)) for number in range(1, 6))
UIDS = [key.sop_instance_uid for key in KEYS]
PROVEN = Outcome(DeliveryEvent.PROVEN, "it commits to keep it")
UNPROVEN = Outcome(DeliveryEvent.UNPROVEN, "nobody knows")
MISSED = Outcome(DeliveryEvent.MISSED, "not there", not_before=460.0)
DEAD = Outcome(DeliveryEvent.GIVEN_UP, "not there, four times")
LATER = Outcome(DeliveryEvent.POSTPONED, "not yet", not_before=900.0)


def plan(ledger: Ledger, keys: Sequence[InstanceKey] = KEYS, now: float = 300.0) -> int:
    planned = Forward("archive", "", Priority.HIGH, "all", tuple(keys))
    return ledger.routing.forward_at_once(STUDY, [planned], now)


def only(ledger: Ledger) -> ForwardTask:
    [forward] = ledger.forwards.of_study(STUDY)
    return forward


def send(ledger: Ledger, *batches: Sequence[InstanceKey], now: float = 420.0) -> None:
    """Send what is due in these batches, and end the attempt."""
    for batch in batches:
        forward = ledger.forwards.start(only(ledger), now)
        assert forward is not None
        ledger.forwards.sent(forward, batch, [], now)
        if not ledger.forwards.accepted(forward, "all sent", now):
            assert ledger.forwards.go_on(forward, "the rest follows", now)


def due(ledger: Ledger, now: float = 1e6, limit: int = 100) -> list[Claim]:
    return ledger.proofs.due("archive", now, limit)


def uids(claims: Sequence[Claim]) -> list[str]:
    return [claim.sop_instance_uid for claim in claims]


def asked(ledger: Ledger, claims: Sequence[Claim] = (), transaction: str = TRANSACTION) -> int:
    some = claims or due(ledger)
    return len(ledger.proofs.asked(some, transaction, "asked", 1030.0, 430.0))


def answered(ledger: Ledger, answers: dict[str, int], **changes: Any) -> int:
    given: dict[str, Any] = {
        "transaction_uid": TRANSACTION,
        "destinations": ["archive"],
        "now": 500.0,
    } | changes
    return ledger.proofs.answered(answers=answers, **given)


def follow(ledger: Ledger, *outcomes: tuple[Claim, Outcome], now: float = 450.0) -> None:
    ledger.proofs.follow(outcomes, now)


def counts(ledger: Ledger) -> dict[DeliveryState, int]:
    return ledger.forwards.instance_counts().get("archive", {})


def consignments(database: Database) -> list[tuple[str, int]]:
    """Return state and count of each, the count as it stands and as it is."""
    c, o = schema.consignments, schema.forwarded_instances
    query = (
        select(c.c.state, c.c.instance_count, func.count(o.c.sop_instance_uid))
        .outerjoin(o, o.c.consignment_id == c.c.consignment_id)
        .group_by(c.c.consignment_id, c.c.state, c.c.instance_count)
        .order_by(c.c.consignment_id)
    )
    with database.reading() as connection:
        found = connection.execute(query).all()
    assert all(stands == is_ for _, stands, is_ in found)
    return [(state, count) for state, count, _ in found]


@pytest.fixture
def planned(ledger: Ledger) -> Ledger:
    """Return a ledger with a forward of five instances, of which none was sent."""
    receive(ledger, *[an_instance(number) for number in range(1, 6)])
    plan(ledger)
    return ledger


# ---------------------------------------------------------------- asking


def test_what_was_sent_is_due_at_once_in_whole_consignments(planned: Ledger) -> None:
    assert due(planned) == []
    send(planned, KEYS[:2], KEYS[2:4])
    assert only(planned).state is DeliveryState.PENDING  # one is still to go
    assert planned.proofs.destinations_due(419.0) == []
    assert planned.proofs.destinations_due(420.0) == [("archive", Priority.HIGH)]
    assert planned.proofs.due("research", 1e6, 9) == []
    assert uids(due(planned)) == UIDS[:4]
    assert uids(due(planned, limit=3)) == UIDS[:2]
    assert uids(due(planned, limit=1)) == UIDS[:2]  # one at least, whatever the limit
    first = due(planned)[0]
    assert isinstance(first.sent, Forwarded)
    assert first.sent.instance == an_instance(1)
    assert (first.sent.study_instance_uid, first.sent.profile) == (STUDY, "")
    assert (first.sent_at, first.resends, first.committed) == (420.0, 0, None)


def test_a_copy_is_asked_about_under_the_uids_that_it_went_under(planned: Ledger) -> None:
    forward = planned.forwards.start(only(planned), 420.0)
    assert forward is not None
    went = {KEYS[0]: ("2.25.1", "2.25.2", "2.25.3")}
    planned.forwards.sent(forward, KEYS, [], 420.0, went)
    copy, original = due(planned)[:2]
    assert (copy.sent.study_instance_uid, copy.sent.series_instance_uid) == ("2.25.1", "2.25.2")
    assert (copy.sop_instance_uid, original.sop_instance_uid) == ("2.25.3", UIDS[1])
    asked(planned)
    assert answered(planned, {UIDS[0]: 0}) == 0
    assert answered(planned, {"2.25.3": 0}) == 1


def test_what_was_asked_for_waits_for_its_answer(planned: Ledger, database: Database) -> None:
    send(planned, KEYS)
    assert asked(planned) == 5
    assert due(planned, 1029.0) == []
    assert len(due(planned, 1030.0)) == 5
    assert answered(planned, dict.fromkeys(UIDS, 0) | {"1.2.3": 0}) == 5
    assert {claim.committed for claim in due(planned, 500.0)} == {0}
    assert answered(planned, dict.fromkeys(UIDS, 0x0112)) == 0  # the first answer counts
    follow(planned, *[(claim, PROVEN) for claim in due(planned)])
    assert consignments(database) == [("PROVEN", 5)]  # one row, from first to last
    assert only(planned).state is DeliveryState.PROVEN
    assert only(planned).reason == "5 instances: it commits to keep it"
    moves = [e.event for e in planned.events.of("1") if e.subject_kind == "consignment"]
    assert moves == ["ASKED", "ANSWERED", "PROVEN"]


@pytest.mark.parametrize(
    "changes", [{"transaction_uid": "2.25.78"}, {"destinations": []}, {"destinations": ["other"]}]
)
def test_an_answer_to_something_else_counts_for_nothing(
    changes: dict[str, Any], planned: Ledger
) -> None:
    send(planned, KEYS)
    asked(planned)
    assert answered(planned, dict.fromkeys(UIDS, 0), **changes) == 0
    assert {claim.committed for claim in due(planned)} == {None}


def test_different_answers_part_what_went_together_and_the_rest_goes_on_waiting(
    planned: Ledger, database: Database
) -> None:
    send(planned, KEYS)
    asked(planned)
    assert answered(planned, {UIDS[0]: 0, UIDS[1]: 0, UIDS[2]: 0x0112}) == 3
    said = {claim.sop_instance_uid: claim.committed for claim in due(planned, 500.0)}
    assert said == {UIDS[0]: 0, UIDS[1]: 0, UIDS[2]: 0x0112}
    assert uids(due(planned, 1030.0)[:2]) == UIDS[3:]  # waits as long as it would have
    assert sorted(consignments(database)) == [("SENT", 1), ("SENT", 2), ("SENT", 2)]
    assert answered(planned, {UIDS[3]: 0, UIDS[4]: 0}) == 2  # a second report, for the rest
    assert {claim.committed for claim in due(planned, 500.0)} == {0, 0x0112}


# ---------------------------------------------------------------- concluding


def test_where_the_same_does_not_follow_for_all_they_part(
    planned: Ledger, database: Database
) -> None:
    send(planned, KEYS)
    one, two, three, four, five = due(planned)
    follow(planned, (one, PROVEN), (two, PROVEN), (three, UNPROVEN), (four, LATER), (five, DEAD))
    assert counts(planned) == {
        DeliveryState.PROVEN: 2,
        DeliveryState.UNPROVEN: 1,
        DeliveryState.SENT: 1,
        DeliveryState.DEAD: 1,
    }
    assert sorted(consignments(database)) == [("PROVEN", 2), ("SENT", 1), ("UNPROVEN", 1)]
    [later] = due(planned, 900.0)
    assert (later.sop_instance_uid, later.failures, later.reason) == (UIDS[3], 1, "not yet")
    # what is given up is a dead letter at once, and names itself
    assert only(planned).state is DeliveryState.DEAD
    assert only(planned).reason == "4 of 5 instances sent, 1 refused: not there, four times"
    [told] = planned.events.named("NOT_FORWARDED")
    assert told.reason == f"{UIDS[4]}: not there, four times"


def test_what_was_not_looked_at_stays_as_it_was(planned: Ledger, database: Database) -> None:
    send(planned, KEYS)
    claims = due(planned)
    follow(planned, *[(claim, PROVEN) for claim in claims[:4]])
    assert consignments(database) == [("SENT", 1), ("PROVEN", 4)]
    assert only(planned).state is DeliveryState.SENT
    # and what is said of all of them later counts for the rest alone
    follow(planned, *[(claim, LATER) for claim in claims])
    assert sorted(consignments(database)) == [("PROVEN", 4), ("SENT", 1)]


@pytest.mark.parametrize("outcome", [PROVEN, UNPROVEN, MISSED, DEAD])
def test_a_conclusion_counts_for_what_it_was_drawn_from(outcome: Outcome, planned: Ledger) -> None:
    send(planned, KEYS)
    old = due(planned)
    asked(planned)
    answered(planned, dict.fromkeys(UIDS, 0))  # meanwhile
    follow(planned, *[(claim, outcome) for claim in old])
    assert counts(planned) == {DeliveryState.SENT: 5}
    follow(planned, *[(claim, PROVEN) for claim in due(planned)])
    assert counts(planned) == {DeliveryState.PROVEN: 5}
    follow(planned, *[(claim, outcome) for claim in old])
    assert counts(planned) == {DeliveryState.PROVEN: 5}


def test_what_is_missing_is_sent_again_alone_and_counts_anew(
    planned: Ledger, database: Database
) -> None:
    send(planned, KEYS)
    asked(planned)
    claims = due(planned)
    follow(planned, (claims[0], MISSED), *[(claim, PROVEN) for claim in claims[1:]])
    again = only(planned)
    assert (again.state, again.reason) == (DeliveryState.PENDING, "1 instances: not there")
    assert (again.not_before, again.tried_since, again.failures) == (460.0, 450.0, 0)
    assert planned.forwards.unsent(again.forward_id, 9) == [KEYS[0]]
    assert counts(planned) == {DeliveryState.PROVEN: 4, DeliveryState.PENDING: 1}
    send(planned, KEYS[:1], now=470.0)
    [claim] = due(planned)
    assert (claim.resends, claim.sent_at, claim.transaction_uid) == (1, 470.0, "")
    assert answered(planned, {UIDS[0]: 0}) == 0  # that was of an earlier sending
    follow(planned, (claim, PROVEN))
    assert only(planned).state is DeliveryState.PROVEN
    assert sorted(consignments(database)) == [("PROVEN", 1), ("PROVEN", 4)]


def test_what_is_missing_waits_until_the_rest_has_gone(planned: Ledger) -> None:
    send(planned, KEYS[:3])
    claims = due(planned)
    follow(planned, *[(claim, MISSED) for claim in claims])
    assert planned.forwards.unsent(only(planned).forward_id, 9) == list(KEYS[3:])
    send(planned, KEYS[3:])
    again = only(planned)
    assert (again.state, again.not_before) == (DeliveryState.PENDING, 460.0)
    assert planned.forwards.unsent(again.forward_id, 9) == list(KEYS[:3])


def test_a_forward_that_is_dead_sends_what_is_missing_all_the_same(planned: Ledger) -> None:
    forward = planned.forwards.start(only(planned), 420.0)
    assert forward is not None
    planned.forwards.sent(forward, KEYS[1:], [(KEYS[0], "answered 0xC000")], 420.0)
    assert planned.forwards.give_up(forward, "1 refused", 420.0)
    claims = due(planned)
    follow(planned, (claims[0], MISSED), *[(claim, PROVEN) for claim in claims[1:]])
    assert only(planned).state is DeliveryState.PENDING
    assert planned.forwards.unsent(forward.forward_id, 9) == [KEYS[1]]


def test_a_forward_that_was_given_up_as_a_whole_stays_so(planned: Ledger) -> None:
    send(planned, KEYS[:3])
    forward = planned.forwards.start(only(planned), 430.0)
    assert forward is not None
    assert planned.forwards.give_up(forward, "cannot be reached", 430.0)
    follow(planned, *[(claim, MISSED) for claim in due(planned)])
    assert only(planned).state is DeliveryState.DEAD
    assert counts(planned) == {DeliveryState.DEAD: 5}
    assert planned.forwards.retry(forward.forward_id, 500.0)
    assert planned.forwards.unsent(forward.forward_id, 9) == list(KEYS)


def test_everything_may_be_proven_before_the_last_has_gone(planned: Ledger) -> None:
    send(planned, KEYS[:3])
    follow(planned, *[(claim, PROVEN) for claim in due(planned)])
    assert only(planned).state is DeliveryState.PENDING
    forward = planned.forwards.start(only(planned), 430.0)
    assert forward is not None
    planned.forwards.sent(forward, KEYS[3:], [], 430.0)
    follow(planned, *[(claim, PROVEN) for claim in due(planned)])
    assert only(planned).state is DeliveryState.SENDING
    assert planned.forwards.accepted(forward, "all sent", 440.0)
    assert only(planned).state is DeliveryState.PROVEN


def test_a_late_answer_wakes_what_counted_as_unproven(planned: Ledger) -> None:
    send(planned, KEYS)
    asked(planned)
    follow(planned, *[(claim, UNPROVEN) for claim in due(planned)])
    assert only(planned).state is DeliveryState.UNPROVEN
    assert only(planned).reason == "5 of 5 instances: nobody knows"
    assert due(planned) == []
    assert [f.forward_id for f in planned.forwards.unproven()] == [only(planned).forward_id]
    assert planned.forwards.unproven(not_to=["archive"]) == []
    assert planned.forwards.count_unproven() == 1
    assert answered(planned, dict.fromkeys(UIDS, 0), now=9500.0) == 5
    assert only(planned).state is DeliveryState.SENT
    follow(planned, *[(claim, PROVEN) for claim in due(planned)], now=9500.0)
    assert only(planned).state is DeliveryState.PROVEN


# ---------------------------------------------------------------- what grows, and what comes again


def test_what_comes_again_with_other_bytes_leaves_its_consignment(
    planned: Ledger, database: Database
) -> None:
    send(planned, KEYS[:1], KEYS[1:])
    asked(planned)
    assert plan(planned, [replace_digest(KEYS[0]), replace_digest(KEYS[1])], now=440.0) == 2
    assert consignments(database) == [("SENT", 3)]
    assert answered(planned, dict.fromkeys(UIDS, 0)) == 3
    forward = only(planned)
    assert forward.state is DeliveryState.PENDING
    assert len(planned.forwards.unsent(forward.forward_id, 9)) == 2


def test_what_was_sent_of_older_bytes_is_no_claim(planned: Ledger, database: Database) -> None:
    forward = planned.forwards.start(only(planned), 420.0)
    assert forward is not None
    plan(planned, [replace_digest(key) for key in KEYS])  # while they are on their way
    planned.forwards.sent(forward, KEYS, [], 420.0)
    assert due(planned) == []
    assert consignments(database) == []


def test_what_two_attempts_sent_is_one_claim(planned: Ledger, database: Database) -> None:
    lost = planned.forwards.start(only(planned), 420.0)
    assert lost is not None
    planned.forwards.interrupt(lost, "the node stopped", 421.0)
    current = planned.forwards.start(only(planned), 422.0)
    assert current is not None
    planned.forwards.sent(current, KEYS[:3], [], 423.0)
    planned.forwards.sent(lost, KEYS, [], 424.0)
    assert consignments(database) == [("SENT", 3), ("SENT", 2)]


def replace_digest(key: InstanceKey) -> InstanceKey:
    return key._replace(digest=f"other {key.digest}")


RETRIES = {
    PROVEN: (UIDS, {DeliveryState.PENDING: 5}),
    LATER: (UIDS[:3], {DeliveryState.PENDING: 3, DeliveryState.PROVEN: 2}),
    UNPROVEN: (UIDS[:3], {DeliveryState.PENDING: 3, DeliveryState.PROVEN: 2}),
    DEAD: (UIDS[:3], {DeliveryState.PENDING: 3, DeliveryState.PROVEN: 2}),
}


@pytest.mark.parametrize("outcome", RETRIES)
def test_a_person_sends_again_what_is_not_proven_or_all_if_everything_is(
    outcome: Outcome, planned: Ledger, database: Database
) -> None:
    send(planned, KEYS)
    claims = due(planned)
    follow(planned, *[(claim, outcome) for claim in claims[:3]], *[(c, PROVEN) for c in claims[3:]])
    forward = only(planned)
    assert planned.forwards.retry(forward.forward_id, 500.0)
    again, left = RETRIES[outcome]
    assert [key.sop_instance_uid for key in planned.forwards.unsent(1, 9)] == again
    assert counts(planned) == left
    assert only(planned).state is DeliveryState.PENDING
    follow(planned, *[(claim, DEAD) for claim in claims])  # of an earlier sending
    assert counts(planned) == left
    assert all(state == "PROVEN" for state, _ in consignments(database))


def test_what_is_still_to_be_proven_of_a_dead_forward_is_not_sent_again(planned: Ledger) -> None:
    send(planned, KEYS)
    one, *others = due(planned)
    follow(planned, (one, DEAD), *[(claim, LATER) for claim in others])
    assert planned.forwards.retry(only(planned).forward_id, 500.0)
    assert counts(planned) == {DeliveryState.SENT: 4, DeliveryState.PENDING: 1}


def test_instances_are_counted_by_destination_and_state(planned: Ledger) -> None:
    more = [Forward(name, "", Priority.LOW, "all", KEYS) for name in ("research", "teaching")]
    planned.routing.forward_at_once(STUDY, more, 300.0)
    send_to = {f.destination: f for f in planned.forwards.of_study(STUDY)}
    forward = planned.forwards.start(send_to["research"], 420.0)
    assert forward is not None
    planned.forwards.sent(forward, KEYS[:2], [(KEYS[2], "refused")], 420.0)
    assert planned.forwards.instance_counts() == {
        "archive": {DeliveryState.PENDING: 5},
        "research": {DeliveryState.SENT: 2, DeliveryState.DEAD: 1, DeliveryState.PENDING: 2},
        "teaching": {DeliveryState.PENDING: 5},
    }
    assert planned.forwards.proof(forward.forward_id) == (
        {DeliveryState.SENT: 2},
        "not asked for yet",
    )


# ---------------------------------------------------------------- the migration


def test_what_was_forwarded_before_there_was_proof_counts_as_unproven(
    planned: Ledger, database: Database
) -> None:
    send(planned, KEYS[:2], KEYS[2:])
    other = Forward("research", "", Priority.LOW, "all", KEYS)
    planned.routing.forward_at_once(STUDY, [other], 300.0)
    _to(database, "0010")
    with database.reading() as connection:
        states = connection.execute(text("SELECT state FROM forwards ORDER BY forward_id"))
        assert list(states.scalars()) == ["SENT", "PENDING"]
    planned.migrate()
    believed, waiting = planned.forwards.of_study(STUDY)
    if believed.destination != "archive":
        believed, waiting = waiting, believed
    assert (believed.state, waiting.state) == (DeliveryState.UNPROVEN, DeliveryState.PENDING)
    assert believed.reason == (
        "sent before the node asked for proof of originals: its Success was believed"
    )
    events = planned.events.named("UNPROVEN")
    assert [event.reason for event in events] == [believed.reason]
    assert consignments(database) == [("UNPROVEN", 5)]
    assert planned.proofs.destinations_due(9e9) == []
    # and what goes from now on gets a number of its own, and is proven
    plan(planned, [KEYS[0]._replace(digest="other")], now=500.0)
    again = planned.forwards.get(believed.forward_id)
    assert again is not None
    forward = planned.forwards.start(again, 510.0)
    assert forward is not None
    planned.forwards.sent(forward, [KEYS[0]._replace(digest="other")], [], 510.0)
    assert consignments(database) == [("UNPROVEN", 4), ("SENT", 1)]
    with database.reading() as connection:
        if database.dialect == "sqlite":
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def _to(database: Database, revision: str) -> None:
    config = versions._config()
    with database.migrating() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
