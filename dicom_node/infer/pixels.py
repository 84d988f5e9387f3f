"""Pixels of one instance: decoded, checked, and brought to the values that a network expects."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.processing import apply_modality_lut
from pydicom.pixels.utils import pixel_array
from pydicom.tag import BaseTag
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

from dicom_node.errors import StudyUnusable
from dicom_node.headers import Part10, reading, tag_of, value_at
from dicom_node.infer.frames import ONLY_FRAME, Frame, quick_frame

_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

_SOP_INSTANCE_UID = tag_of("SOPInstanceUID")
_MODALITY_LUT = tag_of("ModalityLUTSequence")
_RESCALE_SLOPE, _RESCALE_INTERCEPT = tag_of("RescaleSlope"), tag_of("RescaleIntercept")
_RESCALE_TYPE = tag_of("RescaleType")

_END_OF_IMAGE = b"\xff\xd9"
"""The last marker of a JPEG and JPEG-LS stream (ISO/IEC 10918-1 B.1.1.3); padding may follow."""

_WITH_END = JPEGTransferSyntaxes + JPEGLSTransferSyntaxes

_FASTEST = {JPEGLSLossless: "pyjpegls", JPEGLSNearLossless: "pyjpegls"}
"""Where pydicom would begin with a slower decoder: 5 ms against 16 for a 512 x 512 slice."""


class Values(StrEnum):
    """What the numbers of a tensor mean."""

    HOUNSFIELD = "hounsfield"
    """CT numbers: rescaled; MONOCHROME1 only says how to show them, so it changes nothing."""
    BRIGHTNESS = "brightness"
    """Rescaled, and MONOCHROME1 inverted on its stored range: larger is brighter."""


def network_values(
    file: Part10,
    header: Dataset,
    values: Values,
    pixels_at: int | None = None,
    frame: Frame = ONLY_FRAME,
) -> NDArray[np.float32]:
    """Return the values of one image as a network expects them; the stored file is not changed.

    Parameters
    ----------
    file : Part10
        The file that holds the pixels.
    header : pydicom.Dataset
        Its header; the rescale of each slice is its own.
    values : Values
        Hounsfield units or brightness; the VOI LUT is not applied to either.
    pixels_at : int, optional
        Where in the file the pixels begin; without it they are looked for.
    frame : Frame
        Which one of the file is meant; the header is then that frame's.

    Returns
    -------
    numpy.ndarray, shape (rows, columns), float32

    Raises
    ------
    StudyUnusable
        If there are no pixels, they cannot be decoded, or the rescale makes no sense.

    References
    ----------
    PS3.3 C.7.6.3.1.2 (Photometric Interpretation), C.11.1 (Modality LUT Module)
    """
    image = linear_values(file, header, values, pixels_at, frame)
    result = image.stored.astype(np.float32)
    if image.slope != 1:
        result *= image.slope
    if image.intercept != 0:
        result += image.intercept
    return result


@dataclass(frozen=True, eq=False)
class LinearImage:
    """Stored values, and the line that makes of them what a network expects."""

    stored: NDArray[Any]
    """(rows, columns), of an integer type; float32 where a Modality LUT was looked up."""
    slope: np.float32
    intercept: np.float32


def linear_values(
    file: Part10,
    header: Dataset,
    values: Values,
    pixels_at: int | None = None,
    frame: Frame = ONLY_FRAME,
    into: NDArray[Any] | None = None,
) -> LinearImage:
    """Return one image as it is stored, with what brings it to a network; see `network_values`.

    Its values may lie in `into`, if that is of their shape and type.
    """
    stored = stored_values(file, header, pixels_at, frame, into)
    is_inverted = False
    if values is Values.HOUNSFIELD:
        _refuse_other_units(header)
    elif header.get("PhotometricInterpretation") == "MONOCHROME1":
        is_inverted = True
    uid = value_at(header, _SOP_INSTANCE_UID, "")
    ends = _ends(int(header.BitsStored), bool(header.PixelRepresentation)) if is_inverted else 0
    if value_at(header, _MODALITY_LUT):
        if is_inverted:
            stored = np.subtract(ends, stored, dtype=np.int32)
        with reading(f"the Modality LUT of instance {uid}"):
            looked_up = apply_modality_lut(stored, header).astype(np.float32)
        return LinearImage(looked_up, np.float32(1), np.float32(0))
    with reading(f"the rescale of instance {uid}"):
        slope = _number(header, _RESCALE_SLOPE, 1.0)
        intercept = _number(header, _RESCALE_INTERCEPT, 0.0)
    if slope == 0 or not (isfinite(slope) and isfinite(intercept)):
        raise StudyUnusable(f"instance {uid}: Rescale Slope is {slope:g}, all contrast is lost")
    if is_inverted:  # ends - stored, then rescaled: a line too
        slope, intercept = -slope, slope * ends + intercept
    return LinearImage(stored, np.float32(slope), np.float32(intercept))


def stored_values(
    file: Part10,
    header: Dataset,
    pixels_at: int | None = None,
    frame: Frame = ONLY_FRAME,
    into: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return the stored values of one image, of an integer type, shape (rows, columns).

    They may lie in `into`, if that is of their shape and type.
    """
    what = f"Pixel Data of instance {value_at(header, _SOP_INSTANCE_UID, '')}"
    if pixels_at is not None:
        with file.open("rb") as opened:
            quick = quick_frame(opened, header, pixels_at, frame, into)
        if quick is not None:
            stored, encoded = quick
            _refuse_cut_off(header.file_meta.TransferSyntaxUID, encoded, what)
            return stored
    return _stored_values_by_pydicom(file, header, what, frame)


def _stored_values_by_pydicom(
    file: Part10, header: Dataset, what: str, frame: Frame
) -> NDArray[Any]:
    with reading(what):
        with file.open("rb") as opened:
            dataset = pydicom.dcmread(opened, force=True)
        if not any(keyword in dataset for keyword in _PIXEL_KEYWORDS):
            raise StudyUnusable(f"instance {header.get('SOPInstanceUID', '')} has no Pixel Data")
        _name_transfer_syntax(dataset)
        syntax = dataset.file_meta.TransferSyntaxUID
        if syntax in _WITH_END:
            encoded = get_frame(dataset.PixelData, frame.index, number_of_frames=frame.count)
            _refuse_cut_off(syntax, encoded, what)
        plugin = _FASTEST.get(syntax, "")
        index = None if frame.count == 1 else frame.index
        stored: NDArray[Any] = pixel_array(dataset, index=index, decoding_plugin=plugin)
    if stored.shape != (header.Rows, header.Columns):
        raise StudyUnusable(f"{what} is not {header.Rows} x {header.Columns} but {stored.shape}")
    if stored.dtype.kind not in "iu":
        raise StudyUnusable(f"{what} is not of an integer type")
    return stored


def _ends(bits_stored: int, is_signed: bool) -> int:
    """Return the sum of the ends of what bits can hold: stored values are mirrored about its half.

    Unsigned values run from 0 to 2^n - 1 and signed ones from -2^(n-1) to 2^(n-1) - 1.
    """
    return -1 if is_signed else (1 << bits_stored) - 1


def _number(header: Dataset, tag: BaseTag, missing: float) -> float:
    value = value_at(header, tag)
    return missing if value is None or value == "" else float(value)


def _refuse_other_units(header: Dataset) -> None:
    """Refuse what does not say that it holds Hounsfield units.

    (0028,1052) and (0028,1053) are type 1 in CT images (PS3.3 C.8.2.1): guessed values would turn
    air into water. (0028,1054) Rescale Type may be absent, HU is then meant.
    """
    is_looked_up = bool(value_at(header, _MODALITY_LUT))
    if not is_looked_up:
        for tag in (_RESCALE_INTERCEPT, _RESCALE_SLOPE):
            if value_at(header, tag) in (None, ""):
                raise StudyUnusable(
                    f"{keyword_for_tag(tag)} is missing, so the values are not known to be "
                    "Hounsfield units",
                    hint="have the sender repair the series",
                )
    unit = str(value_at(header, _RESCALE_TYPE) or "HU")
    if unit != "HU" or is_looked_up:
        raise StudyUnusable(
            f"instance {header.get('SOPInstanceUID', '')} holds no Hounsfield units "
            f"(Rescale Type {unit})"
        )


def _refuse_cut_off(syntax: str, frame: bytes, what: str) -> None:
    """Refuse a JPEG stream without its end: libjpeg fills what is missing without a word.

    CharLS notices, but takes seconds; decoders of the other codecs notice at once.
    """
    if syntax in _WITH_END and _END_OF_IMAGE not in frame[-16:]:
        raise StudyUnusable(f"{what} is cut off", hint="have the sender send it again")


def _name_transfer_syntax(dataset: Dataset) -> None:
    """Give a bare data set the transfer syntax in which it was parsed."""
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        native = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else native
