"""The embedded executor: a priority heap and a few threads for each lane, in the node's process."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import structlog

from dicom_node.errors import InvariantBroken
from dicom_node.executor.port import Task
from dicom_node.model import Priority

log = structlog.get_logger()

Handler = Callable[[Task], None]


@dataclass(frozen=True)
class Together:
    """How tasks of one group are done in one go.

    Attributes
    ----------
    handler : callable
        Does two tasks or more, the first submitted first.
    tasks_max : int
        How many at most.
    wait_s : float
        So long the first task waits for more, once there is a second one. It never waits when it
        is the only one of its group, nor when something more urgent is queued.

    Threads that have nothing to do get their share: six tasks and three free threads are two each.
    """

    handler: Callable[[Sequence[Task]], None]
    tasks_max: int
    wait_s: float


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
        How many tasks, or groups of tasks, run at once.
    together : Together, optional
        How tasks of one group are done in one go; without, each is done by itself.
    """

    handler: Handler
    on_error: Callable[[Task, Exception], None]
    threads: int = 1
    together: Together | None = None


class LocalExecutor:
    """Runs tasks on threads, the most urgent first and then in the order of their submission."""

    def __init__(self, lanes: Mapping[str, Lane]) -> None:
        self._lanes = dict(lanes)
        self._changed = threading.Condition()
        self._heaps: dict[str, list[tuple[Priority, int, str]]] = {lane: [] for lane in lanes}
        self._queued: dict[tuple[str, str], Task] = {}
        self._running: set[tuple[str, str]] = set()
        self._busy = dict.fromkeys(lanes, 0)
        self._order = count()
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def submit(self, task: Task) -> bool:
        if task.lane not in self._lanes:
            raise InvariantBroken(f"there is no lane {task.lane}")
        name = (task.lane, task.key)
        with self._changed:
            queued = self._queued.get(name)
            if name in self._running or (queued is not None and queued.priority <= task.priority):
                return False
            self._queued[name] = task
            heapq.heappush(self._heaps[task.lane], (task.priority, next(self._order), task.key))
            self._changed.notify_all()
            return queued is None

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
        while tasks := self._next(lane):
            try:
                if made.together is not None and len(tasks) > 1:
                    made.together.handler(tasks)
                else:
                    made.handler(tasks[0])
            except Exception as error:
                log.exception("task_failed", lane=lane, keys=[task.key for task in tasks])
                for task in tasks:
                    self._tell(made, task, error)
            finally:
                with self._changed:
                    self._busy[lane] -= 1
                    self._running.difference_update((lane, task.key) for task in tasks)

    def _tell(self, lane: Lane, task: Task, error: Exception) -> None:
        """Have the lane note an error; that may fail too, and the lane goes on."""
        try:
            lane.on_error(task, error)
        except Exception:
            log.exception("error_not_noted", lane=task.lane, key=task.key)

    def _next(self, lane: str) -> list[Task]:
        """Wait for the next task of a lane, and others with it; none once the executor stops."""
        with self._changed:
            while not self._stopping:
                first = self._most_urgent(lane)
                if first is not None:
                    self._busy[lane] += 1
                    self._take(first)
                    return [first, *self._others(first)]
                self._changed.wait()
            return []

    def _most_urgent(self, lane: str) -> Task | None:
        """Return the task that is next in a lane; it stays queued."""
        heap = self._heaps[lane]
        while heap:
            priority, _, key = heap[0]
            task = self._queued.get((lane, key))
            # what was cancelled, taken with others, or moved forward since, is stale here
            if task is not None and task.priority == priority:
                return task
            heapq.heappop(heap)
        return None

    def _take(self, task: Task) -> None:
        name = (task.lane, task.key)
        del self._queued[name]
        self._running.add(name)

    def _others(self, first: Task) -> list[Task]:
        """Take what can be done together with a task; wait a little for more, if there is any."""
        lane = self._lanes[first.lane]
        together, others = lane.together, list[Task]()
        if together is None or not first.group:
            return others
        deadline = time.monotonic() + together.wait_s
        while True:
            free = lane.threads - self._busy[first.lane]
            waiting = self._of_group(first)
            all_of_it = 1 + len(others) + len(waiting)
            share = min(-(-all_of_it // (1 + free)), together.tasks_max)
            for task in waiting[: max(0, share - 1 - len(others))]:
                self._take(task)
                others.append(task)
            left_s = deadline - time.monotonic()
            is_full = free > 0 or len(others) >= together.tasks_max - 1
            if not others or is_full or left_s <= 0 or self._stopping:
                return others
            next_one = self._most_urgent(first.lane)
            if next_one is not None and next_one.priority < first.priority:
                return others
            self._changed.wait(left_s)

    def _of_group(self, first: Task) -> list[Task]:
        """Return the queued tasks of a task's group and priority, the first submitted first."""
        found: dict[str, Task] = {}
        for priority, _, key in sorted(self._heaps[first.lane]):
            task = self._queued.get((first.lane, key))
            if task is None or task.group != first.group:
                continue
            if task.priority == priority == first.priority:
                found[key] = task
        return list(found.values())
