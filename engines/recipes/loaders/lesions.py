"""What several readers have marked, as lesions: which marks mean the same, and where it lies.

Theory of operation: marks are joined from the nearest pair on, as long as their outlines come
nearer than a tolerance and no reader would have marked the same lesion twice. So two nodules side
by side, each marked by all four, stay two, whatever the tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from engines.recipes.contours import filled, outline_of
from engines.recipes.loaders.lidc_xml import Mark, Outline

SliceOf = Callable[[Outline], int]
"""On which slice of the series an outline lies."""


@dataclass(frozen=True, eq=False)
class Lesion:
    """One nodule, as those have marked it who saw it."""

    marks: tuple[Mark, ...]

    @property
    def malignancy(self) -> float:
        """The mean of those who marked it, 1 to 5; NaN where none of them judged it."""
        judged = [mark.malignancy for mark in self.marks if mark.malignancy is not None]
        return float(np.mean(judged)) if judged else float("nan")


def lesions_of(
    marks: Sequence[Mark], spacing_mm: tuple[float, float, float], slice_of: SliceOf
) -> list[Lesion]:
    """Return the lesions that marks mean.

    Parameters
    ----------
    marks : sequence of Mark
        Of one scan.
    spacing_mm : tuple of float
        Between slices, rows and columns. Outlines that come nearer than `tolerance_mm` can mean
        the same.
    slice_of : callable

    Returns
    -------
    list of Lesion
        Feet to head.
    """
    clouds = [_cloud(mark, spacing_mm, slice_of) for mark in marks]
    trees = [cKDTree(cloud) for cloud in clouds]
    limit = tolerance_mm(spacing_mm)
    near = []
    for one, other in combinations(range(len(marks)), 2):
        distances, _ = trees[one].query(clouds[other], distance_upper_bound=limit)
        if (distance := float(np.min(distances))) <= limit:
            near.append((distance, one, other))
    group = {index: [index] for index in range(len(marks))}
    for _, one, other in sorted(near):
        mine, theirs = group[one], group[other]
        if mine is theirs or {marks[i].reader for i in mine} & {marks[i].reader for i in theirs}:
            continue
        joined = sorted(mine + theirs)
        group |= dict.fromkeys(joined, joined)
    distinct = {id(members): members for members in group.values()}.values()
    ordered = sorted(distinct, key=lambda m: float(np.mean([clouds[i][:, 0].mean() for i in m])))
    return [Lesion(tuple(marks[index] for index in members)) for members in ordered]


def tolerance_mm(spacing_mm: tuple[float, float, float]) -> float:
    """Return how near outlines of one lesion come at least: two pixels, or the next slice."""
    return max(spacing_mm[0] * 1.01, 2 * max(spacing_mm[1:]))


def mask_of(mark: Mark, shape: tuple[int, int, int], slice_of: SliceOf) -> NDArray[np.bool_]:
    """Return the voxels that a reader has drawn: those within the outline, which is outside.

    An outline that is a hole takes itself out too.
    """
    mask = np.zeros(shape, bool)
    for is_within in (True, False):
        for outline in mark.outlines:
            if outline.is_within != is_within:
                continue
            inside = filled([outline.points], shape[1:])
            border = outline_of(outline.points, shape[1:])
            if is_within:
                mask[slice_of(outline)] |= inside & ~border
            else:
                mask[slice_of(outline)] &= ~(inside | border)
    return mask


def consensus(
    lesion: Lesion, shape: tuple[int, int, int], slice_of: SliceOf, least: float
) -> NDArray[np.bool_]:
    """Return the voxels that at least so many readers have drawn (2 is half of four)."""
    votes = np.zeros(shape, np.uint8)
    for mark in lesion.marks:
        votes += mask_of(mark, shape, slice_of)
    agreed: NDArray[np.bool_] = (votes >= least - 1e-9) & (votes > 0)
    return agreed


def _cloud(
    mark: Mark, spacing_mm: tuple[float, float, float], slice_of: SliceOf
) -> NDArray[np.float64]:
    """Return the points of all outlines, (slice, row, column) in mm."""
    return np.concatenate(
        [
            np.column_stack(
                [np.full(len(one.points), slice_of(one)), one.points[:, 1], one.points[:, 0]]
            )
            * spacing_mm
            for one in mark.outlines
        ]
    )
