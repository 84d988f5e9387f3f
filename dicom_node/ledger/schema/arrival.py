"""What came in: associations, studies, instances, and who carried what."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, Table, Text

from dicom_node.ledger.schema.base import metadata, state_check
from dicom_node.lifecycle import StudyState

associations = Table(
    "associations",
    metadata,
    Column("association_id", Text, primary_key=True),
    Column("calling_ae_title", Text, nullable=False),
    Column("called_ae_title", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("closed_at", Float),  # NULL while it is open
    Column("ended", Text),  # released, aborted or lost
    Index(None, "closed_at"),
)

receive_logs = Table(
    "receive_logs",
    metadata,
    Column("log", Text, primary_key=True),
    Column("segment_number", BigInteger, nullable=False),  # everything before this place
    Column("offset", BigInteger, nullable=False),  # is in the ledger
)

studies = Table(
    "studies",
    metadata,
    Column("study_instance_uid", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("last_instance_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("released_revision", Integer, nullable=False, server_default="0"),  # not held by rules
    state_check(StudyState),
    Index(None, "state"),
)

instances = Table(
    "instances",
    metadata,
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("series_instance_uid", Text, primary_key=True),
    Column("sop_instance_uid", Text, primary_key=True),
    Column("sop_class_uid", Text, nullable=False),
    Column("transfer_syntax_uid", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("association_id", Text, nullable=False),
    Column("calling_ae_title", Text, nullable=False),
    Index(None, "sop_instance_uid"),
)

carried = Table(  # what came through which association, repeats too
    "carried",
    metadata,
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("series_instance_uid", Text, primary_key=True),
    Column("association_id", Text, ForeignKey("associations.association_id"), primary_key=True),
    Column("instance_count", Integer, nullable=False),
    Column("last_at", Float, nullable=False),
    Index(None, "association_id"),
)
