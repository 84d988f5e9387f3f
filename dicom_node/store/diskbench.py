"""What a disk gives: how long a sync takes, and how many instances a second it can keep.

Theory of operation: each step repeats one operation until its time is over, so a slow disk does
fewer of them and the whole takes no longer. All happens in a temporary folder below the one that
is asked about, which is removed whatever happens. The bytes written are random, since some file
systems and disks keep zeros without writing them. What the figures mean, `diskverdict` says.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import StorageError, StoreFull

BYTES_MAX = 300_000_000
"""What a measurement may occupy; so much must be free."""
RECORD_BYTES = {"MR": 36 * 1024, "CT": 528 * 1024}
"""A record of the receive log: header, File Meta and a data set of that modality, in pages."""
GATHERED = (1, 4, 16)
DIRECT_SYNCED = "O_DIRECT|O_DSYNC"
DIRECT = "O_DIRECT"
BUFFERED_SYNCED = "write, fdatasync"
BUFFERED = "write"

_BLOCK_BYTES = 4096
_PIECE_BYTES = 4 * 1024 * 1024
_SEGMENT_BYTES = 128 * 1024 * 1024
_SEGMENT_BYTES_MIN = 3 * _PIECE_BYTES  # holds sixteen CT records
_FILES_BYTES_MAX = 64 * 1024 * 1024
_OVERWRITES_MAX = 20_000
_PREFIX = ".bench-disk-"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_DIRECT = frozenset({errno.EINVAL, errno.EOPNOTSUPP})

Operation = Callable[[int], None]


@dataclass(frozen=True)
class Latency:
    """How long one 4 KB overwrite took."""

    method: str
    count: int
    p50_s: float
    p99_s: float
    max_s: float


@dataclass(frozen=True)
class Rate:
    """How fast pieces of one size were kept."""

    what: str
    piece_bytes: int
    gathered: int
    """How many pieces share one write and its sync."""
    pieces_per_s: float
    bytes_per_s: float


@dataclass(frozen=True)
class DiskFigures:
    """Everything measured; None where the file system refuses O_DIRECT."""

    unsynced: Latency
    direct: Latency | None
    direct_synced: Latency | None
    synced: Latency
    segment_bytes: int
    records_method: str
    records: tuple[Rate, ...]
    files: tuple[Rate, ...]
    sequential_write: Rate
    sequential_read: Rate

    @property
    def best_synced(self) -> Latency:
        """The way in which the receive log syncs on this disk."""
        return self.direct_synced or self.synced


class BenchDisk:
    """The file operations that are measured; tests pass one that counts them."""

    def free_bytes(self, folder: Path) -> int:
        return shutil.disk_usage(folder).free

    def open(self, file: Path, flags: int) -> int:
        return os.open(file, flags, 0o600)

    def write(self, fd: int, pieces: Sequence[memoryview], offset: int) -> int:
        return os.pwritev(fd, pieces, offset)

    def read(self, fd: int, into: memoryview, offset: int) -> int:
        return os.preadv(fd, [into], offset)

    def sync_data(self, fd: int) -> None:
        os.fdatasync(fd)

    def sync(self, fd: int) -> None:
        os.fsync(fd)

    def rename(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def sync_folder(self, folder: Path) -> None:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def measure(
    folder: Path,
    step_s: float,
    clock: Callable[[], float],
    tell: Callable[[str], None] = lambda step: None,
    disk: BenchDisk | None = None,
) -> DiskFigures:
    """Measure the disk below a folder for about sixteen times `step_s`.

    Parameters
    ----------
    folder : Path
        Must exist; a temporary folder comes and goes in it.
    step_s : float
        How long each step may take; each does its operation once at least.
    clock : callable
        Returns seconds, finely.
    tell : callable
        Told what is measured now.
    disk : BenchDisk
        Where the file operations go.

    Raises
    ------
    StoreFull
        If less than `BYTES_MAX` is free.
    StorageError
        If the folder cannot be written, or the disk fails.
    """
    disk = disk or BenchDisk()
    with _translated(folder):
        free = disk.free_bytes(folder)
        if free < BYTES_MAX:
            raise StoreFull(
                f"{folder} has {free / 1e6:.0f} MB free; measuring needs {BYTES_MAX / 1e6:.0f} MB",
                hint="free space there, or name another folder of the same disk",
            )
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder) as below:
            return _Bench(Path(below), step_s, clock, tell, disk).run()


class _Bench:
    """One measurement in a folder of its own."""

    def __init__(
        self,
        folder: Path,
        step_s: float,
        clock: Callable[[], float],
        tell: Callable[[str], None],
        disk: BenchDisk,
    ) -> None:
        self._folder = folder
        self._step_s = step_s
        self._clock = clock
        self._tell = tell
        self._disk = disk
        # Anonymous memory begins on a page, as O_DIRECT wants it (open(2)).
        memory = mmap.mmap(-1, max(GATHERED) * max(RECORD_BYTES.values()))
        memory.write(os.urandom(len(memory)))
        self._memory = memoryview(memory)

    def run(self) -> DiskFigures:
        segment = self._folder / "segment"
        method = DIRECT_SYNCED if self._takes_direct(segment) else BUFFERED_SYNCED
        direct = method == DIRECT_SYNCED
        segment_bytes, sequential_write = self._fill(segment, direct)
        return DiskFigures(
            sequential_write=sequential_write,
            segment_bytes=segment_bytes,
            unsynced=self._overwrite(segment, BUFFERED),
            direct=self._overwrite(segment, DIRECT) if direct else None,
            direct_synced=self._overwrite(segment, DIRECT_SYNCED) if direct else None,
            synced=self._overwrite(segment, BUFFERED_SYNCED),
            records_method=method,
            records=tuple(
                self._append(segment, segment_bytes, method, what, gathered)
                for what in RECORD_BYTES
                for gathered in GATHERED
            ),
            sequential_read=self._read(segment, segment_bytes, direct),
            files=tuple(self._save_files(what) for what in RECORD_BYTES),
        )

    def _takes_direct(self, file: Path) -> bool:
        """Return whether O_DIRECT works: some refuse it at the open, some at the first write."""
        try:
            with self._opened(file, DIRECT) as fd:
                self._write(fd, [self._memory[:_BLOCK_BYTES]], 0)
        except OSError as error:
            if error.errno in _NO_DIRECT:
                return False
            raise
        return True

    def _fill(self, file: Path, direct: bool) -> tuple[int, Rate]:
        """Write the segment once, as the receive log does before it uses one; return its size."""
        self._tell("sequential write")
        piece = self._memory[:_PIECE_BYTES]
        size, started = 0, self._clock()
        with self._opened(file, DIRECT if direct else BUFFERED) as fd:
            while size < _SEGMENT_BYTES:
                late = self._clock() - started > 3 * self._step_s
                if late and size >= _SEGMENT_BYTES_MIN:
                    break
                self._write(fd, [piece], size)
                size += len(piece)
                if not direct:  # else a slow disk would have all of it before it at the end
                    self._disk.sync_data(fd)
            self._disk.sync(fd)
        took_s = self._clock() - started
        self._disk.sync_folder(self._folder)
        return size, _rate("sequential write", len(piece), 1, size // len(piece), took_s)

    def _overwrite(self, file: Path, method: str) -> Latency:
        self._tell(f"4 KB overwritten by {method}")
        blocks = [self._memory[n * _BLOCK_BYTES :][:_BLOCK_BYTES] for n in range(64)]
        with self._opened(file, method) as fd:

            def overwrite(number: int) -> None:
                self._write(fd, [blocks[number % len(blocks)]], 0)
                if method == BUFFERED_SYNCED:
                    self._disk.sync_data(fd)

            durations_s = sorted(self._repeat(overwrite, _OVERWRITES_MAX))
            self._disk.sync_data(fd)  # leaves nothing for the next step to write
        count = len(durations_s)
        p50_s, p99_s = durations_s[count // 2], durations_s[count * 99 // 100]
        return Latency(method, count, p50_s, p99_s, durations_s[-1])

    def _append(self, file: Path, size: int, method: str, what: str, gathered: int) -> Rate:
        """Write records one after the other into the segment; at its end begin again."""
        self._tell(f"{what} records, {gathered} a write")
        record = RECORD_BYTES[what]
        records = [self._memory[n * record :][:record] for n in range(gathered)]
        places = size // (record * gathered)
        with self._opened(file, method) as fd:

            def append(number: int) -> None:
                self._write(fd, records, number % places * record * gathered)
                if method == BUFFERED_SYNCED:
                    self._disk.sync_data(fd)

            durations_s = self._repeat(append)
        return _rate(what, record, gathered, gathered * len(durations_s), sum(durations_s))

    def _read(self, file: Path, size: int, direct: bool) -> Rate:
        self._tell("sequential read")
        into = self._memory[:_PIECE_BYTES]
        with self._opened(file, DIRECT if direct else BUFFERED) as fd:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            durations_s = self._repeat(
                lambda number: self._read_piece(fd, into, number * len(into)), size // len(into)
            )
        count = len(durations_s)
        return _rate("sequential read", len(into), 1, count, sum(durations_s))

    def _read_piece(self, fd: int, into: memoryview, offset: int) -> None:
        if self._disk.read(fd, into, offset) != len(into):
            raise OSError(errno.EIO, "it returned less than was written")

    def _save_files(self, what: str) -> Rate:
        """Keep each instance as a file of its own: write, fsync, rename, fsync the folder."""
        self._tell(f"{what} files")
        part, data = self._folder / "part", self._memory[: RECORD_BYTES[what]]
        kept = self._folder / "files"
        kept.mkdir()

        def save(number: int) -> None:
            fd = self._disk.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                self._write(fd, [data], 0)
                self._disk.sync(fd)
            finally:
                os.close(fd)
            self._disk.rename(part, kept / f"{number}.dcm")
            self._disk.sync_folder(kept)

        durations_s = self._repeat(save, _FILES_BYTES_MAX // len(data))
        shutil.rmtree(kept)
        return _rate(what, len(data), 1, len(durations_s), sum(durations_s))

    def _repeat(self, operation: Operation, times_max: int | None = None) -> list[float]:
        """Do it until the time of a step is over; return how long each took, in seconds."""
        durations_s: list[float] = []
        started = before = self._clock()
        while not durations_s or before - started < self._step_s:
            if len(durations_s) == times_max:
                break
            operation(len(durations_s))
            after = self._clock()
            durations_s.append(after - before)
            before = after
        return durations_s

    def _write(self, fd: int, pieces: Sequence[memoryview], offset: int) -> None:
        if self._disk.write(fd, pieces, offset) != sum(map(len, pieces)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @contextmanager
    def _opened(self, file: Path, method: str) -> Iterator[int]:
        flags = {DIRECT: os.O_DIRECT, DIRECT_SYNCED: os.O_DIRECT | os.O_DSYNC}.get(method, 0)
        fd = self._disk.open(file, os.O_RDWR | os.O_CREAT | flags)
        try:
            yield fd
        finally:
            os.close(fd)


def _rate(what: str, piece_bytes: int, gathered: int, pieces: int, took_s: float) -> Rate:
    per_s = pieces / max(took_s, 1e-9)
    return Rate(what, piece_bytes, gathered, per_s, per_s * piece_bytes)


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFull(f"no room in {folder}", hint="free space there") from error
        raise StorageError(
            f"{folder} cannot be measured: {error.strerror}",
            hint="name a folder that this user may write to",
        ) from error
