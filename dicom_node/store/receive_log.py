"""The write-ahead log of what was received: one synced write makes bytes, name and row durable.

Theory of operation. The loop appends entries and goes on. One thread takes whatever has been
appended since its last turn, writes it with one gathered write into the current segment, and tells
the loop; while that write is under way the next entries gather, so that many associations share one
sync and one association alone waits for nobody. A log has a single writer, so a record is durable
before the next one begins.

After a write that failed the segment is left, since a reader stops at the first place where there
is no record: whatever follows goes to the next segment. Before that, what the write may have left
is cut off, since whoever reads behind a writer takes the word of a record's head.
"""

from __future__ import annotations

import mmap
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from dicom_node.clock import Checkpoint, pass_checkpoint
from dicom_node.store.disk import LogDisk
from dicom_node.store.record import BLOCK_BYTES, RecordHead, RecordKind, whole_blocks, write_head
from dicom_node.store.segments import SegmentPool

log = structlog.get_logger()

_BATCH_ENTRIES_MAX = 64
_BATCH_BYTES_MAX = 16 << 20


@dataclass(eq=False, slots=True)
class Entry:
    """What is appended; its place or its error is set when `done` is told."""

    kind: RecordKind
    texts: Sequence[str]
    buffers: Sequence[memoryview] = ()
    """An instance's record, in whole blocks, with room for the head; empty for a note."""
    data_offset: int = BLOCK_BYTES
    data_bytes: int = 0
    digest: bytes = field(default=bytes(16))
    owner: Callable[[Entry], None] | None = None
    """Whom to tell, for those who hand the entry on."""
    segment_number: int = 0
    offset: int = 0
    error: OSError | None = None

    @property
    def head(self) -> RecordHead:
        """What the log says of it, once it is written."""
        return RecordHead(
            self.kind,
            self.segment_number,
            self.offset,
            tuple(self.texts),
            self.data_offset,
            self.data_bytes,
            self.digest,
            0,
        )

    @property
    def record_bytes(self) -> int:
        return whole_blocks(self.data_offset + self.data_bytes)


class ReceiveLog:
    """Appends entries to the segments of one pool, on a thread of its own.

    Parameters
    ----------
    pool : SegmentPool
    segment_bytes : int
        The size of its segments; no entry may be larger.
    done : callable
        Told the entries of each batch, in order, on the log's thread: they are durable, or have
        their `error` set.
    on_failure : callable
        Called when the log cannot go on, by a mistake of ours.
    """

    def __init__(
        self,
        pool: SegmentPool,
        segment_bytes: int,
        disk: LogDisk,
        done: Callable[[list[Entry]], None],
        checkpoint: Checkpoint = pass_checkpoint,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool = pool
        self._segment_bytes = segment_bytes
        self._disk = disk
        self._done = done
        self._checkpoint = checkpoint
        self._on_failure = on_failure
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._notes = memoryview(mmap.mmap(-1, _BATCH_ENTRIES_MAX * BLOCK_BYTES))
        self._number = 0
        self._fd = -1
        self._offset = 0
        self._is_torn = False
        self._durable = (0, 0)
        self._thread = threading.Thread(target=self._run, name="receive-log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def append(self, entry: Entry) -> None:
        """Hand over an entry; its buffers may not change until it is done."""
        self._queue.put(entry)

    @property
    def durable(self) -> tuple[int, int]:
        """Segment number and offset up to which every record is durable."""
        return self._durable

    def stop(self) -> None:
        """Write what was appended, then end."""
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()
        self._leave_segment()

    def _run(self) -> None:
        try:
            self._take_turns()
        except Exception:
            log.exception("receive_log_broken")
            self._on_failure()

    def _take_turns(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, size = [first], first.record_bytes
            last = False
            while len(batch) < _BATCH_ENTRIES_MAX and size < _BATCH_BYTES_MAX:
                try:
                    entry = self._queue.get_nowait()
                except queue.Empty:
                    break
                if entry is None:
                    last = True
                    break
                batch.append(entry)
                size += entry.record_bytes
            self.write(batch)
            if last:
                return

    def write(self, batch: list[Entry]) -> None:
        """Write one batch, on this thread, and tell `done`."""
        begin = 0
        while begin < len(batch):
            end = self._write_some(batch, begin)
            begin = end
        self._done(batch)

    def _write_some(self, batch: list[Entry], begin: int) -> int:
        """Write the entries from `begin` that go into one segment; return the index after them."""
        try:
            ends = self._offset + batch[begin].record_bytes
            if self._fd < 0 or self._is_torn or ends > self._segment_bytes:
                self._next_segment()
            buffers: list[memoryview] = []
            end, offset = begin, self._offset
            while end < len(batch):
                entry = batch[end]
                if offset + entry.record_bytes > self._segment_bytes:
                    break
                buffers += self._made(entry, offset, end)
                offset += entry.record_bytes
                end += 1
            self._checkpoint("log.writing")
            self._disk.write(self._fd, buffers, self._offset)
            self._offset = offset
            self._durable = (self._number, offset)
            self._pool.written()
            self._checkpoint("log.written")
            return end
        except OSError as error:
            log.error("receive_log_failed", reason=error.strerror, segment=self._number)
            self._is_torn = self._fd >= 0
            for entry in batch[begin:]:
                entry.error = error
            return len(batch)

    def _made(self, entry: Entry, offset: int, index: int) -> Sequence[memoryview]:
        """Return the buffers of an entry's record at `offset`, its head written."""
        entry.segment_number, entry.offset = self._number, offset
        note = self._notes[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]
        buffers = entry.buffers or [note]
        write_head(
            buffers[0],
            entry.kind,
            self._number,
            offset,
            entry.texts,
            entry.data_offset,
            entry.data_bytes,
            entry.digest,
        )
        return buffers

    def _next_segment(self) -> None:
        if self._is_torn:
            self._disk.truncate(self._fd, self._offset)
            self._is_torn = False
        self._leave_segment()
        self._number, self._fd = self._pool.take()
        self._offset = 0
        self._durable = (self._number, 0)

    def _leave_segment(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):  # every write was synced: nothing is left that could fail
                self._disk.close(fd)
