"""The worker process for shadows and comparisons: beside the others, and in nobody's way.

It is started when there is something for it to do, begins no shadow while other work waits or runs,
gives way on the processor by its niceness and on a GPU by ending, and is what the system kills
first when memory is short. What it crashes with takes no other job down.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from dicom_node.clock import Checkpoint, Clock
from dicom_node.comparer import Comparer
from dicom_node.config.settings import Config
from dicom_node.engine_worker import EngineWorker
from dicom_node.executor.child import ChildLink
from dicom_node.executor.port import Task
from dicom_node.infer.devices import Device, may_be_gpu
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import JobState
from dicom_node.worker import work

NAME = "shadow-worker"
_COMPARE = "compare-"
_LOOK_AGAIN_S = 0.2
_NICEST = 19
_KILL_FIRST = "1000"


def work_behind(link: ChildLink, config: Config, device: Device, checkpoint: Checkpoint) -> None:
    """Do what `worker.work` does, behind everything else on this machine."""
    os.nice(_NICEST)
    with suppress(OSError):  # not every system has it, and it is a courtesy
        Path("/proc/self/oom_score_adj").write_text(_KILL_FIRST)
    work(link, config, device, checkpoint)


def compare_key(comparison_id: int) -> str:
    """Return the key of the task that compares."""
    return f"{_COMPARE}{comparison_id}"


class ShadowWorker(EngineWorker):
    """Runs shadows and comparisons in a child process of their own.

    Parameters
    ----------
    comparer : Comparer
        Notes that the child died over a comparison.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        comparer: Comparer,
        clock: Clock,
        checkpoint: Checkpoint,
    ) -> None:
        devices = config.infer.devices
        device: Device = "auto" if devices == "auto" else devices[0]
        super().__init__(config, ledger, clock, checkpoint, NAME, device, work_behind)
        self._comparer = comparer
        self._ends_for_others = may_be_gpu(device)
        self._gave_way = False
        self._is_started = False

    def take(self, tasks: Sequence[Task]) -> None:
        """Do a comparison, or shadows of one engine; the latter wait for a quieter time."""
        if not self._is_started:
            self._is_started = True
            self.start()
        keys = [task.key for task in tasks]
        if keys[0].startswith(_COMPARE):
            comparison_id = int(keys[0].removeprefix(_COMPARE))
            self._once_it_is_there(lambda: self._compare(comparison_id))
        elif not self._others_wait():
            self._gave_way = False
            self._once_it_is_there(lambda: self.handle(*keys))

    def _once_it_is_there(self, begin: Callable[[], bool]) -> None:
        while not begin() and not self._stopping.wait(_LOOK_AGAIN_S):
            pass  # the child is being started

    def _compare(self, comparison_id: int) -> bool:
        if not self._begin("compare", (comparison_id,)):
            return False
        if not self._ended.wait(self._config.infer.job_timeout_s):
            self._end("it took longer than infer.job_timeout_s")
        if self._ending and not self._stopping.is_set():
            self._comparer.crashed(comparison_id, self._ending)
        return True

    def _others_wait(self) -> bool:
        return self._ledger.jobs.are_waited_for(self._clock())

    def _gives_way(self) -> bool:
        self._gave_way = self._ends_for_others and self._others_wait()
        return self._gave_way

    def _lost(self, job_id: str, *, in_company: bool) -> None:
        if not self._gave_way:
            super()._lost(job_id, in_company=in_company)
            return
        job = self._ledger.jobs.get(job_id)
        if job is not None and job.state is JobState.RUNNING:
            self._ledger.jobs.interrupt(job, "it gave way to other work", self._clock())
