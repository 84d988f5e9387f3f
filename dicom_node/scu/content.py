"""The data set of one instance as it goes out: bytes in memory and parts of files, one by one.

Parts of files are mapped, a window at a time, and the kernel copies them from the page cache into
the socket: Python never looks at them, and memory stays the same for any size. Where the bytes have
to be looked at (TLS encrypts them), they are read instead: a mapped file that becomes shorter would
end the process by SIGBUS, while the kernel only answers EFAULT.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dicom_node.errors import StorageError

_WINDOW_BYTES = 4 << 20
"""Mapping costs some system calls; a CT slice is one window, and 4 MB more is no memory."""
_READ_BYTES = 1 << 18
_SMALL_BYTES = 1 << 16
"""Up to here, copying is cheaper than mapping."""
_RESTORE = "restore it from a backup of data_dir, then retry"


@dataclass(frozen=True)
class FilePart:
    """Some bytes of a file."""

    path: Path
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class Content:
    """What a C-STORE carries: an encoded data set without File Meta."""

    pieces: tuple[bytes | memoryview | FilePart, ...]

    @classmethod
    def of(cls, *pieces: bytes | memoryview | FilePart) -> Self:
        return cls(pieces)

    @property
    def size_bytes(self) -> int:
        return sum(
            piece.size_bytes if isinstance(piece, FilePart) else len(piece) for piece in self.pieces
        )

    def at_hand(self, *, mapped: bool) -> Content:
        """Return the same with its files open, as far as that takes no more than a few megabytes.

        What takes time then is done while a peer is still busy with what it got before. What
        cannot be read stays as it is: whoever sends it is told.
        """
        if self.size_bytes > _WINDOW_BYTES:
            return self
        pieces: list[bytes | memoryview | FilePart] = []
        for piece in self.pieces:
            if isinstance(piece, FilePart) and (mapped or piece.size_bytes <= _SMALL_BYTES):
                with suppress(StorageError):
                    pieces += _in_memory(piece)
                    continue
            pieces.append(piece)
        return Content(tuple(pieces))

    @contextmanager
    def opened(self, *, mapped: bool) -> Iterator[Iterator[memoryview]]:
        """Open what is to be opened; give the bytes, a few megabytes at a time.

        Raises
        ------
        StorageError
            If a file cannot be read, or is shorter than it must be.
        """
        fds: list[int] = []
        try:
            for piece in self.pieces:
                fds.append(_open(piece) if isinstance(piece, FilePart) else -1)
            yield self._views(fds, mapped)
        finally:
            for fd in fds:
                if fd >= 0:
                    os.close(fd)

    def read(self) -> bytes:
        """Return all of it; errors as for `opened`."""
        with self.opened(mapped=False) as views:
            return b"".join(views)

    def _views(self, fds: list[int], mapped: bool) -> Iterator[memoryview]:
        for piece, fd in zip(self.pieces, fds, strict=True):
            if not isinstance(piece, FilePart):
                yield memoryview(piece)
            elif mapped and piece.size_bytes > _SMALL_BYTES:
                yield from _mapped(fd, piece)
            else:
                yield from _read(fd, piece)


def _in_memory(part: FilePart) -> list[memoryview]:
    fd = _open(part)
    try:
        return list(_read(fd, part) if part.size_bytes <= _SMALL_BYTES else _mapped(fd, part))
    finally:
        os.close(fd)


def _open(part: FilePart) -> int:
    fd = -1
    try:
        fd = os.open(part.path, os.O_RDONLY | os.O_CLOEXEC)
        size = os.fstat(fd).st_size
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise unreadable(part.path, str(error.strerror)) from error
    if part.offset + part.size_bytes > size:
        os.close(fd)
        raise unreadable(part.path, "it is cut off")
    return fd


def _mapped(fd: int, part: FilePart) -> Iterator[memoryview]:
    at, end = part.offset, part.offset + part.size_bytes
    while at < end:
        begin = at - at % mmap.ALLOCATIONGRANULARITY
        until = min(end, begin + _WINDOW_BYTES)
        try:
            window = mmap.mmap(fd, until - begin, prot=mmap.PROT_READ, offset=begin)
        except (OSError, ValueError) as error:  # ValueError: the file has become shorter
            raise unreadable(part.path, "it cannot be mapped") from error
        # It is unmapped when nobody has a view of it any more.
        yield memoryview(window)[at - begin :]
        at = until


def _read(fd: int, part: FilePart) -> Iterator[memoryview]:
    at, end = part.offset, part.offset + part.size_bytes
    while at < end:
        try:
            data = os.pread(fd, min(_READ_BYTES, end - at), at)
        except OSError as error:
            raise unreadable(part.path, str(error.strerror)) from error
        if not data:
            raise unreadable(part.path, "it is cut off")
        yield memoryview(data)
        at += len(data)


def unreadable(path: Path, why: str) -> StorageError:
    """Return what is to be raised where a file of ours cannot be sent."""
    return StorageError(f"our file {path.name} cannot be read: {why}", hint=_RESTORE)
