"""From element to element through a Part 10 file, as far as the last attribute that is wanted.

Only the beginning of the file is read, and more of it where an element that is wanted, or one of
undefined length, does not end there; what is only long is jumped over.

Most elements of an instance are, byte by byte, those of the instance before it in the series, and
stand in runs between the few that are not. A `Layout` knows these runs. Where one of them stands
again, it is taken by one comparison; whatever stands between them is walked.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Container, Sequence
from typing import BinaryIO, NamedTuple

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
from dicom_node.part10 import Encoding, Window, begin_of

Element = tuple[int, bytes | None, bytes]
"""Tag, VR (None in Implicit VR) and Value Field."""

SPECIFIC_CHARACTER_SET = 0x00080005
PIXELS = 0x7FE00008
"""The first of the elements at which pydicom stops before the pixels."""

_BEFORE_THE_FIRST = 0x0007FFFF


class Run(NamedTuple):
    """Elements, one behind the other, that stood so in a file before."""

    first: int
    """The tag of the first of them."""
    last: int
    content: bytes
    found: tuple[Element, ...]
    """Those that are wanted."""


class Layout(NamedTuple):
    """What stood in a file before, in the order of the tags."""

    encoding: Encoding
    runs: Sequence[Run]
    elements: Collection[bytes]
    """All of them, whole."""


class Walked(NamedTuple):
    """Where a walk came by."""

    found: list[Element]
    """What is wanted, in the order of the tags."""
    encoding: Encoding
    data: bytes
    """The beginning of the file."""
    begin: int
    """Where the data set begins there."""
    is_as_before: bool
    """Whether the file has all runs of the layout."""


def walk(file: BinaryIO, wanted: Container[int], last: int, layout: Layout | None = None) -> Walked:
    """Find the elements of the data set that are wanted.

    Parameters
    ----------
    file : BinaryIO
        At its beginning; with or without preamble and File Meta Information (PS3.10 7.1).
    wanted : container of int
        Tags, (0008,0005) *Specific Character Set* among them.
    last : int
        The greatest tag that is wanted, ahead of `PIXELS`.
    layout : Layout, optional
        Of another file, for the same `wanted` and `last`: where a run of it stands here, it is not
        walked again.

    Raises
    ------
    Stumbled
        Over bytes that are left to pydicom.
    """
    window = Window(file)
    encoding, begin = begin_of(window.data)
    step = _walk_explicit if encoding.explicit else _walk_implicit
    data, reads, at, previous = window.data, encoding.reads, begin, _BEFORE_THE_FIRST
    runs = layout.runs if layout is not None and layout.encoding == encoding else ()
    is_as_before = bool(runs)
    found: list[Element] = []
    for first, last_of_run, content, found_before in runs:
        at, previous = step(data, at, previous, reads, wanted, first - 1, found)
        if previous < first:  # the bytes in memory end
            is_as_before = False
            break
        if data.startswith(content, at):
            found += found_before
            at += len(content)
            previous = last_of_run
        else:
            previous = first - 1
            is_as_before = False
    while True:
        at, previous = step(window.data, at, previous, reads, wanted, last, found)
        if previous > last or not window.moves_to(at):
            return Walked(found, encoding, data, begin, is_as_before)
        at = 0


def layout_of(walked: Walked, wanted: Container[int], last: int, before: Layout | None) -> Layout:
    """Return the layout of a file; its runs are of elements that stood in the one before too."""
    known = before.elements if before is not None else ()
    data, reads, at, previous = walked.data, walked.encoding.reads, walked.begin, _BEFORE_THE_FIRST
    step = _walk_explicit if walked.encoding.explicit else _walk_implicit
    runs: list[Run] = []
    elements: set[bytes] = set()
    goes_on = False
    while at + 8 <= len(data):
        group, number, _ = reads.implicit(data, at)
        tag = group << 16 | number
        found: list[Element] = []
        if tag > last:
            break
        end, _ = step(data, at, previous, reads, wanted, tag, found)
        if not at < end <= len(data):
            break
        content = data[at:end]
        elements.add(content)
        if content not in known:
            goes_on = False
        elif goes_on:
            run = runs[-1]
            runs[-1] = Run(run.first, tag, run.content + content, (*run.found, *found))
        else:
            runs.append(Run(tag, tag, content, tuple(found)))
            goes_on = True
        at, previous = end, tag
    return Layout(walked.encoding, runs, elements)


def _walk_explicit(
    data: bytes,
    at: int,
    previous: int,
    reads: Reads,
    wanted: Container[int],
    last: int,
    found: list[Element],
) -> tuple[int, int]:
    """Append the elements that are wanted; return where one lies that is not whole in `data`.

    Returns
    -------
    at : int
    previous : int
        The tag before it; one beyond `last` if the walk is at its end.
    """
    read, read_length, short, long = reads.explicit, reads.length, SHORT_VRS, LONG_VRS
    begin, size = at, len(data)
    try:
        while True:
            begin = at
            group, element, vr, length = read(data, at)
            tag = group << 16 | element
            if not previous < tag <= last:
                if tag > last:
                    return at, tag
                raise Stumbled
            at += 8
            if vr not in short:
                if vr not in long:
                    raise Stumbled
                (length,) = read_length(data, at)
                at += 4
                if length == UNDEFINED:
                    if vr not in VRS_OF_ITEMS or tag in wanted:
                        raise Stumbled
                    at = after_items(data, reads, at, True, 1)
                    previous = tag
                    continue
            value_at = at
            at += length
            if tag in wanted:
                if at > size:
                    return begin, previous
                if tag == SPECIFIC_CHARACTER_SET and vr != b"CS":
                    raise Stumbled
                found.append((tag, vr, data[value_at:at]))
            previous = tag
    except struct.error:
        return begin, previous


def _walk_implicit(
    data: bytes,
    at: int,
    previous: int,
    reads: Reads,
    wanted: Container[int],
    last: int,
    found: list[Element],
) -> tuple[int, int]:
    """As `_walk_explicit`, for Implicit VR."""
    read = reads.implicit
    begin, size = at, len(data)
    try:
        while True:
            begin = at
            group, element, length = read(data, at)
            tag = group << 16 | element
            if not previous < tag <= last:
                if tag > last:
                    return at, tag
                raise Stumbled
            at += 8
            if length == UNDEFINED:
                if tag in wanted or not is_of_items(tag):
                    raise Stumbled
                at = after_items(data, reads, at, False, 1)
                previous = tag
                continue
            value_at = at
            at += length
            if tag in wanted:
                if at > size:
                    return begin, previous
                found.append((tag, None, data[value_at:at]))
            previous = tag
    except struct.error:
        return begin, previous
