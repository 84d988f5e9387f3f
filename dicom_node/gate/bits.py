"""Bits of a BINARY Segmentation against a mask of labels, without unpacking any of them.

Theory of operation. A label is a number of a few bits, and a mask has a plane for each of these
bits: the voxels whose label has it. In a slice, put all frames together whose segment's label has
a bit: that must be the plane of the bit. If it is so for all bits, and the frames have as many
voxels as all of them together (so that no voxel is in two of them), each voxel is in one frame, and
that of its label: the label of a voxel is all the bits in whose planes it is. What lies outside of
the frames is zero in the mask if the mask has not more voxels than they. So a slice takes five
comparisons for 20 segments, not 20, and the frames are only put together, 64 pixels at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 8
"""Slices: of 512 x 512 pixels, what they need stays in the processor's cache."""
_WORD = 64


def voxels_held(
    packed: NDArray[np.uint8],
    labels: Sequence[int],
    slices: Sequence[int],
    mask: NDArray[Any],
) -> int | None:
    """Return how many voxels frames have, each of which has its label in the mask.

    If that is as many as the mask has, the frames are those of the mask, all of them.

    Parameters
    ----------
    packed : numpy.ndarray, shape (frames, bytes), uint8
        Eight pixels a byte, the first in the lowest bit (PS3.5 8.1.1).
    labels, slices : sequence of int
        Of each frame; no two frames have both the same.
    mask : numpy.ndarray, shape (slices, rows, columns), uint8

    Returns
    -------
    int or None
        None if one is not as it should be, or frames do not end at a word.
    """
    flat = mask.reshape(len(mask), -1)
    if mask.dtype != np.uint8 or flat.shape[1] % _WORD or not len(packed):
        return None
    frame_at = np.full((max(labels) + 1, len(mask)), -1)
    frame_at[labels, slices] = range(len(packed))
    bits = max(*labels, int(mask.max())).bit_length()  # also of labels that no frame has
    together = np.empty((bits, _AT_ONCE, flat.shape[1] // _WORD), np.uint64)
    frames = np.empty(together.shape[1:], np.uint64)
    drawn = 0
    for first in range(0, len(mask), _AT_ONCE):
        some = flat[first : first + _AT_ONCE]
        together[:] = 0
        voxels = 0
        for label in sorted(set(labels)):
            numbers = frame_at[label, first : first + _AT_ONCE]
            there = np.flatnonzero(numbers >= 0)
            if len(there):
                into = frames[: len(there)]
                _gather(packed, numbers[there], into.view(np.uint8))
                voxels += _count(into)
                _put(together, label, there, into)
        if voxels != _count(np.bitwise_or.reduce(together, axis=0)):
            return None
        if not _are_planes(together, some):
            return None
        drawn += voxels
    return drawn


def _gather(packed: NDArray[np.uint8], numbers: NDArray[np.intp], into: NDArray[np.uint8]) -> None:
    """Copy frames; those of a segment mostly follow one another, up or down."""
    first, last = int(numbers[0]), int(numbers[-1])
    step = 1 if last >= first else -1
    if np.array_equal(numbers, np.arange(first, last + step, step)):
        low, high = sorted((first, last))
        into[:] = packed[low : high + 1][::step]
    else:
        into[:] = packed[numbers]


def _put(
    together: NDArray[np.uint64], label: int, there: NDArray[np.intp], frames: NDArray[np.uint64]
) -> None:
    """Put the frames of a label to the bits that it has."""
    first, last = int(there[0]), int(there[-1])
    for bit in range(label.bit_length()):
        if label >> bit & 1:
            if last - first + 1 == len(there):
                part = together[bit, first : last + 1]
                np.bitwise_or(part, frames, out=part)
            else:
                together[bit, there] |= frames


def _are_planes(together: NDArray[np.uint64], flat: NDArray[np.uint8]) -> bool:
    """Return whether bits of labels are what was put together, from its first voxel to its last."""
    touched = np.flatnonzero(together.any(axis=(0, 1)))
    if not len(touched):
        return True
    words = slice(int(touched[0]), int(touched[-1]) + 1)
    pixels = flat[:, words.start * _WORD : words.stop * _WORD]
    for bit, expected in enumerate(together):
        plane = np.packbits(pixels & np.uint8(1 << bit), axis=-1, bitorder="little")
        if not np.array_equal(plane, expected[: len(flat), words].view(np.uint8)):
            return False
    return True


def _count(words: NDArray[np.uint64]) -> int:
    return int(np.bitwise_count(words).sum(dtype=np.int64))
