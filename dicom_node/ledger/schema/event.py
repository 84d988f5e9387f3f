"""Why anything changed."""

from __future__ import annotations

from sqlalchemy import Column, Float, Index, Table, Text

from dicom_node.ledger.schema.base import NUMBER, metadata

events = Table(
    "events",
    metadata,
    Column("event_id", NUMBER, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("subject_kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("from_state", Text, nullable=False),
    Column("to_state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Index(None, "subject", "event_id"),
    Index(None, "event"),
    Index(None, "at"),
)
