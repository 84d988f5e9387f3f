"""Which windows when, and which planes and slices must be in memory then.

A step brings planes of the network's grid, asks about all windows that these complete, and makes
all slices of the mask that no later window can change. With all planes in one step the whole volume
is in memory; with fewer, slabs of it, each plane and slice as long as somebody still needs it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dicom_node.infer.gpu.axes import Span
from dicom_node.infer.gpu.task import Task


@dataclass(frozen=True)
class Step:
    """What is done at a time; spans from the first to behind the last."""

    upload: Span
    """Slices of the source."""
    gather: Span
    """Planes of the network's grid."""
    windows: Span
    """Of `Task.starts`."""
    clear: Span
    """Planes that sums are kept of from now on."""
    finish: Span
    """Slices of the mask."""


@dataclass(frozen=True)
class Schedule:
    """All steps, and how much of each thing is in memory at a time."""

    steps: tuple[Step, ...]
    source_slices: int
    value_planes: int
    answer_planes: int


def schedule(task: Task, planes_max: int) -> Schedule:
    """Return the steps for one volume.

    Parameters
    ----------
    task : Task
    planes_max : int
        How many new planes a step may bring; one window's depth is brought in any case.
    """
    axis = task.axis
    count = task.route.grid[axis]
    gather_spans = task.route.forward.taps[0].spans()
    needed = _Needed(task.route.backward.taps[0].spans())
    begins = task.starts[:, axis]
    ends = np.minimum(begins + task.window[axis] + task.reach, count)
    steps: list[Step] = []
    uploaded = _Uploaded()
    source_slices = value_planes = answer_planes = 0
    first = plane = cleared = 0
    while first < len(begins):
        limit = max(plane + planes_max, int(ends[first]))
        last = int(np.searchsorted(ends, limit, side="right"))
        end = int(ends[last - 1])
        slices = _union(gather_spans[plane:end])
        sums_end = min(int(begins[last - 1]) + task.window[axis], count)
        low = min(needed.lowest, int(begins[first]))
        source_slices = max(source_slices, slices[1] - slices[0])
        value_planes = max(value_planes, end - max(int(begins[first]) - task.reach, 0))
        answer_planes = max(answer_planes, sums_end - low)
        done = int(begins[last]) if last < len(begins) else count
        steps.append(
            Step(
                upload=uploaded.add(slices),
                gather=(plane, end),
                windows=(first, last),
                clear=(cleared, sums_end),
                finish=needed.finished(done),
            )
        )
        first, plane, cleared = last, end, sums_end
    return Schedule(tuple(steps), source_slices, value_planes, answer_planes)


class _Needed:
    """The slices of the mask that are not made yet, in the order in which they can be."""

    def __init__(self, spans: list[Span]) -> None:
        known = [low for low, high in spans if high]
        self._descends = bool(known) and known[0] > known[-1]
        self._spans = spans[::-1] if self._descends else spans
        # The lowest plane that this slice or any later one needs.
        lows = [low if high else 1 << 30 for low, high in self._spans]
        self._lowest = [*np.minimum.accumulate(lows[::-1])[::-1], 1 << 30]
        self._at = 0

    @property
    def lowest(self) -> int:
        return int(self._lowest[self._at])

    def finished(self, done: int) -> Span:
        """Return the slices that no plane from `done` on has a say in."""
        begin = self._at
        while self._at < len(self._spans) and self._spans[self._at][1] <= done:
            self._at += 1
        size = len(self._spans)
        return (size - self._at, size - begin) if self._descends else (begin, self._at)


class _Uploaded:
    """The slices of the source that are in memory already; they come from one end to the other."""

    def __init__(self) -> None:
        self._span: Span = (0, 0)

    def add(self, wanted: Span) -> Span:
        """Return those of `wanted` that are new."""
        low, high = wanted
        has_low, has_high = self._span
        if high > low:
            self._span = wanted
        if has_low == has_high or high <= has_low or low >= has_high:
            return wanted
        if high > has_high:
            return max(low, has_high), high
        return (low, min(high, has_low)) if low < has_low else (0, 0)


def _union(spans: list[Span]) -> Span:
    filled = [span for span in spans if span[1]]
    if not filled:
        return 0, 0
    return min(low for low, _ in filled), max(high for _, high in filled)
