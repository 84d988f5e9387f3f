"""Reading an instance or a result wherever it lies: a file of its own, or a part of a segment."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

_BUFFER_BYTES = 1 << 16


def place_in_segment(segment: str, offset: int, size_bytes: int) -> str:
    """Return the path, as the ledger keeps it, of a Part 10 file inside of a segment."""
    return f"{segment}@{offset}+{size_bytes}"


@dataclass(frozen=True)
class StoredFile:
    """A Part 10 file in the store.

    Parameters
    ----------
    path : Path
        The file that holds it.
    offset : int
        Where it begins there.
    size_bytes : int, optional
        Its length; None for all of the file.
    """

    path: Path
    offset: int = 0
    size_bytes: int | None = None

    @classmethod
    def at(cls, root: Path, place: str) -> StoredFile:
        """Return the file at a place that the ledger names, below `root`."""
        path, _, part = place.partition("@")
        if not part:
            return cls(root / path)
        offset, _, size_bytes = part.partition("+")
        return cls(root / path, int(offset), int(size_bytes))

    def __str__(self) -> str:
        return f"{self.path}@{self.offset}" if self.offset else str(self.path)

    @property
    def name(self) -> str:
        """For messages: which file, and where in it."""
        return f"{self.path.name}@{self.offset}" if self.offset else self.path.name

    def exists(self) -> bool:
        """Return whether all of its bytes can be there."""
        try:
            size = self.path.stat().st_size
        except OSError:
            return False
        return self.size_bytes is None or self.offset + self.size_bytes <= size

    def open(self, mode: str = "rb") -> BinaryIO:
        """Open for reading, as `Path.open` does."""
        if self.size_bytes is None:
            return cast(BinaryIO, self.path.open(mode))
        part = _Part(self.path, self.offset, self.size_bytes)
        return cast(BinaryIO, io.BufferedReader(part, _BUFFER_BYTES))

    def read_bytes(self) -> bytes:
        with self.open() as file:
            return file.read()


class _Part(io.RawIOBase):
    """A part of a file as if it were a file."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        super().__init__()
        self.name = f"{path}@{offset}"
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._offset = offset
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), max(0, self._size - self._at))
        if not wanted:
            return 0
        count = os.preadv(self._fd, [memoryview(buffer)[:wanted]], self._offset + self._at)
        self._at += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("a place before the begin")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()
