"""Proof of results: each has a delivery, which is moved by itself.

The number of the attempt that sent a delivery fences all that is said of it: who asked about an
earlier sending moves nothing any more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from dicom_node.claims import Claim, Outcome, answer_in_words
from dicom_node.ledger import schema
from dicom_node.ledger.arrivals import NAMES_IN_A_QUERY
from dicom_node.ledger.database import Database
from dicom_node.ledger.deliveries import MOVES, Deliveries, Parcel
from dicom_node.ledger.waiting import (
    MAY_BE_ANSWERED,
    destinations_to_ask,
    is_to_be_asked,
    postponed,
)
from dicom_node.lifecycle import DeliveryEvent, DeliveryState
from dicom_node.model import Priority


class DeliveryProofs:
    """See `Proofs`: the part of it that knows results."""

    def __init__(self, database: Database, deliveries: Deliveries) -> None:
        self._database = database
        self._deliveries = deliveries

    def due(self, destination: str, now: float, limit: int) -> list[Claim]:
        table = schema.deliveries
        parcels = self._deliveries.parcels(
            table.c.destination == destination,
            is_to_be_asked(table, now),
            limit=limit,
            order_by=(table.c.sent_at, table.c.delivery_id),
        )
        return [claim_of(parcel) for parcel in parcels]

    def destinations_due(self, now: float) -> list[tuple[str, Priority]]:
        return destinations_to_ask(self._database, schema.deliveries, now)

    def asked(
        self,
        claims: Sequence[Claim],
        transaction_uid: str,
        reason: str,
        not_before: float,
        now: float,
    ) -> list[Claim]:
        values = {"transaction_uid": transaction_uid, "not_before": not_before}
        with self._database.writing() as connection:
            return [
                claim
                for claim in claims
                if _move(connection, claim, DeliveryEvent.ASKED, reason, now, **values)
            ]

    def follow(self, outcomes: Sequence[tuple[Claim, Outcome]], now: float) -> None:
        with self._database.writing() as connection:
            for claim, outcome in outcomes:
                values = _values(claim, outcome, now)
                _move(connection, claim, outcome.event, outcome.reason, now, **values)

    def answered(
        self,
        transaction_uid: str,
        destinations: Collection[str],
        answers: Mapping[str, int],
        now: float,
    ) -> int:
        table = schema.deliveries
        uids, moved = list(answers), 0
        with self._database.writing() as connection:
            for start in range(0, len(uids), NAMES_IN_A_QUERY):
                waiting = select(table.c.delivery_id, table.c.state, table.c.sop_instance_uid)
                found = connection.execute(
                    waiting.where(
                        table.c.transaction_uid == transaction_uid,
                        table.c.destination.in_(list(destinations)),
                        table.c.state.in_(MAY_BE_ANSWERED),
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
                        answer_in_words(answer),
                        now,
                        table.c.transaction_uid == transaction_uid,
                        committed=answer,
                        not_before=now,
                    )
        return moved


def claim_of(parcel: Parcel) -> Claim:
    """Return what a destination says that it has by a delivery that was sent."""
    delivery = parcel.delivery
    return Claim(
        number=delivery.delivery_id,
        attempt=delivery.attempt,
        destination=delivery.destination,
        sent=parcel.result,
        state=delivery.state,
        failures=delivery.failures,
        reason=delivery.reason,
        sent_at=delivery.sent_at or 0.0,
        resends=delivery.resends,
        transaction_uid=delivery.transaction_uid,
        committed=delivery.committed,
    )


def _values(claim: Claim, outcome: Outcome, now: float) -> dict[str, Any]:
    """Return what else is set by what follows."""
    match outcome.event:
        case DeliveryEvent.MISSED:  # to be sent again; giving up counts anew
            return {
                "not_before": outcome.not_before,
                "tried_since": now,
                "failures": 0,
                "resends": claim.resends + 1,
            }
        case DeliveryEvent.POSTPONED:
            return postponed(claim, outcome)
        case _:
            return {}


def _move(
    connection: Connection,
    claim: Claim,
    event: DeliveryEvent,
    reason: str,
    now: float,
    **values: Any,
) -> bool:
    """Move a delivery that is still where it was looked at, with the same answer."""
    table = schema.deliveries
    return MOVES.move(
        connection,
        claim.number,
        claim.state,
        event,
        reason,
        now,
        table.c.attempt == claim.attempt,
        table.c.committed.is_not_distinct_from(claim.committed),
        **values,
    )
