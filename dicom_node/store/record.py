"""One record of the receive log: an instance with its row, or a note, in whole disk blocks.

Layout, little endian; the record begins and ends on a block of 4096 bytes:

    0      fixed fields (`_FIXED`): magic, segment number, offset in the segment, kind, lengths,
           digest of the data set, checksum of the File Meta, checksum of this block
    80     the row's text fields, separated by 0x1F
    4096   an instance's Part 10 file: preamble, File Meta, the data set as it was sent; then zeros

A record says itself where it lies, so what an earlier life of a segment left behind is never taken
for one. Digest and checksums tell a record that a power cut tore in the middle: only the last write
of a log can be torn, since it was durable before the next one began.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import xxhash

BLOCK_BYTES = 4096
"""Direct writes want memory, offset and length in whole blocks of the device."""

_MAGIC = b"DCMNLOG1"
_FIXED = struct.Struct("<8sQQBxHLQ16sQQ")
_CHECKSUM = struct.Struct("<Q")
_CHECKSUM_AT = _FIXED.size - _CHECKSUM.size
_SEPARATOR = "\x1f"
_TEXT_BYTES_MAX = BLOCK_BYTES - _FIXED.size
_FILE_META_BYTES_MAX = BLOCK_BYTES


class RecordKind(IntEnum):
    """What a record holds."""

    INSTANCE = 1
    """An instance whose Part 10 file follows the head."""
    INSTANCE_FILE = 2
    """An instance that lies in a file of its own, which was durable before."""
    ASSOCIATION_OPENED = 3
    ASSOCIATION_CLOSED = 4
    EVENT = 5


@dataclass(frozen=True, slots=True)
class RecordHead:
    """What a record says of itself."""

    kind: RecordKind
    segment_number: int
    offset: int
    """Where the record begins in its segment."""
    texts: tuple[str, ...]
    """The row's fields; their order is the kind's own."""
    data_offset: int
    """Where the data set begins, from the record's begin; its end where there is none."""
    data_bytes: int
    digest: bytes
    """XXH3-128 of the data set."""
    file_meta_checksum: int
    """XXH3-64 of what lies between the head and the data set."""

    @property
    def record_bytes(self) -> int:
        return whole_blocks(self.data_offset + self.data_bytes)


def whole_blocks(size: int) -> int:
    """Return `size` rounded up to whole blocks."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def digest_of(data_set: bytes | bytearray | memoryview) -> bytes:
    """Return the XXH3-128 of a data set: it tells accidents apart, it is no signature."""
    return bytes(xxhash.xxh3_128_digest(data_set))


def write_head(
    record: memoryview,
    kind: RecordKind,
    segment_number: int,
    offset: int,
    texts: Sequence[str],
    data_offset: int = BLOCK_BYTES,
    data_bytes: int = 0,
    digest: bytes = bytes(16),
) -> None:
    """Write the head of a record whose File Meta is there already.

    Text that does not fit is cut at its end; only the reason of an event is ever so long. A
    separator in a text, which a stranger may have put into an AE title, becomes a question mark.

    Parameters
    ----------
    record : memoryview
        Writable, from the begin of the record to the begin of the data set at least.
    """
    fields = [text.replace(_SEPARATOR, "?") for text in texts]
    text = _SEPARATOR.join(fields).encode("utf-8", "replace")[:_TEXT_BYTES_MAX]
    file_meta_checksum = xxhash.xxh3_64_intdigest(record[BLOCK_BYTES:data_offset])
    _FIXED.pack_into(
        record,
        0,
        _MAGIC,
        segment_number,
        offset,
        kind,
        len(text),
        data_offset,
        data_bytes,
        digest,
        file_meta_checksum,
        0,
    )
    end = _FIXED.size + len(text)
    record[_FIXED.size : end] = text
    record[end:BLOCK_BYTES] = bytes(BLOCK_BYTES - end)
    _CHECKSUM.pack_into(record, _CHECKSUM_AT, xxhash.xxh3_64_intdigest(record[:BLOCK_BYTES]))


def read_head(block: bytes, segment_number: int, offset: int) -> RecordHead | None:
    """Return the head of the record that begins with `block`, None if no whole one is there.

    Parameters
    ----------
    block : bytes
        The record's first block.
    segment_number, offset : int
        Where it was read; a record of another place is none.
    """
    if len(block) != BLOCK_BYTES:
        return None
    (
        magic,
        number,
        place,
        kind,
        text_bytes,
        data_offset,
        data_bytes,
        digest,
        file_meta_checksum,
        checksum,
    ) = _FIXED.unpack_from(block)
    if (magic, number, place) != (_MAGIC, segment_number, offset):
        return None
    head = bytearray(block)
    _CHECKSUM.pack_into(head, _CHECKSUM_AT, 0)
    if xxhash.xxh3_64_intdigest(head) != checksum:
        return None
    text = block[_FIXED.size : _FIXED.size + text_bytes].decode("utf-8", "replace")
    return RecordHead(
        RecordKind(kind),
        segment_number,
        offset,
        tuple(text.split(_SEPARATOR)),
        data_offset,
        data_bytes,
        digest,
        file_meta_checksum,
    )


def is_whole(head: RecordHead, rest: memoryview) -> bool:
    """Return whether what follows a head is what was to be written.

    Parameters
    ----------
    rest : memoryview
        From the end of the head's block to the end of the data set, or less if the file is shorter.
    """
    file_meta_bytes = head.data_offset - BLOCK_BYTES
    if not 0 <= file_meta_bytes <= _FILE_META_BYTES_MAX:
        return False
    if len(rest) != file_meta_bytes + head.data_bytes:
        return False
    if xxhash.xxh3_64_intdigest(rest[:file_meta_bytes]) != head.file_meta_checksum:
        return False
    return not head.data_bytes or digest_of(rest[file_meta_bytes:]) == head.digest
