"""The machines that the suites of kernels and of the path run on: the fake driver, a real GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import EngineUnavailable
from dicom_node.infer.gpu import nvrtc
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.gpu.kernels import Compile, source
from dicom_node.infer.gpu.network import ElementType, End, Shape
from tests.fake_cuda.build import build_kernels
from tests.fake_cuda.fake import FakeCuda

Answer = Callable[[NDArray[np.float32]], NDArray[Any]]
"""What a network says of a batch: (b, c, ...) to (b, classes, ...)."""

OnStream = Callable[[int, Callable[[], None]], None]


class Machine(Protocol):
    """Where a suite runs."""

    @property
    def compile_source(self) -> Compile: ...

    def device(self, ordinal: int = 0) -> Device: ...

    def read(self, address: int, shape: Shape, dtype: str) -> NDArray[Any]:
        """Return what lies in the device's memory, now."""

    def write(self, address: int, values: NDArray[Any]) -> None:
        """Put something into the device's memory, now."""

    def on_stream(self, stream: int, function: Callable[[], None]) -> None:
        """Do something that reads and writes the device's memory in its turn on a stream."""


class FakeMachine:
    """The fake driver; its device's memory is ours."""

    def __init__(self, fake: FakeCuda) -> None:
        self.fake = fake

    def compile_source(self, _: str, __: str) -> bytes:
        return build_kernels(source(for_device=False))

    def device(self, ordinal: int = 0) -> Device:
        return Device(ordinal)

    def read(self, address: int, shape: Shape, dtype: str) -> NDArray[Any]:
        return _there(address, shape, dtype).copy()

    def write(self, address: int, values: NDArray[Any]) -> None:
        _there(address, values.shape, values.dtype.name)[...] = values

    def on_stream(self, stream: int, function: Callable[[], None]) -> None:
        try:
            self.fake.on_stream(stream, function)
        except RuntimeError as error:
            raise EngineUnavailable(f"the played network fails: {error}") from error


class RealMachine:
    """A GPU. What a played network does waits for the stream: right, and slow."""

    compile_source = staticmethod(partial(nvrtc.compiled, cache_dir=None))

    def device(self, ordinal: int = 0) -> Device:
        return Device(ordinal)

    def read(self, address: int, shape: Shape, dtype: str) -> NDArray[Any]:
        import pycuda.driver as cuda

        found = np.empty(shape, dtype)
        cuda.memcpy_dtoh(found, address)
        return found

    def write(self, address: int, values: NDArray[Any]) -> None:
        import pycuda.driver as cuda

        cuda.memcpy_htod(address, np.ascontiguousarray(values))

    def on_stream(self, stream: int, function: Callable[[], None]) -> None:
        import pycuda.driver as cuda

        cuda.Context.synchronize()
        function()


@dataclass
class PlayedNetwork:
    """A network that is a function of numpy's, on the addresses that it is given."""

    machine: Machine
    answer: Answer
    input: End
    output: End
    batch_max: int = 4
    scratch: int = 1000
    resident_bytes: int = 0
    shapes: list[Shape] = field(default_factory=list)
    """Of all that it was asked."""
    block: tuple[int, int] = (0, 0)

    def scratch_bytes(self, shape: Shape) -> int:
        return self.scratch * shape[0]

    def use_scratch(self, address: int, size_bytes: int) -> None:
        self.block = (address, size_bytes)

    def enqueue(self, shape: Shape, input_address: int, output_address: int, stream: int) -> None:
        if self.block[1] < self.scratch_bytes(shape):
            raise EngineUnavailable("the block to work in is too small")
        self.shapes.append(shape)

        def run() -> None:
            shown = self.machine.read(input_address, shape, self.input.dtype)
            said = self.answer(shown.astype(np.float32)).astype(self.output.dtype)
            assert said.shape == (shape[0], self.output.channels, *shape[2:])
            self.machine.write(output_address, said)
            # What it works in is its own to write, all of it.
            self.machine.write(self.block[0], np.full(self.block[1], 0xAB, np.uint8))

        self.machine.on_stream(stream, run)

    def close(self) -> None:
        """Nothing is held."""


def played(
    machine: Machine,
    answer: Answer,
    channels: int,
    *,
    slab_slices: int = 1,
    input_type: ElementType = "float32",
    output_type: ElementType = "float32",
    batch_max: int = 4,
) -> PlayedNetwork:
    """Return a network that is played."""
    return PlayedNetwork(
        machine,
        answer,
        End("in", input_type, slab_slices),
        End("out", output_type, channels),
        batch_max=batch_max,
    )


def _there(address: int, shape: Shape, dtype: str) -> NDArray[Any]:
    count = int(np.prod(shape))
    size = count * np.dtype(dtype).itemsize
    memory = memoryview((ctypes.c_char * size).from_address(address))
    return np.frombuffer(memory, np.dtype(dtype)).reshape(shape)
