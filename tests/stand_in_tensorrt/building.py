"""Parser, builder, configuration: a plan is the ONNX file, and the shapes that it is made for."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import onnx

from tests.stand_in_tensorrt.faults import Faults

MAGIC = b"stand-in plan\n"
UNSUPPORTED = {"Det", "NonMaxSuppression", "Unique"}

Dims = Sequence[int]


class ParserError:
    def __init__(self, node: int, desc: str) -> None:
        self._node, self._desc = node, desc

    def node(self) -> int:
        return self._node

    def desc(self) -> str:
        return self._desc


class INetworkDefinition:
    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.content = b""


class OnnxParser:
    def __init__(self, faults: Faults, network: INetworkDefinition) -> None:
        self._faults, self._network = faults, network
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def parse(self, model: bytes) -> bool:
        if self._faults.step("OnnxParser.parse"):
            self._errors = [ParserError(-1, "injected")]
            return False
        nodes = onnx.load_from_string(model).graph.node
        self._errors = [
            ParserError(index, "false")
            for index, node in enumerate(nodes)
            if node.op_type in UNSUPPORTED
        ]
        self._network.content = model
        return not self._errors


class IHostMemory(bytes):
    @property
    def nbytes(self) -> int:
        return len(self)


class ITimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> IHostMemory:
        return IHostMemory(self.content)


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[list[int]]] = {}

    def set_shape(self, name: str, smallest: Dims, usual: Dims, largest: Dims) -> None:
        self.shapes[name] = [list(smallest), list(usual), list(largest)]


class IBuilderConfig:
    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self.flags = {"TF32"}
        self.features: set[str] = set()
        self.pools: dict[str, int] = {}
        self.profiles: list[IOptimizationProfile] = []
        self._timing: ITimingCache | None = None

    def set_flag(self, flag: str) -> None:
        self._faults.step(f"IBuilderConfig.set_flag {flag}")
        self.flags.add(flag)

    def clear_flag(self, flag: str) -> None:
        self._faults.step(f"IBuilderConfig.clear_flag {flag}")
        self.flags.discard(flag)

    def set_preview_feature(self, feature: str, enable: bool) -> None:
        self._faults.step(f"IBuilderConfig.set_preview_feature {feature}")
        (self.features.add if enable else self.features.discard)(feature)

    def set_memory_pool_limit(self, pool: str, size_bytes: int) -> None:
        self._faults.step("IBuilderConfig.set_memory_pool_limit")
        self.pools[pool] = size_bytes

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        if self._faults.step("IBuilderConfig.add_optimization_profile"):
            return -1
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, content: bytes) -> ITimingCache:
        return ITimingCache(content)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if ignore_mismatch or cache.content.startswith(b"of another"):
            return False
        self._timing = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._timing


class Builder:
    """Its plans say under which flags they were built."""

    def __init__(self, faults: Faults, version: str) -> None:
        self._faults, self._version = faults, version

    def create_network(self, flags: int) -> INetworkDefinition:
        self._faults.step("Builder.create_network")
        return INetworkDefinition(flags)

    def create_builder_config(self) -> IBuilderConfig:
        self._faults.step("Builder.create_builder_config")
        return IBuilderConfig(self._faults)

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None:
        if self._faults.step("Builder.build_serialized_network"):
            return None
        if (cache := config.get_timing_cache()) is not None:
            cache.content += b"measured;"
        about: dict[str, Any] = {
            "version": self._version,
            "network_flags": network.flags,
            "flags": sorted(config.flags),
            "features": sorted(config.features),
            "pools": config.pools,
            "profile": config.profiles[0].shapes if config.profiles else {},
            "onnx": base64.b64encode(network.content).decode(),
        }
        return IHostMemory(MAGIC + json.dumps(about).encode())
