"""What the node holds, counted by study and series: the answers to C-FIND."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from sqlalchemy import func, select

from dicom_node.ledger import schema
from dicom_node.ledger.database import Database
from dicom_node.model import Instance


@dataclass(frozen=True)
class HeldSeries:
    """A series, as far as the ledger knows it."""

    study_instance_uid: str
    series_instance_uid: str
    instance_count: int
    sop_class_uids: tuple[str, ...]
    first_sop_instance_uid: str
    """The instance whose header speaks for the series: that whose UID sorts first."""


@dataclass(frozen=True)
class HeldStudy:
    """A study, as far as the ledger knows it."""

    study_instance_uid: str
    series: tuple[HeldSeries, ...]
    """At least one, by Series Instance UID."""

    @property
    def instance_count(self) -> int:
        return sum(series.instance_count for series in self.series)

    @property
    def sop_class_uids(self) -> tuple[str, ...]:
        return tuple(sorted({uid for series in self.series for uid in series.sop_class_uids}))


class Holdings:
    """The part of the ledger that answers what is here."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest_studies(self, limit: int) -> list[str]:
        """Return Study Instance UIDs, the one that received an instance last first."""
        table = schema.studies
        query = (
            select(table.c.study_instance_uid)
            .order_by(table.c.last_instance_at.desc(), table.c.study_instance_uid)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def studies(self, study_instance_uids: Sequence[str]) -> list[HeldStudy]:
        """Return those of these studies that are here, in the order of the argument."""
        table = schema.instances
        key = (table.c.study_instance_uid, table.c.series_instance_uid, table.c.sop_class_uid)
        query = (
            select(*key, func.count().label("count"), func.min(table.c.sop_instance_uid))
            .where(table.c.study_instance_uid.in_(study_instance_uids))
            .group_by(*key)
        )
        found: dict[str, dict[str, list[tuple[str, int, str]]]] = {}
        with self._database.reading() as connection:
            for study, series, sop_class, count, first in connection.execute(query):
                of_series = found.setdefault(study, {}).setdefault(series, [])
                of_series.append((sop_class, count, first))
        return [
            HeldStudy(
                study,
                tuple(
                    _series(study, series, counted)
                    for series, counted in sorted(found[study].items())
                ),
            )
            for study in dict.fromkeys(study_instance_uids)
            if study in found
        ]

    def instance(
        self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str
    ) -> Instance | None:
        table = schema.instances
        query = select(*[table.c[field.name] for field in fields(Instance)]).where(
            table.c.study_instance_uid == study_instance_uid,
            table.c.series_instance_uid == series_instance_uid,
            table.c.sop_instance_uid == sop_instance_uid,
        )
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else Instance(*row)


def _series(
    study_instance_uid: str, series_instance_uid: str, counted: list[tuple[str, int, str]]
) -> HeldSeries:
    """Return a series from its (SOP Class UID, count, first SOP Instance UID)."""
    return HeldSeries(
        study_instance_uid,
        series_instance_uid,
        instance_count=sum(count for _, count, _ in counted),
        sop_class_uids=tuple(sorted(sop_class for sop_class, _, _ in counted)),
        first_sop_instance_uid=min(first for _, _, first in counted),
    )
