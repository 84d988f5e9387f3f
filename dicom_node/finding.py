"""What an engine found: masks and what was measured in them, presence, numbers, quality."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dicom_node.packed import Mask, PackedMask

T = TypeVar("T")


@dataclass(frozen=True)
class Code:
    """A coded concept (PS3.3 8.8)."""

    value: str
    scheme: str
    meaning: str


class FindingKind(StrEnum):
    SEGMENTATION = "segmentation"
    CLASSIFICATION = "classification"
    QUALITY = "quality"
    REGRESSION = "regression"


@dataclass(frozen=True)
class Measurement:
    """A number that was measured in a segment."""

    name: str
    """As a rule asks for it: longest_diameter_mm."""
    value: float
    unit: Code
    concept: Code | None
    """None where the standard has no word for it: it is for rules and stands in no report."""
    derivation: Code | None = None
    """How it comes from many values: their mean, the largest."""


@dataclass(frozen=True)
class Segment:
    """One segment of a mask (PS3.3 C.8.20.4)."""

    segment_number: int
    """From 1; the value of the segment's voxels in the mask."""
    label: str
    category: Code
    type: Code
    modifier: Code | None
    volume_ml: float | None
    """Measured on the mask itself: voxel count times voxel volume. None on a single image."""
    measurements: tuple[Measurement, ...] = ()
    """Those that the engine's manifest names, in its order."""
    image_share: float | None = None
    """Of a single image: the share of its pixels, 0 to 1."""
    area_cm2: float | None = None
    """On a single image; None where the size of its pixels is not known."""

    @property
    def is_found(self) -> bool:
        """Whether it has any voxel."""
        return bool(self.volume_ml or self.image_share)


@dataclass(frozen=True)
class Classification:
    """What a network says of an image: a disease, present or absent, with its probability."""

    sop_instance_uid: str
    """Empty if it is said of the series as a whole."""
    code: Code
    label: str
    probability: float
    """0 to 1."""
    threshold: float

    @property
    def present(self) -> bool:
        return self.probability >= self.threshold


@dataclass(frozen=True)
class Value:
    """A number that a network gives for an image: the age of a bone."""

    sop_instance_uid: str
    """Empty if it is said of the series as a whole."""
    code: Code
    label: str
    value: float
    unit: Code


class QualityGrade(StrEnum):
    """CID 7036: Diagnostic, Limited, Non-diagnostic quality."""

    DIAGNOSTIC = "diagnostic"
    LIMITED = "limited"
    NON_DIAGNOSTIC = "non-diagnostic"


@dataclass(frozen=True)
class Fault:
    """A technical fault of an image, with its probability from 0 to 1."""

    name: str
    probability: float
    found: bool


@dataclass(frozen=True)
class Quality:
    """The technical quality of an image."""

    sop_instance_uid: str
    """Empty if it is said of the series as a whole."""
    grade: QualityGrade
    faults: tuple[Fault, ...]
    notes: tuple[str, ...] = ()
    """What the network says beside the grade: "AP view (0.97)"."""


def several(count: int, noun: str) -> str:
    """Return so many time points, echoes or phases in words."""
    ending = "es" if noun.endswith("o") else "ies" if noun.endswith("y") else "s"
    return f"{count} {noun.removesuffix('y') if ending == 'ies' else noun}{ending}"


@dataclass(frozen=True)
class TimePoint:
    """Which of several volumes at the same places is meant: of a dynamic series, of echoes, phases.

    The word is the standard's for all that is told apart so in a report (PS3.16 TID 1502).
    """

    number: int
    """From 1, in the order of what tells them apart."""
    count: int
    """How many the series holds."""
    noun: str
    """What it is: time point, echo, b-value, cardiac phase, reconstruction."""
    told: str
    """By which attribute, and its value: Echo Time 4.92 ms."""
    key: str
    """The same in the words of a machine, of which its identity is made: it stays as it is when
    another one arrives late."""

    @property
    def short(self) -> str:
        return f"{self.noun} {self.number} of {self.count}"

    @property
    def in_words(self) -> str:
        return f"{self.short} ({self.told})"

    @property
    def several(self) -> str:
        """All of them: 3 echoes."""
        return several(self.count, self.noun)


@dataclass(frozen=True)
class EngineIdentity:
    """What a report says of the algorithm (TID 4019) and the device."""

    name: str
    version: str
    title: str
    description: str
    """A paragraph: what it does, on what it was trained, its limits."""
    model_digest: str
    """SHA-256 (hexadecimal) over the model files."""
    runtime: str
    """Name and version of what ran it: onnxruntime 1.32.0 CPU."""
    limits: tuple[str, ...] = ()
    """Sentences that every report repeats: "Trained on children of 1 to 5 years."."""


@dataclass(frozen=True, eq=False)
class ValueMap:
    """A number for each voxel of the source: how likely something is there, what was looked at."""

    label: str
    values: NDArray[np.float32] | NDArray[np.uint16]
    """On the source's own grid: (slices, rows, columns)."""
    quantity: Code
    """What the numbers are: (122157, DCM, Probability)."""
    unit: Code
    slope: float = 1.0
    """What a stored uint16 counts for, in units; float32 are units already."""
    intercept: float = 0.0


@dataclass(frozen=True, eq=False)
class Finding:
    """What one engine says of one series; nothing in it changes, not a voxel."""

    kind: FindingKind
    engine: EngineIdentity
    sop_instance_uids: tuple[str, ...]
    """The source instances that were used; for a mask, in the order of its slices."""
    summary: str
    """In words, for a table or a log: no patient's identity."""
    warnings: tuple[str, ...] = ()
    mask: Mask | None = None
    """On the source's own grid: (slices, rows, columns) of uint8, 0 background, else a segment
    number; or, where segments overlap, one map each: (segments, slices, rows, columns) of bool, in
    the order of their numbers."""
    probabilities: NDArray[np.uint8] | PackedMask | None = None
    """What an engine knows beyond its mask, on the same grid: (segments, slices, rows, columns), in
    the order of their numbers, 0 impossible to 255 certain."""
    segments: tuple[Segment, ...] = ()
    classifications: tuple[Classification, ...] = ()
    qualities: tuple[Quality, ...] = ()
    values: tuple[Value, ...] = ()
    maps: tuple[ValueMap, ...] = ()
    time_point: TimePoint | None = None
    """Of a series that holds several."""
    parts: tuple[Finding, ...] = ()
    """Of several time points one each, in their order: then all else that is said stands there, and
    here are a summary, warnings, and the instances of all parts, one after the other."""

    @property
    def by_time_point(self) -> tuple[Finding, ...]:
        """What it says of each time point; where there is but one, itself."""
        return self.parts or (self,)

    def shared_out(self, ordered: Sequence[T]) -> Iterator[tuple[Finding, Sequence[T]]]:
        """Yield each time point with its share of what is in the order of all instances."""
        begin = 0
        for part in self.by_time_point:
            count = len(part.sop_instance_uids)
            yield part, ordered[begin : begin + count]
            begin += count

    @property
    def statements(self) -> tuple[Classification | Quality | Value, ...]:
        """What it says without a mask: of an image each, or of the series as a whole."""
        return (*self.classifications, *self.qualities, *self.values)
