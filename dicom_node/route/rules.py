"""Rules as values, and as they are written in rules.yaml; read and checked as a whole.

config/rules.yaml and docs/rules.md explain every key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property

from dicom_node.coerce.profile import Profile
from dicom_node.conditions import All
from dicom_node.conditions.keywords import FindingKeyword
from dicom_node.model import Priority
from dicom_node.priors import PriorsWanted
from dicom_node.trials import TrialWanted

PRIOR = "prior"
"""The keyword by which a rule says that it is meant for prior studies, or for all but these."""


class Level(StrEnum):
    """On what a rule is tried."""

    INSTANCE = "instance"
    SERIES = "series"
    STUDY = "study"


@dataclass(frozen=True)
class EngineOrder:
    """An engine that a rule runs, with the parameters that differ from its own."""

    engine: str
    parameters: Mapping[str, float] = field(default_factory=dict)
    trial: TrialWanted | None = None
    """Another version that is tried beside it."""


@dataclass(frozen=True)
class ForwardOrder:
    """Where a rule sends the originals."""

    destinations: tuple[str, ...]
    profile: str = ""
    """Of `profiles:`, by which they are coerced or de-identified; empty sends them as they came."""
    at_once: bool = False
    """Each instance as it comes, not first when the study is complete."""


@dataclass(frozen=True)
class Rule:
    """Conditions, and what follows where they hold."""

    name: str
    when: All = field(default_factory=lambda: All(()))
    level: Level = Level.SERIES
    engines: tuple[EngineOrder, ...] = ()
    destinations: tuple[str, ...] = ()
    """Of the engines' results."""
    priors: PriorsWanted | None = None
    """Prior studies for which the engines wait."""
    forward: ForwardOrder | None = None
    drop: str = ""
    """The reason why it goes nowhere; empty does not drop."""
    hold: str = ""
    """The reason why the study waits for a person."""
    notify: str = ""
    stop: bool = False
    """No engine begins on this series any more."""
    priority: Priority | None = Priority.ROUTINE
    """None takes what (0040,1003) Requested Procedure Priority asks for."""

    @cached_property
    def keywords(self) -> frozenset[str]:
        """What its conditions ask for, and what its priority may be read from."""
        asked = frozenset(self.when.keywords())
        return asked if self.priority is not None else asked | {"RequestedProcedurePriority"}

    @property
    def awaits(self) -> frozenset[str]:
        """The engines on whose findings it depends."""
        return frozenset(finding.engine for finding in self.finding_keywords())

    def finding_keywords(self) -> Iterator[FindingKeyword]:
        for keyword in self.when.keywords():
            finding = FindingKeyword.of(keyword)
            if finding is not None:
                yield finding

    @property
    def actions(self) -> tuple[str, ...]:
        """What it does, in words."""
        runs = [f"run {order.engine}" for order in self.engines]
        runs += [f"try {o.trial.engine} beside {o.engine}" for o in self.engines if o.trial]
        sends = [f"forward to {name}" for name in self.forward.destinations] if self.forward else []
        said = {"drop": self.drop, "hold": self.hold, "notify": self.notify, "stop": self.stop}
        return (*runs, *sends, *(name for name, on in said.items() if on))


@dataclass(frozen=True)
class RuleSet:
    """All rules, in their order."""

    rules: tuple[Rule, ...] = ()
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    """How originals are changed before they are forwarded."""
    text: str = field(default="", compare=False)
    """As it was written, for the record."""

    @property
    def for_priors(self) -> RuleSet:
        """The rules that apply to prior studies: those that ask whether it is one."""
        asking = tuple(rule for rule in self.rules if PRIOR in rule.when.keywords())
        return replace(self, rules=asking)

    @property
    def forwards_at_once(self) -> bool:
        return any(rule.forward is not None and rule.forward.at_once for rule in self.rules)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(rule.name for rule in self.rules)

    def at(self, level: Level) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.level is level)

    @property
    def keywords(self) -> frozenset[str]:
        """What the conditions ask of headers, and what a priority may be read from."""
        return frozenset(keyword for rule in self.rules for keyword in rule.keywords)
