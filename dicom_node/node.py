"""Builds every part of the node from its configuration, starts and stops them; knows all."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

import structlog

from dicom_node.assemble.asking import SenderQuestions
from dicom_node.assemble.assembler import Assembler
from dicom_node.clock import Checkpoint, Clock, pass_checkpoint
from dicom_node.comparer import Comparer
from dicom_node.config.settings import Config
from dicom_node.coordinator import (
    ASK_LANE,
    COMMIT_GONE_LANE,
    COMMIT_LANE,
    DELIVER_LANE,
    GONE_LANE,
    INFER_LANE,
    PRIOR_GONE_LANE,
    PRIOR_LANE,
    PROBE_LANE,
    PROVE_GONE_LANE,
    PROVE_LANE,
    SHADOW_LANE,
    Coordinator,
)
from dicom_node.deliver.commitments import CommitmentReporter
from dicom_node.deliver.copies import Copies
from dicom_node.deliver.deliverer import Deliverer
from dicom_node.deliver.dicom_archive import dicom_archives
from dicom_node.deliver.forwarder import Forwarder
from dicom_node.deliver.outlets import Outlets
from dicom_node.deliver.own import Own
from dicom_node.deliver.probing import Prober
from dicom_node.deliver.prover import Prover
from dicom_node.encode.profiles import profiles_of
from dicom_node.engine_workers import EngineWorkers
from dicom_node.errors import ConfigError, StorageError
from dicom_node.executor.local import Lane, LocalExecutor, Together
from dicom_node.executor.port import Task
from dicom_node.history.keeper import HeaderKeeper
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import JobState
from dicom_node.model import Attributes
from dicom_node.plan import Plan
from dicom_node.prior.fetcher import PriorFetcher
from dicom_node.receivers import Receivers
from dicom_node.reloading import require_reloadable
from dicom_node.route.gather import Gatherer
from dicom_node.route.router import Router
from dicom_node.shadow_worker import ShadowWorker, compare_key
from dicom_node.store.local import LocalStore
from dicom_node.store.secret import load_or_make_secret
from dicom_node.uid import random_uid

log = structlog.get_logger()

RELOADED, RELOAD_REFUSED = "RELOADED", "RELOAD_REFUSED"
"""The events that tell whether a changed configuration was taken up."""

_GRACE_S = 20.0
_GRACE_SHADOWS_S = 1.0
_SECONDS_A_DAY = 86_400.0
_DATA_DIR = "let node.data_dir point to a folder that this user may write to"


class Node:
    """The supervisor: coordinator and deliveries in this process, receiver and worker beside it.

    Parameters
    ----------
    plan : Plan
    clock : Clock
    checkpoint : Checkpoint
        Told at every boundary where a crash would matter; must be picklable, since it goes to the
        child processes too.
    read_plan : callable, optional
        Reads the configuration anew, for `reload`.
    """

    def __init__(
        self,
        plan: Plan,
        clock: Clock = time.time,
        checkpoint: Checkpoint = pass_checkpoint,
        read_plan: Callable[[], Plan] | None = None,
    ) -> None:
        config = plan.config
        self._config = config
        self._read_plan = read_plan
        self._clock = clock
        self._failed = threading.Event()
        self._stopping = threading.Event()
        self.failure: ConfigError | None = None
        self._store = _open_store(config, checkpoint)
        self._lock = _lock_data_dir(config)
        self._ledger = Ledger(config.ledger_url)
        self._secret = load_or_make_secret(config.secret_file)
        self._build_senders(plan, checkpoint)
        self._workers = EngineWorkers(config, self._ledger, clock, checkpoint)
        self._comparer = Comparer(self._ledger, self._store, clock)
        self._shadows = ShadowWorker(config, self._ledger, self._comparer, clock, checkpoint)
        self._executor = LocalExecutor(self._lanes())
        self._build_deciders(plan, checkpoint)
        self._coordinator = Coordinator(
            self._ledger,
            self._assembler,
            self._router,
            self._executor,
            config.destinations,
            clock,
            {peer.ae_title for peer in config.destinations.values()},
            housekeeping=self._forget_headers,
            batched=plan.image_engines,
            comparisons=lambda: list(map(compare_key, self._comparer.settle())),
            probes=self._prober.due,
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

    def _build_senders(self, plan: Plan, checkpoint: Checkpoint) -> None:
        """Build what asks something of peers, each on lanes of its own."""
        config, ledger, store, clock = self._config, self._ledger, self._store, self._clock
        archives = dicom_archives(config, store)
        outlets = Outlets(config, ledger, archives, clock)
        self._deliverer = Deliverer(config, ledger, archives, outlets, clock, checkpoint)
        self._copies = Copies(ledger, store, plan.rules.profiles, self._secret)
        is_same = Own(store, self._copies).is_same
        self._prover = Prover(
            config, ledger, archives, outlets, is_same, clock, random_uid, checkpoint
        )
        self._forwarder = Forwarder(
            config, ledger, archives, self._copies, outlets, clock, checkpoint
        )
        asking = [name for name, one in profiles_of(config).items() if one.asks]
        self._prober = Prober(config, ledger, clock, asking)
        self._fetcher = PriorFetcher(config, ledger, store, clock, self._stopping.wait, checkpoint)
        self._reporter = CommitmentReporter(
            config,
            ledger,
            lambda instance: store.file(instance.path).exists(),
            lambda: self._receivers.is_idle(),
            clock,
            checkpoint,
        )
        self._questions = SenderQuestions(
            config, clock, lambda uid: self._executor.submit(Task(ASK_LANE, uid))
        )

    def _build_deciders(self, plan: Plan, checkpoint: Checkpoint) -> None:
        """Build what decides in the coordinator's turns: which study is whole, what follows."""
        config, ledger, clock = self._config, self._ledger, self._clock
        self._keeper = HeaderKeeper(
            ledger, self._store, plan.keep_policy(self._secret), self._stopping.is_set
        )
        gatherer = Gatherer(ledger, self._keeper, plan.peer_names)
        self._router = Router(ledger, gatherer, plan.rules, plan.labels, clock, checkpoint)
        self._assembler = Assembler(
            ledger,
            config.assemble,
            clock,
            checkpoint,
            config.assemble_by_ae_title,
            self._headers_of,
            self._questions.about,
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
            self._workers.crashed(job.job_id, "the whole node was killed")
        self._coordinator.sweep()
        self._ledger.commitments.nobody_reports_at_once(
            "the node stopped before it reported", self._clock()
        )
        self._workers.start()
        self._executor.run()
        self._receivers.start()
        self._coordinator.start()

    def wait(self, stop: threading.Event, hung_up: threading.Event | None = None) -> None:
        """Return when `stop` is set, or when the node cannot go on (see `failure`).

        Reloads whenever `hung_up` is set.
        """
        while not stop.wait(0.2) and not self._failed.is_set():
            if hung_up is not None and hung_up.is_set():
                hung_up.clear()
                self.reload()

    def reload(self) -> None:
        """Read configuration and rules anew, and go by them if there is no mistake in them.

        What is routed keeps the rules that it was routed with. The answer is an event.
        """
        if self._read_plan is None:
            return
        subject = ("node", self._config.node.ae_title)
        try:
            plan = self._read_plan()
            require_reloadable(self._config, plan.config)
        except ConfigError as error:
            reason = f"{error}; the old configuration goes on"
            self._ledger.events.record(self._clock(), subject, RELOAD_REFUSED, reason)
            log.error("reload_refused", reason=reason)
            return
        self._coordinator.between_turns(lambda: self._take_up(plan))

    def _take_up(self, plan: Plan) -> None:
        self._config = plan.config
        self._assembler.replace_policy(plan.config.assemble, plan.config.assemble_by_ae_title)
        self._keeper.policy = plan.keep_policy(self._secret)
        self._router.replace_rules(plan.rules)
        self._copies.profiles = plan.rules.profiles
        reason = f"{len(plan.rules.rules)} rules: {', '.join(plan.rules.names) or 'none'}"
        subject = ("node", plan.config.node.ae_title)
        self._ledger.events.record(self._clock(), subject, RELOADED, reason)
        log.info("reloaded", rules=len(plan.rules.rules))

    def _headers_of(self, study_instance_uid: str) -> Mapping[str, Mapping[str, Attributes]]:
        """Return the headers of a study's instances, for the decision whether it is whole."""
        by_series: dict[str, dict[str, Attributes]] = {}
        for (series_uid, uid), header in self._keeper.of_study(study_instance_uid).items():
            if not header.unreadable:
                by_series.setdefault(series_uid, {})[uid] = header.attributes
        return by_series

    def _forget_headers(self) -> None:
        keep_s = max(1.0, self._config.history.keep_days) * _SECONDS_A_DAY
        self._keeper.forget(self._clock() - keep_s)

    def stop(self) -> None:
        """Stop receiving first, then let what runs come to its end for a while."""
        self._stopping.set()
        self._workers.expect_stop()
        self._shadows.expect_stop()
        self._receivers.stop(_GRACE_S)
        self._coordinator.stop()
        self._shadows.stop(_GRACE_SHADOWS_S)
        self._workers.stop(_GRACE_S)
        self._executor.stop(_GRACE_S)
        self._coordinator.last_sweep()
        self._ledger.close()
        self._lock.close()
        log.info("node_stopped")

    def _lanes(self) -> dict[str, Lane]:
        infer = self._config.infer
        together = Together(self._infer, infer.batch_max, infer.batch_wait_ms / 1000)
        lanes = {
            INFER_LANE: Lane(
                lambda task: self._infer([task]),
                self._task_failed,
                threads=len(self._workers),
                together=together,
            )
        }
        lanes[SHADOW_LANE] = Lane(
            lambda task: self._shadows.take([task]),
            self._task_failed,
            together=Together(self._shadows.take, infer.batch_max, wait_s=0.0),
        )
        lanes[ASK_LANE] = Lane(self._ask, self._task_failed, threads=2)
        lanes[GONE_LANE] = Lane(self._deliver, self._delivery_failed)
        for name in self._config.destinations:
            lanes[DELIVER_LANE + name] = Lane(self._deliver, self._delivery_failed)
        for name in (PROVE_GONE_LANE, *(PROVE_LANE + name for name in self._config.destinations)):
            lanes[name] = Lane(self._prove, self._proof_failed)
        for name in self._prober.destinations:
            lanes[PROBE_LANE + name] = Lane(self._probe, self._task_failed)
        lanes[COMMIT_GONE_LANE] = Lane(self._report, self._report_failed)
        for peer in self._config.destinations.values():
            lanes[COMMIT_LANE + peer.ae_title] = Lane(self._report, self._report_failed)
        for name in (PRIOR_GONE_LANE, *(PRIOR_LANE + name for name in self._config.destinations)):
            lanes[name] = Lane(self._fetch, self._fetch_failed)
        return lanes

    def _infer(self, tasks: Sequence[Task]) -> None:
        self._workers.handle(tasks)
        self._coordinator.hint()

    def _ask(self, task: Task) -> None:
        self._questions.ask(task.key)
        self._coordinator.hint()

    def _deliver(self, task: Task) -> None:
        """Send results first, then originals, a batch at a time."""
        more = True
        while more and not self._stopping.is_set():
            self._deliverer.turn(task.key)
            more = self._forwarder.turn(task.key)

    def _delivery_failed(self, task: Task, error: Exception) -> None:
        self._task_failed(task, error)
        self._deliverer.broke(task.key, error)
        self._forwarder.broke(task.key, error)

    def _probe(self, task: Task) -> None:
        self._prober.turn(task.key)

    def _prove(self, task: Task) -> None:
        self._prover.turn(task.key)

    def _proof_failed(self, task: Task, error: Exception) -> None:
        self._task_failed(task, error)
        self._prover.broke(task.key, error)

    def _report(self, task: Task) -> None:
        self._reporter.turn(task.key)

    def _report_failed(self, task: Task, error: Exception) -> None:
        self._task_failed(task, error)
        self._reporter.broke(task.key, error)

    def _fetch(self, task: Task) -> None:
        self._fetcher.turn(task.key)
        self._coordinator.hint()

    def _fetch_failed(self, task: Task, error: Exception) -> None:
        self._task_failed(task, error)
        self._fetcher.broke(task.key, error)

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
        lock = (folder / "node.lock").open("a")
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
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock
