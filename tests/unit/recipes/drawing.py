"""Masks of a series written as others write them: SEG by highdicom, RTSTRUCT by its outlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import (
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from dicom_node.encode.outlines import outlines_of


def write_seg(
    file: Path,
    sources: Sequence[Dataset],
    masks: Mapping[str, NDArray[np.bool_]],
    kind: SegmentationTypeValues = SegmentationTypeValues.BINARY,
) -> Path:
    """Write masks, (slices, rows, columns) by name, as a SEG of their sources."""
    algorithm = AlgorithmIdentificationSequence("none", codes.cid7162.ArtificialIntelligence, "1")
    descriptions = [
        SegmentDescription(
            number,
            name,
            codes.SCT.Organ,
            codes.SCT.Lung,
            "AUTOMATIC",
            algorithm_identification=algorithm,
        )
        for number, name in enumerate(masks, 1)
    ]
    pixels: NDArray[Any] = np.stack(list(masks.values()), axis=-1)
    if kind is SegmentationTypeValues.LABELMAP:
        pixels = (pixels * np.arange(1, len(masks) + 1)).max(axis=-1).astype(np.uint8)
    elif kind is SegmentationTypeValues.FRACTIONAL:
        pixels = pixels * 0.8
    seg = Segmentation(
        sources,
        pixels.astype(float if kind is SegmentationTypeValues.FRACTIONAL else np.uint8),
        kind,
        descriptions,
        generate_uid(),
        1,
        generate_uid(),
        1,
        "nobody",
        "none",
        "1",
        "1",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    seg.save_as(file)
    return file


def write_rtstruct(
    file: Path, sources: Sequence[Dataset], masks: Mapping[str, NDArray[np.bool_]]
) -> Path:
    """Write the outlines of masks, on the edges of their pixels, as an RTSTRUCT."""
    first = sources[0]
    dataset = bare_rtstruct(first)
    for number, (name, mask) in enumerate(masks.items(), 1):
        contours = []
        for source, drawn in zip(sources, mask, strict=True):
            for outline in outlines_of(drawn):
                contours.append(contour(to_mm(outline[:-1] - 0.5, source)))
        add_roi(dataset, number, name, contours)
    dataset.save_as(file, enforce_file_format=True)
    return file


def bare_rtstruct(source: Dataset) -> FileDataset:
    """Return an RTSTRUCT with nothing drawn, of the series of a source."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.Modality = "RTSTRUCT"
    dataset.PatientID, dataset.StudyInstanceUID = source.PatientID, source.StudyInstanceUID
    dataset.SeriesInstanceUID = generate_uid()
    series = Dataset()
    series.SeriesInstanceUID = source.SeriesInstanceUID
    study = Dataset()
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = source.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence = []
    dataset.ROIContourSequence = []
    return dataset


def add_roi(dataset: Dataset, number: int, name: str, contours: Sequence[Dataset]) -> None:
    """Add a region with its contours."""
    roi = Dataset()
    roi.ROINumber, roi.ROIName = number, name
    dataset.StructureSetROISequence.append(roi)
    drawn = Dataset()
    drawn.ReferencedROINumber = number
    drawn.ContourSequence = list(contours)
    dataset.ROIContourSequence.append(drawn)


def contour(points_mm: NDArray[np.float64], kind: str = "CLOSED_PLANAR") -> Dataset:
    """Return one contour through points, (points, 3)."""
    dataset = Dataset()
    dataset.ContourGeometricType = kind
    dataset.NumberOfContourPoints = len(points_mm)
    dataset.ContourData = [f"{value:.4f}" for value in points_mm.ravel()]
    return dataset


def to_mm(points: NDArray[np.floating], source: Dataset) -> NDArray[np.float64]:
    """Return (column, row) on a slice as LPS millimetres (PS3.3 C.7.6.2.1.1)."""
    row_mm, column_mm = map(float, source.PixelSpacing)
    cosines = np.array(source.ImageOrientationPatient, float)
    corner = np.array(source.ImagePositionPatient, float)
    return (
        corner
        + np.outer(points[:, 0] * column_mm, cosines[:3])
        + np.outer(points[:, 1] * row_mm, cosines[3:])
    )
