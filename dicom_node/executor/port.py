"""The executor's port: it moves work and owns no truth.

Whatever is open in the ledger and not in hand here is submitted again, at start and every few
seconds; so an executor may forget everything at any time, and may be asked for the same task as
often as one likes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dicom_node.model import Priority


@dataclass(frozen=True)
class Task:
    """A piece of work, named; the handler of its lane finds the rest in the ledger."""

    lane: str
    key: str
    priority: Priority = Priority.ROUTINE
    group: str = ""
    """Tasks of one lane, one priority and one group may be done together; empty: by itself."""


class Executor(Protocol):
    """Who runs what next."""

    def submit(self, task: Task) -> bool:
        """Queue a task; False if one with its lane and key is in hand, queued or running.

        A queued task that is submitted at a higher priority moves forward.
        """

    def cancel(self, task: Task) -> bool:
        """Drop a task that has not begun; False if it runs or is unknown."""

    def running(self) -> frozenset[tuple[str, str]]:
        """Return (lane, key) of every task in hand, queued or running."""

    def run(self) -> None:
        """Begin to work; returns at once."""

    def stop(self, grace_s: float) -> bool:
        """Begin nothing new and wait for what runs; False if something still ran at the end."""
