"""A plan as any other runtime: arrays in, arrays out, from any thread."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from dicom_node.errors import DeviceFull, EngineError
from dicom_node.infer.gpu.network import DeviceNetwork
from dicom_node.infer.gpu.resources import Buffer
from dicom_node.infer.plans.desk import Desk, give_back
from dicom_node.infer.plans.loaded import Loaded
from dicom_node.infer.plans.loaded import Tensor as LoadedTensor
from dicom_node.infer.plans.network import PlanNetwork
from dicom_node.infer.runtimes.ends import Ends, Tensor, check_given
from dicom_node.infer.runtimes.port import Arrays, Shape

_DESKS_MAX = 3
"""Sets of shapes for which buffers are kept: full batches, the last of a volume, one more."""

_RUNS_TO_WARM = 3
"""The first; the one that is recorded; the first that is replayed."""

_Shapes = tuple[tuple[str, Shape], ...]


class TensorRtRuntime:
    """A plan on a device; see `port.Runtime`.

    Batches that are larger than the plan was made for are run in parts.

    Parameters
    ----------
    loaded : Loaded
        It is closed with this runtime.
    description : str
        For reports: TensorRT's version, the device, the precision.
    """

    def __init__(self, loaded: Loaded, description: str) -> None:
        self.description = description
        self.inputs = tuple(tensor.name for tensor in loaded.inputs)
        self.outputs = tuple(tensor.name for tensor in loaded.outputs)
        self.device = loaded.device
        self._loaded = loaded
        self._ends = Ends(_declared(loaded.inputs), _declared(loaded.outputs))
        self._stream = loaded.device.call(loaded.device.stream)
        self._desks: OrderedDict[_Shapes, Desk] = OrderedDict()
        self._scratch: Buffer | None = None
        self._is_closed = False

    def run(self, inputs: Arrays) -> Arrays:
        """Return all outputs by name; see `port.Runtime.run`."""
        self._check(inputs)
        batch = max((array.shape[0] for array in inputs.values() if array.ndim), default=0)
        at_once = self._batch_max(inputs) or batch
        if batch <= at_once:
            return self.device.call(partial(self._run, inputs))
        parts = []
        for first in range(0, batch, at_once):
            part = {name: array[first : first + at_once] for name, array in inputs.items()}
            parts.append(self.device.call(partial(self._run, part)))
        for name in self.outputs:
            if any(len(part[name]) not in (at_once, batch % at_once) for part in parts):
                raise EngineError(
                    f"{self._loaded.name} takes {at_once} at once of {batch}, but {name} cannot be "
                    "put together from the answers to parts"
                )
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}

    def warm_up(self) -> None:
        """Run it on nothing, in the shapes that it is tuned for, until it is as fast as it gets.

        Raises
        ------
        EngineError, DeviceFull, DeviceLost
        """
        shapes = {t.name: t.profile.usual if t.profile else t.shape for t in self._loaded.inputs}
        zeros = {t.name: np.zeros(shapes[t.name], t.dtype) for t in self._loaded.inputs}
        for _ in range(_RUNS_TO_WARM):
            self.run(zeros)

    def on_device(self, output: str) -> DeviceNetwork:
        """Return the same plan for the path on the device; close it before this runtime.

        Raises
        ------
        EngineError
            If the path cannot use it: see `PlanNetwork`.
        """
        return self.device.call(lambda: PlanNetwork(self._loaded, output))

    def close(self) -> None:
        """Free what it holds; may be called twice."""
        if not self._is_closed:
            self._is_closed = True
            self.device.call(self._free)

    # -------------------------------------------------------- on the device's thread

    def _run(self, inputs: Arrays) -> Arrays:
        key = tuple((name, inputs[name].shape) for name in self.inputs)
        desk = self._desks.get(key)
        if desk is None:
            desk = self._new_desk(key)
        self._desks.move_to_end(key)
        return desk.run(inputs)

    def _new_desk(self, key: _Shapes) -> Desk:
        while len(self._desks) >= _DESKS_MAX:
            self._desks.popitem(last=False)[1].free()
        try:
            desk = self._set_up(dict(key))
        except DeviceFull:
            self._free_desks()  # what was kept for other shapes, and may be all that is needed
            desk = self._set_up(dict(key))
        self._desks[key] = desk
        return desk

    def _set_up(self, shapes: Mapping[str, Shape]) -> Desk:
        desk = Desk(self._loaded, shapes, self._stream)
        try:
            self._share_scratch(desk)
        except BaseException:
            desk.free()
            raise
        return desk

    def _share_scratch(self, desk: Desk) -> None:
        """Let it work in the block of all desks, which never run at once; make it large enough."""
        needed = desk.context.scratch_bytes
        if self._scratch is None or self._scratch.size_bytes < needed:
            self._free_desks()  # they refer to the block that goes now
            self._scratch = self.device.allocate(max(1, needed))
        desk.context.use_scratch(self._scratch.address, self._scratch.size_bytes)

    def _free_desks(self) -> None:
        for desk in self._desks.values():
            desk.free()
        self._desks.clear()
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            give_back(scratch)

    def _free(self) -> None:
        self._free_desks()
        give_back(self._stream)
        self._loaded.close()

    # -------------------------------------------------------- checks

    def _check(self, inputs: Arrays) -> None:
        if self._is_closed:
            raise EngineError(f"{self._loaded.name} was closed")
        check_given(self._loaded.name, self._ends, inputs)

    def _batch_max(self, inputs: Arrays) -> int:
        """Return how many samples can be run at once; 0 where there is no batch to be divided."""
        sizes = {array.shape[:1] for array in inputs.values()}
        limits = [t.profile.largest[0] for t in self._loaded.inputs if t.profile is not None]
        return min(limits) if len(sizes) == 1 and len(limits) == len(inputs) else 0


def _declared(tensors: Sequence[LoadedTensor]) -> tuple[Tensor, ...]:
    """Return the tensors of a plan as those of a file; -1 is an open axis there."""
    return tuple(
        Tensor(each.name, each.dtype, tuple("" if side < 0 else side for side in each.shape))
        for each in tensors
    )
