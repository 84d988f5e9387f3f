"""What is said of each frame of a SEG: the Per-frame Functional Groups (PS3.3 C.7.6.16.1.2).

A slice has a frame for each of a hundred segments, and their items differ in one number and the
segment. So what stands before and behind these is made once a slice.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from dicom_node.encode.drafts import Piece
from dicom_node.encode.explicit import (
    element,
    head_of,
    item,
    item_head,
    sequence,
    text,
    unsigned_short,
)
from dicom_node.encode.frames import Frame
from dicom_node.encode.planes import Planes

_AT_ONCE = 1024
_BEFORE_VALUES = 12 + 8 + 8
"""Bytes of Frame Content before its values: the heads of the sequence, its item, the element."""


class FrameItems:
    """The Per-frame Functional Groups Sequence, made anew each time that it is gone through.

    Parameters
    ----------
    planes : Planes
        Of the mask.
    frames : sequence of Frame
        In their order.
    by_segment : bool
        Whether a frame is of one segment (BINARY, FRACTIONAL) or of all (LABELMAP).
    tells_segment : bool
        Whether an item names its segment; where there is but one, the shared item does.
    """

    def __init__(
        self, planes: Planes, frames: Sequence[Frame], *, by_segment: bool, tells_segment: bool
    ) -> None:
        self._frames = frames
        drawn = {plane for _, plane in frames}
        order = [plane for plane in planes.order if plane in drawn]
        is_placed = bool(planes.positions)
        # An index for each dimension: the segment, the place along the normal; a label map of a
        # projection has neither, and is labelled instead.
        counts_segments = by_segment or not is_placed
        values = counts_segments + is_placed
        label = b"" if by_segment or is_placed else text("FrameLabel", "Frame")
        content = sequence(
            "FrameContentSequence", item(element("DimensionIndexValues", bytes(4 * values)), label)
        )
        before_values, behind_values = (
            content[:_BEFORE_VALUES],
            content[_BEFORE_VALUES:][4 * values :],
        )

        numbers = range(1, 2 + max(segment for segment, _ in frames))
        self._indices = [struct.pack("<I", number) * counts_segments for number in numbers]
        self._segments = [_identification(number) * tells_segment for number in numbers]
        self._around: dict[int, tuple[bytes, bytes]] = {}
        for place, plane in enumerate(order, start=1):
            derivation, position = planes.derivations[plane], planes.positions_said[plane]
            size = sum(map(len, (derivation, content, position, self._segments[0])))
            self._around[plane] = (
                item_head(size) + derivation + before_values,
                struct.pack("<I", place) * is_placed + behind_values + position,
            )

    def __iter__(self) -> Iterator[Piece]:
        sizes = {
            plane: len(before) + len(self._indices[0]) + len(behind) + len(self._segments[0])
            for plane, (before, behind) in self._around.items()
        }
        size = sum(sizes[plane] for _, plane in self._frames)
        yield head_of("PerFrameFunctionalGroupsSequence", size)
        for first in range(0, len(self._frames), _AT_ONCE):
            yield b"".join(map(self._item, self._frames[first : first + _AT_ONCE]))

    def _item(self, frame: Frame) -> bytes:
        segment, plane = frame
        before, behind = self._around[plane]
        return before + self._indices[segment] + behind + self._segments[segment]


def _identification(number: int) -> bytes:
    return sequence(
        "SegmentIdentificationSequence", item(unsigned_short("ReferencedSegmentNumber", number))
    )
