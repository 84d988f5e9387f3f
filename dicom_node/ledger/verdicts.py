"""What was said of each study and series when it was acted upon: who spoke for and against it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from sqlalchemy import Connection, delete, insert, select

from dicom_node.ledger import schema
from dicom_node.ledger.database import Database
from dicom_node.verdict import Certainty, Verdict


@dataclass(frozen=True)
class KeptVerdict:
    """A row: the verdict on a study, or on one of its series, in one revision."""

    series_instance_uid: str
    """Empty for the study."""
    revision: int
    certainty: Certainty
    for_: tuple[str, ...]
    against: tuple[str, ...]
    at: float


class Verdicts:
    """The part of the ledger that remembers why a study was taken as it was."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_study(self, study_instance_uid: str) -> list[KeptVerdict]:
        """Return all verdicts, by revision, the study's before those of its series."""
        table = schema.verdicts
        query = (
            select(table)
            .where(table.c.study_instance_uid == study_instance_uid)
            .order_by(table.c.revision, table.c.series_instance_uid)
        )
        with self._database.reading() as connection:
            return [
                KeptVerdict(
                    row.series_instance_uid,
                    row.revision,
                    Certainty(row.verdict),
                    tuple(row.spoke_for),
                    tuple(row.spoke_against),
                    row.at,
                )
                for row in connection.execute(query)
            ]


def put_verdict(
    connection: Connection, study_instance_uid: str, revision: int, verdict: Verdict, now: float
) -> None:
    """Write a verdict, in the transaction that acts upon it."""
    table = schema.verdicts
    whole = ("", verdict.certainty, verdict.for_, verdict.against)
    each = ((s.series_instance_uid, s.certainty, s.for_, s.against) for s in verdict.series)
    connection.execute(  # a study that was put back is judged again in the same revision
        delete(table).where(
            table.c.study_instance_uid == study_instance_uid, table.c.revision == revision
        )
    )
    connection.execute(
        insert(table),
        [
            {
                "study_instance_uid": study_instance_uid,
                "series_instance_uid": series,
                "revision": revision,
                "verdict": certainty.value,
                "spoke_for": list(for_),
                "spoke_against": list(against),
                "at": now,
            }
            for series, certainty, for_, against in chain([whole], each)
        ],
    )
