"""From facts and rules to a decision: pure, so that live, replay and explain say the same.

The order in which rules stand decides nothing but names and parameters. What does is precedence:

1. *drop*. What a rule drops takes no part in anything else, as if it had not come: first dropped
   studies, then series, then instances.
2. *error*. A rule that cannot be judged on what is left parks the study: nothing is done.
3. *hold*. The study waits for a person, unless one has released it.
4. *run, forward, notify*. All rules that match apply. Two that ask for the same engine on the same
   series run it once: for the destinations of both, at the more urgent priority, with the
   parameters of the first that names any, in the name of the first. Two that forward the same
   instance to the same destination by the same profile send it once.
5. *stop*. No engine begins on this series but those whose findings are asked for; what is done
   stands. While a stop is not yet decided, the other engines of the series wait for it.

A condition on a finding is unknown while its engine is to run and has not come to its end; if no
rule has the engine run on the series, there is no finding and the attribute is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dicom_node.conditions import Answer
from dicom_node.conditions.tree import PENDING
from dicom_node.model import Attributes, InstanceKey, Priority
from dicom_node.route.decision import (
    Decision,
    Drop,
    Forward,
    Order,
    Remark,
    RuleOutcome,
    Wait,
)
from dicom_node.route.facts import InstanceFacts, SeriesFacts, StudyFacts
from dicom_node.route.rules import Level, Rule, RuleSet

_REQUESTED = {"STAT": Priority.STAT, "HIGH": Priority.HIGH, "LOW": Priority.LOW}
_POSSIBLE = (Answer.YES, Answer.UNKNOWN)


def decide(rules: RuleSet, facts: StudyFacts) -> Decision:
    """Return what the rules make of a complete study."""
    if facts.prior_of:
        rules = rules.for_priors
    return replace(_Deciding(rules, facts).decision(), prior_of=facts.prior_of)


def decide_at_once(rules: RuleSet, instances: Sequence[tuple[str, InstanceFacts]]) -> Decision:
    """Return what is forwarded of instances before their study is complete.

    Parameters
    ----------
    instances : sequence of (Series Instance UID, InstanceFacts)
    """
    forwards, problems = _Forwards(), []
    for series_instance_uid, instance in instances:
        tried = (rules.for_priors if instance.is_prior else rules).at(Level.INSTANCE)
        at_once = [rule for rule in tried if rule.forward and rule.forward.at_once]
        drops = [rule for rule in tried if rule.drop]
        if any(rule.when.check(instance.attributes).answer is not Answer.NO for rule in drops):
            continue
        key = InstanceKey(series_instance_uid, instance.sop_instance_uid, instance.digest)
        for rule in at_once:
            outcome = rule.when.check(instance.attributes)
            if outcome.answer is Answer.YES:
                forwards.add(rule, instance.attributes, [key])
            elif outcome.answer is Answer.ERROR:
                problems.append(Remark(rule.name, instance.sop_instance_uid, outcome.reason))
    return Decision(forwards=forwards.made(), problems=tuple(problems))


@dataclass
class _Forwards:
    """Forwards so far: one for each destination and profile."""

    by_way: dict[tuple[str, str], Forward] = field(default_factory=dict)

    def add(self, rule: Rule, attributes: Attributes, instances: Iterable[InstanceKey]) -> None:
        if rule.forward is None:
            return
        priority = priority_of(rule, attributes)
        for destination in rule.forward.destinations:
            way = (destination, rule.forward.profile)
            first = self.by_way.get(way)
            if first is None:
                first = Forward(*way, priority, rule.name, ())
            self.by_way[way] = replace(
                first,
                priority=min(first.priority, priority),
                instances=tuple(dict.fromkeys((*first.instances, *instances))),
            )

    def made(self) -> tuple[Forward, ...]:
        return tuple(self.by_way.values())


class _Deciding:
    """One decision in the making."""

    def __init__(self, rules: RuleSet, facts: StudyFacts) -> None:
        self._rules = rules
        self._facts = facts
        self._outcomes: list[RuleOutcome] = []
        self._problems: list[Remark] = []
        self._drops: list[Drop] = []
        self._holds: list[Remark] = []
        self._notices: list[Remark] = []
        self._stops: list[Remark] = []
        self._waits: list[Wait] = []
        self._orders: list[Order] = []
        self._forwards = _Forwards()

    def decision(self) -> Decision:
        unreadable = tuple(
            instance.sop_instance_uid
            for series in self._facts.series
            for instance in series.instances
            if instance.unreadable
        )
        study = self._left()
        for series in study.series:
            self._decide_series(study, series)
        if study.series:
            self._decide_study(study)
            self._decide_instances(study)
        decision = Decision(
            outcomes=tuple(self._outcomes),
            orders=tuple(self._orders),
            forwards=self._forwards.made(),
            drops=tuple(self._drops),
            holds=() if self._facts.released else tuple(self._holds),
            notices=tuple(self._notices),
            stops=tuple(self._stops),
            waits=tuple(dict.fromkeys(self._waits)),
            problems=tuple(dict.fromkeys(self._problems)),
            unreadable=unreadable,
        )
        if not decision.is_parked:
            return decision
        return replace(decision, orders=(), forwards=(), stops=(), waits=())

    # ------------------------------------------------------------ drop

    def _left(self) -> StudyFacts:
        """Return the study without what is dropped."""
        dropping = [rule for rule in self._rules.rules if rule.drop]
        study = self._facts
        for rule in dropping:
            if rule.level is Level.STUDY and self._says_yes(
                rule, study.study_instance_uid, study.attributes
            ):
                keys = [key for series in study.series for key in _keys(series)]
                self._drops.append(Drop(rule.name, rule.drop, rule.level, tuple(keys)))
                return study.of_series(())
        left = []
        for series in study.series:
            by = next((r for r in dropping if self._drops_series(r, study, series)), None)
            if by is not None:
                self._drops.append(Drop(by.name, by.drop, by.level, tuple(_keys(series))))
                continue
            rest = self._without_dropped(series, dropping)
            if rest.instances:
                left.append(rest)
        return study.of_series(left)

    def _drops_series(self, rule: Rule, study: StudyFacts, series: SeriesFacts) -> bool:
        return rule.level is Level.SERIES and self._says_yes(
            rule, series.series_instance_uid, {**series.attributes, **study.of_study}
        )

    def _without_dropped(self, series: SeriesFacts, dropping: Sequence[Rule]) -> SeriesFacts:
        """Return a series without the instances that a rule drops, each by the first that does."""
        gone: set[str] = set()
        for rule in dropping:
            if rule.level is not Level.INSTANCE:
                continue
            keys = []
            for instance in series.instances:
                uid = instance.sop_instance_uid
                if uid not in gone and self._says_yes(rule, uid, instance.attributes):
                    keys.append(InstanceKey(series.series_instance_uid, uid, instance.digest))
            gone.update(key.sop_instance_uid for key in keys)
            if keys:
                self._drops.append(Drop(rule.name, rule.drop, rule.level, tuple(keys)))
        return series.without(gone)

    # ------------------------------------------------------------ the rest

    def _decide_series(self, study: StudyFacts, series: SeriesFacts) -> None:
        rules = [rule for rule in self._rules.at(Level.SERIES) if not rule.drop]
        attributes = {**series.attributes, **study.of_study}
        pending = _pending(rules, series, attributes)
        attributes = {**attributes, **finding_attributes(rules, series.findings, pending)}
        by_engine: dict[str, Order] = {}
        needed: set[str] = set()
        for rule in rules:
            outcome = self._try(rule, series.series_instance_uid, attributes)
            if outcome.answer is Answer.UNKNOWN:
                self._wait(rule, series, pending)
            if rule.stop and outcome.answer in _POSSIBLE:
                needed |= rule.awaits
                if outcome.answer is Answer.YES:
                    self._stops.append(Remark(rule.name, series.series_instance_uid, "stop"))
            if outcome.answer is not Answer.YES:
                continue
            self._remark(rule, series.series_instance_uid)
            for wanted in rule.engines:
                made = Order(
                    series.series_instance_uid,
                    wanted.engine,
                    wanted.parameters,
                    rule.destinations,
                    priority_of(rule, attributes),
                    rule.name,
                    outcome.reason,
                    rule.priors,
                )
                by_engine[wanted.engine] = _joined(by_engine.get(wanted.engine), made)
            self._forwards.add(rule, attributes, _keys(series))
        if needed:
            needed = _needed_for(needed, rules)
        for engine, order in by_engine.items():
            if not needed or engine in needed or engine in series.findings:
                self._orders.append(order)

    def _decide_study(self, study: StudyFacts) -> None:
        rules = [rule for rule in self._rules.at(Level.STUDY) if not rule.drop]
        attributes = {**study.attributes, **self._findings_of_study(study, rules)}
        for rule in rules:
            outcome = self._try(rule, study.study_instance_uid, attributes)
            if outcome.answer is Answer.UNKNOWN:
                for series in study.series:
                    self._wait(rule, series, self._ordered_on(series) - series.findings.keys())
            if outcome.answer is not Answer.YES:
                continue
            self._remark(rule, study.study_instance_uid)
            keys = [key for series in study.series for key in _keys(series)]
            self._forwards.add(rule, attributes, keys)

    def _decide_instances(self, study: StudyFacts) -> None:
        rules = [rule for rule in self._rules.at(Level.INSTANCE) if not rule.drop]
        for rule in rules:
            for series in study.series:
                for one in series.instances:
                    outcome = self._try(rule, one.sop_instance_uid, one.attributes)
                    if outcome.answer is not Answer.YES:
                        continue
                    self._remark(rule, one.sop_instance_uid)
                    key = InstanceKey(series.series_instance_uid, one.sop_instance_uid, one.digest)
                    self._forwards.add(rule, one.attributes, [key])

    def _ordered_on(self, series: SeriesFacts) -> set[str]:
        uid = series.series_instance_uid
        ordered = {order.engine for order in self._orders if order.series_instance_uid == uid}
        return ordered | {wait.engine for wait in self._waits if wait.series_instance_uid == uid}

    def _findings_of_study(self, study: StudyFacts, rules: Sequence[Rule]) -> Attributes:
        """Return what was found on any series; pending while it is on one of them."""
        found: dict[str, tuple[str, ...]] = {}
        for series in study.series:
            pending = self._ordered_on(series) - series.findings.keys()
            for keyword, values in finding_attributes(rules, series.findings, pending).items():
                before = found.get(keyword, ())
                is_pending = (PENDING,) in (values, before)
                found[keyword] = (PENDING,) if is_pending else (*before, *values)
        return found

    def _try(self, rule: Rule, subject: str, attributes: Attributes) -> RuleOutcome:
        tried = RuleOutcome(rule, subject, rule.when.check(attributes))
        self._outcomes.append(tried)
        if tried.answer is Answer.ERROR:
            self._problems.append(Remark(rule.name, subject, tried.reason))
        return tried

    def _says_yes(self, rule: Rule, subject: str, attributes: Attributes) -> bool:
        return self._try(rule, subject, attributes).answer is Answer.YES

    def _remark(self, rule: Rule, subject: str) -> None:
        if rule.hold:
            self._holds.append(Remark(rule.name, subject, rule.hold))
        if rule.notify:
            self._notices.append(Remark(rule.name, subject, rule.notify))

    def _wait(self, rule: Rule, series: SeriesFacts, pending: Iterable[str]) -> None:
        self._waits += [
            Wait(series.series_instance_uid, engine, rule.name)
            for engine in sorted(rule.awaits & set(pending))
        ]


def priority_of(rule: Rule, attributes: Attributes) -> Priority:
    """Return the priority of what a rule orders; MEDIUM and what is no priority are routine."""
    if rule.priority is not None:
        return rule.priority
    requested = [v.strip().upper() for v in attributes.get("RequestedProcedurePriority", ())]
    return min((_REQUESTED[v] for v in requested if v in _REQUESTED), default=Priority.ROUTINE)


def finding_attributes(
    rules: Iterable[Rule], findings: Mapping[str, Attributes], pending: Iterable[str]
) -> Attributes:
    """Return the findings as the attributes that conditions ask for."""
    known = {
        f"{engine}.{fact}": values
        for engine, facts in findings.items()
        for fact, values in facts.items()
    }
    waiting = set(pending)
    for rule in rules:
        for keyword in rule.when.keywords():
            engine, dot, _ = keyword.partition(".")
            if dot and engine in waiting:
                known[keyword] = (PENDING,)
    return known


def _pending(rules: Sequence[Rule], series: SeriesFacts, attributes: Attributes) -> set[str]:
    """Return the engines that are to run on a series and have not come to their end.

    At first all could be; those that no rule still asks for fall away, and with them what hangs on
    them.
    """
    asked = {engine for rule in rules for engine in rule.awaits} - series.findings.keys()
    while asked:
        tried = {**attributes, **finding_attributes(rules, series.findings, asked)}
        possible = {
            order.engine
            for rule in rules
            if rule.engines and rule.when.check(tried).answer in _POSSIBLE
            for order in rule.engines
        }
        if asked <= possible:
            break
        asked &= possible
    return asked


def _needed_for(engines: Iterable[str], rules: Sequence[Rule]) -> set[str]:
    """Return these engines and those on whose findings they themselves depend."""
    needed, more = set[str](), set(engines)
    while more:
        needed |= more
        more = {
            engine
            for rule in rules
            if any(order.engine in more for order in rule.engines)
            for engine in rule.awaits
        } - needed
    return needed


def _joined(first: Order | None, other: Order) -> Order:
    if first is None:
        return other
    return replace(
        first,
        parameters=first.parameters or other.parameters,
        destinations=tuple(dict.fromkeys(first.destinations + other.destinations)),
        priority=min(first.priority, other.priority),
        priors=first.priors or other.priors,
    )


def _keys(series: SeriesFacts) -> list[InstanceKey]:
    return [
        InstanceKey(series.series_instance_uid, one.sop_instance_uid, one.digest)
        for one in series.instances
    ]
