"""Smoothing of a label map: every place goes to whoever has most of its neighbourhood.

Each segment, and the background, votes with its share of the neighbourhood, weighted by a Gaussian
in millimetres; the largest share wins. So no two segments can come to overlap. A segment that lost
every voxel is put back as it was: a small lesion is no noise because its neighbours are many.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Labels = NDArray[np.uint8]
Box = tuple[slice, slice, slice]

REACH = 3.0
"""So many standard deviations the Gaussian reaches."""
_SLICES_AT_ONCE = 16


def smoothed(
    labels: Labels,
    boxes: Mapping[int, Box],
    sigmas_mm: Mapping[int, float],
    spacing_mm: tuple[float, float, float],
) -> Labels:
    """Return a label map with smooth borders.

    Parameters
    ----------
    labels : numpy.ndarray, shape (slices, rows, columns), uint8
    boxes : mapping
        The bounding box of each number that has voxels.
    sigmas_mm : mapping
        The standard deviation of the Gaussian by number; 0 leaves a segment as it is, and nobody
        takes a voxel from it.
    spacing_mm : tuple of float
        Between slices, rows and columns.

    Returns
    -------
    numpy.ndarray
        A new array. Every number that had voxels still has some.
    """
    if not any(sigmas_mm.get(number, 0.0) for number in boxes):
        return labels.copy()
    sigmas = {number: [sigmas_mm.get(number, 0.0) / mm for mm in spacing_mm] for number in boxes}
    reaches = {number: [_reach(sigma) for sigma in own] for number, own in sigmas.items()}
    grown = {number: _grown(box, reaches[number], labels.shape) for number, box in boxes.items()}
    result = np.zeros_like(labels)
    for first in range(0, len(labels), _SLICES_AT_ONCE):
        slab = slice(first, min(first + _SLICES_AT_ONCE, len(labels)))
        here = {n: box for n, box in grown.items() if _meet(box[0], slab)}
        if here:
            _vote(labels, result[slab], slab, here, sigmas, reaches)
    return _with_the_vanished(result, labels, boxes)


def _vote(
    labels: Labels,
    target: Labels,
    slab: slice,
    boxes: Mapping[int, Box],
    sigmas: Mapping[int, list[float]],
    reaches: Mapping[int, list[int]],
) -> None:
    best = np.zeros(target.shape, np.float32)
    left = np.ones(target.shape, np.float32)
    for number, (slices, rows, columns) in boxes.items():
        inner = slice(max(slices.start, slab.start), min(slices.stop, slab.stop))
        reach = reaches[number][0]
        seen = slice(max(inner.start - reach, 0), min(inner.stop + reach, len(labels)))
        share = (labels[seen, rows, columns] == number).astype(np.float32)
        for axis, (sigma, radius) in enumerate(zip(sigmas[number], reaches[number], strict=True)):
            if radius:
                # Beyond the field of view a segment goes on as it is at the rim.
                share = ndimage.gaussian_filter1d(share, sigma, axis, mode="nearest", radius=radius)
        share = share[inner.start - seen.start : inner.stop - seen.start]
        place = (slice(inner.start - slab.start, inner.stop - slab.start), rows, columns)
        wins = share > best[place]
        target[place][wins] = number
        np.maximum(best[place], share, out=best[place])
        left[place] -= share
    target[best <= left] = 0


def _with_the_vanished(result: Labels, labels: Labels, boxes: Mapping[int, Box]) -> Labels:
    """Put back whoever lost all; that can take the last voxel of another, so again until none is.

    Who is put back keeps all its voxels, so there are at most as many rounds as segments.
    """
    while missing := set(boxes) - set(np.flatnonzero(_counts(result)).tolist()):
        for number in missing:
            box = boxes[number]
            result[box][labels[box] == number] = number
    return result


def _counts(labels: Labels) -> NDArray[Any]:
    counts: NDArray[Any] = np.sum([np.bincount(p.ravel(), minlength=256) for p in labels], axis=0)
    return counts


def _reach(sigma: float) -> int:
    return int(REACH * sigma + 0.5)


def _grown(box: Box, reaches: list[int], shape: tuple[int, ...]) -> Box:
    z, y, x = (
        slice(max(side.start - reach, 0), min(side.stop + reach, size))
        for side, reach, size in zip(box, reaches, shape, strict=True)
    )
    return z, y, x


def _meet(one: slice, other: slice) -> bool:
    return bool(one.start < other.stop and other.start < one.stop)
