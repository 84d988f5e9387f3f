"""What tells images at one place apart: the attributes of time points, echoes, b-values, phases.

Three kinds. Most name a time point or an echo by a value that all of its images share. Clocks do
not: each slice has a time of its own, and the k-th image at each place is of the k-th time point,
as long as a time point ends before the next begins. The times within the heart's cycle are clocks
that start anew at each slice: theirs may overlap, for beats are not of one length.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

_Kind = Literal["number", "text", "clock", "cycle", "date"]


@dataclass(frozen=True)
class _Attribute:
    keyword: str
    noun: str
    words: str
    unit: str = ""
    kind: _Kind = "number"
    may_lack: bool = False
    """Whether having none is a value too: b = 0 has no direction."""
    beside: str = ""
    """An attribute without which it says half: it is not asked alone where that differs too."""
    is_time: bool = False
    """Whether a scan that is broken off leaves a last one that is incomplete."""


_TIME = "time point"
_PHASE = "cardiac phase"

NAMED = (
    _Attribute("TemporalPositionIdentifier", _TIME, "Temporal Position Identifier", is_time=True),
    _Attribute("TemporalPositionIndex", _TIME, "Temporal Position Index", is_time=True),
    _Attribute(
        "NominalPercentageOfCardiacPhase", _PHASE, "Nominal Percentage of Cardiac Phase", "%"
    ),
    _Attribute("EffectiveEchoTime", "echo", "Effective Echo Time", "ms"),
    _Attribute("EchoTime", "echo", "Echo Time", "ms"),
    _Attribute("EchoNumbers", "echo", "Echo Number"),
    _Attribute("InversionTime", "inversion time", "Inversion Time", "ms"),
    _Attribute("InversionTimes", "inversion time", "Inversion Times", "ms", "text"),
    _Attribute("DiffusionBValue", "b-value", "Diffusion b-value", "s/mm2"),
    _Attribute(
        "DiffusionGradientOrientation",
        "direction",
        "gradient",
        kind="text",
        may_lack=True,
        beside="DiffusionBValue",
    ),
    _Attribute("FlipAngle", "flip angle", "Flip Angle", "degrees"),
    _Attribute("KVP", "energy", "KVP", "kV"),
    _Attribute("ConvolutionKernel", "reconstruction", "Convolution Kernel", kind="text"),
)
"""What says by itself which images belong together."""

COUNTED = (
    _Attribute("NominalCardiacTriggerDelayTime", _PHASE, "Trigger Delay Time", "ms", "cycle"),
    _Attribute("TriggerTime", _PHASE, "Trigger Time", "ms", "cycle"),
    _Attribute("TemporalPositionTimeOffset", _TIME, "Temporal Position Time Offset", "s", "clock"),
    _Attribute("FrameReferenceTime", _TIME, "Frame Reference Time", "ms", "clock"),
    _Attribute("AcquisitionNumber", "acquisition", "Acquisition Number", is_time=True),
    _Attribute("FrameAcquisitionNumber", "acquisition", "Frame Acquisition Number", is_time=True),
    _Attribute("FrameReferenceDateTime", _TIME, "Frame Reference DateTime", "s", "date"),
    _Attribute("FrameAcquisitionDateTime", _TIME, "Frame Acquisition DateTime", "s", "date"),
    _Attribute("AcquisitionDateTime", _TIME, "Acquisition DateTime", "s", "date"),
    _Attribute("AcquisitionTime", _TIME, "Acquisition Time", "s", "date"),
    _Attribute("ContentTime", _TIME, "Content Time", "s", "date"),
)
"""What counts them, or tells when: asked where nothing says by itself what they are."""

_DATE_OF = {"AcquisitionTime": "AcquisitionDate", "ContentTime": "ContentDate"}
_DAY_S = 86400.0

_KINDS = frozenset(
    (
        *("M", "P", "R", "I", "MAGNITUDE", "PHASE", "REAL", "IMAGINARY", "MIXED"),
        *("FIELD_MAP", "PHASE_MAP", "B0", "ADC", "FA", "T1_MAP", "T2_MAP", "T2STAR_MAP"),
        *("W", "F", "IP", "OP", "WATER", "FAT", "IN_PHASE", "OUT_PHASE", "OPP_PHASE"),
    )
)
"""Words of (0008,0008) *Image Type* for another quantity than its neighbours show."""


@dataclass(frozen=True, eq=False)
class Distinction:
    """How one attribute tells images apart."""

    attribute: _Attribute
    marks: NDArray[np.int64]
    """Of each image: which value it has, by rank from 0."""
    numbers: tuple[float, ...]
    texts: tuple[str, ...]

    @property
    def noun(self) -> str:
        return self.attribute.noun

    @property
    def words(self) -> str:
        return self.attribute.words

    @property
    def may_end_early(self) -> bool:
        """Whether the last one may be incomplete, because the scan was broken off."""
        return self.attribute.is_time or self.attribute.kind in {"clock", "date"}

    def told(self, members: Sequence[int]) -> str:
        """Return what is said of a stack of images: Echo Time 4.92 ms."""
        attribute = self.attribute
        if attribute.kind == "text":
            value = self.texts[members[0]]
        elif attribute.kind == "date":
            value = f"+ {min(self.numbers[one] for one in members) - min(self.numbers):.1f}"
        else:
            numbers = [self.numbers[one] for one in members]
            low, high = (f"{number:g}" for number in (min(numbers), max(numbers)))
            value = low if low == high else f"{low} to {high}"
        return " ".join(part for part in (attribute.words, value, attribute.unit) if part)

    def key(self, members: Sequence[int]) -> str:
        """Return what stays as it is when another stack arrives."""
        first = min(members, key=lambda one: self.numbers[one])
        return f"{self.attribute.keyword}={self.texts[first]}"


def distinctions(
    attributes: Sequence[_Attribute], headers: Sequence[Dataset], places: NDArray[np.int64]
) -> list[Distinction]:
    """Return those of some attributes that all images have, with more than one value.

    Parameters
    ----------
    headers : sequence of pydicom.Dataset
        Of images, in the order of their Instance Numbers.
    places : numpy.ndarray, shape (images,), int
        Which of the places each lies at.
    """
    found = []
    for attribute in attributes:
        read = [_read(header, attribute) for header in headers]
        values = [value for value in read if value is not None]
        if len(values) < len(read) or len({text for _, text in values}) < 2:
            continue
        texts = tuple(text for _, text in values)
        numbers = tuple(number for number, _ in values)
        if attribute.kind == "text":  # in the order in which they come first
            ranks = {text: rank for rank, text in enumerate(dict.fromkeys(texts))}
            numbers = tuple(float(ranks[text]) for text in texts)
        marks: NDArray[np.int64] | None
        if attribute.kind in {"number", "text"}:
            marks = np.unique(numbers, return_inverse=True)[1].astype(np.int64)
        else:
            marks = _ranks(np.array(numbers), places, may_overlap=attribute.kind == "cycle")
        if marks is not None and marks.max() > 0:
            found.append(Distinction(attribute, marks, numbers, texts))
    return found


def kind_of(header: Dataset) -> str:
    """Return what quantity an image says that it shows: MAGNITUDE, PHASE; empty if none."""
    component = str(header.get("ComplexImageComponent") or "")
    types = header.get("ImageType") or ()
    told = [types] if isinstance(types, str) else [str(one) for one in types]
    words = [one.replace(" ", "_") for one in told[2:]]
    return " ".join(dict.fromkeys([component, *(one for one in words if one in _KINDS)])).strip()


def _read(header: Dataset, attribute: _Attribute) -> tuple[float, str] | None:
    """Return a value as a number and as a text; None if there is none that can be used."""
    value = header.get(attribute.keyword)
    if attribute.keyword == "DiffusionGradientOrientation" and value is None:
        for item in header.get("DiffusionGradientDirectionSequence") or ():
            value = item.get("DiffusionGradientOrientation")
    if value is None or value == "":
        return (0.0, "none") if attribute.may_lack else None
    if attribute.kind == "text":
        several = value if isinstance(value, MultiValue | list | tuple) else [value]
        return 0.0, ", ".join(map(str, several))
    if attribute.kind == "date":
        day = header.get(_DATE_OF.get(attribute.keyword, ""), "")
        moment = f"{day}{value}"
        number = _seconds(moment)
        return None if number is None else (number, moment)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return (number, f"{number:g}") if np.isfinite(number) else None


def _seconds(moment: str) -> float | None:
    """Return a DT, a DA with a TM, or a TM alone, in seconds."""
    match = re.fullmatch(
        r"(?:(\d{4})(\d\d)(\d\d))?(\d\d)(\d\d)?(\d\d(?:\.\d{1,6})?)?(?:[+-]\d{4})?", moment.strip()
    )
    if match is None:
        return None
    year, month, day, hours, minutes, seconds = match.groups()
    try:
        days = date(int(year), int(month), int(day)).toordinal() if year else 0
    except ValueError:
        return None
    return days * _DAY_S + int(hours) * 3600 + int(minutes or 0) * 60 + float(seconds or 0)


def _ranks(
    times: NDArray[np.float64], places: NDArray[np.int64], *, may_overlap: bool
) -> NDArray[np.int64] | None:
    """Return the how manieth time at its place each is; None where time points would overlap."""
    marks = np.empty(len(times), np.int64)
    for place in np.unique(places):
        here = np.flatnonzero(places == place)
        marks[here] = np.unique(times[here], return_inverse=True)[1]
    if not may_overlap:
        last = -np.inf
        for rank in range(int(marks.max()) + 1):
            of_rank = times[marks == rank]
            if of_rank.min() <= last:
                return None
            last = float(of_rank.max())
    return marks
