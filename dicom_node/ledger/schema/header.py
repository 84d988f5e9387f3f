"""The headers of instances, as far as rules ask for them."""

from __future__ import annotations

from sqlalchemy import JSON, Column, ForeignKey, Table, Text

from dicom_node.ledger.schema.base import metadata

header_keysets = Table(
    "header_keysets",
    metadata,
    Column("keyset", Text, primary_key=True),  # digest of the keywords
    Column("keywords", JSON, nullable=False),  # those that were looked for
)

series_headers = Table(
    "series_headers",
    metadata,
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("series_instance_uid", Text, primary_key=True),
    Column("attributes", JSON, nullable=False),  # of its first instance
)

instance_headers = Table(
    "instance_headers",
    metadata,
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("series_instance_uid", Text, primary_key=True),
    Column("sop_instance_uid", Text, primary_key=True),
    Column("digest", Text, nullable=False),  # of the bytes that it was read from
    Column("keyset", Text, ForeignKey("header_keysets.keyset"), nullable=False),
    Column("attributes", JSON, nullable=False),  # where they differ from the series'
    Column("unreadable", Text, nullable=False),  # why it could not be parsed, or empty
)
