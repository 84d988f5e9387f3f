"""Deliveries: one result on its way to one destination."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from dicom_node.ledger import schema
from dicom_node.ledger.attempts import Attempts
from dicom_node.ledger.database import Database
from dicom_node.ledger.transitions import Transitions, is_due, untried
from dicom_node.lifecycle import DeliveryEvent, DeliveryState, next_delivery_state
from dicom_node.model import Delivery, Priority, Result

MOVES = Transitions[DeliveryState, DeliveryEvent](
    schema.deliveries, "delivery", next_delivery_state
)
_SENT_OR_ENDED = frozenset(DeliveryState) - {DeliveryState.PENDING, DeliveryState.SENDING}


@dataclass(frozen=True)
class Parcel:
    """A delivery with what it delivers."""

    delivery: Delivery
    result: Result


def plan_delivery(
    database: Database,
    connection: Connection,
    result: Result,
    destination: str,
    priority: Priority,
    now: float,
) -> None:
    """Have a result sent to a destination, unless it is or was already."""
    database.insert_new(
        connection,
        schema.deliveries,
        {
            "sop_instance_uid": result.sop_instance_uid,
            "destination": destination,
            "priority": int(priority),
            **untried(DeliveryState.PENDING, "not tried yet", now, now),
        },
    )


class Deliveries:
    """The part of the ledger that the deliver stage works off."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._attempts = Attempts(
            database, MOVES, DeliveryState.PENDING, DeliveryState.SENDING, DeliveryEvent.STARTED
        )

    # ------------------------------------------------------------ reading

    def ready(
        self, destination: str, now: float, limit: int, least_urgent: Priority = Priority.LOW
    ) -> list[Parcel]:
        """Return what can be sent to a destination now: urgent first, then oldest."""
        table = schema.deliveries
        return self.parcels(
            table.c.destination == destination,
            table.c.state == DeliveryState.PENDING.value,
            table.c.priority <= int(least_urgent),
            is_due(table.c.not_before, now),
            limit=limit,
        )

    def in_states(self, *states: DeliveryState) -> list[Parcel]:
        return self.parcels(schema.deliveries.c.state.in_([state.value for state in states]))

    def unproven(self, not_to: Collection[str] = ()) -> list[Parcel]:
        """Return what nobody can prove, but for the destinations that are believed."""
        table = schema.deliveries
        return self.parcels(
            table.c.state == DeliveryState.UNPROVEN.value,
            table.c.destination.not_in(list(not_to)),
        )

    def count_unproven(self, not_to: Collection[str] = ()) -> int:
        """Return how many `unproven` returns."""
        others = schema.deliveries.c.destination.not_in(list(not_to))
        return self._attempts.counts(others).get(DeliveryState.UNPROVEN, 0)

    def of_job(self, job_id: str) -> list[Parcel]:
        return self.parcels(schema.results.c.job_id == job_id)

    def destinations_ready(self, now: float) -> list[tuple[str, Priority]]:
        """Return the destinations that something can be sent to now, and how urgent it is."""
        return self._attempts.ready_by(schema.deliveries.c.destination, now)

    def counts(self) -> dict[DeliveryState, int]:
        return self._attempts.counts()

    # ------------------------------------------------------------ working

    def start(self, parcels: Sequence[Parcel], now: float) -> list[Parcel]:
        """Take deliveries for one more attempt; return those that were still to be had."""
        taken = []
        with self._database.writing() as connection:
            for parcel in parcels:
                delivery = parcel.delivery
                if self._attempts.start(connection, delivery.delivery_id, delivery.attempt, now):
                    now_sending = replace(
                        delivery, attempt=delivery.attempt + 1, state=DeliveryState.SENDING
                    )
                    taken.append(Parcel(now_sending, parcel.result))
        return taken

    def accepted(self, delivery: Delivery, reason: str, now: float) -> bool:
        """The destination says that it has it; the time for its proof begins."""
        return self._end_attempt(
            delivery,
            DeliveryEvent.ACCEPTED,
            reason,
            now,
            not_before=now,
            failures=0,
            sent_at=now,
            transaction_uid="",
            committed=None,
        )

    def postpone(self, delivery: Delivery, reason: str, not_before: float, now: float) -> bool:
        return self._end_attempt(
            delivery,
            DeliveryEvent.POSTPONED,
            reason,
            now,
            not_before=not_before,
            failures=delivery.failures + 1,
        )

    def give_up(self, delivery: Delivery, reason: str, now: float) -> bool:
        return self._end_attempt(delivery, DeliveryEvent.GIVEN_UP, reason, now)

    def interrupt(self, delivery: Delivery, reason: str, now: float) -> bool:
        """Nobody has this delivery in hand any more: it may or may not have arrived."""
        return self._end_attempt(
            delivery,
            DeliveryEvent.INTERRUPTED,
            reason,
            now,
            not_before=now,
        )

    def give_up_late(self, destination: str, tried_before: float, reason: str, now: float) -> int:
        """Give up what waits for a destination that has answered nobody; return how many.

        Parameters
        ----------
        tried_before : float
            What was made or retried since then goes on waiting.
        """
        table = schema.deliveries
        late = (table.c.destination == destination, table.c.tried_since < tried_before)
        return self._attempts.end_waiting(DeliveryEvent.GIVEN_UP, reason, now, *late)

    def retry(self, delivery_id: int, now: float) -> bool:
        """Send a delivery that has come to an end again, with a clean count."""
        table = schema.deliveries
        found = self.parcels(table.c.delivery_id == delivery_id)
        if not found or found[0].delivery.state not in _SENT_OR_ENDED:
            return False
        with self._database.writing() as connection:
            return MOVES.move(
                connection,
                delivery_id,
                found[0].delivery.state,
                DeliveryEvent.RETRIED,
                "retried by the operator",
                now,
                not_before=now,
                tried_since=now,
                failures=0,
                resends=0,
            )

    def hurry(self, now: float, destination: str | None = None) -> int:
        """Let everything that waits for its next attempt go at once; return how many waited."""
        here = () if destination is None else (schema.deliveries.c.destination == destination,)
        return self._attempts.hurry(now, *here)

    def _end_attempt(
        self,
        delivery: Delivery,
        event: DeliveryEvent,
        reason: str,
        now: float,
        **values: Any,
    ) -> bool:
        return self._attempts.end_now(
            delivery.delivery_id, delivery.attempt, event, reason, now, **values
        )

    def parcels(
        self,
        *conditions: ColumnElement[bool],
        limit: int | None = None,
        order_by: Sequence[ColumnElement[Any]] = (),
    ) -> list[Parcel]:
        """Return the deliveries for which this holds: urgent first, then oldest, by default."""
        d, r = schema.deliveries, schema.results
        columns: list[ColumnElement[Any]] = [d.c[field.name] for field in fields(Delivery)]
        columns += [r.c[field.name].label(f"result_{field.name}") for field in fields(Result)]
        query = (
            select(*columns)
            .join(r, r.c.sop_instance_uid == d.c.sop_instance_uid)
            .where(*conditions)
            .order_by(*(order_by or (d.c.priority, d.c.created_at, d.c.delivery_id)))
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [_parcel(row) for row in connection.execute(query)]


def _parcel(row: Row[Any]) -> Parcel:
    values = row._mapping
    delivery = {field.name: values[field.name] for field in fields(Delivery)}
    delivery["priority"] = Priority(delivery["priority"])
    delivery["state"] = DeliveryState(delivery["state"])
    result = {field.name: values[f"result_{field.name}"] for field in fields(Result)}
    result["renditions"] = tuple(result["renditions"])
    return Parcel(Delivery(**delivery), Result(**result))
