"""The rules, and what they made of studies."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Float, ForeignKey, Index, Integer, Table, Text

from dicom_node.ledger.schema.base import metadata

rule_sets = Table(
    "rule_sets",
    metadata,
    Column("rule_set", Text, primary_key=True),  # SHA-256 of the text
    Column("text", Text, nullable=False),
    Column("loaded_at", Float, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("decision_number", Integer, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("rule_set", Text, ForeignKey("rule_sets.rule_set"), nullable=False),
    Column("completeness", Text, nullable=False),
    Column("decided", JSON, nullable=False),
    Column("decided_at", Float, nullable=False),
    Index(None, "decided_at"),
)

awaited_findings = Table(
    "awaited_findings",
    metadata,
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("series_instance_uid", Text, primary_key=True),
    Column("engine_name", Text, primary_key=True),
)

drops = Table(
    "drops",
    metadata,
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("series_instance_uid", Text, primary_key=True),
    Column("sop_instance_uid", Text, primary_key=True),
    Column("rule", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("dropped_at", Float, nullable=False),
    Index(None, "dropped_at"),
)
