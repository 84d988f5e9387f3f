"""rules.yaml: read into a `RuleSet`, every mistake at once, each with its line."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from dicom_node.coerce.profile import Profile
from dicom_node.coerce.profiles import validate_profiles
from dicom_node.conditions import All, parse_rule_conditions
from dicom_node.config.yaml_lines import KeyPath, YamlFile, load_yaml, raise_mistakes
from dicom_node.model import Priority
from dicom_node.priors import PriorsWanted
from dicom_node.route.priors_order import read_priors
from dicom_node.route.rules import EngineOrder, ForwardOrder, Level, Rule, RuleSet
from dicom_node.route.trial_order import TRIAL_KEYS, read_trial

_KEYS = (
    "name",
    "level",
    "when",
    "engines",
    "destinations",
    "priors",
    "forward",
    "drop",
    "hold",
    "notify",
    "stop",
    "priority",
)
_FORWARD_KEYS = ("to", "profile", "at")
_ACTIONS = ("engines", "forward", "drop", "hold", "notify", "stop")
_OF_MANY = ("slice_count", "series_count", "completeness")
"""Keywords that an instance on its own does not have."""
_REQUESTED = "requested"


@dataclass(frozen=True)
class ParameterRange:
    """What an engine says of one of its parameters."""

    minimum: float
    maximum: float


@dataclass(frozen=True)
class EngineWords:
    """What rules may say of an engine."""

    parameters: Mapping[str, ParameterRange] = field(default_factory=dict)
    facts: frozenset[str] | None = None
    """What can be asked of its findings: `grade`, `volume_ml.right_lung`; None if not known."""
    kind: str = ""
    """segmentation, classification or quality; empty if not known."""


@dataclass(frozen=True)
class Names:
    """What rules may name."""

    engines: Mapping[str, EngineWords]
    destinations: Collection[str]
    not_admitted: Collection[str] = ()
    """Destinations that a C-MOVE to us would be of no use to: they may not send."""
    not_called: Collection[str] = ()
    """Destinations that can be sent to, but asked for nothing: they have no host and port."""


def load_rules(file: Path, names: Names, text: str | None = None) -> RuleSet:
    """Return the rules of `file`, or those of a text that once stood in it.

    Raises
    ------
    ConfigError
        With every mistake, each with file, line and key.
    """
    loaded = load_yaml(file, text)
    rules = validate_rules(loaded, names)
    raise_mistakes([loaded])
    return rules


def validate_rules(loaded: YamlFile, names: Names) -> RuleSet:
    """Return the rules without a mistake; the mistakes are noted in `loaded`."""
    if not isinstance(loaded.data, dict) or not isinstance(loaded.data.get("rules"), list):
        loaded.mistake((), "must have the key `rules` with a list of rules")
        return RuleSet()
    for key in sorted(loaded.data.keys() - {"rules", "profiles"}):
        loaded.mistake((key,), "no such key")
    profiles = _profiles(loaded, names)
    places: dict[str, KeyPath] = {}
    rules = []
    for i, written in enumerate(loaded.data["rules"]):
        before = len(loaded.mistakes)
        rule = _RuleReader(loaded, ("rules", i), written, names, _written_profiles(loaded)).rule()
        if rule is not None and rule.name in places:
            loaded.mistake(("rules", i, "name"), f"another rule is called {rule.name}")
        if rule is not None and len(loaded.mistakes) == before:
            rules.append(rule)
            places[rule.name] = ("rules", i)
    _check_order(loaded, rules, places)
    return RuleSet(tuple(rules), profiles, loaded.text)


def _profiles(loaded: YamlFile, names: Names) -> dict[str, Profile]:
    """Return the profiles without a mistake."""
    if "profiles" not in loaded.data:
        return {}
    profiles = validate_profiles(loaded, loaded.data["profiles"], ("profiles",))
    for name, profile in profiles.items():
        for destination in profile.results_to:
            if destination not in names.destinations:
                have = ", ".join(sorted(names.destinations)) or "none"
                loaded.mistake(
                    ("profiles", name, "results_to"),
                    f"there is no destination called {destination}; there are: {have}",
                )
    return profiles


def _written_profiles(loaded: YamlFile) -> Collection[str]:
    """Return the names of all profiles, with or without mistakes."""
    written = loaded.data.get("profiles")
    return [str(name) for name in written] if isinstance(written, dict) else ()


def _check_order(loaded: YamlFile, rules: list[Rule], places: Mapping[str, KeyPath]) -> None:
    """Note engines that would wait for one another."""
    waits: dict[str, set[str]] = {}
    for rule in rules:
        for order in rule.engines:
            waits.setdefault(order.engine, set()).update(rule.awaits)
    try:
        TopologicalSorter(waits).prepare()
    except CycleError as error:
        circle = error.args[1]
        rule = next(r for r in rules if r.awaits & set(circle) and r.engines)
        loaded.mistake(
            (*places[rule.name], "when"),
            f"engines would wait for one another: {' -> '.join(circle)}",
        )


class _RuleReader:
    """Reads one rule, and notes its mistakes."""

    def __init__(
        self,
        loaded: YamlFile,
        path: KeyPath,
        written: Any,
        names: Names,
        profiles: Collection[str],
    ) -> None:
        self._loaded = loaded
        self._path = path
        self._written = written
        self._names = names
        self._profiles = profiles

    def rule(self) -> Rule | None:
        written = self._written
        if not isinstance(written, dict):
            self._mistake((), "must be a mapping with name, when and what follows")
            return None
        for key in sorted(written.keys() - set(_KEYS)):
            self._mistake((key,), f"no such key; a rule has {', '.join(_KEYS)}")
        rule = Rule(
            name=self._name(),
            when=self._when(),
            level=self._level(),
            engines=self._engines(),
            destinations=self._destinations(),
            priors=self._priors(),
            forward=self._forward(),
            drop=self._reason("drop"),
            hold=self._reason("hold"),
            notify=self._reason("notify"),
            stop=self._flag("stop"),
            priority=self._priority(),
        )
        self._check_whole(rule)
        return rule

    def _mistake(self, path: KeyPath, message: str) -> None:
        self._loaded.mistake((*self._path, *path), message)

    def _name(self) -> str:
        name = self._written.get("name")
        if isinstance(name, str) and name:
            return name
        self._mistake((), "needs a name")
        return ""

    def _when(self) -> All:
        written = self._written.get("when")
        if written is None:
            where: KeyPath = ("when",) if "when" in self._written else ()
            self._mistake(where, "needs `when`; write `when: {}` for a rule that always matches")
            return All(())
        when, mistakes = parse_rule_conditions(written)
        for path, message in mistakes:
            self._mistake(("when", *path), message)
        return when

    def _level(self) -> Level:
        written = self._written.get("level", Level.SERIES.value)
        if written in [level.value for level in Level]:
            return Level(written)
        self._mistake(("level",), f"must be one of {', '.join(Level)}")
        return Level.SERIES

    def _engines(self) -> tuple[EngineOrder, ...]:
        if "engines" not in self._written:
            return ()
        orders = []
        for path, one in self._listed(("engines",), self._written["engines"], "engine"):
            parameters: Any = {}
            if isinstance(one, dict) and len(one) == 1:
                [(one, parameters)] = one.items()
            if self._known(path, one, "engine", self._names.engines):
                written = {} if parameters is None else parameters
                orders.append(self._engine((*path, one), one, written))
        return tuple(orders)

    def _engine(self, path: KeyPath, engine: str, written: Any) -> EngineOrder:
        if not isinstance(written, dict):
            self._mistake(path, "must be a mapping of parameters to numbers")
            return EngineOrder(engine)
        kind = self._names.engines[engine].kind
        candidates = {
            name
            for name, words in self._names.engines.items()
            if name != engine and (not kind or not words.kind or words.kind == kind)
        }
        trial = read_trial(
            written,
            lambda where, message: self._mistake((*path, *where), message),
            candidates,
            lambda where, one, said: self._parameters((*path, *where), one, said),
        )
        own = {key: value for key, value in written.items() if key not in TRIAL_KEYS}
        return EngineOrder(engine, self._parameters(path, engine, own), trial)

    def _parameters(self, path: KeyPath, engine: str, written: Any) -> dict[str, float]:
        known = self._names.engines[engine].parameters
        if not isinstance(written, dict):
            self._mistake(path, "must be a mapping of parameters to numbers")
            return {}
        checked = {}
        for name, value in written.items():
            limits = known.get(name)
            if limits is None:
                have = ", ".join(sorted(known)) or "none"
                self._mistake((*path, name), f"{engine} has no such parameter; it has: {have}")
            elif isinstance(value, bool) or not isinstance(value, int | float):
                self._mistake((*path, name), "must be a number")
            elif not limits.minimum <= value <= limits.maximum:
                low, high = limits.minimum, limits.maximum
                self._mistake((*path, name), f"must be between {low:g} and {high:g}")
            else:
                checked[str(name)] = float(value)
        return checked

    def _destinations(self) -> tuple[str, ...]:
        if "engines" not in self._written and "destinations" not in self._written:
            return ()
        return self._peers(("destinations",), self._written.get("destinations"))

    def _peers(self, path: KeyPath, written: Any) -> tuple[str, ...]:
        known = self._names.destinations
        return tuple(
            one
            for where, one in self._listed(path, written, "destination")
            if self._known(where, one, "destination", known)
        )

    def _priors(self) -> PriorsWanted | None:
        if "priors" not in self._written:
            return None
        if "engines" not in self._written:
            self._mistake(("priors",), "nobody waits for them; priors needs `engines`")
        return read_priors(
            self._written["priors"],
            lambda path, message: self._mistake(("priors", *path), message),
            set(self._names.destinations) - set(self._names.not_called),
            self._names.not_admitted,
        )

    def _forward(self) -> ForwardOrder | None:
        if "forward" not in self._written:
            return None
        written = self._written["forward"]
        if not isinstance(written, dict):
            return ForwardOrder(self._peers(("forward",), written))
        for key in sorted(written.keys() - set(_FORWARD_KEYS)):
            self._mistake(("forward", key), f"no such key; forward has {', '.join(_FORWARD_KEYS)}")
        profile = written.get("profile", "")
        if profile:
            self._known(("forward", "profile"), profile, "profile", self._profiles)
        at = written.get("at", "complete")
        if at not in ("complete", "once"):
            self._mistake(("forward", "at"), "must be complete or once")
        if at == "once" and self._written.get("level") != Level.INSTANCE.value:
            message = "once needs `level: instance`: a series is judged when it is complete"
            self._mistake(("forward", "at"), message)
        return ForwardOrder(
            self._peers(("forward", "to"), written.get("to")), str(profile), at == "once"
        )

    def _reason(self, key: str) -> str:
        if key not in self._written:
            return ""
        written = self._written[key]
        if isinstance(written, str) and written.strip():
            return written.strip()
        self._mistake((key,), "needs a text that says why: it stands in every explanation")
        return ""

    def _flag(self, key: str) -> bool:
        written = self._written.get(key, False)
        if not isinstance(written, bool):
            self._mistake((key,), "must be true or false")
        return written is True

    def _priority(self) -> Priority | None:
        written = str(self._written.get("priority", Priority.ROUTINE.name)).lower()
        if written == _REQUESTED:
            return None
        if written.upper() in Priority.__members__:
            return Priority[written.upper()]
        allowed = ", ".join([*(p.name.lower() for p in Priority), _REQUESTED])
        self._mistake(("priority",), f"must be one of {allowed}")
        return Priority.ROUTINE

    def _check_whole(self, rule: Rule) -> None:
        """Note what does not fit together."""
        if not any(self._written.get(key, False) is not False for key in _ACTIONS):
            self._mistake((), f"does nothing; a rule has one of {', '.join(_ACTIONS)}")
        if "destinations" in self._written and "engines" not in self._written:
            message = "destinations are of an engine's results; originals go by `forward`"
            self._mistake(("destinations",), message)
        if rule.level is not Level.SERIES:
            for key in ("engines", "stop"):
                if key in self._written:
                    self._mistake((key,), f"{key} needs `level: series`")
        if rule.level is Level.INSTANCE:
            if rule.hold:
                self._mistake(("hold",), "hold needs `level: series` or `level: study`")
            if rule.awaits:
                self._mistake(("when",), "an engine finds something on a series, not an instance")
            for keyword in dict.fromkeys(rule.when.keywords()):
                if keyword in _OF_MANY:
                    self._mistake(("when", keyword), f"an instance has no {keyword} of its own")
        if rule.drop and len([key for key in _ACTIONS if key in self._written]) > 1:
            self._mistake(("drop",), "what is dropped can have nothing else done to it")
        if rule.drop and rule.awaits:
            self._mistake(("drop",), "what an engine has run on is not dropped; write `stop: true`")
        if rule.stop and not rule.awaits:
            message = "stop needs a condition on a finding, such as cxr_quality.grade"
            self._mistake(("stop",), message)
        self._check_findings(rule)

    def _check_findings(self, rule: Rule) -> None:
        for finding in rule.finding_keywords():
            keyword = ".".join(filter(None, (finding.engine, finding.fact, finding.label)))
            if not self._known(("when", keyword), finding.engine, "engine", self._names.engines):
                continue
            facts = self._names.engines[finding.engine].facts
            asked = keyword.removeprefix(f"{finding.engine}.")
            if facts is not None and asked not in facts:
                have = ", ".join(sorted(facts))
                self._mistake(
                    ("when", keyword), f"{finding.engine} finds no {asked}; it has {have}"
                )

    def _listed(self, path: KeyPath, written: Any, what: str) -> list[tuple[KeyPath, Any]]:
        """Return the elements of a list with their paths; a single one needs no list."""
        if isinstance(written, str):
            written = [written]
        if isinstance(written, list) and written:
            return [((*path, i), one) for i, one in enumerate(written)]
        self._mistake(path, f"needs at least one {what}")
        return []

    def _known(self, path: KeyPath, name: Any, what: str, known: Collection[str]) -> bool:
        if isinstance(name, str) and name in known:
            return True
        have = ", ".join(sorted(known)) or "none"
        self._mistake(path, f"there is no {what} called {name}; there are: {have}")
        return False
