"""Where elements and items are in Explicit VR Little Endian, and nothing about what they say.

This is an independent reader (PS3.5 7.1.2, 7.5): what wrote the bytes has no part in judging them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from mmap import mmap

from dicom_node.elements import LONG_VRS, SHORT_VRS, UNDEFINED, Reads, after_items

Span = tuple[int, int]

PIXELS = (0x7FE00008, 0x7FE00010)
_READS = Reads.of("<")
_HEAD = struct.Struct("<HH2sH").unpack_from
_LENGTH = struct.Struct("<L").unpack_from


class Unreadable(Exception):
    """The bytes are no Explicit VR Little Endian of defined lengths."""


def elements_in(data: mmap | bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int, bool]]:
    """Yield tag, where element and value begin and end, and whether it has items."""
    while at < end:
        start = at
        group, element, vr, length = _HEAD(data, at)
        at += 8
        if vr in LONG_VRS:
            (length,) = _LENGTH(data, at)
            at += 4
            if length == UNDEFINED:
                tag, value = group << 16 | element, at
                at = _after_fragments(data, at) if tag in PIXELS else _after_items(data, at)
                yield tag, start, value, at, tag not in PIXELS
                continue
        elif vr not in SHORT_VRS:
            raise Unreadable(f"({group:04X},{element:04X}) has no VR")
        yield group << 16 | element, start, at, at + length, vr == b"SQ"
        at += length
    if at != end:
        raise Unreadable("an element is longer than what it stands in")


def _is_item(data: mmap | bytes, at: int) -> bool:
    return data[at : at + 4] == b"\xfe\xff\x00\xe0"


def items_in(data: mmap | bytes, at: int, end: int) -> Iterator[Span]:
    """Yield where the content of each item of a sequence is."""
    while at < end:
        if not _is_item(data, at):
            if data[at : at + 4] == b"\xfe\xff\xdd\xe0":
                return  # the end of a sequence of undefined length
            raise Unreadable("a sequence has something else than items")
        (length,) = _LENGTH(data, at + 4)
        at += 8
        if length == UNDEFINED:
            raise Unreadable("an item has no length")
        yield at, at + length
        at += length


def _after_items(data: mmap | bytes, at: int) -> int:
    return after_items(data, _READS, at, True, 1)


def _after_fragments(data: mmap | bytes, at: int) -> int:
    while _is_item(data, at):
        at += 8 + _LENGTH(data, at + 4)[0]
    return at + 8


def fragments(data: mmap | bytes, start: int, end: int) -> list[Span]:
    """Return where the fragments of encapsulated frames are, without the offset table."""
    spans, at = [], start
    while at < end and _is_item(data, at):
        length = int(_LENGTH(data, at + 4)[0])
        spans.append((at + 8, at + 8 + length))
        at += 8 + length
    return spans[1:]
