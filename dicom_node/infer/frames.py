"""One frame of an instance, straight from its file: the quick way for the usual encodings.

The header was read up to the pixels, so it is known where they begin; they are taken from there and
decoded by imagecodecs, which leaves Python's lock alone, so all cores decode at a time. Whatever is
not plain (other encodings, bits beside those that are stored, a decoder that has doubts) is left to
pydicom: there is no second opinion here, only a shorter way to the same values.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from os import SEEK_CUR
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames, get_frame
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

_PIXEL_DATA = (0x7FE0, 0x0010)
_UNDEFINED = 0xFFFFFFFF


@dataclass(frozen=True)
class Frame:
    """Which frame of an instance is meant."""

    index: int
    count: int
    """How many there are."""


ONLY_FRAME = Frame(0, 1)

Decode = Callable[[bytes, "np.dtype[Any]"], NDArray[Any]]

_DECODERS: dict[str, Decode] = {
    RLELossless: lambda data, kind: np.frombuffer(imagecodecs.dicomrle_decode(data, kind), kind),
    JPEGLossless: lambda data, kind: imagecodecs.ljpeg_decode(data),
    JPEGLosslessSV1: lambda data, kind: imagecodecs.ljpeg_decode(data),
    JPEGLSLossless: lambda data, kind: imagecodecs.jpegls_decode(data),
    JPEGLSNearLossless: lambda data, kind: imagecodecs.jpegls_decode(data),
    JPEG2000Lossless: lambda data, kind: imagecodecs.jpeg2k_decode(data),
    JPEG2000: lambda data, kind: imagecodecs.jpeg2k_decode(data),
}
_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
_JPEG_2000 = (JPEG2000Lossless, JPEG2000)


def quick_frame(
    file: BinaryIO, header: Dataset, pixels_at: int, frame: Frame = ONLY_FRAME
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

    Returns
    -------
    values : numpy.ndarray, shape (rows, columns)
        Of the integer type that the header names.
    encoded : bytes
        The encoded frame; empty if it is native.

    None if the image, or what is found of it, is for pydicom to judge.
    """
    syntax = getattr(getattr(header, "file_meta", None), "TransferSyntaxUID", "")
    kind = _kind_of(header)
    if kind is None or (syntax not in _NATIVE and syntax not in _DECODERS):
        return None
    file.seek(pixels_at)
    length = _length(file, syntax)
    shape = int(header.Rows), int(header.Columns)
    if syntax in _NATIVE:
        size = shape[0] * shape[1] * kind.itemsize
        whole = size * frame.count
        if length not in {whole, whole + whole % 2}:
            return None
        file.seek(size * frame.index, SEEK_CUR)
        data = file.read(size)
        if len(data) != size:
            return None
        values = np.frombuffer(data, kind).reshape(shape)
        return (values, b"") if _is_within(values, header) else None
    if length != _UNDEFINED:
        return None
    try:
        encoded = _encoded(file, frame)
        decoded = _DECODERS[syntax](encoded, kind)
    except (RuntimeError, ValueError):  # the base of imagecodecs' own, and pydicom's
        return None
    typed = _signed(decoded, kind, header, syntax)
    if typed is None or typed.size != shape[0] * shape[1] or not _is_within(typed, header):
        return None
    return typed.reshape(shape), encoded


def _encoded(file: BinaryIO, frame: Frame) -> bytes:
    """Return the encoded frame of a file that stands at its Basic Offset Table."""
    if frame.count > 1:
        return get_frame(file, frame.index, number_of_frames=frame.count)
    (encoded,) = generate_frames(file.read(), number_of_frames=1)
    return encoded


def _kind_of(header: Dataset) -> np.dtype[Any] | None:
    """Return the type of the stored values of a plain grey image."""
    if header.get("SamplesPerPixel") not in (None, 1):
        return None
    bits, sign = header.get("BitsAllocated"), header.get("PixelRepresentation")
    if bits not in (8, 16) or sign not in (0, 1) or not header.get("BitsStored"):
        return None
    if header.get("NumberOfFrames") not in (None, "", 1):
        return None
    return np.dtype(f"<{'i' if sign else 'u'}{bits // 8}")


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


def _signed(
    decoded: NDArray[Any], kind: np.dtype[Any], header: Dataset, syntax: str
) -> NDArray[Any] | None:
    """Return decoded values in the type of the header; None if they do not fit into it."""
    if decoded.dtype == kind:
        return decoded
    if syntax in _JPEG_2000 or decoded.dtype.kind != "u" or decoded.itemsize != kind.itemsize:
        return None  # JPEG 2000 says itself whether it is signed
    # JPEG and JPEG-LS know no signs: they carry the bits that are stored.
    unused = kind.itemsize * 8 - int(header.BitsStored)
    extended: NDArray[Any] = (decoded << unused).view(kind) >> unused
    return extended


def _is_within(values: NDArray[Any], header: Dataset) -> bool:
    """Return whether all values lie in the bits that are stored, with nothing beside them."""
    bits = int(header.BitsStored)
    if bits == values.itemsize * 8:
        return True
    low, high = 0, (1 << bits) - 1
    if values.dtype.kind == "i":
        low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    return bool(low <= values.min() and values.max() <= high)
