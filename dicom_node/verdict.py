"""Whether a study is whole: the verdict, and what it is based on that others tell or teach us."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Certainty(StrEnum):
    """How sure we are that a study, or a series, is whole."""

    COMPLETE = "COMPLETE"
    """Proven: an announcement names, or a count numbers, all there is, and all is here."""
    PROBABLE = "PROBABLE"
    """Nothing speaks against it, and the sender has been silent for longer than it ever is."""
    SUSPECT = "SUSPECT"
    """Something speaks against it, or it is still arriving."""


class Action(StrEnum):
    """What becomes of a study when its time has come."""

    ROUTE = "route"
    HOLD = "hold"
    """It is kept for a person."""


@dataclass(frozen=True)
class SeriesVerdict:
    """How sure we are of one series, and what spoke for and against it."""

    series_instance_uid: str
    certainty: Certainty
    for_: tuple[str, ...]
    against: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """How sure we are of a study, and whether to act now."""

    certainty: Certainty
    for_: tuple[str, ...]
    against: tuple[str, ...]
    series: tuple[SeriesVerdict, ...]
    action: Action | None
    """None: not yet."""
    ask_again_at: float
    """Seconds since the epoch; of no meaning once there is an action."""

    @property
    def reason(self) -> str:
        """In one sentence: what spoke against it, where something did."""
        return f"{self.certainty}: {'; '.join(self.against or self.for_)}"


class CountState(StrEnum):
    """How far a question to the sender is."""

    PENDING = "PENDING"
    ANSWERED = "ANSWERED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class SenderCount:
    """What the sender says by C-FIND that it has of a study."""

    ae_title: str
    state: CountState
    asked_at: float
    """When the question went out: the answer is no younger than this."""
    instance_counts: Mapping[str, int] = field(default_factory=dict)
    """Instances of each series; empty until it is ANSWERED."""
    reason: str = ""
    """Why it FAILED."""


@dataclass(frozen=True)
class Silences:
    """The longest silences inside of one study, in seconds; 0 where there was none."""

    released_s: float = 0.0
    """With every association that had carried it released."""
    open_s: float = 0.0
    """With one still open."""
