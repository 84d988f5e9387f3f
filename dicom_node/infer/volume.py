"""From the slices of a volume to the tensor of a network, and from its answer back.

Each axis of the source is resampled by one matrix (`infer.resample`), then axes are exchanged and
flipped to those that the manifest names. A series that lies obliquely keeps its own axes: the
nearest ones are taken, up to the angle that the manifest allows, and nothing is rotated. So the way
back is exact: every voxel of the mask is the network's answer about the place of that voxel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StudyUnusable
from dicom_node.geometry import AxisMatch, Grid, match_axes
from dicom_node.infer.blocks import VolumeInput
from dicom_node.infer.resample import Weights, axis_weights, resample

_PARALLEL = 0.99985
"""The cosine of one degree: 2 mm at the rim of a head."""

InPlane = Sequence[Weights | None]
"""For the rows and for the columns of a slice."""


@dataclass(frozen=True, eq=False)
class Placement:
    """How the source's grid and the network's lie to each other."""

    match: AxisMatch
    forward: tuple[Weights | None, Weights | None, Weights | None]
    """By axis of the source, from the source to the network; None changes nothing."""
    backward: tuple[Weights | None, Weights | None, Weights | None]
    shape: tuple[int, int, int]
    """Of the source."""
    spacing_mm: tuple[float, float, float]
    """Of the network, along its own axes."""

    @property
    def voxel_ml(self) -> float:
        """The volume of a voxel of the network."""
        return float(np.prod(self.spacing_mm)) / 1000.0


def place(grid: Grid, wanted: VolumeInput) -> Placement:
    """Return how a volume comes to the network that a manifest describes.

    Raises
    ------
    StudyUnusable
        If the volume is not what the manifest allows; the message has every reason.
    """
    match = match_axes(grid, wanted.axes)
    reasons = _misfits(grid, wanted, match)
    fields = [grid.shape[axis] * grid.spacing_mm[axis] for axis in match.axes]
    growth = max(
        [1.0]
        + [
            field / (size * spacing)
            for field, size, spacing in zip(fields, wanted.size, wanted.spacing_mm, strict=True)
            if size is not None and spacing is not None
        ]
    )
    if growth > wanted.grow_max:
        reasons.append(
            f"the field of view is {growth:.2f} times the network's, more than {wanted.grow_max:g}"
        )
    if reasons:
        raise StudyUnusable("; ".join(reasons), hint="choose another series for this engine")

    forward: list[Weights | None] = [None, None, None]
    backward: list[Weights | None] = [None, None, None]
    spacings = []
    smallest = wanted.window.size if wanted.window else (1, 1, 1)
    for field, axis, size, spacing, least in zip(
        fields, match.axes, wanted.size, wanted.spacing_mm, smallest, strict=True
    ):
        here, here_mm = grid.shape[axis], grid.spacing_mm[axis]
        there_mm = here_mm if spacing is None else spacing * (growth if size else 1.0)
        there = size or max(_count(field / there_mm, wanted.size_multiple), least)
        spacings.append(there_mm)
        if (there, there_mm) != (here, here_mm):
            forward[axis] = axis_weights(here, here_mm, there, there_mm)
            backward[axis] = axis_weights(there, there_mm, here, here_mm)
    return Placement(
        match=match,
        forward=(forward[0], forward[1], forward[2]),
        backward=(backward[0], backward[1], backward[2]),
        shape=grid.shape,
        spacing_mm=(spacings[0], spacings[1], spacings[2]),
    )


def place_beside(grid: Grid, main: Grid, placement: Placement, wanted: VolumeInput) -> Placement:
    """Return how another series comes to the grid on which the main one is shown.

    Parameters
    ----------
    grid : Grid
        Of the other series, in the same frame of reference.
    main : Grid
    placement : Placement
        Of the main series.

    Raises
    ------
    StudyUnusable
        If its axes are not those of the main series: nothing is rotated.
    """
    match = match_axes(grid, wanted.axes)
    forward: list[Weights | None] = [None, None, None]
    away = main.centre_mm - grid.centre_mm
    for there, axis, main_axis, flip, main_flip in zip(
        range(3),
        match.axes,
        placement.match.axes,
        match.flipped,
        placement.match.flipped,
        strict=True,
    ):
        along, along_main = grid.units[:, axis], main.units[:, main_axis]
        cosine = float(along @ along_main) * (1 if flip == main_flip else -1)
        if cosine < _PARALLEL:
            degrees = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
            raise StudyUnusable(
                f"it lies {degrees:.0f} degrees off the main series",
                hint="have both series acquired, or reconstructed, in the same planes",
            )
        weights = placement.forward[main_axis]
        size = main.shape[main_axis] if weights is None else weights.shape[0]
        forward[axis] = axis_weights(
            grid.shape[axis],
            grid.spacing_mm[axis],
            size,
            placement.spacing_mm[there],
            float(away @ along),
        )
    return dataclasses.replace(
        placement,
        match=match,
        forward=(forward[0], forward[1], forward[2]),
        shape=grid.shape,
    )


def to_network(
    slices: Iterable[NDArray[np.float32]], placement: Placement, pad: float
) -> NDArray[np.float32]:
    """Return a volume on the network's grid and axes.

    Parameters
    ----------
    slices : iterable of numpy.ndarray, shape (rows, columns), float32
        In the order of the source's grid; each is shrunk before the next is taken, so the whole
        volume is never held in floating point.
    placement : Placement
    pad : float
        What lies outside the field of view.
    """
    along_slices, *in_plane = placement.forward
    stack = np.stack([_in_plane(image - np.float32(pad), in_plane) for image in slices])
    stack = resample(stack, along_slices, 0)
    stack += np.float32(pad)
    turned = stack.transpose(placement.match.axes)
    return np.ascontiguousarray(np.flip(turned, _flips(placement)))


def _in_plane(values: NDArray[np.float32], in_plane: InPlane) -> NDArray[np.float32]:
    rows, columns = in_plane
    return resample(resample(values, rows, -2), columns, -1)


def _flips(placement: Placement) -> tuple[int, ...]:
    """Return the axes of the network, from the last, that run against the source's."""
    return tuple(axis - 3 for axis, flipped in enumerate(placement.match.flipped) if flipped)


def _count(voxels: float, multiple: int) -> int:
    """Return the voxels that hold a field of view, a multiple of what the network can halve."""
    # A field of 256 mm in voxels of 1 mm is 256 voxels, whatever 192.0000001 mm the header says.
    return int(np.ceil((voxels - 1e-3) / multiple)) * multiple


def _misfits(grid: Grid, wanted: VolumeInput, match: AxisMatch) -> list[str]:
    """Return what speaks against showing this volume to that network."""
    reasons = []
    slices_mm, *pixels_mm = grid.spacing_mm
    if match.degrees > wanted.oblique_max_degrees:
        reasons.append(
            f"the series lies {match.degrees:.0f} degrees off the axes of the body, "
            f"more than {wanted.oblique_max_degrees:g}"
        )
    if wanted.network_sees in {"slice", "slab"} and match.axes[0] != 0:
        reasons.append(f"its slices do not lie across the axis {wanted.axes[0]}")
    if grid.shape[0] < wanted.slices_min:
        reasons.append(f"{grid.shape[0]} slices, fewer than {wanted.slices_min}")
    for what, lengths, allowed in (
        ("slice", [slices_mm], wanted.slice_spacing_mm),
        ("pixel", pixels_mm, wanted.pixel_spacing_mm),
    ):
        if allowed and not all(allowed[0] <= mm <= allowed[1] for mm in lengths):
            words = " x ".join(f"{mm:.3g}" for mm in lengths)
            reasons.append(f"{what} spacing is {words} mm, not {allowed[0]:g} to {allowed[1]:g}")
    for letter, axis, least in zip(wanted.axes, match.axes, wanted.extent_min_mm, strict=True):
        extent = grid.shape[axis] * grid.spacing_mm[axis]
        if extent < least:
            reasons.append(f"{extent:.0f} mm along the axis {letter}, less than {least:g}")
    return reasons
