"""Overlapping windows over a volume, and how their answers are averaged.

Windows start at every combination of a few starts along each axis, and a window's weights are the
product of one row of weights an axis. So the sum of all weights at a voxel is a product too: three
short rows, known in closed form, instead of a second volume. It holds as long as no window was left
out; where some were, the weights of those that were asked are added up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Weighting = Literal["gaussian", "constant"]

_SIGMA = 1 / 8
"""Of a window's side, as nnU-Net and MONAI have it."""

Row = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Windows:
    """Where the windows of one volume lie, and their weights."""

    shape: tuple[int, int, int]
    """Of the volume; at least `size` along each axis."""
    size: tuple[int, int, int]
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    """Along each axis, ascending."""
    weights: tuple[Row, Row, Row]
    """Along each axis, as long as the window; the weight of a voxel is their product."""

    def __len__(self) -> int:
        return int(np.prod([len(starts) for starts in self.starts]))

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Yield the first voxel of each window, the last axis running fastest."""
        yield from product(*self.starts)

    def part(self, start: tuple[int, int, int]) -> tuple[slice, slice, slice]:
        """Return which part of the volume a window sees."""
        z, y, x = (slice(at, at + size) for at, size in zip(start, self.size, strict=True))
        return z, y, x

    @cached_property
    def sums(self) -> tuple[Row, Row, Row]:
        """Along each axis, as long as the volume: the product is the sum of all weights there."""
        sums = [
            _sum(size, starts, weights)
            for size, starts, weights in zip(self.shape, self.starts, self.weights, strict=True)
        ]
        return sums[0], sums[1], sums[2]


def windows_over(
    shape: tuple[int, int, int],
    size: tuple[int, int, int],
    overlap: float,
    weighting: Weighting = "gaussian",
) -> Windows:
    """Return windows that cover a volume evenly.

    Parameters
    ----------
    shape : tuple of int
        Of the volume, at least `size` along each axis.
    size : tuple of int
        Of a window.
    overlap : float
        The least share of a window's side that it has in common with the next, 0 to below 1; the
        last window ends with the volume, so most overlap by a little more.
    weighting : {"gaussian", "constant"}
        A network knows less at the rim of its window: Gaussian, with an eighth of the side.

    References
    ----------
    Isensee et al., nnU-Net, Nature Methods 18 (2021), "Inference"
    """
    starts = [_starts(whole, side, overlap) for whole, side in zip(shape, size, strict=True)]
    rows = [_weights(side, weighting) for side in size]
    return Windows(
        shape=shape,
        size=size,
        starts=(starts[0], starts[1], starts[2]),
        weights=(rows[0], rows[1], rows[2]),
    )


def _starts(whole: int, side: int, overlap: float) -> tuple[int, ...]:
    if whole < side:
        raise ValueError(f"a window of {side} does not fit into {whole}")
    step = max(side * (1.0 - overlap), 1.0)
    count = int(np.ceil((whole - side) / step - 1e-9)) + 1
    return tuple(int(at) for at in np.rint(np.linspace(0, whole - side, count)))


def _weights(side: int, weighting: Weighting) -> Row:
    if weighting == "constant":
        return np.ones(side, np.float32)
    away = np.arange(side) - (side - 1) / 2
    row: Row = np.exp(-0.5 * (away / (_SIGMA * side)) ** 2).astype(np.float32)
    return row


def _sum(whole: int, starts: Sequence[int], weights: Row) -> Row:
    total = np.zeros(whole, np.float64)
    for start in starts:
        total[start : start + len(weights)] += weights
    return total.astype(np.float32)
