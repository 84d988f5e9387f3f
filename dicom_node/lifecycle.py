"""States, events and the only moves between them.

One table for each thing that lives in the ledger. The schema's CHECK constraints and the
diagrams in docs/operator.md are generated from these tables; a second copy, typed by hand, stands
in the tests and must agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from dicom_node.errors import InvariantBroken

State = TypeVar("State", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)


class StudyState(StrEnum):
    RECEIVING = "RECEIVING"
    COMPLETE = "COMPLETE"
    ROUTED = "ROUTED"
    PARKED = "PARKED"


class StudyEvent(StrEnum):
    INSTANCE_STORED = "INSTANCE_STORED"
    COMPLETED = "COMPLETED"
    ROUTED = "ROUTED"
    ROUTING_FAILED = "ROUTING_FAILED"
    HELD = "HELD"
    FOUND = "FOUND"
    RETRIED = "RETRIED"


class JobState(StrEnum):
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    REFUSED = "REFUSED"
    PARKED = "PARKED"
    SUPERSEDED = "SUPERSEDED"


class JobEvent(StrEnum):
    STARTED = "STARTED"
    FINISHED = "FINISHED"
    INPUT_REFUSED = "INPUT_REFUSED"
    FAILED = "FAILED"
    CRASHED = "CRASHED"
    INTERRUPTED = "INTERRUPTED"
    GIVEN_UP = "GIVEN_UP"
    SUPERSEDED = "SUPERSEDED"
    RETRIED = "RETRIED"


class DeliveryState(StrEnum):
    PENDING = "PENDING"
    SENDING = "SENDING"
    SENT = "SENT"
    PROVEN = "PROVEN"
    UNPROVEN = "UNPROVEN"
    DEAD = "DEAD"


class DeliveryEvent(StrEnum):
    STARTED = "STARTED"
    ACCEPTED = "ACCEPTED"
    ASKED = "ASKED"
    ANSWERED = "ANSWERED"
    PROVEN = "PROVEN"
    MISSED = "MISSED"
    UNPROVEN = "UNPROVEN"
    POSTPONED = "POSTPONED"
    INTERRUPTED = "INTERRUPTED"
    GIVEN_UP = "GIVEN_UP"
    RETRIED = "RETRIED"


CONSIGNMENT_STATES = (
    DeliveryState.SENT,
    DeliveryState.PROVEN,
    DeliveryState.UNPROVEN,
    DeliveryState.PENDING,
)
"""Those of originals that went out together: PENDING is what is missing there and goes again."""


class BreakerState(StrEnum):
    CLOSED = "CLOSED"
    OPEN = "OPEN"


class BreakerEvent(StrEnum):
    OPENED = "OPENED"
    FAILED = "FAILED"
    ANSWERED = "ANSWERED"


class CommitmentState(StrEnum):
    PENDING = "PENDING"
    REPORTING = "REPORTING"
    REPORTED = "REPORTED"
    DEAD = "DEAD"


class CommitmentEvent(StrEnum):
    STARTED = "STARTED"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    POSTPONED = "POSTPONED"
    INTERRUPTED = "INTERRUPTED"
    GIVEN_UP = "GIVEN_UP"
    RETRIED = "RETRIED"


class FetchState(StrEnum):
    PENDING = "PENDING"
    FETCHING = "FETCHING"
    FETCHED = "FETCHED"
    DEAD = "DEAD"
    SUPERSEDED = "SUPERSEDED"


class FetchEvent(StrEnum):
    STARTED = "STARTED"
    CAME = "CAME"
    POSTPONED = "POSTPONED"
    INTERRUPTED = "INTERRUPTED"
    GIVEN_UP = "GIVEN_UP"
    SUPERSEDED = "SUPERSEDED"
    RETRIED = "RETRIED"


class TrialState(StrEnum):
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"


class TrialEvent(StrEnum):
    STOPPED = "STOPPED"
    RETRIED = "RETRIED"


class ComparisonState(StrEnum):
    OPEN = "OPEN"
    COMPARED = "COMPARED"
    FAILED = "FAILED"
    UNCOMPARED = "UNCOMPARED"
    WITHDRAWN = "WITHDRAWN"


class ComparisonEvent(StrEnum):
    COMPARED = "COMPARED"
    FAILED = "FAILED"
    LEFT_OUT = "LEFT_OUT"
    WITHDRAWN = "WITHDRAWN"


STUDY_MOVES: Mapping[tuple[StudyState, StudyEvent], StudyState] = {
    # one more instance while the study is still arriving
    (StudyState.RECEIVING, StudyEvent.INSTANCE_STORED): StudyState.RECEIVING,
    # the evidence says that it is whole
    (StudyState.RECEIVING, StudyEvent.COMPLETED): StudyState.COMPLETE,
    # the rules were applied and their jobs exist
    (StudyState.COMPLETE, StudyEvent.ROUTED): StudyState.ROUTED,
    # a rule could not be applied to this study: a person decides
    (StudyState.COMPLETE, StudyEvent.ROUTING_FAILED): StudyState.PARKED,
    # a rule holds it: a person decides
    (StudyState.COMPLETE, StudyEvent.HELD): StudyState.PARKED,
    # the person decided
    (StudyState.PARKED, StudyEvent.RETRIED): StudyState.COMPLETE,
    # an engine has found what a rule waits for
    (StudyState.ROUTED, StudyEvent.FOUND): StudyState.COMPLETE,
    # routed once more: an engine was replaced, or a person changed the rules
    (StudyState.ROUTED, StudyEvent.RETRIED): StudyState.COMPLETE,
    # a late instance opens the next revision
    (StudyState.COMPLETE, StudyEvent.INSTANCE_STORED): StudyState.RECEIVING,
    (StudyState.ROUTED, StudyEvent.INSTANCE_STORED): StudyState.RECEIVING,
    (StudyState.PARKED, StudyEvent.INSTANCE_STORED): StudyState.RECEIVING,
}

JOB_MOVES: Mapping[tuple[JobState, JobEvent], JobState] = {
    # a worker took it; its attempt number fences the answer
    (JobState.QUEUED, JobEvent.STARTED): JobState.RUNNING,
    # results and their deliveries are in the ledger
    (JobState.RUNNING, JobEvent.FINISHED): JobState.DONE,
    # the engine was not made for this input
    (JobState.RUNNING, JobEvent.INPUT_REFUSED): JobState.REFUSED,
    # the engine raised: again later
    (JobState.RUNNING, JobEvent.FAILED): JobState.QUEUED,
    # the worker process died or was killed: again later
    (JobState.RUNNING, JobEvent.CRASHED): JobState.QUEUED,
    # the node stopped or was killed while it ran
    (JobState.RUNNING, JobEvent.INTERRUPTED): JobState.QUEUED,
    # too many failures or crashes: a person decides
    (JobState.RUNNING, JobEvent.GIVEN_UP): JobState.PARKED,
    # a newer revision of the study made this job pointless
    (JobState.QUEUED, JobEvent.SUPERSEDED): JobState.SUPERSEDED,
    (JobState.RUNNING, JobEvent.SUPERSEDED): JobState.SUPERSEDED,
    (JobState.PARKED, JobEvent.SUPERSEDED): JobState.SUPERSEDED,
    # the person decided
    (JobState.PARKED, JobEvent.RETRIED): JobState.QUEUED,
    (JobState.REFUSED, JobEvent.RETRIED): JobState.QUEUED,
    # a still newer revision has the old input again
    (JobState.SUPERSEDED, JobEvent.RETRIED): JobState.QUEUED,
}

DELIVERY_MOVES: Mapping[tuple[DeliveryState, DeliveryEvent], DeliveryState] = {
    # it is on its way
    (DeliveryState.PENDING, DeliveryEvent.STARTED): DeliveryState.SENDING,
    # the destination has answered nobody for days
    (DeliveryState.PENDING, DeliveryEvent.GIVEN_UP): DeliveryState.DEAD,
    # the destination answered Success or a warning (PS3.4 B.2.3)
    (DeliveryState.SENDING, DeliveryEvent.ACCEPTED): DeliveryState.SENT,
    # unreachable, aborted or out of resources: again later
    (DeliveryState.SENDING, DeliveryEvent.POSTPONED): DeliveryState.PENDING,
    # the node stopped or was killed while it was sending
    (DeliveryState.SENDING, DeliveryEvent.INTERRUPTED): DeliveryState.PENDING,
    # the destination will never take it, or the days of trying are over
    (DeliveryState.SENDING, DeliveryEvent.GIVEN_UP): DeliveryState.DEAD,
    # the destination is being asked to commit to it
    (DeliveryState.SENT, DeliveryEvent.ASKED): DeliveryState.SENT,
    # it has answered, whether it does or not: that is acted upon at once
    (DeliveryState.SENT, DeliveryEvent.ANSWERED): DeliveryState.SENT,
    # no answer yet, or none that says anything: it is asked again later
    (DeliveryState.SENT, DeliveryEvent.POSTPONED): DeliveryState.SENT,
    # the destination commits to it, or gives it back
    (DeliveryState.SENT, DeliveryEvent.PROVEN): DeliveryState.PROVEN,
    # it answered Success and does not have it: the same bytes go out again
    (DeliveryState.SENT, DeliveryEvent.MISSED): DeliveryState.PENDING,
    # nobody can say that it has it, or that it has not
    (DeliveryState.SENT, DeliveryEvent.UNPROVEN): DeliveryState.UNPROVEN,
    # it was sent often enough and is not there
    (DeliveryState.SENT, DeliveryEvent.GIVEN_UP): DeliveryState.DEAD,
    # an answer that came late
    (DeliveryState.UNPROVEN, DeliveryEvent.ANSWERED): DeliveryState.SENT,
    # the operator replays it
    (DeliveryState.DEAD, DeliveryEvent.RETRIED): DeliveryState.PENDING,
    (DeliveryState.SENT, DeliveryEvent.RETRIED): DeliveryState.PENDING,
    (DeliveryState.UNPROVEN, DeliveryEvent.RETRIED): DeliveryState.PENDING,
    (DeliveryState.PROVEN, DeliveryEvent.RETRIED): DeliveryState.PENDING,
}

BREAKER_MOVES: Mapping[tuple[BreakerState, BreakerEvent], BreakerState] = {
    # the destination could not be reached so many times in a row: nothing is sent to it
    (BreakerState.CLOSED, BreakerEvent.OPENED): BreakerState.OPEN,
    # it does not answer a C-ECHO either
    (BreakerState.OPEN, BreakerEvent.FAILED): BreakerState.OPEN,
    # it does: everything that waits goes out
    (BreakerState.OPEN, BreakerEvent.ANSWERED): BreakerState.CLOSED,
}

COMMITMENT_MOVES: Mapping[tuple[CommitmentState, CommitmentEvent], CommitmentState] = {
    # the requestor acknowledged the report on the association of its request
    (CommitmentState.PENDING, CommitmentEvent.ACKNOWLEDGED): CommitmentState.REPORTED,
    # it did not: the report goes out on an association of ours
    (CommitmentState.PENDING, CommitmentEvent.POSTPONED): CommitmentState.PENDING,
    # the report is on its way
    (CommitmentState.PENDING, CommitmentEvent.STARTED): CommitmentState.REPORTING,
    # the requestor acknowledged it
    (CommitmentState.REPORTING, CommitmentEvent.ACKNOWLEDGED): CommitmentState.REPORTED,
    # unreachable, aborted or out of resources: again later
    (CommitmentState.REPORTING, CommitmentEvent.POSTPONED): CommitmentState.PENDING,
    # the node stopped or was killed while it was reporting
    (CommitmentState.REPORTING, CommitmentEvent.INTERRUPTED): CommitmentState.PENDING,
    # the requestor will never take it, or the days of trying are over
    (CommitmentState.REPORTING, CommitmentEvent.GIVEN_UP): CommitmentState.DEAD,
    # the requestor asks again under the same Transaction UID
    (CommitmentState.PENDING, CommitmentEvent.RETRIED): CommitmentState.PENDING,
    (CommitmentState.REPORTING, CommitmentEvent.RETRIED): CommitmentState.PENDING,
    # so it does, or the operator has the report sent again
    (CommitmentState.REPORTED, CommitmentEvent.RETRIED): CommitmentState.PENDING,
    (CommitmentState.DEAD, CommitmentEvent.RETRIED): CommitmentState.PENDING,
}

FETCH_MOVES: Mapping[tuple[FetchState, FetchEvent], FetchState] = {
    # the archive is being asked
    (FetchState.PENDING, FetchEvent.STARTED): FetchState.FETCHING,
    # every prior study that was chosen is here; there may be none
    (FetchState.FETCHING, FetchEvent.CAME): FetchState.FETCHED,
    # unreachable, aborted, or not everything came: again later
    (FetchState.FETCHING, FetchEvent.POSTPONED): FetchState.PENDING,
    # the node stopped or was killed while it was fetching
    (FetchState.FETCHING, FetchEvent.INTERRUPTED): FetchState.PENDING,
    # the archive will never send them, or the job has waited long enough: it runs without
    (FetchState.FETCHING, FetchEvent.GIVEN_UP): FetchState.DEAD,
    (FetchState.PENDING, FetchEvent.GIVEN_UP): FetchState.DEAD,
    # the job that they are for is no longer wanted
    (FetchState.PENDING, FetchEvent.SUPERSEDED): FetchState.SUPERSEDED,
    (FetchState.FETCHING, FetchEvent.SUPERSEDED): FetchState.SUPERSEDED,
    # it is wanted after all
    (FetchState.SUPERSEDED, FetchEvent.RETRIED): FetchState.PENDING,
    # the operator has the archive asked again
    (FetchState.DEAD, FetchEvent.RETRIED): FetchState.PENDING,
}

TRIAL_MOVES: Mapping[tuple[TrialState, TrialEvent], TrialState] = {
    # a stop rule is fulfilled: no new study is tried
    (TrialState.RUNNING, TrialEvent.STOPPED): TrialState.STOPPED,
    # the operator starts it again; the stop rules count from there
    (TrialState.STOPPED, TrialEvent.RETRIED): TrialState.RUNNING,
}

COMPARISON_MOVES: Mapping[tuple[ComparisonState, ComparisonEvent], ComparisonState] = {
    # both versions have done their job, and this is how far they agree
    (ComparisonState.OPEN, ComparisonEvent.COMPARED): ComparisonState.COMPARED,
    # the candidate failed, crashed or refused what the version in use has done
    (ComparisonState.OPEN, ComparisonEvent.FAILED): ComparisonState.FAILED,
    # the version in use did not do it either, or the results cannot be read
    (ComparisonState.OPEN, ComparisonEvent.LEFT_OUT): ComparisonState.UNCOMPARED,
    # the trial was stopped before the candidate began
    (ComparisonState.OPEN, ComparisonEvent.WITHDRAWN): ComparisonState.WITHDRAWN,
}


def next_study_state(state: StudyState, event: StudyEvent) -> StudyState:
    """Return where `event` takes a study; InvariantBroken if the table has no such move."""
    return _next(STUDY_MOVES, state, event)


def next_job_state(state: JobState, event: JobEvent) -> JobState:
    """Return where `event` takes a job; InvariantBroken if the table has no such move."""
    return _next(JOB_MOVES, state, event)


def next_delivery_state(state: DeliveryState, event: DeliveryEvent) -> DeliveryState:
    """Return where `event` takes a delivery; InvariantBroken if the table has no such move."""
    return _next(DELIVERY_MOVES, state, event)


def next_breaker_state(state: BreakerState, event: BreakerEvent) -> BreakerState:
    """Return where `event` takes a circuit breaker; InvariantBroken if there is no such move."""
    return _next(BREAKER_MOVES, state, event)


def next_commitment_state(state: CommitmentState, event: CommitmentEvent) -> CommitmentState:
    """Return where `event` takes a commitment; InvariantBroken if the table has no such move."""
    return _next(COMMITMENT_MOVES, state, event)


def next_fetch_state(state: FetchState, event: FetchEvent) -> FetchState:
    """Return where `event` takes a fetch; InvariantBroken if the table has no such move."""
    return _next(FETCH_MOVES, state, event)


def next_trial_state(state: TrialState, event: TrialEvent) -> TrialState:
    """Return where `event` takes a trial; InvariantBroken if the table has no such move."""
    return _next(TRIAL_MOVES, state, event)


def next_comparison_state(state: ComparisonState, event: ComparisonEvent) -> ComparisonState:
    """Return where `event` takes a comparison; InvariantBroken if the table has no such move."""
    return _next(COMPARISON_MOVES, state, event)


def _next(moves: Mapping[tuple[State, Event], State], state: State, event: Event) -> State:
    try:
        return moves[(state, event)]
    except KeyError:
        raise InvariantBroken(f"{event} is no move from {state}") from None
