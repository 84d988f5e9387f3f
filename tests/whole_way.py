"""From Part 10 files through an engine to results, and what they say, read without our own code.

The engine's network is a threshold, so the mask that must come back is known from the pixels alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset

from dicom_node.infer.asking import Networks
from dicom_node.infer.engine import Engine
from dicom_node.infer.engine_folders import load_manifest
from dicom_node.inference import NO_WISHES, Outcome, Wishes, infer_and_encode
from tests.unit.encode.findings import read
from tests.unit.infer.engine_folders import (
    CLASSIFICATION,
    SEGMENTATION,
    FunctionRuntime,
    two_channels,
    write_engine,
)

DENSE_HU = -500
"""What the engine for CT numbers draws is denser."""
BRIGHT = 500
"""What the engine for everything else draws is brighter, unless it is told another value."""

Points = set[tuple[float, ...]]
"""Places of voxels in the patient, LPS mm, to a micrometre."""


def shape_in(slices: int, rows: int = 24, columns: int = 20) -> NDArray[np.int16]:
    """Return CT numbers of something in air: no two slices, rows or columns are alike."""
    pixels = np.full((slices, rows, columns), -1000, np.int16)
    for index, image in enumerate(pixels):
        image[2 : 6 + index % 5, 3 : 9 + index % 7] = 40 + index
        image[14 : 17 + index % 3, 12 + index % 4 : 18] = 300
    return pixels


def drawn(
    files: Sequence[Path],
    folder: Path,
    *,
    is_ct: bool = True,
    modality: str = "",
    bright: float = BRIGHT,
    volume: Mapping[str, Any] | None = None,
    wishes: Wishes = NO_WISHES,
    is_sure: bool = True,
) -> Outcome:
    """Return what the thresholding engine makes of the files of one series.

    Parameters
    ----------
    bright : float
        What it draws of all but CT is brighter.
    volume : mapping, optional
        What the manifest says of volumes beside the usual.
    wishes : Wishes
        What is made beside the default tree.
    is_sure : bool
        If not, it says of each voxel how likely it is: on CT (HU + 1000) / 1000, up to 1.
    """
    modality = modality or ("CT" if is_ct else "MR")
    seen = {
        "network_sees": "whole",
        "axes": "HPL",
        "spacing_mm": [None, None, None],
        "pad": -1000 if is_ct else 0,
        "oblique_max_degrees": 45,
        **(volume or {}),
    }
    written: dict[str, Any] = SEGMENTATION | {
        "volume": seen,
        "accepts": {"Modality": modality},
        "intensity": {"values": "hounsfield" if is_ct else "brightness"},
        "probabilities": not is_sure,
    }

    def brighter(values: NDArray[Any]) -> NDArray[Any]:
        inside = values > bright
        return np.concatenate([~inside, inside], axis=1).astype(np.float32)

    return _run(written, two_channels if is_ct else brighter, files, folder, wishes)


def classified(files: Sequence[Path], folder: Path, modality: str) -> Outcome:
    """Return what an engine that looks at single images says of the files of one series."""
    written = CLASSIFICATION | {"accepts": {"Modality": modality}}

    def answer(values: NDArray[Any]) -> NDArray[Any]:
        return np.full((len(values), 2), 0.75, np.float32)

    return _run(written, answer, files, folder)


def _run(
    written: dict[str, Any],
    network: Any,
    files: Sequence[Path],
    folder: Path,
    wishes: Wishes = NO_WISHES,
) -> Outcome:
    manifest = load_manifest(write_engine(folder / "engines", written))
    engine = Engine(manifest, Networks((FunctionRuntime(network),)))
    return infer_and_encode(engine, files, 1_700_000_000.0, "job", "NODE", wishes=wishes)


def results_of(outcome: Outcome) -> dict[str, FileDataset]:
    """Return the results by kind."""
    return {one.kind: read(one) for one in outcome.encoded}


def points_in_slices(slices: Sequence[FileDataset], *, is_ct: bool = True) -> Points:
    """Return where in the patient the voxels lie that the engine has to draw.

    Parameters
    ----------
    slices : sequence of FileDataset
        Single-frame instances, as a factory made them.
    """
    points: Points = set()
    for one in slices:
        values = one.pixel_array.astype(np.float64)
        values = values * float(one.get("RescaleSlope", 1)) + float(one.get("RescaleIntercept", 0))
        inside = values > (DENSE_HU if is_ct else BRIGHT)
        points |= _points(
            inside, one.ImagePositionPatient, one.ImageOrientationPatient, one.PixelSpacing
        )
    return points


def points_in_seg(seg: Dataset) -> Points:
    """Return where in the patient a BINARY SEG of one segment has voxels."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    points: Points = set()
    for frame, groups in _frames(seg):
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        points |= _points(frame, position, orientation, spacing)
    return points


def derivations(seg: Dataset) -> list[tuple[tuple[float, ...], str, str, int | None]]:
    """Return, for each frame of a SEG, its place and the image that it names as its source.

    That is the position, SOP Class UID, SOP Instance UID and the frame number.
    """
    named = []
    for _, groups in _frames(seg):
        [derivation] = groups.DerivationImageSequence
        [source] = derivation.SourceImageSequence
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        named.append(
            (
                tuple(round(float(mm), 3) for mm in position),
                str(source.ReferencedSOPClassUID),
                str(source.ReferencedSOPInstanceUID),
                source.get("ReferencedFrameNumber"),
            )
        )
    return named


def evidence(report: Dataset) -> list[tuple[str, str]]:
    """Return SOP Class and SOP Instance UID of everything that a report lists as its evidence."""
    return [
        (str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]


def instances_listed(seg: Dataset) -> list[tuple[str, str]]:
    """Return what a SEG lists in its Common Instance Reference Module."""
    return [
        (str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
        for series in seg.ReferencedSeriesSequence
        for item in series.ReferencedInstanceSequence
    ]


def _frames(seg: Dataset) -> Iterator[tuple[NDArray[np.bool_], Dataset]]:
    pixels = seg.Rows * seg.Columns
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
    frames = bits[: pixels * seg.NumberOfFrames].reshape(-1, seg.Rows, seg.Columns)
    yield from zip(frames == 1, seg.PerFrameFunctionalGroupsSequence, strict=True)


def _points(inside: NDArray[np.bool_], position: Any, orientation: Any, spacing: Any) -> Points:
    at = np.argwhere(inside)
    along_row, down_column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    row_mm, column_mm = (float(mm) for mm in spacing)
    places = (
        np.array(position, float)
        + at[:, 1:] * column_mm * along_row
        + at[:, :1] * row_mm * down_column
    )
    return {tuple(point) for point in (np.round(places, 3) + 0.0).tolist()}
