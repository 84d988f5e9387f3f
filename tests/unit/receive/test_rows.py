"""What goes into the receive log comes out as the same rows, whatever stands in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.ledger.arrivals import (
    AssociationClosed,
    AssociationOpened,
    LoggedRow,
    NotedEvent,
)
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.model import Instance
from dicom_node.receive.rows import (
    InstanceTexts,
    closed_texts,
    event_texts,
    opened_texts,
    row_of,
)
from dicom_node.store.record import BLOCK_BYTES, RecordKind, read_head, write_head

SEGMENT_NUMBER, OFFSET = 12, 3 * BLOCK_BYTES
FILE_META_BYTES = 330
DATA_BYTES = 70_000
DIGEST = bytes(range(16))

texts = st.text(st.characters(exclude_characters="\x1f", codec="utf-8"), max_size=64)
times = st.floats(0, 4e9)


def row_from_the_log(
    kind: RecordKind, fields: tuple[str, ...], data_offset: int = BLOCK_BYTES, data_bytes: int = 0
) -> LoggedRow:
    """Return the row of a record with these fields, written and read."""
    record = memoryview(bytearray(max(data_offset, BLOCK_BYTES)))
    digest = DIGEST if data_bytes else bytes(16)
    write_head(record, kind, SEGMENT_NUMBER, OFFSET, fields, data_offset, data_bytes, digest)
    head = read_head(bytes(record[:BLOCK_BYTES]), SEGMENT_NUMBER, OFFSET)
    assert head is not None
    return row_of(head, "log/3")


INSTANCE = InstanceTexts(
    sop_instance_uid="1.2.3.4",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    study_instance_uid="1.2.3",
    series_instance_uid="1.2.3.1",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    association_id="a" * 32,
    calling_ae_title="SCANNER",
    received_at=1700000000.123456,
)


def row_of_instance(path: str, size_bytes: int, digest: str) -> Instance:
    return Instance(
        sop_instance_uid="1.2.3.4",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.3.1",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        path=path,
        size_bytes=size_bytes,
        digest=digest,
        received_at=1700000000.123456,
        association_id="a" * 32,
        calling_ae_title="SCANNER",
    )


def test_an_instance_in_the_log_names_where_its_file_lies() -> None:
    data_offset = BLOCK_BYTES + FILE_META_BYTES
    row = row_from_the_log(RecordKind.INSTANCE, INSTANCE.texts(), data_offset, DATA_BYTES)
    size_bytes = FILE_META_BYTES + DATA_BYTES
    place = f"log/3/0000000012.segment@{OFFSET + BLOCK_BYTES}+{size_bytes}"
    assert row == row_of_instance(place, size_bytes, DIGEST.hex())


def test_an_instance_in_a_file_of_its_own_names_it() -> None:
    path = "instances/ab/1.2.3/1.2.3.1/1.2.3.4.0123.dcm"
    fields = INSTANCE.texts_with_file(path, 5_000_000_000, "cd" * 16)
    row = row_from_the_log(RecordKind.INSTANCE_FILE, fields)
    assert row == row_of_instance(path, 5_000_000_000, "cd" * 16)


@given(association_id=texts, calling=texts, called=texts, address=texts, at=times)
def test_an_association_that_opened_comes_back(
    association_id: str, calling: str, called: str, address: str, at: float
) -> None:
    row = AssociationOpened(association_id, calling, called, address, at)
    assert row_from_the_log(RecordKind.ASSOCIATION_OPENED, opened_texts(row)) == row


@pytest.mark.parametrize("end", AssociationEnd)
def test_an_association_that_closed_comes_back(end: AssociationEnd) -> None:
    row = AssociationClosed("a" * 32, end, 1700000000.5)
    assert row_from_the_log(RecordKind.ASSOCIATION_CLOSED, closed_texts(row)) == row


@given(subject=texts, event=texts, reason=texts, at=times)
def test_an_event_comes_back(subject: str, event: str, reason: str, at: float) -> None:
    row = NotedEvent(at, "association", subject, event, reason)
    assert row_from_the_log(RecordKind.EVENT, event_texts(row)) == row


def test_of_an_event_the_end_of_a_long_reason_is_cut() -> None:
    row = NotedEvent(1.0, "instance", "1.2.3", "REFUSED", "because " * 1000)
    read = row_from_the_log(RecordKind.EVENT, event_texts(row))
    assert isinstance(read, NotedEvent)
    assert row.reason.startswith(read.reason)
    assert len(read.reason) > 3900
