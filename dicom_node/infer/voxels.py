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

from dicom_node.infer.pixels import LinearImage, Values
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

    def read(image: SourceImage) -> LinearImage:
        return image.linear(values)

    with ThreadPoolExecutor(threads) as pool:
        slices = list(pool.map(read, images))
    kind = np.result_type(*{one.stored.dtype for one in slices})
    return Voxels(
        stored=np.stack([one.stored.astype(kind, copy=False) for one in slices]),
        slopes=np.array([one.slope for one in slices], np.float32),
        intercepts=np.array([one.intercept for one in slices], np.float32),
    )
