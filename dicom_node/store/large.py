"""Instances too large for the log: streamed into a file of their own, at the pace of the disk.

One thread writes the blocks that the loop hands over and gives each one back when it is written, so
an instance of any size needs a few blocks of memory. The last block's write ends with the sync, the
rename to the final name and the sync of its folder; only then may a record name the file.
"""

from __future__ import annotations

import queue
import threading
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from dicom_node.errors import StorageError
from dicom_node.store.disk import LogDisk
from dicom_node.store.local import LocalStore, translated
from dicom_node.store.record import whole_blocks

_RESERVE_BYTES = 64 << 20


class LargeFile:
    """One file in the making; used by the writer's thread alone."""

    def __init__(
        self, store: LocalStore, disk: LogDisk, reserve_bytes: int = _RESERVE_BYTES
    ) -> None:
        self._store = store
        self._disk = disk
        self._part = store.incoming / f"{uuid.uuid4().hex}.part"
        self._fd = -1
        self._reserve_bytes = reserve_bytes
        self._reserved = 0
        self._written = 0
        self.error: StorageError | None = None
        self.waiting: deque[tuple[memoryview, int, Callable[[], None]]] = deque()
        """Blocks that came since the last write; the one thing that the loop's thread adds to."""

    def write(self, blocks: Sequence[memoryview], used: int) -> None:
        """Write blocks with one call; of the last of them `used` bytes, of the others all.

        Only the last block of the file may be used in part.
        """
        *whole, last = blocks
        size = whole_blocks(used)
        last[used:size] = bytes(size - used)
        before = sum(map(len, whole))
        with translated(self._part):
            if self._fd < 0:
                self._fd = self._disk.create(self._part, self._reserve_bytes)
                self._reserved = self._reserve_bytes
            if self._written + before + size > self._reserved:
                self._disk.reserve(self._fd, self._reserved, self._reserve_bytes)
                self._reserved += self._reserve_bytes
            self._disk.write(self._fd, [*whole, last[:size]], self._written)
        self._written += before + used

    def finish(self, relative: str) -> None:
        """Make the file durable under its final name."""
        with translated(self._part):
            self._disk.truncate(self._fd, self._written)
            self._disk.sync(self._fd)
            self._close()
        self._store.adopt(self._part, relative)

    def drop(self) -> None:
        """Leave nothing behind; what stays all the same goes at the next start."""
        with suppress(OSError):
            self._close()
        with suppress(OSError):
            self._part.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._disk.close(fd)


class LargeFileWriter:
    """The thread that writes large files; several take turns, block by block."""

    def __init__(self, store: LocalStore, disk: LogDisk) -> None:
        self._store = store
        self._disk = disk
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="large-files", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def begin(self) -> LargeFile:
        return LargeFile(self._store, self._disk)

    def write(
        self, file: LargeFile, block: memoryview, used: int, done: Callable[[], None]
    ) -> None:
        """Write a block; `done` is called on this thread when it may be used again."""
        file.waiting.append((block, used, done))
        self._queue.put(lambda: self._write_waiting(file))

    def finish(self, file: LargeFile, relative: str, done: Callable[[], None]) -> None:
        """Make the file durable; `done` is called on this thread, look at `file.error` then."""

        def work() -> None:
            try:
                if file.error is None:
                    file.finish(relative)
            except StorageError as error:
                file.error = error
            if file.error is not None:
                file.drop()
            done()

        self._queue.put(work)

    def drop(self, file: LargeFile) -> None:
        """Forget a file whose instance did not come to its end."""
        self._queue.put(file.drop)

    def _write_waiting(self, file: LargeFile) -> None:
        """Write whatever gathered while the write before was under way."""
        waiting = [file.waiting.popleft() for _ in range(len(file.waiting))]
        if not waiting:
            return  # it went with the one before
        try:
            if file.error is None:
                file.write([block for block, _, _ in waiting], waiting[-1][1])
        except StorageError as error:
            file.error = error
        for _, _, done in waiting:
            done()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()


def part10_path(folder: str, series_instance_uid: str, sop_instance_uid: str, digest: str) -> str:
    """Return where an instance that has a file of its own lies in the store.

    The name holds a part of the digest, so another data set under the same UIDs never overwrites
    the first.
    """
    return str(Path(folder) / series_instance_uid / f"{sop_instance_uid}.{digest[:16]}.dcm")
