"""Records and entries of a receive log, small enough to be looked at byte by byte."""

from __future__ import annotations

import mmap
from collections.abc import Sequence

from dicom_node.store.receive_log import Entry
from dicom_node.store.record import (
    BLOCK_BYTES,
    RecordKind,
    digest_of,
    whole_blocks,
    write_head,
)

FILE_META = bytes(128) + b"DICM" + b"as it may be " * 30
TEXTS = ("1.2.3.4", "of a study", "from Würzburg")


def blocks_of_memory(size: int) -> memoryview:
    """Return memory that begins on a page, in whole blocks of the disk."""
    return memoryview(mmap.mmap(-1, whole_blocks(size)))


def a_record(
    data_set: bytes,
    segment_number: int = 1,
    offset: int = 0,
    texts: Sequence[str] = TEXTS,
    file_meta: bytes = FILE_META,
) -> bytearray:
    """Return the record of an instance, whole blocks, as it is to lie on the disk."""
    data_offset = BLOCK_BYTES + len(file_meta)
    record = bytearray(whole_blocks(data_offset + len(data_set)))
    record[BLOCK_BYTES : data_offset + len(data_set)] = file_meta + data_set
    write_head(
        memoryview(record),
        RecordKind.INSTANCE,
        segment_number,
        offset,
        texts,
        data_offset,
        len(data_set),
        digest_of(data_set),
    )
    return record


def an_entry(data_set: bytes, texts: Sequence[str] = TEXTS) -> Entry:
    """Return an instance that is to be appended."""
    data_offset = BLOCK_BYTES + len(FILE_META)
    record = blocks_of_memory(data_offset + len(data_set))
    record[BLOCK_BYTES : data_offset + len(data_set)] = FILE_META + data_set
    return Entry(
        RecordKind.INSTANCE, texts, [record], data_offset, len(data_set), digest_of(data_set)
    )


def a_note(*texts: str) -> Entry:
    """Return an entry that has nothing but texts."""
    return Entry(RecordKind.EVENT, texts or TEXTS)
