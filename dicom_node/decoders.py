"""Encoded frames of plain grey images, decoded by imagecodecs, which leaves Python's lock alone.

It is a shorter way to pydicom's values, and no second opinion: where a decoder has doubts, or the
values do not fit the header, there is none, and pydicom judges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_node.headers import tag_of, value_at

Decode = Callable[[bytes, "np.dtype[Any]"], NDArray[Any]]

DECODERS: dict[str, Decode] = {
    RLELossless: lambda data, kind: np.frombuffer(imagecodecs.dicomrle_decode(data, kind), kind),
    JPEGLossless: lambda data, kind: imagecodecs.ljpeg_decode(data),
    JPEGLosslessSV1: lambda data, kind: imagecodecs.ljpeg_decode(data),
    JPEGLSLossless: lambda data, kind: imagecodecs.jpegls_decode(data),
    JPEGLSNearLossless: lambda data, kind: imagecodecs.jpegls_decode(data),
    JPEG2000Lossless: lambda data, kind: imagecodecs.jpeg2k_decode(data),
    JPEG2000: lambda data, kind: imagecodecs.jpeg2k_decode(data),
}
"""By Transfer Syntax UID."""

_SAMPLES_PER_PIXEL = tag_of("SamplesPerPixel")
_BITS_ALLOCATED = tag_of("BitsAllocated")
_BITS_STORED = tag_of("BitsStored")
_PIXEL_REPRESENTATION = tag_of("PixelRepresentation")
_JPEG_2000 = (JPEG2000Lossless, JPEG2000)


def stored_kind(header: Dataset) -> np.dtype[Any] | None:
    """Return the type of the stored values of a plain grey image, None if it is another."""
    if value_at(header, _SAMPLES_PER_PIXEL) not in (None, 1):
        return None
    bits, sign = value_at(header, _BITS_ALLOCATED), value_at(header, _PIXEL_REPRESENTATION)
    if bits not in (8, 16) or sign not in (0, 1) or not value_at(header, _BITS_STORED):
        return None
    return np.dtype(f"<{'i' if sign else 'u'}{bits // 8}")


def decode_grey(
    frame: bytes, kind: np.dtype[Any], header: Dataset, decode: Decode, syntax: str
) -> NDArray[Any] | None:
    """Return the stored values of one frame, None if that is for pydicom to judge.

    Returns
    -------
    numpy.ndarray, shape (rows, columns), of `kind`
    """
    try:
        decoded = decode(frame, kind)
    except (RuntimeError, ValueError):  # the base of imagecodecs' own
        return None
    shape = int(header.Rows), int(header.Columns)
    typed = _signed(decoded, kind, header, syntax)
    if typed is None or typed.size != shape[0] * shape[1] or not is_within(typed, header):
        return None
    return typed.reshape(shape)


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


def is_within(values: NDArray[Any], header: Dataset) -> bool:
    """Return whether all values lie in the bits that are stored, with nothing beside them."""
    bits = int(value_at(header, _BITS_STORED))
    if bits == values.itemsize * 8:
        return True
    if values.dtype.kind == "u":
        return bool(values.max() < 1 << bits)
    half = 1 << bits - 1
    return bool(-half <= values.min() and values.max() < half)
