"""Volumes for the path, and what must come out of it, reckoned in the plainest way.

The reference uses the processor's own `to_network` and `scaled`, and dense matrices in double
precision for the rest: windows one by one, then one product an axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.geometry import Grid
from dicom_node.infer.blocks import Intensity, Model, VolumeInput
from dicom_node.infer.intensity import clipped, scaled
from dicom_node.infer.volume import Placement, place, to_network
from dicom_node.infer.voxels import Voxels
from dicom_node.infer.windows import windows_over
from tests.unit.infer.gpu.machines import Answer

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
PRONE = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)

NEAR = 1e-4
"""Answers that are nearer to each other than this may come out either way."""


def a_grid(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    orientation: Sequence[float] = AXIAL,
) -> Grid:
    along_row, down_column = np.array(orientation[:3]), np.array(orientation[3:])
    affine = np.eye(4)
    directions = np.array([np.cross(along_row, down_column), down_column, along_row])
    affine[:3, :3] = directions.T * spacing
    return Grid(shape, affine)


def some_voxels(
    shape: tuple[int, int, int], dtype: str = "int16", *, seed: int = 1, air_until: int = 0
) -> Voxels:
    """Return smooth blobs in noise, with another rescale in each slice."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    body = 600 * np.exp(-3 * ((z - 0.2) ** 2 + y**2 + (x + 0.3) ** 2))
    stored = body + 40 * rng.standard_normal(shape) + 100
    stored[:, :, :air_until] = 0
    if np.dtype(dtype) == np.uint8:
        stored /= 4
    low = 0 if np.dtype(dtype).kind == "u" else -1000
    return Voxels(
        stored=np.clip(stored, low, None).astype(dtype),
        slopes=(1 + 0.01 * rng.standard_normal(shape[0])).astype(np.float32),
        intercepts=(-50 + rng.standard_normal(shape[0])).astype(np.float32),
    )


def a_model(**given: Any) -> Model:
    return Model(sha256="0" * 64, input="in", output="out", **given)


def an_answer(classes: int, *, seed: int = 0) -> Answer:
    """Return a network whose answer depends on value, class, place in the window and channel."""

    def answer(shown: NDArray[np.float32]) -> NDArray[np.float32]:
        batch = shown.astype(np.float64)
        channels = np.arange(1, batch.shape[1] + 1).reshape(1, -1, *[1] * (batch.ndim - 2))
        mixed = (batch * channels).sum(axis=1) / channels.sum()
        for axis in range(1, mixed.ndim):
            ramp = np.linspace(0, 0.7, mixed.shape[axis]) ** 2 * axis
            mixed = mixed + ramp.reshape([-1 if at == axis else 1 for at in range(mixed.ndim)])
        said = [np.sin(mixed * (0.9 + 0.4 * c) + c + seed) for c in range(classes)]
        return np.stack(said, axis=1).astype(np.float32)

    return answer


def labels_answer(classes: int) -> Answer:
    """Return a network that gives labels itself."""
    probable = an_answer(classes)
    return lambda shown: np.argmax(probable(shown), axis=1)[:, None]


class Expected:
    """What must come out."""

    def __init__(
        self,
        grid: Grid,
        voxels: Voxels,
        volume: VolumeInput,
        model: Model,
        intensity: Intensity,
        answers: Sequence[Answer],
        thresholds: Sequence[float] = (),
        box: tuple[slice, slice, slice] | None = None,
    ) -> None:
        self.placement = place(grid, volume)
        slices = (
            clipped(voxels.values(index), intensity.clip) for index in range(len(voxels.stored))
        )
        values = to_network(slices, self.placement, volume.pad)
        self.values = scaled(values, intensity.scale)
        box = box or (slice(None), slice(None), slice(None))
        self._model = model
        said = _said(self.values[box], volume, model, answers)
        whole = np.zeros((len(said), *self.values.shape))
        low = -20.0 if model.gives == "logits" else 0.0
        whole[:] = low
        if model.gives == "labels" or model.classes_are == "exclusive":
            whole[0] = -low or 1.0
        whole[:, box[0], box[1], box[2]] = said
        self.said = whole
        self.mixed, self.inside = _to_source(whole, self.placement)
        self._thresholds = np.array(thresholds)

    @property
    def labels(self) -> NDArray[np.uint8]:
        labels: NDArray[np.uint8] = np.argmax(self.mixed, axis=0).astype(np.uint8)
        labels[~self.inside] = 0
        return labels

    @property
    def masks(self) -> NDArray[np.bool_]:
        reached = self.mixed[: len(self._thresholds)] >= self._thresholds[:, None, None, None]
        return np.asarray(reached & self.inside)

    def agrees(self, found: NDArray[Any], share_near_max: float = 0.02) -> None:
        """Assert that a mask is this one, but for voxels in which two classes are equally good."""
        if found.dtype == np.bool_:
            near = np.abs(self.mixed[: len(found)] - self._thresholds[:, None, None, None]) < NEAR
            wrong = (found != self.masks) & ~near
        else:
            best = np.sort(self.mixed, axis=0)
            near = best[-1] - best[-2] < NEAR
            wrong = (found != self.labels) & ~near
        assert found.shape == (self.masks if found.dtype == np.bool_ else self.labels).shape
        assert not wrong.any(), f"{wrong.sum()} of {wrong.size} voxels are wrong"
        assert near.mean() <= share_near_max, "too many voxels say nothing"


def _said(
    values: NDArray[np.float32], volume: VolumeInput, model: Model, answers: Sequence[Answer]
) -> NDArray[np.float64]:
    if volume.network_sees in {"slice", "slab"}:
        channels = volume.slab_slices or 1
        near = np.arange(channels) - channels // 2
        tensor = np.stack(
            [values[np.clip(at + near, 0, len(values) - 1)] for at in range(len(values))]
        )
        said = _asked(tensor, model, answers, (1, 2, 3))
        slices: NDArray[np.float64] = said.swapaxes(0, 1)
        return slices
    if volume.network_sees == "whole":
        whole: NDArray[np.float64] = _asked(values[None, None], model, answers, (2, 3, 4))[0]
        return whole
    assert volume.window is not None
    wanted = volume.window
    shape = (values.shape[0], values.shape[1], values.shape[2])
    windows = windows_over(shape, wanted.size, wanted.overlap, wanted.weights)
    z, y, x = (row.astype(np.float64) for row in windows.weights)
    weights = z[:, None, None] * y[:, None] * x
    total: NDArray[np.float64] | None = None
    sums = np.zeros(values.shape)
    for start in windows:
        part = values[windows.part(start)]
        if wanted.skip_below is not None and not (part >= wanted.skip_below).any():
            continue
        said = _asked(part[None, None], model, answers, (2, 3, 4))[0]
        if total is None:
            total = np.zeros((len(said), *values.shape))
        total[(slice(None), *windows.part(start))] += said * weights
        sums[windows.part(start)] += weights
    assert total is not None
    mean = total / np.where(sums, sums, 1)
    low = -20.0 if model.gives == "logits" else 0.0
    mean[:, sums == 0] = low
    if model.classes_are == "exclusive":
        mean[0, sums == 0] = -low or 1.0
    return mean


def _asked(
    tensor: NDArray[np.float32],
    model: Model,
    answers: Sequence[Answer],
    axes: tuple[int, int, int],
) -> NDArray[np.float64]:
    said = []
    for mirror in ((), *model.mirrors):
        flipped = tuple(axes[axis] for axis in mirror)
        for answer in answers:
            one = answer(np.ascontiguousarray(np.flip(tensor, flipped)))
            back = tuple(axis for axis in flipped if axis != 1)
            said.append(np.flip(one, back).astype(np.float64))
    if model.gives == "labels":
        classes = int(said[0].max()) + 1
        return np.stack([said[0][:, 0] == label for label in range(classes)], axis=1) * 1.0
    return np.asarray(sum(said) / len(said))


def _to_source(
    said: NDArray[np.float64], placement: Placement
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return what is said of each voxel of the source, and whether anything can be."""
    match = placement.match
    flips = tuple(axis + 1 for axis, flipped in enumerate(match.flipped) if flipped)
    turned = np.moveaxis(np.flip(said, flips), (1, 2, 3), [axis + 1 for axis in match.axes])
    inside = np.ones(placement.shape, np.bool_)
    for axis, weights in enumerate(placement.backward):
        if weights is None:
            continue
        dense = weights.toarray().astype(np.float64)
        sums = dense.sum(axis=1)
        dense /= np.where(sums > 1e-6, sums, 1)[:, None]
        turned = np.moveaxis(np.tensordot(dense, turned, (1, axis + 1)), 0, axis + 1)
        inside &= (sums > 1e-6).reshape([-1 if at == axis else 1 for at in range(3)])
    return turned, inside
