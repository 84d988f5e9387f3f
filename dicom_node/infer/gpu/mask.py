"""From what was said on the network's grid to a mask of the source, and down to the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.infer.gpu.axes import Span
from dicom_node.infer.gpu.feed import Bench
from dicom_node.infer.gpu.resources import Stream
from dicom_node.infer.gpu.staging import Staging

_SLOTS = 2


class Mask:
    """Makes slices of the mask as soon as they can be, a chunk at a time, and brings them down.

    Attributes
    ----------
    result : numpy.ndarray
        Labels, uint8, shape (slices, rows, columns); or, of independent classes, bool, shape
        (classes, slices, rows, columns).
    """

    def __init__(
        self, bench: Bench, answers: int, staging: Staging, making: Stream, copying: Stream
    ) -> None:
        self._bench = bench
        self._task = bench.plan.task
        self._answers = answers
        self._staging = staging
        self._making = making
        self._copying = copying
        self._made = [bench.device.event() for _ in range(_SLOTS)]
        self._copied = [bench.device.event() for _ in range(_SLOTS)]
        self._turn = 0
        shape = self._task.route.mask
        self.result: NDArray[Any] = (
            np.zeros((len(self._task.thresholds), *shape), np.bool_)
            if self._task.kind == "independent"
            else np.zeros(shape, np.uint8)
        )

    def make(self, slices: Span) -> None:
        """Make some slices; nothing more will be said of what they are made of."""
        size = self._bench.plan.chunk_slices
        for first in range(slices[0], slices[1], size):
            self._chunk(first, min(first + size, slices[1]))

    def free(self) -> None:
        """Free the events."""
        for event in (*self._made, *self._copied):
            event.free()

    def _chunk(self, first: int, last: int) -> None:
        slot = self._turn % _SLOTS
        if self._turn >= _SLOTS:
            self._making.wait_for(self._copied[slot])
        self._turn += 1
        address = self._bench.at(f"mask_{slot}")
        with self._bench.stages.timed("finish", self._making):
            target, then = self._launch(first, last, address)
        self._made[slot].record(self._making)
        self._copying.wait_for(self._made[slot])
        with self._bench.stages.timed("download", self._copying):
            self._staging.download(target, address, self._copying, then)
        self._copied[slot].record(self._copying)

    def _launch(
        self, first: int, last: int, address: int
    ) -> tuple[NDArray[np.uint8], Callable[[], None]]:
        """Put the kernel there; return where its bytes belong, and what follows when they came."""
        bench, task = self._bench, self._task
        _, rows, columns = task.route.mask
        voxels = (last - first) * rows * columns
        ring = bench.answer_ring
        if task.kind == "labels":
            bench.kernels["fullest"](
                self._making, voxels, bench.at("labels"), *self._way, *ring, first, address
            )
        elif task.kind == "exclusive":
            bench.kernels["likeliest"](
                self._making,
                voxels,
                *self._said,
                *self._way,
                *ring,
                bench.plan.channels,
                first,
                address,
            )
        else:
            size = -(-voxels // 8)
            bench.kernels["above"](
                self._making,
                len(task.thresholds) * size,
                *self._said,
                *self._way,
                *ring,
                bench.at("thresholds"),
                first,
                voxels,
                size,
                address,
            )
            planes = np.empty((len(task.thresholds), size), np.uint8)

            def unpack() -> None:
                bits = np.unpackbits(planes, axis=1, count=voxels, bitorder="little")
                there = self.result[:, first:last]
                there[...] = bits.reshape(there.shape)

            return planes.reshape(-1), unpack
        return self.result[first:last].reshape(-1), _nothing

    @property
    def _way(self) -> tuple[int, ...]:
        side = self._task.route.backward
        return (
            *self._bench.taps("backward"),
            side.slices_axis,
            side.rows_axis,
            *self._task.route.mask[1:],
        )

    @property
    def _said(self) -> tuple[float, ...]:
        bench, task = self._bench, self._task
        skips = task.skip_below is not None
        return (
            bench.at("sums"),
            bench.plan.schedule.answer_planes * bench.plane_size,
            bench.at("weight_sums") if skips else 0,
            bench.at("window_sums"),
            *task.route.grid[:2],
            float(np.float32(1) / np.float32(self._answers)),
            *task.unseen,
        )


def _nothing() -> None:
    """Labels are where they belong as soon as they are copied."""
