"""One frame of an instance, straight from its file: the quick way for the usual encodings.

The header was read up to the pixels, so it is known where they begin; they are taken from there and
decoded by imagecodecs, which leaves Python's lock alone, so all cores decode at a time. Whatever is
not plain (other encodings, bits beside those that are stored, a decoder that has doubts) is left to
pydicom: there is no second opinion here, only a shorter way to the same values.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from os import SEEK_CUR
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames, get_frame
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.decoders import DECODERS, decode_grey, is_within, stored_kind
from dicom_node.headers import tag_of, value_at

_PIXEL_DATA = (0x7FE0, 0x0010)
_UNDEFINED = 0xFFFFFFFF


@dataclass(frozen=True)
class Frame:
    """Which frame of an instance is meant."""

    index: int
    count: int
    """How many there are."""


ONLY_FRAME = Frame(0, 1)
_ROWS, _COLUMNS = tag_of("Rows"), tag_of("Columns")
_NUMBER_OF_FRAMES = tag_of("NumberOfFrames")
_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)


def quick_frame(
    file: BinaryIO,
    header: Dataset,
    pixels_at: int,
    frame: Frame = ONLY_FRAME,
    into: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], bytes] | None:
    """Return the stored values of one frame of the usual kinds of images.

    Parameters
    ----------
    file : BinaryIO
    header : pydicom.Dataset
        As it was read from this file.
    pixels_at : int
        Where the element of the pixels begins.
    frame : Frame
        Of several, the header's is the one that is meant (`multiframe.frames_of`).
    into : numpy.ndarray, optional
        Native values of its shape and type go straight into it: nothing lies between it and the
        system's page cache.

    Returns
    -------
    values : numpy.ndarray, shape (rows, columns)
        Of the integer type that the header names; `into`, if it took them.
    encoded : bytes
        The encoded frame; empty if it is native.

    None if the image, or what is found of it, is for pydicom to judge.
    """
    syntax = getattr(getattr(header, "file_meta", None), "TransferSyntaxUID", "")
    kind = _kind_of(header)
    if kind is None or (syntax not in _NATIVE and syntax not in DECODERS):
        return None
    file.seek(pixels_at)
    length = _length(file, syntax)
    shape = int(value_at(header, _ROWS)), int(value_at(header, _COLUMNS))
    if syntax in _NATIVE:
        size = shape[0] * shape[1] * kind.itemsize
        whole = size * frame.count
        if length not in {whole, whole + whole % 2}:
            return None
        file.seek(size * frame.index, SEEK_CUR)
        fits = into is not None and into.shape == shape and into.dtype == kind
        values = into if into is not None and fits else np.empty(shape, kind)
        if file.readinto(values.data.cast("B")) != size:  # type: ignore[attr-defined]
            return None
        return (values, b"") if is_within(values, header) else None
    if length != _UNDEFINED:
        return None
    try:
        encoded = _encoded(file, frame)
    except (RuntimeError, ValueError):
        return None
    decoded = decode_grey(encoded, kind, header, DECODERS[syntax], syntax)
    return None if decoded is None else (decoded, encoded)


def _encoded(file: BinaryIO, frame: Frame) -> bytes:
    """Return the encoded frame of a file that stands at its Basic Offset Table."""
    if frame.count > 1:
        return get_frame(file, frame.index, number_of_frames=frame.count)
    (encoded,) = generate_frames(file.read(), number_of_frames=1)
    return encoded


def _kind_of(header: Dataset) -> np.dtype[Any] | None:
    """Return the type of the stored values of a plain grey image with one frame."""
    is_single = value_at(header, _NUMBER_OF_FRAMES) in (None, "", 1)
    return stored_kind(header) if is_single else None


def _length(file: BinaryIO, syntax: str) -> int | None:
    """Return the length of the element at which a file stands, if it is Pixel Data."""
    begin = file.read(8)
    if len(begin) < 8 or struct.unpack_from("<HH", begin) != _PIXEL_DATA:
        return None
    if syntax == ImplicitVRLittleEndian:
        return int.from_bytes(begin[4:], "little")
    if begin[4:6] not in {b"OW", b"OB"}:
        return None
    return int.from_bytes(file.read(4), "little")
