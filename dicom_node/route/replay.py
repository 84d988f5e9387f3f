"""What other rules would have done: the same facts, decided twice, and the difference counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from dicom_node.conditions import Answer
from dicom_node.route.decide import decide
from dicom_node.route.decision import Decision, record_of
from dicom_node.route.facts import StudyFacts
from dicom_node.route.rules import RuleSet


@dataclass
class RuleDifference:
    """The studies that one rule matches: before, now, and which it gained and lost."""

    before: int = 0
    now: int = 0
    gained: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


@dataclass
class Load:
    """How much work something gets, before and now."""

    before: int = 0
    now: int = 0


@dataclass
class Replay:
    """What two rule sets make of the same studies."""

    studies: int = 0
    instances: int = 0
    changed: list[str] = field(default_factory=list)
    """The studies for which something else follows."""
    rules: dict[str, RuleDifference] = field(default_factory=dict)
    engines: dict[str, Load] = field(default_factory=dict)
    """Jobs."""
    destinations: dict[str, Load] = field(default_factory=dict)
    """Instances forwarded, and results of jobs."""
    parked: Load = field(default_factory=Load)
    dropped: Load = field(default_factory=Load)
    """Instances."""


def replay(before: RuleSet, now: RuleSet, studies: Iterable[StudyFacts]) -> Replay:
    """Return what `now` changes against `before` on studies."""
    found = Replay(rules={name: RuleDifference() for name in (*before.names, *now.names)})
    for facts in studies:
        found.studies += 1
        found.instances += sum(len(series.instances) for series in facts.series)
        old, new = decide(before, facts), decide(now, facts)
        if record_of(old) != record_of(new):
            found.changed.append(facts.study_instance_uid)
        _count_rules(found, facts.study_instance_uid, old, new)
        _count_load(found, old, new)
    return found


def _count_rules(found: Replay, uid: str, old: Decision, new: Decision) -> None:
    matched_before, matches_now = _matched(old), _matched(new)
    for name in matched_before | matches_now:
        difference = found.rules[name]
        difference.before += name in matched_before
        difference.now += name in matches_now
        if name not in matched_before:
            difference.gained.append(uid)
        elif name not in matches_now:
            difference.lost.append(uid)


def _count_load(found: Replay, old: Decision, new: Decision) -> None:
    _add(found.engines, _jobs(old), _jobs(new))
    _add(found.destinations, _sent(old), _sent(new))
    found.parked.before += old.is_parked
    found.parked.now += new.is_parked
    found.dropped.before += sum(len(drop.instances) for drop in old.drops)
    found.dropped.now += sum(len(drop.instances) for drop in new.drops)


def _jobs(decision: Decision) -> Counter[str]:
    """Return how many jobs each engine gets, candidates that are tried too."""
    jobs = Counter(order.engine for order in decision.orders)
    jobs.update(order.trial.engine for order in decision.orders if order.trial and order.is_tried)
    return jobs


def _sent(decision: Decision) -> Counter[str]:
    """Return how much each destination gets: originals, and results of jobs."""
    sent = Counter[str]()
    for forward in decision.forwards:
        sent[forward.destination] += len(forward.instances)
    for order in decision.orders:
        sent.update(order.destinations)
    return sent


def _add(loads: dict[str, Load], before: Counter[str], now: Counter[str]) -> None:
    for name in before | now:
        load = loads.setdefault(name, Load())
        load.before += before[name]
        load.now += now[name]


def _matched(decision: Decision) -> set[str]:
    return {one.rule.name for one in decision.outcomes if one.answer is Answer.YES}
