"""A data set in Explicit or Implicit VR Little Endian, its values byte for byte as they came.

pydicom would decode every value to encode it again, and stumble over those that break their VR.
Here tags, VRs and lengths are written anew, and values are copied; only those of another byte order
are turned, by the size that their VR has (PS3.5 7.3).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import cast

import numpy as np
from pydicom.datadict import dictionary_VR, private_dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import BaseTag

from dicom_node.errors import StudyUnusable

_LONG_VRS = frozenset(
    ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
)
_WORD_BYTES = {
    **dict.fromkeys(("AT", "OW", "SS", "US"), 2),
    **dict.fromkeys(("FL", "OF", "OL", "SL", "UL"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}
_UNDEFINED = 0xFFFFFFFF
_SHORT_BYTES_MAX = 0xFFFE
_TAG_AND_LENGTH = struct.Struct("<HHL")
_SHORT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<HH2sHL")
_ITEM = (0xFFFE, 0xE000)


class PlainWriter:
    """Writes data sets in one of the two syntaxes.

    Parameters
    ----------
    is_implicit : bool
        Implicit VR Little Endian; Explicit otherwise.
    turns_words : bool
        Whether the values that were read are in big endian.
    values : mapping of int to bytes
        By tag, what stands instead of values of the outermost data set.
    """

    def __init__(
        self, *, is_implicit: bool, turns_words: bool, values: Mapping[int, bytes]
    ) -> None:
        self._is_implicit = is_implicit
        self._turns_words = turns_words
        self._values = values

    def pieces(self, dataset: Dataset) -> Iterator[bytes]:
        """Yield the encoded data set; StudyUnusable if an element cannot be encoded."""
        signed = dataset.get("PixelRepresentation") == 1
        yield from self._elements(dataset, signed=signed, values=self._values)

    def _elements(
        self, dataset: Dataset, *, signed: bool, values: Mapping[int, bytes]
    ) -> Iterator[bytes]:
        for tag in sorted(dataset.keys()):
            if tag.element == 0:
                continue  # group lengths, which are retired and would be wrong (PS3.5 7.2)
            element = cast(DataElement | RawDataElement, dataset.get_item(tag))
            vr = element.VR or _vr_of(tag, dataset, signed=signed)
            if vr == "SQ":
                yield from self._sequence(tag, dataset, signed=signed)
            elif int(tag) in values:
                yield from self._element(tag, vr, values[int(tag)])
            elif isinstance(element, RawDataElement):
                if element.length == _UNDEFINED:
                    raise StudyUnusable(f"{tag} is encapsulated")
                value = element.value or b""
                if len(value) != element.length:
                    raise StudyUnusable(f"{tag} is cut off")
                yield from self._element(tag, vr, self._value(vr, value))
            else:
                yield self._decoded(element)

    def _element(self, tag: BaseTag, vr: str, value: bytes) -> Iterator[bytes]:
        if self._is_implicit:
            yield _TAG_AND_LENGTH.pack(tag.group, tag.element, len(value))
        elif vr in _LONG_VRS or len(value) > _SHORT_BYTES_MAX:
            long = vr if vr in _LONG_VRS else "UN"  # PS3.5 6.2.2
            yield _LONG.pack(tag.group, tag.element, long.encode("ascii"), 0, len(value))
        else:
            yield _SHORT.pack(tag.group, tag.element, vr.encode("ascii"), len(value))
        yield value

    def _sequence(self, tag: BaseTag, dataset: Dataset, *, signed: bool) -> Iterator[bytes]:
        content = b"".join(self._items(dataset[tag], signed=signed))
        yield from self._element(tag, "SQ", content)

    def _items(self, sequence: DataElement, *, signed: bool) -> Iterator[bytes]:
        for item in sequence.value:
            own = item.get("PixelRepresentation")
            content = b"".join(
                self._elements(item, signed=signed if own is None else own == 1, values={})
            )
            yield _TAG_AND_LENGTH.pack(*_ITEM, len(content)) + content

    def _value(self, vr: str, value: bytes) -> bytes:
        size = _WORD_BYTES.get(vr)
        if not self._turns_words or size is None or len(value) % size:
            return value
        return np.frombuffer(value, f"u{size}").byteswap().tobytes()

    def _decoded(self, element: DataElement) -> bytes:
        """Return an element that pydicom has decoded, since it was asked for or was set."""
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, self._is_implicit
        write_data_element(buffer, element)
        return bytes(buffer.getvalue())


def _vr_of(tag: BaseTag, dataset: Dataset, *, signed: bool) -> str:
    """Return the VR of an element that came without one (PS3.5 A.1)."""
    if tag.is_private:
        if tag.is_private_creator:
            return "LO"
        try:
            creator = dataset.get_item((tag.group, tag.element >> 8))
            value = getattr(creator, "value", b"")
            name = value.decode("latin-1") if isinstance(value, bytes) else str(value)
            return private_dictionary_VR(tag, name.strip())
        except KeyError:
            return "UN"
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return "UN"
    if "OW" in vr:
        return "OW"
    return vr if len(vr) == 2 else ("SS" if signed else "US")
