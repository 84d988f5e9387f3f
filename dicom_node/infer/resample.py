"""Resampling along one axis, as a matrix; three of them bring a volume to a network's grid.

Both grids are centred on the same field of view, so nothing is shifted, by half a pixel or more,
and a flip of the axis commutes with the matrix. Pixels are areas: a pixel of size s at index i
covers [i s, (i + 1) s], its centre lies at (i + 0.5) s.

Shrinking averages by area, so no pixel is skipped; enlarging interpolates linearly between pixel
centres. What a row of weights lacks to 1 lies outside the field of view. Rows have few entries, so
the matrices are sparse; that also keeps the sums in one order, whatever the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Weights = csr_array[np.float32, tuple[int, int]]
"""Shape (size_out, size_in)."""


def axis_weights(
    size_in: int,
    spacing_in_mm: float,
    size_out: int,
    spacing_out_mm: float,
    away_mm: float = 0.0,
) -> Weights:
    """Return the matrix that resamples one axis about the common centre of both fields of view.

    Parameters
    ----------
    size_in, size_out : int
        Pixels along the axis.
    spacing_in_mm, spacing_out_mm : float
        Pixel sizes; their ratio decides between averaging and interpolation.
    away_mm : float
        Where the centre of the output lies instead, seen from that of the input.

    Returns
    -------
    scipy.sparse.csr_array, shape (size_out, size_in), float32
        Rows sum to 1 inside the input's field of view, to less where they reach beyond it.
    """
    ratio = float(spacing_out_mm / spacing_in_mm)
    # In pixels of the input, with its field at 0 .. size_in.
    steps = np.arange(size_out, dtype=np.float64) + 0.5 - size_out / 2
    centres: NDArray[np.float64] = size_in / 2 + away_mm / spacing_in_mm + steps * ratio
    weights = _averaging(centres, size_in, ratio) if ratio >= 1 else _linear(centres, size_in)
    # What rounding leaves of an overlap that is none would only be multiplied.
    weights[weights < 1e-6] = 0.0
    return csr_array(weights.astype(np.float32))


def resample(values: NDArray[Any], weights: Weights | None, axis: int) -> NDArray[np.float32]:
    """Return an array resampled along one axis.

    Parameters
    ----------
    values : numpy.ndarray, float32
    weights : scipy.sparse.csr_array
        None leaves the axis as it is.
    axis : int
    """
    if weights is None:
        return values
    moved = np.moveaxis(values, axis, 0)
    product = weights @ moved.reshape(len(moved), -1)
    return np.moveaxis(product.reshape(-1, *moved.shape[1:]), 0, axis)


def _averaging(centres: NDArray[np.float64], size_in: int, ratio: float) -> NDArray[np.float64]:
    low = (centres - ratio / 2)[:, None]
    high = (centres + ratio / 2)[:, None]
    edge = np.arange(size_in)[None, :]
    overlap = np.minimum(high, edge + 1) - np.maximum(low, edge)
    weights: NDArray[np.float64] = np.clip(overlap, 0.0, None) / ratio
    return weights


def _linear(centres: NDArray[np.float64], size_in: int) -> NDArray[np.float64]:
    inside = (centres >= 0) & (centres <= size_in)
    # Within half a pixel of the rim there is no neighbour: the rim's own value holds.
    at = np.clip(centres - 0.5, 0.0, size_in - 1.0)
    left = np.minimum(np.floor(at).astype(int), max(size_in - 2, 0))
    right = np.minimum(left + 1, size_in - 1)
    weights = np.zeros((len(centres), size_in))
    rows = np.arange(len(centres))
    np.add.at(weights, (rows, left), np.where(inside, 1.0 - (at - left), 0.0))
    np.add.at(weights, (rows, right), np.where(inside, at - left, 0.0))
    return weights
