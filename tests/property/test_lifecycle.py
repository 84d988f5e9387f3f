"""Whatever happens in whatever order: no state leaves its table, and no reason is missing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from itertools import count, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.claims import Outcome
from dicom_node.errors import InvariantBroken
from dicom_node.ledger.deliveries import Parcel
from dicom_node.ledger.delivery_proofs import claim_of
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import (
    DELIVERY_MOVES,
    JOB_MOVES,
    STUDY_MOVES,
    DeliveryEvent,
    DeliveryState,
    JobEvent,
    JobState,
    StudyEvent,
    StudyState,
    next_delivery_state,
    next_job_state,
    next_study_state,
)
from dicom_node.model import Delivery, Job
from tests.unit.ledger import rows
from tests.unit.ledger.rows import a_job, a_result

_numbers = count(1)


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    with tempfile.TemporaryDirectory() as folder:
        ledger = rows.new_ledger(Path(folder))
        yield ledger
        ledger.close()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    studies=st.lists(st.sampled_from(StudyEvent), max_size=30),
    jobs=st.lists(st.sampled_from(JobEvent), max_size=30),
    deliveries=st.lists(st.sampled_from(DeliveryEvent), max_size=30),
)
def test_no_sequence_of_events_leaves_the_table(
    studies: list[StudyEvent], jobs: list[JobEvent], deliveries: list[DeliveryEvent]
) -> None:
    study, job, delivery = StudyState.RECEIVING, JobState.QUEUED, DeliveryState.PENDING
    for study_event in studies:
        try:
            study = next_study_state(study, study_event)
        except InvariantBroken:
            assert (study, study_event) not in STUDY_MOVES
    for job_event in jobs:
        try:
            job = next_job_state(job, job_event)
        except InvariantBroken:
            assert (job, job_event) not in JOB_MOVES
    for delivery_event in deliveries:
        try:
            delivery = next_delivery_state(delivery, delivery_event)
        except InvariantBroken:
            assert (delivery, delivery_event) not in DELIVERY_MOVES


JOB_CALLS: dict[str, Callable[[Ledger, Job, float], object]] = {
    "start": lambda ledger, job, now: ledger.jobs.start(job.job_id, now),
    "finish": lambda ledger, job, now: ledger.jobs.finish(
        job, [a_result(job_id=job.job_id, sop_instance_uid=f"2.25.{job.job_id}")], "found", {}, now
    ),
    "refuse": lambda ledger, job, now: ledger.jobs.refuse(job, "not mine", now),
    "fail": lambda ledger, job, now: ledger.jobs.fail(job, "raised", now, now),
    "crash": lambda ledger, job, now: ledger.jobs.crash(job, "killed", now, now),
    "interrupt": lambda ledger, job, now: ledger.jobs.interrupt(job, "stopped", now),
    "give_up": lambda ledger, job, now: ledger.jobs.give_up(job, "too often", now),
    "supersede": lambda ledger, job, now: ledger.jobs.supersede(job, "changed", now),
    "retry": lambda ledger, job, now: ledger.jobs.retry(job.job_id, now),
}


def held_to_the_table(
    ledger: Ledger, subject: str, state: str, moves: set[tuple[str, str, str]]
) -> None:
    """The events tell one unbroken way from the first state to the last, each with its reason."""
    way = [event for event in ledger.events.of(subject) if event.from_state]
    assert all(event.reason for event in way)
    assert {(e.from_state, e.event, e.to_state) for e in way} <= moves
    assert all(before.to_state == after.from_state for before, after in pairwise(way))
    if way:
        assert way[-1].to_state == state


@settings(max_examples=40, deadline=None, derandomize=True)
@given(calls=st.lists(st.tuples(st.sampled_from(sorted(JOB_CALLS)), st.booleans()), max_size=12))
def test_no_sequence_of_calls_breaks_a_job(ledger: Ledger, calls: list[tuple[str, bool]]) -> None:
    """Each call comes from the current attempt, or late from the first one."""
    number = next(_numbers)
    study_uid, name = f"1.8.{number}", str(number)
    study = rows.complete(ledger, rows.an_instance(study_instance_uid=study_uid))
    rows.route(ledger, study, [a_job(name, study_instance_uid=study_uid)], "rules", 300.0)
    first = rows.job_of(ledger, name)
    attempts = [0]
    for now, (call, late) in enumerate(calls, 400):
        current = rows.job_of(ledger, name)
        JOB_CALLS[call](ledger, first if late else current, float(now))
        attempts.append(rows.job_of(ledger, name).attempt)
    job = rows.job_of(ledger, name)
    assert attempts == sorted(attempts)
    held_to_the_table(
        ledger, name, job.state, {(str(s), str(e), str(t)) for (s, e), t in JOB_MOVES.items()}
    )
    assert bool(ledger.results.of_job(name)) is (job.state is JobState.DONE)


DELIVERY_CALLS: dict[str, Callable[[Ledger, Delivery, float], object]] = {
    "start": lambda ledger, _, now: rows.sending(ledger, now),
    "accepted": lambda ledger, d, now: ledger.deliveries.accepted(d, "stored", now),
    "postpone": lambda ledger, d, now: ledger.deliveries.postpone(d, "unreachable", now, now),
    "interrupt": lambda ledger, d, now: ledger.deliveries.interrupt(d, "stopped", now),
    "give_up": lambda ledger, d, now: ledger.deliveries.give_up(d, "refused", now),
    "retry": lambda ledger, d, now: ledger.deliveries.retry(d.delivery_id, now),
    "late": lambda ledger, d, now: ledger.deliveries.give_up_late("archive", now, "down", now),
    "due": lambda ledger, d, now: ledger.proofs.asked(
        ledger.proofs.due("archive", now, 9), "2.25.7", "asked", now, now
    ),
    "answer": lambda ledger, d, now: ledger.proofs.answered(
        "2.25.7", ["archive"], {d.sop_instance_uid: 0x0112}, now
    ),
    "prove": lambda ledger, d, now: if_sent(ledger, d, DeliveryEvent.PROVEN, now),
    "miss": lambda ledger, d, now: if_sent(ledger, d, DeliveryEvent.MISSED, now),
    "doubt": lambda ledger, d, now: if_sent(ledger, d, DeliveryEvent.UNPROVEN, now),
    "end": lambda ledger, d, now: if_sent(ledger, d, DeliveryEvent.GIVEN_UP, now),
    "wait": lambda ledger, d, now: if_sent(ledger, d, DeliveryEvent.POSTPONED, now),
}


def if_sent(ledger: Ledger, delivery: Delivery, event: DeliveryEvent, now: float) -> None:
    """Conclude, as the prover does: of what it has found SENT, though that may be long ago."""
    if delivery.state is DeliveryState.SENT:
        claim = claim_of(Parcel(delivery, a_result()))
        ledger.proofs.follow([(claim, Outcome(event, "why", not_before=now))], now)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    calls=st.lists(st.tuples(st.sampled_from(sorted(DELIVERY_CALLS)), st.booleans()), max_size=20)
)
def test_no_sequence_of_calls_breaks_a_delivery(calls: list[tuple[str, bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = rows.new_ledger(Path(folder))
        rows.finished(ledger)
        first = rows.delivery_of(ledger)
        for now, (call, late) in enumerate(calls, 500):
            current = rows.delivery_of(ledger)
            DELIVERY_CALLS[call](ledger, first if late else current, float(now))
        delivery = rows.delivery_of(ledger)
        moves = {(str(s), str(e), str(t)) for (s, e), t in DELIVERY_MOVES.items()}
        held_to_the_table(ledger, str(delivery.delivery_id), delivery.state, moves)
        starts = [e for e in ledger.events.of(str(delivery.delivery_id)) if e.event == "STARTED"]
        assert delivery.attempt == len(starts)
        ledger.close()
