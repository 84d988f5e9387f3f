"""What is the same of all rows that wait for their proof: deliveries and consignments."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Table, and_, func, select

from dicom_node.claims import Claim, Outcome
from dicom_node.ledger.database import Database
from dicom_node.ledger.transitions import is_due
from dicom_node.lifecycle import DeliveryState
from dicom_node.model import Priority

MAY_BE_ANSWERED = (DeliveryState.SENT.value, DeliveryState.UNPROVEN.value)
"""For these an answer counts, however late it comes."""


def is_to_be_asked(table: Table, now: float) -> ColumnElement[bool]:
    """Return the condition that a row can be asked about now."""
    return and_(table.c.state == DeliveryState.SENT.value, is_due(table.c.not_before, now))


def destinations_to_ask(database: Database, table: Table, now: float) -> list[tuple[str, Priority]]:
    """Return the destinations of such rows, and how urgent the most urgent one is."""
    query = (
        select(table.c.destination, func.min(table.c.priority))
        .where(is_to_be_asked(table, now))
        .group_by(table.c.destination)
    )
    with database.reading() as connection:
        return [(name, Priority(urgency)) for name, urgency in connection.execute(query)]


def postponed(claim: Claim, outcome: Outcome) -> dict[str, Any]:
    """Return what is set beside the state where a question is put off."""
    forgotten = {"transaction_uid": ""} if outcome.forget else {}
    return {"not_before": outcome.not_before, "failures": claim.failures + 1, **forgotten}
