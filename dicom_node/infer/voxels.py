"""The decoded voxels of a series, before anything is done to them.

They stay of the integer type in which they are stored: half of the memory of floating point, half
of the way to a GPU. What the rescale of each slice makes of them is a line, kept beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.infer.pixels import Values
from dicom_node.infer.series import SourceImage


@dataclass(frozen=True, eq=False)
class Voxels:
    """What a series holds: `stored * slope + intercept`, slice by slice."""

    stored: NDArray[Any]
    """(slices, rows, columns): uint8, int16, uint16, int32 or float32."""
    slopes: NDArray[np.float32]
    """(slices,)"""
    intercepts: NDArray[np.float32]
    """(slices,)"""

    def values(self, index: int) -> NDArray[np.float32]:
        """Return one slice as its network means it, in a new array."""
        result: NDArray[np.float32] = self.stored[index].astype(np.float32)
        result *= self.slopes[index]
        result += self.intercepts[index]
        return result


def read_voxels(images: Sequence[SourceImage], values: Values, *, threads: int) -> Voxels:
    """Return the voxels of the slices of a series, in their order.

    Parameters
    ----------
    images : sequence of SourceImage
        All of one matrix.
    values : Values
        Hounsfield units or brightness.
    threads : int
        How many slices are decoded at a time; decoders leave Python's lock alone.

    Raises
    ------
    StudyUnusable
        If pixels are missing, cannot be decoded, or their rescale makes no sense.
    """

    first = images[0].linear(values)
    stored = np.empty((len(images), *first.stored.shape), first.stored.dtype)
    lines = np.empty((2, len(images)), np.float32)
    others: dict[int, NDArray[Any]] = {}

    def place(index: int) -> None:
        """Have a slice read where it belongs, or put it there from the processor's cache."""
        image = images[index].linear(values, stored[index]) if index else first
        lines[:, index] = image.slope, image.intercept
        if image.stored.dtype != stored.dtype:
            others[index] = image.stored
        elif not np.may_share_memory(image.stored, stored):
            stored[index] = image.stored

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(place, range(len(images))))
    if others:  # slices of several types: they get the one that holds all
        kind = np.result_type(stored.dtype, *{one.dtype for one in others.values()})
        stored = stored.astype(kind)
        for index, other in others.items():
            stored[index] = other
    return Voxels(stored, slopes=lines[0], intercepts=lines[1])
