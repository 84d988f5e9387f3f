"""The turns of the node: assemble, route, and hand out whatever is open in the ledger."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection
from typing import TypeVar

import structlog

from dicom_node.assemble.assembler import Assembler
from dicom_node.clock import Clock
from dicom_node.errors import DicomNodeError
from dicom_node.executor.port import Executor, Task
from dicom_node.history.keeper import Stopped
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import CommitmentState, DeliveryState, FetchState, JobState
from dicom_node.model import Job, Priority
from dicom_node.route.router import Router

log = structlog.get_logger()

INFER_LANE = "infer"
SHADOW_LANE = "shadow"
"""For what is done when there is nothing else to infer, and for comparisons."""
ASK_LANE = "ask"
"""For questions to senders, by Study Instance UID."""
DELIVER_LANE = "deliver/"
"""Followed by the destination's name: each has a lane of its own."""
PROBE_LANE = "probe/"
"""Followed by the destination's name: what it accepts is asked beside what is sent to it."""
PROVE_LANE = "prove/"
"""Followed by the destination's name: what was sent is asked for beside what is being sent."""
PROVE_GONE_LANE = "prove"
"""For what was sent to destinations that are no longer configured."""
GONE_LANE = "deliver"
"""For deliveries to destinations that are no longer configured."""
COMMIT_LANE = "commit/"
"""Followed by the AE title of who asked for storage commitment: each has a lane of its own."""
COMMIT_GONE_LANE = "commit"
"""For reports to those who have no address."""
PRIOR_LANE = "prior/"
"""Followed by the name of the archive that is asked for prior studies: each has its own."""
PRIOR_GONE_LANE = "prior"
"""For archives that are no longer configured."""

_LOOK_AGAIN_S = 1.0
_SWEEP_EVERY_S = 2.0
_NOTE_AGAIN_S = 3600.0
_KEEP_HOUSE_EVERY_S = 3600.0
_SHADOWS_AT_ONCE = 16
"""So few, since what is handed out is not asked again whether other work has come."""

T = TypeVar("T")


class Coordinator:
    """One thread that takes every stage's next turn; a hint makes the next turn come at once."""

    def __init__(
        self,
        ledger: Ledger,
        assembler: Assembler,
        router: Router,
        executor: Executor,
        destinations: Collection[str],
        clock: Clock,
        requestors: Collection[str] = (),
        housekeeping: Callable[[], None] = lambda: None,
        batched: Collection[str] = (),
        comparisons: Callable[[], Collection[str]] = tuple,
        probes: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._ledger = ledger
        self._assembler = assembler
        self._router = router
        self._executor = executor
        self._destinations = destinations
        self._requestors = requestors
        self._clock = clock
        self._hint = threading.Event()
        self._stopping = False
        self._swept_at = 0.0
        self._housekeeping = housekeeping
        self._batched = batched
        self._comparisons = comparisons
        self._probes = probes
        self._kept_house_at = 0.0
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._noted: dict[str, tuple[str, float]] = {}
        self._thread = threading.Thread(target=self._run, name="coordinator", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self.hint()
        self._thread.join()

    def hint(self) -> None:
        """Something may have changed: look now rather than at the next turn."""
        self._hint.set()

    def between_turns(self, call: Callable[[], None]) -> None:
        """Have something done before the next turn, on the coordinator's own thread."""
        self._calls.put(call)
        self.hint()

    def turn(self) -> float:
        """Do what is to be done now; return how many seconds may pass until the next turn."""
        while not self._calls.empty():
            self._guarded("reload", self._calls.get())
        look_again_at = self._guarded("assemble", self._assembler.turn)
        self._guarded("route", self._router.turn)
        now = self._clock()
        if not 0 <= now - self._swept_at < _SWEEP_EVERY_S:  # a clock may be set back
            self._guarded("sweep", self.sweep)
            self._swept_at = now
        if not 0 <= now - self._kept_house_at < _KEEP_HOUSE_EVERY_S:
            self._guarded("housekeeping", self._housekeeping)
            self._kept_house_at = now
        self._guarded("submit", self.submit)
        if look_again_at is None:
            return _LOOK_AGAIN_S
        return min(_LOOK_AGAIN_S, max(0.0, look_again_at - self._clock()))

    def submit(self) -> None:
        """Give the executor everything that could run now; it knows what it has in hand."""
        now = self._clock()
        self._ledger.fetches.give_up_late(now)
        for destination in self._probes():  # before what is encoded by its answer
            self._executor.submit(Task(PROBE_LANE + destination, destination))
        for job in self._ledger.jobs.ready(now):
            self._executor.submit(self._infer_task(job, INFER_LANE))
        for key in self._comparisons():
            self._executor.submit(Task(SHADOW_LANE, key))
        if not self._ledger.jobs.are_waited_for(now):
            for job in self._ledger.jobs.shadows_ready(now, _SHADOWS_AT_ONCE):
                self._executor.submit(self._infer_task(job, SHADOW_LANE))
        ready = self._ledger.deliveries.destinations_ready(now)
        for destination, priority in ready + self._ledger.forwards.destinations_ready(now):
            self._executor.submit(Task(self._lane(destination), destination, priority))
        for destination, priority in self._ledger.proofs.destinations_due(now):
            self._executor.submit(Task(self._prove_lane(destination), destination, priority))
        for ae_title in self._ledger.commitments.requestors_ready(now):
            self._executor.submit(Task(self._commit_lane(ae_title), ae_title, Priority.ROUTINE))
        for source, priority in self._ledger.fetches.sources_ready(now):
            self._executor.submit(Task(self._prior_lane(source), source, priority))

    def sweep(self) -> None:
        """Put back what is under way in the ledger and in nobody's hand.

        Read first, then ask the executor: what ended in between has another state or attempt, and
        the ledger's fence refuses to move it.
        """
        running = self._ledger.jobs.in_states(JobState.RUNNING)
        sending = self._ledger.deliveries.in_states(DeliveryState.SENDING)
        forwarding = self._ledger.forwards.in_states(DeliveryState.SENDING)
        reporting = self._ledger.commitments.in_states(CommitmentState.REPORTING)
        fetching = self._ledger.fetches.in_states(FetchState.FETCHING)
        in_hand = self._executor.running()
        now = self._clock()
        for job in running:
            if {(INFER_LANE, job.job_id), (SHADOW_LANE, job.job_id)} & in_hand:
                continue
            self._ledger.jobs.interrupt(job, "the node stopped while it ran", now)
        for parcel in sending:
            delivery = parcel.delivery
            if (self._lane(delivery.destination), delivery.destination) not in in_hand:
                self._ledger.deliveries.interrupt(
                    delivery, "the node stopped while it was sent", now
                )
        for forward in forwarding:
            if (self._lane(forward.destination), forward.destination) not in in_hand:
                self._ledger.forwards.interrupt(
                    forward, "the node stopped while it was forwarded", now
                )
        for commitment in reporting:
            ae_title = commitment.calling_ae_title
            if (self._commit_lane(ae_title), ae_title) not in in_hand:
                self._ledger.commitments.interrupt(
                    commitment, "the node stopped while it was reporting", now
                )
        for fetch in fetching:
            if (self._prior_lane(fetch.source), fetch.source) not in in_hand:
                self._ledger.fetches.interrupt(
                    fetch, "the node stopped while they were fetched", now
                )

    def last_sweep(self) -> None:
        """Put back what a stopping node did not finish: interrupted, and not to blame for it."""
        self._guarded("sweep", self.sweep)

    def _run(self) -> None:
        self._guarded("route", lambda: self._router.reroute_outdated())
        while not self._stopping:
            self._hint.clear()
            self._hint.wait(self.turn())

    def _guarded(self, stage: str, take_turn: Callable[[], T]) -> T | None:
        try:
            return take_turn()
        except Stopped:
            return None
        except Exception as error:
            log.exception("stage_failed", stage=stage)
            reason = error.message if isinstance(error, DicomNodeError) else type(error).__name__
            self.note_failure(stage, reason)
            return None

    def _infer_task(self, job: Job, lane: str) -> Task:
        """Return a job for the executor, which may do it together with others of its engine.

        One that has crashed is done by itself, so that no other pays for it.
        """
        is_batched = job.engine_name in self._batched and not job.crashes
        group = job.engine_name if is_batched else ""
        return Task(lane, job.job_id, job.priority, group)

    def _lane(self, destination: str) -> str:
        """Return the lane of a destination; those that were unconfigured since share one."""
        return DELIVER_LANE + destination if destination in self._destinations else GONE_LANE

    def _prove_lane(self, destination: str) -> str:
        return PROVE_LANE + destination if destination in self._destinations else PROVE_GONE_LANE

    def _commit_lane(self, ae_title: str) -> str:
        return COMMIT_LANE + ae_title if ae_title in self._requestors else COMMIT_GONE_LANE

    def _prior_lane(self, source: str) -> str:
        return PRIOR_LANE + source if source in self._destinations else PRIOR_GONE_LANE

    def note_failure(self, stage: str, reason: str) -> None:
        """Leave an event, but not one for each second in which the same is wrong."""
        now = self._clock()
        last_reason, last_at = self._noted.get(stage, ("", 0.0))
        if reason == last_reason and abs(now - last_at) < _NOTE_AGAIN_S:
            return
        self._noted[stage] = (reason, now)
        try:
            self._ledger.events.record(now, ("node", stage), "STAGE_FAILED", reason)
        except DicomNodeError as error:
            log.error("event_lost", reason=error.message)
