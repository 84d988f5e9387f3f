"""Results, their deliveries, and what is known of those who get them."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
)

from dicom_node.ledger.schema.base import NUMBER, metadata, state_check
from dicom_node.lifecycle import BreakerState, DeliveryState

results = Table(
    "results",
    metadata,
    Column("sop_instance_uid", Text, primary_key=True),
    Column("sop_class_uid", Text, nullable=False),
    Column("series_instance_uid", Text, nullable=False),
    Column("study_instance_uid", Text, nullable=False),
    Column("transfer_syntax_uid", Text, nullable=False),
    Column("job_id", Text, ForeignKey("jobs.job_id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    Column("renditions", JSON, nullable=False, server_default='["default"]'),  # trees it is in
    Index(None, "job_id"),
    Index(None, "study_instance_uid"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("delivery_id", NUMBER, primary_key=True, autoincrement=True),
    Column("sop_instance_uid", Text, ForeignKey("results.sop_instance_uid"), nullable=False),
    Column("destination", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("tried_since", Float, nullable=False),  # giving up counts from here
    Column("updated_at", Float, nullable=False),
    Column("sent_at", Float),  # NULL until the destination has answered Success
    Column("resends", Integer, nullable=False, server_default="0"),
    Column("transaction_uid", Text, nullable=False, server_default=""),  # or empty
    Column("committed", Integer),  # 0, a Failure Reason, or NULL while it has not been answered
    state_check(DeliveryState),
    UniqueConstraint("sop_instance_uid", "destination"),
    Index(None, "state", "destination", "not_before"),
    Index(None, "transaction_uid"),
)

breakers = Table(
    "breakers",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("not_before", Float, nullable=False),  # the next probe
    Column("opened_at", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("updated_at", Float, nullable=False),
    state_check(BreakerState),
)

acceptances = Table(
    "acceptances",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("sop_class_uid", Text, primary_key=True),
    Column("accepted", Boolean, nullable=False),
    Column("asked_at", Float, nullable=False),
)
