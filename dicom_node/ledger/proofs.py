"""Proof of what was sent: what is to be asked for, what was asked, and what was answered.

The number of the attempt that sent a delivery fences all that is said of it: who asked about an
earlier sending moves nothing any more. What a destination answers to a request for storage
commitment is kept with the delivery as soon as it comes, on whatever association; what follows from
it is decided at the next turn.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, select

from dicom_node.ledger import schema
from dicom_node.ledger.arrivals import NAMES_IN_A_QUERY
from dicom_node.ledger.database import Database
from dicom_node.ledger.deliveries import MOVES, Deliveries, Parcel
from dicom_node.ledger.transitions import is_due
from dicom_node.lifecycle import DeliveryEvent, DeliveryState
from dicom_node.model import Delivery, Priority

_WAITING = (DeliveryState.SENT, DeliveryState.UNPROVEN)


class Proofs:
    """The part of the ledger that the prover works off."""

    def __init__(self, database: Database, deliveries: Deliveries) -> None:
        self._database = database
        self._deliveries = deliveries

    # ------------------------------------------------------------ reading

    def due(self, destination: str, now: float, limit: int) -> list[Parcel]:
        """Return what a destination can be asked about now, or has answered; the oldest first."""
        table = schema.deliveries
        return self._deliveries.parcels(
            table.c.destination == destination,
            _is_due(now),
            limit=limit,
            order_by=(table.c.sent_at, table.c.delivery_id),
        )

    def destinations_due(self, now: float) -> list[tuple[str, Priority]]:
        """Return the destinations that can be asked something now, and how urgent it is."""
        table = schema.deliveries
        query = (
            select(table.c.destination, func.min(table.c.priority))
            .where(_is_due(now))
            .group_by(table.c.destination)
        )
        with self._database.reading() as connection:
            return [(name, Priority(urgency)) for name, urgency in connection.execute(query)]

    # ------------------------------------------------------------ asking

    def asked(
        self,
        parcels: Sequence[Parcel],
        transaction_uid: str,
        reason: str,
        not_before: float,
        now: float,
    ) -> list[Parcel]:
        """Note a request for storage commitment before it goes out; return what it is still for.

        Parameters
        ----------
        not_before : float
            Until then nothing but its answer is waited for.
        """
        event = DeliveryEvent.ASKED
        with self._database.writing() as connection:
            return [
                parcel
                for parcel in parcels
                if _move(
                    connection,
                    parcel.delivery,
                    event,
                    reason,
                    now,
                    transaction_uid=transaction_uid,
                    not_before=not_before,
                )
            ]

    def postpone(
        self, waits: Sequence[tuple[Delivery, float]], reason: str, now: float, *, forget: bool
    ) -> None:
        """Ask again later: about each from its time on.

        Parameters
        ----------
        forget : bool
            Whether what was asked for did not go out, so that it has no result.
        """
        event = DeliveryEvent.POSTPONED
        with self._database.writing() as connection:
            for delivery, not_before in waits:
                values: dict[str, Any] = {"failures": delivery.failures + 1}
                if forget:
                    values["transaction_uid"] = ""
                values["not_before"] = not_before
                _move(connection, delivery, event, reason, now, **values)

    def answered(
        self,
        transaction_uid: str,
        destinations: Collection[str],
        answers: Mapping[str, int],
        now: float,
    ) -> int:
        """Keep what came as the result of a request for storage commitment.

        Parameters
        ----------
        destinations : collection of str
            Those that the result may be from: it counts for no other.
        answers : mapping of str to int
            0 or a Failure Reason, by SOP Instance UID.

        Returns
        -------
        int
            For how many deliveries it counts: for none that was sent again since, asked about under
            another transaction, or answered before.
        """
        table = schema.deliveries
        uids, moved = list(answers), 0
        with self._database.writing() as connection:
            for start in range(0, len(uids), NAMES_IN_A_QUERY):
                waiting = select(table.c.delivery_id, table.c.state, table.c.sop_instance_uid)
                found = connection.execute(
                    waiting.where(
                        table.c.transaction_uid == transaction_uid,
                        table.c.destination.in_(list(destinations)),
                        table.c.state.in_([state.value for state in _WAITING]),
                        table.c.committed.is_(None),
                        table.c.sop_instance_uid.in_(uids[start : start + NAMES_IN_A_QUERY]),
                    )
                ).all()
                for row in found:
                    answer = answers[row.sop_instance_uid]
                    moved += MOVES.move(
                        connection,
                        row.delivery_id,
                        DeliveryState(row.state),
                        DeliveryEvent.ANSWERED,
                        f"it answers {f'0x{answer:04X}' if answer else 'that it keeps it'}",
                        now,
                        table.c.transaction_uid == transaction_uid,
                        committed=answer,
                        not_before=now,
                    )
        return moved

    # ------------------------------------------------------------ concluding

    def proven(self, delivery: Delivery, reason: str, now: float) -> None:
        self._conclude(delivery, DeliveryEvent.PROVEN, reason, now)

    def unproven(self, delivery: Delivery, reason: str, now: float) -> None:
        """Nobody can say whether it is there; an answer to what was asked still counts."""
        self._conclude(delivery, DeliveryEvent.UNPROVEN, reason, now)

    def missed(self, delivery: Delivery, reason: str, not_before: float, now: float) -> None:
        """It is not there: it is to be sent again, and giving up counts anew."""
        self._conclude(
            delivery,
            DeliveryEvent.MISSED,
            reason,
            now,
            not_before=not_before,
            tried_since=now,
            failures=0,
            resends=delivery.resends + 1,
        )

    def give_up(self, delivery: Delivery, reason: str, now: float) -> None:
        self._conclude(delivery, DeliveryEvent.GIVEN_UP, reason, now)

    def _conclude(
        self, delivery: Delivery, event: DeliveryEvent, reason: str, now: float, **values: Any
    ) -> None:
        with self._database.writing() as connection:
            _move(connection, delivery, event, reason, now, **values)


def _move(
    connection: Connection,
    delivery: Delivery,
    event: DeliveryEvent,
    reason: str,
    now: float,
    **values: Any,
) -> bool:
    """Move a delivery that is still where it was looked at, with the same answer."""
    table = schema.deliveries
    return MOVES.move(
        connection,
        delivery.delivery_id,
        delivery.state,
        event,
        reason,
        now,
        table.c.attempt == delivery.attempt,
        table.c.committed.is_not_distinct_from(delivery.committed),
        **values,
    )


def _is_due(now: float) -> ColumnElement[bool]:
    table = schema.deliveries
    return and_(table.c.state == DeliveryState.SENT.value, is_due(table.c.not_before, now))
