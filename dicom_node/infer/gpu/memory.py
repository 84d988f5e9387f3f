"""How much of a device's memory a volume takes, told from its header before anything is allocated.

A run takes one block and lays everything into it, so what is planned is what is taken, to the byte,
and memory can be out in one place only: before the run. Where the whole does not fit, smaller
batches are tried, then slabs, thinner and thinner; what does not fit then is for the processor.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from dicom_node.infer.blocks import Intensity, Percentile
from dicom_node.infer.gpu.axes import Side
from dicom_node.infer.gpu.network import ELEMENT_BYTES, DeviceNetwork, ElementType, Shape
from dicom_node.infer.gpu.schedule import Schedule, schedule
from dicom_node.infer.gpu.task import Task

ALIGNMENT = 256
CHUNK_BYTES = 8 << 20
"""About what a mask is copied back in at a time; pinned memory is made for it once."""
COUNTER_COPIES = 16
COUNTER_BITS = 11
SEARCHES_MAX = 4
"""Two levels, each between two values."""


@dataclass
class Layout:
    """Where in the block each thing lies."""

    total_bytes: int = 0
    offsets: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, size_bytes: int) -> None:
        """Lay something behind what is there, aligned."""
        self.offsets[name] = self.total_bytes
        self.sizes[name] = size_bytes
        self.total_bytes += -(-size_bytes // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, eq=False)
class Plan:
    """One way to do a task, and the memory that it takes."""

    task: Task
    schedule: Schedule
    batch: int
    channels: int
    """Of the network's answer."""
    input_type: ElementType
    chunk_slices: int
    """Of the mask, that are made at a time."""
    layout: Layout

    @property
    def total_bytes(self) -> int:
        return self.layout.total_bytes

    @property
    def in_words(self) -> str:
        """What it is, for a log."""
        steps = len(self.schedule.steps)
        what = "the whole volume" if steps == 1 else f"{steps} slabs"
        return f"{what}, batches of {self.batch}, {self.total_bytes / 2**20:.0f} MiB"

    def input_shape(self, count: int) -> Shape:
        """Return the shape of the network's input for so many windows."""
        return input_shape(self.task, count)


def input_shape(task: Task, count: int) -> Shape:
    """Return the shape of a batch: of slices (b, c, rows, columns), of blocks (b, c, z, y, x)."""
    if task.is_flat:
        return (count, task.slab_slices, *task.window[1:])
    return (count, 1, *task.window)


def plans(task: Task, networks: Sequence[DeviceNetwork]) -> Iterator[Plan]:
    """Yield the ways to do a task, from the fastest to the one with the least memory."""
    most = min([*(network.batch_max for network in networks), max(len(task.starts), 1)])
    batches = [most]
    while batches[-1] > 1:
        batches.append(batches[-1] // 2)
    planes = count = task.route.grid[task.axis]
    seen: set[int] = set()
    while True:
        steps = schedule(task, planes)
        if len(steps.steps) not in seen:
            seen.add(len(steps.steps))
            for batch in batches:
                yield _plan(task, networks, steps, batch)
        if planes == 0:
            return
        planes = planes // 2 if count > 1 else 0


def _plan(task: Task, networks: Sequence[DeviceNetwork], steps: Schedule, batch: int) -> Plan:
    first = networks[0]
    channels = first.output.channels
    grid, window = task.route.grid, task.window
    others = int(np.prod(grid)) // grid[task.axis]
    rows, columns = task.route.mask[1:]
    slice_bytes = rows * columns
    if task.kind == "independent":
        slice_bytes = -(-rows * columns // 8) * len(task.thresholds)
    chunk = max(1, min(CHUNK_BYTES // slice_bytes, task.route.mask[0]))
    layout = Layout()
    layout.add(
        "stored",
        steps.source_slices * int(np.prod(task.route.source[1:])) * task.stored.itemsize,
    )
    layout.add("slopes", task.route.source[0] * 4)
    layout.add("intercepts", task.route.source[0] * 4)
    for name, side in (("forward", task.route.forward), ("backward", task.route.backward)):
        _add_taps(layout, name, side)
    layout.add("starts", task.starts.nbytes)
    layout.add("weights", sum(window) * 4)
    layout.add("window_sums", sum(grid) * 4)
    layout.add("thresholds", len(task.thresholds) * 4)
    layout.add("values", steps.value_planes * others * 4)
    if task.kind == "labels":
        layout.add("labels", steps.answer_planes * others)
    else:
        layout.add("sums", channels * steps.answer_planes * others * 4)
    if task.skip_below is not None:
        layout.add("weight_sums", steps.answer_planes * others * 4)
        _add_largest(layout, task, steps)
    if has_percentiles(task.intensity):
        layout.add("prefixes", SEARCHES_MAX * 4)
        layout.add("counters", COUNTER_COPIES * SEARCHES_MAX * (1 << COUNTER_BITS) * 4)
    inputs = batch * task.slab_slices * int(np.prod(window)) * ELEMENT_BYTES[first.input.dtype]
    layout.add("input_0", inputs)
    layout.add("input_1", inputs)
    layout.add(
        "output", batch * channels * int(np.prod(window)) * ELEMENT_BYTES[first.output.dtype]
    )
    scratch = [network.scratch_bytes(input_shape(task, batch)) for network in networks]
    layout.add("scratch", max(scratch))
    layout.add("mask_0", chunk * slice_bytes)
    layout.add("mask_1", chunk * slice_bytes)
    return Plan(task, steps, batch, channels, first.input.dtype, chunk, layout)


def has_percentiles(intensity: Intensity) -> bool:
    """Return whether the scale has a level that must be found in the values first."""
    scale = intensity.scale
    return scale is not None and any(
        isinstance(level, Percentile) for level in (scale.low, scale.high)
    )


def _add_taps(layout: Layout, name: str, side: Side) -> None:
    for axis, taps in enumerate(side.taps):
        layout.add(f"{name}_{axis}_first", taps.first.nbytes)
        layout.add(f"{name}_{axis}_index", taps.index.nbytes)
        layout.add(f"{name}_{axis}_share", taps.share.nbytes)


def _add_largest(layout: Layout, task: Task, steps: Schedule) -> None:
    """Lay out the search for windows that are all air: along the columns, the rows, the slices."""
    kept = list(task.route.grid)
    kept[task.axis] = steps.value_planes
    windows = [len(np.unique(task.starts[:, axis])) for axis in range(3)]
    layout.add("window_places", sum(windows) * 4)
    layout.add("largest_2", kept[0] * kept[1] * windows[2] * 4)
    layout.add("largest_1", kept[0] * windows[1] * windows[2] * 4)
    layout.add("largest_0", windows[0] * windows[1] * windows[2] * 4)


class Budget:
    """What may be taken of one device by all engines that live on it.

    Parameters
    ----------
    total_bytes : int
        Of the device.
    share : float
        That is ours; the rest is for the context, the driver's own needs and what is cut up.
    """

    def __init__(self, total_bytes: int, share: float = 0.9) -> None:
        self._limit = int(total_bytes * share)
        self._taken = 0
        self._lock = threading.Lock()

    def admit(self, size_bytes: int) -> bool:
        """Return whether so much is left; if so it is taken, until it is released."""
        with self._lock:
            fits = self._taken + size_bytes <= self._limit
            if fits:
                self._taken += size_bytes
            return fits

    def release(self, size_bytes: int) -> None:
        """Give back what was admitted."""
        with self._lock:
            self._taken -= size_bytes

    @property
    def left_bytes(self) -> int:
        """What can still be admitted."""
        with self._lock:
            return self._limit - self._taken
