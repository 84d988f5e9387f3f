"""The file operations of the receive log, so that tests can fail them or cut the power in between.

A segment is opened for direct, synced writes (O_DIRECT, O_DSYNC): a write returns when the disk
has it, in one trip, without a copy in the page cache. Where the file system has no direct writes,
synced ones through the page cache do.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

_WRITE = os.O_WRONLY | os.O_CLOEXEC
_IOVECS_MAX = 1024


class LogDisk:
    """The real disk."""

    def make_folder(self, folder: Path) -> None:
        """Make a folder and those above it, each durable in its parent.

        The folder and its parent are synced where they are there already: whoever made them may
        have died before they were durable.
        """
        above = [f for f in folder.parents if f == folder.parent or not f.exists()]
        for each in reversed([folder, *above]):
            each.mkdir(exist_ok=True)
            self.sync_folder(each.parent)

    def create(self, path: Path, size: int) -> int:
        """Make a file with all its room reserved; return its descriptor."""
        fd = self._open(path, _WRITE | os.O_CREAT | os.O_TRUNC)
        try:
            self.reserve(fd, 0, size)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def reserve(self, fd: int, offset: int, size: int) -> None:
        """Reserve room in a file, so that no write there finds the disk full."""
        os.posix_fallocate(fd, offset, size)

    def open_segment(self, path: Path) -> int:
        """Open for writes that are durable when they return."""
        return self._open(path, _WRITE | os.O_DSYNC)

    def write(self, fd: int, buffers: Sequence[memoryview], offset: int) -> None:
        """Write all of it at `offset`; each buffer begins and ends on a block.

        Raises
        ------
        OSError
            Also if not all of it was written.
        """
        at = offset
        for begin in range(0, len(buffers), _IOVECS_MAX):
            part = buffers[begin : begin + _IOVECS_MAX]
            size = sum(map(len, part))
            if _pwritev(fd, part, at) != size:
                raise OSError(errno.EIO, "a write ended early")
            at += size

    def sync(self, fd: int) -> None:
        os.fsync(fd)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def sync_folder(self, folder: Path) -> None:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def trim(self, path: Path, size: int) -> None:
        """Cut off the end of a file that nobody writes."""
        os.truncate(path, size)

    def close(self, fd: int) -> None:
        os.close(fd)

    def _open(self, path: Path, flags: int) -> int:
        try:
            return os.open(path, flags | os.O_DIRECT, 0o640)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
        return os.open(path, flags, 0o640)


def _pwritev(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
    """Write, and do without direct writes where a file system takes them only to refuse each."""
    try:
        return os.pwritev(fd, buffers, offset)
    except OSError as error:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP) or not flags & os.O_DIRECT:
            raise
        fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)
    return os.pwritev(fd, buffers, offset)
