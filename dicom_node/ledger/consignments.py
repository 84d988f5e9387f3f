"""Consignments: the originals that went to a destination together, until it is proven that they
are there.

What is true of all of them stands in one row, so that a study of thousands costs as many rows as it
took batches. All in a consignment have the same state, the same past and the same answer: whoever
differs is split off into one of its own, or leaves it to be sent again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from dicom_node.ledger import schema
from dicom_node.ledger.transitions import Transitions
from dicom_node.lifecycle import DeliveryEvent, DeliveryState, next_delivery_state
from dicom_node.model import ForwardTask, InstanceKey

MOVES = Transitions[DeliveryState, DeliveryEvent](
    schema.consignments, "consignment", next_delivery_state
)

Key = tuple[str, str]
"""Series and SOP Instance UID, as they came."""
SentAs = tuple[str, str, str]
"""Study, Series and SOP Instance UID of the copy that went in place of an instance."""

LEFT = {"sent_at": None, "consignment_id": None, "sent_as": None}
"""What is set where an instance is in no consignment any more."""


def consign(
    connection: Connection,
    forward: ForwardTask,
    taken: Iterable[InstanceKey],
    copies: Mapping[InstanceKey, SentAs],
    now: float,
) -> None:
    """Mark what a destination has taken of a forward; it is to be proven from now on.

    Nothing is marked that came again with other bytes meanwhile, or is in a consignment already.
    """
    rows = [
        {"series": one.series_instance_uid, "sop": one.sop_instance_uid, "of": one.digest}
        for one in taken
    ]
    values = {
        "forward_id": forward.forward_id,
        "destination": forward.destination,
        "priority": int(forward.priority),
        "instance_count": len(rows),
        "state": DeliveryState.SENT.value,
        "failures": 0,
        "not_before": now,
        "reason": "not asked for yet",
        "sent_at": now,
        "transaction_uid": "",
        "updated_at": now,
    }
    number = _make(connection, values)
    table = schema.forwarded_instances
    marked = update(table).where(
        table.c.forward_id == forward.forward_id,
        table.c.series_instance_uid == bindparam("series"),
        table.c.sop_instance_uid == bindparam("sop"),
        table.c.digest == bindparam("of"),
        table.c.consignment_id.is_(None),
    )
    connection.execute(marked.values(sent_at=now, consignment_id=number), rows)
    for one, sent_as in copies.items():
        connection.execute(
            update(table)
            .where(
                table.c.consignment_id == number,
                table.c.series_instance_uid == one.series_instance_uid,
                table.c.sop_instance_uid == one.sop_instance_uid,
            )
            .values(sent_as=list(sent_as))
        )
    recount(connection, number, len(rows))


def recount(connection: Connection, number: int, said: int = -1) -> int:
    """Count a consignment anew, where it does not have as many as said; an empty one is gone."""
    table, instances = schema.consignments, schema.forwarded_instances
    counting = select(func.count()).where(instances.c.consignment_id == number)
    count = int(connection.execute(counting).scalar_one())
    here = table.c.consignment_id == number
    if not count:
        connection.execute(delete(table).where(here))
    elif count != said:
        connection.execute(update(table).where(here).values(instance_count=count))
    return count


def split(connection: Connection, number: int, keys: Iterable[Key]) -> tuple[int, int]:
    """Give some of a consignment one of their own, which has the same past.

    Returns
    -------
    (int, int)
        Its number, and how many are in it: none, where they have left meanwhile.
    """
    table, instances = schema.consignments, schema.forwarded_instances
    row = connection.execute(select(table).where(table.c.consignment_id == number)).first()
    if row is None:
        return number, 0
    values = {name: value for name, value in row._mapping.items() if name != "consignment_id"}
    made = _make(connection, values)
    moved = update(instances).where(
        instances.c.consignment_id == number,
        instances.c.series_instance_uid == bindparam("series"),
        instances.c.sop_instance_uid == bindparam("sop"),
    )
    rows = [{"series": series, "sop": sop} for series, sop in keys]
    connection.execute(moved.values(consignment_id=made), rows)
    recount(connection, number)
    return made, recount(connection, made)


def refuse(connection: Connection, number: int, reason: str) -> list[str]:
    """Let a consignment end as what can never be sent; return the SOP Instance UIDs."""
    table, instances = schema.consignments, schema.forwarded_instances
    here = instances.c.consignment_id == number
    uids = list(connection.execute(select(instances.c.sop_instance_uid).where(here)).scalars())
    connection.execute(update(instances).where(here).values(refused=reason, **LEFT))
    connection.execute(delete(table).where(table.c.consignment_id == number))
    return uids


def dissolve(connection: Connection, forward_id: int) -> None:
    """Have what is missing at the destination sent again: it is in no consignment any more."""
    table, instances = schema.consignments, schema.forwarded_instances
    missed = (
        table.c.forward_id == forward_id,
        table.c.state == DeliveryState.PENDING.value,
    )
    connection.execute(
        update(instances)
        .where(instances.c.consignment_id.in_(select(table.c.consignment_id).where(*missed)))
        .values(resends=instances.c.resends + 1, **LEFT)
    )
    connection.execute(delete(table).where(*missed))


def _make(connection: Connection, values: Mapping[str, Any]) -> int:
    table = schema.consignments
    made = insert(table).values(dict(values)).returning(table.c.consignment_id)
    return int(connection.execute(made).scalar_one())
