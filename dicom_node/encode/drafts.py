"""An object on its way to a file: what pydicom writes, and what is written beside it.

Theory of operation: a result is a data set of some hundred elements, and a few elements that are
most of its bytes: the frames of a Segmentation and what is said of each, the tree of a report.
pydicom would hold them as a hundred thousand objects, and the file in memory twice. Here they are
pieces of bytes; where they stand in the data set, their tags say. The file is never joined: who
stores or sends it goes through its pieces, and each time they are made anew from the mask.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from dicom_node.encode.header import part10

Piece = bytes | memoryview
Pieces = Iterable[Piece]
"""To be gone through as often as one likes, with the same result."""


@dataclass(frozen=True)
class Draft:
    """A data set, and those of its elements that are not in it."""

    dataset: Dataset
    written: Mapping[str, Pieces] = field(default_factory=dict)
    """By keyword: whole elements in Explicit VR Little Endian."""


def pieces_of(draft: Draft) -> Pieces:
    """Return the whole Part 10 file of a finished draft, piece by piece (PS3.10 7)."""
    dataset = draft.dataset
    left = sorted(dataset.keys())
    parts: list[Pieces] = []
    by_tag = {tag_for_keyword(keyword) or 0: pieces for keyword, pieces in draft.written.items()}
    for tag, pieces in sorted(by_tag.items()):
        before = bisect_left(left, tag)
        parts += [[_encoded(dataset, left[:before], is_first=not parts)], pieces]
        left = left[before:]
    return _Joined([*parts, [_encoded(dataset, left, is_first=not parts)]])


class _Joined:
    """Pieces of several origins, one after the other."""

    def __init__(self, parts: Sequence[Pieces]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[Piece]:
        for part in self._parts:
            yield from part


def _encoded(dataset: Dataset, tags: Sequence[int], *, is_first: bool) -> bytes:
    """Return some elements of a data set as bytes, the first of them behind the File Meta."""
    part = Dataset()
    for tag in tags:
        part.add(dataset[tag])
    if is_first:
        part.file_meta, part.preamble = dataset.file_meta, dataset.preamble
        return part10(part)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    # each part has the character set of the whole, which stands in the first
    write_dataset(buffer, part, parent_encoding=dataset.SpecificCharacterSet)
    return buffer.getvalue()
