"""Event rows: one for each transition, written in its transaction."""

from __future__ import annotations

from dataclasses import fields

from sqlalchemy import ColumnElement, Connection, func, insert, select

from dicom_node.ledger import schema
from dicom_node.ledger.database import Database
from dicom_node.model import Event

INSTANCE_REFUSED = "INSTANCE_REFUSED"
"""The event of an association that refused an instance; its reason is the SOP Instance UID."""


def write_event(
    connection: Connection,
    at: float,
    subject: tuple[str, str],
    event: str,
    reason: str,
    from_state: str = "",
    to_state: str = "",
) -> None:
    """Add one event row; `subject` is (kind, identifier)."""
    connection.execute(
        insert(schema.events).values(
            at=at,
            subject_kind=subject[0],
            subject=subject[1],
            event=event,
            from_state=from_state,
            to_state=to_state,
            reason=reason,
        )
    )


class Events:
    """Reading events, and writing those that change no state."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, at: float, subject: tuple[str, str], event: str, reason: str) -> None:
        """Add an event that is no transition: an association refused, a stage that failed."""
        with self._database.writing() as connection:
            write_event(connection, at, subject, event, reason)

    def of(self, subject: str) -> list[Event]:
        """Return the events of one study, job, delivery, instance or association, oldest first."""
        return self._read(schema.events.c.subject == subject)

    def named(self, event: str) -> list[Event]:
        """Return all events of one name, oldest first."""
        return self._read(schema.events.c.event == event)

    def summed(self, *events: str, limit: int) -> list[tuple[Event, int]]:
        """Return events of some names, repeats of the same put together, the latest first.

        Returns
        -------
        list of (Event, int)
            The last of its kind, without states, and how often it came.
        """
        table = schema.events
        last = func.max(table.c.at)
        same = (table.c.subject_kind, table.c.subject, table.c.event, table.c.reason)
        query = (
            select(*same, last.label("at"), func.count().label("times"))
            .where(table.c.event.in_(events))
            .group_by(*same)
            .order_by(last.desc())
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [
                (Event(r.at, r.subject_kind, r.subject, r.event, "", "", r.reason), r.times)
                for r in connection.execute(query)
            ]

    def count(self, *events: str) -> int:
        """Return how many events have one of these names."""
        table = schema.events
        query = select(func.count()).where(table.c.event.in_(events))
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def _read(self, condition: ColumnElement[bool]) -> list[Event]:
        columns = [schema.events.c[field.name] for field in fields(Event)]
        query = select(*columns).where(condition).order_by(schema.events.c.event_id)
        with self._database.reading() as connection:
            return [Event(*row) for row in connection.execute(query)]
