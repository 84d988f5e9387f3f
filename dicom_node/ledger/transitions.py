"""The one way to change a state: compare-and-set and an event row, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Table, update

from dicom_node.ledger.events import write_event

State = TypeVar("State", bound=StrEnum)
Move = TypeVar("Move", bound=StrEnum)


@dataclass(frozen=True)
class Transitions(Generic[State, Move]):
    """The moves of one table, by the rules of lifecycle.py."""

    table: Table
    subject_kind: str
    next_state: Callable[[State, Move], State]

    def move(
        self,
        connection: Connection,
        key: str | int,
        state: State,
        event: Move,
        reason: str,
        now: float,
        *fences: ColumnElement[bool],
        **values: Any,
    ) -> bool:
        """Move one row from `state` by `event`; return whether it was still there.

        Parameters
        ----------
        key : str or int
            The row's primary key.
        fences
            What else must hold: an attempt number, a revision.
        values
            Other columns to set in the same update.
        """
        target = self.next_state(state, event)
        [key_column] = self.table.primary_key.columns
        moved = connection.execute(
            update(self.table)
            .where(key_column == key, self.table.c.state == state.value, *fences)
            .values(state=target.value, reason=reason, updated_at=now, **values)
        ).rowcount
        if moved:
            write_event(
                connection, now, (self.subject_kind, str(key)), event, reason, state, target
            )
        return moved == 1
