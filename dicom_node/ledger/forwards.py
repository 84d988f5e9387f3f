"""Forwards: the originals of a study on their way to one destination.

What the destination has taken is marked in it; so nothing is sent twice but what is missing there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, func, or_, select, update

from dicom_node.ledger import schema
from dicom_node.ledger.attempts import Attempts
from dicom_node.ledger.consignments import LEFT, SentAs, consign
from dicom_node.ledger.database import Database
from dicom_node.ledger.events import write_event
from dicom_node.ledger.forward_plans import ENDED, is_in
from dicom_node.ledger.settling import (
    MOVES,
    Progress,
    lock,
    progress,
    settle,
    sums,
    unsent,
    why_refused,
)
from dicom_node.ledger.transitions import is_due
from dicom_node.lifecycle import DeliveryEvent, DeliveryState
from dicom_node.model import ForwardTask, InstanceKey, Priority

_SENT_AGAIN = {
    DeliveryState.PROVEN: frozenset(DeliveryState),
    DeliveryState.SENT: frozenset(DeliveryState) - {DeliveryState.PROVEN},
    DeliveryState.UNPROVEN: frozenset({DeliveryState.UNPROVEN}),
    DeliveryState.DEAD: frozenset({DeliveryState.UNPROVEN, DeliveryState.PENDING}),
}
"""What of a forward in some state goes again when a person says so: consignments in these."""
_NOT_THROUGH = (DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.DEAD)


class Forwards:
    """The part of the ledger that the forwarder works off."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._attempts = Attempts(
            database, MOVES, DeliveryState.PENDING, DeliveryState.SENDING, DeliveryEvent.STARTED
        )

    # ------------------------------------------------------------ reading

    def get(self, forward_id: int) -> ForwardTask | None:
        found = self._read(schema.forwards.c.forward_id == forward_id)
        return found[0] if found else None

    def of_study(self, study_instance_uid: str) -> list[ForwardTask]:
        return self._read(schema.forwards.c.study_instance_uid == study_instance_uid)

    def in_states(self, *states: DeliveryState) -> list[ForwardTask]:
        return self._read(schema.forwards.c.state.in_([state.value for state in states]))

    def ready(
        self,
        destination: str,
        now: float,
        limit: int = 1,
        least_urgent: Priority = Priority.LOW,
    ) -> list[ForwardTask]:
        """Return what can be sent to a destination now: urgent first, then oldest."""
        table = schema.forwards
        return self._read(
            table.c.destination == destination,
            table.c.state == DeliveryState.PENDING.value,
            table.c.priority <= int(least_urgent),
            is_due(table.c.not_before, now),
            limit=limit,
        )

    def destinations_ready(self, now: float) -> list[tuple[str, Priority]]:
        """Return the destinations that something can be sent to now, and how urgent it is."""
        return self._attempts.ready_by(schema.forwards.c.destination, now)

    def counts(self) -> dict[DeliveryState, int]:
        return self._attempts.counts()

    def unsent(self, forward_id: int, limit: int) -> list[InstanceKey]:
        """Return instances that the destination has not taken and never refused."""
        table = schema.forwarded_instances
        query = (
            select(*[table.c[name] for name in InstanceKey._fields])
            .where(
                table.c.forward_id == forward_id, table.c.sent_at.is_(None), table.c.refused == ""
            )
            .order_by(table.c.series_instance_uid, table.c.sop_instance_uid)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [InstanceKey(*row) for row in connection.execute(query)]

    def progress(self, forward_id: int) -> Progress:
        """Return how many instances were sent, were refused, and there are in all."""
        with self._database.reading() as connection:
            return progress(connection, forward_id)

    def why_refused(self, forward_id: int) -> str:
        """Return the reason for which most of what was refused was; empty if nothing was."""
        with self._database.reading() as connection:
            return why_refused(connection, forward_id)

    def proof(self, forward_id: int) -> tuple[dict[DeliveryState, int], str]:
        """Return how far what was sent is proven: instances by state; why some are not yet."""
        with self._database.reading() as connection:
            found = sums(connection, forward_id)
        waiting = found.get(DeliveryState.SENT)
        counts = {state: some.instances for state, some in found.items()}
        return counts, waiting.reason if waiting else ""

    def unproven(self, not_to: Collection[str] = ()) -> list[ForwardTask]:
        """Return what nobody can prove, but for the destinations that are believed."""
        table = schema.forwards
        return self._read(
            table.c.state == DeliveryState.UNPROVEN.value,
            table.c.destination.not_in(list(not_to)),
        )

    def count_unproven(self, not_to: Collection[str] = ()) -> int:
        """Return how many `unproven` returns."""
        others = schema.forwards.c.destination.not_in(list(not_to))
        return self._attempts.counts(others).get(DeliveryState.UNPROVEN, 0)

    def instance_counts(self) -> dict[str, dict[DeliveryState, int]]:
        """Return how many originals are in which state, by destination.

        What was sent is counted by consignments, so that only what is unsent or refused of the few
        forwards that are not through is counted one by one.
        """
        c, f, o = schema.consignments, schema.forwards, schema.forwarded_instances
        sent = select(c.c.destination, c.c.state, func.sum(c.c.instance_count)).group_by(
            c.c.destination, c.c.state
        )
        dead = or_(o.c.refused != "", f.c.state == DeliveryState.DEAD.value)
        rest = (
            select(f.c.destination, dead, func.count())
            .join(o, o.c.forward_id == f.c.forward_id)
            .where(f.c.state.in_([state.value for state in _NOT_THROUGH]), o.c.sent_at.is_(None))
            .group_by(f.c.destination, dead)
        )
        counts: dict[str, dict[DeliveryState, int]] = {}
        with self._database.reading() as connection:
            for destination, state, count in connection.execute(sent):
                counts.setdefault(destination, {})[DeliveryState(state)] = int(count)
            for destination, is_dead, count in connection.execute(rest):
                state = DeliveryState.DEAD if is_dead else DeliveryState.PENDING
                of_it = counts.setdefault(destination, {})
                of_it[state] = of_it.get(state, 0) + count
        return counts

    # ------------------------------------------------------------ working

    def start(self, forward: ForwardTask, now: float) -> ForwardTask | None:
        """Take a forward for one more attempt; None if it is no longer to be had."""
        with self._database.writing() as connection:
            taken = self._attempts.start(connection, forward.forward_id, forward.attempt, now)
        return self.get(forward.forward_id) if taken else None

    def sent(
        self,
        forward: ForwardTask,
        taken: Collection[InstanceKey],
        refused: Sequence[tuple[InstanceKey, str]],
        now: float,
        copies: Mapping[InstanceKey, SentAs] | None = None,
    ) -> None:
        """Mark what a destination has taken, and what it or a policy will never let pass.

        Parameters
        ----------
        copies : mapping, optional
            The UIDs of those that went under others.
        """
        table = schema.forwarded_instances
        with self._database.writing() as connection:
            lock(connection, [forward.forward_id])
            if taken:
                consign(connection, forward, taken, copies or {}, now)
            for one, reason in refused:
                here = (*is_in(table, forward.forward_id, one), table.c.digest == one.digest)
                connection.execute(update(table).where(*here).values(refused=reason))
                subject = ("forward", str(forward.forward_id))
                event = f"{one.sop_instance_uid}: {reason}"
                write_event(connection, now, subject, "NOT_FORWARDED", event)

    def accepted(self, forward: ForwardTask, reason: str, now: float) -> bool:
        """End an attempt that has sent everything; False if instances were added meanwhile."""
        with self._database.writing() as connection:
            lock(connection, [forward.forward_id])
            if unsent(connection, forward.forward_id):
                return False
            event = DeliveryEvent.ACCEPTED
            key, attempt = forward.forward_id, forward.attempt
            ended = self._attempts.end(connection, key, attempt, event, reason, now)
            settle(connection, forward.forward_id, now)
            return ended

    def postpone(self, forward: ForwardTask, reason: str, not_before: float, now: float) -> bool:
        values = {"not_before": not_before, "failures": forward.failures + 1}
        return self._end_attempt(forward, DeliveryEvent.POSTPONED, reason, now, **values)

    def give_up(self, forward: ForwardTask, reason: str, now: float) -> bool:
        with self._database.writing() as connection:
            lock(connection, [forward.forward_id])
            event = DeliveryEvent.GIVEN_UP
            key, attempt = forward.forward_id, forward.attempt
            ended = self._attempts.end(connection, key, attempt, event, reason, now)
            settle(connection, forward.forward_id, now)
            return ended

    def go_on(self, forward: ForwardTask, reason: str, now: float) -> bool:
        """End an attempt that has sent some of it; the rest follows, and giving up counts anew."""
        values = {"not_before": now, "tried_since": now, "failures": 0}
        return self._end_attempt(forward, DeliveryEvent.INTERRUPTED, reason, now, **values)

    def interrupt(self, forward: ForwardTask, reason: str, now: float) -> bool:
        """Nobody has this forward in hand any more; what was taken is marked."""
        return self._end_attempt(forward, DeliveryEvent.INTERRUPTED, reason, now, not_before=now)

    def retry(self, forward_id: int, now: float) -> bool:
        """Send what is not there again: what was refused, and what nobody has proven.

        Of a forward that is proven everything goes again: who says so knows better.
        """
        forward = self.get(forward_id)
        if forward is None or forward.state not in ENDED:
            return False
        c, table = schema.consignments, schema.forwarded_instances
        states = [state.value for state in _SENT_AGAIN[forward.state]]
        again = and_(c.c.forward_id == forward_id, c.c.state.in_(states))
        numbers = select(c.c.consignment_id).where(again)
        with self._database.writing() as connection:
            lock(connection, [forward_id])
            if not MOVES.move(
                connection,
                forward_id,
                forward.state,
                DeliveryEvent.RETRIED,
                "retried by the operator",
                now,
                not_before=now,
                tried_since=now,
                failures=0,
            ):
                return False
            here = table.c.forward_id == forward_id
            not_there = or_(table.c.refused != "", table.c.consignment_id.in_(numbers))
            values = {"refused": "", "resends": 0, **LEFT}
            connection.execute(update(table).where(here, not_there).values(**values))
            connection.execute(delete(c).where(again))
            return True

    def hurry(self, now: float, destination: str | None = None) -> int:
        """Let everything that waits for its next attempt go at once; return how many waited."""
        here = () if destination is None else (schema.forwards.c.destination == destination,)
        return self._attempts.hurry(now, *here)

    def give_up_late(self, destination: str, tried_before: float, reason: str, now: float) -> int:
        """Give up what waits for a destination that has answered nobody; return how many."""
        table = schema.forwards
        late = (table.c.destination == destination, table.c.tried_since < tried_before)
        return self._attempts.end_waiting(DeliveryEvent.GIVEN_UP, reason, now, *late)

    def _end_attempt(
        self, forward: ForwardTask, event: DeliveryEvent, reason: str, now: float, **values: Any
    ) -> bool:
        return self._attempts.end_now(
            forward.forward_id, forward.attempt, event, reason, now, **values
        )

    def _read(
        self, *conditions: ColumnElement[bool], limit: int | None = None
    ) -> list[ForwardTask]:
        table = schema.forwards
        query = (
            select(*[table.c[field.name] for field in fields(ForwardTask)])
            .where(*conditions)
            .order_by(table.c.priority, table.c.created_at, table.c.forward_id)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [_forward(row) for row in connection.execute(query)]


def _forward(row: Row[Any]) -> ForwardTask:
    values = dict(row._mapping)
    values["priority"] = Priority(values["priority"])
    values["state"] = DeliveryState(values["state"])
    return ForwardTask(**values)
