"""What has come of the studies that are still arriving, and how: the evidence in the ledger."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, func, select

from dicom_node.ledger import schema
from dicom_node.ledger.arrivals import NAMES_IN_A_QUERY, pieces
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.ledger.events import INSTANCE_REFUSED
from dicom_node.lifecycle import StudyState


@dataclass(frozen=True)
class Carrier:
    """An association that carried instances of a study."""

    association_id: str
    calling_ae_title: str
    opened_at: float
    closed_at: float | None
    """None while it is open."""
    end: AssociationEnd | None
    last_at: float
    """When it carried one of the study last, a repeated one too."""
    last_series: str
    """The series of that one."""
    series: frozenset[str]


@dataclass(frozen=True)
class StudyEvidence:
    """What the ledger has seen of a study that is still arriving."""

    study_instance_uid: str
    revision: int
    instance_count: int
    last_instance_at: float
    """When one came last that was new, or had another content."""
    carriers: tuple[Carrier, ...]
    announced: tuple[tuple[str, float], ...] = ()
    """Who announced it and when that changed last: (source UID, time)."""
    refused: frozenset[str] = frozenset()
    """SOP Instance UIDs refused on an association that carried the study, and not here since."""

    @property
    def open_associations(self) -> int:
        return sum(carrier.closed_at is None for carrier in self.carriers)


@dataclass(frozen=True)
class Arrived:
    """One instance of a study, as far as its completeness is concerned."""

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    received_at: float


def receiving(connection: Connection) -> list[StudyEvidence]:
    """Return the evidence on every study that is still arriving."""
    carried = _carried(connection)
    announced = _announced(connection)
    refused = _refused(connection, carried)
    return [
        _evidence(rows, announced.get(uid, ()), refused.get(uid, frozenset()))
        for uid, rows in carried.items()
    ]


def arrived(connection: Connection, study_instance_uid: str) -> list[Arrived]:
    """Return what has come of a study, in the order in which it came."""
    table = schema.instances
    query = (
        select(*[table.c[field.name] for field in fields(Arrived)])
        .where(table.c.study_instance_uid == study_instance_uid)
        .order_by(table.c.received_at, table.c.sop_instance_uid)
    )
    return [Arrived(*row) for row in connection.execute(query)]


def _carried(connection: Connection) -> dict[str, list[Any]]:
    """Return, of each study that is arriving, a row for each series and association."""
    s, a, link, i = schema.studies, schema.associations, schema.carried, schema.instances
    counts = (
        select(i.c.study_instance_uid, func.count().label("instance_count"))
        .join(s, s.c.study_instance_uid == i.c.study_instance_uid)
        .where(s.c.state == StudyState.RECEIVING)
        .group_by(i.c.study_instance_uid)
        .subquery()
    )
    query = (
        select(
            s.c.study_instance_uid,
            s.c.revision,
            s.c.last_instance_at,
            counts.c.instance_count,
            link.c.series_instance_uid,
            link.c.last_at,
            a.c.association_id,
            a.c.calling_ae_title,
            a.c.opened_at,
            a.c.closed_at,
            a.c.ended,
        )
        .join(counts, counts.c.study_instance_uid == s.c.study_instance_uid)
        .join(link, link.c.study_instance_uid == s.c.study_instance_uid)
        .join(a, a.c.association_id == link.c.association_id)
        .where(s.c.state == StudyState.RECEIVING)
        .order_by(s.c.study_instance_uid, a.c.opened_at, a.c.association_id, link.c.last_at)
    )
    rows: dict[str, list[Any]] = {}
    for row in connection.execute(query):
        rows.setdefault(row.study_instance_uid, []).append(row)
    return rows


def _announced(connection: Connection) -> dict[str, tuple[tuple[str, float], ...]]:
    s, a, link = schema.studies, schema.announcements, schema.announced_studies
    query = (
        select(s.c.study_instance_uid, a.c.source_uid, a.c.updated_at)
        .join(link, link.c.study_instance_uid == s.c.study_instance_uid)
        .join(a, a.c.source_uid == link.c.source_uid)
        .where(s.c.state == StudyState.RECEIVING)
        .order_by(a.c.source_uid)
    )
    found: dict[str, tuple[tuple[str, float], ...]] = {}
    for study, source_uid, updated_at in connection.execute(query):
        found[study] = (*found.get(study, ()), (source_uid, updated_at))
    return found


def _refused(connection: Connection, carried: dict[str, list[Any]]) -> dict[str, frozenset[str]]:
    """Return what was refused on the associations of each study and has not come since."""
    table = schema.events
    associations = sorted({row.association_id for rows in carried.values() for row in rows})
    refused: dict[str, set[str]] = {}
    for some in pieces(associations, NAMES_IN_A_QUERY):
        # by subject alone, which is indexed: an association has hardly any other events
        query = select(table.c.subject, table.c.event, table.c.reason)
        for row in connection.execute(query.where(table.c.subject.in_(some))):
            if row.event == INSTANCE_REFUSED:
                refused.setdefault(row.subject, set()).add(row.reason)
    if not refused:
        return {}
    here = held(connection, set().union(*refused.values()))
    return {
        study: frozenset().union(*(refused.get(row.association_id, ()) for row in rows)) - here
        for study, rows in carried.items()
    }


def held(connection: Connection, sop_instance_uids: Collection[str]) -> frozenset[str]:
    """Return those of these instances that are here, in whatever study."""
    column = schema.instances.c.sop_instance_uid
    found: set[str] = set()
    for some in pieces(sorted(sop_instance_uids), NAMES_IN_A_QUERY):
        found.update(connection.execute(select(column).where(column.in_(some))).scalars())
    return frozenset(found)


def _evidence(
    rows: list[Any], announced: tuple[tuple[str, float], ...], refused: frozenset[str]
) -> StudyEvidence:
    """Return the evidence in a study's rows, one for each series and association."""
    by_association: dict[str, list[Any]] = {}
    for row in rows:
        by_association.setdefault(row.association_id, []).append(row)
    first = rows[0]
    return StudyEvidence(
        study_instance_uid=first.study_instance_uid,
        revision=first.revision,
        instance_count=first.instance_count,
        last_instance_at=first.last_instance_at,
        carriers=tuple(_carrier(through) for through in by_association.values()),
        announced=announced,
        refused=refused,
    )


def _carrier(rows: list[Any]) -> Carrier:
    last = rows[-1]
    return Carrier(
        association_id=last.association_id,
        calling_ae_title=last.calling_ae_title,
        opened_at=last.opened_at,
        closed_at=last.closed_at,
        end=None if last.ended is None else AssociationEnd(last.ended),
        last_at=last.last_at,
        last_series=last.series_instance_uid,
        series=frozenset(row.series_instance_uid for row in rows),
    )
