"""Exact percentiles of values that only the device holds, as numpy interpolates them.

The k-th smallest value is found by its bits: count how many values have each beginning, take the
beginning in which the k-th lies, and look at the next bits of those only. Three times, eleven bits
each, and the value is known to its last bit, whatever the order of counting was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Count = Callable[[Sequence[int], int, int], Counts]
"""(prefixes, shift, bits) to how many keys with each prefix continue with each `bits` bits that
follow, the lowest `shift` bits left open; shape (prefixes, 2 ** bits)."""

_PARTS = ((21, 11), (10, 11), (0, 10))
"""Of the 32 bits of a key: (shift, bits), the highest first."""


def percentiles(count: Count, size: int, ranks: Sequence[float]) -> list[float]:
    """Return percentiles of float32 values.

    Parameters
    ----------
    count : callable
    size : int
        How many values there are.
    ranks : sequence of float
        0 to 100.

    References
    ----------
    numpy.percentile, method "linear"
    """
    places = [_Between.of(size, rank) for rank in ranks]
    wanted = sorted({at for place in places for at in (place.low, place.high)})
    values = dict(zip(wanted, _smallest(count, wanted), strict=True))
    return [place.value(values[place.low], values[place.high]) for place in places]


@dataclass(frozen=True)
class _Between:
    """Where a percentile lies among the values in order."""

    low: int
    high: int
    share: float

    @classmethod
    def of(cls, size: int, rank: float) -> _Between:
        place = (size - 1) * (rank / 100)
        low = min(int(place), size - 1)
        return cls(low, min(low + 1, size - 1), place - low)

    def value(self, low: np.float32, high: np.float32) -> float:
        apart = high - low  # in single precision, as numpy does
        if self.share >= 0.5:
            return float(high - apart * np.float32(1 - self.share))
        return float(low + apart * np.float32(self.share))


def _smallest(count: Count, places: Sequence[int]) -> list[np.float32]:
    prefixes = [0] * len(places)
    left = list(places)
    for shift, bits in _PARTS:
        known = sorted(set(prefixes))
        below = np.cumsum(count(known, shift, bits), axis=1)
        for number, prefix in enumerate(prefixes):
            row = below[known.index(prefix)]
            part = int(np.searchsorted(row, left[number], side="right"))
            left[number] -= int(row[part - 1]) if part else 0
            prefixes[number] = prefix << bits | part
    return [_number(key) for key in prefixes]


def _number(key: int) -> np.float32:
    """Return the value of a key; see `count_keys` in levels.cu."""
    bits = key ^ 0x80000000 if key & 0x80000000 else ~key & 0xFFFFFFFF
    return np.float32(np.array([bits], np.uint32).view(np.float32)[0])
