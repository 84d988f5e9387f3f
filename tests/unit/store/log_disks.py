"""A disk that notes all it is told, so that a power cut at any operation can be played afterwards.

Theory of operation. The disk does everything for real, and writes it down. `Platter.after_cut`
then says which files are found when the power comes back, if it had gone while the n-th operation
was under way. What certainly is there follows from what was synced; what else may be there is a
matter of luck, which the caller brings:

* a write into a segment is on the disk when it returns; while it is under way, each of its sectors
  may be there or not;
* what else was written into a file, and its size, is there once the file is synced, a name once its
  folder is synced; before that, each may be there or not, in any combination.
"""

from __future__ import annotations

import errno
import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from dicom_node.store.disk import LogDisk
from dicom_node.store.local import Disk
from dicom_node.store.record import BLOCK_BYTES

SECTOR_BYTES = 512
_GROWN_BYTES_MAX = 1 << 16
"""Room that is reserved and never written is of no interest beyond that."""

Failure = Callable[[], BaseException]

Luck = Callable[[], bool]
"""Says of one thing that is not certain whether it came to the disk."""


def worst() -> bool:
    return False


def best() -> bool:
    return True


def by_chance(seed: object, share: float) -> Luck:
    """Let such a share of what is uncertain come to the disk."""
    chance = random.Random(f"{seed} {share}")
    return lambda: chance.random() < share


class Killed(BaseException):
    """The process is killed."""


def broken() -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO))


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Kind(Enum):
    """What a disk is told."""

    MAKE_FOLDER = auto()
    NAME = auto()
    """A file gets a name: its first, or another instead."""
    SYNC_FOLDER = auto()
    OPEN = auto()
    GROW = auto()
    CUT = auto()
    WRITE = auto()
    """Into a file that has yet to be synced."""
    WRITE_SYNCED = auto()
    """Into a segment."""
    SYNC = auto()
    CLOSE = auto()


@dataclass
class Operation:
    """One thing that a disk was told."""

    kind: Kind
    path: Path = field(default_factory=Path)
    """The name that is given, or the folder that is made or synced."""
    file: int = -1
    offset: int = 0
    """Where it is written; the size that a file is given."""
    data: bytes = b""
    is_failed: bool = False


class Platter:
    """What is on a disk, certainly or perhaps; shared by the doors through which it is reached.

    Parameters
    ----------
    root : Path
        What is in it now is safe.
    fail_at : int
        Which operation fails, counted from 1; 0 for none.
    failure : callable
        How it fails: `broken`, `full`, or `Killed`, for a process that ends before it is done.
    """

    def __init__(self, root: Path, fail_at: int = 0, failure: Failure = broken) -> None:
        self.root = root
        self.operations: list[Operation] = []
        self._fail_at = fail_at
        self._failure = failure
        self._fails_next: dict[Kind, Failure] = {}
        old = sorted(path for path in root.rglob("*") if path.is_file())
        self._old = {number: path.read_bytes() for number, path in enumerate(old)}
        self._old_places = dict(enumerate(old))
        self._old_folders = {root, *(path for path in root.rglob("*") if path.is_dir())}
        self._files = len(old)
        self._numbers = {path: number for number, path in enumerate(old)}

    def __len__(self) -> int:
        return len(self.operations)

    def fail_next(self, kind: Kind, failure: Failure = broken) -> None:
        """Let the next operation of a kind fail."""
        self._fails_next[kind] = failure

    @contextmanager
    def told(self, operation: Operation, in_part: Callable[[], object] = int) -> Iterator[None]:
        """Note an operation that is done in the `with` block; or let it fail.

        Parameters
        ----------
        in_part : callable
            Does what the failure leaves.
        """
        self.operations.append(operation)
        failure = self._fails_next.pop(operation.kind, None)
        if len(self) == self._fail_at:
            failure = self._failure
        if failure is not None:
            operation.is_failed = True
            in_part()
            raise failure()
        yield

    def new_file(self, path: Path) -> int:
        self._numbers[path] = self._files
        self._files += 1
        return self._numbers[path]

    def file_at(self, path: Path) -> int:
        return self._numbers[path]

    def moved(self, source: Path, target: Path) -> None:
        self._numbers[target] = self._numbers.pop(source)

    def after_cut(self, n: int, luck: Luck) -> dict[Path, bytes]:
        """Return the files that are found, below the root, after a cut in the n-th operation."""
        files = defaultdict[int, _File](_File)
        files |= {number: _File(bytearray(content)) for number, content in self._old.items()}
        names = _Names(dict(self._old_places), set(self._old_folders))
        for operation in self.operations[: n - 1]:
            if not operation.is_failed or operation.kind is Kind.WRITE_SYNCED:
                names.take(operation)
                files[operation.file].take(operation)
        for operation in self.operations[n - 1 : n]:
            names.take_perhaps(operation)
            files[operation.file].take_perhaps(operation)
        names.come_to_rest(luck)
        return {
            path.relative_to(self.root): files[number].at_rest(luck)
            for number, path in names.reachable(self.root)
        }


class _File:
    """The content of a file."""

    def __init__(self, certain: bytearray | None = None) -> None:
        self._certain = bytearray() if certain is None else certain
        self._perhaps: list[Operation] = []

    def take(self, operation: Operation) -> None:
        if operation.kind is Kind.SYNC:
            for earlier in self._perhaps:
                _change(self._certain, earlier, best)
            self._perhaps.clear()
        elif operation.kind is Kind.WRITE_SYNCED and not operation.is_failed:
            _change(self._certain, operation, best)
        else:
            self.take_perhaps(operation)

    def take_perhaps(self, operation: Operation) -> None:
        if operation.kind in {Kind.GROW, Kind.CUT, Kind.WRITE, Kind.WRITE_SYNCED}:
            self._perhaps.append(operation)

    def at_rest(self, luck: Luck) -> bytes:
        content = bytearray(self._certain)
        for operation in self._perhaps:
            _change(content, operation, luck)
        return bytes(content)


def _change(content: bytearray, operation: Operation, luck: Luck) -> None:
    if operation.kind is Kind.GROW:
        if luck():
            _grow(content, operation.offset)
    elif operation.kind is Kind.CUT:
        if luck():
            del content[operation.offset :]
    else:
        for at in range(0, len(operation.data), SECTOR_BYTES):
            if luck():
                sector = operation.data[at : at + SECTOR_BYTES]
                begin = operation.offset + at
                _grow(content, begin + len(sector))
                content[begin : begin + len(sector)] = sector


def _grow(content: bytearray, size: int) -> None:
    content += bytes(max(0, size - len(content)))


class _Names:
    """Where the files lie, and which folders there are."""

    def __init__(self, places: dict[int, Path], folders: set[Path]) -> None:
        self._places = places
        self._folders = folders
        self._perhaps: list[Operation] = []

    def take(self, operation: Operation) -> None:
        if operation.kind is Kind.SYNC_FOLDER:
            here = [one for one in self._perhaps if one.path.parent == operation.path]
            for earlier in here:
                self._give(earlier)
            settled = {one.file for one in here if one.kind is Kind.NAME}
            self._perhaps = [
                one for one in self._perhaps if one not in here and one.file not in settled
            ]
        else:
            self.take_perhaps(operation)

    def take_perhaps(self, operation: Operation) -> None:
        if operation.kind in {Kind.NAME, Kind.MAKE_FOLDER}:
            self._perhaps.append(operation)

    def come_to_rest(self, luck: Luck) -> None:
        for operation in self._perhaps:
            if luck():
                self._give(operation)

    def reachable(self, root: Path) -> Iterable[tuple[int, Path]]:
        for number, path in self._places.items():
            above = [folder for folder in path.parents if folder.is_relative_to(root)]
            if self._folders.issuperset(above):
                yield number, path

    def _give(self, operation: Operation) -> None:
        if operation.kind is Kind.MAKE_FOLDER:
            self._folders.add(operation.path)
            return
        replaced = [number for number, path in self._places.items() if path == operation.path]
        for number in replaced:
            del self._places[number]
        self._places[operation.file] = operation.path


class NotingLogDisk(LogDisk):
    """The door of the receive log."""

    def __init__(self, platter: Platter) -> None:
        self._platter = platter
        self._files: dict[int, int] = {}
        """Of the descriptors that are open."""
        self._segments: set[int] = set()

    def close_all(self) -> None:
        """Close what is open, as the system does when a process ends."""
        for fd in self._files:
            os.close(fd)
        self._files.clear()

    def make_folder(self, folder: Path) -> None:
        for one in reversed([folder, *folder.parents]):
            if not one.exists():
                with self._platter.told(Operation(Kind.MAKE_FOLDER, one)):
                    pass
        super().make_folder(folder)

    def create(self, path: Path, size: int) -> int:
        with self._platter.told(Operation(Kind.NAME, path, self._platter.new_file(path))):
            path.touch()
        fd = super().open_segment(path)
        self._files[fd] = self._platter.file_at(path)
        self._segments.discard(fd)
        try:
            self.reserve(fd, 0, size)
        except OSError:
            self._close(fd)
            raise
        return fd

    def reserve(self, fd: int, offset: int, size: int) -> None:
        with self._platter.told(self._about(fd, Kind.GROW, min(offset + size, _GROWN_BYTES_MAX))):
            super().reserve(fd, offset, size)

    def open_segment(self, path: Path) -> int:
        with self._platter.told(Operation(Kind.OPEN)):
            fd = super().open_segment(path)
        self._files[fd] = self._platter.file_at(path)
        self._segments.add(fd)
        return fd

    def write(self, fd: int, buffers: Sequence[memoryview], offset: int) -> None:
        data = b"".join(buffers)
        kind = Kind.WRITE_SYNCED if fd in self._segments else Kind.WRITE
        operation = self._about(fd, kind, offset)
        operation.data = data
        with self._platter.told(operation, lambda: _write_some(fd, data, offset)):
            super().write(fd, buffers, offset)

    def sync(self, fd: int) -> None:
        with self._platter.told(self._about(fd, Kind.SYNC)):
            pass

    def rename(self, source: Path, target: Path) -> None:
        with self._platter.told(Operation(Kind.NAME, target, self._platter.file_at(source))):
            super().rename(source, target)
            self._platter.moved(source, target)

    def sync_folder(self, folder: Path) -> None:
        with self._platter.told(Operation(Kind.SYNC_FOLDER, folder)):
            pass

    def truncate(self, fd: int, size: int) -> None:
        with self._platter.told(self._about(fd, Kind.CUT, size)):
            super().truncate(fd, size)

    def trim(self, path: Path, size: int) -> None:
        with self._platter.told(Operation(Kind.CUT, file=self._platter.file_at(path), offset=size)):
            super().trim(path, size)

    def close(self, fd: int) -> None:
        try:
            with self._platter.told(Operation(Kind.CLOSE)):
                pass
        finally:
            self._close(fd)  # close(2) closes, whatever it says

    def _close(self, fd: int) -> None:
        del self._files[fd]
        super().close(fd)

    def _about(self, fd: int, kind: Kind, offset: int = 0) -> Operation:
        return Operation(kind, file=self._files[fd], offset=offset)


def _write_some(fd: int, data: bytes, offset: int) -> None:
    """Write every sector of a write that fails, but the first behind the first record's head."""
    with Path(f"/proc/self/fd/{fd}").open("r+b") as file:
        for at in range(0, len(data), SECTOR_BYTES):
            if at != BLOCK_BYTES:
                file.seek(offset + at)
                file.write(data[at : at + SECTOR_BYTES])


class NotingDisk(Disk):
    """The door of the store."""

    def __init__(self, platter: Platter) -> None:
        self._platter = platter

    def rename(self, source: Path, target: Path) -> None:
        with self._platter.told(Operation(Kind.NAME, target, self._platter.file_at(source))):
            super().rename(source, target)
            self._platter.moved(source, target)

    def make_folder(self, folder: Path) -> None:
        if folder.exists():
            return
        with self._platter.told(Operation(Kind.MAKE_FOLDER, folder)):
            super().make_folder(folder)

    def sync_folder(self, folder: Path) -> None:
        with self._platter.told(Operation(Kind.SYNC_FOLDER, folder)):
            pass
