"""The route stage: a complete study becomes jobs, in one transaction."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import structlog

from dicom_node.clock import Checkpoint, Clock, pass_checkpoint
from dicom_node.conditions import OWN_KEYWORDS
from dicom_node.errors import StorageError, StudyUnusable
from dicom_node.headers import attributes_of, read_header_of
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import JobState, StudyState
from dicom_node.model import Attributes, Instance, Job, Study
from dicom_node.route.rules import Order, Rule, RuleOutcome, orders, try_rules
from dicom_node.store.local import LocalStore

log = structlog.get_logger()


@dataclass(frozen=True)
class EngineLabel:
    """What the router must know of an engine."""

    version: str
    model_digest: str


@dataclass(frozen=True)
class SeriesRouting:
    """One series of a study with what the rules said of it."""

    series_instance_uid: str
    instances: tuple[Instance, ...]
    attributes: Attributes
    outcomes: tuple[RuleOutcome, ...]
    orders: tuple[Order, ...]
    unreadable: tuple[str, ...]
    """The SOP Instance UIDs of those whose header cannot be parsed."""


class Router:
    """Moves studies from COMPLETE to ROUTED."""

    def __init__(
        self,
        ledger: Ledger,
        store: LocalStore,
        rules: Sequence[Rule],
        engines: Mapping[str, EngineLabel],
        clock: Clock,
        checkpoint: Checkpoint = pass_checkpoint,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._rules = rules
        self._keywords = {c.keyword for rule in rules for c in rule.when} - OWN_KEYWORDS.keys()
        self._engines = engines
        self._clock = clock
        self._checkpoint = checkpoint

    def turn(self) -> None:
        """Route every complete study; one that cannot be routed is parked and the rest go on."""
        for study in self._ledger.studies.in_states([StudyState.COMPLETE]):
            try:
                self._record(study, self.examine(study.study_instance_uid))
            except StorageError:
                raise  # the disk or the ledger, not this study
            except Exception as error:
                log.exception("routing_failed", study_instance_uid=study.study_instance_uid)
                reason = f"it could not be routed: {type(error).__name__}"
                self._ledger.studies.routing_failed(study, reason, self._clock())

    def reroute_outdated(self) -> None:
        """Route the studies again whose open jobs were made for an engine that was replaced.

        Done once, at start: the engines are read then, and do not change while the node runs.
        """
        for job in self._ledger.jobs.in_states(JobState.QUEUED, JobState.PARKED):
            if job.job_id == self._job_id_now(job):
                continue
            reason = f"engine {job.engine_name} was replaced since the study was routed"
            if self._ledger.studies.retry(job.study_instance_uid, self._clock(), reason):
                log.info("study_rerouted", study_instance_uid=job.study_instance_uid, reason=reason)

    def _job_id_now(self, job: Job) -> str | None:
        """Return what the job would be called today; None if its engine is gone."""
        instances = self._ledger.studies.instances(job.study_instance_uid, job.series_instance_uid)
        engine = self._engines.get(job.engine_name)
        return None if engine is None else job_id(instances, job.engine_name, engine)

    def examine(
        self, study_instance_uid: str, more_keywords: Collection[str] = ()
    ) -> list[SeriesRouting]:
        """Return what the rules say of each series of a study that lies in the store.

        Parameters
        ----------
        more_keywords : collection of str
            Attributes to read beside those that the rules ask for.
        """
        by_series: dict[str, list[Instance]] = defaultdict(list)
        for instance in self._ledger.studies.instances(study_instance_uid):
            by_series[instance.series_instance_uid].append(instance)
        keywords = self._keywords | set(more_keywords) - OWN_KEYWORDS.keys()
        return [self._examine(uid, of_one, keywords) for uid, of_one in by_series.items()]

    def _examine(
        self, series_instance_uid: str, instances: list[Instance], keywords: Collection[str]
    ) -> SeriesRouting:
        headers, unreadable = [], []
        for instance in instances:
            try:
                headers.append(read_header_of(self._store.file(instance.path), keywords))
            except StudyUnusable:
                unreadable.append(instance.sop_instance_uid)
        attributes: Attributes = {
            **attributes_of(headers),
            "instance_count": (str(len(instances)),),
            "calling_ae_title": (instances[-1].calling_ae_title,),
        }
        outcomes = tuple(try_rules(self._rules, attributes))
        return SeriesRouting(
            series_instance_uid,
            tuple(instances),
            attributes,
            outcomes,
            tuple(orders(outcomes)),
            unreadable=tuple(unreadable),
        )

    def _mark_unreadable(self, sop_instance_uids: Sequence[str], now: float) -> None:
        """Leave an event for each instance that is kept, and that nobody will be able to use."""
        for uid in sop_instance_uids:
            if not any(event.event == "UNREADABLE" for event in self._ledger.events.of(uid)):
                reason = "its header cannot be parsed; have the sender send it again"
                self._ledger.events.record(now, ("instance", uid), "UNREADABLE", reason)

    def _record(self, study: Study, routing: Sequence[SeriesRouting]) -> None:
        now = self._clock()
        jobs = [
            self._job(study, series, order, now) for series in routing for order in series.orders
        ]
        reason = routing_reason(routing)
        self._checkpoint("route.decided")
        if self._ledger.jobs.route(study, jobs, reason, now):
            self._checkpoint("route.recorded")
            self._mark_unreadable([uid for series in routing for uid in series.unreadable], now)
            log.info(
                "study_routed",
                study_instance_uid=study.study_instance_uid,
                revision=study.revision,
                jobs=len(jobs),
                reason=reason,
            )

    def _job(self, study: Study, series: SeriesRouting, order: Order, now: float) -> Job:
        engine = self._engines[order.engine]
        return Job(
            job_id=job_id(series.instances, order.engine, engine),
            study_instance_uid=study.study_instance_uid,
            series_instance_uid=series.series_instance_uid,
            revision=study.revision,
            engine_name=order.engine,
            engine_version=engine.version,
            rule=order.rule,
            destinations=order.destinations,
            priority=order.priority,
            state=JobState.QUEUED,
            attempt=0,
            failures=0,
            crashes=0,
            not_before=now,
            reason=f"rule {order.rule}: {order.reason}",
            created_at=now,
            updated_at=now,
        )


def job_id(instances: Sequence[Instance], engine_name: str, engine: EngineLabel) -> str:
    """Return the name of the work: the same input and the same engine are the same job."""
    inputs = sorted((i.study_instance_uid, i.sop_instance_uid, i.digest) for i in instances)
    parts = chain([engine_name, engine.version, engine.model_digest], chain.from_iterable(inputs))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def routing_reason(routing: Sequence[SeriesRouting]) -> str:
    """Return in one sentence what matched, or why nothing did."""
    matched = [f"{o.rule} -> {o.engine}" for series in routing for o in series.orders]
    unreadable = sum(len(series.unreadable) for series in routing)
    broken = f"; {unreadable} instances cannot be parsed" if unreadable else ""
    if matched:
        return ", ".join(dict.fromkeys(matched)) + broken
    near = [
        f"{outcome.rule.name}: {outcome.reason}"
        for series in routing
        for outcome in series.outcomes
    ]
    return "no rule matched (" + " | ".join(dict.fromkeys(near)) + ")" + broken
