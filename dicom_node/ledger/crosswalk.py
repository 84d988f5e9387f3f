"""The crosswalk: what was replaced in copies that left, so that their results find the way back.

It holds patient identity: what was taken out of the copies stands here, and nowhere else in the
ledger. Only what a result needs is kept: UIDs, dates, and the patient and study modules.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from dicom_node.ledger import schema
from dicom_node.ledger.database import Database
from dicom_node.model import CrosswalkEntry

_TABLE = schema.crosswalk
_COLUMNS = ("profile", "study_instance_uid", "kind", "original", "replacement")


class Crosswalk:
    """The part of the ledger that leads from a copy to its original, and back."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, entries: Sequence[CrosswalkEntry]) -> None:
        """Keep entries, durably; before their copy leaves. What is known already stays as it is."""
        rows = [{column: getattr(entry, column) for column in _COLUMNS} for entry in entries]
        if rows:
            with self._database.writing() as connection:
                self._database.insert_missing(connection, _TABLE, rows)

    def find(self, study_instance_uid: str) -> tuple[CrosswalkEntry, ...]:
        """Return all that is known of a study of copies, the first recorded first.

        None: the UID belongs to no copy, so what comes with it is no result for one.
        """
        query = (
            select(*(_TABLE.c[column] for column in _COLUMNS))
            .where(_TABLE.c.study_instance_uid == study_instance_uid)
            .order_by(_TABLE.c.crosswalk_id)
        )
        with self._database.reading() as connection:
            return tuple(CrosswalkEntry(**row) for row in connection.execute(query).mappings())
