"""Rules: which engines run on a series, and where their results go. Pure; read once at start.

Every rule is tried on every series of a complete study. All that match apply; if two ask for the
same engine on the same series, it runs once, for the destinations of both, at the more urgent
priority, in the name of the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dicom_node.conditions import Condition, Outcome, parse_conditions
from dicom_node.config.yaml_lines import KeyPath, YamlFile, load_yaml, raise_mistakes
from dicom_node.model import Attributes, Priority

_KEYS = frozenset({"name", "when", "engines", "destinations", "priority"})


@dataclass(frozen=True)
class Rule:
    """Conditions on a series, and what follows where all of them hold."""

    name: str
    when: tuple[Condition, ...]
    engines: tuple[str, ...]
    destinations: tuple[str, ...]
    priority: Priority = Priority.ROUTINE


@dataclass(frozen=True)
class RuleOutcome:
    """What a rule said of a series, condition by condition."""

    rule: Rule
    outcomes: tuple[Outcome, ...]

    @property
    def matches(self) -> bool:
        return all(outcome.holds for outcome in self.outcomes)

    @property
    def reason(self) -> str:
        """Why it matched, or every condition that did not hold."""
        relevant = [o.reason for o in self.outcomes if o.holds == self.matches]
        return "; ".join(relevant) or "it has no conditions"


@dataclass(frozen=True)
class Order:
    """One engine to run on one series."""

    rule: str
    engine: str
    destinations: tuple[str, ...]
    priority: Priority
    reason: str


def try_rules(rules: Sequence[Rule], attributes: Attributes) -> list[RuleOutcome]:
    """Return what each rule says of a series with these attributes."""
    return [
        RuleOutcome(rule, tuple(condition.check(attributes) for condition in rule.when))
        for rule in rules
    ]


def orders(outcomes: Sequence[RuleOutcome]) -> list[Order]:
    """Return the engines to run, each once."""
    by_engine: dict[str, Order] = {}
    for outcome in outcomes:
        if not outcome.matches:
            continue
        rule = outcome.rule
        for engine in rule.engines:
            first = by_engine.get(engine)
            if first is None:
                by_engine[engine] = Order(
                    rule.name, engine, rule.destinations, rule.priority, outcome.reason
                )
                continue
            by_engine[engine] = replace(
                first,
                destinations=tuple(dict.fromkeys(first.destinations + rule.destinations)),
                priority=min(first.priority, rule.priority),
            )
    return list(by_engine.values())


def load_rules(
    file: Path, engines: Mapping[str, object], destinations: Mapping[str, object]
) -> tuple[Rule, ...]:
    """Return the rules of `file`, in their order.

    Parameters
    ----------
    engines, destinations : mapping
        Their names; a rule that names another is a mistake.

    Raises
    ------
    ConfigError
        With every mistake, each with file, line and key.
    """
    loaded = load_yaml(file)
    rules = validate_rules(loaded, engines, destinations)
    raise_mistakes([loaded])
    return rules


def validate_rules(
    loaded: YamlFile, engines: Mapping[str, object], destinations: Mapping[str, object]
) -> tuple[Rule, ...]:
    """Return the rules without a mistake; the mistakes are noted in `loaded`."""
    if not isinstance(loaded.data, dict) or not isinstance(loaded.data.get("rules"), list):
        loaded.mistake((), "must have the key `rules` with a list of rules")
        return ()
    for key in loaded.data.keys() - {"rules"}:
        loaded.mistake((key,), "no such key")
    seen: set[str] = set()
    rules = []
    for i, written in enumerate(loaded.data["rules"]):
        before = len(loaded.mistakes)
        rule = _rule(loaded, ("rules", i), written, engines, destinations)
        if rule is not None and rule.name in seen:
            loaded.mistake(("rules", i, "name"), f"another rule is called {rule.name}")
        if rule is not None and len(loaded.mistakes) == before:
            rules.append(rule)
            seen.add(rule.name)
    return tuple(rules)


def _rule(
    loaded: YamlFile,
    path: KeyPath,
    written: Any,
    engines: Mapping[str, object],
    destinations: Mapping[str, object],
) -> Rule | None:
    if not isinstance(written, dict):
        loaded.mistake(path, "must be a mapping with name, when, engines and destinations")
        return None
    for key in written.keys() - _KEYS:
        loaded.mistake((*path, key), f"no such key; a rule has {', '.join(sorted(_KEYS))}")
    name = written.get("name")
    if not isinstance(name, str) or not name:
        loaded.mistake(path, "needs a name")
        name = ""
    if written.get("when") is None:
        where = (*path, "when") if "when" in written else path
        loaded.mistake(where, "needs `when`; write `when: {}` for a rule that always matches")
    when, mistakes = parse_conditions({} if written.get("when") is None else written["when"])
    for keyword, message in mistakes:
        loaded.mistake((*path, "when", keyword) if keyword else (*path, "when"), message)
    priority = str(written.get("priority", "routine")).upper()
    if priority not in Priority.__members__:
        allowed = ", ".join(p.name.lower() for p in Priority)
        loaded.mistake((*path, "priority"), f"must be one of {allowed}")
        priority = "ROUTINE"
    return Rule(
        name=name,
        when=when,
        engines=_names(loaded, (*path, "engines"), written, "engine", engines),
        destinations=_names(loaded, (*path, "destinations"), written, "destination", destinations),
        priority=Priority[priority],
    )


def _names(
    loaded: YamlFile,
    path: KeyPath,
    written: Mapping[str, Any],
    what: str,
    known: Mapping[str, object],
) -> tuple[str, ...]:
    names = written.get(str(path[-1]))
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, list) or not names:
        loaded.mistake(path, f"needs at least one {what}")
        return ()
    for i, name in enumerate(names):
        if not isinstance(name, str) or name not in known:
            have = ", ".join(sorted(known)) or "none"
            loaded.mistake((*path, i), f"there is no {what} called {name}; there are: {have}")
    return tuple(str(name) for name in names)
