"""Circuit breakers: the destinations that do not answer, and when each is probed next."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, Row, select, update

from dicom_node.ledger import schema
from dicom_node.ledger.database import Database
from dicom_node.ledger.transitions import Transitions
from dicom_node.lifecycle import BreakerEvent, BreakerState, next_breaker_state
from dicom_node.model import Breaker

_MOVES = Transitions[BreakerState, BreakerEvent](schema.breakers, "destination", next_breaker_state)


class Breakers:
    """The part of the ledger that says to whom nothing is sent."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, destination: str) -> Breaker | None:
        """Return the breaker of a destination, None if it never opened."""
        found = self._read(schema.breakers.c.destination == destination)
        return found[0] if found else None

    def all_open(self) -> list[Breaker]:
        return self._read(schema.breakers.c.state == BreakerState.OPEN.value)

    def opened(
        self, destination: str, failures: int, reason: str, not_before: float, now: float
    ) -> bool:
        """Send nothing more; return whether anything was sent until now."""
        values = {"failures": failures, "not_before": not_before, "opened_at": now}
        with self._database.writing() as connection:
            row = {"state": BreakerState.CLOSED.value, "reason": reason, "updated_at": now}
            self._database.insert_new(
                connection, schema.breakers, {"destination": destination, **row, **values}
            )
            state, event = BreakerState.CLOSED, BreakerEvent.OPENED
            return _MOVES.move(connection, destination, state, event, reason, now, **values)

    def failed(self, breaker: Breaker, reason: str, not_before: float, now: float) -> bool:
        """A probe was in vain."""
        values = {"failures": breaker.failures + 1, "not_before": not_before}
        return self._move(breaker.destination, BreakerEvent.FAILED, reason, now, **values)

    def answered(self, destination: str, reason: str, now: float) -> bool:
        """It answers again."""
        return self._move(destination, BreakerEvent.ANSWERED, reason, now)

    def hurry(self, now: float, destination: str | None = None) -> int:
        """Let those that are open be probed at once; return how many."""
        table = schema.breakers
        here = () if destination is None else (table.c.destination == destination,)
        with self._database.writing() as connection:
            return connection.execute(
                update(table)
                .where(table.c.state == BreakerState.OPEN.value, *here)
                .values(not_before=now)
            ).rowcount

    def _move(
        self, destination: str, event: BreakerEvent, reason: str, now: float, **values: Any
    ) -> bool:
        with self._database.writing() as connection:
            return _MOVES.move(
                connection, destination, BreakerState.OPEN, event, reason, now, **values
            )

    def _read(self, condition: ColumnElement[bool]) -> list[Breaker]:
        table = schema.breakers
        query = select(*[table.c[field.name] for field in fields(Breaker)]).where(condition)
        with self._database.reading() as connection:
            ordered = query.order_by(table.c.destination)
            return [_breaker(row) for row in connection.execute(ordered)]


def _breaker(row: Row[Any]) -> Breaker:
    return Breaker(**{**row._mapping, "state": BreakerState(row.state)})
