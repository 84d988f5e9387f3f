"""The classes of a volume's voxels, as the segments of a mask: cleaned, measured, named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.finding import Segment
from dicom_node.infer.blocks import SegmentLabel
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.measure import measured, quantity_of, voxel_counts
from dicom_node.infer.postprocess import cleaned
from dicom_node.infer.series import SourceVolume
from dicom_node.infer.voxels import Voxels

_SEGMENTS_TOLD = 6


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a segmentation network found in one volume."""

    mask: NDArray[np.uint8] | NDArray[np.bool_]
    segments: tuple[Segment, ...]
    """All that the engine knows, those of 0 ml too: that nothing was found is an answer."""
    warnings: tuple[str, ...]
    summary: str


def segments_of(
    classes: NDArray[Any], manifest: Manifest, source: SourceVolume, voxels: Voxels
) -> Segmentation:
    """Return the segments that the classes of a volume make.

    Parameters
    ----------
    classes : numpy.ndarray
        As `VolumePath.classes` gives them.
    manifest : Manifest
        Of a segmentation engine.
    source : SourceVolume
    voxels : Voxels
        Its own, for the values inside.
    """
    return _measured(_numbered(classes, manifest.segments), manifest, source, voxels)


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


def _measured(
    mask: NDArray[Any], manifest: Manifest, source: SourceVolume, voxels: Voxels
) -> Segmentation:
    """Return what is left of a mask, its segments measured, and what a reader has to know."""
    labels, grid = manifest.segments, source.grid
    rules = [manifest.components.of(label.components) for label in labels]
    found = cleaned(mask, rules, grid.spacing_mm)
    measurements = measured(
        found.mask,
        manifest.measurements,
        [rule.connectivity for rule in rules],
        grid,
        quantity_of(manifest.intensity.values, str(source.images[0].header.get("Modality", ""))),
        voxels.values,
    )
    counts = voxel_counts(found.mask, len(labels))
    warnings = []
    segments = []
    for number, (label, rule) in enumerate(zip(labels, rules, strict=True), 1):
        volume_ml = float(counts[number - 1]) * grid.voxel_ml
        if number in found.noise_ml:
            warnings.append(
                f"{label.name}: {found.noise_ml[number]:.2g} ml is less than "
                f"{rule.volume_min_ml:g} ml and was taken for noise"
            )
        elif not volume_ml:
            warnings.append(f"{label.name}: not found")
        elif any(_plane(found.mask, number, index).any() for index in (0, -1)):
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
                volume_ml,
                measurements[number - 1],
            )
        )
    return Segmentation(found.mask, tuple(segments), tuple(warnings), _summary(segments))


def _plane(mask: NDArray[Any], number: int, index: int) -> NDArray[np.bool_]:
    """Return one slice of one segment."""
    plane: NDArray[np.bool_] = mask[index] == number if mask.ndim == 3 else mask[number - 1, index]
    return plane


def _summary(segments: list[Segment]) -> str:
    told = segments
    if len(segments) > _SEGMENTS_TOLD:
        told = sorted(segments, key=lambda one: -one.volume_ml)[:_SEGMENTS_TOLD]
    words = ", ".join(f"{_lowered(one.label)} {_millilitres(one.volume_ml)}" for one in told)
    if len(told) < len(segments):
        words += f" and {len(segments) - len(told)} more"
    return words if any(one.volume_ml for one in segments) else f"nothing found: {words}"


def _lowered(name: str) -> str:
    return name[:1].lower() + name[1:]


def _millilitres(volume_ml: float) -> str:
    return f"{volume_ml:.0f} ml" if volume_ml >= 100 or not volume_ml else f"{volume_ml:.1f} ml"
