"""The way back from a network's grid, voxel by voxel: what every other way is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.infer.resample import Weights
from dicom_node.infer.volume import Placement


def mixed(answer: NDArray[Any], placement: Placement) -> NDArray[np.float64]:
    """Return channels interpolated on the source's grid, weights brought to a sum of 1.

    Parameters
    ----------
    answer : numpy.ndarray, shape (channels, ...)
        The last three axes are the network's.
    """
    flips = tuple(axis - 3 for axis, flipped in enumerate(placement.match.flipped) if flipped)
    turned = np.moveaxis(
        np.flip(answer, flips), (-3, -2, -1), [axis - 3 for axis in placement.match.axes]
    ).astype(np.float64)
    for axis, weights in zip((-3, -2, -1), placement.backward, strict=True):
        if weights is not None:
            turned = np.moveaxis(np.tensordot(_rows(weights), turned, axes=(1, axis)), 0, axis)
    return turned


def to_source(answer: NDArray[Any], placement: Placement) -> NDArray[np.uint8]:
    """Return the largest channel of each voxel; of labels, the one that fills most of it."""
    if answer.ndim == 4:
        likeliest: NDArray[np.uint8] = np.argmax(mixed(answer, placement), axis=0).astype("u1")
        return likeliest
    shares = np.stack([answer == label for label in range(int(answer.max()) + 1)])
    fullest: NDArray[np.uint8] = np.argmax(mixed(shares, placement), axis=0).astype("u1")
    return fullest


def _rows(weights: Weights) -> NDArray[np.float64]:
    dense = np.asarray(weights.todense(), np.float64)
    sums = dense.sum(axis=1, keepdims=True)
    rows: NDArray[np.float64] = np.divide(dense, sums, out=np.zeros_like(dense), where=sums > 1e-6)
    return rows
