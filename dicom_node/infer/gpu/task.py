"""What is to be done with one volume: its way, its windows, and what comes out of it.

A window is what the network sees of the grid at a time, whatever the manifest calls it: one slice,
one slice with its neighbours as channels, a block, or all of it. So there is one way for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StudyUnusable
from dicom_node.infer.asking import SURE_LOGIT
from dicom_node.infer.blocks import Intensity, Locate, Model, VolumeInput
from dicom_node.infer.gpu.axes import Route
from dicom_node.infer.windows import Row, Weighting, windows_over

Kind = Literal["exclusive", "independent", "labels"]
Gives = Literal["probabilities", "logits", "labels"]
Mirrors = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Task:
    """One volume and one engine, before it is known how much memory there is."""

    route: Route
    stored: np.dtype[np.generic]
    kind: Kind
    gives: Gives
    window: tuple[int, int, int]
    starts: NDArray[np.int32]
    """(windows, 3), ordered by the axis that runs along the source's slices."""
    weights: tuple[Row, Row, Row]
    sums: tuple[Row, Row, Row]
    is_flat: bool
    """Whether the network's tensors have no axis of slices."""
    slab_slices: int
    """Channels of the input; 1 but for slabs."""
    flips: tuple[int, ...]
    """In which the network is asked: a bit an axis, 0 for none."""
    thresholds: tuple[float, ...]
    """Of independent classes, in the numbers that the network gives."""
    intensity: Intensity
    pad: float
    skip_below: float | None

    @property
    def axis(self) -> int:
        """The network's axis that runs along the source's slices."""
        return self.route.forward.slices_axis

    @property
    def reach(self) -> int:
        """How many planes before and behind a window it sees too."""
        return self.slab_slices // 2 if self.axis == 0 else 0

    @property
    def unseen(self) -> tuple[float, float]:
        """What is held of a voxel that no window saw: (channel 0, the others)."""
        low, high = (-SURE_LOGIT, SURE_LOGIT) if self.gives == "logits" else (0.0, 1.0)
        return (high if self.kind == "exclusive" else low), low


def task(
    route: Route,
    stored: np.dtype[np.generic],
    volume: VolumeInput,
    model: Model | Locate,
    intensity: Intensity,
    thresholds: tuple[float, ...] = (),
) -> Task:
    """Return what is to be done.

    Parameters
    ----------
    route : Route
    stored : numpy.dtype
        Of the voxels.
    volume, model, intensity
        The manifest's blocks.
    thresholds : tuple of float
        Of independent classes.

    Raises
    ------
    StudyUnusable
        If the volume is smaller than the network's window.
    """
    rows, columns = route.grid[1:]
    size, overlap, skip_below = route.grid, 0.0, None
    weighting: Weighting = "constant"
    if volume.network_sees in {"slice", "slab"}:
        size = (1, rows, columns)
    elif volume.network_sees == "window" and volume.window is not None:
        size, overlap = volume.window.size, volume.window.overlap
        weighting, skip_below = volume.window.weights, volume.window.skip_below
        if any(side > whole for side, whole in zip(size, route.grid, strict=True)):
            raise StudyUnusable(
                f"the network's window of {size} voxels does not fit into the {route.grid} that "
                "the series makes"
            )
    windows = windows_over(route.grid, size, overlap, weighting)
    starts = np.array(list(windows), np.int32).reshape(-1, 3)
    # Stable: along the other axes as they were.
    starts = starts[np.argsort(starts[:, route.forward.slices_axis], kind="stable")]
    gives: Gives = "labels"
    kind: Kind = "labels"
    mirrors: Mirrors = ()
    if isinstance(model, Model):
        gives, mirrors = model.gives, model.mirrors
        kind = "labels" if gives == "labels" else model.classes_are
    return Task(
        route=route,
        stored=stored,
        kind=kind,
        gives=gives,
        window=size,
        starts=starts,
        weights=windows.weights,
        sums=windows.sums,
        is_flat=volume.network_sees in {"slice", "slab"},
        slab_slices=(volume.slab_slices or 1) if volume.network_sees == "slab" else 1,
        flips=(0, *(sum(1 << axis for axis in mirror) for mirror in mirrors)),
        thresholds=thresholds,
        intensity=intensity,
        pad=volume.pad,
        skip_below=skip_below,
    )
