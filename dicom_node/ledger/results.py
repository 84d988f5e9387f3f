"""Results: what jobs have made, and which of it replaces what."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, select, update

from dicom_node.errors import InvariantBroken
from dicom_node.ledger import schema
from dicom_node.ledger.database import Database
from dicom_node.ledger.deliveries import plan_delivery
from dicom_node.lifecycle import JobState
from dicom_node.model import DEFAULT_RENDITION, REJECTION, Job, Priority, Result


def send_results(
    database: Database,
    connection: Connection,
    job_id: str,
    now: float,
    to: Sequence[str] | None = None,
    only_to: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Have the results of a job sent, once it is done: those that it has, or will have.

    Where to is read from the row, since a job may be told while it runs. A destination gets the
    tree of its rendition as a whole; one of which the job knows nothing gets the default one.

    Parameters
    ----------
    to : sequence of str, optional
        Other destinations than those that it has.
    only_to : mapping, optional
        By kind of result, the only destinations that get it.
    """
    table = schema.jobs
    here = table.c.job_id == job_id
    if to is not None:
        connection.execute(update(table).where(here).values(destinations=list(to)))
    query = select(table.c.state, table.c.destinations, table.c.priority, table.c.renditions).where(
        here
    )
    job = connection.execute(query).one()
    if job.state != JobState.DONE.value:
        return
    columns = [schema.results.c[field.name] for field in fields(Result)]
    made = connection.execute(select(*columns).where(schema.results.c.job_id == job_id)).all()
    for result in map(read_result, made):
        for destination in job.destinations:
            rendition = job.renditions.get(destination, DEFAULT_RENDITION)
            if result.kind in (only_to or {}):
                is_wanted = destination in (only_to or {})[result.kind]
            else:
                is_wanted = rendition in result.renditions
            if is_wanted:
                priority = Priority(job.priority)
                plan_delivery(database, connection, result, destination, priority, now)


def require_same_job(connection: Connection, result: Result) -> None:
    """Raise InvariantBroken if a result that is recorded is another job's."""
    table = schema.results
    query = select(table.c.job_id).where(table.c.sop_instance_uid == result.sop_instance_uid)
    if connection.execute(query).scalar_one() != result.job_id:
        raise InvariantBroken(f"another job has made {result.sop_instance_uid} already")


def read_result(row: Any) -> Result:
    """Return the result in a row that has all of its columns."""
    values = {field.name: row._mapping[field.name] for field in fields(Result)}
    values["renditions"] = tuple(values["renditions"])
    return Result(**values)


class Results:
    """The part of the ledger that tells what jobs have made."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_job(self, job_id: str) -> list[Result]:
        table = schema.results
        query = (
            select(*[table.c[field.name] for field in fields(Result)])
            .where(table.c.job_id == job_id)
            .order_by(table.c.kind)
        )
        with self._database.reading() as connection:
            return [read_result(row) for row in connection.execute(query)]

    def earlier_reports(self, job: Job) -> list[Result]:
        """Return the SR of older jobs of the same engine on the same series, the oldest first."""
        r, j = schema.results, schema.jobs
        query = (
            select(*[r.c[field.name] for field in fields(Result)])
            .join(j, j.c.job_id == r.c.job_id)
            .where(
                r.c.kind == "SR",
                j.c.study_instance_uid == job.study_instance_uid,
                j.c.series_instance_uid == job.series_instance_uid,
                j.c.engine_name == job.engine_name,
                j.c.created_at < job.created_at,
            )
            .order_by(j.c.created_at)
        )
        with self._database.reading() as connection:
            return [read_result(row) for row in connection.execute(query)]

    def replaced_by(self, job: Job, destinations: Collection[str]) -> list[Result]:
        """Return what some destinations were to get of the last job that this one replaces.

        That is of the same engine on the same series, in an earlier revision or with the same
        parameters; with others in the same revision, both stand. Rejection notes are left aside.
        """
        r, j, d = schema.results, schema.jobs, schema.deliveries
        replacing = (j.c.created_at, j.c.revision, j.c.parameters)
        query = (
            select(*[r.c[field.name] for field in fields(Result)], *replacing)
            .join(j, j.c.job_id == r.c.job_id)
            .where(
                r.c.kind != REJECTION,
                r.c.sop_instance_uid.in_(
                    select(d.c.sop_instance_uid).where(d.c.destination.in_(list(destinations)))
                ),
                j.c.study_instance_uid == job.study_instance_uid,
                j.c.series_instance_uid == job.series_instance_uid,
                j.c.engine_name == job.engine_name,
                j.c.created_at < job.created_at,
            )
            .order_by(j.c.created_at, r.c.kind)
        )
        with self._database.reading() as connection:
            found = [
                (read_result(row), row.created_at)
                for row in connection.execute(query)
                if row.revision < job.revision or row.parameters == dict(job.parameters)
            ]
        return [result for result, created_at in found if created_at == found[-1][1]]
