"""What a destination that does not take an instance's transfer syntax gets instead.

Explicit VR Little Endian, else Implicit: pixels are decoded, never encoded, and nothing else of the
data set changes but what says how its pixels are encoded. Whatever goes wrong is an error; there is
no object without its pixels.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.filereader import data_element_generator
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
)

from dicom_node.decoders import DECODERS, Decode, decode_grey, stored_kind
from dicom_node.deliver.plain import PlainWriter
from dicom_node.errors import StudyUnusable
from dicom_node.headers import reading
from dicom_node.scu.content import Content

_MADE = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
_NATIVE = frozenset(map(str, (*_MADE, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)))
_PIXEL_DATA = 0x7FE00010
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_INFLATED_BYTES_MAX = 1 << 31
_JPEG_SPECTRAL_SELECTION = "1.2.840.10008.1.2.4.53"
_JPEG_FULL_PROGRESSION = "1.2.840.10008.1.2.4.55"
_HTJ2K = "1.2.840.10008.1.2.4.203"
_DCT = (str(JPEGBaseline8Bit), str(JPEGExtended12Bit))
_RETIRED: dict[str, Decode] = {  # progressive: of those that decode, only libjpeg knows them
    _JPEG_SPECTRAL_SELECTION: lambda data, kind: imagecodecs.jpeg_decode(data),
    _JPEG_FULL_PROGRESSION: lambda data, kind: imagecodecs.jpeg_decode(data),
}
_LOSSY = {  # PS3.3 C.7.6.1.1.5.1
    **dict.fromkeys((*_DCT, *_RETIRED), "ISO_10918_1"),
    str(JPEGLSNearLossless): "ISO_14495_1",
    str(JPEG2000): "ISO_15444_1",
    _HTJ2K: "ISO_15444_15",
}


def makes(transfer_syntax_uid: str) -> tuple[str, ...]:
    """Return the transfer syntaxes that can be made of one, the better first."""
    if not _is_known(transfer_syntax_uid):
        return ()
    return tuple(made for made in _MADE if made != transfer_syntax_uid)


def is_lossy(transfer_syntax_uid: str) -> bool:
    """Return whether pixels are compressed with a loss in a transfer syntax, for all we know."""
    return transfer_syntax_uid in _LOSSY


def transcode(content: Content, transfer_syntax_uid: str, target: str) -> Content:
    """Return a data set in another transfer syntax, one of `makes`.

    Raises
    ------
    StudyUnusable
        If it cannot be made, with the reason.
    StorageError
        If the content cannot be read.
    """
    encoded = content.read()
    with reading("the instance"):
        syntax = UID(transfer_syntax_uid)
        if syntax.is_deflated:
            encoded = _inflated(encoded)
        dataset = _parsed(encoded, syntax)
        values = {}
        if syntax.is_encapsulated and "PixelData" in dataset:
            values[_PIXEL_DATA] = _decompress(dataset, transfer_syntax_uid)
        elif "Rows" in dataset and not any(keyword in dataset for keyword in _PIXELS):
            raise StudyUnusable("it has no pixels")
        writer = PlainWriter(
            is_implicit=UID(target).is_implicit_VR,
            turns_words=not syntax.is_little_endian,
            values=values,
        )
        return Content(tuple(_gathered(writer.pieces(dataset))))


@lru_cache
def _is_known(transfer_syntax_uid: str) -> bool:
    if transfer_syntax_uid in _NATIVE or transfer_syntax_uid in _RETIRED:
        return True
    try:
        return bool(get_decoder(UID(transfer_syntax_uid)).is_available)
    except NotImplementedError:
        return False


def _parsed(encoded: bytes, syntax: UID) -> Dataset:
    """Return a data set; its end must be there, over which pydicom's `read_dataset` is patient."""
    implicit, little_endian = syntax.is_implicit_VR, syntax.is_little_endian
    elements = {
        element.tag: element
        for element in data_element_generator(BytesIO(encoded), implicit, little_endian)
    }
    dataset = Dataset(elements)
    dataset.set_original_encoding(implicit, little_endian)
    return dataset


def _inflated(encoded: bytes) -> bytes:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflate.decompress(encoded, _INFLATED_BYTES_MAX)
    if inflate.unconsumed_tail or not inflate.eof:
        raise StudyUnusable("its data set is not deflated, is cut off, or is too large")
    return inflated


def _decompress(dataset: Dataset, syntax: str) -> bytes:
    """Return the value of (7FE0,0010) *Pixel Data*; let the data set say how that is encoded."""
    frames = _grey_frames(dataset, syntax)
    if frames is None:
        frames = _frames_by_pydicom(dataset, syntax)
    value = b"".join(frames)
    samples = int(dataset.get("SamplesPerPixel") or 1)
    wanted = dataset.Rows * dataset.Columns * samples * dataset.BitsAllocated // 8
    wanted *= int(dataset.get("NumberOfFrames") or 1)
    if len(value) != wanted or not wanted:
        raise StudyUnusable(f"its pixels have {len(value)} bytes instead of {wanted}")
    dataset["PixelData"].VR = "OB" if dataset.BitsAllocated <= 8 else "OW"
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            del dataset[keyword]
    icons = dataset.get("IconImageSequence") or []
    if any(getattr(icon.get_item(_PIXEL_DATA), "length", 0) == 0xFFFFFFFF for icon in icons):
        del dataset["IconImageSequence"]  # it may be compressed only if the image is (type 3)
    if syntax in _LOSSY and not dataset.get("LossyImageCompression"):
        dataset.LossyImageCompression = "01"  # nothing else would tell it any more
        dataset.LossyImageCompressionMethod = _LOSSY[syntax]
    return value + b"\0" * (len(value) % 2)


def _grey_frames(dataset: Dataset, syntax: str) -> list[bytes] | None:
    """Return the frames of a plain grey image; None if they are for pydicom to decode."""
    kind = stored_kind(dataset)
    decode = DECODERS.get(syntax) or _RETIRED.get(syntax)
    if kind is None or decode is None:
        return None
    frames = []
    for frame in _encoded_frames(dataset):
        values = decode_grey(frame, kind, dataset, decode, syntax)
        if values is None:
            return None
        frames.append(np.ascontiguousarray(values).tobytes())
    return frames


def _encoded_frames(dataset: Dataset) -> Iterator[bytes]:
    offsets = None
    if "ExtendedOffsetTable" in dataset:
        offsets = dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths
    return generate_frames(
        dataset.PixelData,
        number_of_frames=int(dataset.get("NumberOfFrames") or 1),
        extended_offsets=offsets,
    )


def _frames_by_pydicom(dataset: Dataset, syntax: str) -> list[bytes]:
    if syntax in _RETIRED:
        raise StudyUnusable("no decoder takes it")
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta = meta
    frames: list[bytes] = []
    # what was compressed without loss keeps its colours as they are, be they YBR
    for values, said in get_decoder(UID(syntax)).iter_array(dataset, as_rgb=syntax in _DCT):
        decoded: NDArray[Any] = values
        frames.append(decoded.tobytes())
        dataset.PhotometricInterpretation = said["photometric_interpretation"]
        if int(dataset.get("SamplesPerPixel") or 1) > 1:
            dataset.PlanarConfiguration = said["planar_configuration"]
    return frames


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Join what is short; the pixels stay where they are."""
    short: list[bytes] = []
    for piece in pieces:
        if len(piece) < 1 << 16:
            short.append(piece)
            continue
        yield b"".join(short)
        yield piece
        short = []
    yield b"".join(short)
