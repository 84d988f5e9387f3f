"""What every walk over a data set goes by: headers of elements, VRs, items (PS3.5 7).

A walk reads tags, VRs and lengths and jumps over the values. It goes where pydicom would go, or it
stumbles: so where it arrives, it is right, and where it stumbles, pydicom decides. Whatever bytes
it depends on it reads through `Reads`: who keeps a trail of those reads (`Reads.trailed`) knows
that another data set with the same bytes at the same places is walked the same way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from mmap import mmap
from struct import Struct
from typing import Any, Final

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR

Buffer = bytes | bytearray | memoryview | mmap
"""A data set; a memoryview must be one of bytes."""
Span = tuple[int, int]
"""Where something begins in a data set, and where it ends."""

SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
"""VRs whose length has 16 bits (PS3.5 7.1.2)."""
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
"""VRs whose length has 32 bits, after two reserved bytes."""
VRS_OF_ITEMS = frozenset({b"SQ", b"UN"})
"""VRs that may have an undefined length: UN of that is a sequence (PS3.5 6.2.2)."""
_VRS = SHORT_VRS | LONG_VRS

UNDEFINED: Final = 0xFFFFFFFF
_ITEMS = 0xFFFE  # the group of items and delimiters (PS3.5 7.5)
_ITEM = 0xE000
_ITEM_DELIMITATION = 0xE00D
_SEQUENCE_DELIMITATION = 0xE0DD
_NO_END = sys.maxsize
_DEPTH_MAX = 16
_CHARACTER_SETS_BYTES_MAX = 256


class Stumbled(Exception):
    """The bytes are not such that the walk knows what pydicom would make of them."""


@dataclass(frozen=True, slots=True)
class Reads:
    """The four ways in which the walk looks at bytes."""

    explicit: Callable[[Buffer, int], tuple[Any, ...]]
    """Group, element, VR and 16 bits of length (PS3.5 7.1.2)."""
    implicit: Callable[[Buffer, int], tuple[Any, ...]]
    """Group, element and 32 bits of length (PS3.5 7.1.3); so are items and delimiters too."""
    length: Callable[[Buffer, int], tuple[Any, ...]]
    value: Callable[[Buffer, int, int], bytes]

    @classmethod
    def of(cls, byte_order: str) -> Reads:
        """Return the reads of little (`<`) or big (`>`) endian."""
        return cls(
            explicit=Struct(f"{byte_order}HH2sH").unpack_from,
            implicit=Struct(f"{byte_order}HHL").unpack_from,
            length=Struct(f"{byte_order}L").unpack_from,
            value=lambda data, start, end: bytes(data[start:end]),
        )

    def trailed(self, trail: list[Span]) -> Reads:
        """Return the same reads, which also append to `trail` what they read."""

        def on_trail(
            read: Callable[[Buffer, int], tuple[Any, ...]], size: int
        ) -> Callable[[Buffer, int], tuple[Any, ...]]:
            def trailing(data: Buffer, at: int) -> tuple[Any, ...]:
                trail.append((at, at + size))
                return read(data, at)

            return trailing

        def value(data: Buffer, start: int, end: int) -> bytes:
            trail.append((start, end))
            return self.value(data, start, end)

        return Reads(
            on_trail(self.explicit, 8), on_trail(self.implicit, 8), on_trail(self.length, 4), value
        )


def after_items(data: Buffer, reads: Reads, at: int, explicit: bool, depth: int) -> int:
    """Return where a sequence of undefined length ends (PS3.5 7.5.2).

    pydicom parses these, while it jumps over one of defined length.
    """
    if depth > _DEPTH_MAX:
        raise Stumbled
    while True:
        group, element, length = reads.implicit(data, at)
        at += 8
        if group != _ITEMS:
            raise Stumbled
        if element == _SEQUENCE_DELIMITATION:
            return at
        if element != _ITEM:
            raise Stumbled
        if length == 0:
            continue
        end = _NO_END if length == UNDEFINED else at + length
        if explicit and reads.explicit(data, at)[2] in _VRS:
            at = _after_explicit_item(data, reads, at, end, depth)
        else:  # in a sequence that was sent as UN, or just a delimiter
            if explicit and is_vr(reads.explicit(data, at)[2]):
                raise Stumbled
            at = _after_implicit_item(data, reads, at, end, depth)


def _after_explicit_item(data: Buffer, reads: Reads, at: int, end: int, depth: int) -> int:
    """Return where an item ends: at its delimiter, or at `end`."""
    read, short, long = reads.explicit, SHORT_VRS, LONG_VRS
    while at < end:
        group, element, vr, length = read(data, at)
        at += 8
        if element == 5 and group == 8:
            if vr != b"CS":
                raise Stumbled
            check_character_set(data, reads, at, at + length)
        elif vr not in short:
            if vr not in long:
                if vr == b"\0\0" and _ends_item(group, element, length, end):
                    return at
                raise Stumbled
            (length,) = reads.length(data, at)
            at += 4
            if length == UNDEFINED:
                if vr not in VRS_OF_ITEMS:
                    raise Stumbled
                at = after_items(data, reads, at, True, depth + 1)
                continue
        at += length
    if at != end:
        raise Stumbled
    return at


def _after_implicit_item(data: Buffer, reads: Reads, at: int, end: int, depth: int) -> int:
    """As `_after_explicit_item`, for Implicit VR."""
    while at < end:
        group, element, length = reads.implicit(data, at)
        at += 8
        if group == _ITEMS:
            if _ends_item(group, element, length, end):
                return at
            raise Stumbled
        if length == UNDEFINED:
            if not is_of_items(group << 16 | element):
                raise Stumbled
            at = after_items(data, reads, at, False, depth + 1)
            continue
        if element == 5 and group == 8:
            check_character_set(data, reads, at, at + length)
        at += length
    if at != end:
        raise Stumbled
    return at


def _ends_item(group: int, element: int, length: int, end: int) -> bool:
    """Return whether this delimits an item of undefined length (PS3.5 7.5.2)."""
    return group == _ITEMS and element == _ITEM_DELIMITATION and length == 0 and end == _NO_END


def is_of_items(tag: int) -> bool:
    """Return whether an element of undefined length in Implicit VR is a sequence."""
    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:
        return True  # pydicom looks for an item; whoever does not find one stumbles


def is_vr(vr: bytes) -> bool:
    """Return whether pydicom takes these two bytes for a VR, be it one that nobody knows."""
    return vr.isalpha() and vr.isupper()


def check_character_set(data: Buffer, reads: Reads, start: int, end: int) -> None:
    """Stumble over a character set over which pydicom could."""
    if end - start > _CHARACTER_SETS_BYTES_MAX:
        raise Stumbled
    for name in reads.value(data, start, end).decode("latin-1").rstrip("\0 ").split("\\"):
        if name not in python_encoding:
            raise Stumbled
