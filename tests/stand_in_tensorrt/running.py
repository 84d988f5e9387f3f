"""Plans at work, on the addresses that they are given, in the order of a stream."""

from __future__ import annotations

import base64
import ctypes
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from tests.stand_in_tensorrt.building import MAGIC
from tests.stand_in_tensorrt.faults import Faults

OnStream = Callable[[int, Callable[[], None]], None]
Dims = Sequence[int]

SCRATCH_BYTES = 4096
_SCRATCH_BYTES_A_SAMPLE = 512


class Runtime:
    def __init__(self, faults: Faults, version: str, old: bool, on_stream: OnStream) -> None:
        self._faults, self._version, self._old, self._on_stream = faults, version, old, on_stream

    def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
        if self._faults.step("Runtime.deserialize_cuda_engine"):
            return None
        if not plan.startswith(MAGIC):
            self._faults.log(1, "Serialization assertion plan header magic failed.")
            return None
        about = json.loads(plan[len(MAGIC) :])
        if about["version"] != self._version:
            self._faults.log(1, f"the plan is of version {about['version']}")
            return None
        kind = OldCudaEngine if self._old else ICudaEngine
        return kind(self._faults, about, self._on_stream)


class _Engine:
    def __init__(self, faults: Faults, about: dict[str, Any], on_stream: OnStream) -> None:
        self.faults, self.on_stream = faults, on_stream
        self.profile: dict[str, list[list[int]]] = about["profile"]
        self.features: list[str] = about["features"]
        content = base64.b64decode(about["onnx"])
        graph = onnx.load_from_string(content).graph
        self.ends: dict[str, Any] = {
            end.name: end.type.tensor_type for end in (*graph.input, *graph.output)
        }
        self.inputs = [str(end.name) for end in graph.input]
        self.outputs = [str(end.name) for end in graph.output]
        self.depends_on_data = any(node.op_type == "NonZero" for node in graph.node)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(content, options)
        self.contexts = 0
        self._known: dict[tuple[tuple[str, tuple[int, ...]], ...], dict[str, list[int]]] = {}

    def _output_shapes(self, shapes: dict[str, tuple[int, ...]]) -> dict[str, list[int]]:
        key = tuple(sorted(shapes.items()))
        if key not in self._known:
            feeds = {
                name: np.zeros(shape, _dtype(self.get_tensor_dtype(name)))
                for name, shape in shapes.items()
            }
            answers = self.session.run(self.outputs, feeds)
            shaped = [list(answer.shape) for answer in answers]
            self._known[key] = dict(zip(self.outputs, shaped, strict=True))
        return self._known[key]

    @property
    def num_io_tensors(self) -> int:
        return len(self.ends)

    def get_tensor_name(self, index: int) -> str:
        return list(self.ends.keys())[index]

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if name in self.inputs else "OUTPUT"

    def get_tensor_dtype(self, name: str) -> int:
        return int(self.ends[name].elem_type)

    def get_tensor_shape(self, name: str) -> list[int]:
        return [side.dim_value or -1 for side in self.ends[name].shape.dim]

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
        assert profile == 0
        return self.profile[name]


class ICudaEngine(_Engine):
    @property
    def device_memory_size_v2(self) -> int:
        return SCRATCH_BYTES

    def create_execution_context(self, strategy: str = "STATIC") -> IExecutionContext | None:
        if self.faults.step("ICudaEngine.create_execution_context"):
            return None
        return IExecutionContext(self, strategy == "USER_MANAGED")


class OldCudaEngine(_Engine):
    """As TensorRT 8.6 has it: contexts bring their memory, and only the first has a profile."""

    device_memory_size = SCRATCH_BYTES

    def create_execution_context(self) -> _Context | None:
        if self.faults.step("ICudaEngine.create_execution_context"):
            return None
        self.contexts += 1
        has_profile = self.contexts == 1 or "PROFILE_SHARING_0806" in self.features
        return _Context(self, self.contexts == 1, may_share=has_profile)


class _Context:
    def __init__(self, engine: _Engine, has_profile: bool, may_share: bool = True) -> None:
        self._engine, self._faults = engine, engine.faults
        self._has_profile = has_profile or not engine.profile
        self._may_share = may_share
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, index: int, stream_handle: int) -> bool:
        if self._faults.step("IExecutionContext.set_optimization_profile_async"):
            return False
        self._has_profile = index == 0 and self._may_share
        return self._has_profile

    def set_input_shape(self, name: str, shape: Dims) -> bool:
        if self._faults.step("IExecutionContext.set_input_shape") or not self._has_profile:
            return False
        planned = self._engine.get_tensor_shape(name)
        low, _, high = self._engine.profile.get(name, [planned, planned, planned])
        if len(shape) != len(low) or not all(
            a <= b <= c for a, b, c in zip(low, shape, high, strict=True)
        ):
            self._faults.log(1, f"{name}: {tuple(shape)} is outside of the profile")
            return False
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> list[int]:
        """Return the shape of an output by running the network on nothing, once for each shape."""
        if self._engine.depends_on_data:
            return [-1 for _ in self._engine.get_tensor_shape(name)]
        return self._engine._output_shapes(self._shapes)[name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        if self._faults.step("IExecutionContext.set_tensor_address"):
            return False
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self._faults.step("IExecutionContext.execute_async_v3") or not self._is_ready():
            return False
        engine, addresses, shapes = self._engine, dict(self._addresses), dict(self._shapes)
        scratch = self._scratch()

        def compute() -> None:
            # In this order, so that what overlaps is seen.
            feeds = {
                name: _at(addresses[name], shapes[name], engine.get_tensor_dtype(name)).copy()
                for name in engine.inputs
            }
            if scratch is not None:
                scratch[:] = 0x5A
            answers = engine.session.run(engine.outputs, feeds)
            for name, answer in zip(engine.outputs, answers, strict=True):
                tampered = engine.faults.tamper(name, answer)
                _at(addresses[name], answer.shape, engine.get_tensor_dtype(name))[:] = tampered

        try:
            engine.on_stream(stream_handle, compute)
        except RuntimeError as error:  # as TensorRT tells of an error of the driver's
            self._faults.log(1, str(error))
            return False
        return True

    def _is_ready(self) -> bool:
        ready = set(self._addresses) == set(self._engine.ends)
        if not ready:
            self._faults.log(1, "addresses are missing")
        return ready

    def _scratch(self) -> NDArray[np.uint8] | None:
        return None


class IExecutionContext(_Context):
    def __init__(self, engine: _Engine, user_managed: bool) -> None:
        super().__init__(engine, has_profile=True)
        self._user_managed = user_managed
        self._memory = (0, 0)

    def update_device_memory_size_for_shapes(self) -> int:
        if self._faults.step("IExecutionContext.update_device_memory_size_for_shapes"):
            return 0
        sides = next(iter(self._shapes.values()))
        return min(SCRATCH_BYTES, _SCRATCH_BYTES_A_SAMPLE * sides[0])

    def set_device_memory(self, address: int, size_bytes: int) -> None:
        self._faults.step("IExecutionContext.set_device_memory")
        self._memory = (address, size_bytes)

    def _is_ready(self) -> bool:
        needed = min(SCRATCH_BYTES, _SCRATCH_BYTES_A_SAMPLE * next(iter(self._shapes.values()))[0])
        if self._user_managed and self._memory[1] < needed:
            self._faults.log(1, f"{self._memory[1]} bytes of scratch memory, {needed} are needed")
            return False
        return super()._is_ready()

    def _scratch(self) -> NDArray[np.uint8] | None:
        address, size_bytes = self._memory
        needed = min(size_bytes, _SCRATCH_BYTES_A_SAMPLE * next(iter(self._shapes.values()))[0])
        return _bytes(address, needed) if self._user_managed else None


def _dtype(element: int) -> np.dtype[Any]:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element))


def _at(address: int, shape: Dims, element: int) -> NDArray[Any]:
    dtype = _dtype(element)
    return _bytes(address, math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)


def _bytes(address: int, size_bytes: int) -> NDArray[np.uint8]:
    memory = (ctypes.c_uint8 * size_bytes).from_address(address)
    return np.ctypeslib.as_array(memory)
