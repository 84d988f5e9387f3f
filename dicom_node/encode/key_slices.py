"""Which images carry a finding: few, so that a person sees each at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.finding import Classification, Finding, FindingKind, Quality, QualityGrade

KEY_SLICES_MAX = 4


@dataclass(frozen=True)
class KeySlices:
    """The images to show of a finding."""

    indices: tuple[int, ...]
    """Among the finding's instances, in their order; never empty."""
    carry: bool
    """Whether they show what was found; else they only stand for what was looked at."""


def key_slices(finding: Finding, count_max: int = KEY_SLICES_MAX) -> KeySlices:
    """Return the images that show as much as possible of a finding.

    Of a mask: the slice where most of the segments that are not yet shown have much of their area,
    until all are shown. Of statements: the images where something is present or amiss. Where
    nothing was found: the middle of the series.
    """
    if finding.kind is FindingKind.SEGMENTATION:
        chosen = _showing_all(areas_of(finding), count_max)
    else:
        chosen = _spoken_of(finding)[:count_max]
    if chosen:
        return KeySlices(tuple(sorted(chosen)), carry=True)
    return KeySlices((len(finding.sop_instance_uids) // 2,), carry=False)


def joined(parts: Sequence[tuple[KeySlices, int]]) -> KeySlices:
    """Return the images to show of several time points, each with how many images it has."""
    carry = any(slices.carry for slices, _ in parts)
    indices: list[int] = []
    begin = 0
    for slices, count in parts:
        if slices.carry or not carry:
            indices += [begin + index for index in slices.indices]
        begin += count
    return KeySlices(tuple(indices), carry)


def areas_of(finding: Finding) -> NDArray[np.int64]:
    """Return how many pixels each segment has in each slice.

    Returns
    -------
    numpy.ndarray, shape (slices, segments), int64
        Segments in the order of `finding.segments`.
    """
    mask, numbers = finding.mask, [one.segment_number for one in finding.segments]
    if mask is None:
        return np.zeros((len(finding.sop_instance_uids), len(numbers)), np.int64)
    if mask.ndim == 4:
        slices = range(mask.shape[1])
        counts = [[np.count_nonzero(mask[one - 1, at]) for one in numbers] for at in slices]
        return np.array(counts, np.int64).reshape(len(slices), len(numbers))
    histograms = np.stack([np.bincount(plane.ravel(), minlength=256) for plane in mask])
    return np.asarray(histograms[:, numbers], np.int64)


def segments_on(finding: Finding, index: int) -> list[tuple[int, NDArray[np.bool_]]]:
    """Return the segments that one slice carries, as numbers and masks, in their order."""
    mask = finding.mask
    if mask is None:
        return []
    found = []
    for number in sorted(one.segment_number for one in finding.segments):
        plane = mask[number - 1, index] if mask.ndim == 4 else mask[index] == number
        if plane.any():
            found.append((number, np.asarray(plane, np.bool_)))
    return found


def _showing_all(areas: NDArray[np.int64], count_max: int) -> list[int]:
    """Return slices that together show every segment, each where much of it is seen."""
    if not areas.size:
        return []
    share = areas / np.maximum(areas.max(axis=0), 1)  # of the largest area of each segment
    unseen = areas.max(axis=0) > 0
    chosen: list[int] = []
    while unseen.any() and len(chosen) < count_max:
        best = int(np.argmax(share[:, unseen].sum(axis=1)))
        chosen.append(best)
        unseen &= share[best] < 0.5
    return chosen


def _spoken_of(finding: Finding) -> list[int]:
    """Return the images of which something is said that matters, else of which anything is."""
    places = {uid: index for index, uid in enumerate(finding.sop_instance_uids)}
    named = [one for one in finding.statements if one.sop_instance_uid in places]
    telling = [
        one
        for one in named
        if not (isinstance(one, Classification) and not one.present)
        and not (isinstance(one, Quality) and one.grade is QualityGrade.DIAGNOSTIC)
    ]
    return list(dict.fromkeys(places[one.sop_instance_uid] for one in telling))
