"""A volume, through a network, to a mask on the source's own grid and its segments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import EngineError
from dicom_node.finding import Segment
from dicom_node.infer.blocks import Components, SegmentLabel
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.path import VolumePath
from dicom_node.infer.series import SourceVolume
from dicom_node.infer.volume import place
from dicom_node.infer.voxels import read_voxels

_SEGMENTS_TOLD = 6


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a segmentation network found in one volume."""

    mask: NDArray[np.uint8]
    segments: tuple[Segment, ...]
    """All that the engine knows, those of 0 ml too: that nothing was found is an answer."""
    warnings: tuple[str, ...]
    summary: str


def segment(
    source: SourceVolume, manifest: Manifest, path: VolumePath, *, threads: int
) -> Segmentation:
    """Return the segments of a volume.

    Parameters
    ----------
    source : SourceVolume
    manifest : Manifest
        Of a segmentation engine.
    path : VolumePath
        What brings the volume through its networks.
    threads : int
        For decoding.

    Raises
    ------
    StudyUnusable
        If the volume is not what the engine was made for.
    EngineError
        If a network fails.
    """
    if manifest.volume is None:
        raise EngineError(f"{manifest.name} sees no volumes")
    placement = place(source.grid, manifest.volume)
    voxels = read_voxels(source.images, manifest.intensity.values, threads=threads)
    mask = _numbered(path.classes(voxels, placement), manifest.segments)
    mask = _components(mask, manifest.components)
    return _measured(mask, manifest, source.grid.voxel_ml)


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


def _components(mask: NDArray[np.uint8], components: Components) -> NDArray[np.uint8]:
    """Return the mask with the largest component of each segment, if that is asked for."""
    if components.keep == "all" or not mask.any():
        return mask
    box = tuple(
        slice(int(touched[0]), int(touched[-1]) + 1)
        for axis in range(3)
        for touched in [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))]
    )
    inside = mask[box]
    # One pass parts all segments: neighbours of different numbers are never joined.
    parts = cc3d.connected_components(inside, connectivity=components.connectivity)
    count = int(parts.max()) + 1
    sizes = np.zeros(count, np.int64)
    number_of = np.zeros(count, np.uint8)
    for part, image in zip(parts, inside, strict=True):  # whole, these would take gigabytes
        sizes += np.bincount(part.ravel(), minlength=count)
        number_of[part] = image
    keep = np.zeros(count, np.uint8)
    for number in np.unique(number_of[1:]):
        own = np.flatnonzero(number_of == number)
        keep[own[np.argmax(sizes[own])]] = number
    result = np.zeros_like(mask)
    for target, part in zip(result[box], parts, strict=True):
        target[...] = keep[part]
    return result


def _measured(mask: NDArray[np.uint8], manifest: Manifest, voxel_ml: float) -> Segmentation:
    """Return the segments with their volumes; what is too small to be one is taken out."""
    counts = np.sum([np.bincount(image.ravel(), minlength=256) for image in mask], axis=0)
    warnings = []
    segments = []
    for number, label in enumerate(manifest.segments, 1):
        volume_ml = float(counts[number]) * voxel_ml
        if 0 < volume_ml < manifest.components.volume_min_ml:
            warnings.append(
                f"{label.name}: {volume_ml:.2g} ml is less than "
                f"{manifest.components.volume_min_ml:g} ml and was taken for noise"
            )
            mask[mask == number] = 0
            volume_ml = 0.0
        elif not volume_ml:
            warnings.append(f"{label.name}: not found")
        elif (mask[0] == number).any() or (mask[-1] == number).any():
            warnings.append(
                f"{label.name}: reaches the first or last slice, the whole may be larger"
            )
        segments.append(
            Segment(number, label.name, label.category, label.type, label.modifier, volume_ml)
        )
    return Segmentation(mask, tuple(segments), tuple(warnings), _summary(segments))


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
