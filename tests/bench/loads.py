"""What is sent: data sets in memory, made from the real images of tests/data, always the same.

Every UID that differs between instances has the same length in all of them, so that a sender can
write it over the template's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from os import SEEK_END
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite, write_file_meta_info
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
)

_DATA = Path(__file__).resolve().parent.parent / "data"
_CT = _DATA / "ct-chest-lctsc-011" / "025.dcm"
_MR = _DATA / "mr-t1-studyforrest" / "064.dcm"
_ROOT = "1.2.826.0.1.3680043.10.1714.9"
_FRAMES = 600
_MR_SIDE = 128


@dataclass(frozen=True)
class Load:
    """One instance as a template: `data_set` carries the UIDs of association 0, instance 0."""

    name: str
    sop_class_uid: str
    transfer_syntax_uid: str
    data_set: bytes


def study_uid(association: int) -> str:
    """Return a Study Instance UID of 36 characters."""
    return f"{_ROOT}.1.{1000 + association}"


def series_uid(association: int) -> str:
    """Return a Series Instance UID of 38 characters."""
    return f"{_ROOT}.2.{1000 + association}.1"


def sop_uid(association: int, instance: int) -> str:
    """Return a SOP Instance UID of 44 characters."""
    return f"{_ROOT}.3.{1000 + association}.{1000000 + instance}"


@lru_cache
def load(name: str) -> Load:
    """Return a load of `LOADS`, made when it is first asked for."""
    made = LOADS[name]()
    assert isinstance(made.file_meta, FileMetaDataset)
    made.SOPInstanceUID = sop_uid(0, 0)
    made.StudyInstanceUID, made.SeriesInstanceUID = study_uid(0), series_uid(0)
    data_set = _encoded(made)
    if name == "enhanced-ct":
        data_set += _pixel_data(_ct().PixelData, _FRAMES)
    for uid in (sop_uid(0, 0), study_uid(0), series_uid(0)):
        assert data_set.count(uid.encode(), 0, 1 << 16) == 1, "a UID would be patched twice"
    return Load(name, made.SOPClassUID, made.file_meta.TransferSyntaxUID, data_set)


def numbered(template: Load, association: int, instance: int) -> bytes:
    """Return the data set of an instance, whole."""
    return (
        template.data_set.replace(sop_uid(0, 0).encode(), sop_uid(association, instance).encode())
        .replace(study_uid(0).encode(), study_uid(association).encode())
        .replace(series_uid(0).encode(), series_uid(association).encode())
    )


def write_files(template: Load, folder: Path, folders: int, each: int) -> Iterator[Path]:
    """Write Part 10 files for `storescu` into so many folders below; yield the folders."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(template.sop_class_uid)
    meta.TransferSyntaxUID = UID(template.transfer_syntax_uid)
    meta.ImplementationClassUID = UID(_ROOT)
    for i in range(folders):
        part = folder / f"{i:02}"
        part.mkdir(parents=True)
        for j in range(each):
            meta.MediaStorageSOPInstanceUID = UID(sop_uid(i, j))
            head = DicomBytesIO(bytes(128) + b"DICM")
            head.seek(0, SEEK_END)
            write_file_meta_info(head, meta)
            (part / f"{j:04}.dcm").write_bytes(head.getvalue() + numbered(template, i, j))
        yield part


def _ct() -> FileDataset:
    dataset = pydicom.dcmread(_CT)
    dataset.decompress()
    return dataset


def _mr() -> FileDataset:
    dataset = pydicom.dcmread(_MR)
    dataset.decompress()
    top, left = (int(side - _MR_SIDE) // 2 for side in (dataset.Rows, dataset.Columns))
    cut = dataset.pixel_array[top : top + _MR_SIDE, left : left + _MR_SIDE]
    dataset.Rows = dataset.Columns = _MR_SIDE
    dataset.PixelData = cut.astype("<u2").tobytes()
    return dataset


def _jpeg_ls() -> FileDataset:
    return pydicom.dcmread(_CT)


def _jpeg_2000() -> FileDataset:
    dataset = _ct()
    dataset.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    return dataset


def _enhanced_ct() -> FileDataset:
    """Return the header of an enhanced CT (PS3.3 A.38); its pixels are too many to copy about."""
    dataset = _ct()
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    dataset.NumberOfFrames = _FRAMES
    positions = []
    for i in range(_FRAMES):
        position = Dataset()
        position.ImagePositionPatient = [-250, -250, i]
        plane = Dataset()
        plane.PlanePositionSequence = [position]
        positions.append(plane)
    measures = Dataset()
    measures.PixelSpacing = dataset.PixelSpacing
    measures.SliceThickness = 1
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = positions
    del dataset.PixelData
    return dataset


LOADS: dict[str, Callable[[], FileDataset]] = {
    "ct": _ct,
    "mr": _mr,
    "enhanced-ct": _enhanced_ct,
    "jpeg-ls": _jpeg_ls,
    "jpeg-2000": _jpeg_2000,
}
CT_SOP_CLASS = str(CTImageStorage)
EXPLICIT = str(ExplicitVRLittleEndian)


def _encoded(dataset: FileDataset) -> bytes:
    """Return the data set without preamble and File Meta, in its own transfer syntax."""
    bare = Dataset(dataset)
    syntax = dataset.file_meta.TransferSyntaxUID
    buffer = BytesIO()
    dcmwrite(buffer, bare, implicit_vr=syntax.is_implicit_VR, little_endian=True)
    return buffer.getvalue()


def _pixel_data(frame: bytes, frames: int) -> bytes:
    """Return (7FE0,0010) *Pixel Data* as OW in explicit VR little endian (PS3.5 7.1.2)."""
    size_bytes = len(frame) * frames
    return b"\xe0\x7f\x10\x00OW\0\0" + size_bytes.to_bytes(4, "little") + frame * frames
