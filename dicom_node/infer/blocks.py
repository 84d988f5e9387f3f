"""The blocks of an engine's manifest: what can stand under each key of `engine.yaml`.

Frozen values, checked key by key; docs/engines.md explains every word.
"""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    SkipValidation,
    WithJsonSchema,
)
from pydantic.dataclasses import dataclass

from dicom_node.conditions import Condition, Missing
from dicom_node.finding import Code
from dicom_node.geometry import are_directions
from dicom_node.infer.pixels import Values
from dicom_node.infer.runtimes.port import Precision
from dicom_node.infer.windows import Weighting

_CODE_LENGTHS = {"value": 16, "scheme": 16, "meaning": 64}


def _code(written: object) -> Code:
    """Return [value, scheme, meaning] as a Code (PS3.3 8.8; lengths by VR SH and LO)."""
    if isinstance(written, Code):
        return written
    if not isinstance(written, list) or len(written) != 3:
        raise ValueError("must be [code value, coding scheme, code meaning]")
    parts = dict(zip(_CODE_LENGTHS, (str(part) for part in written), strict=True))
    for name, longest in _CODE_LENGTHS.items():
        if not 0 < len(parts[name]) <= longest:
            raise ValueError(f"code {name} must have 1 to {longest} characters")
    return Code(**parts)


def _level(written: object) -> object:
    """Return a fixed value, or "p99.9" as a Percentile."""
    if isinstance(written, str) and (match := re.fullmatch(r"p([0-9.]+)", written)):
        return Percentile(float(match[1]))
    if isinstance(written, str):
        raise ValueError("must be a number, or a percentile such as p99.9")
    return written


def _keep(written: object) -> object:
    """Return `all`, `largest`, or how many of the largest."""
    is_count = isinstance(written, int) and not isinstance(written, bool) and written > 0
    if not is_count and written not in ("all", "largest"):
        raise ValueError("must be all, largest, or how many of the largest: 3")
    return written


def _directions(letters: str) -> str:
    if not are_directions(letters):
        raise ValueError("must be three letters for three axes, of L R, P A and H F: HPL")
    return letters


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] >= pair[1]:
        raise ValueError("must be [smaller, larger]")
    return pair


def _plain(name: str) -> str:
    if Path(name).name != name:
        raise ValueError("must be the name of a file in the engine's folder")
    return name


_VALUE_SCHEMA: dict[str, object] = {"type": ["string", "number", "boolean", "null"]}
_TESTS_SCHEMA: dict[str, object] = {
    "anyOf": [_VALUE_SCHEMA, {"type": "array", "items": _VALUE_SCHEMA, "minItems": 1}]
}
_CONDITIONS_SCHEMA: dict[str, object] = {
    "type": "object",
    "propertyNames": {"not": {"enum": ["any", "all", "not", "calling_ae_title"]}},
    "additionalProperties": {
        "anyOf": [
            _TESTS_SCHEMA,
            {
                "type": "object",
                "properties": {
                    "is": _TESTS_SCHEMA,
                    "missing": {"enum": [meaning.value for meaning in Missing]},
                },
                "required": ["is"],
                "additionalProperties": False,
            },
        ]
    },
}
_SHORT: dict[str, object] = {"type": "string", "minLength": 1, "maxLength": 16}
_CODE_SCHEMA: dict[str, object] = {
    "type": "array",
    "prefixItems": [
        {"anyOf": [_SHORT, {"type": "integer"}], "title": "code value"},
        {**_SHORT, "title": "coding scheme"},
        {"type": "string", "minLength": 1, "maxLength": 64, "title": "code meaning"},
    ],
    "minItems": 3,
    "maxItems": 3,
}
_DIRECTIONS_SCHEMA: dict[str, object] = {
    "type": "string",
    "pattern": "^(?=.*[LR])(?=.*[PA])(?=.*[HF])[LRPAHF]{3}$",
}
_LEVEL_SCHEMA: dict[str, object] = {
    "anyOf": [
        {"type": "number"},
        {"type": "string", "pattern": r"^p(100(\.0*)?|[0-9]{1,2}(\.[0-9]*)?)$"},
    ]
}
_KEEP_SCHEMA: dict[str, object] = {
    "anyOf": [{"enum": ["all", "largest"]}, {"type": "integer", "minimum": 1}]
}

CodeWritten = Annotated[Code, BeforeValidator(_code), WithJsonSchema(_CODE_SCHEMA)]
Directions = Annotated[str, AfterValidator(_directions), WithJsonSchema(_DIRECTIONS_SCHEMA)]
FileName = Annotated[
    str,
    AfterValidator(_plain),
    WithJsonSchema({"type": "string", "pattern": r"^(?!\.{1,2}$)[^/]+$"}),
]
Accepts = Annotated[SkipValidation[tuple[Condition, ...]], WithJsonSchema(_CONDITIONS_SCHEMA)]
Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Keep = Annotated[int | str, BeforeValidator(_keep), WithJsonSchema(_KEEP_SCHEMA)]
Connectivity = Literal[6, 26]
Measure = Literal[
    "volume", "area", "count", "diameters", "longest_diameter", "mean_value", "voxels"
]
FillHoles = Literal["none", "slices", "volume"]
Range = Annotated[tuple[float, float], AfterValidator(_rising)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

Mirror = Annotated[tuple[Annotated[int, Field(ge=0, le=2)], ...], Field(min_length=1)]
"""The axes (slice, row, column) of the tensor that are flipped together."""

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Percentile:
    """A value of an image by its rank."""

    rank: Annotated[float, Field(ge=0, le=100)]


Level = Annotated[Percentile | float, BeforeValidator(_level), WithJsonSchema(_LEVEL_SCHEMA)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Member:
    """One more network of an ensemble."""

    file: FileName
    sha256: Digest


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Model:
    """A network: its file and what goes in and out."""

    file: FileName = "model.onnx"
    sha256: Digest
    input: str
    output: str
    gives: Literal["probabilities", "logits", "labels"] = "probabilities"
    """One channel a class, or one number a voxel."""
    classes_are: Literal["exclusive", "independent"] = "exclusive"
    """One class a voxel (softmax, with a background), or each by itself (sigmoid, without)."""
    ensemble: tuple[Member, ...] = ()
    """More networks with the same input and output; the answers of all are averaged."""
    mirrors: tuple[Mirror, ...] = ()
    """Flips of which the answers are averaged with that of the tensor as it is."""
    precisions: frozenset[Precision] = frozenset({Precision.FP32, Precision.FP16})
    """In which it is good enough; fp32 always is."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Locate:
    """A small network that finds what the main one is then shown, cropped."""

    file: FileName = "locate.onnx"
    sha256: Digest
    input: str
    output: str
    what: str
    """For messages: brain."""
    margin_mm: Annotated[float, Field(ge=0)] = 10.0
    volume_min_ml: Annotated[float, Field(ge=0)] = 0.0
    """Less of it than this is not taken for it: the series is refused."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Scale:
    """A linear map of two levels to two values."""

    low: Level
    high: Level
    to: tuple[float, float] = (0.0, 1.0)
    clip: bool = True


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Intensity:
    """From stored values to what the network was trained on."""

    values: Values
    clip: Range | None = None
    scale: Scale | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Window:
    """What a 3-D network sees at a time, of a volume that is larger."""

    size: tuple[Count, Count, Count]
    """Along `axes`."""
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    weights: Weighting = "gaussian"
    skip_below: float | None = None
    """A window in which no voxel reaches this (air) is background and not asked."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ExtraInput:
    """Another series that the network sees beside the main one, on the same grid."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    """For messages: flair."""
    accepts: Accepts
    source: Literal["study", "prior"] = "study"
    input: str = ""
    """The network's input; without one it is the next channel of the main one."""
    intensity: Intensity | None = None
    """As the main series if it is None."""
    needed: bool = True
    """Without it the job is refused; else the network sees `pad` there."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Take:
    """About which slices of a series a network is asked that gives one answer for all of it."""

    part: Annotated[tuple[Probability, Probability], AfterValidator(_rising)] = (0.0, 1.0)
    """Between which shares of the way from the first to the last: [0.33, 0.67]."""
    at_most: Count | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VolumeInput:
    """How a volume is laid before the network."""

    network_sees: Literal["slice", "slab", "window", "whole"]
    axes: Directions
    """Where the axes (slice, row, column) of the tensor point."""
    spacing_mm: tuple[Positive | None, Positive | None, Positive | None] = (None, None, None)
    """None keeps the series' own."""
    size: tuple[Count | None, Count | None, Count | None] = (None, None, None)
    """None takes as many as the field of view needs."""
    size_multiple: Count = 1
    """Of which a size that is None is made: 16 for a network that halves four times."""
    grow_max: Annotated[float, Field(ge=1)] = 1.0
    pad: float = 0.0
    oblique_max_degrees: Annotated[float, Field(ge=0, le=45)] = 20.0
    slices_min: Annotated[int, Field(ge=2)] = 2
    slice_spacing_mm: Range | None = None
    pixel_spacing_mm: Range | None = None
    extent_min_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    slab_slices: Annotated[int, Field(ge=3, multiple_of=1)] | None = None
    """Neighbouring slices, as channels, of which the middle one is asked about: 2.5-D."""
    window: Window | None = None
    take: Take = Take()
    combine: Literal["mean", "max"] = "mean"
    """What several answers about one series are together; for engines without segments."""
    time_points: Literal["all", "first", "last", "refuse"] = "all"
    """Of a series that holds several at the same places: echoes and phases are meant as well."""
    time_points_max: Count = 50
    """Each gets its own results; a series with more is refused."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ImageInput:
    """How a single image is laid before the network."""

    size: tuple[Count, Count]
    """Rows, columns."""
    field: Literal["central square", "whole"] = "central square"
    pixels_min: Count = 1
    """Rows and columns of the source; a smaller image is refused."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Components:
    """What is left of a mask once it is on the source's grid."""

    keep: Keep = "all"
    """The largest connected part of each segment, or so many of the largest."""
    connectivity: Connectivity = 26
    component_min_ml: NotNegative = 0.0
    """A smaller connected part goes."""
    volume_min_ml: NotNegative = 0.0
    """A segment of which less is left is taken for noise and emptied."""
    component_min_share: Probability = 0.0
    share_min: Probability = 0.0
    """The same two for single images, in shares of the image."""
    fill_holes: FillHoles = "none"
    """What has no way out, within its slice or within the volume."""
    smooth_mm: NotNegative = 0.0
    """The standard deviation of the Gaussian by which neighbours vote."""

    @property
    def keep_count(self) -> int | None:
        """How many components are kept; None keeps all."""
        return {"all": None, "largest": 1}[self.keep] if isinstance(self.keep, str) else self.keep

    @property
    def removes_components(self) -> bool:
        smallest = self.component_min_ml or self.component_min_share
        return self.keep_count is not None or smallest > 0

    def of(self, own: SegmentComponents | None) -> Components:
        """Return the rules of a segment that has some of its own."""
        if own is None:
            return self
        given = {one.name: getattr(own, one.name) for one in fields(SegmentComponents)}
        return replace(self, **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SegmentComponents:
    """What one segment has of its own of `Components`; None is as it is for all."""

    keep: Keep | None = None
    connectivity: Connectivity | None = None
    component_min_ml: NotNegative | None = None
    volume_min_ml: NotNegative | None = None
    component_min_share: Probability | None = None
    share_min: Probability | None = None
    fill_holes: FillHoles | None = None
    smooth_mm: NotNegative | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SegmentLabel:
    """One label of the network, as a segment (PS3.3 C.8.20.4)."""

    label: Annotated[int, Field(gt=0, le=255)]
    """The network's value, or its channel: from 1, be there one for the background or not."""
    name: Annotated[str, Field(min_length=1, max_length=64)]
    category: CodeWritten
    type: CodeWritten
    modifier: CodeWritten | None = None
    threshold: Probability = 0.5
    """From which probability a voxel belongs to it, where classes are independent."""
    components: SegmentComponents | None = None
    """Where it differs from the manifest's `components`."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ClassLabel:
    """One output of a classifier."""

    index: Annotated[int, Field(ge=0)]
    name: Annotated[str, Field(min_length=1, max_length=64)]
    code: CodeWritten
    threshold: Probability


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ValueLabel:
    """One output of a regression: a number with a unit."""

    index: Annotated[int, Field(ge=0)]
    name: Annotated[str, Field(min_length=1, max_length=64)]
    code: CodeWritten
    unit: CodeWritten
    """Of UCUM: [mo, UCUM, month]."""
    factor: float = 1.0
    offset: float = 0.0
    """The value is the output times `factor` plus `offset`."""
    plausible: Range | None = None
    """Beyond it the image is refused: no number is better than a wrong one."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FaultLabel:
    """One output of a quality network that speaks against the image."""

    index: Annotated[int, Field(ge=0)]
    name: Annotated[str, Field(min_length=1, max_length=64)]
    limited: Probability
    non_diagnostic: Probability


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NoteLabel:
    """One output of a quality network that only says something."""

    index: Annotated[int, Field(ge=0)]
    name: Annotated[str, Field(min_length=1, max_length=64)]
    otherwise: str = ""
    """Its name below 0.5; left out if empty."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TestVector:
    """An input with the output that the network gave when it was released."""

    __test__ = False

    file: FileName = "test_vector.npz"
    tolerance: Positive
    """Largest difference of a probability; for labels the largest share that differs."""
    dice_min: Probability | None = None
    """Of the worst class of a mask, between the answers and those that are stored."""
    flips_max: Probability | None = None
    """Largest share of samples or voxels that get another class."""
