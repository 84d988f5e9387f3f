"""A volume, through a network, to a mask on the source's own grid and its segments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import EngineError, StudyUnusable
from dicom_node.finding import Segment
from dicom_node.infer.blocks import Locate, Model, SegmentLabel, VolumeInput
from dicom_node.infer.intensity import clipped, scaled
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.measure import measured, quantity_of, voxel_counts
from dicom_node.infer.pixels import network_values
from dicom_node.infer.postprocess import cleaned, largest
from dicom_node.infer.runtimes.port import Runtime
from dicom_node.infer.series import SourceVolume
from dicom_node.infer.volume import Placement, place, to_network, to_source

SLICES_AT_ONCE = 4
_SEGMENTS_TOLD = 6

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a segmentation network found in one volume."""

    mask: NDArray[np.uint8] | NDArray[np.bool_]
    segments: tuple[Segment, ...]
    """All that the engine knows, those of 0 ml too: that nothing was found is an answer."""
    warnings: tuple[str, ...]
    summary: str


def segment(
    source: SourceVolume, manifest: Manifest, main: Runtime, locate: Runtime | None
) -> Segmentation:
    """Return the segments of a volume.

    Parameters
    ----------
    source : SourceVolume
        Its pixels are decoded here, one slice at a time.
    manifest : Manifest
        Of a segmentation engine.
    main, locate : Runtime
        The networks that the manifest names.

    Raises
    ------
    StudyUnusable
        If the volume is not what the engine was made for.
    EngineError
        If a network fails.
    """
    wanted = manifest.volume
    if wanted is None:
        raise EngineError(f"{manifest.name} is no segmentation engine")
    placement = place(source.grid, wanted)
    values = to_network(_slices(source, manifest), placement, wanted.pad)
    values = scaled(values, manifest.intensity.scale)
    if manifest.locate is None or locate is None:
        answer = ask(values, wanted, manifest.model, main)
    else:
        box = _box(values, placement, wanted, manifest.locate, locate)
        part = ask(np.ascontiguousarray(values[box]), wanted, manifest.model, main)
        answer = np.zeros((*part.shape[:-3], *values.shape), part.dtype)
        if answer.ndim == 4:
            answer[0] = 1  # outside the box there is only background
        answer[..., box[0], box[1], box[2]] = part
    del values
    mask = _numbered(to_source(answer, placement), manifest.segments)
    return _measured(mask, manifest, source)


def ask(
    values: NDArray[np.float32], wanted: VolumeInput, model: Model | Locate, runtime: Runtime
) -> NDArray[Any]:
    """Return what a network says of a volume on its grid.

    Returns
    -------
    numpy.ndarray
        Probabilities, float32, shape (classes, ...), or labels, uint8, shape (...).
    """
    if wanted.network_sees == "whole":
        answer: NDArray[Any] = runtime.run({model.input: values[None, None]})[model.output][0]
    else:
        answer = _slice_by_slice(values, model, runtime)
    gives_labels = isinstance(model, Locate) or model.gives == "labels"
    expected = values.shape
    if answer.ndim != 4 or answer.shape[1:] != expected or (gives_labels and len(answer) != 1):
        raise EngineError(f"{model.file} answers with shape {answer.shape} for {expected}")
    labels: NDArray[Any] = answer[0].astype(np.uint8, copy=False) if gives_labels else answer
    return labels


def _slice_by_slice(
    values: NDArray[np.float32], model: Model | Locate, runtime: Runtime
) -> NDArray[Any]:
    """Return the answers for all slices, shape (classes, slices, rows, columns)."""
    answer: NDArray[Any] | None = None
    for first in range(0, len(values), SLICES_AT_ONCE):
        part = runtime.run({model.input: values[first : first + SLICES_AT_ONCE, None]})[
            model.output
        ]
        if answer is None:
            answer = np.empty((part.shape[1], len(values), *part.shape[2:]), part.dtype)
        # Copied at once: parts kept until the end would lie between the runtime's own buffers, and
        # the process would grow to gigabytes.
        answer[:, first : first + SLICES_AT_ONCE] = part.swapaxes(0, 1)
    if answer is None:
        raise EngineError(f"{model.file} was asked about a volume without slices")
    return answer


def _slices(source: SourceVolume, manifest: Manifest) -> Iterator[NDArray[np.float32]]:
    for image in source.images:
        values = network_values(image.file, image.header, manifest.intensity.values)
        yield clipped(values, manifest.intensity.clip)


def _box(
    values: NDArray[np.float32],
    placement: Placement,
    wanted: VolumeInput,
    locate: Locate,
    runtime: Runtime,
) -> Box:
    """Return where the main network has to look: what was located, with a margin."""
    found = largest(ask(values, wanted, locate, runtime) > 0)
    volume_ml = np.count_nonzero(found) * placement.voxel_ml
    if volume_ml < max(locate.volume_min_ml, placement.voxel_ml):
        raise StudyUnusable(
            f"no {locate.what} found: {volume_ml:.0f} ml, less than {locate.volume_min_ml:g}",
            hint="check that the series is what its header says",
        )
    box = []
    for axis, (size, spacing) in enumerate(zip(values.shape, placement.spacing_mm, strict=True)):
        others = tuple(other for other in range(3) if other != axis)
        touched = np.flatnonzero(found.any(axis=others))
        margin = int(np.ceil(locate.margin_mm / spacing))
        low, high = max(int(touched[0]) - margin, 0), min(int(touched[-1]) + 1 + margin, size)
        # The grid is a multiple of what the network can halve, so a box can grow to one inside it.
        high = low + -(-(high - low) // wanted.size_multiple) * wanted.size_multiple
        low, high = low - max(high - size, 0), min(high, size)
        box.append(slice(max(low, 0), high))
    return box[0], box[1], box[2]


def _numbered(labels: NDArray[np.uint8], segments: tuple[SegmentLabel, ...]) -> NDArray[np.uint8]:
    """Return the network's labels as segment numbers: from 1, in the order of the manifest."""
    numbers = np.zeros(256, np.uint8)
    for number, label in enumerate(segments, 1):
        numbers[label.label] = number
    return numbers[labels]


def _measured(mask: NDArray[Any], manifest: Manifest, source: SourceVolume) -> Segmentation:
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
        lambda index: network_values(
            source.images[index].file, source.images[index].header, manifest.intensity.values
        ),
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
