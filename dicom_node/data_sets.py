"""Data sets of the DIMSE services: decoded from whatever bytes came, encoded as was negotiated.

Every access goes through here and fails in one way only, whatever is in the bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from io import BytesIO

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import UID

from dicom_node.errors import StudyUnusable
from dicom_node.headers import reading

_INFLATED_BYTES_MAX = 64 * 1024 * 1024


def decode(encoded: bytes, transfer_syntax_uid: str) -> Dataset:
    """Return the data set in `encoded`; its elements are decoded when they are asked for.

    Raises
    ------
    StudyUnusable
        If it is none.
    """
    with reading("the data set"):
        syntax = UID(transfer_syntax_uid)
        if syntax.is_deflated:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            encoded = inflate.decompress(encoded, _INFLATED_BYTES_MAX)
            if inflate.unconsumed_tail:
                raise StudyUnusable("the data set is larger than any that we take")
        return read_dataset(BytesIO(encoded), syntax.is_implicit_VR, syntax.is_little_endian)


def encode(dataset: Dataset, transfer_syntax_uid: str) -> bytes:
    """Return a data set as bytes.

    Raises
    ------
    StudyUnusable
        If a value cannot be encoded.
    """
    with reading("the answer"):
        syntax = UID(transfer_syntax_uid)
        buffer = DicomBytesIO()
        buffer.is_little_endian = syntax.is_little_endian
        buffer.is_implicit_VR = syntax.is_implicit_VR
        write_dataset(buffer, dataset)
        encoded = bytes(buffer.getvalue())
        if syntax.is_deflated:
            deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            encoded = deflate.compress(encoded) + deflate.flush()
            encoded += b"\0" * (len(encoded) % 2)  # PS3.5 A.5
        return encoded


def text_of(dataset: Dataset, keyword: str) -> str | None:
    """Return the first value of an element as text, "" if it is empty, None if it is missing.

    Raises
    ------
    StudyUnusable
        If it cannot be decoded.
    """
    with reading(keyword):
        if keyword not in dataset:
            return None
        value = dataset[keyword].value
        if isinstance(value, MultiValue | list):
            value = value[0] if value else None
        return _text(value)


def texts_of(dataset: Dataset, tag: int) -> tuple[str, ...]:
    """Return the values of an element as text, none if it is missing or is a sequence.

    A value that its VR does not allow, such as an asterisk for a number, is taken as it stands.
    """
    raw: DataElement | RawDataElement | None = dataset.get_item(tag)
    if raw is None:
        return ()
    try:
        with reading("an element"):
            value = dataset[tag].value
            values = value if isinstance(value, MultiValue | list) else [value]
            return tuple(_text(one) for one in values if not isinstance(one, Sequence | Dataset))
    except StudyUnusable:
        encoded = raw.value if isinstance(raw.value, bytes) else b""
        return tuple(_text(one) for one in encoded.split(b"\\"))


def items_of(dataset: Dataset, keyword: str) -> list[Dataset] | None:
    """Return the items of a sequence, None if it is missing or is no sequence.

    Raises
    ------
    StudyUnusable
        If it cannot be decoded.
    """
    with reading(keyword):
        if keyword not in dataset:
            return None
        value = dataset[keyword].value
        return list(value) if isinstance(value, Sequence) else None


def all_items_of(datasets: list[Dataset], keyword: str) -> Iterator[Dataset]:
    """Yield the items of one sequence of several data sets; those without it have none."""
    for dataset in datasets:
        yield from items_of(dataset, keyword) or ()


def _text(value: object) -> str:
    if value is None:
        return ""
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    return text.strip("\0 ")
