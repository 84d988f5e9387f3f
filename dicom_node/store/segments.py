"""The segments of one receive log: files of a fixed size, written before they are used.

Theory of operation. A synced write into a file that has grown or whose blocks were never written
waits for the file system's journal too; into blocks that were written before it is one write of
the disk, two to three times as fast. So segments are filled with zeros ahead of their use, on a
thread of their own, and segments that hold nothing any more are used again as they are. A log is
its numbered segments in the order of their numbers, which only grow.

    free-*.segment       the next to be used; what stands in them is not looked at
    <number>.segment     a part of the log
    *.part               being filled; removed at start
"""

from __future__ import annotations

import mmap
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

import structlog

from dicom_node.clock import Checkpoint, pass_checkpoint
from dicom_node.store.disk import LogDisk

log = structlog.get_logger()

_FILL_BYTES = 1 << 20
_SUFFIX = ".segment"
_FREE = "free-"
_AFTER_FAILURE_S = 5.0
_QUIET_S = 0.25


def segment_name(number: int) -> str:
    """Return the file name of a segment of the log."""
    return f"{number:010}{_SUFFIX}"


def segment_numbers(folder: Path) -> list[int]:
    """Return the numbers of a log's segments, growing."""
    stems = [path.name.removesuffix(_SUFFIX) for path in folder.glob(f"*{_SUFFIX}")]
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def release_segment(folder: Path, number: int, disk: LogDisk) -> None:
    """Let a segment be used again; nothing in it may be wanted any more.

    Its records stay in it, but they name the old number, so nobody takes them for new ones.
    """
    disk.rename(folder / segment_name(number), folder / f"{_FREE}{number}{_SUFFIX}")
    disk.sync_folder(folder)


class SegmentPool:
    """Keeps segments ready for a log, and hands them out in the order of their numbers.

    Parameters
    ----------
    folder : Path
        Of this log alone; made if it is not there.
    segment_bytes : int
        Size of a segment, whole blocks.
    ready : int
        How many are kept ahead.
    """

    def __init__(
        self,
        folder: Path,
        segment_bytes: int,
        ready: int,
        disk: LogDisk,
        checkpoint: Checkpoint = pass_checkpoint,
    ) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._wanted = ready
        self._disk = disk
        self._checkpoint = checkpoint
        self._taking = threading.Lock()
        self._look_again = threading.Event()
        self._written_at = 0.0
        self._stopping = False
        disk.make_folder(folder)
        for part in folder.glob("*.part"):
            part.unlink()
        for other in set(folder.glob(f"{_FREE}*{_SUFFIX}")) - set(self._free()):
            other.unlink()  # of another size: trimmed, or receive.segment_bytes was changed
        # numbers are never used again: an old record that names one would be taken for a new one
        self._last_number = max(segment_numbers(folder), default=0)
        self._thread = threading.Thread(target=self._keep_ahead, name="segments", daemon=True)

    def start(self) -> None:
        """Fill segments in the background from now on."""
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._look_again.set()
        if self._thread.is_alive():
            self._thread.join()

    def written(self) -> None:
        """Take note that the log was written just now: filling waits for a quieter time."""
        self._written_at = time.monotonic()

    def take(self) -> tuple[int, int]:
        """Return (number, file descriptor) of the log's next segment, open for durable writes.

        Its name is durable. Where none is ready, one is made without being filled first: the
        writes into it take longer.

        Raises
        ------
        OSError
            If there is no room for one.
        """
        with self._taking:
            free = self._free() or [self._make(filled=False)]
            number = self._last_number + 1
            path = self._folder / segment_name(number)
            self._disk.rename(free[0], path)
            self._last_number = number
            self._checkpoint("segment.renamed")
            self._disk.sync_folder(self._folder)
            self._checkpoint("segment.taken")
        self._look_again.set()
        return number, self._disk.open_segment(path)

    def fill_up(self) -> None:
        """Make what is missing, on this thread."""
        while not self._stopping and len(self._free()) < self._wanted:
            self._make(filled=True)

    def _free(self) -> list[Path]:
        free = self._folder.glob(f"{_FREE}*{_SUFFIX}")
        return sorted(path for path in free if _size_of(path) == self._segment_bytes)

    def _keep_ahead(self) -> None:
        while not self._stopping:
            self._look_again.clear()
            pause_s = None
            try:
                self.fill_up()
            except OSError as error:
                log.warning("segment_not_made", reason=error.strerror)
                pause_s = _AFTER_FAILURE_S
            self._look_again.wait(pause_s)

    def _make(self, *, filled: bool) -> Path:
        name = uuid.uuid4().hex
        part = self._folder / f"{name}.part"
        free = self._folder / f"{_FREE}{name}{_SUFFIX}"
        try:
            fd = self._disk.create(part, self._segment_bytes)
            try:
                if filled:
                    self._fill(fd)
                self._disk.sync(fd)
            finally:
                self._disk.close(fd)
            self._checkpoint("segment.filled")
            self._disk.rename(part, free)
        except OSError:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        return free

    def _fill(self, fd: int) -> None:
        with mmap.mmap(-1, _FILL_BYTES) as zeros:
            for offset in range(0, self._segment_bytes, _FILL_BYTES):
                self._wait_for_quiet()
                with memoryview(zeros)[: min(_FILL_BYTES, self._segment_bytes - offset)] as piece:
                    self._disk.write(fd, [piece], offset)
                if self._stopping:
                    return

    def _wait_for_quiet(self) -> None:
        """Leave the disk to the log, as long as it has another segment to go on with."""
        while not self._stopping:
            quiet_s = time.monotonic() - self._written_at
            if quiet_s >= _QUIET_S or not self._free():
                return
            self._look_again.clear()
            self._look_again.wait(_QUIET_S - quiet_s)


def _size_of(path: Path) -> int | None:
    """Return a file's size; None if another thread took it since it was seen."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def trim_segment(path: Path, used_bytes: int, disk: LogDisk) -> None:
    """Give the unused end of a segment that nobody will write any more back to the disk."""
    with suppress(OSError):  # it costs room, nothing else
        disk.trim(path, used_bytes)
