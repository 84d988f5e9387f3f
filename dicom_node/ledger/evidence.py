"""What peers say that a study consists of: evidence for its completeness, and nothing more.

Modality Performed Procedure Steps and Instance Availability Notifications are kept as the UIDs that
they name; whom they are about is not kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Select, delete, insert, select, update

from dicom_node.ledger import schema
from dicom_node.ledger.database import Database
from dicom_node.ledger.events import write_event
from dicom_node.model import (
    AnnouncedInstance,
    Announcement,
    AnnouncementKind,
    AnnouncementStatus,
)


class StepUpdate(StrEnum):
    """What became of a change to a procedure step."""

    DONE = "done"
    UNKNOWN = "unknown"
    ENDED = "ended"
    """It was COMPLETED or DISCONTINUED before: nothing was changed."""


class Evidence:
    """The part of the ledger that the MPPS and availability SCPs write."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def announce(self, announcement: Announcement) -> bool:
        """Record an announcement; return False, changing nothing, if its UID is known."""
        row = {
            "source_uid": announcement.source_uid,
            "kind": announcement.kind.value,
            "calling_ae_title": announcement.calling_ae_title,
            "status": announcement.status.value,
            "announced_at": announcement.announced_at,
            "ended_at": announcement.ended_at,
            "updated_at": announcement.updated_at,
        }
        with self._database.writing() as connection:
            if not self._database.insert_new(connection, schema.announcements, row):
                return False
            for study_instance_uid in dict.fromkeys(announcement.study_instance_uids):
                link = {
                    "study_instance_uid": study_instance_uid,
                    "source_uid": announcement.source_uid,
                }
                self._database.insert(connection, schema.announced_studies, link)
            _put_instances(connection, announcement.source_uid, announcement.instances)
            _tell(connection, announcement, announcement.announced_at)
            return True

    def update_step(
        self,
        source_uid: str,
        status: AnnouncementStatus | None,
        instances: Sequence[AnnouncedInstance] | None,
        now: float,
    ) -> StepUpdate:
        """Change a procedure step that is in progress.

        Parameters
        ----------
        status : AnnouncementStatus, optional
            Its new status; None leaves it in progress.
        instances : sequence of AnnouncedInstance, optional
            All instances of the step, in place of those that it named before; None leaves those.
        """
        table = schema.announcements
        here = table.c.source_uid == source_uid
        with self._database.writing() as connection:
            row = connection.execute(
                select(table.c.status)
                .where(here, table.c.kind == AnnouncementKind.MPPS.value)
                .with_for_update()
            ).first()
            if row is None:
                return StepUpdate.UNKNOWN
            if row.status != AnnouncementStatus.IN_PROGRESS.value:
                return StepUpdate.ENDED
            values: dict[str, Any] = {"updated_at": now}
            if status is not None and status is not AnnouncementStatus.IN_PROGRESS:
                values |= {"status": status.value, "ended_at": now}
            connection.execute(update(table).where(here).values(**values))
            if instances is not None:
                gone = schema.announced_instances
                connection.execute(delete(gone).where(gone.c.source_uid == source_uid))
                _put_instances(connection, source_uid, instances)
            if "status" in values:
                [announcement] = _read(connection, select(table.c.source_uid).where(here))
                _tell(connection, announcement, now)
            return StepUpdate.DONE

    def announced(self, study_instance_uid: str) -> list[Announcement]:
        """Return what is announced of a study, by whom and how far it is; the oldest first.

        A step that names several studies does not say which instance belongs to which: all of its
        instances are announced for each of them.
        """
        link = schema.announced_studies
        with self._database.reading() as connection:
            of_study = link.c.study_instance_uid == study_instance_uid
            return _read(connection, select(link.c.source_uid).where(of_study))


def _put_instances(
    connection: Connection, source_uid: str, instances: Sequence[AnnouncedInstance]
) -> None:
    by_uid = {instance.sop_instance_uid: instance for instance in instances}
    rows = [
        {"source_uid": source_uid}
        | {field.name: getattr(instance, field.name) for field in fields(AnnouncedInstance)}
        for instance in by_uid.values()
    ]
    if rows:
        connection.execute(insert(schema.announced_instances), rows)


def _tell(connection: Connection, announcement: Announcement, now: float) -> None:
    reason = (
        f"{announcement.kind} {announcement.source_uid} of {announcement.calling_ae_title}: "
        f"{announcement.status}, {len(announcement.instances)} instances"
    )
    for study_instance_uid in announcement.study_instance_uids:
        write_event(connection, now, ("study", study_instance_uid), "ANNOUNCED", reason)


def _read(connection: Connection, sources: Select[tuple[str]]) -> list[Announcement]:
    """Return the announcements whose UIDs a query finds."""
    a, link, i = schema.announcements, schema.announced_studies, schema.announced_instances
    studies: dict[str, list[str]] = {}
    for row in connection.execute(
        select(link).where(link.c.source_uid.in_(sources)).order_by(link.c.study_instance_uid)
    ):
        studies.setdefault(row.source_uid, []).append(row.study_instance_uid)
    instances: dict[str, list[AnnouncedInstance]] = {}
    for row in connection.execute(
        select(i)
        .where(i.c.source_uid.in_(sources))
        .order_by(i.c.series_instance_uid, i.c.sop_instance_uid)
    ):
        values = {field.name: row._mapping[field.name] for field in fields(AnnouncedInstance)}
        instances.setdefault(row.source_uid, []).append(AnnouncedInstance(**values))
    query = select(a).where(a.c.source_uid.in_(sources)).order_by(a.c.announced_at, a.c.source_uid)
    return [
        Announcement(
            source_uid=row.source_uid,
            kind=AnnouncementKind(row.kind),
            calling_ae_title=row.calling_ae_title,
            status=AnnouncementStatus(row.status),
            study_instance_uids=tuple(studies.get(row.source_uid, ())),
            instances=tuple(instances.get(row.source_uid, ())),
            announced_at=row.announced_at,
            ended_at=row.ended_at,
            updated_at=row.updated_at,
        )
        for row in connection.execute(query)
    ]
