"""Reading a receive log from a place on: behind its writer, or to its end after a crash."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dicom_node.store.record import BLOCK_BYTES, RecordHead, is_whole, read_head
from dicom_node.store.segments import segment_name, segment_numbers


@dataclass(frozen=True, order=True)
class LogPlace:
    """A place in a log: everything before it is meant."""

    segment_number: int
    offset: int


@dataclass(frozen=True)
class LogPiece:
    """A part of a log, as its writer tells of it."""

    begin: LogPlace
    end: LogPlace
    heads: tuple[RecordHead, ...] | None
    """Every record between; None where they were too many to tell: they stand in the log."""

    def then(self, following: LogPiece) -> LogPiece:
        """Return both as one."""
        heads = None
        if self.heads is not None and following.heads is not None and self.end == following.begin:
            heads = self.heads + following.heads
            if len(heads) > HEADS_TOLD_MAX:
                heads = None
        return LogPiece(self.begin, following.end, heads)


HEADS_TOLD_MAX = 16384
"""Some 10 MB; a ledger that is so far behind reads them from the log."""

_SEARCH_BYTES = 1 << 20

LOG_BEGIN = LogPlace(0, 0)


def read_log(
    folder: Path, begin: LogPlace, end: LogPlace | None = None, doubt_below: int = 0
) -> Iterator[tuple[RecordHead, LogPlace]]:
    """Yield the records from `begin` on, each with the place after it.

    Parameters
    ----------
    folder : Path
        Of the log.
    begin : LogPlace
        Where a record begins, or the end of a segment.
    end : LogPlace, optional
        Up to where the writer says that it is durable; None for a log that has no writer.
    doubt_below : int
        In segments below this number, and wherever there is no writer, every byte of a record is
        read. One that is not whole is passed over: it was never acknowledged, or the disk has lost
        it since; whatever is whole behind it is not lost with it.
    """
    for number in segment_numbers(folder):
        if number < begin.segment_number or (end is not None and number > end.segment_number):
            continue
        offset = begin.offset if number == begin.segment_number else 0
        stop = end.offset if end is not None and number == end.segment_number else None
        in_doubt = end is None or number < doubt_below
        fd = os.open(folder / segment_name(number), os.O_RDONLY | os.O_CLOEXEC)
        try:
            # only the heads are read: what lies between them is not wanted
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            while stop is None or offset < stop:
                head = read_head(os.pread(fd, BLOCK_BYTES, offset), number, offset)
                if head is None or (in_doubt and not _is_whole(fd, head)):
                    found = _next_head(fd, number, offset + BLOCK_BYTES) if in_doubt else None
                    if found is None:
                        break
                    offset = found
                    continue
                offset += head.record_bytes
                yield head, LogPlace(number, offset)
        finally:
            os.close(fd)


def _next_head(fd: int, number: int, begin: int) -> int | None:
    """Return where the next record's head lies, None if there is none."""
    for offset in range(begin, os.fstat(fd).st_size, _SEARCH_BYTES):
        piece = os.pread(fd, _SEARCH_BYTES, offset)
        for at in range(0, len(piece), BLOCK_BYTES):
            if read_head(piece[at : at + BLOCK_BYTES], number, offset + at) is not None:
                return offset + at
    return None


def _is_whole(fd: int, head: RecordHead) -> bool:
    size = head.data_offset - BLOCK_BYTES + head.data_bytes
    with memoryview(os.pread(fd, size, head.offset + BLOCK_BYTES)) as rest:
        return is_whole(head, rest)
