"""The blocks of an engine's manifest: what can stand under each key of `engine.yaml`.

Frozen values, checked key by key; docs/engines.md explains every word.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

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


CodeWritten = Annotated[Code, BeforeValidator(_code)]
Directions = Annotated[str, AfterValidator(_directions)]
FileName = Annotated[str, AfterValidator(_plain)]
Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
Range = Annotated[tuple[float, float], AfterValidator(_rising)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

Mirror = Annotated[tuple[Annotated[int, Field(ge=0, le=2)], ...], Field(min_length=1)]
"""The axes (slice, row, column) of the tensor that are flipped together."""

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Percentile:
    """A value of an image by its rank."""

    rank: Annotated[float, Field(ge=0, le=100)]


Level = Annotated[Percentile | float, BeforeValidator(_level)]


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


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ImageInput:
    """How a single image is laid before the network."""

    size: tuple[Count, Count]
    """Rows, columns."""
    field: Literal["central square", "whole"] = "central square"
    pixels_min: Count = 1
    """Rows and columns of the source; a smaller image is refused."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SegmentLabel:
    """One label of the network, as a segment (PS3.3 C.8.20.4)."""

    label: Annotated[int, Field(gt=0, le=255)]
    """The network's value, or the channel, counted from 0 with the background."""
    name: Annotated[str, Field(min_length=1, max_length=64)]
    category: CodeWritten
    type: CodeWritten
    modifier: CodeWritten | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Components:
    """What is left of a mask once it is on the source's grid."""

    keep: Literal["all", "largest"] = "all"
    connectivity: Literal[6, 26] = 26
    volume_min_ml: Annotated[float, Field(ge=0)] = 0.0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ClassLabel:
    """One output of a classifier."""

    index: Annotated[int, Field(ge=0)]
    name: Annotated[str, Field(min_length=1, max_length=64)]
    code: CodeWritten
    threshold: Probability


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
