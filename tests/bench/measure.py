"""What a tree of processes uses, read from /proc; nothing in it runs inside of what is measured."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_TICKS_S = os.sysconf("SC_CLK_TCK")
_SAMPLE_EVERY_S = 0.1
_QUIET_S = 0.5
_QUIET_CPU_S = 0.02
_QUIET_WRITTEN_BYTES = 1 << 20
_SETTLE_TIMEOUT_S = 60.0
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


def tree(root: int) -> list[int]:
    """Return a process and all its descendants, those that ended but were not waited for too."""
    found = [root]
    for pid in found:
        with suppress(*_GONE):
            for task in Path(f"/proc/{pid}/task").iterdir():
                with suppress(*_GONE):
                    found += map(int, (task / "children").read_text().split())
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """Return the CPU time of the processes and of their children that ended (proc(5), stat)."""
    ticks = 0
    for pid in pids:
        with suppress(*_GONE):
            # the name in parentheses may hold spaces; utime, stime, cutime, cstime are 14 to 17
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS_S


def memory_bytes(pids: Iterable[int], key: str = "VmRSS") -> int:
    """Return the sum of a size in /proc/PID/status: `VmRSS`, or `VmHWM` for its peak."""
    return sum(1024 * _status(pid, key) for pid in pids)


def written_bytes(pids: Iterable[int]) -> int:
    """Return how many bytes the processes sent on their way to the disk (proc(5), io)."""
    written = 0
    for pid in pids:
        with suppress(*_GONE):
            text = Path(f"/proc/{pid}/io").read_text()
            written += int(text.partition("\nwrite_bytes: ")[2].split()[0])
    return written


def threads(pids: Iterable[int]) -> int:
    return sum(_status(pid, "Threads") for pid in pids)


def reset_peaks(pids: Iterable[int]) -> None:
    """Let VmHWM start again from VmRSS (proc(5), clear_refs)."""
    for pid in pids:
        with suppress(*_GONE):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def settle(root: int) -> None:
    """Wait until the processes do next to nothing: what they do at start is not the load's."""
    deadline = time.monotonic() + _SETTLE_TIMEOUT_S
    pids = tree(root)
    cpu_before_s, written_before = cpu_s(pids), written_bytes(pids)
    while time.monotonic() < deadline:
        time.sleep(_QUIET_S)
        pids = tree(root)
        cpu_now_s, written_now = cpu_s(pids), written_bytes(pids)
        if (
            cpu_now_s - cpu_before_s <= _QUIET_CPU_S
            and written_now - written_before < _QUIET_WRITTEN_BYTES
        ):
            return
        cpu_before_s, written_before = cpu_now_s, written_now


def _status(pid: int, key: str) -> int:
    with suppress(*_GONE):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1])
    return 0


@dataclass
class Usage:
    """What a load cost, filled in when the `Meter` ends."""

    cpu_s: float = 0.0
    peak_bytes: int = 0
    """Of all processes together."""
    growth_bytes: int = 0
    """The peak over what they had before."""
    receiving_peak_bytes: int = 0
    receiving_growth_bytes: int = 0


class Meter:
    """Measures a tree of processes while its `with` block runs.

    Parameters
    ----------
    root : int
        The process that was started.
    receiving : callable
        Returns the processes that read from the network; only their sum is a peak that counts.

    Notes
    -----
    Memory is sampled every 100 ms, since forked children come and go; for the processes that live
    through the load, the kernel's own peak (VmHWM) is taken where it is higher.
    """

    def __init__(self, root: int, receiving: Callable[[], list[int]]) -> None:
        self._root = root
        self._receiving = receiving
        self._stop = threading.Event()
        self._peak = self._receiving_peak = 0
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.usage = Usage()

    def __enter__(self) -> Self:
        self._all, self._ours = tree(self._root), self._receiving()
        reset_peaks(self._all)
        self._rest, self._receiving_rest = memory_bytes(self._all), memory_bytes(self._ours)
        self._cpu_s = cpu_s(self._all)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        usage = self.usage
        usage.cpu_s = self.cpu_so_far_s()
        usage.peak_bytes = max(self._peak, memory_bytes(self._all, "VmHWM"))
        usage.growth_bytes = usage.peak_bytes - self._rest
        highest = memory_bytes(self._ours, "VmHWM")
        usage.receiving_peak_bytes = max(self._receiving_peak, highest)
        usage.receiving_growth_bytes = usage.receiving_peak_bytes - self._receiving_rest

    def cpu_so_far_s(self) -> float:
        """Return the CPU time since the block began; also after its end."""
        return cpu_s(tree(self._root)) - self._cpu_s

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_EVERY_S):
            self._peak = max(self._peak, memory_bytes(tree(self._root)))
            self._receiving_peak = max(self._receiving_peak, memory_bytes(self._receiving()))
