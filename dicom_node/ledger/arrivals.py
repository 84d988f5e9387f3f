"""What came in, written in batches: associations, instances with their studies, events.

A batch is one transaction, however many rows it has, and ends with how far the receive log has been
read: after a crash the log is read on from there, so a row is neither lost nor written twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection, and_, insert, select, update

from dicom_node.ledger import schema
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.ledger.database import Database
from dicom_node.ledger.events import write_event
from dicom_node.ledger.superseding import supersede_open_jobs
from dicom_node.lifecycle import StudyEvent, StudyState, next_study_state
from dicom_node.model import Instance

OnConflict = Literal["replace", "keep", "refuse"]
"""What becomes of other bytes under a SOP Instance UID that is known; `refuse` is the receiver's
to do, and means `keep` for what it could not know in time."""

T = TypeVar("T")

NAMES_IN_A_QUERY = 500
_COLUMNS = tuple(field.name for field in fields(Instance))


class Arrival(StrEnum):
    """What the ledger said to an instance."""

    NEW = "new"
    REPEATED = "repeated"
    REPLACED = "replaced"
    KEPT_FIRST = "kept first"


@dataclass(frozen=True, slots=True)
class AssociationOpened:
    """An association that is about to carry something."""

    association_id: str
    calling_ae_title: str
    called_ae_title: str
    address: str
    opened_at: float


@dataclass(frozen=True, slots=True)
class AssociationClosed:
    """How it ended."""

    association_id: str
    end: AssociationEnd
    closed_at: float


@dataclass(frozen=True, slots=True)
class NotedEvent:
    """An event that is no transition."""

    at: float
    subject_kind: str
    subject: str
    event: str
    reason: str


LoggedRow = Instance | AssociationOpened | AssociationClosed | NotedEvent


class Arrivals:
    """The part of the ledger that is filled from the receive logs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self,
        rows: Sequence[LoggedRow],
        log: str,
        place: tuple[int, int],
        on_conflict: OnConflict = "replace",
    ) -> list[tuple[Instance, Arrival]]:
        """Write what a log says, and how far it was read, in one transaction.

        Parameters
        ----------
        rows : sequence
            In the order of the log.
        log : str
            Its name.
        place : (int, int)
            Segment number and offset after the last of the rows.

        Returns
        -------
        list of (Instance, Arrival)
            What became of each instance.
        """
        with self._database.writing() as connection:
            for row in rows:
                if isinstance(row, AssociationOpened):
                    self._opened(connection, row)
            instances = [row for row in rows if isinstance(row, Instance)]
            arrivals = put_instances(self._database, connection, instances, on_conflict)
            for row in rows:
                if isinstance(row, AssociationClosed):
                    _closed(connection, row)
                elif isinstance(row, NotedEvent):
                    subject = (row.subject_kind, row.subject)
                    write_event(connection, row.at, subject, row.event, row.reason)
            self._read_up_to(connection, log, place)
        return arrivals

    def read_up_to(self, log: str) -> tuple[int, int]:
        """Return the place up to which a log is in the ledger; (0, 0) for one that is new."""
        table = schema.receive_logs
        query = select(table.c.segment_number, table.c.offset).where(table.c.log == log)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return (0, 0) if row is None else (row.segment_number, row.offset)

    def _opened(self, connection: Connection, row: AssociationOpened) -> None:
        self._database.insert_new(
            connection,
            schema.associations,
            {
                "association_id": row.association_id,
                "calling_ae_title": row.calling_ae_title,
                "called_ae_title": row.called_ae_title,
                "address": row.address,
                "opened_at": row.opened_at,
            },
        )

    def _read_up_to(self, connection: Connection, log: str, place: tuple[int, int]) -> None:
        table = schema.receive_logs
        row = {"log": log, "segment_number": place[0], "offset": place[1]}
        if not self._database.insert_new(connection, table, row):
            connection.execute(update(table).where(table.c.log == log).values(**row))


def put_instances(
    database: Database,
    connection: Connection,
    instances: Sequence[Instance],
    on_conflict: OnConflict = "replace",
) -> list[tuple[Instance, Arrival]]:
    """Record instances whose bytes are durable, and open or reopen their studies.

    The same data set again changes nothing but is remembered as evidence. Another data set under
    the same UIDs replaces the row and opens a new revision, its predecessor's bytes stay; or it is
    set aside, with an event.
    """
    arrivals = []
    for study_instance_uid in sorted({instance.study_instance_uid for instance in instances}):
        of_study = [i for i in instances if i.study_instance_uid == study_instance_uid]
        arrivals += _put_study(database, connection, of_study, on_conflict)
    return arrivals


def _put_study(
    database: Database,
    connection: Connection,
    instances: list[Instance],
    on_conflict: OnConflict,
) -> list[tuple[Instance, Arrival]]:
    state, revision = _study_for_update(database, connection, instances[0])
    known = _known(connection, instances)
    arrivals, new = [], dict[tuple[str, str], Instance]()
    for instance in instances:
        key = (instance.series_instance_uid, instance.sop_instance_uid)
        if key not in known:
            new[key] = instance
            arrival = Arrival.NEW
        else:
            first = new.get(key)
            if first is not None:  # twice in one batch: the first has to be there to be replaced
                connection.execute(insert(schema.instances), [_row(first)])
                del new[key]
            arrival = _again(connection, instance, known[key], on_conflict)
        if arrival in (Arrival.NEW, Arrival.REPLACED):
            known[key] = (instance.digest, instance.path)
        arrivals.append((instance, arrival))
    if new:
        connection.execute(insert(schema.instances), [_row(instance) for instance in new.values()])
    _link(database, connection, instances)
    changed = [i for i, arrival in arrivals if arrival in (Arrival.NEW, Arrival.REPLACED)]
    if changed:
        _touch_study(connection, changed, state, revision)
    return arrivals


def _known(
    connection: Connection, instances: list[Instance]
) -> dict[tuple[str, str], tuple[str, str]]:
    """Return digest and path of those that the study has, by series and SOP Instance UID."""
    table = schema.instances
    known = {}
    for some in pieces([i.sop_instance_uid for i in instances], NAMES_IN_A_QUERY):
        query = select(
            table.c.series_instance_uid, table.c.sop_instance_uid, table.c.digest, table.c.path
        ).where(
            table.c.study_instance_uid == instances[0].study_instance_uid,
            table.c.sop_instance_uid.in_(some),
        )
        for row in connection.execute(query):
            known[row.series_instance_uid, row.sop_instance_uid] = (row.digest, row.path)
    return known


def _again(
    connection: Connection, instance: Instance, known: tuple[str, str], on_conflict: OnConflict
) -> Arrival:
    digest, path = known
    at, subject = instance.received_at, ("instance", instance.sop_instance_uid)
    if digest == instance.digest:
        write_event(connection, at, subject, "REPEATED", "received again, unchanged")
        return Arrival.REPEATED
    if on_conflict != "replace":
        reason = f"received again with another content, which was set aside; kept: {path}"
        write_event(connection, at, subject, "KEPT_FIRST", reason)
        return Arrival.KEPT_FIRST
    table = schema.instances
    same = and_(
        table.c.study_instance_uid == instance.study_instance_uid,
        table.c.series_instance_uid == instance.series_instance_uid,
        table.c.sop_instance_uid == instance.sop_instance_uid,
    )
    connection.execute(update(table).where(same).values(**_row(instance)))
    reason = f"received again with another content; before: {path}"
    write_event(connection, at, subject, "REPLACED", reason)
    return Arrival.REPLACED


def _row(instance: Instance) -> dict[str, Any]:
    return {name: getattr(instance, name) for name in _COLUMNS}


def _study_for_update(
    database: Database, connection: Connection, instance: Instance
) -> tuple[StudyState, int]:
    """Return the study's state and revision, its row locked; make the row if need be."""
    table = schema.studies
    opened = database.insert_new(
        connection,
        table,
        {
            "study_instance_uid": instance.study_instance_uid,
            "state": StudyState.RECEIVING.value,
            "revision": 1,
            "reason": "first instance received",
            "last_instance_at": instance.received_at,
            "updated_at": instance.received_at,
        },
    )
    if opened:
        write_event(
            connection,
            instance.received_at,
            ("study", instance.study_instance_uid),
            StudyEvent.INSTANCE_STORED,
            "first instance received",
            to_state=StudyState.RECEIVING,
        )
    row = connection.execute(
        select(table.c.state, table.c.revision)
        .where(table.c.study_instance_uid == instance.study_instance_uid)
        .with_for_update()
    ).one()
    return StudyState(row.state), row.revision


def _link(database: Database, connection: Connection, instances: list[Instance]) -> None:
    """Say which associations carried the study, and how much of each series, repeats too."""
    by_link: dict[tuple[str, str], list[Instance]] = {}
    for instance in instances:
        link = (instance.association_id, instance.series_instance_uid)
        by_link.setdefault(link, []).append(instance)
    for (association_id, series_instance_uid), through in by_link.items():
        instance = through[0]
        # an association whose own record is lost is one that nobody saw end
        database.insert_new(
            connection,
            schema.associations,
            {
                "association_id": association_id,
                "calling_ae_title": instance.calling_ae_title,
                "called_ae_title": "",
                "address": "",
                "opened_at": instance.received_at,
            },
        )
        table = schema.carried
        key = {
            "study_instance_uid": instance.study_instance_uid,
            "series_instance_uid": series_instance_uid,
            "association_id": association_id,
        }
        last_at = max(instance.received_at for instance in through)
        row = {**key, "instance_count": len(through), "last_at": last_at}
        if not database.insert_new(connection, table, row):
            connection.execute(
                update(table)
                .where(*(table.c[name] == value for name, value in key.items()))
                .values(instance_count=table.c.instance_count + len(through), last_at=last_at)
            )


def _touch_study(
    connection: Connection, instances: list[Instance], state: StudyState, revision: int
) -> None:
    table = schema.studies
    study_instance_uid = instances[0].study_instance_uid
    here = table.c.study_instance_uid == study_instance_uid
    target = next_study_state(state, StudyEvent.INSTANCE_STORED)
    now = max(instance.received_at for instance in instances)
    times = {"last_instance_at": now, "updated_at": now}
    if state is not StudyState.RECEIVING or revision > 1:
        series = sorted({instance.series_instance_uid for instance in instances})
        supersede_open_jobs(connection, study_instance_uid, series, now)
    if state is StudyState.RECEIVING:
        connection.execute(update(table).where(here).values(**times))
        return
    reason = f"a late instance opened revision {revision + 1}"
    connection.execute(
        update(table)
        .where(here)
        .values(state=target.value, revision=revision + 1, reason=reason, **times)
    )
    subject = ("study", study_instance_uid)
    write_event(connection, now, subject, StudyEvent.INSTANCE_STORED, reason, state, target)


def _closed(connection: Connection, row: AssociationClosed) -> None:
    table = schema.associations
    connection.execute(
        update(table)
        .where(table.c.association_id == row.association_id, table.c.closed_at.is_(None))
        .values(closed_at=row.closed_at, ended=row.end.value)
    )


def pieces(items: list[T], size: int) -> Iterator[list[T]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]
