"""The supervisor's end of the worker process: hands it jobs and notes when it dies with one."""

from __future__ import annotations

import threading

import structlog

from dicom_node.backoff import delay_s
from dicom_node.clock import Checkpoint, Clock
from dicom_node.config.settings import Config
from dicom_node.executor.child import Child, ChildEvents, ChildLink, Message
from dicom_node.executor.port import Task
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import JobState

log = structlog.get_logger()

_SEND_AGAIN_S = 0.2
_LOOK_AFTER_S = 1.0
"""Ending a job means loading its engine again, so what takes less than this is left to finish."""


class EngineWorker:
    """Runs one job at a time in a child process and counts the crashes of each job."""

    def __init__(
        self, config: Config, ledger: Ledger, clock: Clock, checkpoint: Checkpoint
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._clock = clock
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._ending = ""
        self._in_hand = ""
        events = ChildEvents(on_message=self._heard, on_exit=self._exited)
        self._child = Child("engine-worker", _work, (config, checkpoint), events)

    def start(self) -> None:
        self._child.start()

    def expect_stop(self) -> None:
        """From now on a child that ends has not crashed."""
        self._stopping.set()

    def stop(self, grace_s: float) -> None:
        self.expect_stop()
        self._child.stop(grace_s)
        self._ended.set()

    @property
    def pid(self) -> int | None:
        return self._child.pid

    def handle(self, task: Task) -> None:
        """Have the child do a job; returns when it is done or the child has died."""
        self._in_hand = task.key
        self._ended.clear()
        self._ending = ""
        while not self._child.send("job", task.key):
            if self._stopping.wait(_SEND_AGAIN_S):  # the child is being started again
                return
            self._ended.clear()
            self._ending = ""
        if why := self._why_to_end(task.key):
            self._child.kill(why)
            self._ended.wait()
        if self._ending and not self._stopping.is_set():
            self.crashed(task.key, f"the worker process ended: {self._ending}")

    def _why_to_end(self, job_id: str) -> str:
        """Wait for the job; return why it has to be ended, empty once it has."""
        timeout_s = self._config.infer.job_timeout_s
        left_s = timeout_s
        while not self._ended.wait(min(left_s, _LOOK_AFTER_S)):
            left_s -= _LOOK_AFTER_S
            if left_s <= 0:
                return f"the job took longer than infer.job_timeout_s ({timeout_s:g} s)"
            job = self._ledger.jobs.get(job_id)
            if job is not None and job.state is JobState.SUPERSEDED:
                return "its job was superseded"  # no crash: it is not RUNNING any more
        return ""

    def _heard(self, message: Message) -> None:
        if message == ("done", self._in_hand):
            self._ended.set()

    def _exited(self, ending: str) -> None:
        self._ending = ending
        self._ended.set()

    def crashed(self, job_id: str, why: str) -> None:
        """Count a crash of the job that was running; park it when there were too many."""
        job = self._ledger.jobs.get(job_id)
        if job is None or job.state is not JobState.RUNNING:
            return  # it died before it took the job, or after it had recorded the result
        settings, now = self._config.infer, self._clock()
        crashes = job.crashes + 1
        reason = f"{why} while it ran"
        if crashes >= settings.crashes_max:
            self._ledger.jobs.give_up(job, f"{reason}; {crashes} times", now)
            log.error("job_parked", job_id=job_id, crashes=crashes, reason=reason)
            return
        wait_s = delay_s(crashes, settings.retry_first_s, 3600.0)
        self._ledger.jobs.crash(job, reason, now + wait_s, now)
        log.warning("job_crashed", job_id=job_id, crashes=crashes, reason=reason)


def _work(link: ChildLink, config: Config, checkpoint: Checkpoint) -> None:
    """Work, in the child: only there is what infers and encodes imported."""
    from dicom_node.worker import work

    work(link, config, checkpoint)
