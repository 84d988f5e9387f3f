"""What the receive log says, as the values that the ledger takes, and back.

The fields of a record are texts in a fixed order, one order for each kind; who changes an order
makes a new kind, since a log may have been written by the version before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from dicom_node.ledger.arrivals import (
    AssociationClosed,
    AssociationOpened,
    LoggedRow,
    NotedEvent,
)
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.model import Instance
from dicom_node.store.reading import place_in_segment
from dicom_node.store.record import BLOCK_BYTES, RecordHead, RecordKind
from dicom_node.store.segments import segment_name


@dataclass(frozen=True, slots=True)
class InstanceTexts:
    """The part of an instance's row that is known before its place in the log is."""

    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    association_id: str
    calling_ae_title: str
    received_at: float

    def texts(self) -> tuple[str, ...]:
        return (
            self.sop_instance_uid,
            self.sop_class_uid,
            self.study_instance_uid,
            self.series_instance_uid,
            self.transfer_syntax_uid,
            self.association_id,
            self.calling_ae_title,
            repr(self.received_at),
        )

    def texts_with_file(self, path: str, size_bytes: int, digest: str) -> tuple[str, ...]:
        """Return the texts of an instance that lies in a file of its own."""
        return (*self.texts(), path, str(size_bytes), digest)


def opened_texts(row: AssociationOpened) -> tuple[str, ...]:
    return (
        row.association_id,
        row.calling_ae_title,
        row.called_ae_title,
        row.address,
        repr(row.opened_at),
    )


def closed_texts(row: AssociationClosed) -> tuple[str, ...]:
    return (row.association_id, row.end.value, repr(row.closed_at))


def event_texts(row: NotedEvent) -> tuple[str, ...]:
    return (repr(row.at), row.subject_kind, row.subject, row.event, row.reason)


def row_of(head: RecordHead, log_folder: str) -> LoggedRow:
    """Return what a record says.

    Parameters
    ----------
    log_folder : str
        Of the record's log, relative to the store's root.
    """
    texts = head.texts
    if head.kind is RecordKind.INSTANCE:
        segment = str(PurePosixPath(log_folder) / segment_name(head.segment_number))
        size_bytes = head.data_offset - BLOCK_BYTES + head.data_bytes
        place = place_in_segment(segment, head.offset + BLOCK_BYTES, size_bytes)
        return _instance(texts, place, size_bytes, head.digest.hex())
    if head.kind is RecordKind.INSTANCE_FILE:
        return _instance(texts[:8], texts[8], int(texts[9]), texts[10])
    if head.kind is RecordKind.ASSOCIATION_OPENED:
        return AssociationOpened(texts[0], texts[1], texts[2], texts[3], float(texts[4]))
    if head.kind is RecordKind.ASSOCIATION_CLOSED:
        return AssociationClosed(texts[0], AssociationEnd(texts[1]), float(texts[2]))
    return NotedEvent(float(texts[0]), *texts[1:5])


def _instance(texts: tuple[str, ...], path: str, size_bytes: int, digest: str) -> Instance:
    return Instance(
        sop_instance_uid=texts[0],
        sop_class_uid=texts[1],
        study_instance_uid=texts[2],
        series_instance_uid=texts[3],
        transfer_syntax_uid=texts[4],
        path=path,
        size_bytes=size_bytes,
        digest=digest,
        received_at=float(texts[7]),
        association_id=texts[5],
        calling_ae_title=texts[6],
    )
