"""A plan in the memory of a device, and what runs it.

All of it is used on the device's own thread. One `Loaded` holds the weights; each stream that runs
it at the same time as another has a `Context` of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dicom_node.errors import EngineError, EngineUnavailable
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.plans.api import ICudaEngine, IExecutionContext, Runtime
from dicom_node.infer.plans.library import Library
from dicom_node.infer.runtimes.port import Profile, Shape


@dataclass(frozen=True)
class Tensor:
    """One end of a network."""

    name: str
    dtype: np.dtype[Any]
    shape: Shape
    """-1 where it is open."""
    profile: Profile | None
    """Of an input with an open axis."""

    def size_bytes(self, shape: Shape) -> int:
        """Return how much memory it takes in this shape."""
        return int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize


class Loaded:
    """A plan on a device.

    Parameters
    ----------
    library : Library
    device : Device
    plan : bytes
    name : str
        Of the model, for messages.

    Raises
    ------
    EngineError
        If TensorRT does not take the plan.
    DeviceFull
        If the device has no room for it.
    """

    def __init__(self, library: Library, device: Device, plan: bytes, name: str) -> None:
        device.check_thread()
        self.library = library
        self.device = device
        self.name = name
        self.resident_bytes = len(plan)
        """Of the device's memory, about: the plan is its weights and kernels."""
        what = f"the plan of {name} cannot be loaded by {library.title}"
        with library.working(what) as heard:
            runtime = library.trt.Runtime(library.logger)
            # The engine does not keep it alive in every version.
            self._runtime: Runtime | None = runtime
            engine = runtime.deserialize_cuda_engine(plan)
            if engine is None:
                raise library.failure(what, heard.errors)
            self._engine: ICudaEngine | None = engine
            tensors = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
            of_inputs = library.trt.TensorIOMode.INPUT
            is_input = {one: engine.get_tensor_mode(one) == of_inputs for one in tensors}
            self.inputs = tuple(self._tensor(one, True) for one in tensors if is_input[one])
            self.outputs = tuple(self._tensor(one, False) for one in tensors if not is_input[one])

    @property
    def engine(self) -> ICudaEngine:
        if self._engine is None:
            raise EngineError(f"the plan of {self.name} is closed")
        return self._engine

    def context(self) -> Context:
        """Return what runs it on one stream at a time."""
        return Context(self)

    def close(self) -> None:
        """Free it, when its contexts are closed; may be called twice."""
        self.device.check_thread()
        self._engine = None
        self._runtime = None

    def _tensor(self, name: str, is_input: bool) -> Tensor:
        engine = self.engine
        shape = tuple(engine.get_tensor_shape(name))
        profile = None
        if is_input and -1 in shape:
            low, usual, high = engine.get_tensor_profile_shape(name, 0)
            profile = Profile(tuple(low), tuple(usual), tuple(high))
        dtype = np.dtype(self.library.trt.nptype(engine.get_tensor_dtype(name)))
        return Tensor(name, dtype, shape, profile)


class Context:
    """One run at a time of a plan.

    Where TensorRT lets it be (10.1 and later), it works in a block of memory that is given to it,
    so that networks which never run at once can share one.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._what = f"{loaded.name} cannot be run by {loaded.library.title}"
        self._shapes: Mapping[str, Shape] = {}
        self._output_shapes: Mapping[str, Shape] = {}
        self._needed = 0
        self._scratch = (0, 0)
        engine = loaded.engine
        self.takes_scratch = hasattr(engine, "device_memory_size_v2")
        self.own_bytes: int = 0 if self.takes_scratch else getattr(engine, "device_memory_size", 0)
        """Scratch memory that it brings itself, for as long as it is open."""
        with loaded.library.working(self._what) as heard:
            context = (
                engine.create_execution_context(
                    loaded.library.trt.ExecutionContextAllocationStrategy.USER_MANAGED
                )
                if self.takes_scratch
                else engine.create_execution_context()
            )
            if context is None:
                raise loaded.library.failure(self._what, heard.errors)
            self._context: IExecutionContext | None = context
            # TensorRT 8.6 gives a plan's profile to its first context only, later ones to each.
            if any(one.profile for one in loaded.inputs):
                context.set_optimization_profile_async(0, 0)

    def shape(self, shapes: Mapping[str, Shape]) -> Mapping[str, Shape]:
        """Set the shape of every input; return those of the outputs.

        Raises
        ------
        EngineError
            If the plan was not made for them, or an output's shape depends on the data.
        """
        if self._shapes == shapes:
            return self._output_shapes
        self._shapes = {}
        with self._loaded.library.working(self._what) as heard:
            context = self._open()
            for name, shape in shapes.items():
                if not context.set_input_shape(name, shape):
                    raise self._loaded.library.failure(
                        f"{self._what} with {name} of shape {shape}", heard.errors
                    )
            found = {one.name: tuple(context.get_tensor_shape(one.name)) for one in self._outputs}
            for name, shape in found.items():
                if -1 in shape:
                    raise EngineError(
                        f"{self._what}: the shape of {name} depends on the data, not on shapes"
                    )
            if self.takes_scratch:
                # 0 also where it cannot tell; the other number is enough for every shape.
                updated = context.update_device_memory_size_for_shapes()
                self._needed = updated or self._loaded.engine.device_memory_size_v2
        self._shapes, self._output_shapes = dict(shapes), found
        self._give_scratch()
        return found

    @property
    def scratch_bytes(self) -> int:
        """What it works in with the shapes that were set last; 0 where it brings its own."""
        return self._needed

    def use_scratch(self, address: int, size_bytes: int) -> None:
        """Work in this block from now on."""
        self._scratch = (address, size_bytes)
        self._give_scratch()

    def enqueue(self, addresses: Mapping[str, int], stream: int) -> None:
        """Put one run on a stream; return before it is done.

        Parameters
        ----------
        addresses : mapping of str to int
            Of every input and output.
        stream : int
            Its handle.

        Raises
        ------
        EngineUnavailable
            If TensorRT does not; also where it cannot be recorded as a graph.
        """
        size_bytes = self._scratch[1]
        if self._needed > size_bytes:
            raise EngineError(f"{self._what}: it works in {self._needed} bytes, not {size_bytes}")
        with self._loaded.library.working(self._what) as heard:
            context = self._open()
            for name, tensor_address in addresses.items():
                if not context.set_tensor_address(name, tensor_address):
                    raise self._loaded.library.failure(f"{self._what}: {name}", heard.errors)
            if not context.execute_async_v3(stream):
                self._loaded.device.free_bytes()  # raises DeviceLost where that is the reason
                raise self._loaded.library.failure(self._what, heard.errors, EngineUnavailable)

    def close(self) -> None:
        """Free it; may be called twice."""
        self._loaded.device.check_thread()
        self._context = None

    @property
    def _outputs(self) -> tuple[Tensor, ...]:
        return self._loaded.outputs

    def _open(self) -> IExecutionContext:
        self._loaded.device.check_thread()
        if self._context is None:
            raise EngineError(f"{self._what}: it is closed")
        return self._context

    def _give_scratch(self) -> None:
        address, size_bytes = self._scratch
        if self.takes_scratch and address and size_bytes >= self._needed:
            with self._loaded.library.working(self._what):
                self._open().set_device_memory(address, size_bytes)
