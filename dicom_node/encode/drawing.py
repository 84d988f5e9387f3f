"""What a finding has drawn: which segments have voxels, in which slices, and the voxels of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.encode.runs import values_in
from dicom_node.errors import InvariantBroken
from dicom_node.finding import Finding, Segment
from dicom_node.packed import Mask

SEGMENTS_MAX = 255
"""A label of a mask has one byte; 0 is the background."""


@dataclass(frozen=True, eq=False)
class Drawing:
    """The segments of a mask that have voxels, in the order of their numbers.

    In a SEG they are numbered anew from 1 (PS3.3 C.8.20.2 wants numbers without gaps).
    """

    mask: Mask
    """As in the finding: labels, or one map a segment."""
    segments: tuple[Segment, ...]
    present: NDArray[np.bool_]
    """(segments, slices): where each has voxels."""
    overlaps: bool
    """Whether any voxel belongs to two segments."""

    def voxels(self, segment: int, plane: int, into: NDArray[np.bool_]) -> None:
        """Put the voxels of a segment (by its index) in a slice into a flat array."""
        number = self.segments[segment].segment_number
        if self.mask.ndim == 4:
            into[:] = self.mask[number - 1, plane].ravel()
        else:
            np.equal(self.mask[plane].ravel(), number, out=into)

    def labels(self, plane: int) -> NDArray[np.uint8]:
        """Return a slice with the new numbers; only where nothing overlaps."""
        numbers = [segment.segment_number for segment in self.segments]
        if self.mask.ndim == 3:
            renumbered = np.zeros(SEGMENTS_MAX + 1, np.uint8)
            renumbered[numbers] = range(1, len(numbers) + 1)
            labels: NDArray[np.uint8] = renumbered[self.mask[plane]]
            return labels
        labels = np.zeros(self.mask.shape[2:], np.uint8)
        for index, number in enumerate(numbers):
            if self.present[index, plane]:
                labels[self.mask[number - 1, plane].astype(np.bool_, copy=False)] = index + 1
        return labels


def drawing_of(finding: Finding, sources: Sequence[Dataset]) -> Drawing:
    """Return what a finding has drawn; no segments where its mask is empty.

    Raises
    ------
    InvariantBroken
        If the mask does not lie on the grid of its sources, or has voxels of a segment that the
        finding does not describe, or there are more than 255 segments.
    """
    mask = finding.mask
    if mask is None or mask.dtype != (np.bool_ if mask.ndim == 4 else np.uint8):
        raise InvariantBroken(f"a segmentation has a mask of {getattr(mask, 'dtype', None)}")
    for source in sources:
        expected = (len(sources), source.get("Rows"), source.get("Columns"))
        if mask.shape[-3:] != expected or mask.ndim not in (3, 4):
            raise InvariantBroken(f"the mask is {mask.shape}, its sources {expected}")
    known = {segment.segment_number for segment in finding.segments}
    if len(known) > SEGMENTS_MAX or not known <= set(range(1, SEGMENTS_MAX + 1)):
        raise InvariantBroken(
            f"{len(known)} segments up to number {max(known)}: a mask holds {SEGMENTS_MAX} at most"
        )
    if mask.ndim == 4 and known != set(range(1, len(mask) + 1)):
        raise InvariantBroken(f"{len(mask)} overlapping maps for the segments {sorted(known)}")
    present, overlaps = _present_maps(mask) if mask.ndim == 4 else (_present_labels(mask), False)
    numbers = set(np.flatnonzero(present.any(axis=1)).tolist())
    if unknown := numbers - known - {0}:
        raise InvariantBroken(f"the mask has voxels of undescribed segments {sorted(unknown)}")
    ordered = sorted(finding.segments, key=lambda segment: segment.segment_number)
    drawn = tuple(segment for segment in ordered if segment.segment_number in numbers)
    rows = [segment.segment_number for segment in drawn]
    return Drawing(mask, drawn, present[rows], overlaps)


def _present_labels(mask: Mask) -> NDArray[np.bool_]:
    """Return which numbers occur in which slices, (256, slices)."""
    present = np.zeros((SEGMENTS_MAX + 1, len(mask)), np.bool_)
    for index, plane in enumerate(mask):
        present[values_in(plane), index] = True
    return present


def _present_maps(mask: Mask) -> tuple[NDArray[np.bool_], bool]:
    """Return the same of one map a segment, and whether any two overlap."""
    present = np.zeros((len(mask) + 1, mask.shape[1]), np.bool_)
    overlaps = False
    for index in range(mask.shape[1]):
        counts = [np.count_nonzero(mask[one, index]) for one in range(len(mask))]
        present[1:, index] = counts
        if not overlaps and np.count_nonzero(counts) > 1:
            drawn = [mask[one, index] for one in np.flatnonzero(counts).tolist()]
            touched = np.count_nonzero(np.any(drawn, axis=0))
            overlaps = sum(counts) != touched
    return present, overlaps
