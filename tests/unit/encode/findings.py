"""Findings to encode: small, of every kind, independent of any engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset

from dicom_node.encode.results import Encoded, Stamp
from dicom_node.finding import (
    Classification,
    Code,
    EngineIdentity,
    Fault,
    Finding,
    FindingKind,
    Measurement,
    Quality,
    QualityGrade,
    Segment,
    Value,
)
from dicom_node.headers import read_header

STAMP = Stamp(
    created_at=1_700_000_000.25, node_name="DICOM_NODE", software_version="0.1.0", job_key="job"
)
"""14 November 2023, 22:13:20.25 UTC."""

ENGINE = EngineIdentity(
    name="ct-lungs",
    version="1.0.0",
    title="Lungs on chest CT",
    description="Finds both lungs on CT of the chest.",
    model_digest="ab" * 32,
    runtime="onnxruntime 1.20.0 CPU",
    limits=("Trained on adults.", "Not for children."),
)
ANATOMY = Code("123037004", "SCT", "Anatomical Structure")
LUNG = Code("39607008", "SCT", "Lung")
RIGHT = Code("24028007", "SCT", "Right")
LEFT = Code("7771000", "SCT", "Left")
VOLUME = Code("118565006", "SCT", "Volume")
MILLILITRE = Code("ml", "UCUM", "milliliter")
BONE_AGE = Code("BONE_AGE", "99TEST", "Bone age")
MONTH = Code("mo", "UCUM", "month")
PNEUMONIA = Code("233604007", "SCT", "Pneumonia")


def headers_of(instances: Sequence[Dataset]) -> list[Dataset]:
    """Return the instances as the node reads them: through a file, without pixel data."""
    headers = []
    for instance in instances:
        buffer = BytesIO()
        instance.save_as(buffer, enforce_file_format=True)
        headers.append(read_header(BytesIO(buffer.getvalue())))
    return headers


def uids_of(headers: Sequence[Dataset]) -> tuple[str, ...]:
    return tuple(str(header.SOPInstanceUID) for header in headers)


def blobs(headers: Sequence[Dataset]) -> NDArray[np.uint8]:
    """Return a mask with segments 1 and 2: no two slices, rows or columns of it are alike."""
    shape = (len(headers), headers[0].Rows, headers[0].Columns)
    mask = np.zeros(shape, np.uint8)
    for index in range(len(headers)):
        mask[index, 3 : 9 + index % 5, 2 : 11 + index % 7] = 1
        mask[index, 20 : 23 + index % 9, 30 : 47 + index % 3] = 2
    return mask


def lung(number: int, label: str, side: Code | None, volume_ml: float) -> Segment:
    """Return a segment with its volume as the one measurement."""
    volume = Measurement("volume_ml", volume_ml, MILLILITRE, VOLUME)
    return Segment(number, label, ANATOMY, LUNG, side, volume_ml, (volume,))


def overlapping(headers: Sequence[Dataset], maps: NDArray[np.bool_] | None = None) -> Finding:
    """Return a lung and what lies in it, one map each."""
    if maps is None:
        blob = blobs(headers)
        maps = np.stack([blob > 0, blob == 2])
    return Finding(
        kind=FindingKind.SEGMENTATION,
        engine=ENGINE,
        sop_instance_uids=uids_of(headers),
        summary="A lung and a part of it.",
        mask=maps,
        segments=tuple(
            lung(number, label, None, float(np.count_nonzero(one)) * 0.002)
            for number, (label, one) in enumerate(zip(("Lung", "Lobe"), maps, strict=True), 1)
        ),
    )


def probable(headers: Sequence[Dataset]) -> Finding:
    """Return both lungs with how probable each is, voxel by voxel, beyond their borders too."""
    finding = segmentation(headers)
    index, row, column = np.indices(blobs(headers).shape)
    wavy = (np.stack([index * 7 + row * 3 + column, index + row + column * 5]) % 256).astype(
        np.uint8
    )
    certain = np.stack([blobs(headers) == number for number in (1, 2)])
    probabilities = np.where(certain, 255, wavy // 2).astype(np.uint8)
    probabilities[0, ::2] = certain[0, ::2] * 255
    return replace(finding, probabilities=probabilities)


def regression(headers: Sequence[Dataset]) -> Finding:
    """Return an age for every image."""
    return Finding(
        kind=FindingKind.REGRESSION,
        engine=ENGINE,
        sop_instance_uids=uids_of(headers),
        summary="Bone age 131 months",
        values=tuple(Value(uid, BONE_AGE, "Bone age", 131.25, MONTH) for uid in uids_of(headers)),
    )


def of_series(finding: Finding) -> Finding:
    """Return the finding with its first statement, said of the series as a whole."""
    return replace(
        finding,
        classifications=tuple(
            replace(one, sop_instance_uid="") for one in finding.classifications[:1]
        ),
        qualities=tuple(replace(one, sop_instance_uid="") for one in finding.qualities[:1]),
        values=tuple(replace(one, sop_instance_uid="") for one in finding.values[:1]),
    )


def segmentation(
    headers: Sequence[Dataset],
    mask: NDArray[np.uint8] | None = None,
    voxel_ml: float = 0.002,
    engine: EngineIdentity = ENGINE,
) -> Finding:
    """Return both lungs on the grid of `headers`."""
    mask = blobs(headers) if mask is None else mask
    counts = np.bincount(mask.ravel(), minlength=3)
    return Finding(
        kind=FindingKind.SEGMENTATION,
        engine=engine,
        sop_instance_uids=uids_of(headers),
        summary="Both lungs.",
        warnings=("Two slices are missing.",),
        mask=mask,
        segments=tuple(
            lung(number, label, side, float(counts[number]) * voxel_ml)
            for number, label, side in ((1, "Right lung", RIGHT), (2, "Left lung", LEFT))
        ),
    )


def classification(
    headers: Sequence[Dataset], probability: float = 0.93, engine: EngineIdentity = ENGINE
) -> Finding:
    """Return pneumonia on every image, present from 0.5."""
    return Finding(
        kind=FindingKind.CLASSIFICATION,
        engine=engine,
        sop_instance_uids=uids_of(headers),
        summary=f"Pneumonia {probability:.2f}",
        classifications=tuple(
            Classification(uid, PNEUMONIA, "Pneumonia", probability, 0.5)
            for uid in uids_of(headers)
        ),
    )


def quality(
    headers: Sequence[Dataset],
    grade: QualityGrade = QualityGrade.LIMITED,
    engine: EngineIdentity = ENGINE,
) -> Finding:
    """Return a grade of every image, one found fault, one not found, one note."""
    return Finding(
        kind=FindingKind.QUALITY,
        engine=engine,
        sop_instance_uids=uids_of(headers),
        summary=f"Quality {grade}",
        qualities=tuple(
            Quality(
                uid,
                grade,
                (Fault("Rotated", 0.91, True), Fault("Clipped", 0.02, False)),
                ("AP view (0.97)",),
            )
            for uid in uids_of(headers)
        ),
    )


def read(encoded: Encoded) -> FileDataset:
    """Return the data set of a result."""
    return pydicom.dcmread(BytesIO(encoded.content))


def unpacked(seg: Dataset, sources: Sequence[Dataset]) -> NDArray[np.uint8]:
    """Return the mask of a BINARY SEG on the grid of its sources, by segment number of the SEG."""
    maps = unpacked_maps(seg, sources)
    assert maps.sum(axis=0, dtype=np.uint8).max() <= 1, "segments overlap"
    numbers = np.arange(1, len(maps) + 1, dtype=np.uint8)
    mask: NDArray[np.uint8] = np.tensordot(numbers, maps.astype(np.uint8), axes=1)
    return mask


def unpacked_maps(seg: Dataset, sources: Sequence[Dataset]) -> NDArray[np.bool_]:
    """Return one map for each segment of a BINARY SEG on the grid of its sources.

    An independent decoder: bits from the first to the last pixel, least significant first, frames
    without padding between them (PS3.5 8.1.1); places by Image Position (Patient), or the only one.
    """
    pixels = seg.Rows * seg.Columns
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
    frames = bits[: pixels * seg.NumberOfFrames].reshape(-1, seg.Rows, seg.Columns)
    places = {
        tuple(map(float, source.get("ImagePositionPatient", ()))): index
        for index, source in enumerate(sources)
    }
    maps = np.zeros((len(seg.SegmentSequence), len(sources), seg.Rows, seg.Columns), np.bool_)
    shared = seg.SharedFunctionalGroupsSequence[0]
    for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        owner = groups if "SegmentIdentificationSequence" in groups else shared
        number = owner.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        place: tuple[float, ...] = ()
        if "PlanePositionSequence" in groups:
            place = tuple(map(float, groups.PlanePositionSequence[0].ImagePositionPatient))
        index = places[place]
        derived = groups.DerivationImageSequence[0].SourceImageSequence[0]
        assert derived.ReferencedSOPInstanceUID == sources[index].SOPInstanceUID
        assert not maps[number - 1, index].any(), "two frames at one place"
        maps[number - 1, index] = frame == 1
    return maps
