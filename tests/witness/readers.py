"""What a witness read, as arrays and lists that a test can compare."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from tests.witness.programs import said_by

_NRRD_TYPES: dict[str, Any] = {
    "short": np.int16,
    "unsigned char": np.uint8,
    "unsigned short": np.uint16,
    "float": np.float32,
}


def masks_read_by_dcmqi(
    seg: Path, folder: Path, sources: Sequence[Dataset]
) -> tuple[list[dict[str, Any]], list[NDArray[np.bool_]]]:
    """Return the segments of a SEG as dcmqi (3D Slicer) reads them, on the grid of the sources.

    Every voxel that dcmqi sets is carried through dcmqi's own origin, spacing and direction to
    patient space, and from there to the nearest voxel of the sources, at most 0.01 mm away.
    """
    folder.mkdir(parents=True)
    said_by("segimage2itkimage", "--inputDICOM", seg, "--outputDirectory", folder, "-t", "nrrd")
    meta = json.loads((folder / "meta.json").read_text())
    described = [attributes for group in meta["segmentAttributes"] for attributes in group]
    masks = []
    for attributes in described:
        voxels, directions, origin = _nrrd(folder / f"{attributes['labelID']}.nrrd")
        set_at = np.argwhere(voxels)[:, ::-1]  # column, row, slice
        masks.append(_on_grid(origin + set_at @ directions, sources))
    return described, masks


def numbers_read_by_dcmqi(
    file: Path, folder: Path, sources: Sequence[Dataset]
) -> tuple[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]], NDArray[np.float32]]:
    """Return numbers of a Parametric Map as dcmqi reads them, and where in the sources they lie.

    Every 61st is enough: of each slice there are some of all rows and columns.
    """
    folder.mkdir(parents=True)
    said_by("paramap2itkimage", "--inputDICOM", file, "--outputDirectory", folder, "-t", "nrrd")
    voxels, directions, origin = _nrrd(folder / "pmap.nrrd")
    numbers = np.arange(0, voxels.size, 61)
    indices = np.stack(np.unravel_index(numbers, voxels.shape)[::-1], axis=1)
    return _places(origin + indices @ directions, sources), voxels.ravel()[numbers]


def values_read_by_dcmqi(
    seg: Path, folder: Path, sources: Sequence[Dataset]
) -> list[NDArray[np.uint8]]:
    """Return what dcmqi reads of a SEG on the grid of the sources, a volume for each of its files.

    A label map has one file of segment numbers, fractions have one a segment.
    """
    folder.mkdir(parents=True)
    said_by("segimage2itkimage", "--inputDICOM", seg, "--outputDirectory", folder, "-t", "nrrd")
    volumes = []
    for path in sorted(folder.glob("*.nrrd")):
        voxels, directions, origin = _nrrd(path)
        volume = np.zeros((len(sources), sources[0].Rows, sources[0].Columns), np.uint8)
        for value in np.unique(voxels[voxels > 0]):
            set_at = np.argwhere(voxels == value)[:, ::-1]
            volume[_on_grid(origin + set_at @ directions, sources)] = value
        volumes.append(volume)
    return volumes


def report_read_by_dcmqi(report: Path, folder: Path) -> dict[str, Any]:
    """Return what dcmqi's tid1500reader makes of a report."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata = folder / "report.json"
    said_by("tid1500reader", "--inputDICOM", report, "--outputMetadata", metadata)
    read: dict[str, Any] = json.loads(metadata.read_text())
    return read


def _nrrd(path: Path) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    """Return voxels (slice, row, column), the LPS step along column, row, slice; the origin."""
    head, _, body = path.read_bytes().partition(b"\n\n")
    fields = dict(
        line.split(": ", 1) for line in head.decode().splitlines() if re.match(r"[a-z ]+: ", line)
    )
    assert fields["space"] == "left-posterior-superior"
    data = gzip.decompress(body) if fields["encoding"] == "gzip" else body
    sizes = [int(size) for size in fields["sizes"].split()]
    voxels = np.frombuffer(data, _NRRD_TYPES[fields["type"]]).reshape(sizes[::-1])
    vectors = [
        [float(number) for number in vector.split(",")]
        for vector in re.findall(r"\(([^)]*)\)", fields["space directions"])
    ]
    origin = [float(number) for number in fields["space origin"].strip("()").split(",")]
    return voxels, np.array(vectors), np.array(origin)


def _on_grid(points: NDArray[np.float64], sources: Sequence[Dataset]) -> NDArray[np.bool_]:
    slice_indices, rows, columns = _places(points, sources)
    mask = np.zeros((len(sources), sources[0].Rows, sources[0].Columns), np.bool_)
    mask[slice_indices, rows, columns] = True
    assert mask.sum() == len(points), "dcmqi sets more voxels than there are places"
    return mask


def _places(
    points: NDArray[np.float64], sources: Sequence[Dataset]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return slice, row and column of the nearest voxels, at most 0.01 mm away."""
    orientation = np.array(sources[0].ImageOrientationPatient, np.float64)
    along_row, along_column = orientation[:3], orientation[3:]
    normal = np.cross(along_row, along_column)
    positions = np.array([source.ImagePositionPatient for source in sources], np.float64)
    slice_indices = np.abs((points @ normal)[:, None] - (positions @ normal)[None]).argmin(axis=1)
    from_corner = points - positions[slice_indices]
    row_mm, column_mm = (float(mm) for mm in sources[0].PixelSpacing)
    columns = np.rint(from_corner @ along_row / column_mm).astype(int)
    rows = np.rint(from_corner @ along_column / row_mm).astype(int)
    nearest = columns[:, None] * column_mm * along_row + rows[:, None] * row_mm * along_column
    assert np.abs(from_corner - nearest).max() < 0.01, "dcmqi's voxels lie beside the source's"
    return slice_indices, rows, columns
