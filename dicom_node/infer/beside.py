"""The series that a network sees beside the main one: chosen, and brought onto the same grid.

A series of the study has to lie in the main one's frame of reference. A prior study has a frame of
its own; both are laid with their centres upon each other, and what the network makes of that is its
author's to know: nothing is registered here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StudyUnusable
from dicom_node.geometry import Grid
from dicom_node.headers import Part10
from dicom_node.infer.accepting import refusals
from dicom_node.infer.blocks import ExtraInput
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.path import VolumePath
from dicom_node.infer.series import SourceSeries, SourceVolume, is_localizer, load_source
from dicom_node.infer.volume import Placement, place_beside
from dicom_node.infer.voxels import read_voxels

SeriesFiles = Sequence[Part10]


@dataclass(frozen=True)
class Others:
    """What lies beside the series that an engine is run on."""

    study: Sequence[SeriesFiles] = field(default=())
    """The other series of the study."""
    priors: Sequence[SeriesFiles] = field(default=())
    """Those of prior studies, the newest study first."""


@dataclass(frozen=True, eq=False)
class Beside:
    """The tensors of the series beside the main one, and what a report says of them."""

    tensors: tuple[NDArray[np.float32], ...] = ()
    told: tuple[str, ...] = ()


def beside(
    manifest: Manifest,
    path: VolumePath,
    main: SourceVolume,
    placement: Placement,
    others: Others,
    *,
    threads: int,
) -> Beside:
    """Return what the network sees beside the main series, in the order of the manifest.

    Raises
    ------
    StudyUnusable
        If a series that is needed is not there, or cannot be laid on the main one's grid.
    """
    read: dict[str, list[SourceSeries]] = {}
    tensors: list[NDArray[np.float32]] = []
    told: list[str] = []
    for extra in manifest.inputs:
        if extra.source not in read:
            files = others.priors if extra.source == "prior" else others.study
            read[extra.source] = _readable(files)
        chosen = _chosen(extra, read[extra.source])
        where = "prior studies" if extra.source == "prior" else "study"
        if chosen is None and extra.needed:
            raise StudyUnusable(
                f"no series for {extra.name}: none of the {where} fulfils its accepts",
                hint="choose another study for this engine, or send what is missing",
            )
        if chosen is None:
            tensors.append(np.full(_shape(placement, main.grid), path.volume.pad, np.float32))
            told.append(f"no series for {extra.name} in the {where}: the network ran without")
            continue
        try:
            volume = chosen.volume()
            grid = _aligned(extra, volume, main)
            there = place_beside(grid, main.grid, placement, path.volume)
        except StudyUnusable as error:
            raise StudyUnusable(f"{extra.name}: {error.message}", hint=error.hint) from error
        intensity = extra.intensity or manifest.intensity
        voxels = read_voxels(volume.images, intensity.values, threads=threads)
        tensors.append(path.tensor(voxels, there, intensity))
        uid = volume.images[0].header.get("SeriesInstanceUID", "")
        told.append(f"{extra.name} is series {uid}")
    return Beside(tuple(tensors), tuple(told))


def _readable(files: Sequence[SeriesFiles]) -> list[SourceSeries]:
    """Return the series that can be read; what cannot be is nobody's input."""
    series = []
    for one in files:
        try:
            series.append(load_source(one).frame_by_frame())
        except StudyUnusable:
            continue
    return series


def _chosen(extra: ExtraInput, series: Sequence[SourceSeries]) -> SourceSeries | None:
    """Return the first series that an input accepts."""
    for one in series:
        slices = [header for header in one.headers if not is_localizer(header)]
        if slices and not refusals(extra.accepts, slices, len(one.images)):
            return one
    return None


def _aligned(extra: ExtraInput, volume: SourceVolume, main: SourceVolume) -> Grid:
    """Return the grid of a series in the main one's frame of reference."""
    if extra.source == "prior":
        affine = volume.grid.affine.copy()
        affine[:3, 3] += main.grid.centre_mm - volume.grid.centre_mm
        return replace(volume.grid, affine=affine)
    frames = {str(one.images[0].header.get("FrameOfReferenceUID", "")) for one in (volume, main)}
    if len(frames) > 1:
        raise StudyUnusable(
            "its frame of reference is not that of the main series, so nobody knows how they lie",
            hint="have both acquired in one session, or registered",
        )
    return volume.grid


def _shape(placement: Placement, main: Grid) -> tuple[int, ...]:
    sides = [
        size if weights is None else weights.shape[0]
        for size, weights in zip(main.shape, placement.forward, strict=True)
    ]
    return tuple(sides[axis] for axis in placement.match.axes)
