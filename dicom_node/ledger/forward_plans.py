"""What rules forward: added to the forwards of a study, or taken out of them.

A forward is a set of instances that grows: with what the rules choose as instances come, and when
the study is complete. An instance that came again with other bytes is sent again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, insert, select, update

from dicom_node.ledger import schema
from dicom_node.ledger.consignments import LEFT, recount
from dicom_node.ledger.events import write_event
from dicom_node.ledger.settling import MOVES
from dicom_node.ledger.transitions import untried
from dicom_node.lifecycle import DeliveryEvent, DeliveryState
from dicom_node.model import Forward, InstanceKey

ENDED = (
    DeliveryState.SENT,
    DeliveryState.PROVEN,
    DeliveryState.UNPROVEN,
    DeliveryState.DEAD,
)
"""Those of a forward that has nothing to send."""


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
    if added and row.state in [state.value for state in ENDED]:
        MOVES.move(
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
        **untried(DeliveryState.PENDING, "not tried yet", now, now),
    }
    connection.execute(insert(schema.forwards).values(row))


def _add(connection: Connection, forward_id: int, instances: Iterable[InstanceKey]) -> int:
    table = schema.forwarded_instances
    known = {
        (row.series_instance_uid, row.sop_instance_uid): (row.digest, row.consignment_id)
        for row in connection.execute(
            select(
                table.c.series_instance_uid,
                table.c.sop_instance_uid,
                table.c.digest,
                table.c.consignment_id,
            ).where(table.c.forward_id == forward_id)
        )
    }
    new, changed, left = [], 0, set()
    for one in instances:
        before = known.get((one.series_instance_uid, one.sop_instance_uid))
        values: dict[str, Any] = {"digest": one.digest, "refused": "", "sent_at": None}
        if before is None:
            new.append({"forward_id": forward_id, **one._asdict(), **values})
            continue
        digest, consignment_id = before
        if digest != one.digest:
            again = {**values, **LEFT, "resends": 0}
            here = is_in(table, forward_id, one)
            connection.execute(update(table).where(*here).values(**again))
            changed += 1
            left |= {consignment_id} - {None}
    for consignment_id in left:
        recount(connection, consignment_id)
    if new:
        connection.execute(insert(table), new)
    return changed + len(new)


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
            connection.execute(delete(table).where(*is_in(table, row.forward_id, one)))


def is_in(table: Table, forward_id: int, one: InstanceKey) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions for one instance of a forward, whatever its bytes."""
    return (
        table.c.forward_id == forward_id,
        table.c.series_instance_uid == one.series_instance_uid,
        table.c.sop_instance_uid == one.sop_instance_uid,
    )
