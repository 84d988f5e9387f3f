"""Rows that are taken for one attempt after another: deliveries, forwards, fetches, jobs.

The number of the attempt fences it: who took a row for an earlier one can no longer end it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic

from sqlalchemy import Column, ColumnElement, Connection, func, select, update

from dicom_node.ledger.database import Database
from dicom_node.ledger.transitions import Move, State, Transitions, is_due
from dicom_node.model import Priority


@dataclass(frozen=True)
class Attempts(Generic[State, Move]):
    """The attempts on the rows of one table.

    Parameters
    ----------
    waiting, working : State
        That of a row that can be taken, and that of one that was.
    started : Move
        What takes it.
    """

    database: Database
    moves: Transitions[State, Move]
    waiting: State
    working: State
    started: Move

    def start(self, connection: Connection, key: str | int, attempt: int, now: float) -> bool:
        """Take a row for one more attempt; return whether it was still to be had."""
        return self.moves.move(
            connection,
            key,
            self.waiting,
            self.started,
            f"attempt {attempt + 1}",
            now,
            self.moves.table.c.attempt == attempt,
            attempt=attempt + 1,
        )

    def end(
        self,
        connection: Connection,
        key: str | int,
        attempt: int,
        event: Move,
        reason: str,
        now: float,
        **values: Any,
    ) -> bool:
        """End an attempt; return whether it was still the current one."""
        return self.moves.move(
            connection,
            key,
            self.working,
            event,
            reason,
            now,
            self.moves.table.c.attempt == attempt,
            **values,
        )

    def end_now(
        self, key: str | int, attempt: int, event: Move, reason: str, now: float, **values: Any
    ) -> bool:
        """End an attempt, in a transaction of its own."""
        with self.database.writing() as connection:
            return self.end(connection, key, attempt, event, reason, now, **values)

    def hurry(self, now: float, *conditions: ColumnElement[bool]) -> int:
        """Let everything that waits for its next attempt go at once; return how many waited."""
        table = self.moves.table
        with self.database.writing() as connection:
            return connection.execute(
                update(table)
                .where(table.c.state == self.waiting.value, table.c.not_before > now, *conditions)
                .values(not_before=now)
            ).rowcount

    def end_waiting(
        self, event: Move, reason: str, now: float, *conditions: ColumnElement[bool]
    ) -> int:
        """End what waits for its next attempt and fulfils this; return how many."""
        table = self.moves.table
        [key] = table.primary_key.columns
        query = select(key, table.c.attempt).where(table.c.state == self.waiting.value, *conditions)
        with self.database.writing() as connection:
            return sum(
                self.moves.move(
                    connection, number, self.waiting, event, reason, now, table.c.attempt == attempt
                )
                for number, attempt in connection.execute(query).all()
            )

    def counts(self, *conditions: ColumnElement[bool]) -> dict[State, int]:
        """Return how many rows are in each state that occurs."""
        table, state_of = self.moves.table, type(self.waiting)
        query = select(table.c.state, func.count()).where(*conditions).group_by(table.c.state)
        with self.database.reading() as connection:
            return {state_of(state): count for state, count in connection.execute(query)}

    def ready_by(self, column: Column[str], now: float) -> list[tuple[str, Priority]]:
        """Return the values of a column for which something is due, and how urgent it is."""
        table = self.moves.table
        query = (
            select(column, func.min(table.c.priority))
            .where(table.c.state == self.waiting.value, is_due(table.c.not_before, now))
            .group_by(column)
        )
        with self.database.reading() as connection:
            return [(name, Priority(urgency)) for name, urgency in connection.execute(query)]
