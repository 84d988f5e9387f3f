"""Whether a study is whole, and how fast its senders send."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Float, ForeignKey, Integer, Table, Text

from dicom_node.ledger.schema.base import metadata

verdicts = Table(
    "verdicts",
    metadata,
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("series_instance_uid", Text, primary_key=True),  # empty for the study
    Column("revision", Integer, primary_key=True),
    Column("verdict", Text, nullable=False),
    Column("spoke_for", JSON, nullable=False),
    Column("spoke_against", JSON, nullable=False),
    Column("at", Float, nullable=False),
)

paces = Table(
    "paces",
    metadata,
    Column("calling_ae_title", Text, primary_key=True),
    Column("modality", Text, primary_key=True),
    Column("silences", JSON, nullable=False),  # of recent studies: UID, released_s, open_s
    Column("updated_at", Float, nullable=False),
)
