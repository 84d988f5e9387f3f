"""All of TensorRT's interface that this package uses, typed: nothing else of it may be called.

TensorRT has no types for a checker, and a name that the next version drops is only missed on the
machine with the GPU. So every one of its objects is declared here, mypy keeps us to what is
declared, and a test looks every name up in the real classes of TensorRT 11. What only TensorRT 8.6
has is in no class here: the few places that want it ask by `getattr`, and the same test knows each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, SupportsInt

Dims = Sequence[int]


class ILogger(Protocol):
    """Where TensorRT's messages go; ours is made by `messages`."""

    def log(self, severity: SupportsInt, message: str, /) -> None: ...


class ParserError(Protocol):
    """Why a node of an ONNX file cannot be taken."""

    def desc(self) -> str: ...

    def node(self) -> int: ...


class OnnxParser(Protocol):
    """Reads an ONNX file into a network."""

    @property
    def num_errors(self) -> int: ...

    def parse(self, model: bytes, /) -> bool: ...

    def get_error(self, index: int, /) -> ParserError: ...


class INetworkDefinition(Protocol):
    """A network, before it is built; the parser fills it."""


class IOptimizationProfile(Protocol):
    """The shapes that a plan is made for."""

    def set_shape(self, name: str, smallest: Dims, usual: Dims, largest: Dims, /) -> None: ...


class IHostMemory(Protocol):
    """A plan or a timing cache as bytes."""

    def __buffer__(self, flags: int, /) -> memoryview: ...


class ITimingCache(Protocol):
    """What the builder measured, for the next build on this machine."""

    def serialize(self) -> IHostMemory: ...


class IBuilderConfig(Protocol):
    """How a network is built."""

    def set_flag(self, flag: Any, /) -> None: ...

    def clear_flag(self, flag: Any, /) -> None: ...

    def set_preview_feature(self, feature: Any, enable: bool, /) -> None: ...

    def set_memory_pool_limit(self, pool: Any, size_bytes: int, /) -> None: ...

    def add_optimization_profile(self, profile: IOptimizationProfile, /) -> int: ...

    def create_timing_cache(self, content: bytes, /) -> ITimingCache: ...

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool, /) -> bool: ...

    def get_timing_cache(self) -> ITimingCache | None: ...


class Builder(Protocol):
    """Makes a plan of a network."""

    def create_network(self, flags: int, /) -> INetworkDefinition: ...

    def create_builder_config(self) -> IBuilderConfig: ...

    def create_optimization_profile(self) -> IOptimizationProfile: ...

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig, /
    ) -> IHostMemory | None: ...


class IExecutionContext(Protocol):
    """One run at a time of a plan."""

    def set_input_shape(self, name: str, shape: Dims, /) -> bool: ...

    def get_tensor_shape(self, name: str, /) -> Dims: ...

    def set_tensor_address(self, name: str, address: int, /) -> bool: ...

    def execute_async_v3(self, stream_handle: int, /) -> bool: ...

    def set_optimization_profile_async(self, index: int, stream_handle: int, /) -> bool: ...

    def update_device_memory_size_for_shapes(self) -> int: ...

    def set_device_memory(self, address: int, size_bytes: int, /) -> None: ...


class ICudaEngine(Protocol):
    """A plan in the memory of a device."""

    @property
    def num_io_tensors(self) -> int: ...

    @property
    def device_memory_size_v2(self) -> int: ...

    def get_tensor_name(self, index: int, /) -> str: ...

    def get_tensor_mode(self, name: str, /) -> Any: ...

    def get_tensor_dtype(self, name: str, /) -> Any: ...

    def get_tensor_shape(self, name: str, /) -> Dims: ...

    def get_tensor_profile_shape(self, name: str, profile: int, /) -> Sequence[Dims]: ...

    def create_execution_context(self, strategy: Any = ..., /) -> IExecutionContext | None: ...


class Runtime(Protocol):
    """Brings plans onto a device."""

    def deserialize_cuda_engine(self, plan: bytes, /) -> ICudaEngine | None: ...


class BuilderFlag(Protocol):
    """Switches of a build."""

    TF32: Any


class MemoryPoolType(Protocol):
    """What memory a build may be limited in."""

    WORKSPACE: Any


class TensorIOMode(Protocol):
    """Which end of a network a tensor is."""

    INPUT: Any


class ExecutionContextAllocationStrategy(Protocol):
    """Who brings the scratch memory of an execution context."""

    USER_MANAGED: Any


class TensorRt(Protocol):
    """The module: `tensorrt` 8.6 to 11, or `tensorrt_rtx`."""

    __name__: str
    __version__: str
    BuilderFlag: BuilderFlag
    ExecutionContextAllocationStrategy: ExecutionContextAllocationStrategy
    MemoryPoolType: MemoryPoolType
    NetworkDefinitionCreationFlag: object
    """Asked by `getattr`: it has other names in each version."""
    PreviewFeature: object
    """The same."""
    TensorIOMode: TensorIOMode

    @property
    def ILogger(self) -> type: ...  # noqa: N802

    def Builder(self, logger: Logger, /) -> Builder: ...  # noqa: N802

    def OnnxParser(self, network: INetworkDefinition, logger: Logger, /) -> OnnxParser: ...  # noqa: N802

    def Runtime(self, logger: Logger, /) -> Runtime: ...  # noqa: N802

    def nptype(self, dtype: Any, /) -> type: ...


Logger = ILogger
