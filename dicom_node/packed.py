"""A mask at rest: its slices deflated, so that those of many time points lie in memory at once.

A mask of 512 x 512 x 300 has 79 MB and deflates to 2 MB; a slice is back in a third of a
millisecond. What draws, shows or checks a mask goes through it slice by slice anyway.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEVEL = 1
"""The fastest: a higher one halves what is little already."""


class PackedMask:
    """What an array of (slices, rows, columns), or of one such map a segment, holds.

    Indexed as the array is, by a slice or by a segment and a slice, it gives that slice as a new
    array. It never changes.

    Parameters
    ----------
    mask : numpy.ndarray, uint8 or bool, 3-D or 4-D
    """

    def __init__(self, mask: NDArray[np.uint8] | NDArray[np.bool_]) -> None:
        self.shape: tuple[int, ...] = mask.shape
        self.dtype: np.dtype[Any] = mask.dtype
        planes = mask.reshape(-1, *mask.shape[-2:])
        self._planes = [zlib.compress(np.ascontiguousarray(one).data, _LEVEL) for one in planes]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def packed_bytes(self) -> int:
        """How much memory it takes."""
        return sum(map(len, self._planes))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: int | tuple[int, int]) -> NDArray[Any]:
        if isinstance(at, tuple):
            segment, index = at
            return self._plane(segment * self.shape[1] + index)
        if self.ndim == 3:
            return self._plane(at)
        return np.stack([self[at, index] for index in range(self.shape[1])])

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[index] for index in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a packed mask has no array that could be shared")
        whole = np.stack(list(self))
        return whole if dtype is None else whole.astype(dtype)

    def _plane(self, number: int) -> NDArray[Any]:
        rows, columns = self.shape[-2:]
        data = zlib.decompress(self._planes[number], bufsize=rows * columns)
        return np.frombuffer(data, self.dtype).reshape(rows, columns)


Mask = NDArray[np.uint8] | NDArray[np.bool_] | PackedMask
"""(slices, rows, columns) of uint8, or (segments, slices, rows, columns) of bool."""


def planes_of(mask: Mask) -> Iterator[NDArray[Any]]:
    """Yield the slices of a mask, of one map after the other where there are several."""
    if mask.ndim == 3:
        yield from mask
    else:
        segments, slices = mask.shape[:2]
        yield from (mask[one, index] for one in range(segments) for index in range(slices))


def packed(mask: NDArray[Any] | PackedMask | None) -> PackedMask | None:
    """Return a mask at rest."""
    return mask if mask is None or isinstance(mask, PackedMask) else PackedMask(mask)
