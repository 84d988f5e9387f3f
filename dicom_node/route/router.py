"""The route stage: a complete study becomes jobs and forwards, in one transaction."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import structlog

from dicom_node.clock import Checkpoint, Clock, pass_checkpoint
from dicom_node.errors import InvariantBroken, StorageError, StudyUnusable
from dicom_node.history.keeper import Stopped
from dicom_node.ledger.fetches import PlannedFetch
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.routing import Plan
from dicom_node.lifecycle import JobState, StudyEvent, StudyState
from dicom_node.model import Instance, InstanceKey, Job, Study
from dicom_node.route.decide import decide, decide_at_once
from dicom_node.route.decision import Decision, Order, record_of
from dicom_node.route.facts import StudyFacts
from dicom_node.route.gather import Gatherer
from dicom_node.route.rules import RuleSet
from dicom_node.route.trying import with_candidates

log = structlog.get_logger()


@dataclass(frozen=True)
class EngineLabel:
    """What the router must know of an engine."""

    version: str
    model_digest: str
    reads_study: bool = False
    """Whether it works on the whole study: a change of any series is a change of its input."""


class Router:
    """Moves studies from COMPLETE to ROUTED."""

    def __init__(
        self,
        ledger: Ledger,
        gatherer: Gatherer,
        rules: RuleSet,
        engines: Mapping[str, EngineLabel],
        clock: Clock,
        checkpoint: Checkpoint = pass_checkpoint,
    ) -> None:
        self._ledger = ledger
        self._gatherer = gatherer
        self._rules = rules
        self._rule_set = ""
        self._engines = engines
        self._clock = clock
        self._checkpoint = checkpoint
        self._considered: dict[str, set[InstanceKey]] = {}

    def replace_rules(self, rules: RuleSet) -> None:
        """Go by other rules from now on; what is routed keeps those that it was made with."""
        self._rules = rules
        self._rule_set = ""
        self._considered.clear()

    def turn(self) -> None:
        """Route every complete study; one that cannot be routed is parked and the rest go on."""
        now = self._clock()
        for uid, engine in self._ledger.routing.found():
            self._ledger.studies.found(uid, f"{engine} has come to its end", now)
        for study in self._ledger.studies.in_states([StudyState.COMPLETE]):
            try:
                self._record(study, *self.examine(study))
            except (StorageError, Stopped):
                raise  # the disk, the ledger or the end of the day: not this study
            except Exception as error:
                log.exception("routing_failed", study_instance_uid=study.study_instance_uid)
                reason = f"it could not be routed: {type(error).__name__}"
                self._ledger.studies.routing_failed(study, reason, self._clock())
        if self._rules.forwards_at_once:
            self._forward_at_once()

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
        engine = self._engines.get(job.engine_name)
        if engine is None:
            return None
        series_uid = "" if engine.reads_study else job.series_instance_uid
        keys = input_of(self._ledger, job.study_instance_uid, series_uid)
        return job_id(job.study_instance_uid, keys, job.engine_name, engine, job.parameters)

    def examine(
        self, study: Study, more_keywords: Collection[str] = ()
    ) -> tuple[StudyFacts, Decision]:
        """Return the facts of a study that lies in the store, and what the rules make of it.

        Parameters
        ----------
        more_keywords : collection of str
            Attributes to gather beside those that the rules ask for.
        """
        facts = self._gatherer.study(study, self._rules.keywords | set(more_keywords))
        decision = decide(self._rules, facts)
        for _ in self._engines:  # those that others wait for first
            current = self._with_what_counts(facts, decision)
            if current == facts:
                break
            facts, decision = current, decide(self._rules, current)
        return facts, decision

    def _with_what_counts(self, facts: StudyFacts, decision: Decision) -> StudyFacts:
        """Return the facts with the findings of the very work that is ordered.

        With other parameters, on other instances or by another version an engine finds anew.
        """
        left = _left(facts, decision)
        ordered: dict[str, dict[str, str]] = defaultdict(dict)
        for order in decision.orders:
            uid, engine = order.series_instance_uid, order.engine
            label = self._engines[engine]
            keys = _works_on(label, left, uid)
            name = job_id(facts.study_instance_uid, keys, engine, label, order.parameters)
            ordered[uid][engine] = name
        return facts.of_series(
            one.with_findings_of(ordered.get(one.series_instance_uid, {})) for one in facts.series
        )

    def _record(self, study: Study, facts: StudyFacts, decision: Decision) -> None:
        now = self._clock()
        plan = self._plan(study, facts, decision, now)
        self._checkpoint("route.decided")
        if not self._ledger.routing.record(study, plan, now):
            return
        self._checkpoint("route.recorded")
        self._mark_unreadable(decision.unreadable, now)
        log.info(
            "study_routed",
            study_instance_uid=study.study_instance_uid,
            revision=study.revision,
            jobs=len(plan.jobs),
            forwards=len(plan.forwards),
            reason=plan.reason,
        )

    def _plan(self, study: Study, facts: StudyFacts, decision: Decision, now: float) -> Plan:
        if not self._rule_set:
            self._rule_set = self._ledger.routing.keep_rule_set(self._rules.text, now)
        left = _left(facts, decision)
        parked = None
        if decision.problems:
            parked = StudyEvent.ROUTING_FAILED
        elif decision.holds:
            parked = StudyEvent.HELD
        planned, comparisons = with_candidates(
            [(order, self._job(study, order, left, now)) for order in decision.orders],
            lambda order: self._candidate(study, order, left, now),
            self._ledger.trials.takes,
        )
        return Plan(
            reason=decision.reason,
            rule_set=self._rule_set,
            completeness=facts.completeness,
            decided=record_of(decision),
            jobs=tuple(job for _, job in planned),
            fetches=tuple(
                PlannedFetch(job.job_id, order.priors)
                for order, job in planned
                if order.priors is not None
            ),
            comparisons=tuple(comparisons),
            forwards=decision.forwards,
            drops=decision.drops,
            notices=tuple(f"rule {n.rule}: {n.text} ({n.subject})" for n in decision.notices),
            awaited=tuple((w.series_instance_uid, w.engine) for w in decision.waits),
            parked=parked,
        )

    def _job(
        self, study: Study, order: Order, left: Mapping[str, list[InstanceKey]], now: float
    ) -> Job:
        engine = self._engines[order.engine]
        instances = _works_on(engine, left, order.series_instance_uid)
        uid = study.study_instance_uid
        return Job(
            job_id=job_id(uid, instances, order.engine, engine, order.parameters),
            study_instance_uid=uid,
            series_instance_uid=order.series_instance_uid,
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
            parameters=order.parameters,
        )

    def _candidate(
        self, study: Study, order: Order, left: Mapping[str, list[InstanceKey]], now: float
    ) -> Job:
        """Return the job of what is tried beside an order, as if a rule ran it."""
        trial = order.trial
        if trial is None:
            raise InvariantBroken(f"nothing is tried beside {order.engine}")
        reason = f"{trial.mode} of {order.engine}: {order.reason}"
        as_ordered = replace(order, engine=trial.engine, parameters=trial.parameters, reason=reason)
        return self._job(study, as_ordered, left, now)

    def _mark_unreadable(self, sop_instance_uids: Sequence[str], now: float) -> None:
        """Leave an event for each instance that is kept, and that nobody will be able to use."""
        for uid in sop_instance_uids:
            if not any(event.event == "UNREADABLE" for event in self._ledger.events.of(uid)):
                reason = "its header cannot be parsed; have the sender send it again"
                self._ledger.events.record(now, ("instance", uid), "UNREADABLE", reason)

    def _forward_at_once(self) -> None:
        """Forward what came of studies that are still arriving; what is chosen stays so."""
        receiving = self._ledger.studies.in_states([StudyState.RECEIVING])
        before = self._considered
        self._considered = {
            study.study_instance_uid: before.get(study.study_instance_uid, set())
            for study in receiving
        }
        for uid, considered in self._considered.items():
            new = [i for i in self._ledger.studies.instances(uid) if _key(i) not in considered]
            if not new:
                continue
            try:
                gathered = self._gatherer.instances(uid, new, self._rules.keywords)
            except (StudyUnusable, FileNotFoundError) as error:
                # it is judged, and parked, when it is complete; the others go on
                log.warning("not_at_once", study_instance_uid=uid, error=type(error).__name__)
            else:
                decision = decide_at_once(
                    self._rules, [(one.series_instance_uid, facts) for one, facts in gathered]
                )
                now = self._clock()
                self._ledger.routing.forward_at_once(uid, decision.forwards, now)
            considered.update(map(_key, new))


def input_of(
    ledger: Ledger, study_instance_uid: str, series_instance_uid: str = ""
) -> list[InstanceKey]:
    """Return the instances that an engine works on: those that no rule drops.

    Parameters
    ----------
    series_instance_uid : str
        Of one series; empty for all of the study.
    """
    dropped = ledger.routing.dropped(study_instance_uid)
    return [
        _key(instance)
        for instance in ledger.studies.instances(study_instance_uid, series_instance_uid or None)
        if (instance.series_instance_uid, instance.sop_instance_uid) not in dropped
    ]


def _left(facts: StudyFacts, decision: Decision) -> dict[str, list[InstanceKey]]:
    """Return the instances of each series that no rule drops."""
    dropped = {key[:2] for drop in decision.drops for key in drop.instances}
    return {
        series.series_instance_uid: [
            InstanceKey(series.series_instance_uid, one.sop_instance_uid, one.digest)
            for one in series.instances
            if (series.series_instance_uid, one.sop_instance_uid) not in dropped
        ]
        for series in facts.series
    }


def _works_on(
    engine: EngineLabel, left: Mapping[str, list[InstanceKey]], series_instance_uid: str
) -> list[InstanceKey]:
    """Return the instances of which an engine's answer about a series is made."""
    if engine.reads_study:
        return [key for keys in left.values() for key in keys]
    return left[series_instance_uid]


def job_id(
    study_instance_uid: str,
    instances: Sequence[InstanceKey],
    engine_name: str,
    engine: EngineLabel,
    parameters: Mapping[str, float] | None = None,
) -> str:
    """Return the name of the work: the same input and the same engine are the same job."""
    inputs = sorted((study_instance_uid, i.sop_instance_uid, i.digest) for i in instances)
    parts = [engine_name, engine.version, engine.model_digest, *chain.from_iterable(inputs)]
    if parameters:
        parts.append(json.dumps(dict(parameters), sort_keys=True))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _key(instance: Instance) -> InstanceKey:
    return InstanceKey(instance.series_instance_uid, instance.sop_instance_uid, instance.digest)
