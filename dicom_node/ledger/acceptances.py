"""What destinations were seen to accept: a fact of a peer, asked for now and then.

A SOP Class stands for it in the encoding in which we would send it: Segmentations run-length
encoded.
"""

from __future__ import annotations

from sqlalchemy import select, update

from dicom_node.ledger import schema
from dicom_node.ledger.database import Database


class Acceptances:
    """The part of the ledger that remembers answers to proposed presentation contexts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, destination: str, sop_class_uid: str, *, accepted: bool, now: float) -> None:
        """Remember whether a destination accepts a SOP Class; the latest answer counts."""
        table = schema.acceptances
        values = {"accepted": accepted, "asked_at": now}
        key = {"destination": destination, "sop_class_uid": sop_class_uid}
        with self._database.writing() as connection:
            if not self._database.insert_new(connection, table, key | values):
                connection.execute(
                    update(table)
                    .where(
                        table.c.destination == destination, table.c.sop_class_uid == sop_class_uid
                    )
                    .values(**values)
                )

    def asked_at(self, destination: str, sop_class_uid: str) -> float | None:
        """Return when a destination last answered for a SOP Class."""
        table = schema.acceptances
        query = select(table.c.asked_at).where(
            table.c.destination == destination, table.c.sop_class_uid == sop_class_uid
        )
        with self._database.reading() as connection:
            return connection.execute(query).scalar_one_or_none()

    def accepting(self, sop_class_uid: str) -> frozenset[str]:
        """Return the destinations that accepted a SOP Class when they were last asked."""
        table = schema.acceptances
        query = select(table.c.destination).where(
            table.c.sop_class_uid == sop_class_uid, table.c.accepted
        )
        with self._database.reading() as connection:
            return frozenset(connection.execute(query).scalars())
