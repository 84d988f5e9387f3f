"""The transition tables, typed a second time by hand; both copies and the schema agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import pytest

from dicom_node import lifecycle
from dicom_node.errors import InvariantBroken
from dicom_node.lifecycle import (
    BreakerEvent,
    BreakerState,
    CommitmentEvent,
    CommitmentState,
    ComparisonEvent,
    ComparisonState,
    DeliveryEvent,
    DeliveryState,
    FetchEvent,
    FetchState,
    JobEvent,
    JobState,
    StudyEvent,
    StudyState,
    TrialEvent,
    TrialState,
    next_breaker_state,
    next_commitment_state,
    next_comparison_state,
    next_delivery_state,
    next_fetch_state,
    next_job_state,
    next_study_state,
    next_trial_state,
)

STUDIES = """
    RECEIVING   INSTANCE_STORED  RECEIVING
    RECEIVING   COMPLETED        COMPLETE
    COMPLETE    INSTANCE_STORED  RECEIVING
    COMPLETE    ROUTED           ROUTED
    COMPLETE    ROUTING_FAILED   PARKED
    COMPLETE    HELD             PARKED
    ROUTED      INSTANCE_STORED  RECEIVING
    PARKED      INSTANCE_STORED  RECEIVING
    PARKED      RETRIED          COMPLETE
    ROUTED      RETRIED          COMPLETE
    ROUTED      FOUND            COMPLETE
"""
JOBS = """
    QUEUED      STARTED          RUNNING
    QUEUED      SUPERSEDED       SUPERSEDED
    RUNNING     FINISHED         DONE
    RUNNING     INPUT_REFUSED    REFUSED
    RUNNING     FAILED           QUEUED
    RUNNING     CRASHED          QUEUED
    RUNNING     INTERRUPTED      QUEUED
    RUNNING     GIVEN_UP         PARKED
    RUNNING     SUPERSEDED       SUPERSEDED
    PARKED      SUPERSEDED       SUPERSEDED
    PARKED      RETRIED          QUEUED
    REFUSED     RETRIED          QUEUED
    SUPERSEDED  RETRIED          QUEUED
"""
DELIVERIES = """
    PENDING     STARTED          SENDING
    PENDING     GIVEN_UP         DEAD
    SENDING     ACCEPTED         SENT
    SENDING     POSTPONED        PENDING
    SENDING     INTERRUPTED      PENDING
    SENDING     GIVEN_UP         DEAD
    SENT        ASKED            SENT
    SENT        ANSWERED         SENT
    SENT        POSTPONED        SENT
    SENT        PROVEN           PROVEN
    SENT        MISSED           PENDING
    SENT        UNPROVEN         UNPROVEN
    SENT        GIVEN_UP         DEAD
    UNPROVEN    ANSWERED         SENT
    PROVEN      RETRIED          PENDING
    UNPROVEN    RETRIED          PENDING
    DEAD        RETRIED          PENDING
    SENT        RETRIED          PENDING
"""
BREAKERS = """
    CLOSED      OPENED           OPEN
    OPEN        FAILED           OPEN
    OPEN        ANSWERED         CLOSED
"""
COMMITMENTS = """
    PENDING     ACKNOWLEDGED     REPORTED
    PENDING     POSTPONED        PENDING
    PENDING     STARTED          REPORTING
    PENDING     RETRIED          PENDING
    REPORTING   ACKNOWLEDGED     REPORTED
    REPORTING   POSTPONED        PENDING
    REPORTING   INTERRUPTED      PENDING
    REPORTING   GIVEN_UP         DEAD
    REPORTING   RETRIED          PENDING
    REPORTED    RETRIED          PENDING
    DEAD        RETRIED          PENDING
"""
FETCHES = """
    PENDING     STARTED          FETCHING
    PENDING     GIVEN_UP         DEAD
    PENDING     SUPERSEDED       SUPERSEDED
    FETCHING    CAME             FETCHED
    FETCHING    POSTPONED        PENDING
    FETCHING    INTERRUPTED      PENDING
    FETCHING    GIVEN_UP         DEAD
    FETCHING    SUPERSEDED       SUPERSEDED
    SUPERSEDED  RETRIED          PENDING
    DEAD        RETRIED          PENDING
"""
TRIALS = """
    RUNNING     STOPPED          STOPPED
    STOPPED     RETRIED          RUNNING
"""
COMPARISONS = """
    OPEN        COMPARED         COMPARED
    OPEN        FAILED           FAILED
    OPEN        LEFT_OUT         UNCOMPARED
    OPEN        WITHDRAWN        WITHDRAWN
"""

Next = Callable[[Any, Any], StrEnum]
KINDS: Mapping[str, tuple[str, Mapping[Any, StrEnum], type[StrEnum], type[StrEnum], Next]] = {
    "study": (STUDIES, lifecycle.STUDY_MOVES, StudyState, StudyEvent, next_study_state),
    "job": (JOBS, lifecycle.JOB_MOVES, JobState, JobEvent, next_job_state),
    "delivery": (
        DELIVERIES,
        lifecycle.DELIVERY_MOVES,
        DeliveryState,
        DeliveryEvent,
        next_delivery_state,
    ),
    "breaker": (
        BREAKERS,
        lifecycle.BREAKER_MOVES,
        BreakerState,
        BreakerEvent,
        next_breaker_state,
    ),
    "commitment": (
        COMMITMENTS,
        lifecycle.COMMITMENT_MOVES,
        CommitmentState,
        CommitmentEvent,
        next_commitment_state,
    ),
    "fetch": (FETCHES, lifecycle.FETCH_MOVES, FetchState, FetchEvent, next_fetch_state),
    "trial": (TRIALS, lifecycle.TRIAL_MOVES, TrialState, TrialEvent, next_trial_state),
    "comparison": (
        COMPARISONS,
        lifecycle.COMPARISON_MOVES,
        ComparisonState,
        ComparisonEvent,
        next_comparison_state,
    ),
}


def typed(table: str) -> dict[tuple[str, str], str]:
    rows = [line.split() for line in table.strip().splitlines()]
    return {(state, event): target for state, event, target in rows}


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_has_the_moves_typed_here_and_no_others(kind: str) -> None:
    table, moves, *_ = KINDS[kind]
    assert {(str(s), str(e)): str(t) for (s, e), t in moves.items()} == typed(table)


@pytest.mark.parametrize("kind", KINDS)
def test_every_pair_moves_as_typed_here_or_is_refused(kind: str) -> None:
    table, _, states, events, next_state = KINDS[kind]
    expected = typed(table)
    for state in states:
        for event in events:
            if target := expected.get((state, event)):
                assert next_state(state, event) == target
            else:
                with pytest.raises(InvariantBroken, match=f"{event} is no move from {state}"):
                    next_state(state, event)


@pytest.mark.parametrize("kind", KINDS)
def test_every_state_can_be_reached_and_every_event_moves_something(kind: str) -> None:
    table, _, states, events, _ = KINDS[kind]
    expected = typed(table)
    firsts = {"study": "RECEIVING", "job": "QUEUED", "trial": "RUNNING", "comparison": "OPEN"}
    firsts["breaker"] = "CLOSED"
    first = firsts.get(kind, "PENDING")
    reached = {first}
    for _ in states:
        reached |= {target for (state, _), target in expected.items() if state in reached}
    assert reached == set(states)
    assert {event for _, event in expected} == set(events)


def test_what_a_person_parked_a_person_can_retry() -> None:
    ends = {JobState.DONE, StudyState.ROUTED, CommitmentState.REPORTED}
    ends.add(FetchState.FETCHED)
    ends |= set(ComparisonState) - {ComparisonState.OPEN}
    for _, moves, states, _, _ in KINDS.values():
        for state in set(states) - ends:
            assert any(left == state for left, _ in moves), f"nothing leaves {state}"
