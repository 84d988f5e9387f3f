"""How long each scanner pauses inside of a study: what the assembler has learned of it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from dicom_node.ledger import schema
from dicom_node.ledger.database import Database
from dicom_node.verdict import Silences

_STUDIES_KEPT = 50


@dataclass(frozen=True)
class Lesson:
    """The silences of one study, to be remembered for who sent it."""

    calling_ae_title: str
    modality: str
    """Empty where it is not known."""
    silences: Silences


class Paces:
    """The part of the ledger that keeps the silences of recent studies."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, calling_ae_title: str, modality: str) -> tuple[Silences, ...]:
        """Return the silences of the last studies of a scanner, the oldest first."""
        table = schema.paces
        query = select(table.c.silences).where(
            table.c.calling_ae_title == calling_ae_title, table.c.modality == modality
        )
        with self._database.reading() as connection:
            kept = connection.execute(query).scalar_one_or_none() or []
        return tuple(Silences(released_s, open_s) for _, released_s, open_s in kept)


def learn(
    database: Database, connection: Connection, study_instance_uid: str, lesson: Lesson, now: float
) -> None:
    """Remember a study's silences, in the transaction that completes it.

    A study that was learned before, and got a late instance since, is corrected in its place.
    """
    table = schema.paces
    here = (
        table.c.calling_ae_title == lesson.calling_ae_title,
        table.c.modality == lesson.modality,
    )
    kept = connection.execute(
        select(table.c.silences).where(*here).with_for_update()
    ).scalar_one_or_none()
    entry = [study_instance_uid, lesson.silences.released_s, lesson.silences.open_s]
    entries = [entry if known[0] == study_instance_uid else known for known in kept or []]
    if entry not in entries:
        entries.append(entry)
    row = {
        "calling_ae_title": lesson.calling_ae_title,
        "modality": lesson.modality,
        "silences": entries[-_STUDIES_KEPT:],
        "updated_at": now,
    }
    if kept is not None or not database.insert_new(connection, table, row):
        connection.execute(update(table).where(*here).values(**row))
