"""What the rules decided of a study: frozen values, each with the rule and its reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dicom_node.conditions import Answer, Outcome
from dicom_node.model import Drop, Forward, Priority
from dicom_node.priors import PriorsWanted
from dicom_node.route.rules import Rule
from dicom_node.trials import TrialMode, TrialWanted

_SENTENCES_MAX = 12
"""A study of a thousand instances has a thousand reasons; a person reads a few."""


@dataclass(frozen=True)
class RuleOutcome:
    """What a rule said of a study, a series or an instance."""

    rule: Rule
    subject: str
    """The UID of what it was tried on."""
    outcome: Outcome
    count: int = 1
    """Of how many instances it says the same; the subject is the first of them."""

    @property
    def answer(self) -> Answer:
        return self.outcome.answer

    @property
    def reason(self) -> str:
        """Why it matched, or every condition that did not hold."""
        return self.outcome.reason or "it has no conditions"


@dataclass(frozen=True)
class Order:
    """One engine to run on one series."""

    series_instance_uid: str
    engine: str
    parameters: Mapping[str, float]
    destinations: tuple[str, ...]
    priority: Priority
    rule: str
    """The first rule that asks for it."""
    reason: str
    priors: PriorsWanted | None = None
    """The prior studies for which it waits: those of the first rule that wants any."""
    trial: TrialWanted | None = None
    """What is tried beside it: that of the first rule that tries anything."""
    is_tried: bool = False
    """Whether the trial takes this study."""

    @property
    def words(self) -> str:
        """What runs, in words."""
        if self.trial is None or not self.is_tried:
            return self.engine
        if self.trial.mode is TrialMode.CANARY:
            return f"{self.trial.engine} (canary of {self.engine})"
        return f"{self.engine} (shadow {self.trial.engine})"


@dataclass(frozen=True)
class Remark:
    """What a rule says of a study or one of its series: held, to be told, or not to be judged."""

    rule: str
    subject: str
    text: str


@dataclass(frozen=True)
class Wait:
    """An engine whose finding a rule waits for."""

    series_instance_uid: str
    engine: str
    rule: str


@dataclass(frozen=True)
class Decision:
    """Everything that follows for a study, and what each rule said."""

    outcomes: tuple[RuleOutcome, ...] = ()
    orders: tuple[Order, ...] = ()
    forwards: tuple[Forward, ...] = ()
    drops: tuple[Drop, ...] = ()
    holds: tuple[Remark, ...] = ()
    notices: tuple[Remark, ...] = ()
    stops: tuple[Remark, ...] = ()
    waits: tuple[Wait, ...] = ()
    problems: tuple[Remark, ...] = ()
    unreadable: tuple[str, ...] = ()
    """The SOP Instance UIDs of those whose header cannot be parsed."""
    prior_of: tuple[str, ...] = ()
    """The studies for which this one was fetched as a prior; only rules that ask for it apply."""
    copied_by: str = ""
    """The profile of the copy for which these are results."""

    @property
    def is_parked(self) -> bool:
        """Whether a person has to look at it before anything is done."""
        return bool(self.problems or self.holds)

    @property
    def reason(self) -> str:
        """In one sentence what follows, or why nothing does."""
        parts = _few([f"{p.rule} cannot be judged: {p.text}" for p in self.problems])
        parts += _few([f"held by {hold.rule}: {hold.text}" for hold in self.holds])
        if not self.is_parked:
            parts += [f"{order.rule} -> {order.words}" for order in self.orders]
            parts += [f"{forward.rule} -> {forward.destination}" for forward in self.forwards]
            parts += [f"{stop.rule}: no engine begins any more" for stop in self.stops]
            parts += [f"{wait.rule} waits for {wait.engine}" for wait in self.waits]
        parts += [f"dropped by {d.rule}: {len(d.instances)} instances" for d in self.drops]
        if self.copied_by and not parts:
            parts = [f"results for a copy; profile {self.copied_by} has no results_to"]
        if not parts and self.prior_of:
            parts = [f"fetched as a prior study of {', '.join(self.prior_of)}"]
        if not parts:
            near = _few([f"{one.rule.name}: {one.reason}" for one in self.outcomes])
            parts = ["no rule matched (" + " | ".join(near) + ")"]
        said = ", ".join(dict.fromkeys(parts))
        if self.unreadable:
            said += f"; {len(self.unreadable)} instances cannot be parsed"
        return said


def _few(said: Iterable[str]) -> list[str]:
    """Return the first of some sentences, each once, and how many more there are."""
    different = list(dict.fromkeys(said))
    more = len(different) - _SENTENCES_MAX
    return different[:_SENTENCES_MAX] + ([f"and {more} more"] if more > 0 else [])


def record_of(decision: Decision) -> dict[str, Any]:
    """Return a decision as the ledger keeps it, and as two of them are compared."""
    return {
        "orders": [
            {
                "series": order.series_instance_uid,
                "engine": order.engine,
                "parameters": dict(order.parameters),
                "destinations": list(order.destinations),
                "priority": order.priority.name.lower(),
                "rule": order.rule,
                **({"priors": _as_json(order.priors)} if order.priors else {}),
                **({"trial": _trial(order.trial)} if order.trial and order.is_tried else {}),
            }
            for order in decision.orders
        ],
        "forwards": [
            {
                "destination": forward.destination,
                "profile": forward.profile,
                "priority": forward.priority.name.lower(),
                "rule": forward.rule,
                "instances": len(forward.instances),
            }
            for forward in decision.forwards
        ],
        "drops": [{"rule": drop.rule, "instances": len(drop.instances)} for drop in decision.drops],
        **{
            name: [{"rule": remark.rule, "subject": remark.subject} for remark in remarks]
            for name, remarks in (
                ("holds", decision.holds),
                ("notices", decision.notices),
                ("stops", decision.stops),
                ("problems", decision.problems),
            )
        },
        "waits": [
            {"series": wait.series_instance_uid, "engine": wait.engine, "rule": wait.rule}
            for wait in decision.waits
        ],
        "matched": sorted({one.rule.name for one in decision.outcomes if one.answer is Answer.YES}),
    }


def _trial(wanted: TrialWanted) -> dict[str, Any]:
    return {
        "engine": wanted.engine,
        "mode": wanted.mode.value,
        "parameters": dict(wanted.parameters),
    }


def _as_json(wanted: PriorsWanted) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(wanted).items()
    }
