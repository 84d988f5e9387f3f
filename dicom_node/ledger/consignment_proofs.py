"""Proof of originals: what went out together is asked about and moved together.

Whoever writes here holds the forward first, then its consignments: so the forwarder, the prover,
the receiver of a late answer and the operator wait for each other instead of locking each other
out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, select

from dicom_node.claims import Claim, Forwarded, Outcome, answer_in_words
from dicom_node.errors import InvariantBroken
from dicom_node.ledger import schema
from dicom_node.ledger.consignment_claims import read_claims
from dicom_node.ledger.consignments import MOVES, Key, recount, refuse, split
from dicom_node.ledger.database import Database
from dicom_node.ledger.events import write_event
from dicom_node.ledger.settling import MOVES as FORWARD_MOVES
from dicom_node.ledger.settling import lock, settle
from dicom_node.ledger.waiting import (
    MAY_BE_ANSWERED,
    destinations_to_ask,
    is_to_be_asked,
    postponed,
)
from dicom_node.lifecycle import DeliveryEvent, DeliveryState
from dicom_node.model import Priority


class ConsignmentProofs:
    """See `Proofs`: the part of it that knows originals."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, destination: str, now: float, limit: int) -> list[Claim]:
        """Return whole consignments, as many as do not exceed the limit; one at least."""
        table = schema.consignments
        query = (
            select(table.c.consignment_id, table.c.instance_count)
            .where(table.c.destination == destination, is_to_be_asked(table, now))
            .order_by(table.c.sent_at, table.c.consignment_id)
            .limit(limit)
        )
        numbers: list[int] = []
        with self._database.reading() as connection:
            left = limit
            for number, count in connection.execute(query):
                if numbers and count > left:
                    break
                numbers.append(number)
                left -= count
            return read_claims(connection, numbers) if numbers else []

    def destinations_due(self, now: float) -> list[tuple[str, Priority]]:
        return destinations_to_ask(self._database, schema.consignments, now)

    def asked(
        self,
        claims: Sequence[Claim],
        transaction_uid: str,
        reason: str,
        not_before: float,
        now: float,
    ) -> list[Claim]:
        values = {"transaction_uid": transaction_uid, "not_before": not_before}
        by_number = _by_number(claims)
        with self._database.writing() as connection:
            lock(connection, _forwards_of(connection, by_number))
            return [
                claim
                for number, some in by_number.items()
                if _move(connection, number, some[0], DeliveryEvent.ASKED, reason, now, **values)
                for claim in some
            ]

    def follow(self, outcomes: Sequence[tuple[Claim, Outcome]], now: float) -> None:
        by_number: dict[int, list[tuple[Claim, Outcome]]] = {}
        for claim, outcome in outcomes:
            by_number.setdefault(claim.number, []).append((claim, outcome))
        with self._database.writing() as connection:
            forward_ids = _forwards_of(connection, by_number)
            lock(connection, forward_ids)
            for number, some in by_number.items():
                _follow(connection, number, some, now)
            gave_up = any(outcome.event is DeliveryEvent.GIVEN_UP for _, outcome in outcomes)
            for forward_id in forward_ids:
                settle(connection, forward_id, now, gave_up=gave_up)

    def answered(
        self,
        transaction_uid: str,
        destinations: Collection[str],
        answers: Mapping[str, int],
        now: float,
    ) -> int:
        table = schema.consignments
        asked = and_(
            table.c.transaction_uid == transaction_uid,
            table.c.destination.in_(list(destinations)),
            table.c.state.in_(MAY_BE_ANSWERED),
            table.c.committed.is_(None),
        )
        waiting = select(table.c.consignment_id, table.c.state).where(asked)
        counted = 0
        with self._database.writing() as connection:
            of = select(table.c.forward_id).where(asked).distinct()
            forward_ids = sorted(connection.execute(of).scalars())
            if not forward_ids:
                return 0
            lock(connection, forward_ids)
            for number, state in connection.execute(waiting).all():
                counted += _answer(connection, number, DeliveryState(state), answers, now)
            for forward_id in forward_ids:
                late, event = DeliveryState.UNPROVEN, DeliveryEvent.ANSWERED
                if counted and _has_waiting(connection, forward_id):
                    FORWARD_MOVES.move(connection, forward_id, late, event, "it answers late", now)
        return counted


def _follow(
    connection: Connection, number: int, outcomes: Sequence[tuple[Claim, Outcome]], now: float
) -> None:
    """Do what follows for a consignment; where not the same follows for all, it is split."""
    table, first = schema.consignments, outcomes[0][0]
    query = select(table.c.instance_count).where(
        table.c.consignment_id == number,
        table.c.state == first.state.value,
        table.c.committed.is_not_distinct_from(first.committed),
    )
    count = connection.execute(query).scalar_one_or_none()
    if count is None:
        return  # it was answered meanwhile, or everything in it is sent again
    by_outcome: dict[Outcome, list[Claim]] = {}
    for claim, outcome in outcomes:
        by_outcome.setdefault(outcome, []).append(claim)
    parts = sorted(by_outcome.items(), key=lambda part: len(part[1]))
    staying = parts.pop() if len(outcomes) >= count else None  # the most of them move no row
    for outcome, claims in parts:
        part, some = split(connection, number, map(_key, claims))
        if some:
            _end(connection, part, claims[0], outcome, now)
    if staying is not None and (not parts or recount(connection, number)):
        outcome, claims = staying
        _end(connection, number, claims[0], outcome, now)


def _end(connection: Connection, number: int, claim: Claim, outcome: Outcome, now: float) -> None:
    match outcome.event:
        case DeliveryEvent.GIVEN_UP:
            [forward_id] = _forwards_of(connection, [number])
            for uid in refuse(connection, number, outcome.reason):
                reason = f"{uid}: {outcome.reason}"
                write_event(connection, now, ("forward", str(forward_id)), "NOT_FORWARDED", reason)
            return
        case DeliveryEvent.POSTPONED:
            values = postponed(claim, outcome)
        case DeliveryEvent.MISSED:
            values = {"not_before": outcome.not_before}
        case _:
            values = {}
    _move(connection, number, claim, outcome.event, outcome.reason, now, **values)


def _answer(
    connection: Connection,
    number: int,
    state: DeliveryState,
    answers: Mapping[str, int],
    now: float,
) -> int:
    """Keep the answers for a consignment; return how many there are.

    What the answer leaves out goes on waiting, as it was.
    """
    table = schema.forwarded_instances
    query = select(table.c.series_instance_uid, table.c.sop_instance_uid, table.c.sent_as).where(
        table.c.consignment_id == number
    )
    by_answer: dict[int | None, list[Key]] = {}
    for series, sop, sent_as in connection.execute(query):
        answer = answers.get(sent_as[2] if sent_as else sop)
        by_answer.setdefault(answer, []).append((series, sop))
    left_out = by_answer.pop(None, [])
    parts = sorted(by_answer.items(), key=lambda part: len(part[1]))
    for place, (answer, keys) in enumerate(parts, 1):
        is_rest = place == len(parts) and not left_out
        part = number if is_rest else split(connection, number, keys)[0]
        MOVES.move(
            connection,
            part,
            state,
            DeliveryEvent.ANSWERED,
            answer_in_words(answer or 0),
            now,
            committed=answer,
            not_before=now,
        )
    return sum(len(keys) for _, keys in parts)


def _move(
    connection: Connection,
    number: int,
    claim: Claim,
    event: DeliveryEvent,
    reason: str,
    now: float,
    **values: Any,
) -> bool:
    """Move a consignment that is still where it was looked at, with the same answer."""
    committed = schema.consignments.c.committed
    fence = committed.is_not_distinct_from(claim.committed)
    return MOVES.move(connection, number, claim.state, event, reason, now, fence, **values)


def _key(claim: Claim) -> Key:
    """Return what names an original here; it may have gone under other UIDs."""
    if not isinstance(claim.sent, Forwarded):
        raise InvariantBroken(f"{claim.sop_instance_uid} was not forwarded")
    return claim.sent.instance.series_instance_uid, claim.sent.instance.sop_instance_uid


def _by_number(claims: Sequence[Claim]) -> dict[int, list[Claim]]:
    by_number: dict[int, list[Claim]] = {}
    for claim in claims:
        by_number.setdefault(claim.number, []).append(claim)
    return by_number


def _forwards_of(connection: Connection, numbers: Iterable[int]) -> list[int]:
    table = schema.consignments
    query = select(table.c.forward_id).where(table.c.consignment_id.in_(list(numbers))).distinct()
    return sorted(connection.execute(query).scalars())


def _has_waiting(connection: Connection, forward_id: int) -> bool:
    table = schema.consignments
    query = select(table.c.consignment_id).where(
        table.c.forward_id == forward_id, table.c.state == DeliveryState.SENT.value
    )
    return connection.execute(query.limit(1)).first() is not None
