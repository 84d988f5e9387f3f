"""Long listings of instances in a result: read where they are, and left out of what pydicom reads.

Most items of a result are references that say the same of one instance each: its SOP Class and its
UID. The first of such a sequence stays in the data set, and is judged for all of them by the rules
for attributes, which look at the form of an item; the others have the same form and values that fit
their VR, or they stay too. Where they lead is looked up one by one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from mmap import mmap

from dicom_node.gate.items import Span, Unreadable, elements_in, items_in

Place = tuple[tuple[int, int], ...]
"""Tags of the sequences around an item, from the outside, each with the index of the item in it."""

_LONG_BYTES = 1024
"""A shorter sequence is left as it is."""
_SEQUENCE = struct.Struct("<HH2s2xL").pack
_ITEM = struct.Struct("<HHL").pack
_HEAD = struct.Struct("<HH2sH").unpack_from
_CLASS = (0x0008, 0x1150, b"UI")
_INSTANCE = (0x0008, 0x1155, b"UI")
_UID = re.compile(rb"((?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+)\0?")
_UID_LENGTH_MAX = 64


@dataclass(frozen=True)
class Listing:
    """References that were left out of a sequence."""

    around: Place
    """The items in which the sequence is, from the outside."""
    tag: int
    references: tuple[tuple[str, str], ...]
    """SOP Class UID and SOP Instance UID of each."""

    @property
    def top(self) -> int:
        """The tag of the first level in which they are."""
        return self.around[0][0] if self.around else self.tag


class Listings:
    """Takes listings out of the elements of one data set."""

    def __init__(self, data: mmap | bytes) -> None:
        self._data = data
        self._uids: dict[bytes, str | None] = {}
        self.found: list[Listing] = []

    def without(self, tag: int, start: int, value: int, end: int, around: Place = ()) -> bytes:
        """Return a sequence of defined length with no more than one item of each long listing."""
        whole = self._data[start:end]
        if end - start < _LONG_BYTES or self._data[value - 4 : value] == b"\xff\xff\xff\xff":
            return whole
        try:
            items = list(items_in(self._data, value, end))
        except Unreadable:
            return whole  # items of undefined length, which pydicom reads
        references = [self._reference(*one) for one in items]
        listed = tuple(one for one in references if one is not None)
        if items and len(listed) == len(items):
            self.found.append(Listing(around, tag, listed[1:]))
            content = self._data[value : items[0][1]]
        else:
            content = b"".join(
                self._item(one, (*around, (tag, index))) for index, one in enumerate(items)
            )
        return _SEQUENCE(tag >> 16, tag & 0xFFFF, b"SQ", len(content)) + content

    def _item(self, item: Span, around: Place) -> bytes:
        content = b"".join(
            self.without(tag, start, value, end, around) if is_sequence else self._data[start:end]
            for tag, start, value, end, is_sequence in elements_in(self._data, *item)
        )
        return _ITEM(0xFFFE, 0xE000, len(content)) + content

    def _reference(self, start: int, end: int) -> tuple[str, str] | None:
        """Return what an item refers to, if it says nothing else and its UIDs are some."""
        found = []
        for expected in (_CLASS, _INSTANCE):
            if end - start < 8:
                return None
            *head, length = _HEAD(self._data, start)
            start += 8 + length
            if tuple(head) != expected or start > end:
                return None
            uid = self._uid(self._data[start - length : start])
            if uid is None:
                return None
            found.append(uid)
        return (found[0], found[1]) if start == end else None

    def _uid(self, value: bytes) -> str | None:
        if value not in self._uids:
            fits = _UID.fullmatch(value)
            is_uid = fits is not None and len(fits[1]) <= _UID_LENGTH_MAX
            self._uids[value] = fits[1].decode("ascii") if fits is not None and is_uid else None
        return self._uids[value]


def under(listings: Sequence[Listing], around: Place, tag: int) -> list[tuple[str, str]]:
    """Return the references that were left out of one sequence."""
    return [
        reference
        for listing in listings
        if listing.tag == tag and listing.around == around
        for reference in listing.references
    ]
