"""Associations: who connected, and how it ended."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import select, update

from dicom_node.ledger import schema
from dicom_node.ledger.database import Database


class AssociationEnd(StrEnum):
    RELEASED = "released"
    ABORTED = "aborted"
    LOST = "lost"


class Associations:
    """The rows that the receiver writes, as evidence for the assembler."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def opened(
        self, association_id: str, calling: str, called: str, address: str, now: float
    ) -> None:
        with self._database.writing() as connection:
            self._database.insert(
                connection,
                schema.associations,
                {
                    "association_id": association_id,
                    "calling_ae_title": calling,
                    "called_ae_title": called,
                    "address": address,
                    "opened_at": now,
                },
            )

    def closed(self, association_id: str, end: AssociationEnd, now: float) -> None:
        """Note how an association ended; only its first end counts."""
        table = schema.associations
        with self._database.writing() as connection:
            connection.execute(
                update(table)
                .where(table.c.association_id == association_id, table.c.closed_at.is_(None))
                .values(closed_at=now, ended=end.value)
            )

    def called(self, study_instance_uid: str) -> dict[str, str]:
        """Return the AE title by which each association of a study called us, by its ID."""
        a, link = schema.associations, schema.carried
        query = (
            select(a.c.association_id, a.c.called_ae_title)
            .join(link, link.c.association_id == a.c.association_id)
            .where(link.c.study_instance_uid == study_instance_uid)
            .distinct()
        )
        with self._database.reading() as connection:
            return {row.association_id: row.called_ae_title for row in connection.execute(query)}

    def close_lost(self, now: float) -> int:
        """Mark every open association as lost: the receiver that held them is gone."""
        table = schema.associations
        with self._database.writing() as connection:
            return connection.execute(
                update(table)
                .where(table.c.closed_at.is_(None))
                .values(closed_at=now, ended=AssociationEnd.LOST.value)
            ).rowcount
