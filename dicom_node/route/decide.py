"""From facts and rules to a decision: pure, so that live, replay and explain say the same.

The order in which rules stand decides nothing but names and parameters; the order in which
instances came decides nothing at all. What does is precedence:

1. *drop*. What a rule drops takes no part in anything else, as if it had not come: first dropped
   studies, then series, then instances.
2. *error*. A rule that cannot be judged on what is left parks the study: nothing is done.
3. *hold*. The study waits for a person, unless one has released it.
4. *run, forward*. All rules that match apply. Two that ask for the same engine on the same
   series run it once: for the destinations of both, at the more urgent priority, with the
   parameters and the trial of the first that names any, in the name of the first. Two that
   forward the same instance to the same destination by the same profile send it once.
5. *stop*. No engine begins on this series but those on whose findings a stop depends; what is done
   stands. While a stop is not yet decided, the other engines of the series wait for it.

A *notify* is told in any case, of a study that is held or cannot be judged too. A hold on a finding
lets what has begun come to its end; a stop is what keeps other engines from beginning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from dicom_node.conditions import Answer, Outcome
from dicom_node.conditions.tree import PENDING
from dicom_node.model import RESTORED, Attributes, Drop, Forward, InstanceKey, Priority
from dicom_node.route.agreeing import Instances
from dicom_node.route.decision import Decision, Order, Remark, RuleOutcome, Wait
from dicom_node.route.facts import InstanceFacts, SeriesFacts, StudyFacts
from dicom_node.route.following import finding_attributes, not_stopped, pending_engines
from dicom_node.route.originals import Forwards, priority_of
from dicom_node.route.rules import Level, Rule, RuleSet


def decide(rules: RuleSet, facts: StudyFacts) -> Decision:
    """Return what the rules make of a complete study.

    No rule is asked of results for a copy: they go where the copy's profile says, as results for
    the real study. Of a study that was fetched as a prior, only those that ask for it.
    """
    if facts.copied_by:
        return _results_for_a_copy(rules, facts)
    if facts.prior_of:
        rules = rules.for_priors
    decision = _Deciding(rules, facts.in_order()).decision()
    return replace(decision, prior_of=facts.prior_of)


def _results_for_a_copy(rules: RuleSet, facts: StudyFacts) -> Decision:
    profile = rules.profiles.get(facts.copied_by)
    keys = tuple(_keys_of_study(facts))
    forwards = tuple(
        Forward(destination, RESTORED, Priority.ROUTINE, f"profile {facts.copied_by}", keys)
        for destination in (profile.results_to if profile else ())
    )
    return Decision(forwards=forwards, copied_by=facts.copied_by)


def decide_at_once(rules: RuleSet, instances: Sequence[tuple[str, InstanceFacts]]) -> Decision:
    """Return what is forwarded of instances before their study is complete.

    What a rule on instances drops, or cannot be judged to drop, is not; rules on series and study
    are asked when they are complete.

    Parameters
    ----------
    instances : sequence of (Series Instance UID, InstanceFacts)
    """
    forwards, problems = Forwards(rules), []
    by_series: dict[tuple[str, bool], list[InstanceFacts]] = {}
    for series_instance_uid, instance in instances:
        by_series.setdefault((series_instance_uid, instance.is_prior), []).append(instance)
    for (uid, is_prior), of_series in by_series.items():
        tried = rules.for_priors if is_prior else rules
        here = Instances(of_series)
        dropped = {
            instance.sop_instance_uid
            for rule in _rules_on(tried, Level.INSTANCE, drop=True)
            for outcome, of_these in here.judged(rule)
            if outcome.answer is not Answer.NO
            for instance in of_these
        }
        here = Instances([one for one in of_series if one.sop_instance_uid not in dropped])
        for rule in tried.at(Level.INSTANCE):
            if rule.forward is None or not rule.forward.at_once:
                continue
            for outcome, of_these in here.judged(rule):
                if outcome.answer is Answer.YES:
                    forwards.add(rule, of_these[0].attributes, _keys(uid, of_these))
                elif outcome.answer is Answer.ERROR:
                    first = of_these[0].sop_instance_uid
                    problems.append(Remark(rule.name, first, outcome.reason))
    return Decision(forwards=forwards.made(), problems=tuple(problems))


class _Deciding:
    """One decision in the making."""

    def __init__(self, rules: RuleSet, facts: StudyFacts) -> None:
        self._rules = rules
        self._facts = facts
        self._outcomes: list[RuleOutcome] = []
        self._problems: list[Remark] = []
        self._dropped: dict[str, list[InstanceKey]] = {}
        self._holds: list[Remark] = []
        self._notices: list[Remark] = []
        self._stops: list[Remark] = []
        self._waits: list[Wait] = []
        self._orders: list[Order] = []
        self._forwards = Forwards(rules)
        self._pending: dict[str, set[str]] = {}

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
            drops=tuple(
                Drop(rule.name, rule.drop, tuple(self._dropped[rule.name]))
                for rule in self._rules.rules
                if rule.name in self._dropped
            ),
            holds=() if self._facts.released else tuple(self._holds),
            notices=tuple(dict.fromkeys(self._notices)),
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
        """Return the study without what is dropped.

        Every rule that drops is asked, so that it does not matter which stands first; that one
        cannot be judged matters only where something is left.
        """
        study, uid = self._facts, self._facts.study_instance_uid
        dropping = _rules_on(self._rules, Level.STUDY, drop=True)
        attributes = study.attributes if dropping else {}
        if self._dropped_by(dropping, uid, attributes, _keys_of_study(study)):
            left = []
        else:
            left = [rest for series in study.series if (rest := self._left_of(series)).instances]
        if not left:
            self._problems.clear()
        return study.of_series(left)

    def _left_of(self, series: SeriesFacts) -> SeriesFacts:
        """Return a series without what is dropped of it; without instances if it all is."""
        uid, before = series.series_instance_uid, len(self._problems)
        dropping = _rules_on(self._rules, Level.SERIES, drop=True)
        attributes = {**series.attributes, **self._facts.of_study} if dropping else {}
        if self._dropped_by(dropping, uid, attributes, _keys(uid, series.instances)):
            return series.without_any()
        left = series.without(self._dropped_of(series))
        if not left.instances:
            del self._problems[before:]
        return left

    def _dropped_by(
        self,
        dropping: Sequence[Rule],
        subject: str,
        attributes: Attributes,
        keys: Sequence[InstanceKey],
    ) -> bool:
        """Return whether one of these rules drops a study or series; the first is noted."""
        tried = [self._tried(rule, subject, rule.when.check(attributes)) for rule in dropping]
        by = next((one.rule for one in tried if one.answer is Answer.YES), None)
        if by is None:
            self._problems += [_problem(one) for one in tried if one.answer is Answer.ERROR]
            return False
        self._dropped.setdefault(by.name, []).extend(keys)
        return True

    def _dropped_of(self, series: SeriesFacts) -> set[str]:
        """Return the instances of a series that rules drop, each noted by the first that does."""
        gone: set[str] = set()
        unjudged: list[tuple[RuleOutcome, list[InstanceFacts]]] = []
        instances = Instances(series.instances)
        for rule in _rules_on(self._rules, Level.INSTANCE, drop=True):
            dropped: list[InstanceFacts] = []
            for outcome, of_these in instances.judged(rule):
                tried = self._tried(rule, of_these[0].sop_instance_uid, outcome, len(of_these))
                if tried.answer is Answer.YES:
                    dropped += [one for one in of_these if one.sop_instance_uid not in gone]
                elif tried.answer is Answer.ERROR:
                    unjudged.append((tried, of_these))
            if dropped:
                keys = sorted(_keys(series.series_instance_uid, dropped))
                self._dropped.setdefault(rule.name, []).extend(keys)
                gone.update(one.sop_instance_uid for one in dropped)
        for tried, of_these in unjudged:
            if any(one.sop_instance_uid not in gone for one in of_these):
                self._problems.append(_problem(tried))
        return gone

    # ------------------------------------------------------------ the rest

    def _decide_series(self, study: StudyFacts, series: SeriesFacts) -> None:
        uid = series.series_instance_uid
        keys = _keys(uid, series.instances)
        rules = _rules_on(self._rules, Level.SERIES)
        if not rules:
            self._pending[uid] = set()
            return
        attributes = {**series.attributes, **study.of_study}
        awaited = {engine for rule in self._rules.rules for engine in rule.awaits}
        pending = self._pending[uid] = pending_engines(rules, awaited, series, attributes)
        attributes = {**attributes, **finding_attributes(rules, series.findings, pending)}
        by_engine: dict[str, Order] = {}
        answers = []
        for rule in rules:
            outcome = self._try(rule, uid, rule.when.check(attributes))
            answers.append((rule, outcome.answer))
            if outcome.answer is Answer.UNKNOWN:
                self._wait(rule, series)
            if outcome.answer is not Answer.YES:
                continue
            self._remark(rule, uid)
            if rule.stop:
                self._stops.append(Remark(rule.name, uid, "stop"))
            for wanted in rule.engines:
                made = Order(
                    uid,
                    wanted.engine,
                    wanted.parameters,
                    rule.destinations,
                    priority_of(rule, attributes),
                    rule.name,
                    outcome.reason,
                    rule.priors,
                    wanted.trial,
                    bool(wanted.trial and wanted.trial.takes(study.study_instance_uid)),
                )
                by_engine[wanted.engine] = _joined(by_engine.get(wanted.engine), made)
            self._forwards.add(rule, attributes, keys)
        may_begin = not_stopped(answers, rules)
        self._orders += [
            order
            for engine, order in by_engine.items()
            if may_begin is None or engine in may_begin or engine in series.findings
        ]

    def _decide_study(self, study: StudyFacts) -> None:
        rules = _rules_on(self._rules, Level.STUDY)
        if not rules:
            return
        attributes = {**study.attributes, **self._findings_of_study(study, rules)}
        for rule in rules:
            outcome = self._try(rule, study.study_instance_uid, rule.when.check(attributes))
            if outcome.answer is Answer.UNKNOWN:
                for series in study.series:
                    self._wait(rule, series)
            if outcome.answer is Answer.YES:
                self._remark(rule, study.study_instance_uid)
                self._forwards.add(rule, attributes, _keys_of_study(study))

    def _decide_instances(self, study: StudyFacts) -> None:
        rules = _rules_on(self._rules, Level.INSTANCE)
        for series in study.series:
            uid, instances = series.series_instance_uid, Instances(series.instances)
            for rule in rules:
                for outcome, of_these in instances.judged(rule):
                    first = of_these[0]
                    tried = self._try(rule, first.sop_instance_uid, outcome, len(of_these))
                    if tried.answer is Answer.YES:
                        self._remark(rule, uid)
                        self._forwards.add(rule, first.attributes, _keys(uid, of_these))

    def _findings_of_study(self, study: StudyFacts, rules: Sequence[Rule]) -> Attributes:
        """Return what was found on any series; pending while it is on one of them."""
        found: dict[str, tuple[str, ...]] = {}
        for series in study.series:
            pending = self._pending[series.series_instance_uid]
            for keyword, values in finding_attributes(rules, series.findings, pending).items():
                before = found.get(keyword, ())
                is_pending = (PENDING,) in (values, before)
                found[keyword] = (PENDING,) if is_pending else (*before, *values)
        return found

    # ------------------------------------------------------------ notes

    def _tried(self, rule: Rule, subject: str, outcome: Outcome, count: int = 1) -> RuleOutcome:
        tried = RuleOutcome(rule, subject, outcome, count)
        self._outcomes.append(tried)
        return tried

    def _try(self, rule: Rule, subject: str, outcome: Outcome, count: int = 1) -> RuleOutcome:
        tried = self._tried(rule, subject, outcome, count)
        if tried.answer is Answer.ERROR:
            self._problems.append(_problem(tried))
        return tried

    def _remark(self, rule: Rule, subject: str) -> None:
        if rule.hold:
            self._holds.append(Remark(rule.name, subject, rule.hold))
        if rule.notify:
            self._notices.append(Remark(rule.name, subject, rule.notify))

    def _wait(self, rule: Rule, series: SeriesFacts) -> None:
        uid = series.series_instance_uid
        self._waits += [
            Wait(uid, engine, rule.name) for engine in sorted(rule.awaits & self._pending[uid])
        ]


def _rules_on(rules: RuleSet, level: Level, *, drop: bool = False) -> list[Rule]:
    return [rule for rule in rules.at(level) if bool(rule.drop) is drop]


def _problem(tried: RuleOutcome) -> Remark:
    return Remark(tried.rule.name, tried.subject, tried.reason)


def _joined(first: Order | None, other: Order) -> Order:
    if first is None:
        return other
    return replace(
        first,
        parameters=first.parameters or other.parameters,
        destinations=tuple(dict.fromkeys(first.destinations + other.destinations)),
        priority=min(first.priority, other.priority),
        priors=first.priors or other.priors,
        trial=first.trial or other.trial,
        is_tried=first.is_tried if first.trial else other.is_tried,
    )


def _keys(series_instance_uid: str, instances: Iterable[InstanceFacts]) -> list[InstanceKey]:
    return [InstanceKey(series_instance_uid, one.sop_instance_uid, one.digest) for one in instances]


def _keys_of_study(study: StudyFacts) -> list[InstanceKey]:
    return [
        key
        for series in study.series
        for key in _keys(series.series_instance_uid, series.instances)
    ]
