"""The worker processes, one for each device: a job goes to one that is free and can take it."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from dicom_node.clock import Checkpoint, Clock
from dicom_node.config.settings import Config
from dicom_node.engine_worker import EngineWorker
from dicom_node.executor.port import Task
from dicom_node.infer.devices import Device
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import JobState

_LOOK_AGAIN_S = 0.2


@dataclass(eq=False)
class Place:
    """One worker, and which engines it was given since it was started: those that it has loaded."""

    worker: EngineWorker
    engines: set[str] = field(default_factory=set)


class EngineWorkers:
    """All worker processes; `handle` may be called from as many threads as there are workers."""

    def __init__(
        self, config: Config, ledger: Ledger, clock: Clock, checkpoint: Checkpoint
    ) -> None:
        self._ledger = ledger
        devices = config.infer.devices
        self._places = [
            Place(EngineWorker(config, ledger, clock, checkpoint, name, device))
            for name, device in names_of(("auto",) if devices == "auto" else devices)
        ]
        self._free = list(self._places)
        self._freed = threading.Condition()
        self._failed_at: dict[str, Place] = {}
        self._stopping = False

    def __len__(self) -> int:
        return len(self._places)

    def start(self) -> None:
        for place in self._places:
            place.worker.start()

    def expect_stop(self) -> None:
        """From now on a child that ends has not crashed."""
        for place in self._places:
            place.worker.expect_stop()

    def stop(self, grace_s: float) -> None:
        with self._freed:
            self._stopping = True
            self._freed.notify_all()
        stopping = [
            threading.Thread(target=place.worker.stop, args=(grace_s,)) for place in self._places
        ]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()

    def handle(self, tasks: Sequence[Task]) -> None:
        """Have a worker do the jobs of one engine; return when it has, or has died."""
        job_ids = [task.key for task in tasks]
        first = self._ledger.jobs.get(job_ids[0])
        engine = first.engine_name if first is not None else ""
        while (place := self._borrow(engine, self._failed_at.get(job_ids[0]))) is not None:
            try:
                if place.worker.handle(*job_ids):
                    self._remember(place, engine, job_ids)
                    return
            finally:
                with self._freed:
                    self._free.append(place)
                    self._freed.notify_all()

    def crashed(self, job_id: str, why: str) -> None:
        """Count a crash of a job that was running when the whole node ended."""
        self._places[0].worker.crashed(job_id, why)

    def _borrow(self, engine: str, avoid: Place | None) -> Place | None:
        """Wait for a worker; None if the node stops meanwhile."""
        with self._freed:
            while not self._stopping:
                there = [place for place in self._places if place.worker.is_there]
                chosen = choose([p for p in self._free if p in there], there, engine, avoid)
                if chosen is not None:
                    self._free.remove(chosen)
                    return chosen
                self._freed.wait(_LOOK_AGAIN_S)
            return None

    def _remember(self, place: Place, engine: str, job_ids: Sequence[str]) -> None:
        """Note which engine a worker has loaded, and which jobs did not get on there."""
        if place.worker.is_there:
            place.engines.add(engine)
        else:
            place.engines.clear()
        for job_id in job_ids:
            job = self._ledger.jobs.get(job_id)
            if job is not None and job.state is JobState.QUEUED:
                self._failed_at[job_id] = place
            else:
                self._failed_at.pop(job_id, None)


def choose(
    free: Collection[Place], there: Collection[Place], engine: str, avoid: Place | None
) -> Place | None:
    """Return the worker that a job goes to; None if it is to wait for another.

    One that has the engine loaded goes first, then the one with the fewest engines.

    Parameters
    ----------
    free, there : collection of Place
        The workers that could begin now, and all whose process lives.
    avoid : Place or None
        Where the job failed the last time: only if there is no other, free or not.
    """
    others = [place for place in free if place is not avoid]
    if not others and all(place is avoid for place in there):
        others = list(free)
    return min(
        others, key=lambda place: (engine not in place.engines, len(place.engines)), default=None
    )


def names_of(devices: Sequence[Device]) -> list[tuple[str, Device]]:
    """Return the devices with the names of their workers.

    >>> names_of(("auto",))
    [('engine-worker', 'auto')]
    >>> names_of(("cpu", 0))
    [('engine-worker-1-cpu', 'cpu'), ('engine-worker-2-gpu0', 0)]
    """
    if len(devices) == 1:
        return [("engine-worker", devices[0])]
    return [
        (f"engine-worker-{number}-{device if device == 'cpu' else f'gpu{device}'}", device)
        for number, device in enumerate(devices, 1)
    ]
