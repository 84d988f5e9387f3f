"""Engine versions that are tried on live studies beside the one in use: shadows and canaries."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dicom_node.lifecycle import ComparisonState, TrialState


class TrialMode(StrEnum):
    SHADOW = "shadow"
    """The candidate runs too; nothing of it is sent."""
    CANARY = "canary"
    """Both run; the candidate's results are sent, those of the engine in use are kept."""


@dataclass(frozen=True)
class StopRule:
    """When a trial is over before a person says so. All but `failures` wait for `after_studies`."""

    dice_below: float | None = None
    """The mean over studies of each study's worst segment."""
    volume_above: float | None = None
    """The mean share by which the volume of a segment differs; of the worst segment."""
    kappa_below: float | None = None
    """Cohen's kappa over studies; of the worst class, or of the quality grade."""
    flips_above: float | None = None
    """The share of studies in which a class or a grade is another."""
    slower_than: float | None = None
    """How many times the median seconds of the engine in use."""
    failures: int = 3
    """So many studies that the candidate fails, crashes or refuses, and the other does not."""
    after_studies: int = 20


@dataclass(frozen=True)
class TrialWanted:
    """What a rule says of a candidate that is tried beside one of its engines."""

    engine: str
    """The candidate."""
    mode: TrialMode
    parameters: Mapping[str, float] = field(default_factory=dict)
    """Of the candidate, where they differ from its own."""
    share: float = 1.0
    """Of the studies; which, follows from their UIDs."""
    stop: StopRule = StopRule()

    def takes(self, study_instance_uid: str) -> bool:
        """Return whether it runs on a study: for a study always the same answer.

        A larger share takes what a smaller one took, and more.
        """
        named = hashlib.sha256(f"{self.engine}\0{study_instance_uid}".encode()).digest()
        return int.from_bytes(named[:8], "big") < self.share * 2**64


@dataclass(frozen=True)
class Trial:
    """A candidate version beside the version in use, since its first study."""

    trial_id: int
    current_engine: str
    current_version: str
    candidate_engine: str
    candidate_version: str
    mode: TrialMode
    share: float
    stop: StopRule
    state: TrialState
    counts_from: float
    """Seconds since the epoch; what was compared before counts for no stop rule."""
    reason: str
    created_at: float
    updated_at: float

    @property
    def name(self) -> str:
        """What an operator calls it: its number, told apart from a delivery's."""
        return f"t{self.trial_id}"


@dataclass(frozen=True)
class Comparison:
    """What both versions made of one series of one study."""

    comparison_id: int
    trial_id: int
    study_instance_uid: str
    series_instance_uid: str
    current_job_id: str
    candidate_job_id: str
    mode: TrialMode
    state: ComparisonState
    agreement: Mapping[str, Any]
    """As `infer.agreement.Agreement.as_json` has it; empty until it is compared."""
    current_s: float | None
    candidate_s: float | None
    """What the infer stage took."""
    reason: str
    created_at: float
    updated_at: float
