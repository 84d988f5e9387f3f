"""Trials of engine versions, and what the versions were compared on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Row,
    Table,
    and_,
    func,
    insert,
    select,
    update,
)

from dicom_node.ledger import schema
from dicom_node.ledger.database import Database
from dicom_node.ledger.events import write_event
from dicom_node.ledger.fetches import supersede_fetch
from dicom_node.ledger.results import send_results
from dicom_node.ledger.transitions import Transitions
from dicom_node.lifecycle import (
    ComparisonEvent,
    ComparisonState,
    JobEvent,
    JobState,
    TrialEvent,
    TrialState,
    next_comparison_state,
    next_job_state,
    next_trial_state,
)
from dicom_node.model import Job
from dicom_node.trials import Comparison, StopRule, Trial, TrialMode, TrialWanted

_TRIAL_MOVES = Transitions[TrialState, TrialEvent](schema.trials, "trial", next_trial_state)
_MOVES = Transitions[ComparisonState, ComparisonEvent](
    schema.comparisons, "comparison", next_comparison_state
)
_JOB_MOVES = Transitions[JobState, JobEvent](schema.jobs, "job", next_job_state)
_ENDED = tuple(state.value for state in (JobState.DONE, JobState.REFUSED, JobState.PARKED))


@dataclass(frozen=True)
class PlannedComparison:
    """Two jobs of one series: that of the version in use, and the candidate's."""

    wanted: TrialWanted
    current: Job
    candidate: Job


def plan_comparison(connection: Connection, planned: PlannedComparison, now: float) -> None:
    """Have two jobs compared once both have ended, unless they are to be already."""
    table = schema.comparisons
    jobs = (planned.current.job_id, planned.candidate.job_id)
    here = (table.c.current_job_id == jobs[0], table.c.candidate_job_id == jobs[1])
    if connection.execute(select(table.c.comparison_id).where(*here)).first() is not None:
        return
    connection.execute(
        insert(table).values(
            trial_id=_trial_of(connection, planned, now),
            study_instance_uid=planned.current.study_instance_uid,
            series_instance_uid=planned.current.series_instance_uid,
            current_job_id=jobs[0],
            candidate_job_id=jobs[1],
            mode=planned.wanted.mode.value,
            state=ComparisonState.OPEN.value,
            agreement={},
            reason="not compared yet",
            created_at=now,
            updated_at=now,
        )
    )


def _trial_of(connection: Connection, planned: PlannedComparison, now: float) -> int:
    """Return the number of a trial; one that is new is made, what its rule says is kept."""
    table, wanted = schema.trials, planned.wanted
    versions = _versions(planned.current, planned.candidate)
    here = and_(*(table.c[name] == value for name, value in versions.items()))
    said = {"mode": wanted.mode.value, "share": wanted.share, "stop": asdict(wanted.stop)}
    known = connection.execute(select(table.c.trial_id).where(here)).scalars().first()
    if known is not None:
        connection.execute(update(table).where(table.c.trial_id == known).values(**said))
        return int(known)
    connection.execute(
        insert(table).values(
            **versions,
            **said,
            state=TrialState.RUNNING.value,
            counts_from=now,
            reason=f"rule {planned.current.rule}",
            created_at=now,
            updated_at=now,
        )
    )
    trial_id = int(connection.execute(select(table.c.trial_id).where(here)).scalar_one())
    reason = f"rule {planned.current.rule}: {wanted.mode} of {planned.current.engine_name}"
    subject = ("trial", str(trial_id))
    write_event(connection, now, subject, "CREATED", reason, "", TrialState.RUNNING)
    return trial_id


def _versions(current: Job, candidate: Job) -> dict[str, str]:
    return {
        "current_engine": current.engine_name,
        "current_version": current.engine_version,
        "candidate_engine": candidate.engine_name,
        "candidate_version": candidate.engine_version,
    }


@dataclass(frozen=True)
class Ended:
    """An open comparison whose jobs have both come to their end."""

    comparison_id: int
    current: JobState
    candidate: JobState
    candidate_reason: str


class Trials:
    """The part of the ledger that knows how candidates do."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ------------------------------------------------------------ reading

    def get(self, trial_id: int) -> Trial | None:
        found = self._trials(schema.trials.c.trial_id == trial_id)
        return found[0] if found else None

    def all(self) -> list[Trial]:
        return self._trials()

    def takes(self, current: Job, candidate: Job) -> bool:
        """Return whether a candidate is to run beside a job.

        A trial that was stopped takes no new study. What it has begun on a study stays, and what
        was withdrawn there stays so.
        """
        table, c = schema.trials, schema.comparisons
        known = self._comparisons(
            c.c.current_job_id == current.job_id, c.c.candidate_job_id == candidate.job_id
        )
        if known:
            return known[0].state is not ComparisonState.WITHDRAWN
        versions = _versions(current, candidate)
        stopped = table.c.state == TrialState.STOPPED.value
        return not self._trials(stopped, *(table.c[name] == v for name, v in versions.items()))

    def comparison(self, comparison_id: int) -> Comparison | None:
        found = self._comparisons(schema.comparisons.c.comparison_id == comparison_id)
        return found[0] if found else None

    def of_study(self, study_instance_uid: str) -> list[Comparison]:
        return self._comparisons(schema.comparisons.c.study_instance_uid == study_instance_uid)

    def of_trial(
        self, trial_id: int, *states: ComparisonState, since: float = 0.0
    ) -> list[Comparison]:
        """Return the comparisons of a trial that came to one of these states since a time."""
        table = schema.comparisons
        return self._comparisons(
            table.c.trial_id == trial_id,
            table.c.state.in_([state.value for state in states]),
            table.c.updated_at >= since,
        )

    def ended(self, limit: int = 100) -> list[Ended]:
        """Return the open comparisons whose jobs have both come to their end, the oldest first."""
        table = schema.comparisons
        mine, theirs = schema.jobs.alias(), schema.jobs.alias()
        query = (
            select(
                table.c.comparison_id,
                mine.c.state.label("current"),
                theirs.c.state.label("candidate"),
                theirs.c.reason.label("said"),
            )
            .join(mine, mine.c.job_id == table.c.current_job_id)
            .join(theirs, theirs.c.job_id == table.c.candidate_job_id)
            .where(
                table.c.state == ComparisonState.OPEN.value,
                mine.c.state.in_(_ENDED),
                theirs.c.state.in_(_ENDED),
            )
            .order_by(table.c.comparison_id)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [
                Ended(row.comparison_id, JobState(row.current), JobState(row.candidate), row.said)
                for row in connection.execute(query)
            ]

    def counts(self, trial_id: int) -> dict[ComparisonState, int]:
        table = schema.comparisons
        query = (
            select(table.c.state, func.count())
            .where(table.c.trial_id == trial_id)
            .group_by(table.c.state)
        )
        with self._database.reading() as connection:
            return {ComparisonState(state): n for state, n in connection.execute(query)}

    # ------------------------------------------------------------ comparing

    def compared(
        self,
        comparison: Comparison,
        agreement: Mapping[str, Any],
        seconds: tuple[float | None, float | None],
        reason: str,
        now: float,
    ) -> bool:
        """Record how far both versions agree; return whether it was still open."""
        values = {"agreement": dict(agreement), "current_s": seconds[0], "candidate_s": seconds[1]}
        with self._database.writing() as connection:
            return self._end(
                connection, comparison, ComparisonEvent.COMPARED, reason, now, **values
            )

    def failed(self, comparison: Comparison, reason: str, now: float) -> bool:
        """The candidate did not do it; where its results were to be sent, the other's are."""
        with self._database.writing() as connection:
            if not self._end(connection, comparison, ComparisonEvent.FAILED, reason, now):
                return False
            self._send_the_others(connection, comparison, now)
            return True

    def left_out(self, comparison: Comparison, reason: str, now: float) -> bool:
        """There is nothing to compare, by no fault of the candidate's."""
        with self._database.writing() as connection:
            return self._end(connection, comparison, ComparisonEvent.LEFT_OUT, reason, now)

    # ------------------------------------------------------------ stopping

    def stop(self, trial: Trial, reason: str, now: float) -> bool:
        """Try no new study; what the candidate has not begun is withdrawn.

        Returns
        -------
        bool
            False if it was stopped already.
        """
        state, event = TrialState.RUNNING, TrialEvent.STOPPED
        with self._database.writing() as connection:
            if not _TRIAL_MOVES.move(connection, trial.trial_id, state, event, reason, now):
                return False
            for comparison in self._not_begun(connection, trial):
                job_id = comparison.candidate_job_id
                why = f"trial {trial.name} was stopped"
                if not _JOB_MOVES.move(
                    connection, job_id, JobState.QUEUED, JobEvent.SUPERSEDED, why, now
                ):
                    continue  # a worker has just taken it
                supersede_fetch(connection, job_id, why, now)
                self._end(connection, comparison, ComparisonEvent.WITHDRAWN, why, now)
                self._send_the_others(connection, comparison, now)
            return True

    def start_again(self, trial_id: int, now: float) -> bool:
        """Try new studies again; return whether it was stopped. Its stop rules count from now."""
        reason = "started again by the operator"
        state, event = TrialState.STOPPED, TrialEvent.RETRIED
        with self._database.writing() as connection:
            return _TRIAL_MOVES.move(
                connection, trial_id, state, event, reason, now, counts_from=now
            )

    def _end(
        self,
        connection: Connection,
        comparison: Comparison,
        event: ComparisonEvent,
        reason: str,
        now: float,
        **values: Any,
    ) -> bool:
        key, state = comparison.comparison_id, ComparisonState.OPEN
        return _MOVES.move(connection, key, state, event, reason, now, **values)

    def _send_the_others(self, connection: Connection, comparison: Comparison, now: float) -> None:
        """Send what the version in use has found, where the candidate's was to go."""
        table = schema.jobs
        here = table.c.job_id == comparison.candidate_job_id
        destinations = connection.execute(select(table.c.destinations).where(here)).scalar_one()
        if comparison.mode is TrialMode.CANARY and destinations:
            connection.execute(update(table).where(here).values(destinations=[]))
            job_id = comparison.current_job_id
            send_results(self._database, connection, job_id, now, to=destinations)
            to = ", ".join(destinations)
            reason = f"in place of those of {comparison.candidate_job_id}, its results go to {to}"
            write_event(connection, now, ("job", job_id), "SENT_INSTEAD", reason)

    def _not_begun(self, connection: Connection, trial: Trial) -> list[Comparison]:
        table, jobs = schema.comparisons, schema.jobs
        query = (
            select(*_columns(Comparison, table))
            .join(jobs, jobs.c.job_id == table.c.candidate_job_id)
            .where(
                table.c.trial_id == trial.trial_id,
                table.c.state == ComparisonState.OPEN.value,
                jobs.c.state == JobState.QUEUED.value,
            )
        )
        return [_comparison(row) for row in connection.execute(query)]

    def _trials(self, *conditions: ColumnElement[bool]) -> list[Trial]:
        table = schema.trials
        query = select(*_columns(Trial, table)).where(*conditions).order_by(table.c.trial_id)
        with self._database.reading() as connection:
            return [_trial(row) for row in connection.execute(query)]

    def _comparisons(self, *conditions: ColumnElement[bool]) -> list[Comparison]:
        table = schema.comparisons
        query = select(*_columns(Comparison, table)).where(*conditions)
        with self._database.reading() as connection:
            ordered = query.order_by(table.c.comparison_id)
            return [_comparison(row) for row in connection.execute(ordered)]


def _columns(kind: type[Trial] | type[Comparison], table: Table) -> list[Column[Any]]:
    return [table.c[field.name] for field in fields(kind)]


def _trial(row: Row[Any]) -> Trial:
    values = dict(row._mapping)
    values["mode"] = TrialMode(values["mode"])
    values["state"] = TrialState(values["state"])
    values["stop"] = StopRule(**values["stop"])
    return Trial(**values)


def _comparison(row: Row[Any]) -> Comparison:
    values = dict(row._mapping)
    values["mode"] = TrialMode(values["mode"])
    values["state"] = ComparisonState(values["state"])
    return Comparison(**values)
