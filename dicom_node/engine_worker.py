"""The supervisor's end of one worker process: hands it jobs and notes when it dies with some."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from dicom_node.backoff import delay_s
from dicom_node.clock import Checkpoint, Clock
from dicom_node.config.settings import Config
from dicom_node.executor.child import Child, ChildEvents, ChildLink, Message
from dicom_node.infer.devices import Device
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import JobState
from dicom_node.model import JobRole

log = structlog.get_logger()

_LOOK_AFTER_S = 1.0
"""Ending a job means loading its engine again, so what takes less than this is left to finish."""


def _work(link: ChildLink, config: Config, device: Device, checkpoint: Checkpoint) -> None:
    """Work, in the child: only there is what infers and encodes imported."""
    from dicom_node.worker import work

    work(link, config, device, checkpoint)


class EngineWorker:
    """Runs jobs in a child process and counts the crashes of each.

    Parameters
    ----------
    name : str
        Of the child, for logs.
    device : Device
        What it works on.
    target : callable
        What runs in the child.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        clock: Clock,
        checkpoint: Checkpoint,
        name: str = "engine-worker",
        device: Device = "auto",
        target: Callable[..., None] = _work,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._clock = clock
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._ending = ""
        self._in_hand: tuple[Any, ...] = ()
        events = ChildEvents(on_message=self._heard, on_exit=self._exited)
        self._child = Child(name, target, (config, device, checkpoint), events)

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

    @property
    def is_there(self) -> bool:
        """Whether the child could be given jobs: it is not just being started again."""
        return self._child.is_there

    def handle(self, *job_ids: str) -> bool:
        """Have the child do jobs; return when it has, or has died.

        Returns
        -------
        bool
            False if there is no child to do them; then nothing was begun.
        """
        if not self._begin("jobs", job_ids):
            return False
        if why := self._why_to_end(job_ids):
            self._end(why)
        if self._ending and not self._stopping.is_set():
            for job_id in job_ids:
                self._lost(job_id, in_company=len(job_ids) > 1)
        return True

    def _begin(self, what: str, keys: tuple[Any, ...]) -> bool:
        self._in_hand = keys
        self._ended.clear()
        self._ending = ""
        return self._child.send(what, keys)

    def _end(self, why: str) -> None:
        self._child.kill(why)
        self._ended.wait()

    def _lost(self, job_id: str, *, in_company: bool) -> None:
        """Note that the process has ended with a job in hand."""
        why = f"the worker process ended: {self._ending}"
        self.crashed(job_id, why, in_company=in_company)

    def _why_to_end(self, job_ids: Sequence[str]) -> str:
        """Wait for the jobs; return why they have to be ended, empty once they have."""
        timeout_s = self._config.infer.job_timeout_s
        left_s = timeout_s
        while not self._ended.wait(min(left_s, _LOOK_AFTER_S)):
            left_s -= _LOOK_AFTER_S
            if left_s <= 0:
                return f"the job took longer than infer.job_timeout_s ({timeout_s:g} s)"
            jobs = [self._ledger.jobs.get(job_id) for job_id in job_ids]
            if all(job is not None and job.state is JobState.SUPERSEDED for job in jobs):
                return "its job was superseded"  # no crash: it is not RUNNING any more
            if self._gives_way():
                return "other work came"
        return ""

    def _gives_way(self) -> bool:
        """Return whether something else has to come before what runs."""
        return False

    def _heard(self, message: Message) -> None:
        if message == ("done", self._in_hand):
            self._ended.set()

    def _exited(self, ending: str) -> None:
        self._ending = ending
        self._ended.set()

    def crashed(self, job_id: str, why: str, *, in_company: bool = False) -> None:
        """Count a crash of a job that was running; park it when there were too many.

        A job that has crashed is done by itself from then on; so what crashed in company is not
        parked: it may have been another's fault, and the next time tells.
        """
        job = self._ledger.jobs.get(job_id)
        if job is None or job.state is not JobState.RUNNING:
            return  # it died before it took the job, or after it had recorded the result
        settings, now = self._config.infer, self._clock()
        crashes = job.crashes + 1
        # a shadow has one life: what it costs is not worth a second
        crashes_max = 1 if job.role is JobRole.SHADOW else settings.crashes_max
        reason = f"{why} while it ran"
        if in_company:
            reason += " together with others"
        elif crashes >= crashes_max:
            self._ledger.jobs.give_up(job, f"{reason}; {crashes} times", now)
            log.error("job_parked", job_id=job_id, crashes=crashes, reason=reason)
            return
        wait_s = delay_s(crashes, settings.retry_first_s, 3600.0)
        self._ledger.jobs.crash(job, reason, now + wait_s, now)
        log.warning("job_crashed", job_id=job_id, crashes=crashes, reason=reason)
