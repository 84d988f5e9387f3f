"""Builds every part of the node from its configuration, starts and stops them; knows all."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from dataclasses import dataclass
from typing import IO

import structlog

from dicom_node.assemble.assembler import Assembler
from dicom_node.clock import Checkpoint, Clock, pass_checkpoint
from dicom_node.config.settings import Config
from dicom_node.coordinator import (
    COMMIT_GONE_LANE,
    COMMIT_LANE,
    DELIVER_LANE,
    GONE_LANE,
    INFER_LANE,
    Coordinator,
)
from dicom_node.deliver.commitments import CommitmentReporter
from dicom_node.deliver.deliverer import Deliverer
from dicom_node.engine_worker import EngineWorker
from dicom_node.errors import ConfigError, StorageError
from dicom_node.executor.local import Lane, LocalExecutor
from dicom_node.executor.port import Task
from dicom_node.infer.manifest import Manifest, list_engines
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import JobState
from dicom_node.receive import certificates
from dicom_node.receivers import Receivers
from dicom_node.route.router import EngineLabel, Router
from dicom_node.route.rules import Rule, load_rules
from dicom_node.store.local import LocalStore

log = structlog.get_logger()

_GRACE_S = 20.0
_DATA_DIR = "let node.data_dir point to a folder that this user may write to"


@dataclass(frozen=True)
class Plan:
    """What was read at start, checked as a whole."""

    config: Config
    engines: dict[str, Manifest]
    rules: tuple[Rule, ...]

    @property
    def labels(self) -> dict[str, EngineLabel]:
        """What the router must know of each engine."""
        return {
            name: EngineLabel(manifest.version, manifest.model_digest)
            for name, manifest in self.engines.items()
        }


def load_plan(config: Config) -> Plan:
    """Read the engines and the rules that the configuration names.

    Raises
    ------
    ConfigError
        With every mistake in them.
    """
    if config.tls.port is not None:
        certificates.load(config.tls)
    engines = list_engines(config.node.engines_dir)
    rules = load_rules(config.node.rules_file, engines, config.destinations)
    return Plan(config, engines, rules)


def build_router(plan: Plan, ledger: Ledger, clock: Clock = time.time) -> Router:
    """Return the route stage on its own, for `explain`."""
    store = LocalStore(plan.config.node.data_dir)
    return Router(ledger, store, plan.rules, plan.labels, clock)


class Node:
    """The supervisor: coordinator and deliveries in this process, receiver and worker beside it.

    Parameters
    ----------
    plan : Plan
    clock : Clock
    checkpoint : Checkpoint
        Told at every boundary where a crash would matter; must be picklable, since it goes to the
        child processes too.
    """

    def __init__(
        self, plan: Plan, clock: Clock = time.time, checkpoint: Checkpoint = pass_checkpoint
    ) -> None:
        config = plan.config
        self._config = config
        self._clock = clock
        self._failed = threading.Event()
        self.failure: ConfigError | None = None
        self._store = _open_store(config, checkpoint)
        self._lock = _lock_data_dir(config)
        self._ledger = Ledger(config.ledger_url)
        self._deliverer = Deliverer(config, self._ledger, self._store, clock, checkpoint)
        self._reporter = CommitmentReporter(
            config,
            self._ledger,
            lambda instance: self._store.file(instance.path).exists(),
            lambda: self._receivers.is_idle(),
            clock,
            checkpoint,
        )
        self._worker = EngineWorker(config, self._ledger, clock, checkpoint)
        self._executor = LocalExecutor(self._lanes())
        self._router = Router(self._ledger, self._store, plan.rules, plan.labels, clock, checkpoint)
        self._coordinator = Coordinator(
            self._ledger,
            Assembler(
                self._ledger, config.assemble, clock, checkpoint, config.assemble_by_ae_title
            ),
            self._router,
            self._executor,
            config.destinations,
            clock,
            {peer.ae_title for peer in config.destinations.values()},
        )
        self._receivers = Receivers(
            config,
            self._store,
            self._ledger,
            clock,
            self._coordinator.hint,
            lambda reason: self._coordinator.note_failure("ingest", reason),
            checkpoint,
        )

    def start(self) -> None:
        """Start everything; what was open in the ledger goes on.

        Raises
        ------
        ConfigError
            If a port cannot be listened on.
        """
        self._ledger.migrate()
        self._receivers.listen()
        recovered = self._receivers.recover()
        now = self._clock()
        lost = self._ledger.associations.close_lost(now)
        leftovers = self._store.remove_leftovers()
        reason = (
            f"{recovered} records were read from the receive log, {lost} associations were lost, "
            f"{leftovers} half-written files removed"
        )
        self._ledger.events.record(now, ("node", self._config.node.ae_title), "STARTED", reason)
        log.info(
            "node_started", pid=os.getpid(), recovered=recovered, lost=lost, leftovers=leftovers
        )
        for job in self._ledger.jobs.in_states(JobState.RUNNING):
            self._worker.crashed(job.job_id, "the whole node was killed")
        self._coordinator.sweep()
        self._worker.start()
        self._executor.run()
        self._receivers.start()
        self._coordinator.start()

    def wait(self, stop: threading.Event) -> None:
        """Return when `stop` is set, or when the node cannot go on (see `failure`)."""
        while not stop.wait(0.2) and not self._failed.is_set():
            continue

    def stop(self) -> None:
        """Stop receiving first, then let what runs come to its end for a while."""
        self._worker.expect_stop()
        self._receivers.stop(_GRACE_S)
        self._coordinator.stop()
        self._worker.stop(_GRACE_S)
        self._executor.stop(_GRACE_S)
        self._coordinator.last_sweep()
        self._ledger.close()
        self._lock.close()
        log.info("node_stopped")

    def _lanes(self) -> dict[str, Lane]:
        lanes = {INFER_LANE: Lane(self._infer, self._task_failed)}
        lanes[GONE_LANE] = Lane(self._deliver, self._delivery_failed)
        for name in self._config.destinations:
            lanes[DELIVER_LANE + name] = Lane(self._deliver, self._delivery_failed)
        lanes[COMMIT_GONE_LANE] = Lane(self._report, self._report_failed)
        for peer in self._config.destinations.values():
            lanes[COMMIT_LANE + peer.ae_title] = Lane(self._report, self._report_failed)
        return lanes

    def _infer(self, task: Task) -> None:
        self._worker.handle(task)
        self._coordinator.hint()

    def _deliver(self, task: Task) -> None:
        self._deliverer.turn(task.key)

    def _delivery_failed(self, task: Task, error: Exception) -> None:
        self._task_failed(task, error)
        self._deliverer.broke(task.key, error)

    def _report(self, task: Task) -> None:
        self._reporter.turn(task.key)

    def _report_failed(self, task: Task, error: Exception) -> None:
        self._task_failed(task, error)
        self._reporter.broke(task.key, error)

    def _task_failed(self, task: Task, error: Exception) -> None:
        reason = f"{type(error).__name__} in lane {task.lane}"
        self._ledger.events.record(self._clock(), ("node", task.lane), "TASK_FAILED", reason)


def _open_store(config: Config, checkpoint: Checkpoint) -> LocalStore:
    """Make node.data_dir; the store does it first, since it makes the new folder durable."""
    try:
        return LocalStore(config.node.data_dir, checkpoint=checkpoint)
    except StorageError as error:
        raise ConfigError(f"{config.node.data_dir} cannot be used", hint=_DATA_DIR) from error


def _lock_data_dir(config: Config) -> IO[str]:
    """Take the folder for this process; two nodes on one ledger would do everything twice."""
    folder = config.node.data_dir
    try:
        lock = (folder / "node.lock").open("w")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be used: {error.strerror}", hint=_DATA_DIR) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise ConfigError(
            f"another node already works in {folder}",
            hint="stop it first, or give this one its own node.data_dir",
        ) from error
    return lock
