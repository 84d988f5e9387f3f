"""The headers of a series, file by file: an element that stood so in a file before is known.

Slices of one scan share nine of ten elements, byte for byte. To find where an element ends takes a
microsecond, to decode it 20: 500 headers of a real CT took 2.1 s, ten times what it takes to read
all of their pixels. So a file is walked, as far as its pixels, and elements that stood one behind
the other in files before are stepped over at once; new ones are decoded by themselves where they
can be, else pydicom reads a data set of them. It also reads whole files over which the walk
stumbles.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, BinaryIO

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset

from dicom_node.elements import (
    LONG_VRS,
    SHORT_VRS,
    UNDEFINED,
    VRS_OF_ITEMS,
    Reads,
    Stumbled,
    after_items,
    is_of_items,
)
from dicom_node.headers import Part10, read_to_the_pixels, reading
from dicom_node.lone_elements import lone_element
from dicom_node.part10 import Encoding, begin_of

_BEGINNING_BYTES = 1 << 16
"""What is read of a file; a longer header is left to pydicom."""
_PIXELS = 0x7FE00008
"""The first of the elements at which pydicom stops before the pixels."""
_PREAMBLE_BYTES = 128
_PREFIX = b"DICM"
_META_BEGIN = _PREAMBLE_BYTES + len(_PREFIX)
_SOP_INSTANCE = 0x00020003
_CREATORS_END = 0xFF
_DECIDING = frozenset({0x00080005, 0x00280100, 0x00280103})
"""Specific Character Set, Bits Allocated, Pixel Representation: what the bytes of another element
mean depends on these (PS3.3 C.12.1.1.2, PS3.6 6: "US or SS")."""
_EXPLICIT_LITTLE = Reads.of("<")


@dataclass(slots=True)
class _Run:
    """Elements that stood one behind the other in several files, byte for byte."""

    content: bytes
    last: int
    elements: dict[int, DataElement | None]


@dataclass(slots=True)
class _Found:
    """What stands in one file."""

    elements: dict[int, DataElement | None]
    """In the order of their tags; None for those that are not known."""
    contents: dict[int, bytes]
    """Of those that did not stand in a run."""
    pixels_at: int = 0
    has_runs: bool = True
    """Whether each run whose first element is there stands as it was."""


@dataclass(slots=True)
class _Known:
    """What was learnt of files that agree in what decides the meaning of bytes."""

    deciding: object = None
    elements: dict[bytes, DataElement] = field(default_factory=dict)
    """By their bytes."""
    runs: dict[int, _Run] = field(default_factory=dict)
    """By the tag of their first element."""
    before: Mapping[int, bytes] = field(default_factory=dict)
    """All elements of a file, whole."""
    files: int = 0
    character_set: Any = None


class HeaderReader:
    """Reads headers one after the other. Their elements are shared: treat them as read-only."""

    def __init__(self) -> None:
        self._known = _Known()
        self._metas: dict[bytes, FileMetaDataset] = {}

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
        if data[_PREAMBLE_BYTES:_META_BEGIN] != _PREFIX:
            raise Stumbled
        found = self._found(data, encoding, begin)
        with reading("the header"):
            read = self._decode(data[:begin], found, encoding)
            meta = self._meta(data, begin) if read is None else read.file_meta
        self._learn(found, data, encoding, begin)
        header = Dataset({one.tag: one for one in found.elements.values() if one is not None})
        header.file_meta, header.preamble = meta, data[:_PREAMBLE_BYTES]
        header.set_original_encoding(
            not encoding.explicit, encoding.byte_order == "<", self._known.character_set
        )
        return header, found.pixels_at

    def _found(self, data: bytes, encoding: Encoding, begin: int) -> _Found:
        """Return what stands in a file; forget what is known if it means something else here."""
        known = self._known
        found = _walk(data, encoding, begin, known)
        deciding = (encoding.explicit, encoding.byte_order, *map(found.contents.get, _DECIDING))
        if deciding != known.deciding:
            self._known = _Known(deciding)
        elif not known.runs or not any(_dependent(found.contents, encoding)):
            return found
        else:
            known.runs = {}  # those who reserved its blocks have to be looked for
        return _walk(data, encoding, begin, self._known)

    def _decode(self, begin: bytes, found: _Found, encoding: Encoding) -> Dataset | None:
        """Decode what is not known; return what pydicom read for that, if it had to."""
        known, elements, contents = self._known, found.elements, found.contents
        rest: set[int] = set()
        for tag, content in contents.items():
            if elements[tag] is None:
                if tag in _DECIDING or not _speaks_for_itself(tag, content, encoding):
                    rest.add(tag)
                    continue
                element = lone_element(tag, content, encoding.explicit, encoding.byte_order)
                if element is None:
                    rest.add(tag)
                else:
                    elements[tag] = known.elements[content] = element
        if not rest and known.character_set is not None:
            return None
        needed = rest | (_DECIDING & contents.keys())
        if any(_dependent({tag: contents[tag] for tag in rest}, encoding)):
            needed.update(filter(_is_creator, contents))
        new = b"".join(contents[tag] for tag in contents if tag in needed)
        read = pydicom.dcmread(BytesIO(begin + new))
        read.decode()
        known.character_set = read.original_character_set
        for tag in rest:
            elements[tag] = read[tag]
            if _speaks_for_itself(tag, contents[tag], encoding):
                known.elements[contents[tag]] = read[tag]
        return read

    def _meta(self, data: bytes, begin: int) -> FileMetaDataset:
        """Return File Meta Information, of which files share all but the instance that it names."""
        at = instance_at = instance_end = _META_BEGIN
        while at < begin:
            tag, end = _after(data, _META_ENCODING, at)
            if tag == _SOP_INSTANCE:
                instance_at, instance_end = at, end
            at = end
        key = data[_META_BEGIN:instance_at] + data[instance_end:begin]
        if key not in self._metas:
            read: FileMetaDataset = pydicom.dcmread(BytesIO(data[:begin])).file_meta
            self._metas[key] = read
            return read
        content = data[instance_at:instance_end]
        instance = lone_element(_SOP_INSTANCE, content, True, "<") if content else None
        if instance is None:
            return pydicom.dcmread(BytesIO(data[:begin])).file_meta
        shared = self._metas[key]
        elements = dict(shared.items())
        elements[instance.tag] = instance
        return FileMetaDataset(elements)

    def _learn(self, found: _Found, data: bytes, encoding: Encoding, begin: int) -> None:
        """Look for runs, whenever as many files again were read, or one has them no more."""
        known = self._known
        known.files += 1
        if found.has_runs and known.files & (known.files - 1):
            return
        whole = _walk(data, encoding, begin, _Known()).contents
        known.runs = {}
        if not any(_dependent(whole, encoding)):
            known.runs = _runs(whole, known.before, found.elements)
        known.before = whole


_META_ENCODING = Encoding(True, "<", _EXPLICIT_LITTLE)


def _runs(
    contents: Mapping[int, bytes],
    before: Mapping[int, bytes],
    elements: Mapping[int, DataElement | None],
) -> dict[int, _Run]:
    """Return the runs of elements that two files have, but for those that decide."""
    runs: dict[int, _Run] = {}
    run: _Run | None = None
    for tag, content in contents.items():
        if tag in _DECIDING or before.get(tag) != content:
            run = None
        elif run is None:
            run = runs[tag] = _Run(content, tag, {tag: elements[tag]})
        else:
            run.content += content
            run.last = tag
            run.elements[tag] = elements[tag]
    return runs


def _is_creator(tag: int) -> bool:
    return bool(tag >> 16 & 1) and tag & 0xFFFF <= _CREATORS_END


def _speaks_for_itself(tag: int, content: bytes, encoding: Encoding) -> bool:
    """Return whether the bytes of an element say what it is.

    Those of a private element may not: its VR can be that of whoever reserved its block (PS3.5
    7.8.1), who has to stand before it when it is read.
    """
    if not tag >> 16 & 1 or tag & 0xFFFF <= _CREATORS_END:
        return True
    return encoding.explicit and content[4:6] != b"UN"


def _dependent(contents: Mapping[int, bytes], encoding: Encoding) -> Iterator[int]:
    """Yield the tags of elements that are what those who reserved their blocks say."""
    for tag, content in contents.items():
        if tag >> 16 & 1 and not _speaks_for_itself(tag, content, encoding):
            yield tag


def _walk(data: bytes, encoding: Encoding, at: int, known: _Known) -> _Found:
    """Return the whole elements of a data set by their tags, and where its pixels begin."""
    elements: dict[int, DataElement | None] = {}
    contents: dict[int, bytes] = {}
    found = _Found(elements, contents)
    runs, lookup, previous = known.runs, known.elements.get, -1
    try:
        while True:
            begin = at
            tag, at = _after(data, encoding, at)
            if tag >= _PIXELS:
                found.pixels_at = begin
                return found
            if not previous < tag or at > len(data):
                raise Stumbled
            run = runs.get(tag)
            if run is not None:
                if data.startswith(run.content, begin):
                    elements.update(run.elements)
                    at = begin + len(run.content)
                    previous = run.last
                    continue
                found.has_runs = False
            content = contents[tag] = data[begin:at]
            elements[tag] = lookup(content)
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
