"""Forwards: the originals of a study on their way to one destination.

A forward is a set of instances that grows: with what the rules choose as instances come, and when
the study is complete. What the destination has taken is marked in it; so nothing is sent twice, and
an instance that came again with other bytes is sent again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from dicom_node.ledger import schema
from dicom_node.ledger.attempts import Attempts
from dicom_node.ledger.database import Database
from dicom_node.ledger.events import write_event
from dicom_node.ledger.transitions import Transitions, is_due
from dicom_node.lifecycle import DeliveryEvent, DeliveryState, next_delivery_state
from dicom_node.model import Forward, ForwardTask, InstanceKey, Priority

_MOVES = Transitions[DeliveryState, DeliveryEvent](schema.forwards, "forward", next_delivery_state)
_ENDED = (DeliveryState.SENT, DeliveryState.DEAD)


def plan_forward(
    connection: Connection, study_instance_uid: str, forward: Forward, now: float
) -> int:
    """Add instances to the forward of a study to a destination; return how many are new.

    There is one for each destination and profile. It is made if need be; one that had come to its
    end goes on.
    """
    table = schema.forwards
    here = and_(
        table.c.study_instance_uid == study_instance_uid,
        table.c.destination == forward.destination,
        table.c.profile == forward.profile,
    )
    query = select(table.c.forward_id, table.c.state, table.c.priority).where(here)
    row = connection.execute(query.with_for_update()).first()
    if row is None:
        _make(connection, study_instance_uid, forward, now)
        row = connection.execute(query).one()
        by = f" by profile {forward.profile}" if forward.profile else ""
        reason = f"rule {forward.rule}: to {forward.destination}{by}"
        subject = ("forward", str(row.forward_id))
        write_event(connection, now, subject, "CREATED", reason, "", DeliveryState.PENDING)
    added = _add(connection, row.forward_id, forward.instances)
    if forward.priority < row.priority:
        connection.execute(update(table).where(here).values(priority=int(forward.priority)))
    if added and row.state in [state.value for state in _ENDED]:
        _MOVES.move(
            connection,
            row.forward_id,
            DeliveryState(row.state),
            DeliveryEvent.RETRIED,
            f"{added} more instances",
            now,
            not_before=now,
            tried_since=now,
            failures=0,
        )
    return added


def _make(connection: Connection, study_instance_uid: str, forward: Forward, now: float) -> None:
    row = {
        "study_instance_uid": study_instance_uid,
        "destination": forward.destination,
        "profile": forward.profile,
        "rule": forward.rule,
        "priority": int(forward.priority),
        "state": DeliveryState.PENDING.value,
        "attempt": 0,
        "failures": 0,
        "not_before": now,
        "reason": "not tried yet",
        "created_at": now,
        "tried_since": now,
        "updated_at": now,
    }
    connection.execute(insert(schema.forwards).values(row))


def _add(connection: Connection, forward_id: int, instances: Iterable[InstanceKey]) -> int:
    table = schema.forwarded_instances
    known = {
        (row.series_instance_uid, row.sop_instance_uid): row.digest
        for row in connection.execute(
            select(table.c.series_instance_uid, table.c.sop_instance_uid, table.c.digest).where(
                table.c.forward_id == forward_id
            )
        )
    }
    new, added = [], 0
    for one in instances:
        digest = known.get((one.series_instance_uid, one.sop_instance_uid))
        values: dict[str, Any] = {"digest": one.digest, "sent_at": None, "refused": ""}
        if digest is None:
            new.append({"forward_id": forward_id, **one._asdict(), **values})
        elif digest != one.digest:
            connection.execute(update(table).where(*_is(table, forward_id, one)).values(**values))
            added += 1
    if new:
        connection.execute(insert(table), new)
    return added + len(new)


def withdraw(
    connection: Connection, study_instance_uid: str, instances: Iterable[InstanceKey]
) -> None:
    """Take instances out of the forwards of a study, unless they were sent: a rule drops them."""
    table, forwards = schema.forwarded_instances, schema.forwards
    mine = select(forwards.c.forward_id).where(forwards.c.study_instance_uid == study_instance_uid)
    gone = {one[:2] for one in instances}
    query = select(table.c.forward_id, table.c.series_instance_uid, table.c.sop_instance_uid).where(
        table.c.forward_id.in_(mine), table.c.sent_at.is_(None)
    )
    for row in connection.execute(query).all() if gone else ():
        if (row.series_instance_uid, row.sop_instance_uid) in gone:
            one = InstanceKey(row.series_instance_uid, row.sop_instance_uid, "")
            connection.execute(delete(table).where(*_is(table, row.forward_id, one)))


class Forwards:
    """The part of the ledger that the forwarder works off."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._attempts = Attempts(
            database, _MOVES, DeliveryState.PENDING, DeliveryState.SENDING, DeliveryEvent.STARTED
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

    def progress(self, forward_id: int) -> tuple[int, int, int]:
        """Return how many instances were sent, were refused, and there are in all."""
        table = schema.forwarded_instances
        query = select(
            func.count(table.c.sent_at),
            func.count().filter(table.c.refused != ""),
            func.count(),
        ).where(table.c.forward_id == forward_id)
        with self._database.reading() as connection:
            sent, refused, total = connection.execute(query).one()
        return sent, refused, total

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
    ) -> None:
        """Mark what a destination has taken, and what it or a policy will never let pass."""
        table = schema.forwarded_instances
        marked = update(table).where(
            table.c.forward_id == forward.forward_id,
            table.c.series_instance_uid == bindparam("series"),
            table.c.sop_instance_uid == bindparam("sop"),
            table.c.digest == bindparam("of"),
        )
        with self._database.writing() as connection:
            if taken:
                rows = [dict(zip(("series", "sop", "of"), one, strict=True)) for one in taken]
                connection.execute(marked.values(sent_at=now), rows)
            for one, reason in refused:
                here = (*_is(table, forward.forward_id, one), table.c.digest == one.digest)
                connection.execute(update(table).where(*here).values(refused=reason))
                subject = ("forward", str(forward.forward_id))
                event = f"{one.sop_instance_uid}: {reason}"
                write_event(connection, now, subject, "NOT_FORWARDED", event)

    def accepted(self, forward: ForwardTask, reason: str, now: float) -> bool:
        """End an attempt that has sent everything; False if instances were added meanwhile."""
        table = schema.forwarded_instances
        here = schema.forwards.c.forward_id == forward.forward_id
        with self._database.writing() as connection:
            connection.execute(select(schema.forwards.c.state).where(here).with_for_update())
            rest = select(func.count()).where(
                table.c.forward_id == forward.forward_id,
                table.c.sent_at.is_(None),
                table.c.refused == "",
            )
            if connection.execute(rest).scalar_one():
                return False
            return self._attempts.end(
                connection,
                forward.forward_id,
                forward.attempt,
                DeliveryEvent.ACCEPTED,
                reason,
                now,
            )

    def postpone(self, forward: ForwardTask, reason: str, not_before: float, now: float) -> bool:
        values = {"not_before": not_before, "failures": forward.failures + 1}
        return self._end_attempt(forward, DeliveryEvent.POSTPONED, reason, now, **values)

    def give_up(self, forward: ForwardTask, reason: str, now: float) -> bool:
        return self._end_attempt(forward, DeliveryEvent.GIVEN_UP, reason, now)

    def go_on(self, forward: ForwardTask, reason: str, now: float) -> bool:
        """End an attempt that has sent some of it; the rest follows, and giving up counts anew."""
        values = {"not_before": now, "tried_since": now, "failures": 0}
        return self._end_attempt(forward, DeliveryEvent.INTERRUPTED, reason, now, **values)

    def interrupt(self, forward: ForwardTask, reason: str, now: float) -> bool:
        """Nobody has this forward in hand any more; what was taken is marked."""
        return self._end_attempt(forward, DeliveryEvent.INTERRUPTED, reason, now, not_before=now)

    def retry(self, forward_id: int, now: float) -> bool:
        """Try a forward again that is dead, or that has sent all but what was refused."""
        forward = self.get(forward_id)
        if forward is None or forward.state not in _ENDED:
            return False
        table = schema.forwarded_instances
        with self._database.writing() as connection:
            connection.execute(
                update(table).where(table.c.forward_id == forward_id).values(refused="")
            )
            return _MOVES.move(
                connection,
                forward_id,
                forward.state,
                DeliveryEvent.RETRIED,
                "retried by the operator",
                now,
                not_before=now,
                tried_since=now,
                failures=0,
            )

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


def _is(table: Table, forward_id: int, one: InstanceKey) -> tuple[ColumnElement[bool], ...]:
    return (
        table.c.forward_id == forward_id,
        table.c.series_instance_uid == one.series_instance_uid,
        table.c.sop_instance_uid == one.sop_instance_uid,
    )
