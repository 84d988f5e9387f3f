"""How long and how wide something is, exactly, in millimetres of the patient.

A voxel reaches from the middle of each of its faces to the middle of the opposite one; these are
the corners of the mesh that marching cubes draws around a mask. So one voxel is as long as its
longest side, and a row of n is n times as long. What is farthest apart lies on the convex hull, and
of the voxels of a row only the first and the last can lie there: the rest is never looked at.

Only what hangs together is measured: a line between two lesions is no diameter of either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import cdist

Bits = NDArray[np.bool_]
Points = NDArray[np.float64]

_FEW = 64
"""So few points are not worth a hull of their slice."""
_POINTS_AT_ONCE = 1000
_DIGITS = 6
"""Of a millimetre, within which two distances are the same: then the first pair counts."""


def longest_mm(
    found: Bits, spacing_mm: tuple[float, float, float], connectivity: Literal[6, 26] = 26
) -> float:
    """Return the largest distance within one component of a segment.

    Parameters
    ----------
    found : numpy.ndarray, shape (slices, rows, columns), bool
    spacing_mm : tuple of float
        Between slices, rows and columns.
    connectivity : {6, 26}
        What hangs together: faces, or corners too.
    """
    parts = cc3d.connected_components(found.view(np.uint8), connectivity=connectivity)
    best = 0.0
    for bound, number, box in sorted(_bounded(parts, spacing_mm), key=lambda one: -one[0]):
        if bound <= best:
            break  # the box of what follows has a shorter diagonal than this
        outline = _hull(_reaching(_outer(parts[box] == number), spacing_mm))
        best = max(best, _farthest(outline)[0])
    return best


def axes_mm(found: Bits, spacing_mm: tuple[float, float, float]) -> tuple[float, float]:
    """Return the longest diameter within a slice, and the longest across it.

    Parameters
    ----------
    found : numpy.ndarray, shape (slices, rows, columns), bool
    spacing_mm : tuple of float
        Between slices, rows and columns.

    Returns
    -------
    long_mm, short_mm : float
        Both of one region of one slice, its corners joined; the short one is at right angles to the
        long one, from rim to rim of the convex hull. 0 if nothing was found.

    References
    ----------
    Eisenhauer et al., RECIST 1.1, Eur J Cancer 45 (2009), 3.1: longest diameter in the plane of
    measurement; for nodes the short axis.
    """
    in_plane = spacing_mm[1:]
    regions = [
        (bound, index, number, box)
        for index, plane in enumerate(found)
        if plane.any()
        for bound, number, box in _bounded(_regions(plane), in_plane)
    ]
    best, outline, pair = 0.0, np.zeros((0, 2)), (0, 0)
    for bound, index, number, box in sorted(regions, key=lambda one: -one[0]):
        if bound <= best:
            break
        region = (_regions(found[index])[box] == number)[np.newaxis]
        here = _hull(_reaching(_outer(region)[:, 1:], in_plane))
        length, ends = _farthest(here)
        if length > best:
            best, outline, pair = length, here, ends
    return best, (_across(outline, pair) if best else 0.0)


def _regions(plane: Bits) -> NDArray[Any]:
    return cc3d.connected_components(plane.view(np.uint8), connectivity=8)


def _bounded(
    parts: NDArray[Any], spacing_mm: tuple[float, ...]
) -> Iterator[tuple[float, int, tuple[slice, ...]]]:
    """Yield the diagonal of the bounding box of each part, its number and the box."""
    boxes: Sequence[tuple[slice, ...] | None] = ndimage.find_objects(
        parts.astype(np.int32, copy=False)
    )
    for number, box in enumerate(boxes, 1):
        if box is not None:
            sides = [(b.stop - b.start) * mm for b, mm in zip(box, spacing_mm, strict=True)]
            yield float(np.hypot.reduce(sides)), number, box


def _outer(found: Bits) -> NDArray[np.int64]:
    """Return the voxels of which the hull can have corners: the ends of rows."""
    outer = []
    for index, plane in enumerate(found):
        rows = np.flatnonzero(plane.any(axis=1))
        first = plane[rows].argmax(axis=1)
        last = plane.shape[1] - 1 - plane[rows, ::-1].argmax(axis=1)
        ends = np.unique(
            np.concatenate([np.stack([rows, first], 1), np.stack([rows, last], 1)]), axis=0
        )
        if len(ends) > _FEW:
            try:
                ends = ends[ConvexHull(ends).vertices]
            except QhullError:  # all in one line
                ends = ends[[0, -1]]
        outer.append(np.insert(ends, 0, index, axis=1))
    return np.concatenate(outer)


def _reaching(voxels: NDArray[np.int64], spacing_mm: tuple[float, ...]) -> Points:
    """Return the middles of the faces of voxels, in mm."""
    halves = np.concatenate([np.eye(len(spacing_mm)), -np.eye(len(spacing_mm))]) / 2
    faces = (voxels[:, np.newaxis] + halves).reshape(-1, len(spacing_mm))
    points: Points = faces * np.asarray(spacing_mm)
    return points


def _hull(points: Points) -> Points:
    """Return the corners of the convex hull; of a plane one, in order around it."""
    corners: Points = points[ConvexHull(points).vertices]
    return corners


def _farthest(points: Points) -> tuple[float, tuple[int, int]]:
    """Return the largest distance of two points, and which two."""
    best, pair = -1.0, (0, 0)
    for start in range(0, len(points), _POINTS_AT_ONCE):
        apart = cdist(points[start : start + _POINTS_AT_ONCE], points)
        rounded = apart.round(_DIGITS)
        one, other = np.unravel_index(int(rounded.argmax()), rounded.shape)
        if rounded[one, other] > round(best, _DIGITS):
            best, pair = float(apart[one, other]), (start + int(one), int(other))
    return best, pair


def _across(outline: Points, pair: tuple[int, int]) -> float:
    """Return the longest chord of a convex outline at right angles to the line of two corners.

    Between two corners the length of a chord changes linearly, so the longest meets a corner.
    """
    first, last = sorted(pair)
    along = outline[last] - outline[first]
    along /= np.linalg.norm(along)
    turned = (outline - outline[first]) @ np.array([along, [-along[1], along[0]]]).T
    # No corner lies beyond the ends of the longest line, so each side runs from end to end.
    one = turned[first : last + 1]
    other = np.concatenate([turned[last:], turned[: first + 1]])[::-1]
    at = turned[:, 0]
    widths = np.interp(at, *one.T) - np.interp(at, *other.T)
    return float(np.abs(widths).max())
