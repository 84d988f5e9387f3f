"""What the headers of a series say of its completeness, read once for each instance.

Geometry speaks against a series, and never proves it: a series whose end is missing has no gap.
Nor does it speak against what is merely unusual: several orientations, several images at one place
and stacks with a space between them are how many series are meant to be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dicom_node.model import Attributes

KEYWORDS = (
    "AcquisitionNumber",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "ImageType",
    "ImagesInAcquisition",
    "InstanceNumber",
    "Modality",
    "NumberOfFrames",
    "NumberOfSeriesRelatedInstances",
    "NumberOfStudyRelatedInstances",
    "NumberOfStudyRelatedSeries",
    "SpacingBetweenSlices",
)
"""The attributes that are wanted of every instance."""

SAME_PLACE_MM = 0.01
STEP_TOLERANCE = 0.05
"""A step this near to the usual one, or to a multiple of it, is one."""
STACK_MIN = 5
"""Fewer slices do not show what their spacing is."""
GAPS_SHARE_MAX = 0.2
"""With more gaps than this among the steps, the steps are simply unequal."""
_SHOWN = 3


@dataclass(frozen=True)
class Acquisition:
    """The images of one (0020,0012) Acquisition Number in one series, localizers left out."""

    announced: int
    """(0020,1002) Images in Acquisition, the largest that any of them says; 0 if none does."""
    instance_count: int
    frame_count: int


@dataclass(frozen=True)
class SeriesFacts:
    """What the headers of a series say; all empty where there are none."""

    modality: str = ""
    known: int = 0
    """How many instances have a header here."""
    gaps: tuple[str, ...] = ()
    """What is missing inside of it, in words."""
    whole: str = ""
    """That it has no gap, in words; empty where that cannot be seen."""
    acquisitions: Mapping[str, Acquisition] = field(default_factory=dict)
    series_counts: frozenset[int] = frozenset()
    """All values of (0020,1209) Number of Series Related Instances."""
    study_counts: frozenset[int] = frozenset()
    """All values of (0020,1208) Number of Study Related Instances."""
    study_series: frozenset[int] = frozenset()
    """All values of (0020,1206) Number of Study Related Series."""
    all_say_study_count: bool = False


@dataclass(frozen=True, slots=True)
class _Header:
    """One instance's header, in numbers."""

    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    number: int | None
    acquisition: str
    in_acquisition: int
    frames: int
    is_localizer: bool
    spacing_mm: float
    series_count: int
    study_count: int
    study_series: int


class SeriesHeaders:
    """The headers of one series, as they come: each is read once, and summed up when asked."""

    def __init__(self) -> None:
        self._attributes: dict[str, Attributes] = {}
        self._headers: dict[str, _Header] = {}
        self._facts: SeriesFacts | None = SeriesFacts()

    def update(self, headers: Mapping[str, Attributes]) -> None:
        """Take what is new among the headers of the series, by SOP Instance UID."""
        for uid, attributes in headers.items():
            before = self._attributes.get(uid)
            if before is attributes or before == attributes:
                continue
            self._attributes[uid] = attributes
            self._headers[uid] = _read(attributes)
            self._facts = None

    def facts(self) -> SeriesFacts:
        """Return what they say together."""
        if self._facts is None:
            self._facts = self._sum_up()
        return self._facts

    def _sum_up(self) -> SeriesFacts:
        headers = list(self._headers.values())
        slices = [header for header in headers if not header.is_localizer]
        modalities = Counter(_text(a, "Modality") for a in self._attributes.values())
        gaps, whole = _stacks(slices)
        if not whole and not gaps:
            gaps = _holes_in_numbers(slices)
        return SeriesFacts(
            modality=min(modalities, key=lambda name: (-modalities[name], name)),
            known=len(headers),
            gaps=gaps,
            whole=whole,
            acquisitions=_acquisitions(slices),
            series_counts=frozenset(h.series_count for h in headers if h.series_count),
            study_counts=frozenset(h.study_count for h in headers if h.study_count),
            study_series=frozenset(h.study_series for h in headers if h.study_series),
            all_say_study_count=all(h.study_count for h in headers),
        )


def _acquisitions(slices: list[_Header]) -> dict[str, Acquisition]:
    found = {}
    for name in {header.acquisition for header in slices}:
        of_it = [header for header in slices if header.acquisition == name]
        announced = max(header.in_acquisition for header in of_it)
        found[name] = Acquisition(announced, len(of_it), sum(h.frames for h in of_it))
    return found


# ---------------------------------------------------------------- geometry


def _stacks(slices: list[_Header]) -> tuple[tuple[str, ...], str]:
    """Return the gaps in the stacks of slices, and words if all slices lie in stacks without."""
    by_orientation: dict[tuple[float, ...], list[_Header]] = {}
    for header in slices:
        if header.position is None or header.orientation is None:
            return (), ""
        by_orientation.setdefault(header.orientation, []).append(header)
    gaps: list[str] = []
    whole: list[str] = []
    for stack in by_orientation.values():
        found, words = _stack(stack)
        gaps += found
        if words:
            whole.append(words)
    if gaps or len(whole) < len(by_orientation):
        return tuple(gaps), ""
    return (), "; ".join(whole)


def _stack(stack: list[_Header]) -> tuple[list[str], str]:
    """Return what is missing in one stack, and words if it can be seen to have no gap."""
    orientation = np.array(stack[0].orientation)
    along = np.array([header.position for header in stack]) @ np.cross(
        orientation[:3], orientation[3:]
    )
    order = np.argsort(along, kind="stable")
    along = along[order]
    starts = np.flatnonzero(np.diff(along, prepend=-np.inf) > SAME_PLACE_MM)
    places = along[starts]
    if len(places) < STACK_MIN:
        return [], ""
    counts = np.diff(np.append(starts, len(along)))
    if counts.min() < counts.max():
        if counts.max() >= 3 and counts.min() == counts.max() - 1:
            missing = int((counts == counts.min()).sum())
            return [f"{missing} of {len(places)} places have an image less than the others"], ""
        return [], ""
    acquisitions = [stack[index].acquisition for index in order[starts]]
    steps = np.diff(places)
    gaps = _gaps(steps, acquisitions)
    if gaps is None:
        return [], ""
    if len(gaps):
        words = ", ".join(f"{places[g]:.1f} and {places[g + 1]:.1f} mm" for g in gaps[:_SHOWN])
        more = f" and {len(gaps) - _SHOWN} more times" if len(gaps) > _SHOWN else ""
        return [f"slices are missing between {words}{more}"], ""
    usual_mm = float(np.median(steps))
    expected_mm = max(header.spacing_mm for header in stack)
    for times in (2, 3):  # every second one, of a scanner that sends the odd ones first
        if expected_mm and abs(usual_mm / expected_mm / times - 1) <= STEP_TOLERANCE:
            return [f"a slice every {usual_mm:.2f} mm, of one every {expected_mm:.2f} mm"], ""
    each = f", {counts[0]} images each" if counts[0] > 1 else ""
    return [], f"{len(places)} slices every {usual_mm:.2f} mm without a gap{each}"


def _gaps(steps: NDArray[np.float64], acquisitions: list[str]) -> NDArray[np.intp] | None:
    """Return which steps are gaps; None if the steps follow no rule that could be broken.

    A wide step between two acquisitions is none: they are two stacks.
    """
    usual = float(np.median(steps))
    multiples = steps / usual
    nearest = np.round(multiples)
    is_step = (nearest >= 1) & (
        np.abs(multiples - nearest) <= STEP_TOLERANCE * np.maximum(nearest, 1)
    )
    between = np.array([one != other for one, other in pairwise(acquisitions)])
    if not np.all(is_step | between):
        return None
    wide = (nearest >= 2) & ~between
    if wide.sum() > GAPS_SHARE_MAX * len(steps):
        return None
    return np.flatnonzero(wide)


def _holes_in_numbers(slices: list[_Header]) -> tuple[str, ...]:
    """Return the holes in the Instance Numbers, where places do not show what is missing."""
    numbers = sorted({header.number for header in slices if header.number is not None})
    if len(numbers) < max(STACK_MIN, len(slices)):  # some have none, or share one
        return ()
    holes = sorted({*range(numbers[0], numbers[0] + 2 * len(numbers))} - {*numbers})
    holes = [number for number in holes if number < numbers[-1]]
    if not holes or len(holes) > GAPS_SHARE_MAX * len(numbers):
        return ()
    more = f" and {len(holes) - _SHOWN} more" if len(holes) > _SHOWN else ""
    return (f"Instance Numbers {', '.join(map(str, holes[:_SHOWN]))}{more} are missing",)


# ---------------------------------------------------------------- reading


def _read(attributes: Attributes) -> _Header:
    orientation = _numbers(attributes, "ImageOrientationPatient", 6)
    return _Header(
        position=_numbers(attributes, "ImagePositionPatient", 3),
        orientation=None if orientation is None else tuple(round(x, 3) for x in orientation),
        number=_integer(attributes, "InstanceNumber"),
        acquisition=_text(attributes, "AcquisitionNumber"),
        in_acquisition=_integer(attributes, "ImagesInAcquisition") or 0,
        frames=_integer(attributes, "NumberOfFrames") or 1,
        is_localizer="LOCALIZER" in attributes.get("ImageType", ()),
        spacing_mm=(_numbers(attributes, "SpacingBetweenSlices", 1) or (0.0,))[0],
        series_count=_integer(attributes, "NumberOfSeriesRelatedInstances") or 0,
        study_count=_integer(attributes, "NumberOfStudyRelatedInstances") or 0,
        study_series=_integer(attributes, "NumberOfStudyRelatedSeries") or 0,
    )


def _text(attributes: Attributes, keyword: str) -> str:
    return "".join(attributes.get(keyword, ())[:1])


def _integer(attributes: Attributes, keyword: str) -> int | None:
    numbers = _numbers(attributes, keyword, 1)
    return None if numbers is None else int(numbers[0])


def _numbers(attributes: Attributes, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return so many finite numbers; None for anything else: headers are patient with nonsense."""
    texts = attributes.get(keyword, ())
    try:
        numbers = tuple(map(float, texts))
    except ValueError:
        return None
    return numbers if len(numbers) == count and np.isfinite(numbers).all() else None
