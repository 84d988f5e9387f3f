"""A profile applied to a file: a new head, and where the pixels lie that go after it.

Only what stands before the pixels is read; the pixels are neither decoded nor copied.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO, Literal

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.coerce.coercion import Coerced, apply
from dicom_node.coerce.profile import Profile
from dicom_node.data_sets import encode
from dicom_node.errors import StudyUnusable
from dicom_node.headers import reading

_PREAMBLE = b"\0" * 128 + b"DICM"
"""Zeros: what an original has there may be the head of another file format (PS3.10 7.1)."""
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"UN"})
_UNDEFINED = 0xFFFFFFFF
_SEQUENCE_DELIMITER = (0xFFFE, 0xE0DD)


@dataclass(frozen=True)
class CoercedFile:
    """A copy of a file: `head`, then `pixels_length` bytes of the original from `pixels_offset`."""

    head: bytes
    """Preamble, File Meta and the data set before its pixels."""
    data_set_offset: int
    """Where the data set begins within `head`: what goes into a C-STORE begins here."""
    pixels_offset: int
    pixels_length: int
    coerced: Coerced
    """Its data set ends before the pixels."""
    sop_class_uid: str
    sop_instance_uid: str
    """Of the copy."""
    transfer_syntax_uid: str
    """As that of the original."""


def apply_to_file(source: BinaryIO, profile: Profile, secret: bytes) -> CoercedFile:
    """Return the copy of a file that may leave by a profile.

    Parameters
    ----------
    source : file
        Opened for reading, at its beginning.

    Raises
    ------
    StudyUnusable
        If the profile refuses it, or it cannot be read or has no SOP Instance UID.
    """
    with reading("the file"):
        original = pydicom.dcmread(source, force=True, stop_before_pixels=True)
        syntax = _transfer_syntax_of(original)
        if any(
            _is_implicit(original, tag) is not syntax.is_implicit_VR
            for tag in sorted(original.keys())
        ):
            raise StudyUnusable(
                "not forwarded: it is not encoded as its Transfer Syntax UID says",
                hint="the file is broken; have the sender send it again",
            )
        if syntax.is_deflated:
            source.seek(0)
            original = pydicom.dcmread(source, force=True)
            offset = length = 0
        else:
            offset = source.tell()
            length = source.seek(0, os.SEEK_END) - offset
            if length and profile.deidentification is not None:
                # what comes after the pixels is padding, a signature or private (PS3.15 E.1-1)
                length = _end_of_element(source, offset, syntax) - offset
        coerced = apply(profile, original, secret)
        meta = _file_meta(coerced.dataset, syntax)
        encoded = _encoded(coerced.dataset, syntax)
        return CoercedFile(
            head=_PREAMBLE + meta + encoded,
            data_set_offset=len(_PREAMBLE) + len(meta),
            pixels_offset=offset,
            pixels_length=length,
            coerced=coerced,
            sop_class_uid=str(coerced.dataset.SOPClassUID),
            sop_instance_uid=str(coerced.dataset.SOPInstanceUID),
            transfer_syntax_uid=str(syntax),
        )


def _transfer_syntax_of(dataset: pydicom.FileDataset) -> UID:
    named = dataset.file_meta.get("TransferSyntaxUID")
    if named:
        return UID(str(named))
    implicit, little_endian = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian


def _is_implicit(dataset: Dataset, tag: BaseTag) -> bool:
    decoded = bool(dataset.original_encoding[0])
    return bool(getattr(dataset.get_item(tag), "is_implicit_VR", decoded))


def _file_meta(dataset: Dataset, syntax: UID) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta, enforce_standard=True)
    return bytes(buffer.getvalue())


def _encoded(dataset: Dataset, syntax: UID) -> bytes:
    if syntax.is_deflated:
        return encode(dataset, str(syntax))
    buffer = DicomBytesIO()
    buffer.is_little_endian = syntax.is_little_endian
    buffer.is_implicit_VR = syntax.is_implicit_VR
    write_dataset(buffer, dataset)
    return bytes(buffer.getvalue())


def _end_of_element(source: BinaryIO, offset: int, syntax: UID) -> int:
    """Return where the element at an offset ends; its fragments are stepped over."""
    order: Literal["little", "big"] = "little" if syntax.is_little_endian else "big"
    source.seek(offset)
    head = source.read(12)
    if syntax.is_implicit_VR:
        value, length = offset + 8, int.from_bytes(head[4:8], order)
    elif head[4:6] in _LONG_VRS:
        value, length = offset + 12, int.from_bytes(head[8:12], order)
    else:
        value, length = offset + 8, int.from_bytes(head[6:8], order)
    end = source.seek(0, os.SEEK_END)
    if length != _UNDEFINED:
        return min(value + length, end)
    position = value
    while position < end:
        source.seek(position)
        item = source.read(8)
        tag = (int.from_bytes(item[:2], order), int.from_bytes(item[2:4], order))
        position += 8 + int.from_bytes(item[4:8], order)
        if tag == _SEQUENCE_DELIMITER:
            break
    return min(position, end)
