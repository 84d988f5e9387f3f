"""What the networks say of windows, added up on their grid: all that is on the inferring stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dicom_node.infer.gpu.axes import Span
from dicom_node.infer.gpu.feed import Bench, Feed, Starts
from dicom_node.infer.gpu.graphs import Replay
from dicom_node.infer.gpu.network import ELEMENT_BYTES, DeviceNetwork, Shape
from dicom_node.infer.gpu.resources import Stream

_SLOTS = 2
_WORTH_RECORDING = 4
"""Batches of one shape; a graph costs about as much as two of them to record."""


class Answers:
    """Asks the networks batch by batch; while one is answered, the next is gathered."""

    def __init__(self, bench: Bench, networks: Sequence[DeviceNetwork], stream: Stream) -> None:
        self._bench = bench
        self._task = bench.plan.task
        self._networks = networks
        self._stream = stream
        self._filled = [bench.device.event() for _ in range(_SLOTS)]
        self._emptied = [bench.device.event() for _ in range(_SLOTS)]
        self._turn = 0
        self._replays: dict[tuple[int, int], Replay] = {}
        scratch = bench.plan.layout.sizes["scratch"]
        for network in networks:
            network.use_scratch(bench.at("scratch"), scratch)

    def clear(self, planes: Span) -> None:
        """Let nothing be said of planes that come into memory."""
        bench, task = self._bench, self._task
        if task.kind == "labels":
            return
        first, count = planes[0], planes[1] - planes[0]
        in_channel = count * bench.plane_size
        sums = [("sums", bench.plan.channels)]
        if task.skip_below is not None:
            sums.append(("weight_sums", 1))
        for name, channels in sums:
            bench.kernels["clear_planes"](
                self._stream,
                channels * in_channel,
                bench.at(name),
                self._channel_size,
                *bench.answer_ring,
                first,
                count,
                in_channel,
            )

    def ask(self, feed: Feed, feeding: Stream, first: int, starts: Starts) -> None:
        """Add up what is said of windows; `first` is the index of theirs in the table."""
        batch = self._bench.plan.batch
        for at in range(0, len(starts), batch):
            part = starts[at : at + batch]
            for flips in self._task.flips:
                slot = self._turn % _SLOTS
                if self._turn >= _SLOTS:
                    feeding.wait_for(self._emptied[slot])
                feed.windows(first + at, len(part), flips, slot)
                self._filled[slot].record(feeding)
                self._stream.wait_for(self._filled[slot])
                self._answer(part, flips, slot)
                self._turn += 1
            if self._task.skip_below is not None:
                self._add_weights(part)

    def free(self) -> None:
        """Free events and graphs."""
        for replay in self._replays.values():
            replay.free()
        for event in (*self._filled, *self._emptied):
            event.free()

    @property
    def _channel_size(self) -> int:
        return self._bench.plan.schedule.answer_planes * self._bench.plane_size

    def _answer(self, starts: Starts, flips: int, slot: int) -> None:
        bench = self._bench
        for number, network in enumerate(self._networks):
            with bench.stages.timed("network", self._stream):
                self._enqueue(number, network, len(starts), slot)
            if network is self._networks[-1]:
                self._emptied[slot].record(self._stream)
            with bench.stages.timed("accumulate", self._stream):
                for index, start in enumerate(starts):
                    self._take(index, start, flips)

    def _enqueue(self, number: int, network: DeviceNetwork, count: int, slot: int) -> None:
        bench = self._bench
        run = _enqueuing(
            network,
            bench.plan.input_shape(count),
            bench.at(f"input_{slot}"),
            bench.at("output"),
            self._stream.handle,
        )
        full_batches = len(self._task.starts) // bench.plan.batch * len(self._task.flips)
        if count < bench.plan.batch or full_batches < _WORTH_RECORDING:
            run()
            return
        key = (number, slot)
        if key not in self._replays:
            self._replays[key] = Replay(bench.device, self._stream, run)
        self._replays[key]()

    def _take(self, index: int, start: Starts, flips: int) -> None:
        """Take the answer about one window of the batch."""
        bench, task = self._bench, self._task
        output_type = self._networks[0].output.dtype
        voxels = int(np.prod(task.window))
        size = bench.plan.channels * voxels
        answer = bench.at("output") + index * size * ELEMENT_BYTES[output_type]
        window = (*task.window, *(int(at) for at in start))
        if task.kind == "labels":
            bench.kernels[f"take_labels_{output_type}"](
                self._stream, voxels, answer, *window, *bench.answer_ring, bench.at("labels")
            )
            return
        bench.kernels[f"accumulate_{output_type}"](
            self._stream,
            size,
            answer,
            *window,
            flips,
            bench.at("weights"),
            *bench.answer_ring,
            bench.at("sums"),
            self._channel_size,
        )

    def _add_weights(self, starts: Starts) -> None:
        bench, task = self._bench, self._task
        for start in starts:
            bench.kernels["add_weights"](
                self._stream,
                int(np.prod(task.window)),
                *task.window,
                *(int(at) for at in start),
                bench.at("weights"),
                *bench.answer_ring,
                bench.at("weight_sums"),
            )


def _enqueuing(
    network: DeviceNetwork, shape: Shape, source: int, target: int, stream: int
) -> Callable[[], None]:
    return lambda: network.enqueue(shape, source, target, stream)
