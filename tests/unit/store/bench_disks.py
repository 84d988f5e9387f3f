"""A disk for `bench-disk` whose time is made up, and which notes each operation."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.store.diskbench import BenchDisk


@dataclass
class ScriptedDisk(BenchDisk):
    """Keeps what it is given, in files; how long that takes, the test says.

    Its flags never reach the real disk, so it behaves alike on every file system.
    """

    call_s: float = 2e-6
    """Any operation, by itself."""
    direct_s: float = 50e-6
    """What an O_DIRECT write needs besides."""
    sync_s: float = 1e-3
    """What a sync needs besides, be it a call or a flag."""
    bytes_per_s: float = 1e9
    free: int = 10**12
    takes_direct: bool = True
    fails_at: int = 0
    """Which operation fails, counted from 1; 0 for none."""
    failure: BaseException = field(default_factory=KeyboardInterrupt)

    now: float = 0.0
    step: str = ""
    done: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each operation was done in each step."""
    bytes_written: Counter[str] = field(default_factory=Counter)
    _flags: dict[int, int] = field(default_factory=dict)

    def clock(self) -> float:
        return self.now

    def tell(self, step: str) -> None:
        self.step = step

    def free_bytes(self, folder: Path) -> int:
        return self.free

    def open(self, file: Path, flags: int) -> int:
        self._note("open", 0.0)
        if flags & os.O_DIRECT and not self.takes_direct:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fd = super().open(file, flags & ~(os.O_DIRECT | os.O_DSYNC))
        self._flags[fd] = flags
        return fd

    def write(self, fd: int, pieces: Sequence[memoryview], offset: int) -> int:
        direct, synced = self._flags[fd] & os.O_DIRECT, self._flags[fd] & os.O_DSYNC == os.O_DSYNC
        size = sum(map(len, pieces))
        took_s = self.direct_s + size / self.bytes_per_s if direct or size > 4096 else 0.0
        self._note("synced write" if synced else "write", took_s + self.sync_s * synced)
        self.bytes_written[self.step] += size
        return super().write(fd, pieces, offset)

    def read(self, fd: int, into: memoryview, offset: int) -> int:
        self._note("read", len(into) / self.bytes_per_s)
        return super().read(fd, into, offset)

    def sync_data(self, fd: int) -> None:
        self._note("sync_data", self.sync_s)

    def sync(self, fd: int) -> None:
        self._note("sync", self.sync_s)

    def rename(self, source: Path, target: Path) -> None:
        self._note("rename", 0.0)
        super().rename(source, target)

    def sync_folder(self, folder: Path) -> None:
        self._note("sync_folder", self.sync_s)

    def _note(self, operation: str, took_s: float) -> None:
        self.now += self.call_s + took_s
        self.done[self.step, operation] += 1
        if self.fails_at == self.done.total():
            raise self.failure
