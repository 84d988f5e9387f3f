"""How a forward ends: by what became of its consignments, once everything went out."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from dicom_node.ledger import schema
from dicom_node.ledger.consignments import dissolve
from dicom_node.ledger.transitions import Transitions
from dicom_node.lifecycle import DeliveryEvent, DeliveryState, next_delivery_state

MOVES = Transitions[DeliveryState, DeliveryEvent](schema.forwards, "forward", next_delivery_state)


class Progress(NamedTuple):
    """How many instances a destination has taken, were refused, and there are in all."""

    sent: int
    refused: int
    total: int


class Sum(NamedTuple):
    """The consignments of a forward that are in one state."""

    instances: int
    first_due: float
    reason: str


def lock(connection: Connection, forward_ids: Collection[int]) -> None:
    """Let nobody else move these forwards, nor what is in them, until the transaction ends."""
    key = schema.forwards.c.forward_id
    query = select(key).where(key.in_(list(forward_ids))).order_by(key)
    connection.execute(query.with_for_update()).all()


def progress(connection: Connection, forward_id: int) -> Progress:
    table = schema.forwarded_instances
    query = select(
        func.count(table.c.sent_at),
        func.count().filter(table.c.refused != ""),
        func.count(),
    ).where(table.c.forward_id == forward_id)
    return Progress(*connection.execute(query).one())


def unsent(connection: Connection, forward_id: int) -> int:
    """Return how many instances the destination has not taken and never refused."""
    table = schema.forwarded_instances
    query = select(func.count()).where(
        table.c.forward_id == forward_id, table.c.sent_at.is_(None), table.c.refused == ""
    )
    return int(connection.execute(query).scalar_one())


def why_refused(connection: Connection, forward_id: int) -> str:
    """Return the reason for which most instances of a forward were refused."""
    table = schema.forwarded_instances
    query = (
        select(table.c.refused)
        .where(table.c.forward_id == forward_id, table.c.refused != "")
        .group_by(table.c.refused)
        .order_by(func.count().desc(), table.c.refused)
        .limit(1)
    )
    return connection.execute(query).scalars().first() or ""


def sums(connection: Connection, forward_id: int) -> dict[DeliveryState, Sum]:
    """Return the consignments of a forward, by their states."""
    table = schema.consignments
    query = (
        select(
            table.c.state,
            func.sum(table.c.instance_count),
            func.min(table.c.not_before),
            func.max(table.c.reason),
        )
        .where(table.c.forward_id == forward_id)
        .group_by(table.c.state)
    )
    return {
        DeliveryState(state): Sum(int(count), due, reason)
        for state, count, due, reason in connection.execute(query)
    }


def settle(connection: Connection, forward_id: int, now: float, *, gave_up: bool = False) -> None:
    """Move a forward to where its consignments lead, if it has sent everything.

    What is missing at the destination goes out again; with everything proven the forward is.

    Parameters
    ----------
    gave_up : bool
        Whether instances were refused since it was settled last.
    """
    lock(connection, [forward_id])
    here = schema.forwards.c.forward_id == forward_id
    state = DeliveryState(
        connection.execute(select(schema.forwards.c.state).where(here)).scalar_one()
    )
    if state not in (DeliveryState.SENT, DeliveryState.DEAD):
        return  # what is still going out settles it in the end
    found = sums(connection, forward_id)
    missed = found.get(DeliveryState.PENDING)
    if missed is not None:
        _send_again(connection, forward_id, state, missed, now)
    elif state is DeliveryState.SENT and (gave_up or DeliveryState.SENT not in found):
        _conclude(connection, forward_id, found, now)


def _send_again(
    connection: Connection, forward_id: int, state: DeliveryState, missed: Sum, now: float
) -> None:
    event = DeliveryEvent.MISSED
    if state is DeliveryState.DEAD:
        event = DeliveryEvent.RETRIED
        if unsent(connection, forward_id):  # given up as a whole: it waits with the rest
            dissolve(connection, forward_id)
            return
    dissolve(connection, forward_id)
    MOVES.move(
        connection,
        forward_id,
        state,
        event,
        f"{missed.instances} instances: {missed.reason}",
        now,
        not_before=missed.first_due,
        tried_since=now,
        failures=0,
    )


def _conclude(
    connection: Connection, forward_id: int, found: dict[DeliveryState, Sum], now: float
) -> None:
    sent, refused, total = progress(connection, forward_id)
    if refused:
        event = DeliveryEvent.GIVEN_UP
        why = why_refused(connection, forward_id)
        reason = f"{sent} of {total} instances sent, {refused} refused: {why}"
    elif DeliveryState.SENT in found:
        return
    elif unproven := found.get(DeliveryState.UNPROVEN):
        event = DeliveryEvent.UNPROVEN
        reason = f"{unproven.instances} of {total} instances: {unproven.reason}"
    else:
        event = DeliveryEvent.PROVEN
        proven = found.get(DeliveryState.PROVEN)
        reason = f"{total} instances: {proven.reason}" if proven else "nothing is left to be sent"
    MOVES.move(connection, forward_id, DeliveryState.SENT, event, reason, now)
