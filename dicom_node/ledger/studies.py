"""Associations, instances and studies: what came in, and how far each study is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from dicom_node.ledger import schema
from dicom_node.ledger.arrivals import Arrival, OnConflict, put_instances
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.ledger.database import Database
from dicom_node.ledger.transitions import Transitions
from dicom_node.lifecycle import StudyEvent, StudyState, next_study_state
from dicom_node.model import Instance, Study

_MOVES = Transitions[StudyState, StudyEvent](schema.studies, "study", next_study_state)


@dataclass(frozen=True)
class StudyEvidence:
    """What is known about a study that is still arriving; input of the completeness decision."""

    study_instance_uid: str
    revision: int
    instance_count: int
    last_instance_at: float
    open_associations: int
    last_end: AssociationEnd | None
    """How the association that closed last ended; None while none has closed."""
    last_closed_at: float


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
        del study_instance_uid
        return ""

    def receiving(self) -> list[StudyEvidence]:
        """Return the evidence on every study that is still arriving."""
        s, a, link = schema.studies, schema.associations, schema.study_associations
        counts = (
            select(schema.instances.c.study_instance_uid, func.count().label("instance_count"))
            .join(s, s.c.study_instance_uid == schema.instances.c.study_instance_uid)
            .where(s.c.state == StudyState.RECEIVING)
            .group_by(schema.instances.c.study_instance_uid)
            .subquery()
        )
        query = (
            select(
                s.c.study_instance_uid,
                s.c.revision,
                counts.c.instance_count,
                s.c.last_instance_at,
                a.c.closed_at,
                a.c.ended,
            )
            .join(counts, counts.c.study_instance_uid == s.c.study_instance_uid)
            .join(link, link.c.study_instance_uid == s.c.study_instance_uid)
            .join(a, a.c.association_id == link.c.association_id)
            .where(s.c.state == StudyState.RECEIVING)
        )
        rows: dict[str, list[Any]] = {}
        with self._database.reading() as connection:
            for row in connection.execute(query):
                rows.setdefault(row.study_instance_uid, []).append(row)
        return [_evidence(of_study) for of_study in rows.values()]

    def completed(self, evidence: StudyEvidence, reason: str, now: float) -> bool:
        """Move a study on, unless an instance arrived since `evidence` was read."""
        table = schema.studies
        with self._database.writing() as connection:
            return _MOVES.move(
                connection,
                evidence.study_instance_uid,
                StudyState.RECEIVING,
                StudyEvent.COMPLETED,
                reason,
                now,
                table.c.revision == evidence.revision,
                table.c.last_instance_at == evidence.last_instance_at,
            )

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


def _evidence(rows: list[Any]) -> StudyEvidence:
    """Return the evidence in a study's rows, one for each association that carried it."""
    first = rows[0]
    closed = [row for row in rows if row.closed_at is not None]
    last = max(closed, key=lambda row: row.closed_at, default=None)
    return StudyEvidence(
        study_instance_uid=first.study_instance_uid,
        revision=first.revision,
        instance_count=first.instance_count,
        last_instance_at=first.last_instance_at,
        open_associations=len(rows) - len(closed),
        last_end=None if last is None else AssociationEnd(last.ended),
        last_closed_at=0.0 if last is None else last.closed_at,
    )
