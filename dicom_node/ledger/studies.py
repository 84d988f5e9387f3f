"""Associations, instances and studies: what came in, and how far each study is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from dicom_node.ledger import schema
from dicom_node.ledger.arrivals import (
    NAMES_IN_A_QUERY,
    Arrival,
    OnConflict,
    pieces,
    put_instances,
)
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.ledger.database import Database
from dicom_node.ledger.events import INSTANCE_REFUSED
from dicom_node.ledger.paces import Lesson, learn
from dicom_node.ledger.transitions import Transitions
from dicom_node.ledger.verdicts import put_verdict
from dicom_node.lifecycle import StudyEvent, StudyState, next_study_state
from dicom_node.model import Action, Instance, Study, Verdict

_MOVES = Transitions[StudyState, StudyEvent](schema.studies, "study", next_study_state)


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

    @property
    def last_closed(self) -> Carrier | None:
        closed = [carrier for carrier in self.carriers if carrier.closed_at is not None]
        return max(closed, key=lambda carrier: carrier.closed_at or 0.0, default=None)

    @property
    def last_end(self) -> AssociationEnd | None:
        """How the association that closed last ended; None while none has closed."""
        return None if self.last_closed is None else self.last_closed.end

    @property
    def last_closed_at(self) -> float:
        return 0.0 if self.last_closed is None else self.last_closed.closed_at or 0.0


@dataclass(frozen=True)
class Arrived:
    """One instance of a study, as far as its completeness is concerned."""

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    received_at: float


class Studies:
    """The part of the ledger that the receiver, the assembler and the router write."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ------------------------------------------------------------ instances

    def instance_stored(self, instance: Instance, on_conflict: OnConflict = "replace") -> Arrival:
        """Record one instance; see `put_instances`."""
        with self._database.writing() as connection:
            [(_, arrival)] = put_instances(self._database, connection, [instance], on_conflict)
        return arrival

    def instances(
        self, study_instance_uid: str, series_instance_uid: str | None = None
    ) -> list[Instance]:
        """Return the instances of a study or of one series, by series and SOP Instance UID."""
        table = schema.instances
        query = (
            select(*[table.c[field.name] for field in fields(Instance)])
            .where(table.c.study_instance_uid == study_instance_uid)
            .order_by(table.c.series_instance_uid, table.c.sop_instance_uid)
        )
        if series_instance_uid is not None:
            query = query.where(table.c.series_instance_uid == series_instance_uid)
        with self._database.reading() as connection:
            return [Instance(*row) for row in connection.execute(query)]

    def instance_count(self, study_instance_uid: str) -> int:
        """Return how many instances of a study are here."""
        table = schema.instances
        query = select(func.count()).where(table.c.study_instance_uid == study_instance_uid)
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def instance(
        self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str
    ) -> Instance | None:
        """Return one instance, None if it is not there."""
        table = schema.instances
        query = select(*[table.c[field.name] for field in fields(Instance)]).where(
            table.c.study_instance_uid == study_instance_uid,
            table.c.series_instance_uid == series_instance_uid,
            table.c.sop_instance_uid == sop_instance_uid,
        )
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else Instance(*row)

    def study_of_instance(self, sop_instance_uid: str) -> str | None:
        table = schema.instances
        query = select(table.c.study_instance_uid).where(
            table.c.sop_instance_uid == sop_instance_uid
        )
        with self._database.reading() as connection:
            return connection.execute(query).scalars().first()

    # ------------------------------------------------------------ studies

    def get(self, study_instance_uid: str) -> Study | None:
        with self._database.reading() as connection:
            row = connection.execute(
                _studies_query().where(schema.studies.c.study_instance_uid == study_instance_uid)
            ).first()
        return None if row is None else _study(row)

    def in_states(self, states: Sequence[StudyState]) -> list[Study]:
        query = (
            _studies_query()
            .where(schema.studies.c.state.in_(states))
            .order_by(schema.studies.c.updated_at)
        )
        with self._database.reading() as connection:
            return [_study(row) for row in connection.execute(query)]

    def complete_since(self, at: float) -> list[Study]:
        """Return the studies of which something came since then, and that are not arriving."""
        table = schema.studies
        query = (
            _studies_query()
            .where(table.c.last_instance_at >= at, table.c.state != StudyState.RECEIVING.value)
            .order_by(table.c.last_instance_at)
        )
        with self._database.reading() as connection:
            return [_study(row) for row in connection.execute(query)]

    def completeness(self, study_instance_uid: str) -> str:
        """Return the last verdict on a study, in lower case; empty while there is none."""
        table = schema.verdicts
        query = (
            select(table.c.verdict)
            .where(
                table.c.study_instance_uid == study_instance_uid, table.c.series_instance_uid == ""
            )
            .order_by(table.c.revision.desc())
            .limit(1)
        )
        with self._database.reading() as connection:
            return str(connection.execute(query).scalars().first() or "").lower()

    def receiving(self) -> list[StudyEvidence]:
        """Return the evidence on every study that is still arriving."""
        with self._database.reading() as connection:
            carried = _carried(connection)
            announced = _announced(connection)
            refused = _refused(connection, carried)
        return [
            _evidence(rows, announced.get(uid, ()), refused.get(uid, frozenset()))
            for uid, rows in carried.items()
        ]

    def arrived(self, study_instance_uid: str) -> list[Arrived]:
        """Return what has come of a study, in the order in which it came."""
        table = schema.instances
        query = (
            select(*[table.c[field.name] for field in fields(Arrived)])
            .where(table.c.study_instance_uid == study_instance_uid)
            .order_by(table.c.received_at, table.c.sop_instance_uid)
        )
        with self._database.reading() as connection:
            return [Arrived(*row) for row in connection.execute(query)]

    def held(self, sop_instance_uids: Collection[str]) -> frozenset[str]:
        """Return those of these instances that are here, in whatever study."""
        with self._database.reading() as connection:
            return _held(connection, sop_instance_uids)

    def completed(
        self,
        evidence: StudyEvidence,
        reason: str,
        now: float,
        verdict: Verdict | None = None,
        lessons: Sequence[Lesson] = (),
    ) -> bool:
        """Move a study on, unless an instance arrived since `evidence` was read.

        Parameters
        ----------
        verdict : Verdict, optional
            Kept with the study; one that says to hold it parks it.
        lessons : sequence of Lesson
            What the study teaches of its senders' pace.
        """
        table = schema.studies
        key, fence = evidence.study_instance_uid, table.c.revision == evidence.revision
        with self._database.writing() as connection:
            if not _MOVES.move(
                connection,
                key,
                StudyState.RECEIVING,
                StudyEvent.COMPLETED,
                reason,
                now,
                fence,
                table.c.last_instance_at == evidence.last_instance_at,
            ):
                return False
            if verdict is not None:
                put_verdict(connection, key, evidence.revision, verdict, now)
                if verdict.action is Action.HOLD:
                    held = f"held for a person: {reason}"
                    move = (StudyState.COMPLETE, StudyEvent.HELD, held, now, fence)
                    _MOVES.move(connection, key, *move)
            for lesson in lessons:
                learn(self._database, connection, key, lesson, now)
            return True

    def routing_failed(self, study: Study, reason: str, now: float) -> bool:
        with self._database.writing() as connection:
            return self.parked(connection, study, StudyEvent.ROUTING_FAILED, reason, now)

    def parked(
        self, connection: Connection, study: Study, event: StudyEvent, reason: str, now: float
    ) -> bool:
        """Let a complete study wait for a person, inside of a transaction."""
        return _MOVES.move(
            connection,
            study.study_instance_uid,
            StudyState.COMPLETE,
            event,
            reason,
            now,
            schema.studies.c.revision == study.revision,
        )

    def retry(
        self, study_instance_uid: str, now: float, reason: str = "retried by the operator"
    ) -> bool:
        """Put a parked or routed study back to be routed; what is unchanged is not done again.

        One that was parked is not held by a rule any more, as long as nothing comes.
        """
        revision = schema.studies.c.revision
        with self._database.writing() as connection:
            return _MOVES.move(
                connection,
                study_instance_uid,
                StudyState.PARKED,
                StudyEvent.RETRIED,
                reason,
                now,
                released_revision=revision,
            ) or _MOVES.move(
                connection, study_instance_uid, StudyState.ROUTED, StudyEvent.RETRIED, reason, now
            )

    def is_held(self, study: Study) -> bool:
        """Return whether a parked study is one that a rule holds."""
        table = schema.events
        query = (
            select(table.c.event)
            .where(table.c.subject == study.study_instance_uid, table.c.to_state == study.state)
            .order_by(table.c.event_id.desc())
            .limit(1)
        )
        with self._database.reading() as connection:
            return connection.execute(query).scalars().first() == StudyEvent.HELD

    def found(self, study_instance_uid: str, reason: str, now: float) -> bool:
        """Put a routed study back: a rule waited for what an engine has now found."""
        with self._database.writing() as connection:
            return _MOVES.move(
                connection, study_instance_uid, StudyState.ROUTED, StudyEvent.FOUND, reason, now
            )

    def routed(self, connection: Connection, study: Study, reason: str, now: float) -> bool:
        """Move a study on, inside the transaction that makes its jobs."""
        return _MOVES.move(
            connection,
            study.study_instance_uid,
            StudyState.COMPLETE,
            StudyEvent.ROUTED,
            reason,
            now,
            schema.studies.c.revision == study.revision,
        )


def _studies_query() -> Select[tuple[Any, ...]]:
    table = schema.studies
    return select(*[table.c[field.name] for field in fields(Study)])


def _study(row: Row[tuple[Any, ...]]) -> Study:
    return Study(**{**row._mapping, "state": StudyState(row.state)})


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
    held = _held(connection, set().union(*refused.values()))
    return {
        study: frozenset().union(*(refused.get(row.association_id, ()) for row in rows)) - held
        for study, rows in carried.items()
    }


def _held(connection: Connection, sop_instance_uids: Collection[str]) -> frozenset[str]:
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
