"""One engine on one GPU: stored voxels in, a mask on the source's own grid out.

Voxels go up once, as they are stored; everything between is done on the device; labels come down.
Three streams work at the same time: one feeds the network with the next batch, one runs it and adds
up what it says, one copies finished slices of the mask.

The order of windows and of sums is fixed and no thread adds to another's float, so the same input
gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from dicom_node.errors import DeviceFull, EngineError, StudyUnusable
from dicom_node.infer.blocks import Intensity, Locate, Model, Scale, VolumeInput
from dicom_node.infer.gpu.answers import Answers
from dicom_node.infer.gpu.axes import Box, Route, route, route_on_grid, to_grid_axes
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.gpu.feed import Bench, Feed
from dicom_node.infer.gpu.kernels import STORED_TYPES, Kernels
from dicom_node.infer.gpu.mask import Mask
from dicom_node.infer.gpu.memory import CHUNK_BYTES, Budget, Plan, has_percentiles, plans
from dicom_node.infer.gpu.network import DeviceNetwork
from dicom_node.infer.gpu.stages import Stages
from dicom_node.infer.gpu.staging import Staging
from dicom_node.infer.gpu.task import Task, task
from dicom_node.infer.volume import Placement
from dicom_node.infer.voxels import Voxels

log = structlog.get_logger()

T = TypeVar("T")
_FLOATING = ("float32", "float16")


class GpuPath:
    """The whole way of one engine's volumes on one device.

    Parameters
    ----------
    device : Device
    kernels : Kernels
        Loaded on it.
    networks : sequence of DeviceNetwork
        Loaded on it; more than one are an ensemble, of which the answers are averaged.
    volume, model, intensity
        The manifest's blocks; a `Locate` for the network that only finds where to look.
    thresholds : sequence of float
        Of independent classes, by channel, in the numbers that the network gives.
    budget : Budget
        Of the device; one for all engines on it.

    Raises
    ------
    EngineError
        If the networks do not fit the manifest or each other.
    EngineUnavailable
        If the device cannot now.
    """

    def __init__(
        self,
        device: Device,
        kernels: Kernels,
        networks: Sequence[DeviceNetwork],
        volume: VolumeInput,
        model: Model | Locate,
        intensity: Intensity,
        *,
        thresholds: Sequence[float] = (),
        budget: Budget,
    ) -> None:
        self._device = device
        self._kernels = kernels
        self._networks = tuple(networks)
        self._volume = volume
        self._model = model
        self._intensity = intensity
        self._thresholds = tuple(thresholds)
        self._budget = budget
        _check(self._networks, model, self._thresholds)
        self._own = ExitStack()
        device.call(self._prepare)

    def labels(
        self,
        voxels: Voxels,
        placement: Placement,
        *,
        box: Box | None = None,
        thresholds: Sequence[float] | None = None,
        stages_ms: dict[str, float] | None = None,
    ) -> NDArray[Any]:
        """Return what the engine sees, on the source's grid.

        Parameters
        ----------
        voxels : Voxels
        placement : Placement
        box : tuple of slice, optional
            Of the network's grid: where to look; outside is background.
        thresholds : sequence of float, optional
            For this volume, in place of those that the path was made with; as many.
        stages_ms : dict, optional
            Is filled with the milliseconds of each stage, which costs a little time itself.

        Returns
        -------
        numpy.ndarray
            The network's labels, or channels, uint8, shape (slices, rows, columns); of independent
            classes bool, shape (classes, slices, rows, columns).

        Raises
        ------
        StudyUnusable
            If there is nothing to look at: no contrast, all air, smaller than a window.
        DeviceFull
            If not even slabs fit into the memory that is left: the processor has to do it.
        DeviceLost
            If the process has to end.
        EngineUnavailable, EngineError
            If the device or a network fails.
        """
        intensity = self._intensity
        if box is not None and has_percentiles(intensity):
            # They are those of the whole volume, of which the box shows a part.
            intensity = replace(intensity, scale=self._levels(voxels, placement))
        todo = self._task(voxels, route(placement, box), intensity)
        if thresholds is not None and self._thresholds:
            todo = replace(todo, thresholds=tuple(thresholds))
        return self._masked(todo, voxels, stages_ms)

    def on_grid(self, voxels: Voxels, placement: Placement) -> NDArray[np.uint8]:
        """Return labels on the network's own grid, for what looks where to look.

        Raises
        ------
        EngineError
            As `labels`.
        """
        todo = self._task(voxels, route_on_grid(placement), self._intensity)
        there = self._masked(todo, voxels, None)
        return np.ascontiguousarray(to_grid_axes(there, placement))

    def close(self) -> None:
        """Free what is kept between two volumes; the networks are the caller's."""
        self._device.call(self._own.close)

    # -------------------------------------------------------- on the device's thread

    def _prepare(self) -> None:
        with ExitStack() as stack:
            device = self._device
            self._streams = [device.stream() for _ in range(3)]
            for stream in self._streams:
                stack.callback(stream.free)
            self._up = Staging(device, CHUNK_BYTES)
            stack.callback(self._up.free)
            self._down = Staging(device, CHUNK_BYTES)
            stack.callback(self._down.free)
            self._own = stack.pop_all()

    def _planned(self, todo: Task, function: Callable[[Plan, int], T]) -> T:
        """Return what a function makes in the first plan for which there is memory.

        Parameters
        ----------
        todo : Task
        function : callable
            Given a plan, and the address of the block that it is laid into.
        """
        least: Plan | None = None
        for plan in plans(todo, self._networks):
            if least is not None:
                log.info("gpu_memory_is_short", gpu=self._device.ordinal, trying=plan.in_words)
            least = plan
            if not self._budget.admit(plan.total_bytes):
                continue
            try:
                block = self._device.allocate(plan.total_bytes)
                try:
                    return function(plan, block.address)
                finally:
                    block.free()  # which waits for what still works in it
            except DeviceFull:
                """Somebody else has the memory: try with less of it."""
            finally:
                self._budget.release(plan.total_bytes)
        told = f"{least.total_bytes / 2**20:.0f} MiB" if least else "a schedule"
        raise DeviceFull(
            f"GPU {self._device.ordinal} has not the memory for this series: {told} at least",
            hint="it is done on the processor",
        )

    def _mask(
        self, plan: Plan, block: int, voxels: Voxels, stages_ms: dict[str, float] | None
    ) -> NDArray[Any]:
        feeding, inferring, copying = self._streams
        with ExitStack() as stack:
            stages = Stages(self._device, is_measuring=stages_ms is not None)
            stack.callback(stages.free)
            bench = Bench(self._device, self._kernels, plan, block, stages)
            feed = Feed(bench, voxels, self._up, feeding)
            answers = Answers(bench, self._networks, inferring)
            stack.callback(answers.free)
            count = len(self._networks) * len(plan.task.flips)
            mask = Mask(bench, count, self._down, inferring, copying)
            stack.callback(mask.free)
            feed.begin()
            asked = 0
            for step in plan.schedule.steps:
                feed.bring(step)
                answers.clear(step.clear)
                starts = feed.asked(step.windows)
                answers.ask(feed, feeding, step.windows[0], starts)
                asked += len(starts)
                mask.make(step.finish)
            self._down.settle()
            self._up.settle()
            if not asked:
                raise StudyUnusable(f"nothing but air: no voxel reaches {plan.task.skip_below:g}")
            if stages_ms is not None:
                for stream in self._streams:
                    stream.synchronize()
                stages_ms.update(stages.totals_ms())
            return mask.result

    # -------------------------------------------------------- before it

    def _task(self, voxels: Voxels, way: Route, intensity: Intensity) -> Task:
        stored = voxels.stored.dtype
        if stored.name not in STORED_TYPES:
            raise EngineError(f"stored values of type {stored} on a GPU")
        return task(way, stored, self._volume, self._model, intensity, self._thresholds)

    def _masked(
        self, todo: Task, voxels: Voxels, stages_ms: dict[str, float] | None
    ) -> NDArray[Any]:
        def make(plan: Plan, block: int) -> NDArray[Any]:
            return self._mask(plan, block, voxels, stages_ms)

        return self._device.call(lambda: self._planned(todo, make))

    def _levels(self, voxels: Voxels, placement: Placement) -> Scale | None:
        """Return the scale of the whole volume, its percentiles found."""
        whole = self._task(voxels, route(placement), self._intensity)
        # Nothing is asked of the network, so nothing has to be kept of what it says.
        todo = replace(whole, kind="labels", skip_below=None)

        def find(plan: Plan, block: int) -> Scale | None:
            bench = Bench(
                self._device, self._kernels, plan, block, Stages(self._device, is_measuring=False)
            )
            return Feed(bench, voxels, self._up, self._streams[0]).levels()

        return self._device.call(lambda: self._planned(todo, find))


def _check(
    networks: Sequence[DeviceNetwork], model: Model | Locate, thresholds: Sequence[float]
) -> None:
    """Raise EngineError if networks and manifest do not fit."""
    first = networks[0]
    labels = isinstance(model, Locate) or model.gives == "labels"
    if any((one.input, one.output) != (first.input, first.output) for one in networks):
        raise EngineError("the networks of an ensemble differ in their inputs or outputs")
    if first.input.dtype not in _FLOATING:
        raise EngineError(f"{first.input.name} is {first.input.dtype}, not floating point")
    if not labels and first.output.dtype not in _FLOATING:
        raise EngineError(f"{first.output.name} is {first.output.dtype}, not floating point")
    if labels and first.output.channels != 1:
        raise EngineError(f"{first.output.name} has {first.output.channels} channels for labels")
    if labels and (len(networks) > 1 or (isinstance(model, Model) and model.mirrors)):
        raise EngineError("labels cannot be averaged: no ensemble and no mirrors")
    if first.output.channels > 256:
        raise EngineError(f"{first.output.name} has {first.output.channels} channels, above 256")
    if len(thresholds) > first.output.channels:
        raise EngineError(f"{first.output.name} has fewer channels than there are thresholds")
    if isinstance(model, Model) and (model.classes_are == "independent") != bool(thresholds):
        raise EngineError("independent classes have thresholds, exclusive ones have none")
