"""A result as its bytes say: its frames and what is said of each stay where they are in the file.

Not pydicom reads them: a Segmentation has some ten thousand items, and each would become a tree of
objects. This is an independent reader of Explicit VR Little Endian, too (PS3.5 7.1.2): what wrote
the bytes has no part in judging them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from mmap import mmap

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import read_dataset

from dicom_node.elements import LONG_VRS, SHORT_VRS, UNDEFINED, Reads, after_items

PER_FRAME = 0x52009230
PIXELS = (0x7FE00008, 0x7FE00010)
_ITEM = 0xFFFEE000
_READS = Reads.of("<")
_HEAD = struct.Struct("<HH2sH").unpack_from
_LENGTH = struct.Struct("<L").unpack_from

Span = tuple[int, int]


class Unreadable(Exception):
    """The bytes are no Explicit VR Little Endian of defined lengths."""


@dataclass(frozen=True, eq=False)
class ResultFile:
    """A file, open for reading."""

    data: mmap | bytes
    dataset: FileDataset
    """Everything but the frames and their items."""
    items: Span | None
    """Where the Per-frame Functional Groups Sequence has its items."""
    pixels: Span | None
    """Where the frames are."""

    def frame_items(self) -> Iterator[Span]:
        """Yield where the content of each item of the per-frame groups is."""
        if self.items is None:
            return
        yield from _items(self.data, *self.items)


def read_result(data: mmap | bytes) -> ResultFile:
    """Return a result of ours; its bytes must stay.

    Raises
    ------
    Unreadable
        If it is not encoded as our results are.
    """
    items = pixels = None
    kept: list[bytes] = []
    try:
        begin = _after_file_meta(data)
        kept.append(data[:begin])
        for tag, start, value, end, _ in _elements(data, begin, len(data)):
            if tag == PER_FRAME:
                items = (value, end)
            elif tag in PIXELS:
                pixels = (value, end)
            else:
                kept.append(data[start:end])
    except (struct.error, IndexError) as error:
        raise Unreadable("it ends in the middle of an element") from error
    return ResultFile(data, pydicom.dcmread(BytesIO(b"".join(kept))), items, pixels)


@dataclass(frozen=True, eq=False)
class Alike:
    """Items of frames that differ in their values only: the same elements, of the same lengths."""

    numbers: NDArray[np.intp]
    """Which frames they are of, from 0."""
    first: Span
    """Where the first of them is."""
    tags: frozenset[int]
    """The elements of the first level."""
    rows: NDArray[np.uint8]
    """Their bytes, (items, bytes)."""
    leaves: Mapping[int, Span]
    """Where in a row the value of each element of any depth is; the first of each tag counts."""

    def values(self, tag: int) -> list[bytes]:
        """Return the values of an element, one an item; empty where they have none."""
        start, end = self.leaves.get(tag, (0, 0))
        return [row.tobytes() for row in self.rows[:, start:end]]


def items_alike(file: ResultFile) -> list[Alike]:
    """Return the items of the per-frame groups, in as few groups as they have forms.

    The first item of a form is walked through; whatever has the same bytes wherever that one has
    heads of elements and items is walked the same way. Ten thousand items so take one walk.
    """
    by_length: dict[int, list[tuple[int, int]]] = {}
    for number, (start, end) in enumerate(file.frame_items()):
        by_length.setdefault(end - start, []).append((number, start))
    groups = []
    for length, found in by_length.items():
        numbers = np.array([number for number, _ in found])
        starts = np.array([start for _, start in found])
        whole = np.frombuffer(file.data, np.uint8)
        rows = whole[starts[:, None] + np.arange(length)]
        while len(numbers):
            first = (int(starts[0]), int(starts[0]) + length)
            tags, leaves = _walked(file.data, *first)
            heads = np.ones(length, np.bool_)
            for start, end in leaves:
                heads[start:end] = False
            same = (rows[:, heads] == rows[0, heads]).all(axis=1)
            places: dict[int, Span] = {}
            for tag, place in zip(tags[1], leaves, strict=True):
                places.setdefault(tag, place)
            groups.append(Alike(numbers[same], first, frozenset(tags[0]), rows[same], places))
            numbers, starts, rows = numbers[~same], starts[~same], rows[~same]
    return groups


def _walked(
    data: mmap | bytes, begin: int, end: int
) -> tuple[tuple[list[int], list[int]], list[Span]]:
    """Return the tags of the first level and of the leaves, and where in the item those are."""
    top, tags, leaves = [], [], []
    stack = [(begin, end, True)]
    while stack:
        at, stop, is_top = stack.pop()
        for tag, _, value, after, has_items in _elements(data, at, stop):
            if is_top:
                top.append(tag)
            if has_items:
                stack.extend((*one, False) for one in _items(data, value, after))
            else:
                tags.append(tag)
                leaves.append((value - begin, after - begin))
    return (top, tags), leaves


def dataset_of(data: mmap | bytes, start: int, end: int) -> Dataset:
    """Return an item as pydicom reads it."""
    return read_dataset(BytesIO(data[start:end]), is_implicit_VR=False, is_little_endian=True)


def _after_file_meta(data: mmap | bytes) -> int:
    if data[128:132] != b"DICM":
        raise Unreadable("it has no preamble")
    length = _LENGTH(data, 140)[0]
    return 144 + int(length)


def _elements(data: mmap | bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int, bool]]:
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


def _items(data: mmap | bytes, at: int, end: int) -> Iterator[Span]:
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
