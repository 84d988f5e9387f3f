"""Jobs: one engine on one series; from QUEUED to its results, each step fenced by its attempt."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, or_, select, update

from dicom_node.ledger import schema
from dicom_node.ledger.attempts import Attempts
from dicom_node.ledger.database import Database
from dicom_node.ledger.events import write_event
from dicom_node.ledger.fetches import supersede_fetch, waits_for_priors
from dicom_node.ledger.results import require_same_job, send_results
from dicom_node.ledger.transitions import Transitions, is_due
from dicom_node.lifecycle import JobEvent, JobState, next_job_state
from dicom_node.model import (
    Attributes,
    Job,
    JobRole,
    Priority,
    Result,
    Study,
)

_MOVES = Transitions[JobState, JobEvent](schema.jobs, "job", next_job_state)
_SUPERSEDABLE = (JobState.QUEUED, JobState.RUNNING, JobState.PARKED)
_IS_SHADOW = schema.jobs.c.role == JobRole.SHADOW.value


def _could_run(now: float) -> ColumnElement[bool]:
    table = schema.jobs
    queued = table.c.state == JobState.QUEUED.value
    return and_(queued, is_due(table.c.not_before, now), ~waits_for_priors())


class Jobs:
    """The part of the ledger that the router makes and the worker works off."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._attempts = Attempts(
            database, _MOVES, JobState.QUEUED, JobState.RUNNING, JobEvent.STARTED
        )

    # ------------------------------------------------------------ reading

    def get(self, job_id: str) -> Job | None:
        found = self._read(schema.jobs.c.job_id == job_id)
        return found[0] if found else None

    def of_study(self, study_instance_uid: str) -> list[Job]:
        return self._read(schema.jobs.c.study_instance_uid == study_instance_uid)

    def in_states(self, *states: JobState) -> list[Job]:
        return self._read(schema.jobs.c.state.in_([state.value for state in states]))

    def ready(self, now: float, limit: int = 100) -> list[Job]:
        """Return what could run now, the most urgent first, then the oldest.

        What waits for prior studies could not. Shadows are no part of it.
        """
        return self._read(_could_run(now), ~_IS_SHADOW, limit=limit)

    def shadows_ready(self, now: float, limit: int) -> list[Job]:
        """Return the shadows that could run now, the oldest first."""
        return self._read(_could_run(now), _IS_SHADOW, limit=limit)

    def are_waited_for(self, now: float) -> bool:
        """Return whether there is work to be done, or being done, that is no shadow's."""
        running = schema.jobs.c.state == JobState.RUNNING.value
        return bool(self._read(or_(running, _could_run(now)), ~_IS_SHADOW, limit=1))

    def counts(self) -> dict[JobState, int]:
        """Return how many jobs, shadows apart, are in each state that occurs."""
        return self._attempts.counts(~_IS_SHADOW)

    # ------------------------------------------------------------ routing

    def order(self, connection: Connection, study: Study, jobs: Sequence[Job], now: float) -> None:
        """Make the jobs of a study that are new, and supersede those that it no longer asks for.

        A job that exists already has the same input and the same engine: its results stand, and it
        is not made again.
        """
        for job in jobs:
            row = {field.name: getattr(job, field.name) for field in fields(Job)}
            row |= {"destinations": list(job.destinations), "seconds": dict(job.seconds)}
            row |= {"parameters": dict(job.parameters), "facts": {}}
            if self._database.insert_new(connection, schema.jobs, row):
                subject = ("job", job.job_id)
                write_event(connection, now, subject, "CREATED", job.reason, "", job.state)
            else:
                self._order_again(connection, study, job, now)
        self._supersede(connection, study, {job.job_id for job in jobs}, now)

    def _order_again(self, connection: Connection, study: Study, job: Job, now: float) -> None:
        """Note that a job is still wanted; one that was superseded runs after all."""
        table = schema.jobs
        here = table.c.job_id == job.job_id
        query = select(table.c.revision, table.c.role, table.c.destinations).where(here)
        before = connection.execute(query).one()
        connection.execute(update(table).where(here).values(revision=study.revision))
        if job.destinations and not before.destinations:
            self._promote(connection, job, now)
        again = f"revision {study.revision} has the input of this job again"
        moved = _MOVES.move(
            connection,
            job.job_id,
            JobState.SUPERSEDED,
            JobEvent.RETRIED,
            again,
            now,
            not_before=now,
            failures=0,
            crashes=0,
        )
        if not moved and before.revision != study.revision:
            subject = ("job", job.job_id)
            write_event(connection, now, subject, "UNCHANGED", f"{again}; it stands")

    def _promote(self, connection: Connection, job: Job, now: float) -> None:
        """Have the results of a job that was only compared sent; one that failed runs anew."""
        table = schema.jobs
        role, priority = job.role.value, int(job.priority)
        connection.execute(
            update(table)
            .where(table.c.job_id == job.job_id)
            .values(role=role, priority=priority, rule=job.rule)
        )
        reason = f"its results go to {', '.join(job.destinations)} from now on"
        write_event(connection, now, ("job", job.job_id), "PROMOTED", reason)
        _MOVES.move(
            connection,
            job.job_id,
            JobState.PARKED,
            JobEvent.RETRIED,
            reason,
            now,
            not_before=now,
            failures=0,
            crashes=0,
        )
        send_results(self._database, connection, job.job_id, now, to=job.destinations)

    def _supersede(
        self, connection: Connection, study: Study, wanted: set[str], now: float
    ) -> None:
        table = schema.jobs
        query = select(table.c.job_id, table.c.state).where(
            table.c.study_instance_uid == study.study_instance_uid,
            table.c.state.in_([state.value for state in _SUPERSEDABLE]),
        )
        for job_id, state in connection.execute(query).all():
            if job_id not in wanted:
                reason = f"revision {study.revision} of the study no longer asks for it"
                _MOVES.move(connection, job_id, JobState(state), JobEvent.SUPERSEDED, reason, now)
                supersede_fetch(connection, job_id, reason, now)

    # ------------------------------------------------------------ working

    def start(self, job_id: str, now: float) -> Job | None:
        """Take a queued job for one more attempt; None if it is no longer to be had."""
        return next(iter(self.start_all([job_id], now)), None)

    def start_all(self, job_ids: Sequence[str], now: float) -> list[Job]:
        """Take queued jobs at once, each for one more attempt; return those still to be had."""
        waiting = [
            job
            for job in map(self.get, job_ids)
            if job is not None and job.state is JobState.QUEUED
        ]
        if not waiting:
            return []
        with self._database.writing() as connection:
            taken = [
                job.job_id
                for job in waiting
                if self._attempts.start(connection, job.job_id, job.attempt, now)
            ]
        return [job for job in map(self.get, taken) if job is not None]

    def is_current(self, job: Job) -> bool:
        """Return whether an attempt is still under way: nobody superseded or interrupted it."""
        now = self.get(job.job_id)
        return now is not None and (now.state, now.attempt) == (JobState.RUNNING, job.attempt)

    def finish(
        self,
        job: Job,
        results: Sequence[Result],
        summary: str,
        seconds: Mapping[str, float],
        now: float,
        facts: Attributes | None = None,
        renditions: Mapping[str, str] | None = None,
        only_to: Mapping[str, Collection[str]] | None = None,
    ) -> bool:
        """Record the results of an attempt and their deliveries.

        Parameters
        ----------
        renditions : mapping, optional
            Which tree each destination gets; the default one where nothing is said.
        only_to : mapping, optional
            By kind of result, the only destinations that get it, whatever their tree.

        Returns
        -------
        bool
            False if this attempt is no longer the current one: its results are not recorded.
        """
        with self._database.writing() as connection:
            moved = self._end_attempt(
                connection,
                job,
                JobEvent.FINISHED,
                f"{len(results)} results",
                now,
                summary=summary,
                seconds=dict(seconds),
                facts={fact: list(values) for fact, values in (facts or {}).items()},
                renditions=dict(renditions or {}),
            )
            if not moved:
                return False
            for result in results:
                row = {field.name: getattr(result, field.name) for field in fields(Result)}
                row["renditions"] = list(result.renditions)
                if not self._database.insert_new(connection, schema.results, row):
                    require_same_job(connection, result)
            send_results(self._database, connection, job.job_id, now, only_to=only_to)
            return True

    def refuse(self, job: Job, reason: str, now: float) -> bool:
        """The engine was not made for this input; a person decides."""
        with self._database.writing() as connection:
            return self._end_attempt(connection, job, JobEvent.INPUT_REFUSED, reason, now)

    def supersede(self, job: Job, reason: str, now: float) -> bool:
        """Its input or its engine is no longer what it was made for."""
        with self._database.writing() as connection:
            return self._end_attempt(connection, job, JobEvent.SUPERSEDED, reason, now)

    def fail(
        self, job: Job, reason: str, not_before: float, now: float, *, counts: bool = True
    ) -> bool:
        """It failed; the job waits until `not_before`. `counts`: it was the job's own fault."""
        with self._database.writing() as connection:
            return self._end_attempt(
                connection,
                job,
                JobEvent.FAILED,
                reason,
                now,
                not_before=not_before,
                failures=job.failures + counts,
            )

    def crash(self, job: Job, reason: str, not_before: float, now: float) -> bool:
        """The worker process died with this job in hand."""
        with self._database.writing() as connection:
            return self._end_attempt(
                connection,
                job,
                JobEvent.CRASHED,
                reason,
                now,
                not_before=not_before,
                crashes=job.crashes + 1,
            )

    def interrupt(self, job: Job, reason: str, now: float) -> bool:
        """Nobody has this job in hand any more, by no fault of its own."""
        with self._database.writing() as connection:
            return self._end_attempt(connection, job, JobEvent.INTERRUPTED, reason, now)

    def give_up(self, job: Job, reason: str, now: float) -> bool:
        """Park a job until a person retries it."""
        with self._database.writing() as connection:
            return self._end_attempt(connection, job, JobEvent.GIVEN_UP, reason, now)

    def retry(self, job_id: str, now: float) -> bool:
        """Queue a parked or refused job again, with a clean count."""
        job = self.get(job_id)
        if job is None or job.state not in {JobState.PARKED, JobState.REFUSED}:
            return False
        with self._database.writing() as connection:
            return _MOVES.move(
                connection,
                job_id,
                job.state,
                JobEvent.RETRIED,
                "retried by the operator",
                now,
                not_before=now,
                failures=0,
                crashes=0,
            )

    def _end_attempt(
        self,
        connection: Connection,
        job: Job,
        event: JobEvent,
        reason: str,
        now: float,
        **values: Any,
    ) -> bool:
        return self._attempts.end(connection, job.job_id, job.attempt, event, reason, now, **values)

    def _read(self, *conditions: ColumnElement[bool], limit: int | None = None) -> list[Job]:
        table = schema.jobs
        query = (
            select(*[table.c[field.name] for field in fields(Job)])
            .where(*conditions)
            .order_by(table.c.priority, table.c.created_at, table.c.job_id)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [_job(row) for row in connection.execute(query)]


def _job(row: Row[Any]) -> Job:
    values = dict(row._mapping)
    values["destinations"] = tuple(values["destinations"])
    values["priority"] = Priority(values["priority"])
    values["state"] = JobState(values["state"])
    values["role"] = JobRole(values["role"])
    values["facts"] = {fact: tuple(of_it) for fact, of_it in values["facts"].items()}
    return Job(**values)
