"""What became of the engines when they were loaded: where their networks run, and how exactly."""

from __future__ import annotations

from dataclasses import fields

from sqlalchemy import select

from dicom_node.ledger import schema
from dicom_node.ledger.database import Database
from dicom_node.ledger.events import write_event
from dicom_node.model import Event

PARITY_ACCEPTED = "PARITY_ACCEPTED"
"""A network gave the answers of its engine's test vector; the reason says how far off."""
PARITY_REFUSED = "PARITY_REFUSED"
"""It did not, or could not be loaded: it is run in another way, or not at all."""

_KIND = "engine"


class Engines:
    """The part of the ledger that keeps how engines stood against their test vectors."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record_parity(self, at: float, engine: str, *, accepted: bool, reason: str) -> None:
        """Add the outcome of one way to run one network.

        Parameters
        ----------
        at : float
            Seconds since the epoch.
        engine : str
            Its name.
        accepted : bool
            Whether it serves this way.
        reason : str
            Which network, on what, and how far its answers are off: `Parity.in_words`.
        """
        event = PARITY_ACCEPTED if accepted else PARITY_REFUSED
        with self._database.writing() as connection:
            write_event(connection, at, (_KIND, engine), event, reason)

    def latest(self, engine: str) -> list[Event]:
        """Return what became of each way to run a network of an engine when it last was tried."""
        latest: dict[str, Event] = {}
        for event in self.parities(engine):
            latest.setdefault(event.reason.partition(": ")[0].rpartition(" ")[0], event)
        return list(latest.values())

    def parities(self, engine: str, limit: int = 100) -> list[Event]:
        """Return the outcomes of one engine, the latest first."""
        table = schema.events
        query = (
            select(*(table.c[field.name] for field in fields(Event)))
            .where(
                table.c.subject == engine,
                table.c.subject_kind == _KIND,
                table.c.event.in_((PARITY_ACCEPTED, PARITY_REFUSED)),
            )
            .order_by(table.c.event_id.desc())
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [Event(*row) for row in connection.execute(query)]
