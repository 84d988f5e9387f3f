"""The embedded executor: a priority heap and a few threads for each lane, in the node's process."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count

import structlog

from dicom_node.errors import InvariantBroken
from dicom_node.executor.port import Task
from dicom_node.model import Priority

log = structlog.get_logger()

Handler = Callable[[Task], None]


@dataclass(frozen=True)
class Lane:
    """Tasks of one kind that wait for one another and for nobody else.

    Attributes
    ----------
    handler : callable
        Does a task and records in the ledger what came of it.
    on_error : callable
        Told of an exception that the handler let through; it leaves the event row.
    threads : int
        How many tasks run at once.
    """

    handler: Handler
    on_error: Callable[[Task, Exception], None]
    threads: int = 1


class LocalExecutor:
    """Runs tasks on threads, the most urgent first and then in the order of their submission."""

    def __init__(self, lanes: Mapping[str, Lane]) -> None:
        self._lanes = dict(lanes)
        self._changed = threading.Condition()
        self._heaps: dict[str, list[tuple[Priority, int, str]]] = {lane: [] for lane in lanes}
        self._queued: dict[tuple[str, str], Priority] = {}
        self._running: set[tuple[str, str]] = set()
        self._order = count()
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def submit(self, task: Task) -> bool:
        if task.lane not in self._lanes:
            raise InvariantBroken(f"there is no lane {task.lane}")
        name = (task.lane, task.key)
        with self._changed:
            queued_at = self._queued.get(name)
            if name in self._running or (queued_at is not None and queued_at <= task.priority):
                return False
            self._queued[name] = task.priority
            heapq.heappush(self._heaps[task.lane], (task.priority, next(self._order), task.key))
            self._changed.notify_all()
            return queued_at is None

    def cancel(self, task: Task) -> bool:
        with self._changed:
            return self._queued.pop((task.lane, task.key), None) is not None

    def running(self) -> frozenset[tuple[str, str]]:
        with self._changed:
            return frozenset(self._running | self._queued.keys())

    def run(self) -> None:
        for lane, made in self._lanes.items():
            for number in range(made.threads):
                thread = threading.Thread(
                    target=self._work, args=(lane,), name=f"{lane}-{number}", daemon=True
                )
                self._threads.append(thread)
                thread.start()

    def stop(self, grace_s: float) -> bool:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        deadline = time.monotonic() + grace_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self, lane: str) -> None:
        made = self._lanes[lane]
        while (task := self._next(lane)) is not None:
            try:
                made.handler(task)
            except Exception as error:
                log.exception("task_failed", lane=lane, key=task.key)
                self._tell(made, task, error)
            finally:
                with self._changed:
                    self._running.discard((lane, task.key))

    def _tell(self, lane: Lane, task: Task, error: Exception) -> None:
        """Have the lane note an error; that may fail too, and the lane goes on."""
        try:
            lane.on_error(task, error)
        except Exception:
            log.exception("error_not_noted", lane=task.lane, key=task.key)

    def _next(self, lane: str) -> Task | None:
        """Wait for the next task of a lane; None once the executor stops."""
        with self._changed:
            while not self._stopping:
                heap = self._heaps[lane]
                while heap:
                    priority, _, key = heapq.heappop(heap)
                    # what was cancelled, or moved forward since, is stale here
                    if self._queued.get((lane, key)) == priority:
                        del self._queued[(lane, key)]
                        self._running.add((lane, key))
                        return Task(lane, key, priority)
                self._changed.wait()
            return None
