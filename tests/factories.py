"""Small, readable, synthetic DICOM: what the tests receive, infer from and encode on.

Everything is deterministic: the same arguments give the same bytes and the same UIDs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
)

ROOT = "1.2.826.0.1.3680043.10.1714.1"
"""Every UID made here begins with it."""
STUDY = f"{ROOT}.1"
CT_SERIES = f"{ROOT}.2"
MR_SERIES = f"{ROOT}.3"
XRAY_SERIES = f"{ROOT}.4"
FRAME_OF_REFERENCE = f"{ROOT}.5"

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def make_instance(
    pixels: NDArray[Any] | None = None, *, number: int = 1, **changes: Any
) -> FileDataset:
    """Return a whole CT instance with native pixels, as `dcmread` would.

    Parameters
    ----------
    pixels : numpy.ndarray, shape (rows, columns), optional
        Stored values, 8 or 16 bits; 64 x 64 of int16 -1000 if left out.
    number : int
        Instance Number; the SOP Instance UID is derived from it and the series.
    **changes
        Attributes by keyword to set last; `None` deletes the attribute. A changed Series Instance
        UID changes the SOP Instance UID with it.
    """
    if pixels is None:
        pixels = np.full((64, 64), -1000, np.int16)
    series = changes.get("SeriesInstanceUID") or CT_SERIES
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = f"{series}.{number}"
    dataset.StudyDate = "20240102"
    dataset.SeriesDate = "20240102"
    dataset.ContentDate = "20240102"
    dataset.StudyTime = "101500"
    dataset.SeriesTime = "101600"
    dataset.ContentTime = "101700"
    dataset.AccessionNumber = "A0001"
    dataset.Modality = "CT"
    dataset.Manufacturer = "Synthetic"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "Synthetic study"
    dataset.SeriesDescription = "Synthetic series"
    dataset.PatientName = "Synthetic^Patient"
    dataset.PatientID = "SYN-1"
    dataset.PatientBirthDate = "19700101"
    dataset.PatientSex = "O"
    dataset.BodyPartExamined = "CHEST"
    dataset.SliceThickness = 2.0
    dataset.KVP = 120.0
    dataset.StudyInstanceUID = STUDY
    dataset.SeriesInstanceUID = series
    dataset.StudyID = "1"
    dataset.SeriesNumber = 1
    dataset.AcquisitionNumber = 1
    dataset.InstanceNumber = number
    dataset.ImagePositionPatient = [0.0, 0.0, 0.0]
    dataset.ImageOrientationPatient = list(AXIAL)
    dataset.FrameOfReferenceUID = FRAME_OF_REFERENCE
    dataset.PositionReferenceIndicator = ""
    dataset.PixelSpacing = [1.0, 1.0]
    dataset.RescaleIntercept = 0.0
    dataset.RescaleSlope = 1.0
    dataset.RescaleType = "HU"
    _set_pixels(dataset, pixels)
    for keyword, value in changes.items():
        if value is None:
            dataset.pop(keyword, None)
        else:
            setattr(dataset, keyword, value)
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", "")
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "")
    return dataset


def make_ct_series(
    slices: int = 40,
    *,
    pixels: NDArray[Any] | None = None,
    spacing_mm: tuple[float, float, float] = (2.0, 1.0, 1.0),
    origin_mm: tuple[float, float, float] = (-32.0, -32.0, -100.0),
    orientation: Sequence[float] = AXIAL,
    **changes: Any,
) -> list[FileDataset]:
    """Return the instances of one regular series, first along the normal of its orientation.

    Parameters
    ----------
    slices : int
        How many; ignored where `pixels` are given.
    pixels : numpy.ndarray, shape (slices, rows, columns), optional
        Stored values; constant air with the slice's index in one corner pixel if left out, so
        that no two slices are equal.
    spacing_mm : tuple of float
        Between slices, between rows, between columns.
    origin_mm : tuple of float
        Image Position (Patient) of the first slice, LPS.
    orientation : sequence of float
        Image Orientation (Patient); see `AXIAL`, `CORONAL`, `SAGITTAL`.
    **changes
        For each instance, as in `make_instance`.
    """
    if pixels is None:
        pixels = np.full((slices, 64, 64), -1000, np.int16)
        pixels[:, 0, 0] = np.arange(slices)
    along_row, along_column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(along_row, along_column)
    given: dict[str, Any] = {
        "ImageOrientationPatient": list(orientation),
        "PixelSpacing": list(spacing_mm[1:]),
        "SliceThickness": spacing_mm[0],
    }
    return [
        make_instance(
            image,
            number=index + 1,
            **(
                given
                | {
                    "ImagePositionPatient": [
                        round(float(value), 6)
                        for value in np.array(origin_mm) + index * spacing_mm[0] * normal
                    ]
                }
                | changes
            ),
        )
        for index, image in enumerate(pixels)
    ]


def make_mr_series(slices: int = 40, **changes: Any) -> list[FileDataset]:
    """Return a T1 MR head series; arguments as in `make_ct_series`."""
    given: dict[str, Any] = {
        "Modality": "MR",
        "SOPClassUID": MRImageStorage,
        "SeriesInstanceUID": MR_SERIES,
        "SeriesDescription": "T1 MPRAGE",
        "BodyPartExamined": "HEAD",
        "RescaleType": None,
        "RescaleSlope": None,
        "RescaleIntercept": None,
        "KVP": None,
    }
    return make_ct_series(slices, **(given | changes))


def make_xray(
    pixels: NDArray[Any] | None = None, *, number: int = 1, **changes: Any
) -> FileDataset:
    """Return a chest X-ray (CR, PA view): a bright heart between two dark lungs, 256 x 256."""
    if pixels is None:
        row, column = np.mgrid[0:256, 0:256] / 256.0
        pixels = np.full((256, 256), 600.0)
        for centre in (0.3, 0.7):
            pixels -= 500 * ((((row - 0.5) / 0.32) ** 2 + ((column - centre) / 0.15) ** 2) < 1)
        pixels = pixels.astype(np.uint16)
    given: dict[str, Any] = {
        "Modality": "CR",
        "SOPClassUID": ComputedRadiographyImageStorage,
        "SeriesInstanceUID": XRAY_SERIES,
        "ViewPosition": "PA",
        "PatientOrientation": ["L", "F"],
        "ImagePositionPatient": None,
        "ImageOrientationPatient": None,
        "FrameOfReferenceUID": None,
        "PositionReferenceIndicator": None,
        "SliceThickness": None,
        "PixelSpacing": None,
        "ImagerPixelSpacing": [1.4, 1.4],
        "RescaleType": None,
        "RescaleSlope": None,
        "RescaleIntercept": None,
        "BitsStored": 10,
        "HighBit": 9,
    }
    return make_instance(pixels, number=number, **(given | changes))


def make_enhanced(series: Sequence[FileDataset], *, number: int = 1) -> FileDataset:
    """Return one enhanced multi-frame instance with the slices of a CT or MR series as its frames.

    Where the slices lie, how they are rescaled and what kind of image they are stands in functional
    groups only: shared if it is the same for all, else per frame (PS3.3 C.7.6.16).
    """
    instance = make_instance(
        number=number,
        **{
            element.keyword: element.value
            for element in series[0]
            if element.keyword
            and element.VR != "SQ"
            and element.keyword not in {"SOPInstanceUID", "PixelData", "SpecificCharacterSet"}
        },
    )
    is_ct = series[0].Modality == "CT"
    instance.SOPClassUID = EnhancedCTImageStorage if is_ct else EnhancedMRImageStorage
    instance.file_meta.MediaStorageSOPClassUID = instance.SOPClassUID
    instance.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    instance.NumberOfFrames = len(series)
    instance.PixelData = b"".join(slice_.PixelData for slice_ in series)
    instance.SharedFunctionalGroupsSequence = [Dataset()]
    instance.PerFrameFunctionalGroupsSequence = [Dataset() for _ in series]
    macros = {
        "PlanePositionSequence": ("ImagePositionPatient",),
        "PlaneOrientationSequence": ("ImageOrientationPatient",),
        "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
        "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope", "RescaleType"),
        f"{series[0].Modality}ImageFrameTypeSequence": ("ImageType",),
    }
    named = {
        "FrameContentSequence": ("TemporalPositionIndex", "FrameAcquisitionDateTime"),
        "MREchoSequence": ("EffectiveEchoTime",),
        "MRDiffusionSequence": ("DiffusionBValue",),
        "CardiacSynchronizationSequence": ("NominalCardiacTriggerDelayTime",),
    }
    macros |= {
        macro: keywords
        for macro, keywords in named.items()
        if any(keyword in one for one in series for keyword in keywords)
    }
    for macro, keywords in macros.items():
        items = [_item({word: one.get(word) for word in keywords}) for one in series]
        shares = all(item == items[0] for item in items)
        groups = (
            instance.SharedFunctionalGroupsSequence
            if shares
            else (instance.PerFrameFunctionalGroupsSequence)
        )
        for group, item in zip(groups, items, strict=False):
            setattr(group, macro, [item])
        for keyword in keywords:
            if keyword in instance and keyword != "ImageType":
                delattr(instance, keyword)
    return instance


def _item(values: dict[str, Any]) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        if value is not None:
            setattr(item, "FrameType" if keyword == "ImageType" else keyword, value)
    return item


def write(dataset: Dataset, path: Path) -> Path:
    """Write one instance as a Part 10 file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_series(series: Sequence[Dataset], folder: Path) -> list[Path]:
    """Write instances as `folder/001.dcm` and so on; return the paths in that order."""
    return [write(dataset, folder / f"{number:03}.dcm") for number, dataset in enumerate(series, 1)]


def _set_pixels(dataset: Dataset, pixels: NDArray[Any]) -> None:
    bits = pixels.dtype.itemsize * 8
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = bits
    dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if bits == 16 else "OB"
