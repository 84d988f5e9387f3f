"""What somebody has drawn on a series: SEG and RTSTRUCT as masks on the grid of that series."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from dicom_node.errors import StudyUnusable
from dicom_node.geometry import Grid
from dicom_node.headers import reading
from dicom_node.infer.series import SourceImage
from dicom_node.multiframe import frames_of
from engines.recipes.contours import filled
from engines.recipes.errors import DataUnusable
from engines.recipes.loaders.progress import some

LABEL_MAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
MASK_CLASSES = (SegmentationStorage, LABEL_MAP_SEGMENTATION_STORAGE, RTStructureSetStorage)

_OFF_MAX = 0.1
"""Of a slice or pixel: what is drawn farther off belongs to another grid."""
_CLOSED = {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"}

Masks = dict[str, NDArray[np.bool_]]
"""(slices, rows, columns) by the name of what is drawn, in lower case."""


def series_of(header: Dataset) -> set[str]:
    """Return the Series Instance UIDs of the series on which a SEG or RTSTRUCT is drawn."""
    with reading("what a mask refers to"):
        found = {str(one.SeriesInstanceUID) for one in header.get("ReferencedSeriesSequence") or ()}
        for frame in header.get("ReferencedFrameOfReferenceSequence") or ():
            for study in frame.get("RTReferencedStudySequence") or ():
                for series in study.get("RTReferencedSeriesSequence") or ():
                    found.add(str(series.SeriesInstanceUID))
    return found


def instances_of(file: Path) -> set[str]:
    """Return the SOP Instance UIDs of the images at which whoever drew a SEG looked."""
    with reading(f"the mask {file.name}"):
        header = pydicom.dcmread(file, stop_before_pixels=True)
        return {
            str(instance.ReferencedSOPInstanceUID)
            for series in header.get("ReferencedSeriesSequence") or ()
            for instance in series.get("ReferencedInstanceSequence") or ()
        }


def all_masks(
    files: Sequence[Path], images: Sequence[SourceImage], grid: Grid | None, wanted: Sequence[str]
) -> Masks:
    """Return what several files have drawn on one series; see `read_masks`.

    Raises
    ------
    DataUnusable
        If two of them have drawn the same thing: somebody has to say whose counts.
    """
    masks: Masks = {}
    for file in files:
        found = read_masks(file, images, grid, wanted)
        if twice := sorted(masks.keys() & found.keys()):
            raise DataUnusable(
                f"{some(twice)} is drawn in {file.name} and in another file too",
                hint="keep the one that counts",
            )
        masks |= found
    return masks


def read_masks(
    file: Path, images: Sequence[SourceImage], grid: Grid | None, wanted: Sequence[str]
) -> Masks:
    """Return what a file has drawn on a series.

    Parameters
    ----------
    file : pathlib.Path
        A SEG of any encoding, or an RTSTRUCT.
    images : sequence of SourceImage
        The slices of the series, in the order of its grid; or a single image.
    grid : Grid or None
        None for a single image without a place in the patient.
    wanted : sequence of str
        Names; Segment Label or ROI Name, whatever their case. All if it is empty.

    Raises
    ------
    DataUnusable
        If it is broken, or drawn on another grid.
    """
    try:
        with reading(f"the mask {file.name}"):
            dataset = pydicom.dcmread(file)
            names = {name.casefold() for name in wanted}
            if dataset.SOPClassUID == RTStructureSetStorage:
                if grid is None:
                    raise StudyUnusable(
                        "contours are drawn in millimetres, and this is no volume",
                        hint="give single images masks as SEG",
                    )
                return _of_contours(dataset, grid, names)
            return _of_segments(dataset, images, grid, names)
    except StudyUnusable as error:
        raise DataUnusable(f"{file.name}: {error.message}", hint=error.hint) from error


def names_in(file: Path) -> list[str]:
    """Return the names of all that a SEG or RTSTRUCT has drawn, in lower case."""
    with reading(f"the mask {file.name}"):
        header = pydicom.dcmread(file, stop_before_pixels=True)
        rois = [str(one.ROIName) for one in header.get("StructureSetROISequence") or ()]
        segments = header.get("SegmentSequence") or ()
        labels = [str(one.SegmentLabel) for one in segments if int(one.SegmentNumber) > 0]
    return [name.casefold() for name in (*rois, *labels)]


def _of_segments(
    dataset: Dataset, images: Sequence[SourceImage], grid: Grid | None, names: set[str]
) -> Masks:
    kind = str(dataset.SegmentationType)
    segments = {
        int(one.SegmentNumber): str(one.SegmentLabel).casefold()
        for one in dataset.SegmentSequence
        if int(one.SegmentNumber) > 0 and (not names or str(one.SegmentLabel).casefold() in names)
    }
    first = images[0].header
    shape = (int(first.Rows), int(first.Columns))
    if (int(dataset.Rows), int(dataset.Columns)) != shape:
        raise StudyUnusable(
            f"drawn on {dataset.Rows} x {dataset.Columns} pixels, the series has "
            f"{shape[0]} x {shape[1]}",
            hint="have it drawn, or resampled, on the grid of the series",
        )
    pixels = dataset.pixel_array.reshape(-1, *shape)
    if kind == "FRACTIONAL":
        pixels = 2 * pixels.astype(np.int64) >= int(dataset.MaximumFractionalValue)
    masks: Masks = {name: np.zeros((len(images), *shape), bool) for name in segments.values()}
    at_uid = {image.sop_instance_uid: index for index, image in enumerate(images)}
    groups = dataset.PerFrameFunctionalGroupsSequence
    for frame, header, group in zip(pixels, frames_of(dataset), groups, strict=True):
        index = _slice_of(header, group, dataset, grid, at_uid)
        if index is None:
            continue
        if kind == "LABELMAP":
            for number, name in segments.items():
                masks[name][index] |= frame == number
        elif (number := int(header.ReferencedSegmentNumber)) in segments:
            masks[segments[number]][index] |= frame.astype(bool)
    return masks


def _slice_of(
    header: Dataset, group: Dataset, dataset: Dataset, grid: Grid | None, at_uid: Mapping[str, int]
) -> int | None:
    """Return on which slice a frame lies; None for an empty one beside the series."""
    if grid is not None and header.get("ImagePositionPatient"):
        return _at_position(header, grid)
    shared = dataset.get("SharedFunctionalGroupsSequence") or ()
    for groups in (group, *shared):
        for derivation in groups.get("DerivationImageSequence") or ():
            for source in derivation.get("SourceImageSequence") or ():
                uid = str(source.ReferencedSOPInstanceUID)
                if uid in at_uid:
                    return at_uid[uid]
                return None
    raise StudyUnusable(
        "a frame says neither where it lies nor from which image it is",
        hint="have the program that drew it write one of the two",
    )


def _at_position(header: Dataset, grid: Grid) -> int:
    """Return the slice at which a frame lies, whose pixels must be those of the grid."""
    corner = np.array([*map(float, header.ImagePositionPatient), 1.0])
    row_mm, column_mm = (float(mm) for mm in header.PixelSpacing)
    cosines = np.array([float(one) for one in header.ImageOrientationPatient])
    along_row, down_column = cosines[:3] * column_mm, cosines[3:] * row_mm
    to_grid = np.linalg.inv(grid.affine)
    last = np.array([int(header.Rows) - 1, int(header.Columns) - 1])
    opposite = corner + np.array([*(down_column * last[0] + along_row * last[1]), 0.0])
    begin, end = (to_grid @ corner)[:3], (to_grid @ opposite)[:3]
    index = round(float(begin[0]))
    off = np.abs([*(begin - [index, 0, 0]), *(end - [index, *last])]).max()
    if off > _OFF_MAX or not 0 <= index < grid.shape[0]:
        raise StudyUnusable(
            "drawn on another grid than that of the series",
            hint="have it resampled to the slices and pixels of the series",
        )
    return index


def _of_contours(dataset: Dataset, grid: Grid, names: set[str]) -> Masks:
    called = {
        int(one.ROINumber): str(one.ROIName).casefold() for one in dataset.StructureSetROISequence
    }
    masks: Masks = {}
    for roi in dataset.get("ROIContourSequence") or ():
        name = called.get(int(roi.ReferencedROINumber), "")
        if not name or (names and name not in names):
            continue
        mask = masks.setdefault(name, np.zeros(grid.shape, bool))
        polygons: dict[int, list[NDArray[np.float64]]] = {}
        for index, polygon in _closed(roi, grid):
            here = polygons.setdefault(index, [])
            # one that stands twice would be a hole in itself
            if not any(np.array_equal(polygon, other) for other in here):
                here.append(polygon)
        for index, here in polygons.items():
            mask[index] |= filled(here, (grid.shape[1], grid.shape[2]))
    return masks


def _closed(roi: Any, grid: Grid) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield the closed contours of a region: the slice, and (column, row) of the points."""
    to_grid = np.linalg.inv(grid.affine)
    for contour in roi.get("ContourSequence") or ():
        if str(contour.ContourGeometricType) not in _CLOSED:
            continue
        points = np.array([float(one) for one in contour.ContourData]).reshape(-1, 3)
        if len(points) < 3:
            continue
        there = points @ to_grid[:3, :3].T + to_grid[:3, 3]
        index = round(float(there[:, 0].mean()))
        if np.abs(there[:, 0] - index).max() > _OFF_MAX:
            raise StudyUnusable(
                "a contour does not lie in a slice of the series",
                hint="have it drawn on the slices of the series",
            )
        if not 0 <= index < grid.shape[0]:
            raise StudyUnusable(
                "a contour lies beyond the slices of the series",
                hint="take the file that was drawn on this series",
            )
        yield index, there[:, [2, 1]]


def label_map(
    masks: Mapping[str, NDArray[np.bool_]], labels: Sequence[str], shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Return masks as one label map: 0 the background, then `labels`; of two the later one wins."""
    if len(labels) > 255:
        raise DataUnusable(
            f"{len(labels)} labels do not fit into a byte: {some(labels)} ...",
            hint="name the ones that are meant by `labels`",
        )
    result = np.zeros(shape, np.uint8)
    for number, label in enumerate(labels, 1):
        if label.casefold() in masks:
            result[masks[label.casefold()]] = number
    return result
