"""From stored voxels to batches of the network's input: all that is done on the feeding stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import InvariantBroken, StudyUnusable
from dicom_node.infer.blocks import Percentile, Scale
from dicom_node.infer.gpu.axes import Side, Span
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.gpu.kernels import Kernels
from dicom_node.infer.gpu.memory import (
    COUNTER_COPIES,
    Plan,
    has_percentiles,
)
from dicom_node.infer.gpu.percentiles import percentiles
from dicom_node.infer.gpu.resources import Stream
from dicom_node.infer.gpu.schedule import Step
from dicom_node.infer.gpu.stages import Stages
from dicom_node.infer.gpu.staging import Staging
from dicom_node.infer.voxels import Voxels

Ring = tuple[int, int, int, int]
"""As the kernels have it: the three sides as they are kept, and the axis of which planes are."""
Starts = NDArray[np.int32]

_UNSCALED = (0.0, 0.0, 0.0, 0.0, 0.0)
_TABLES = ("slopes", "thresholds")
"""The first and the last of those that are uploaded as one."""


@dataclass(frozen=True, eq=False)
class Bench:
    """What a run works with: a device, its kernels, a plan and the block that it is laid into."""

    device: Device
    kernels: Kernels
    plan: Plan
    block: int
    stages: Stages

    def at(self, name: str) -> int:
        """Return the address of a thing."""
        return self.block + self.plan.layout.offsets[name]

    def ring(self, planes: int) -> Ring:
        """Return the network's grid of which so many planes are kept."""
        task = self.plan.task
        sides = list(task.route.grid)
        sides[task.axis] = planes
        return sides[0], sides[1], sides[2], task.axis

    @property
    def value_ring(self) -> Ring:
        return self.ring(self.plan.schedule.value_planes)

    @property
    def answer_ring(self) -> Ring:
        return self.ring(self.plan.schedule.answer_planes)

    @property
    def plane_size(self) -> int:
        """How many voxels of the grid lie in a plane across its axis."""
        grid = self.plan.task.route.grid
        return int(np.prod(grid)) // grid[self.plan.task.axis]

    def taps(self, name: str) -> tuple[int, ...]:
        """Return the addresses of the taps of a way, as the kernels take them."""
        parts = ("first", "index", "share")
        return tuple(self.at(f"{name}_{axis}_{part}") for axis in range(3) for part in parts)


class Feed:
    """Brings slices up, makes planes of the grid of them, and windows of those."""

    def __init__(self, bench: Bench, voxels: Voxels, staging: Staging, stream: Stream) -> None:
        self._bench = bench
        self._task = bench.plan.task
        self._stored = np.ascontiguousarray(voxels.stored)
        self._voxels = voxels
        self._staging = staging
        self._stream = stream
        self._scale: tuple[float, ...] = _UNSCALED

    def begin(self) -> None:
        """Bring up the tables, and find the levels of the scale.

        Raises
        ------
        StudyUnusable
            If there is no contrast to scale.
        """
        with self._bench.stages.timed("upload", self._stream):
            self._upload_tables()
        if self._task.intensity.scale is not None:
            self._scale = _line(self._levels(self._task.intensity.scale))

    def levels(self) -> Scale | None:
        """Bring up the tables, and return the scale with levels that are numbers.

        It can be given to what sees only a box of the grid.
        """
        self._upload_tables()
        scale = self._task.intensity.scale
        return scale and self._levels(scale)

    def bring(self, step: Step) -> None:
        """Make the planes of a step."""
        self._upload(step.upload)
        self._gather(step.gather)

    def asked(self, windows: Span) -> Starts:
        """Return the first voxels of those windows of a step that are not all air."""
        starts = self._task.starts[windows[0] : windows[1]]
        least = self._task.skip_below
        if least is None or not len(starts):
            return starts
        with self._bench.stages.timed("air", self._stream):
            largest = self._largest(starts)
        places = [np.unique(starts[:, axis]) for axis in range(3)]
        at = [np.searchsorted(places[axis], starts[:, axis]) for axis in range(3)]
        kept: Starts = starts[largest[at[0], at[1], at[2]] >= least]
        if len(kept):
            first = self._bench.at("starts") + windows[0] * 12
            self._staging.upload(first, np.ascontiguousarray(kept), self._stream)
        return kept

    def windows(self, first: int, count: int, flips: int, slot: int) -> None:
        """Gather a batch of windows; `first` is the index in `starts` of the first."""
        task, bench = self._task, self._bench
        elements = count * task.slab_slices * int(np.prod(task.window))
        with bench.stages.timed("windows", self._stream):
            bench.kernels[f"gather_windows_{bench.plan.input_type}"](
                self._stream,
                elements,
                bench.at("values"),
                *bench.value_ring,
                task.route.grid[0],
                bench.at("starts") + first * 12,
                task.slab_slices,
                *task.window,
                flips,
                bench.at(f"input_{slot}"),
            )

    # -------------------------------------------------------- steps

    def _upload(self, slices: Span) -> None:
        low, high = slices
        kept = self._bench.plan.schedule.source_slices
        slice_bytes = int(np.prod(self._stored.shape[1:])) * self._stored.itemsize
        with self._bench.stages.timed("upload", self._stream):
            while low < high:
                # Up to where the ring begins again.
                end = min(high, (low // kept + 1) * kept)
                address = self._bench.at("stored") + low % kept * slice_bytes
                self._staging.upload(address, self._stored[low:end], self._stream)
                low = end

    def _gather(self, planes: Span) -> None:
        task, bench = self._task, self._bench
        first, count = planes[0], planes[1] - planes[0]
        clip = task.intensity.clip or (-np.inf, np.inf)
        with bench.stages.timed("gather", self._stream):
            bench.kernels[f"gather_volume_{task.stored.name}"](
                self._stream,
                count * bench.plane_size,
                bench.at("stored"),
                *task.route.source[1:],
                bench.plan.schedule.source_slices,
                bench.at("slopes"),
                bench.at("intercepts"),
                *clip,
                *bench.taps("forward"),
                task.route.forward.slices_axis,
                task.route.forward.rows_axis,
                task.pad,
                *self._scale,
                *bench.value_ring,
                first,
                count,
                bench.at("values"),
            )

    def _upload_tables(self) -> None:
        """Bring up all small tables in one copy."""
        layout, task = self._bench.plan.layout, self._task
        arrays: dict[str, NDArray[Any]] = {
            "slopes": self._voxels.slopes.astype(np.float32),
            "intercepts": self._voxels.intercepts.astype(np.float32),
            **_tables("forward", task.route.forward),
            **_tables("backward", task.route.backward),
            "starts": task.starts,
            "weights": np.concatenate(task.weights),
            "window_sums": np.concatenate(task.sums),
            "thresholds": np.array(task.thresholds, np.float32),
        }
        begin = layout.offsets[_TABLES[0]]
        end = layout.offsets[_TABLES[1]] + layout.sizes[_TABLES[1]]
        image = np.zeros(end - begin, np.uint8)
        for name, array in arrays.items():
            at = layout.offsets[name] - begin
            image[at : at + array.nbytes] = array.reshape(-1).view(np.uint8)
        self._staging.upload(self._bench.at(_TABLES[0]), image, self._stream)

    # -------------------------------------------------------- what is asked of all values

    def _levels(self, scale: Scale) -> Scale:
        if not has_percentiles(self._task.intensity):
            return scale
        ranks = [level.rank for level in (scale.low, scale.high) if isinstance(level, Percentile)]
        size = int(np.prod(self._task.route.grid))
        with self._bench.stages.timed("percentiles", self._stream):
            found = iter(percentiles(self._count, size, ranks))
        low, high = (
            next(found) if isinstance(level, Percentile) else level
            for level in (scale.low, scale.high)
        )
        return replace(scale, low=low, high=high)

    def _count(self, prefixes: Sequence[int], shift: int, bits: int) -> NDArray[np.int64]:
        bench, steps = self._bench, self._bench.plan.schedule.steps
        size = len(prefixes) << bits
        counters = bench.at("counters")
        bench.device.clear(counters, COUNTER_COPIES * size * 4, self._stream)
        self._staging.upload(bench.at("prefixes"), np.array(prefixes, np.uint32), self._stream)
        for step in steps:
            if len(steps) > 1 or shift + bits == 32:
                self.bring(step)
            first, planes = step.gather[0], step.gather[1] - step.gather[0]
            bench.kernels["count_keys"](
                self._stream,
                planes * bench.plane_size,
                bench.at("values"),
                *bench.value_ring,
                first,
                planes,
                bench.at("prefixes"),
                len(prefixes),
                shift,
                bits,
                COUNTER_COPIES,
                counters,
            )
        found = self._fetch(counters, (COUNTER_COPIES, len(prefixes), 1 << bits), np.uint32)
        counts: NDArray[np.int64] = found.sum(axis=0, dtype=np.int64)
        return counts

    def _largest(self, starts: Starts) -> NDArray[np.float32]:
        """Return the largest value of each window, by place along each axis."""
        bench, task = self._bench, self._task
        places = [np.unique(starts[:, axis]).astype(np.int32) for axis in range(3)]
        self._staging.upload(bench.at("window_places"), np.concatenate(places), self._stream)
        shape = list(bench.value_ring[:3])
        source = bench.at("values")
        for axis in (2, 1, 0):
            before = sum(len(place) for place in places[:axis])
            outer, inner = int(np.prod(shape[:axis])), int(np.prod(shape[axis + 1 :]))
            target = bench.at(f"largest_{axis}")
            bench.kernels["largest_along"](
                self._stream,
                outer * len(places[axis]) * inner,
                source,
                shape[axis],
                inner,
                bench.at("window_places") + before * 4,
                len(places[axis]),
                task.window[axis],
                target,
            )
            shape[axis] = len(places[axis])
            source = target
        return self._fetch(source, (shape[0], shape[1], shape[2]), np.float32)

    def _fetch(self, address: int, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        result = np.empty(shape, dtype)
        self._staging.download(
            result.reshape(-1).view(np.uint8), address, self._stream, lambda: None
        )
        self._staging.settle()
        return result


def _line(scale: Scale) -> tuple[float, ...]:
    """Return the scale as the kernel takes it: low, k, first, and within which it is held."""
    low, high = scale.low, scale.high
    if isinstance(low, Percentile) or isinstance(high, Percentile):
        raise InvariantBroken("a level was not looked for")
    if not high > low:
        raise StudyUnusable(f"no contrast: the pixels lie at {low:g} and nowhere else")
    first, last = scale.to
    held = (min(first, last), max(first, last)) if scale.clip else (-np.inf, np.inf)
    return (low, float(np.float32((last - first) / (high - low))), first, *held)


def _tables(name: str, side: Side) -> dict[str, NDArray[Any]]:
    return {
        f"{name}_{axis}_{part}": getattr(taps, part)
        for axis, taps in enumerate(side.taps)
        for part in ("first", "index", "share")
    }
