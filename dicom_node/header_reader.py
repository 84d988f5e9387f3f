"""The headers of a series, file by file: an element that stood so in a file before is known.

Slices of one scan share nine of ten elements, byte for byte. To find where an element ends takes a
microsecond, to decode it 20: 500 headers of a real CT took 2.1 s, three times what it takes to read
all of their pixels. So a file is walked, as far as its pixels; pydicom reads a data set of those
elements that are new, and whole files over which the walk stumbles.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import BinaryIO

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicom_node.elements import (
    LONG_VRS,
    SHORT_VRS,
    UNDEFINED,
    VRS_OF_ITEMS,
    Stumbled,
    after_items,
    is_of_items,
)
from dicom_node.headers import Part10, read_to_the_pixels, reading
from dicom_node.part10 import Encoding, begin_of

_BEGINNING_BYTES = 1 << 16
"""What is read of a file; a longer header is left to pydicom."""
_PIXELS = 0x7FE00008
"""The first of the elements at which pydicom stops before the pixels."""
_PREAMBLE_BYTES = 128
_PREFIX = b"DICM"
_CREATORS_END = 0xFF
_DECIDING = frozenset({0x00080005, 0x00280100, 0x00280103})
"""Specific Character Set, Bits Allocated, Pixel Representation: what the bytes of another element
mean depends on these (PS3.3 C.12.1.1.2, PS3.6 6: "US or SS")."""


class HeaderReader:
    """Reads headers one after the other. Their elements are shared: treat them as read-only."""

    def __init__(self) -> None:
        self._deciding: object = None
        self._known: dict[bytes, DataElement] = {}

    def read(self, file: Part10) -> tuple[Dataset, int]:
        """Return everything before the pixels of a file, decoded, and where they begin.

        Raises
        ------
        StudyUnusable
            If it is not DICOM or cannot be parsed.
        """
        with file.open("rb") as opened:
            try:
                return self._walked(opened)
            except Stumbled:
                pass
        return read_to_the_pixels(file)

    def _walked(self, file: BinaryIO) -> tuple[Dataset, int]:
        data = file.read(_BEGINNING_BYTES)
        encoding, begin = begin_of(data)
        if data[_PREAMBLE_BYTES:][: len(_PREFIX)] != _PREFIX:
            raise Stumbled
        contents, pixels_at = _contents(data, encoding, begin)
        deciding = (encoding.explicit, encoding.byte_order, *map(contents.get, _DECIDING))
        if deciding != self._deciding:
            self._deciding, self._known = deciding, {}
        known = {tag: self._known.get(content) for tag, content in contents.items()}
        fresh = [tag for tag in contents if tag in _DECIDING or known[tag] is None]
        with reading("the header"):
            new = b"".join(contents[tag] for tag in fresh)
            read = pydicom.dcmread(BytesIO(data[:begin] + new))
            read.decode()
            for tag in fresh:
                known[tag] = read[tag]
                if _speaks_for_itself(tag, contents[tag], encoding):
                    self._known[contents[tag]] = read[tag]
        header = Dataset({one.tag: one for one in known.values() if one is not None})
        header.file_meta, header.preamble = read.file_meta, read.preamble
        is_implicit, is_little = read.original_encoding
        header.set_original_encoding(is_implicit, is_little, read.original_character_set)
        return header, pixels_at


def _speaks_for_itself(tag: int, content: bytes, encoding: Encoding) -> bool:
    """Return whether the bytes of an element say what it is.

    Those of a private element may not: its VR can be that of whoever reserved its block (PS3.5
    7.8.1), who has to stand before it when it is read.
    """
    if not tag >> 16 & 1:
        return True
    return encoding.explicit and content[4:6] != b"UN" and tag & 0xFFFF > _CREATORS_END


def _contents(data: bytes, encoding: Encoding, at: int) -> tuple[dict[int, bytes], int]:
    """Return the whole elements of a data set by their tags, and where its pixels begin."""
    contents: dict[int, bytes] = {}
    previous = -1
    try:
        while True:
            begin = at
            tag, at = _after(data, encoding, at)
            if tag >= _PIXELS:
                return contents, begin
            if not previous < tag or at > len(data):
                raise Stumbled
            contents[tag] = data[begin:at]
            previous = tag
    except struct.error:
        raise Stumbled from None


def _after(data: bytes, encoding: Encoding, at: int) -> tuple[int, int]:
    """Return the tag of the element that begins at a place, and where it ends."""
    reads = encoding.reads
    if not encoding.explicit:
        group, number, length = reads.implicit(data, at)
        tag = group << 16 | number
        if length != UNDEFINED:
            return tag, at + 8 + length
        if not is_of_items(tag):
            raise Stumbled
        return tag, after_items(data, reads, at + 8, False, 1)
    group, number, vr, length = reads.explicit(data, at)
    tag = group << 16 | number
    if vr in SHORT_VRS:
        return tag, at + 8 + length
    if vr not in LONG_VRS:
        raise Stumbled
    (length,) = reads.length(data, at + 8)
    if length != UNDEFINED:
        return tag, at + 12 + length
    if tag >= _PIXELS:
        return tag, at
    if vr not in VRS_OF_ITEMS:
        raise Stumbled
    return tag, after_items(data, reads, at + 12, True, 1)
