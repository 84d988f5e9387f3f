"""From what a network says on its own grid to a mask on the source's.

Answers are interpolated, and the largest wins; labels are brought back the same way, each as a map
of zeros and ones, so where the source is coarser than the network a voxel gets the label that fills
most of it. What lies outside of the network's field has no say; a voxel all outside is background.

Interpolation is a mean with weights that sum to 1. So where all voxels of the network that have a
say agree on the class, it is the answer, whatever their numbers: nothing needs to be interpolated
but along the borders between classes, a few voxels in a hundred. That is the same mask, many times
faster, and with a hundred classes it is what makes the way back cheap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dicom_node.infer.asking import Planes
from dicom_node.infer.likelihoods import Likelihoods
from dicom_node.infer.resample import Weights
from dicom_node.infer.volume import Placement

Pixels = tuple[NDArray[np.intp], ...]
"""Rows and columns."""

_SURE_SHARE = 1e-6
"""Of a voxel; less of it inside the network's field is none."""


@dataclass(frozen=True, eq=False)
class Taps:
    """Along one axis: which voxels of the network make one of the source, and with which share."""

    index: NDArray[np.intp]
    """(size, taps); where there are fewer taps, the last one again."""
    share: NDArray[np.float32]
    """(size, taps); 0 where there are fewer, else of a sum of 1."""
    inside: NDArray[np.bool_]
    """(size,): whether there is any."""

    @classmethod
    def of(cls, weights: Weights | None, size: int, *, is_flipped: bool) -> Taps:
        """Return the taps of the way back along an axis of the source."""
        if weights is None:
            index = np.arange(size)[:, None]
            network_size = size
            share = np.ones((size, 1), np.float32)
        else:
            network_size = weights.shape[1]
            counts = np.diff(weights.indptr)
            most = max(int(counts.max(initial=1)), 1)
            column = np.minimum(np.arange(most), np.maximum(counts - 1, 0)[:, None])
            at = np.minimum(weights.indptr[:-1, None] + column, max(weights.nnz - 1, 0))
            has = np.arange(most) < counts[:, None]
            index = np.where(counts[:, None] > 0, weights.indices[at], 0).astype(np.intp)
            share = np.where(has, weights.data[at], 0).astype(np.float32)
        if is_flipped:
            index = network_size - 1 - index
        sums = share.sum(axis=1, keepdims=True)
        inside = sums[:, 0] > _SURE_SHARE
        share = np.where(inside[:, None], share / np.where(sums > 0, sums, 1), 0)
        return cls(index, share.astype(np.float32), inside)

    def interpolated(self, values: NDArray[Any], axis: Literal[-2, -1]) -> NDArray[np.float32]:
        """Return values with this axis of theirs, rows or columns, brought to the source's."""
        share = self.share[:, :, None] if axis == -2 else self.share
        return _sum(
            np.take(values, self.index[:, tap], axis=axis) * share[:, tap]
            for tap in range(self.index.shape[1])
        )


@dataclass(frozen=True, eq=False)
class _Way:
    """The way back from a network's grid to a source's."""

    slices: Taps
    rows: Taps
    columns: Taps
    axes: tuple[int, int, int]
    """For each axis of the network, the source's."""

    @classmethod
    def of(cls, placement: Placement) -> _Way:
        flipped = [False, False, False]
        for axis, is_flipped in zip(placement.match.axes, placement.match.flipped, strict=True):
            flipped[axis] = is_flipped
        slices, rows, columns = (
            Taps.of(weights, size, is_flipped=is_flipped)
            for weights, size, is_flipped in zip(
                placement.backward, placement.shape, flipped, strict=True
            )
        )
        return cls(slices, rows, columns, placement.match.axes)

    def stacks(self, planes: Planes) -> Iterator[tuple[int, list[Any], NDArray[np.float32]]]:
        """Yield, for each slice of the source, the network's planes that make it, and their shares.

        Planes lie in the source's rows and columns. As long as the network's first axis is the
        source's, no more of them are held than one slice needs.
        """
        if self.axes[0] == 0:
            held: dict[int, Any] = {}
            turned = self.axes[1] > self.axes[2]
            arriving = enumerate(planes)
            order = range(len(self.slices.index))
            descends = bool(self.slices.index[0, 0] > self.slices.index[-1, 0])
            for index in reversed(order) if descends else order:
                needed = self.slices.index[index]
                while max(needed) not in held:
                    number, plane = next(arriving)
                    held[number] = np.swapaxes(plane, -1, -2) if turned else plane
                for old in [number for number in held if number < min(needed)]:
                    del held[old]
                yield index, [held[at] for at in needed], self.slices.share[index]
            for _ in arriving:
                """The rest lies outside of the source; what yields it checks it."""
        else:
            answer = np.stack(list(planes), axis=-3)
            back = np.moveaxis(answer, (-3, -2, -1), [axis - 3 for axis in self.axes])
            views = [back[..., at, :, :] for at in range(back.shape[-3])]
            for index, needed in enumerate(self.slices.index):
                yield index, [views[at] for at in needed], self.slices.share[index]

    def spread(self, labels: NDArray[Any], pick: Any) -> NDArray[Any]:
        """Return the extreme (`np.minimum` or `np.maximum`) of what has a say in each pixel."""
        result = labels
        for axis, taps in ((0, self.rows), (1, self.columns)):
            taken = np.take(result, taps.index[:, 0], axis=axis)
            for tap in range(1, taps.index.shape[1]):
                taken = pick(taken, np.take(result, taps.index[:, tap], axis=axis))
            result = taken
        return result

    @property
    def outside(self) -> NDArray[np.bool_]:
        return ~(self.rows.inside[:, None] & self.columns.inside[None, :])

    def mixed(
        self, stack: Sequence[NDArray[Any]], shares: NDArray[np.float32], at: Pixels
    ) -> NDArray[np.float32]:
        """Return the interpolated channels of some pixels, shape (..., pixels).

        Summed axis by axis, so that a series that is stored the other way round gives the same.
        """
        rows, columns = at

        def line(plane: NDArray[Any], row: NDArray[np.intp]) -> NDArray[Any]:
            return _sum(
                plane[..., row, self.columns.index[columns, x]] * self.columns.share[columns, x]
                for x in range(self.columns.index.shape[1])
            )

        def area(plane: NDArray[Any]) -> NDArray[Any]:
            return _sum(
                line(plane, self.rows.index[rows, y]) * self.rows.share[rows, y]
                for y in range(self.rows.index.shape[1])
            )

        return _sum(
            area(plane) * share for plane, share in zip(stack, shares, strict=True) if share
        )

    def all_mixed(
        self, stack: Sequence[NDArray[Any]], shares: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the interpolated channels of all pixels, shape (channels, rows, columns)."""
        whole = _sum(plane * share for plane, share in zip(stack, shares, strict=True) if share)
        return self.columns.interpolated(self.rows.interpolated(whole, -2), -1)

    def fullest(
        self, stack: Sequence[NDArray[np.uint8]], shares: NDArray[np.float32], at: Pixels
    ) -> NDArray[np.uint8]:
        """Return the label that has the largest share of each pixel; of equal ones the smallest.

        Shares are counted in whole parts of a million, so no order of summation can tell apart
        what is equal.
        """
        rows, columns = at
        pixels = np.arange(len(rows))
        highest = max(int(plane.max()) for plane in stack)
        parts = np.zeros((highest + 1, len(rows)), np.int64)
        for plane, share in zip(stack, shares, strict=True):
            for y, x in np.ndindex(self.rows.index.shape[1], self.columns.index.shape[1]):
                there = plane[self.rows.index[rows, y], self.columns.index[columns, x]]
                weights = self.rows.share[rows, y] * self.columns.share[columns, x] * share
                parts[there, pixels] += np.rint(weights * 1e6).astype(np.int64)
        fullest: NDArray[np.uint8] = np.argmax(parts, axis=0).astype(np.uint8)
        return fullest


def exclusive_mask(
    planes: Planes, placement: Placement, likelihoods: Likelihoods | None = None
) -> NDArray[np.uint8]:
    """Return the class of each voxel of the source, 0 the background.

    Parameters
    ----------
    planes : iterator of numpy.ndarray
        Probabilities or logits, float32, shape (classes, rows, columns), or labels, uint8, shape
        (rows, columns); from `asking.planes_of`.
    placement : Placement
    likelihoods : Likelihoods, optional
        Is filled, where it is wanted; not from labels.

    Returns
    -------
    numpy.ndarray, shape (slices, rows, columns), uint8
    """
    way = _Way.of(placement)
    mask = np.zeros(placement.shape, np.uint8)
    outside = way.outside
    best = _Once()
    for index, stack, shares in way.stacks(planes):
        if not way.slices.inside[index]:
            continue
        said = [
            best.of(plane, _largest) for plane, share in zip(stack, shares, strict=True) if share
        ]
        low = way.spread(_over(said, np.minimum), np.minimum)
        high = way.spread(_over(said, np.maximum), np.maximum)
        at = np.nonzero(low != high)
        if len(at[0]):
            if stack[0].ndim == 2:
                low[at] = way.fullest(stack, shares, at)
            else:
                low[at] = np.argmax(way.mixed(stack, shares, at), axis=0)
        low[outside] = 0
        mask[index] = low
        if likelihoods is not None:
            likelihoods.note(index, way.all_mixed(stack, shares), outside)
    return mask


def independent_masks(
    planes: Planes,
    placement: Placement,
    thresholds: Sequence[float],
    likelihoods: Likelihoods | None = None,
) -> NDArray[np.bool_]:
    """Return which voxels of the source belong to each class; classes may overlap.

    Parameters
    ----------
    planes : iterator of numpy.ndarray, shape (classes, rows, columns), float32
    placement : Placement
    thresholds : sequence of float
        Of each class, in the numbers that the network gives.
    likelihoods : Likelihoods, optional
        Is filled, where it is wanted.

    Returns
    -------
    numpy.ndarray, shape (classes, slices, rows, columns), bool
    """
    way = _Way.of(placement)
    masks = np.zeros((len(thresholds), *placement.shape), np.bool_)
    outside = way.outside
    least = np.asarray(thresholds, np.float32)
    reached = _Once()
    for index, stack, shares in way.stacks(planes):
        if not way.slices.inside[index]:
            continue
        parts = [
            reached.of(plane, lambda p: p[: len(least)] >= least[:, None, None])
            for plane, share in zip(stack, shares, strict=True)
            if share
        ]
        for number, threshold in enumerate(least):
            said = [part[number] for part in parts]
            low = way.spread(_over(said, np.logical_and), np.logical_and)
            high = way.spread(_over(said, np.logical_or), np.logical_or)
            at = np.nonzero(low != high)
            if len(at[0]):
                channel = [plane[number] for plane in stack]
                low[at] = way.mixed(channel, shares, at) >= threshold
            low[outside] = False
            masks[number, index] = low
        if likelihoods is not None:
            likelihoods.note(index, way.all_mixed(stack, shares), outside)
    return masks


class _Once:
    """What was made of the last few planes: neighbouring slices of the source share them."""

    def __init__(self) -> None:
        self._made: list[tuple[NDArray[Any], NDArray[Any]]] = []

    def of(self, plane: NDArray[Any], make: Any) -> NDArray[Any]:
        for known, made in self._made:
            if known is plane:
                return made
        self._made = [*self._made[-7:], (plane, make(plane))]
        return self._made[-1][1]


def _largest(plane: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the class of each pixel; of equal ones the first. Labels are their own classes."""
    if plane.ndim == 2:
        return plane
    best, index = plane[0].copy(), np.zeros(plane.shape[1:], np.uint8)
    for number in range(1, len(plane)):
        wins = plane[number] > best
        index[wins] = number
        np.maximum(best, plane[number], out=best)
    return index


def _over(parts: Sequence[NDArray[Any]], pick: Any) -> NDArray[Any]:
    first, *others = parts
    for other in others:
        first = pick(first, other)
    return first


def _sum(terms: Iterable[NDArray[Any]]) -> NDArray[Any]:
    first, *others = terms
    for other in others:
        first = first + other
    return first
