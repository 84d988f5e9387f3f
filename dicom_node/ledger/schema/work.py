"""Engines' jobs, and versions of engines that are compared."""

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
from dicom_node.lifecycle import ComparisonState, JobState, TrialState

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), nullable=False),
    Column("series_instance_uid", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("engine_name", Text, nullable=False),
    Column("engine_version", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("destinations", JSON, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("summary", Text, nullable=False),
    Column("seconds", JSON, nullable=False),
    Column("parameters", JSON, nullable=False, server_default="{}"),
    Column("facts", JSON, nullable=False, server_default="{}"),  # what rules may ask of it
    Column("role", Text, nullable=False, server_default="current"),  # current, canary or shadow
    Column("renditions", JSON, nullable=False, server_default="{}"),  # by destination
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    state_check(JobState),
    Index(None, "state", "not_before"),
    Index(None, "study_instance_uid"),
)

trials = Table(
    "trials",
    metadata,
    Column("trial_id", NUMBER, primary_key=True, autoincrement=True),
    Column("current_engine", Text, nullable=False),
    Column("current_version", Text, nullable=False),
    Column("candidate_engine", Text, nullable=False),
    Column("candidate_version", Text, nullable=False),
    Column("mode", Text, nullable=False),  # shadow or canary
    Column("share", Float, nullable=False),
    Column("stop", JSON, nullable=False),
    Column("state", Text, nullable=False),
    Column("counts_from", Float, nullable=False),  # for the stop rules
    Column("reason", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    state_check(TrialState),
    UniqueConstraint(
        *("current_engine", "current_version", "candidate_engine", "candidate_version"),
        name="uq_trials_versions",  # PostgreSQL has 63 characters for a name
    ),
)

comparisons = Table(
    "comparisons",
    metadata,
    Column("comparison_id", NUMBER, primary_key=True, autoincrement=True),
    Column("trial_id", NUMBER, ForeignKey("trials.trial_id"), nullable=False),
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), nullable=False),
    Column("series_instance_uid", Text, nullable=False),
    Column("current_job_id", Text, ForeignKey("jobs.job_id"), nullable=False),
    Column("candidate_job_id", Text, ForeignKey("jobs.job_id"), nullable=False),
    Column("mode", Text, nullable=False),  # of the trial when the study was routed
    Column("state", Text, nullable=False),
    Column("agreement", JSON, nullable=False),
    Column("current_s", Float),  # NULL until it is compared
    Column("candidate_s", Float),
    Column("reason", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    state_check(ComparisonState),
    UniqueConstraint("current_job_id", "candidate_job_id"),
    Index(None, "trial_id", "state"),
    Index(None, "study_instance_uid"),
    Index(None, "state"),
)
