"""Fetches: the prior studies that a job waits for, on their way from an archive.

The row is made in the transaction that makes its job, and the job is not ready until it has come
to its end. A study is noted before it is asked for: so whatever comes of it is known to be a prior
study, and not one to be routed, even after a crash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, exists, func, insert, select, update

from dicom_node.ledger import schema
from dicom_node.ledger.attempts import Attempts
from dicom_node.ledger.database import Database
from dicom_node.ledger.events import write_event
from dicom_node.ledger.transitions import Transitions, is_due
from dicom_node.lifecycle import FetchEvent, FetchState, JobState, next_fetch_state
from dicom_node.model import Instance, Priority
from dicom_node.priors import FetchedPrior, PriorFetch, PriorsWanted

_MOVES = Transitions[FetchState, FetchEvent](schema.prior_fetches, "fetch", next_fetch_state)
_OPEN = (FetchState.PENDING, FetchState.FETCHING)

WITHOUT_PRIORS = "WITHOUT_PRIORS"
"""The event of a job that no longer waits for prior studies."""

SENT_ON_S = 600.0
"""So long an archive may go on sending when nobody listens to its answers any more."""


@dataclass(frozen=True)
class PlannedFetch:
    """The prior studies that a job is to wait for."""

    job_id: str
    wanted: PriorsWanted


def plan_fetch(connection: Connection, fetch: PlannedFetch, now: float) -> None:
    """Have a job wait for prior studies, unless it has begun, or they were asked for already."""
    jobs, table = schema.jobs, schema.prior_fetches
    query = select(jobs.c.study_instance_uid, jobs.c.series_instance_uid).where(
        jobs.c.job_id == fetch.job_id, jobs.c.state == JobState.QUEUED.value
    )
    job = connection.execute(query).first()
    if job is None:
        return
    here = table.c.job_id == fetch.job_id
    known = connection.execute(select(table.c.fetch_id, table.c.state).where(here)).first()
    if known is not None:
        if known.state == FetchState.SUPERSEDED.value:
            _retry(connection, known.fetch_id, FetchState.SUPERSEDED, "wanted again", fetch, now)
        return
    connection.execute(
        insert(table).values(
            job_id=fetch.job_id,
            study_instance_uid=job.study_instance_uid,
            series_instance_uid=job.series_instance_uid,
            source=fetch.wanted.source,
            wanted=asdict(fetch.wanted),
            state=FetchState.PENDING.value,
            attempt=0,
            failures=0,
            not_before=now,
            give_up_at=now + fetch.wanted.wait_s,
            reason="not tried yet",
            created_at=now,
            updated_at=now,
        )
    )
    fetch_id = connection.execute(select(table.c.fetch_id).where(here)).scalar_one()
    reason = f"job {fetch.job_id} waits for prior studies from {fetch.wanted.source}"
    subject = ("fetch", str(fetch_id))
    write_event(connection, now, subject, "CREATED", reason, "", FetchState.PENDING)


def supersede_fetch(connection: Connection, job_id: str, reason: str, now: float) -> None:
    """End the fetch of a job that is no longer wanted; what has come of it stays."""
    table = schema.prior_fetches
    query = select(table.c.fetch_id, table.c.state).where(
        table.c.job_id == job_id, table.c.state.in_([state.value for state in _OPEN])
    )
    row = connection.execute(query.with_for_update()).first()
    if row is not None:
        state = FetchState(row.state)
        _MOVES.move(connection, row.fetch_id, state, FetchEvent.SUPERSEDED, reason, now)
        _end_asking(connection, row.fetch_id, now)


def waits_for_priors() -> ColumnElement[bool]:
    """Return the condition that a job waits for its prior studies."""
    table = schema.prior_fetches
    return exists().where(
        table.c.job_id == schema.jobs.c.job_id,
        table.c.state.in_([state.value for state in _OPEN]),
    )


class Fetches:
    """The part of the ledger that the fetcher of prior studies works off."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._attempts = Attempts(
            database, _MOVES, FetchState.PENDING, FetchState.FETCHING, FetchEvent.STARTED
        )

    # ------------------------------------------------------------ reading

    def get(self, fetch_id: int) -> PriorFetch | None:
        found = self._read(schema.prior_fetches.c.fetch_id == fetch_id)
        return found[0] if found else None

    def for_job(self, job_id: str) -> PriorFetch | None:
        """Return the fetch that a job waits for or has waited for."""
        found = self._read(schema.prior_fetches.c.job_id == job_id)
        return found[0] if found else None

    def of_job(self, job_id: str) -> tuple[str, ...]:
        """Return the Study Instance UIDs of the prior studies of a job that are here, and whole."""
        fetch = self.for_job(job_id)
        if fetch is None:
            return ()
        return tuple(p.study_instance_uid for p in self.priors(fetch.fetch_id) if p.is_whole)

    def in_states(self, *states: FetchState) -> list[PriorFetch]:
        return self._read(schema.prior_fetches.c.state.in_([state.value for state in states]))

    def ready(self, source: str, now: float) -> PriorFetch | None:
        """Return what is to be fetched now from an archive: the most urgent, then the oldest."""
        table = schema.prior_fetches
        found = self._read(
            table.c.source == source,
            table.c.state == FetchState.PENDING.value,
            is_due(table.c.not_before, now),
            ~is_due(table.c.give_up_at, now),
            limit=1,
        )
        return found[0] if found else None

    def sources_ready(self, now: float) -> list[tuple[str, Priority]]:
        """Return the archives that something can be asked of now, and how urgent it is."""
        f, j = schema.prior_fetches, schema.jobs
        query = (
            select(f.c.source, func.min(j.c.priority))
            .join(j, j.c.job_id == f.c.job_id)
            .where(
                f.c.state == FetchState.PENDING.value,
                is_due(f.c.not_before, now),
                ~is_due(f.c.give_up_at, now),
            )
            .group_by(f.c.source)
        )
        with self._database.reading() as connection:
            return [(name, Priority(urgency)) for name, urgency in connection.execute(query)]

    def priors(self, fetch_id: int) -> list[FetchedPrior]:
        """Return the studies that a fetch has chosen, as it asked for them."""
        table = schema.fetched_priors
        query = (
            select(*[table.c[field.name] for field in fields(FetchedPrior)])
            .where(table.c.fetch_id == fetch_id)
            .order_by(table.c.asked_at, table.c.study_instance_uid)
        )
        with self._database.reading() as connection:
            return [FetchedPrior(*row) for row in connection.execute(query)]

    def askings(self, study_instance_uid: str) -> list[tuple[str, FetchedPrior]]:
        """Return who asked for a study as a prior: the current study's UID, and what was noted."""
        p, f = schema.fetched_priors, schema.prior_fetches
        query = (
            select(
                f.c.study_instance_uid.label("current"),
                *[p.c[field.name] for field in fields(FetchedPrior)],
            )
            .join(f, f.c.fetch_id == p.c.fetch_id)
            .where(p.c.study_instance_uid == study_instance_uid, p.c.was_held.is_(False))
            .order_by(p.c.asked_at, f.c.fetch_id)
        )
        with self._database.reading() as connection:
            return [(row[0], FetchedPrior(*row[1:])) for row in connection.execute(query)]

    # ------------------------------------------------------------ working

    def start(self, fetch: PriorFetch, now: float) -> PriorFetch | None:
        """Take a fetch for one more attempt; None if it is no longer to be had."""
        with self._database.writing() as connection:
            taken = self._attempts.start(connection, fetch.fetch_id, fetch.attempt, now)
        return self.get(fetch.fetch_id) if taken else None

    def note(self, fetch: PriorFetch, prior: FetchedPrior) -> bool:
        """Note a chosen study, before it is asked for and after; False if nobody wants it now.

        What an earlier attempt asked for stays asked for since then.
        """
        f, table = schema.prior_fetches, schema.fetched_priors
        mine = (
            f.c.fetch_id == fetch.fetch_id,
            f.c.state == FetchState.FETCHING.value,
            f.c.attempt == fetch.attempt,
        )
        row = {"fetch_id": fetch.fetch_id, **asdict(prior)}
        with self._database.writing() as connection:
            if connection.execute(select(f.c.fetch_id).where(*mine).with_for_update()).first():
                if not self._database.insert_new(connection, table, row):
                    del row["asked_at"], row["was_held"]
                    here = (
                        table.c.fetch_id == fetch.fetch_id,
                        table.c.study_instance_uid == prior.study_instance_uid,
                    )
                    connection.execute(update(table).where(*here).values(**row))
                return True
            return False

    def fetched(self, fetch: PriorFetch, reason: str, now: float) -> bool:
        """Everything that was chosen is here: the job may begin."""
        with self._database.writing() as connection:
            return self._end_attempt(connection, fetch, FetchEvent.CAME, reason, now)

    def postpone(self, fetch: PriorFetch, reason: str, not_before: float, now: float) -> bool:
        with self._database.writing() as connection:
            return self._end_attempt(
                connection,
                fetch,
                FetchEvent.POSTPONED,
                reason,
                now,
                not_before=not_before,
                failures=fetch.failures + 1,
            )

    def interrupt(self, fetch: PriorFetch, reason: str, now: float) -> bool:
        """Nobody has this fetch in hand any more, by no fault of its own."""
        with self._database.writing() as connection:
            return self._end_attempt(
                connection, fetch, FetchEvent.INTERRUPTED, reason, now, not_before=now
            )

    def give_up(self, fetch: PriorFetch, reason: str, now: float) -> bool:
        """The archive will never send them: the job runs without, and its events say so."""
        with self._database.writing() as connection:
            moved = self._end_attempt(connection, fetch, FetchEvent.GIVEN_UP, reason, now)
            if moved:
                _tell_job(connection, fetch, reason, now)
            return moved

    def give_up_late(self, now: float) -> int:
        """End every fetch whose job has waited long enough; return how many."""
        table = schema.prior_fetches
        late = self._read(
            table.c.state.in_([state.value for state in _OPEN]), is_due(table.c.give_up_at, now)
        )
        ended = 0
        for fetch in late:
            reason = f"waited {fetch.wanted.wait_s:g} s for {fetch.source}: {fetch.reason}"
            with self._database.writing() as connection:
                moved = _MOVES.move(
                    connection,
                    fetch.fetch_id,
                    fetch.state,
                    FetchEvent.GIVEN_UP,
                    reason,
                    now,
                    table.c.attempt == fetch.attempt,
                )
                if moved:
                    _end_asking(connection, fetch.fetch_id, now)
                    _tell_job(connection, fetch, reason, now)
            ended += moved
        return ended

    def retry(self, fetch_id: int, now: float) -> bool:
        """Ask the archive again; a job that has not begun waits for it once more."""
        fetch = self.get(fetch_id)
        if fetch is None or fetch.state is not FetchState.DEAD:
            return False
        planned = PlannedFetch(fetch.job_id, fetch.wanted)
        with self._database.writing() as connection:
            reason = "retried by the operator"
            return _retry(connection, fetch_id, FetchState.DEAD, reason, planned, now)

    def _end_attempt(
        self,
        connection: Connection,
        fetch: PriorFetch,
        event: FetchEvent,
        reason: str,
        now: float,
        **values: Any,
    ) -> bool:
        moved = self._attempts.end(
            connection, fetch.fetch_id, fetch.attempt, event, reason, now, **values
        )
        if moved:
            _end_asking(connection, fetch.fetch_id, now)
        return moved

    def _read(self, *conditions: ColumnElement[bool], limit: int | None = None) -> list[PriorFetch]:
        f, j = schema.prior_fetches, schema.jobs
        query = (
            select(*[f.c[field.name] for field in fields(PriorFetch)])
            .join(j, j.c.job_id == f.c.job_id)
            .where(*conditions)
            .order_by(j.c.priority, f.c.created_at, f.c.fetch_id)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [_fetch(row) for row in connection.execute(query)]


def was_asked_for(instance: Instance, askings: Sequence[tuple[str, FetchedPrior]]) -> bool:
    """Return whether an instance came because its study was asked for, and not by itself."""
    return any(
        instance.calling_ae_title == prior.calling_ae_title
        and prior.asked_at <= instance.received_at
        and (prior.ended_at is None or instance.received_at <= prior.ended_at)
        for _, prior in askings
    )


def _retry(
    connection: Connection,
    fetch_id: int,
    state: FetchState,
    reason: str,
    fetch: PlannedFetch,
    now: float,
) -> bool:
    return _MOVES.move(
        connection,
        fetch_id,
        state,
        FetchEvent.RETRIED,
        reason,
        now,
        source=fetch.wanted.source,
        wanted=asdict(fetch.wanted),
        failures=0,
        not_before=now,
        give_up_at=now + fetch.wanted.wait_s,
    )


def _end_asking(connection: Connection, fetch_id: int, now: float) -> None:
    """Note that what was asked for and has not ended may still come for a while."""
    table = schema.fetched_priors
    open_ended = (table.c.fetch_id == fetch_id, table.c.ended_at.is_(None))
    connection.execute(update(table).where(*open_ended).values(ended_at=now + SENT_ON_S))


def _tell_job(connection: Connection, fetch: PriorFetch, reason: str, now: float) -> None:
    """Say in the reason and the events of a job that has waited that it runs without."""
    table = schema.jobs
    text = f"without prior studies: {reason}"
    queued = (table.c.job_id == fetch.job_id, table.c.state == JobState.QUEUED.value)
    waited = update(table).where(*queued).values(reason=table.c.reason + f"; {text}")
    if connection.execute(waited).rowcount:
        write_event(connection, now, ("job", fetch.job_id), WITHOUT_PRIORS, text)


def _fetch(row: Row[Any]) -> PriorFetch:
    values = dict(row._mapping)
    wanted = values["wanted"]
    for several in ("modalities", "body_parts"):
        wanted[several] = tuple(wanted[several])
    values["wanted"] = PriorsWanted(**wanted)
    values["state"] = FetchState(values["state"])
    return PriorFetch(**values)
