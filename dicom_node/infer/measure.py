"""What is measured in the segments of a mask: volumes, counts, diameters, the values inside.

Everything is measured on the mask that goes into the SEG, on the source's own grid, so whoever
reads the SEG can measure it again. Of a segment without voxels, volume, counts and diameters are 0:
a rule that asks for small ones holds. There are no values inside nothing, so none are told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cc3d
import numpy as np
from numpy.typing import NDArray

from dicom_node.finding import Code, Measurement
from dicom_node.geometry import Grid
from dicom_node.infer.blocks import Measure
from dicom_node.infer.diameters import axes_mm, longest_mm
from dicom_node.infer.pixels import Values
from dicom_node.infer.postprocess import boxes_of
from dicom_node.infer.smoothing import Box

SliceValues = Callable[[int], NDArray[np.float32]]
"""The values of one slice: Hounsfield units or brightness, shape (rows, columns)."""

NAMES: Mapping[Measure, tuple[str, ...]] = {
    "volume": ("volume_ml",),
    "area": ("area_cm2",),
    "count": ("count",),
    "diameters": ("long_axis_mm", "short_axis_mm"),
    "longest_diameter": ("longest_diameter_mm",),
    "mean_value": ("mean_value", "sd_value", "min_value", "max_value"),
    "voxels": ("voxel_count", "slice_count"),
}
"""What each word of `measurements` brings, by the names under which rules ask for it."""

ON_IMAGES: frozenset[Measure] = frozenset({"area", "count", "diameters", "mean_value", "voxels"})
"""What can be measured on a single image; `area` only there."""
IN_MILLIMETRES: frozenset[Measure] = frozenset({"area", "diameters"})
"""Of them, what needs to know how large its pixels are."""

_MILLILITRE = Code("ml", "UCUM", "milliliter")
_SQUARE_CENTIMETRE = Code("cm2", "UCUM", "square centimeter")
_MILLIMETRE = Code("mm", "UCUM", "millimeter")
_NO_UNITS = Code("1", "UCUM", "no units")
_CONCEPTS = {
    "volume_ml": (Code("118565006", "SCT", "Volume"), _MILLILITRE),
    "area_cm2": (Code("42798000", "SCT", "Area"), _SQUARE_CENTIMETRE),
    "count": (Code("246206008", "SCT", "Number of lesions"), _NO_UNITS),
    "long_axis_mm": (Code("103339001", "SCT", "Long axis"), _MILLIMETRE),
    "short_axis_mm": (Code("103340004", "SCT", "Short axis"), _MILLIMETRE),
    "longest_diameter_mm": (Code("L0JK", "IBSI", "Maximum 3D Diameter of a Mesh"), _MILLIMETRE),
    "voxel_count": (None, _NO_UNITS),
    "slice_count": (None, _NO_UNITS),
}
_DERIVATIONS = {  # CID 7464
    "mean_value": Code("373098007", "SCT", "Mean"),
    "sd_value": Code("386136009", "SCT", "Standard Deviation"),
    "min_value": Code("255605001", "SCT", "Minimum"),
    "max_value": Code("56851009", "SCT", "Maximum"),
}


@dataclass(frozen=True)
class Quantity:
    """What the values of a series are."""

    concept: Code | None
    unit: Code


def quantity_of(values: Values, modality: str) -> Quantity:
    """Return what the values are that a network of this intensity sees in this modality."""
    if values is Values.HOUNSFIELD:
        return Quantity(
            Code("112031", "DCM", "Attenuation Coefficient"),
            Code("[hnsf'U]", "UCUM", "Hounsfield unit"),
        )
    signal = Code("110852", "DCM", "MR signal intensity") if modality == "MR" else None
    return Quantity(signal, _NO_UNITS)


def measured(
    mask: NDArray[np.uint8] | NDArray[np.bool_],
    wanted: Sequence[Measure],
    connectivities: Sequence[Literal[6, 26]],
    grid: Grid,
    quantity: Quantity,
    values: SliceValues,
) -> tuple[tuple[Measurement, ...], ...]:
    """Return the measurements of each segment, from number 1.

    Parameters
    ----------
    mask : numpy.ndarray
        A label map, shape (slices, rows, columns), uint8; or one map a segment, shape (segments,
        slices, rows, columns), bool.
    wanted : sequence of str
        The words of the manifest.
    connectivities : sequence of int
        For each segment, what hangs together: 6, faces; 26, corners too.
    grid : Grid
        Of the mask.
    quantity : Quantity
        What the values are.
    values : callable
        Called once for each slice that has voxels, and only if values are wanted.
    """
    inside = _inside(mask, values) if "mean_value" in wanted else {}
    parts = dict(_parts(mask))
    result = []
    for number, connectivity in enumerate(connectivities, 1):
        found = parts.get(number)
        numbers: dict[str, float] = {}
        for word in wanted:
            if word == "mean_value":
                numbers |= inside[number].told() if number in inside else {}
            elif found is None:
                numbers |= dict.fromkeys(NAMES[word], 0.0)
            else:
                told = _told(word, found(), grid, connectivity)
                numbers |= dict(zip(NAMES[word], told, strict=True))
        result.append(tuple(_measurement(name, one, quantity) for name, one in numbers.items()))
    return tuple(result)


def voxel_counts(mask: NDArray[np.uint8] | NDArray[np.bool_], segments: int) -> NDArray[np.int64]:
    """Return how many voxels each segment has, from number 1."""
    if mask.ndim == 4:
        return np.array([np.count_nonzero(one) for one in mask])
    counts = np.zeros(256, np.int64)
    for plane in mask:  # bincount makes a copy of 8 bytes a voxel
        counts += np.bincount(plane.ravel(), minlength=256)
    return counts[1 : segments + 1]


def _measurement(name: str, value: float, quantity: Quantity) -> Measurement:
    if name in _DERIVATIONS:
        return Measurement(name, value, quantity.unit, quantity.concept, _DERIVATIONS[name])
    concept, unit = _CONCEPTS[name]
    return Measurement(name, value, unit, concept)


def _told(
    word: Measure, found: NDArray[np.bool_], grid: Grid, connectivity: Literal[6, 26]
) -> tuple[float, ...]:
    if word == "volume":
        return (np.count_nonzero(found) * grid.voxel_ml,)
    if word == "area":
        return (np.count_nonzero(found) * grid.pixel_cm2,)
    if word == "voxels":
        return int(np.count_nonzero(found)), int(np.count_nonzero(found.any(axis=(1, 2))))
    if word == "diameters":
        return axes_mm(found, grid.spacing_mm)
    if word == "longest_diameter":
        return (longest_mm(found, grid.spacing_mm, connectivity),)
    parts = cc3d.connected_components(found.view(np.uint8), connectivity=connectivity)
    return (int(parts.max()),)


def _parts(
    mask: NDArray[np.uint8] | NDArray[np.bool_],
) -> Iterator[tuple[int, Callable[[], NDArray[np.bool_]]]]:
    """Yield the number of each segment that has voxels, and what cuts it out of the mask."""

    def cut(labels: NDArray[np.uint8], box: Box, value: int) -> Callable[[], NDArray[np.bool_]]:
        return lambda: labels[box] == value

    if mask.ndim == 3:
        labels = mask.view(np.uint8)
        yield from ((number, cut(labels, box, number)) for number, box in boxes_of(labels).items())
        return
    for number, one in enumerate(mask, 1):
        alone = one.view(np.uint8)
        for box in boxes_of(alone).values():
            yield number, cut(alone, box, 1)


# ---------------------------------------------------------------- the values inside


@dataclass
class _Inside:
    """The values of one segment so far, by Chan's update: no sum of squares of large numbers."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Of the differences from the mean, added up."""
    least: float = np.inf
    most: float = -np.inf

    def add(self, values: NDArray[np.float32]) -> None:
        more = values.size
        mean = float(values.mean(dtype=np.float64))
        apart, count = mean - self.mean, self.count + more
        self.squares += float(np.square(values - np.float64(mean)).sum())
        self.squares += apart**2 * self.count * more / count
        self.mean += apart * more / count
        self.count = count
        self.least = min(self.least, float(values.min()))
        self.most = max(self.most, float(values.max()))

    def told(self) -> dict[str, float]:
        deviation = float(np.sqrt(self.squares / self.count))  # of all voxels, not of a sample
        return dict(
            zip(NAMES["mean_value"], (self.mean, deviation, self.least, self.most), strict=True)
        )


def _inside(mask: NDArray[np.uint8] | NDArray[np.bool_], values: SliceValues) -> dict[int, _Inside]:
    found: dict[int, _Inside] = {}
    for index in range(mask.shape[-3]):
        plane = mask[..., index, :, :]
        if not plane.any():
            continue
        image = values(index)
        for number, own in _by_segment(plane, image):
            found.setdefault(number, _Inside()).add(own)
    return found


def _by_segment(
    plane: NDArray[Any], image: NDArray[np.float32]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    if plane.ndim == 3:
        yield from ((n, image[one]) for n, one in enumerate(plane, 1) if one.any())
        return
    labels, inside = plane[plane > 0], image[plane > 0]
    order = labels.argsort(kind="stable")
    numbers, first = np.unique(labels[order], return_index=True)
    for number, own in zip(numbers, np.split(inside[order], first[1:]), strict=True):
        yield int(number), own
