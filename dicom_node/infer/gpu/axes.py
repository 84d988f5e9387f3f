"""The way to a network's grid and back, axis by axis, as the kernels read it.

`Placement` has a sparse matrix for each axis of the source. Here each becomes a list of taps in the
order of the network's own axis: exchanged and flipped axes, and a box of the grid that alone is
looked at, are nothing but other lists. So one kernel does all of it in one pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.infer.resample import Weights
from dicom_node.infer.volume import Placement

_SURE_SHARE = 1e-6
"""Of a voxel; less of it inside the network's field is none."""

Box = tuple[slice, slice, slice]
Span = tuple[int, int]
"""From the first to behind the last; (0, 0) is none."""


@dataclass(frozen=True, eq=False)
class Taps:
    """Along one axis: which elements there make one here, and with which share."""

    first: NDArray[np.int32]
    """(size + 1,): where those of each element begin in the other two."""
    index: NDArray[np.int32]
    """-1 for what lies outside of the box."""
    share: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.first) - 1

    def spans(self) -> list[Span]:
        """Return, for each element, from where to where its taps lie there."""
        rows, inside = np.repeat(np.arange(len(self)), np.diff(self.first)), self.index >= 0
        low = np.full(len(self), np.iinfo(np.int32).max)
        high = np.zeros(len(self), int)
        np.minimum.at(low, rows[inside], self.index[inside])
        np.maximum.at(high, rows[inside], self.index[inside] + 1)
        spans = zip(np.where(high > 0, low, 0).tolist(), high.tolist(), strict=True)
        return [(first, last) for first, last in spans]


@dataclass(frozen=True, eq=False)
class Side:
    """The taps of one way, by axis of the source, and which axis of the network each runs along."""

    taps: tuple[Taps, Taps, Taps]
    """Of slices, rows, columns."""
    slices_axis: int
    rows_axis: int


@dataclass(frozen=True, eq=False)
class Route:
    """From a source to a box of a network's grid, and from there to a mask."""

    forward: Side
    backward: Side
    source: tuple[int, int, int]
    grid: tuple[int, int, int]
    """Of the box."""
    mask: tuple[int, int, int]
    """What comes back: (slices, rows, columns) of the source, or the grid's axes for `on_grid`."""


def route(placement: Placement, box: Box | None = None) -> Route:
    """Return the way to the network's grid and back to the source's.

    Parameters
    ----------
    placement : Placement
    box : tuple of slice, optional
        Of the network's grid; outside of it there is only background.
    """
    axes, grid = placement.match.axes, grid_of(placement)
    box = box or (slice(0, grid[0]), slice(0, grid[1]), slice(0, grid[2]))
    forward, backward = [], []
    for source_axis in range(3):
        axis = axes.index(source_axis)
        flipped, part = placement.match.flipped[axis], box[axis]
        size = placement.shape[source_axis]
        forward.append(_forward(placement.forward[source_axis], size, flipped, part))
        backward.append(_backward(placement.backward[source_axis], size, flipped, part, grid[axis]))
    slices_axis, rows_axis = axes.index(0), axes.index(1)
    sides = [part.stop - part.start for part in box]
    return Route(
        forward=Side((forward[0], forward[1], forward[2]), slices_axis, rows_axis),
        backward=Side((backward[0], backward[1], backward[2]), slices_axis, rows_axis),
        source=placement.shape,
        grid=(sides[0], sides[1], sides[2]),
        mask=placement.shape,
    )


def route_on_grid(placement: Placement) -> Route:
    """Return the way to the network's grid, and no way back: the mask stays on it.

    Its slices lie across the axis that runs along the source's, so that they can be made in the
    same order; `to_grid_axes` exchanges them afterwards.
    """
    there = route(placement)
    order = _grid_order(placement)
    sides = [there.grid[axis] for axis in order]
    taps = [_identity(side) for side in sides]
    return Route(
        forward=there.forward,
        backward=Side((taps[0], taps[1], taps[2]), order[0], order[1]),
        source=there.source,
        grid=there.grid,
        mask=(sides[0], sides[1], sides[2]),
    )


def to_grid_axes(mask: NDArray[np.uint8], placement: Placement) -> NDArray[np.uint8]:
    """Return what came by `route_on_grid`, in the network's axes."""
    order = _grid_order(placement)
    return mask.transpose([order.index(axis) for axis in range(3)])


def grid_of(placement: Placement) -> tuple[int, int, int]:
    """Return the shape of the network's grid."""
    sides = []
    for axis in placement.match.axes:
        weights = placement.forward[axis]
        sides.append(placement.shape[axis] if weights is None else int(weights.shape[0]))
    return sides[0], sides[1], sides[2]


def _grid_order(placement: Placement) -> list[int]:
    along_slices = placement.match.axes.index(0)
    return [along_slices, *(axis for axis in range(3) if axis != along_slices)]


def _identity(size: int) -> Taps:
    return Taps(
        np.arange(size + 1, dtype=np.int32),
        np.arange(size, dtype=np.int32),
        np.ones(size, np.float32),
    )


def _forward(weights: Weights | None, size: int, is_flipped: bool, part: slice) -> Taps:
    order = np.arange(size if weights is None else weights.shape[0])
    chosen = (order[::-1] if is_flipped else order)[part]
    if weights is None:
        return _listed(np.ones(len(chosen), int), chosen, np.ones(len(chosen), np.float32))
    counts = np.diff(weights.indptr)[chosen]
    begins = np.cumsum(counts) - counts
    at = np.repeat(weights.indptr[chosen] - begins, counts) + np.arange(counts.sum())
    return _listed(counts, weights.indices[at], weights.data[at])


def _backward(
    weights: Weights | None, size: int, is_flipped: bool, part: slice, grid_size: int
) -> Taps:
    counts, index, share = np.ones(size, int), np.arange(size), np.ones(size, np.float32)
    if weights is not None:
        rows = np.repeat(np.arange(size), np.diff(weights.indptr))
        sums = np.bincount(rows, weights.data, size).astype(np.float32)
        # What lies outside of the network's field has no say in what is partly inside.
        kept = sums[rows] > _SURE_SHARE
        rows = rows[kept]
        index, share = weights.indices[kept].astype(int), weights.data[kept] / sums[rows]
        counts = np.bincount(rows, minlength=size)
    index = grid_size - 1 - index if is_flipped else index
    inside = (index >= part.start) & (index < part.stop)
    return _listed(counts, np.where(inside, index - part.start, -1), share)


def _listed(counts: NDArray[Any], index: NDArray[Any], share: NDArray[np.float32]) -> Taps:
    first = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=first[1:])
    return Taps(first, index.astype(np.int32), share.astype(np.float32))
