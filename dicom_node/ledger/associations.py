"""Associations: who connected, and how it ended."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import update

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

    def close_lost(self, now: float) -> int:
        """Mark every open association as lost: the receiver that held them is gone."""
        table = schema.associations
        with self._database.writing() as connection:
            return connection.execute(
                update(table)
                .where(table.c.closed_at.is_(None))
                .values(closed_at=now, ended=AssociationEnd.LOST.value)
            ).rowcount
