"""What others said of studies, and what was asked of us about them."""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Index, Integer, Table, Text, UniqueConstraint

from dicom_node.ledger.schema.base import NUMBER, metadata, state_check
from dicom_node.lifecycle import CommitmentState

commitments = Table(
    "commitments",
    metadata,
    Column("commitment_id", NUMBER, primary_key=True, autoincrement=True),
    Column("transaction_uid", Text, nullable=False),
    Column("calling_ae_title", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("tried_since", Float, nullable=False),  # giving up counts from here
    Column("updated_at", Float, nullable=False),
    state_check(CommitmentState),
    UniqueConstraint("calling_ae_title", "transaction_uid"),
    Index(None, "state", "not_before"),
)

commitment_references = Table(
    "commitment_references",
    metadata,
    Column("commitment_id", NUMBER, ForeignKey("commitments.commitment_id"), primary_key=True),
    Column("reference_number", Integer, primary_key=True),
    Column("sop_class_uid", Text, nullable=False),
    Column("sop_instance_uid", Text, nullable=False),
)

announcements = Table(
    "announcements",
    metadata,
    Column("source_uid", Text, primary_key=True),  # of the procedure step or the notification
    Column("kind", Text, nullable=False),  # MPPS or IAN
    Column("calling_ae_title", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("announced_at", Float, nullable=False),
    Column("ended_at", Float),  # NULL while a procedure step is in progress
    Column("updated_at", Float, nullable=False),
)

announced_studies = Table(
    "announced_studies",
    metadata,
    Column("study_instance_uid", Text, primary_key=True),  # it may not have come yet
    Column("source_uid", Text, ForeignKey("announcements.source_uid"), primary_key=True),
    Index(None, "source_uid"),
)

announced_instances = Table(
    "announced_instances",
    metadata,
    Column("source_uid", Text, ForeignKey("announcements.source_uid"), primary_key=True),
    Column("sop_instance_uid", Text, primary_key=True),
    Column("series_instance_uid", Text, nullable=False),
    Column("sop_class_uid", Text, nullable=False),
    Column("availability", Text, nullable=False),  # empty in a procedure step
)
