"""The one way to change a state: compare-and-set and an event row, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Table, or_, update

from dicom_node.ledger.events import write_event

_WAIT_LONGEST_S = 86400.0

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


def untried(state: StrEnum, reason: str, not_before: float, now: float) -> dict[str, Any]:
    """Return the columns of work that has just been made, and is tried from `not_before` on."""
    return {
        "state": state.value,
        "attempt": 0,
        "failures": 0,
        "not_before": not_before,
        "reason": reason,
        "created_at": now,
        "tried_since": now,
        "updated_at": now,
    }


def is_due(not_before: ColumnElement[float], now: float) -> ColumnElement[bool]:
    """Return the condition that a wait is over.

    No wait of ours lasts a day: one that seems to comes from a clock that was set back since.
    """
    return or_(not_before <= now, not_before > now + _WAIT_LONGEST_S)


def is_over(not_before: float, now: float) -> bool:
    """Return whether a wait is over: `is_due` of one that was read."""
    return not_before <= now or not_before > now + _WAIT_LONGEST_S
