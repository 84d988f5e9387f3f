"""The buffers of one run: arrays of the host in, arrays of the host out.

All of it is used on the device's own thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import numpy as np

from dicom_node.errors import EngineUnavailable
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.gpu.graphs import Replay
from dicom_node.infer.gpu.resources import Buffer, Owned, Pinned, Stream
from dicom_node.infer.plans.loaded import Context, Loaded, Tensor
from dicom_node.infer.runtimes.port import Arrays, Shape


def give_back(*things: Owned) -> None:
    """Free all of these; what a device that is lost does not take goes with its context."""
    for thing in things:
        with suppress(EngineUnavailable):
            thing.free()


class _End:
    """An input or output in one shape, on both sides."""

    def __init__(self, device: Device, tensor: Tensor, shape: Shape) -> None:
        self.tensor = tensor
        self.on_device: Buffer = device.allocate(max(1, tensor.size_bytes(shape)))
        try:
            self.on_host: Pinned = device.pinned(shape, tensor.dtype)
        except BaseException:
            give_back(self.on_device)
            raise

    def free(self) -> None:
        give_back(self.on_host, self.on_device)


class Desk:
    """Everything that a plan needs to run with inputs of certain shapes, kept for the next run.

    Parameters
    ----------
    loaded : Loaded
    shapes : mapping of str to tuple of int
        Of every input.
    stream : Stream

    Raises
    ------
    EngineError
        If the plan was not made for these shapes.
    DeviceFull
        If there is no room; nothing of it stays allocated.
    """

    def __init__(self, loaded: Loaded, shapes: Mapping[str, Shape], stream: Stream) -> None:
        self._stream = stream
        self._device = loaded.device
        self._inputs: list[_End] = []
        self._outputs: list[_End] = []
        self.context: Context = loaded.context()
        self._replay = Replay(loaded.device, stream, self._enqueue)
        try:
            of_outputs = self.context.shape(shapes)
            for tensor in loaded.inputs:
                self._inputs.append(_End(loaded.device, tensor, shapes[tensor.name]))
            for tensor in loaded.outputs:
                self._outputs.append(_End(loaded.device, tensor, of_outputs[tensor.name]))
        except BaseException:
            self.free()
            raise
        ends = (*self._inputs, *self._outputs)
        self._addresses = {end.tensor.name: end.on_device.address for end in ends}

    def run(self, inputs: Arrays) -> Arrays:
        """Return the outputs, in new arrays."""
        for end in self._inputs:
            np.copyto(end.on_host.array, inputs[end.tensor.name], casting="same_kind")
            self._device.upload(end.on_device.address, end.on_host.array, self._stream)
        self._replay()
        for end in self._outputs:
            self._device.download(end.on_host.array, end.on_device.address, self._stream)
        self._stream.synchronize()
        return {end.tensor.name: end.on_host.array.copy() for end in self._outputs}

    def free(self) -> None:
        """Free it all; may be called twice."""
        self._replay.free()
        self.context.close()
        for end in (*self._inputs, *self._outputs):
            end.free()

    def _enqueue(self) -> None:
        self.context.enqueue(self._addresses, self._stream.handle)
