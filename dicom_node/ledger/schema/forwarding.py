"""Originals on their way, and what their copies stand for."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
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
from dicom_node.lifecycle import CONSIGNMENT_STATES, DeliveryState

forwards = Table(
    "forwards",
    metadata,
    Column("forward_id", NUMBER, primary_key=True, autoincrement=True),
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), nullable=False),
    Column("destination", Text, nullable=False),
    Column("profile", Text, nullable=False),  # empty: as they came
    Column("rule", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("tried_since", Float, nullable=False),  # giving up counts from here
    Column("updated_at", Float, nullable=False),
    state_check(DeliveryState),
    UniqueConstraint("study_instance_uid", "destination", "profile"),
    Index(None, "state", "destination", "not_before"),
)

consignments = Table(
    "consignments",
    metadata,
    Column("consignment_id", NUMBER, primary_key=True, autoincrement=True),
    Column("forward_id", NUMBER, ForeignKey("forwards.forward_id"), nullable=False),
    Column("destination", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("instance_count", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("sent_at", Float, nullable=False),
    Column("transaction_uid", Text, nullable=False),  # or empty
    Column("committed", Integer),  # 0, a Failure Reason, or NULL while it has not been answered
    Column("updated_at", Float, nullable=False),
    state_check(CONSIGNMENT_STATES),
    Index(None, "state", "destination", "not_before"),
    Index(None, "transaction_uid"),
    Index(None, "forward_id", "state"),
    sqlite_autoincrement=True,  # the number of one that is gone must not come again: it fences
)

forwarded_instances = Table(
    "forwarded_instances",
    metadata,
    Column("forward_id", NUMBER, ForeignKey("forwards.forward_id"), primary_key=True),
    Column("series_instance_uid", Text, primary_key=True),
    Column("sop_instance_uid", Text, primary_key=True),
    Column("digest", Text, nullable=False),  # of the bytes that were chosen
    Column("sent_at", Float),  # NULL until the destination has taken it
    Column("refused", Text, nullable=False),  # why it can never be sent, or empty
    Column("consignment_id", NUMBER),  # in which it went; NULL until the destination has taken it
    Column("sent_as", JSON(none_as_null=True)),  # UIDs of the copy that went; NULL: as it came
    Column("resends", Integer, nullable=False, server_default="0"),
    Index(None, "consignment_id"),
)

crosswalk = Table(
    "crosswalk",
    metadata,
    Column("crosswalk_id", NUMBER, primary_key=True, autoincrement=True),
    Column("profile", Text, nullable=False),
    Column("study_instance_uid", Text, nullable=False),  # of the copy
    Column("kind", Text, nullable=False),  # uid, date, or a keyword
    Column("original", Text, nullable=False),  # may be patient identity
    Column("replacement", Text, nullable=False),
    UniqueConstraint("study_instance_uid", "profile", "kind", "replacement"),
)
