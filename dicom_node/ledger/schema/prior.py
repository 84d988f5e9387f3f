"""Prior studies that jobs wait for."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
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
from dicom_node.lifecycle import FetchState

prior_fetches = Table(
    "prior_fetches",
    metadata,
    Column("fetch_id", NUMBER, primary_key=True, autoincrement=True),
    Column("job_id", Text, ForeignKey("jobs.job_id"), nullable=False),  # which waits for it
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), nullable=False),
    Column("series_instance_uid", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("wanted", JSON, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("give_up_at", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    state_check(FetchState),
    UniqueConstraint("job_id"),
    Index(None, "state", "source", "not_before"),
    Index(None, "study_instance_uid"),
)

fetched_priors = Table(
    "fetched_priors",
    metadata,
    Column("fetch_id", NUMBER, ForeignKey("prior_fetches.fetch_id"), primary_key=True),
    Column("study_instance_uid", Text, primary_key=True),  # it may not have come yet
    Column("calling_ae_title", Text, nullable=False),  # as whom the archive sends
    Column("was_held", Boolean, nullable=False),  # it was here already, and nothing was asked for
    Column("instance_count", Integer, nullable=False),  # as the archive counts
    Column("failed", Integer, nullable=False),
    Column("is_whole", Boolean, nullable=False),
    Column("asked_at", Float, nullable=False),
    Column("ended_at", Float),  # NULL while it comes; later instances were not asked for
    Index(None, "study_instance_uid"),
)
