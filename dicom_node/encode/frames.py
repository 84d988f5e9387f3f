"""The frames of a SEG as pieces of bytes: packed bits, or run-length encoded (PS3.5 8.1.1, A.4)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

from dicom_node.encode.drafts import Piece
from dicom_node.encode.drawing import Drawing
from dicom_node.encode.explicit import item, item_head
from dicom_node.errors import InvariantBroken

Frame = tuple[int, int]
"""Index of the segment, index of the slice; of a label map, all segments are one."""

_PIXEL_DATA = struct.pack("<HH2sxx", 0x7FE0, 0x0010, b"OB")
_UNDEFINED = 0xFFFFFFFF
_SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
_AT_ONCE = 8
"""Frames that end inside a byte end at one after eight of them."""


class PackedFrames:
    """Pixel Data of one bit a voxel, packed from the mask each time that it is gone through.

    Parameters
    ----------
    drawing : Drawing
        Whose mask must stay as it is.
    frames : sequence of Frame
        In their order.

    Raises
    ------
    InvariantBroken
        If they are longer than an element can be.
    """

    def __init__(self, drawing: Drawing, frames: Sequence[Frame]) -> None:
        self._drawing = drawing
        self._frames = frames
        self._pixels = int(np.prod(drawing.mask.shape[-2:]))
        self._size = -(-self._pixels * len(frames) // 8)
        self._filling = b"\0" * (self._size % 2)
        if self._size + 1 >= _UNDEFINED:
            raise InvariantBroken(
                f"{len(frames)} frames of {self._pixels} voxels are more than 4 GiB, the longest "
                "that Pixel Data can be",
                hint="let the engine draw fewer segments, or have the SEG written as LABELMAP",
            )

    def __iter__(self) -> Iterator[Piece]:
        yield _PIXEL_DATA + struct.pack("<I", self._size + len(self._filling))
        bits = np.empty((_AT_ONCE, self._pixels), np.bool_)
        for first in range(0, len(self._frames), _AT_ONCE):
            some = self._frames[first : first + _AT_ONCE]
            for row, (segment, plane) in zip(bits, some, strict=False):
                self._drawing.voxels(segment, plane, row)
            yield np.packbits(bits[: len(some)].ravel(), bitorder="little").data
        if self._filling:
            yield self._filling


def encapsulated(frames: Sequence[bytes]) -> list[bytes]:
    """Return Pixel Data of encoded frames, each in one fragment, with a Basic Offset Table.

    Raises
    ------
    InvariantBroken
        If the table cannot tell where the last begins.
    """
    offsets = list(accumulate((8 + len(frame) for frame in frames[:-1]), initial=0))
    if offsets[-1] > _UNDEFINED:
        raise InvariantBroken(f"{len(frames)} encoded frames are more than 4 GiB")
    pieces = [
        _PIXEL_DATA + struct.pack("<I", _UNDEFINED),
        item(struct.pack(f"<{len(offsets)}I", *offsets)),
    ]
    for frame in frames:
        pieces += [item_head(len(frame)), frame]
    return [*pieces, _SEQUENCE_END]
