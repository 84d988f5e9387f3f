"""What is wrong with rules that have no mistake: they never match, are shadowed, or contradict.

How it is found: tests are tried, by the code that tries them live, on every value that could make a
difference: each value that one of the conditions names, the numbers just beside each bound, a value
that none names, and none at all. What no such value fulfils is never fulfilled; where every value
that fulfils one condition fulfils another too, the one implies the other. A regular expression is
only tried on values that others name, so what hangs on one is not claimed.

Only conditions that must all hold are looked at; what stands under `any` and `not` can make a
finding miss, never a finding be wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from pydicom.datadict import dictionary_VM, tag_for_keyword

from dicom_node.conditions import All, Answer, Condition
from dicom_node.conditions.keywords import Kind, kind_of
from dicom_node.route.rules import Level, Rule, RuleSet

_NUMBERS = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_PATTERN = re.compile(r"/.+/")
_OTHER = "~ none of these ~"
_BESIDE = 1e-6
_SINGLE = frozenset(
    {"instance_count", "slice_count", "series_count", "completeness", "peer", "prior"}
)


@dataclass(frozen=True)
class Smell:
    """What a person should look at."""

    rules: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        return f"{', '.join(self.rules)}: {self.message}"


def lint(rules: RuleSet) -> list[Smell]:
    """Return what looks wrong, in the order of the rules."""
    smells = [smell for rule in rules.rules for smell in _never(rule)]
    for first, other in combinations(rules.rules, 2):
        smells += _shadowed(first, other)
        smells += _shadowed(other, first)
        smells += _repeated(first, other)
        smells += _contradicting(first, other)
    return smells


def _never(rule: Rule) -> Iterator[Smell]:
    """Tell of conditions of one rule that cannot hold together."""
    for keyword, conditions in _by_keyword(rule.when).items():
        if _is_single(keyword, rule.level) and not _together(keyword, conditions):
            wanted = " and ".join(" or ".join(one.tests) for one in conditions)
            yield Smell((rule.name,), f"never matches: {keyword} cannot be {wanted}")


def _shadowed(rule: Rule, over: Rule) -> Iterator[Smell]:
    """Tell of a rule whose every match another one drops or holds."""
    if not (over.drop or over.hold) or rule.drop or rule is over:
        return
    if rule.hold and over.hold:
        return
    covers = over.level is rule.level
    if covers and _implies(rule.when, over.when, rule.level):
        what = "drops" if over.drop else "holds"
        yield Smell((rule.name, over.name), f"{over.name} {what} whatever {rule.name} matches")


def _repeated(first: Rule, other: Rule) -> Iterator[Smell]:
    """Tell of a rule that adds nothing to another one."""
    if first.level is not other.level or first.drop or other.drop:
        return
    for rule, over in ((other, first), (first, other)):
        does = _does(rule)
        if does and does <= _does(over) and _implies(rule.when, over.when, rule.level):
            message = f"{rule.name} adds nothing: {over.name} does the same for all it matches"
            yield Smell((rule.name, over.name), message)
            return


def _contradicting(first: Rule, other: Rule) -> Iterator[Smell]:
    """Tell of rules that want different things of the same series."""
    if first.level is not other.level or not _meet(first, other):
        return
    mine = {order.engine: order.parameters for order in first.engines}
    trials = {order.engine: order.trial for order in first.engines}
    for order in other.engines:
        parameters, trial = mine.get(order.engine), trials.get(order.engine)
        if trial and order.trial and trial != order.trial:
            yield Smell(
                (first.name, other.name),
                f"try something else beside {order.engine} on the same series; "
                f"that of {first.name} wins",
            )
        if parameters and order.parameters and parameters != order.parameters:
            yield Smell(
                (first.name, other.name),
                f"run {order.engine} with other parameters on the same series; "
                f"those of {first.name} win",
            )
    if first.forward and other.forward and first.forward.profile != other.forward.profile:
        both = set(first.forward.destinations) & set(other.forward.destinations)
        if both and _same(first.when, other.when, first.level):
            names = ", ".join(sorted(both))
            message = f"send the same instances to {names} by different profiles"
            yield Smell((first.name, other.name), message)


def _does(rule: Rule) -> set[tuple[str, ...]]:
    """Return what a rule does, so that it can be compared."""
    done: set[tuple[str, ...]] = set()
    for order in rule.engines:
        words = [f"{name}={value}" for name, value in sorted(order.parameters.items())]
        done |= {("run", order.engine, to, *words) for to in rule.destinations}
        if order.trial:
            done.add(("try", order.engine, str(order.trial)))
    if rule.forward:
        done |= {("forward", to, rule.forward.profile) for to in rule.forward.destinations}
    for action in ("hold", "notify"):
        if getattr(rule, action):
            done.add((action, getattr(rule, action)))
    if rule.stop:
        done.add(("stop",))
    if rule.priors:
        done.add(("priors", str(rule.priors)))
    return done


def _meet(first: Rule, other: Rule) -> bool:
    """Return whether both could match the same, as far as can be told."""
    mine, its = _by_keyword(first.when), _by_keyword(other.when)
    return all(
        _together(keyword, [*mine[keyword], *its[keyword]])
        for keyword in mine.keys() & its.keys()
        if _is_single(keyword, first.level)
    )


def _same(first: All, other: All, level: Level) -> bool:
    return _implies(first, other, level) and _implies(other, first, level)


def _implies(first: All, other: All, level: Level) -> bool:
    """Return whether `other` certainly holds wherever `first` does."""
    mine = _by_keyword(first)
    for part in other.parts:
        if part in first.parts:
            continue
        if not isinstance(part, Condition) or not _is_single(part.keyword, level):
            return False
        own = mine.get(part.keyword, [])
        if not any(_implied(one, part) for one in own):
            return False
    return True


def _implied(one: Condition, other: Condition) -> bool:
    if any(_PATTERN.fullmatch(test) for test in one.tests) and not set(one.tests) <= set(
        other.tests
    ):
        return False
    values = _values(one.keyword, (one, other))
    return all(
        _answer(other, value) is Answer.YES for value in values if _answer(one, value) is Answer.YES
    )


def _together(keyword: str, conditions: Sequence[Condition]) -> bool:
    """Return whether one value could fulfil all of these."""
    patterns = [c for c in conditions if any(_PATTERN.fullmatch(test) for test in c.tests)]
    if len(patterns) == len(conditions) and len(patterns) > 1:
        return True  # two regular expressions may well meet somewhere
    values = _values(keyword, conditions)
    if any(all(_answer(one, value) is Answer.YES for one in conditions) for value in values):
        return True
    # a text that a regular expression finds may be one that nobody has named
    rest = [one for one in conditions if one not in patterns]
    return bool(patterns) and all(_answer(one, _OTHER) is Answer.YES for one in rest)


def _answer(condition: Condition, value: str | None) -> Answer:
    return condition.check({condition.keyword: () if value is None else (value,)}).answer


def _values(keyword: str, conditions: Sequence[Condition]) -> list[str | None]:
    """Return every value that could tell these conditions apart."""
    values: dict[str | None, None] = {None: None}
    measured = kind_of(keyword) is Kind.NUMBER
    for test in (test for condition in conditions for test in condition.tests):
        if measured:
            for number in map(float, _NUMBERS.findall(test)):
                beside = (number - 1, number - _BESIDE, number, number + _BESIDE, number + 1)
                values |= dict.fromkeys(f"{one:.9f}" for one in beside)
        elif kind_of(keyword) in (Kind.DATE, Kind.TIME, Kind.AGE):
            values |= dict.fromkeys(part.strip(" <>=") for part in test.split(".."))
        elif not _PATTERN.fullmatch(test):
            values[test] = None
    values[_OTHER] = None
    return list(values)


def _by_keyword(when: All) -> Mapping[str, list[Condition]]:
    found: dict[str, list[Condition]] = {}
    for part in when.parts:
        if isinstance(part, Condition):
            found.setdefault(part.keyword, []).append(part)
        elif isinstance(part, All):
            for keyword, conditions in _by_keyword(part).items():
                found.setdefault(keyword, []).extend(conditions)
    return found


def _is_single(keyword: str, level: Level) -> bool:
    """Return whether an attribute has one value at most."""
    if level is Level.STUDY and keyword not in ("series_count", "instance_count", "completeness"):
        return False  # that of each series
    if keyword in _SINGLE:
        return True
    tag = tag_for_keyword(keyword)
    return tag is not None and dictionary_VM(tag) == "1"
