"""Associations, instances and studies: what came in, and how far each study is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from dicom_node.ledger import schema
from dicom_node.ledger.arrivals import Arrival, OnConflict, put_instances
from dicom_node.ledger.arriving import Arrived, StudyEvidence, arrived, held, receiving
from dicom_node.ledger.database import Database
from dicom_node.ledger.paces import Lesson, learn
from dicom_node.ledger.transitions import Transitions
from dicom_node.ledger.verdicts import put_verdict
from dicom_node.lifecycle import StudyEvent, StudyState, next_study_state
from dicom_node.model import Instance, Study
from dicom_node.verdict import Action, Verdict

_MOVES = Transitions[StudyState, StudyEvent](schema.studies, "study", next_study_state)


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
        self,
        study_instance_uid: str,
        series_instance_uid: str | None = None,
        *,
        sop_instance_uids: Collection[str] | None = None,
    ) -> list[Instance]:
        """Return the instances of a study or of one series, by series and SOP Instance UID.

        Of `sop_instance_uids`, where they are given, those that are here.
        """
        table = schema.instances
        query = (
            select(*[table.c[field.name] for field in fields(Instance)])
            .where(table.c.study_instance_uid == study_instance_uid)
            .order_by(table.c.series_instance_uid, table.c.sop_instance_uid)
        )
        if series_instance_uid is not None:
            query = query.where(table.c.series_instance_uid == series_instance_uid)
        if sop_instance_uids is not None:
            query = query.where(table.c.sop_instance_uid.in_(sop_instance_uids))
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
            return receiving(connection)

    def arrived(self, study_instance_uid: str) -> list[Arrived]:
        """Return what has come of a study, in the order in which it came."""
        with self._database.reading() as connection:
            return arrived(connection, study_instance_uid)

    def held(self, sop_instance_uids: Collection[str]) -> frozenset[str]:
        """Return those of these instances that are here, in whatever study."""
        with self._database.reading() as connection:
            return held(connection, sop_instance_uids)

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
