"""A result as its bytes say: its frames and what is said of each stay where they are in the file.

Not pydicom reads them: a Segmentation has some ten thousand items, and each would become a tree of
objects. This is an independent reader of Explicit VR Little Endian, too (PS3.5 7.1.2): what wrote
the bytes has no part in judging them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from mmap import mmap

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import read_dataset

from dicom_node.gate.items import PIXELS, Span, Unreadable, elements_in, items_in
from dicom_node.gate.listings import Listing, Listings
from dicom_node.gate.walk import convert

PER_FRAME = 0x52009230
_LENGTH = struct.Struct("<L").unpack_from


@dataclass(frozen=True, eq=False)
class ResultFile:
    """A file, open for reading."""

    data: mmap | bytes
    dataset: FileDataset
    """Everything but the frames, their items, and what is in `listings`."""
    items: Span | None
    """Where the Per-frame Functional Groups Sequence has its items."""
    pixels: Span | None
    """Where the frames are."""
    listings: Sequence[Listing]
    """References to instances, of which the data set has the first of each sequence only."""

    def frame_items(self) -> Iterator[Span]:
        """Yield where the content of each item of the per-frame groups is."""
        if self.items is None:
            return
        yield from items_in(self.data, *self.items)

    @cached_property
    def alike(self) -> list[Alike]:
        """The items of the per-frame groups; see `items_alike`."""
        return items_alike(self)


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
        listings = Listings(data)
        for tag, start, value, end, has_items in elements_in(data, begin, len(data)):
            if tag == PER_FRAME:
                items = (value, end)
            elif tag in PIXELS:
                pixels = (value, end)
            elif has_items:
                kept.append(listings.without(tag, start, value, end))
            else:
                kept.append(data[start:end])
    except (struct.error, IndexError) as error:
        raise Unreadable("it ends in the middle of an element") from error
    dataset = pydicom.dcmread(BytesIO(b"".join(kept)))
    convert(dataset)
    return ResultFile(data, dataset, items, pixels, tuple(listings.found))


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
        joined, length = self.rows[:, start:end].tobytes(), end - start
        return (
            [joined[at : at + length] for at in range(0, len(joined), length)]
            if length
            else [b""] * len(self.rows)
        )


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
        joined = b"".join(file.data[start : start + length] for _, start in found)
        rows = np.frombuffer(joined, np.uint8).reshape(-1, length)
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
        for tag, _, value, after, has_items in elements_in(data, at, stop):
            if is_top:
                top.append(tag)
            if has_items:
                stack.extend((*one, False) for one in items_in(data, value, after))
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
