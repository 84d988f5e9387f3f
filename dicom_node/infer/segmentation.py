"""The classes of voxels, or of an image's pixels, as segments: cleaned, measured, named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.finding import Segment
from dicom_node.geometry import Grid
from dicom_node.infer.blocks import SegmentLabel
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.measure import (
    IN_MILLIMETRES,
    SliceValues,
    measured,
    quantity_of,
    voxel_counts,
)
from dicom_node.infer.postprocess import Scale, cleaned
from dicom_node.infer.series import SourceVolume
from dicom_node.infer.voxels import Voxels

_SEGMENTS_TOLD = 6


@dataclass(frozen=True, eq=False)
class Ground:
    """What a mask lies on: a volume, or a single image."""

    grid: Grid
    """Of a single image: one slice."""
    modality: str
    values: SliceValues
    """The values of a slice, for those inside."""
    is_image: bool = False
    has_scale: bool = True
    """Whether millimetres are millimetres: a single image may not say how large its pixels are."""
    warnings: tuple[str, ...] = ()

    @classmethod
    def of_volume(cls, source: SourceVolume, voxels: Voxels) -> Ground:
        modality = str(source.images[0].header.get("Modality", ""))
        return cls(source.grid, modality, voxels.values)

    @property
    def scale(self) -> Scale:
        pixels = self.grid.shape[1] * self.grid.shape[2]
        return Scale(self.grid.spacing_mm, 1 / pixels if self.is_image else None)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a segmentation network found in one volume, or in one image."""

    mask: NDArray[np.uint8] | NDArray[np.bool_]
    segments: tuple[Segment, ...]
    """All that the engine knows, those without a voxel too: that nothing was found is an answer."""
    warnings: tuple[str, ...]
    summary: str


def segments_of(classes: NDArray[Any], manifest: Manifest, ground: Ground) -> Segmentation:
    """Return the segments that the classes of a volume, or of an image, make.

    Parameters
    ----------
    classes : numpy.ndarray
        As `VolumePath.classes` gives them.
    manifest : Manifest
        Of a segmentation engine.
    ground : Ground
    """
    return _measured(_numbered(classes, manifest.segments), manifest, ground)


def _numbered(classes: NDArray[Any], segments: tuple[SegmentLabel, ...]) -> NDArray[Any]:
    """Return classes as segments: numbers from 1, or masks, in the order of the manifest."""
    if classes.ndim == 4:
        masks: NDArray[np.bool_] = classes[[segment.label - 1 for segment in segments]]
        return masks
    numbers = np.zeros(256, np.uint8)
    for number, label in enumerate(segments, 1):
        numbers[label.label] = number
    mask: NDArray[np.uint8] = numbers[classes]
    return mask


def _measured(mask: NDArray[Any], manifest: Manifest, ground: Ground) -> Segmentation:
    """Return what is left of a mask, its segments measured, and what a reader has to know."""
    labels, grid, scale = manifest.segments, ground.grid, ground.scale
    rules = [manifest.components.of(label.components) for label in labels]
    found = cleaned(mask, rules, scale)
    unknown = frozenset() if ground.has_scale else IN_MILLIMETRES
    measurements = measured(
        found.mask,
        [word for word in manifest.measures if word not in unknown],
        [rule.connectivity for rule in rules],
        grid,
        quantity_of(manifest.intensity.values, ground.modality),
        ground.values,
    )
    counts = voxel_counts(found.mask, len(labels))
    warnings = list(ground.warnings)
    segments = []
    for number, (label, rule) in enumerate(zip(labels, rules, strict=True), 1):
        count = int(counts[number - 1])
        if number in found.noise:
            left = _amount(found.noise[number], ground)
            least = _amount(scale.segment_min(rule), ground)
            warnings.append(f"{label.name}: {left} is less than {least} and was taken for noise")
        elif not count:
            warnings.append(f"{label.name}: not found")
        elif not ground.is_image and _touches_an_end(found.mask, number):
            warnings.append(
                f"{label.name}: reaches the first or last slice, the whole may be larger"
            )
        segments.append(
            Segment(
                number,
                label.name,
                label.category,
                label.type,
                label.modifier,
                volume_ml=None if ground.is_image else count * grid.voxel_ml,
                measurements=measurements[number - 1],
                image_share=count * scale.voxel if ground.is_image else None,
                area_cm2=count * grid.pixel_cm2 if ground.is_image and ground.has_scale else None,
            )
        )
    return Segmentation(found.mask, tuple(segments), tuple(warnings), _summary(segments))


def _amount(size: float, ground: Ground) -> str:
    return f"{size:.2g} of the image" if ground.is_image else f"{size:.2g} ml"


def _touches_an_end(mask: NDArray[Any], number: int) -> bool:
    return any(_plane(mask, number, index).any() for index in (0, -1))


def _plane(mask: NDArray[Any], number: int, index: int) -> NDArray[np.bool_]:
    """Return one slice of one segment."""
    plane: NDArray[np.bool_] = mask[index] == number if mask.ndim == 3 else mask[number - 1, index]
    return plane


def _summary(segments: list[Segment]) -> str:
    told = segments
    if len(segments) > _SEGMENTS_TOLD:
        told = sorted(segments, key=_size, reverse=True)[:_SEGMENTS_TOLD]
    words = ", ".join(f"{_lowered(one.label)} {_size_in_words(one)}" for one in told)
    if len(told) < len(segments):
        words += f" and {len(segments) - len(told)} more"
    return words if any(one.is_found for one in segments) else f"nothing found: {words}"


def _size(segment: Segment) -> float:
    return segment.volume_ml or segment.image_share or 0.0


def _size_in_words(segment: Segment) -> str:
    if segment.volume_ml is not None:
        return _rounded(segment.volume_ml, "ml")
    if segment.area_cm2 is not None:
        return _rounded(segment.area_cm2, "cm2")
    return f"{segment.image_share or 0.0:.1%} of the image"


def _lowered(name: str) -> str:
    return name[:1].lower() + name[1:]


def _rounded(size: float, unit: str) -> str:
    return f"{size:.0f} {unit}" if size >= 100 or not size else f"{size:.1f} {unit}"
