"""Some attributes of a stored instance, as `headers.attributes_of` gives them, without the wait.

The node keeps a few dozen attributes of everything it receives, and pydicom takes milliseconds to
read them. So the file is walked (`file_walk`) from the header of one element to that of the next,
as far as the last attribute that is wanted.
Values that are plain are turned into text here (`plain_values`), others by pydicom, one by one.
And where the walk stumbles (tags out of order, a VR that nobody knows, a value that is cut off, a
deflated data set), pydicom reads the file: so the answer is always pydicom's. One difference is
wanted:

* What follows the last wanted attribute is not looked at. pydicom reads on to the pixels, refuses
  a file that is broken there, and lets an attribute that stands there again, out of order, win
  (PS3.5 7.1 forbids that).

The instances of a series mostly say the same. So an `AttributesReader` keeps the layout of one of
them, does not walk again what is the same bytes in the next, and turns into text what is new only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import NamedTuple, cast

from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement, empty_value_for_VR
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from dicom_node.elements import Stumbled
from dicom_node.errors import StudyUnusable
from dicom_node.file_walk import (
    PIXELS,
    SPECIFIC_CHARACTER_SET,
    Element,
    Layout,
    Walked,
    layout_of,
    walk,
)
from dicom_node.headers import Part10, attributes_of, read_header_of, reading
from dicom_node.model import Attributes
from dicom_node.part10 import Encoding
from dicom_node.plain_values import TEXT_VRS, NotPlain, Texts, texts_of

_PIXEL_REPRESENTATION = 0x00280103
_PIXEL_REPRESENTATION_BYTES = 2
_US_OR_SS = b"US or SS"
_UNKNOWN = b"UN"

_HITS_WANTED = 4
"""So often a layout must be met again to be worth what it costs to learn it: two walks."""
_PATIENCE_MAX = 64

_Known = tuple[bytes, bytes, Texts]
"""A value, its VR before it, with its texts."""
_NOTHING: _Known = (b"", b"", ())


class _Wanted(NamedTuple):
    """Which elements to look for."""

    keywords: Mapping[int, str]
    """By tag."""
    vrs: Mapping[int, bytes]
    """What the dictionary says."""
    last: int
    """The greatest tag."""


def read_attributes(file: Part10, keywords: Collection[str]) -> Attributes:
    """Return `attributes_of` the header of a file, wherever it lies.

    Parameters
    ----------
    file : Part10
        With or without preamble and File Meta Information.
    keywords : collection of str
        What to read. (0008,0005) *Specific Character Set* is always among the answer, and an empty
        collection, or one of which the file has nothing, stands for all attributes: as in
        `read_header_of`.

    Raises
    ------
    StudyUnusable
        If the file is not DICOM or cannot be parsed, as far as the last attribute that is wanted.
    """
    return AttributesReader(keywords).read(file)


class AttributesReader:
    """`read_attributes` of one file after another; faster where they say the same."""

    __slots__ = (
        "_encoding",
        "_hits",
        "_keywords",
        "_known",
        "_layout",
        "_misses",
        "_patience",
        "_wanted",
    )

    def __init__(self, keywords: Collection[str]) -> None:
        self._keywords = frozenset(keywords)
        self._wanted = _wanted(self._keywords)
        self._layout: Layout | None = None
        self._hits = self._misses = 0
        self._patience = 2  # the first file of all may be the only one
        self._known: dict[int, _Known] = {}
        self._encoding: tuple[Encoding, list[str]] | None = None

    def read(self, file: Part10) -> Attributes:
        """As `read_attributes`."""
        if self._wanted is not None:
            try:
                return self._walked(file, self._wanted)
            except Stumbled:
                pass
        return attributes_of([read_header_of(file, self._keywords)])

    def _walked(self, file: Part10, wanted: _Wanted) -> Attributes:
        with file.open("rb") as opened:
            walked = walk(opened, wanted.keywords, wanted.last, self._layout)
        if not walked.found:
            raise Stumbled  # pydicom reads all attributes then
        self._learn(walked, wanted)
        return self._attributes(walked.found, walked.encoding, wanted)

    def _attributes(self, found: list[Element], encoding: Encoding, wanted: _Wanted) -> Attributes:
        python_encodings = _python_encodings_of(found)
        if self._encoding != (encoding, python_encodings):
            self._encoding = (encoding, python_encodings)
            self._known.clear()
        keywords, vrs, _ = wanted
        known, python_encoding, byte_order = self._known, python_encodings[0], encoding.byte_order
        attributes: dict[str, Texts] = {}
        remarkable: list[Element] = []
        for tag, written_vr, value in found:
            vr = written_vr or vrs[tag]
            if vr == _US_OR_SS:
                vr = _us_or_ss(found)
            known_vr, known_value, texts = known.get(tag, _NOTHING)
            if value != known_value or vr != known_vr:
                try:
                    texts = texts_of(vr, value, python_encoding, byte_order)
                except NotPlain:
                    remarkable.append((tag, written_vr, value))
                    continue
                known[tag] = (vr, value, texts)
            attributes[keywords[tag]] = texts
        if remarkable:
            attributes |= _read_by_pydicom(remarkable, found, encoding, python_encodings, vrs)
            for tag, written_vr, value in remarkable:
                vr = written_vr or vrs[tag]
                if vr in TEXT_VRS and keywords[tag] in attributes:
                    known[tag] = (vr, value, attributes[keywords[tag]])
        return attributes

    def _learn(self, walked: Walked, wanted: _Wanted) -> None:
        """Remember the layout; be slower to do so the next time if it was in vain."""
        if walked.is_as_before:
            self._hits += 1
            return
        self._misses += 1
        if self._misses >= self._patience:
            in_vain = self._layout is not None and self._hits < _HITS_WANTED
            self._patience = min(2 * self._patience, _PATIENCE_MAX) if in_vain else 1
            self._hits = self._misses = 0
            self._layout = layout_of(walked, wanted.keywords, wanted.last, self._layout)


@lru_cache(maxsize=64)
def _wanted(keywords: frozenset[str]) -> _Wanted | None:
    """Return what to look for, None if only pydicom knows what that is."""
    by_tag = {SPECIFIC_CHARACTER_SET: "SpecificCharacterSet"}
    for keyword in keywords:
        tag = tag_for_keyword(keyword)
        if tag is None or tag >= PIXELS:
            return None
        by_tag[tag] = keyword
    if not keywords:
        return None
    vrs = {tag: dictionary_VR(tag).encode("ascii") for tag in by_tag}
    return _Wanted(by_tag, vrs, max(by_tag))


def _python_encodings_of(found: list[Element]) -> list[str]:
    tag, _, value = found[0]
    return _python_encodings(value if tag == SPECIFIC_CHARACTER_SET else b"")


@lru_cache(maxsize=256)
def _python_encodings(character_set: bytes) -> list[str]:
    """Return what Python calls the values of (0008,0005) *Specific Character Set*."""
    values = character_set.decode("latin-1").rstrip(" \0").split("\\")
    try:
        with reading("the character set"):
            return convert_encodings(values)
    except StudyUnusable as error:
        raise Stumbled from error


def _us_or_ss(found: list[Element]) -> bytes:
    """Return which of them it is, where pydicom finds that plain (PS3.3 C.7.6.3.1)."""
    for tag, _, value in found:
        if tag == _PIXEL_REPRESENTATION:
            if len(value) != _PIXEL_REPRESENTATION_BYTES:
                return _US_OR_SS
            return b"SS" if any(value) else b"US"
    return b"US"


def _read_by_pydicom(
    remarkable: list[Element],
    found: list[Element],
    encoding: Encoding,
    python_encodings: list[str],
    vrs: Mapping[int, bytes],
) -> Attributes:
    """Return what pydicom says of a few elements."""
    beside = (SPECIFIC_CHARACTER_SET, _PIXEL_REPRESENTATION)  # whether US or SS
    header: dict[BaseTag, DataElement | RawDataElement] = {}
    for tag, vr, value in [*(element for element in found if element[0] in beside), *remarkable]:
        if vr in (None, _UNKNOWN) and b" or " in vrs[tag] and vrs[tag] != _US_OR_SS:
            raise Stumbled
        name = None if vr is None else vr.decode("ascii")
        header[BaseTag(tag)] = RawDataElement(
            BaseTag(tag),
            name,
            len(value),
            value or cast("bytes | None", empty_value_for_VR(name, raw=True)),
            0,
            not encoding.explicit,
            encoding.byte_order == "<",
        )
    dataset = Dataset(header)
    dataset.set_original_encoding(
        not encoding.explicit, encoding.byte_order == "<", python_encodings
    )
    try:
        with reading("an element"):
            dataset.decode()
            return attributes_of([dataset])
    except (StudyUnusable, OSError) as error:
        raise Stumbled from error
