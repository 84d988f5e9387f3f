"""What the infer stage asks of a runtime: one loaded network, arrays in, arrays out.

A runtime is a module of this folder with a `KIND`: it says whether it is available, and what is
missing, before anything is loaded. `registry.py` knows them all; no other module imports one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
Shape = tuple[int, ...]

NO_NETWORK = "null: answers zeros, no network was run"
"""The description of the runtime that runs none; what it had a part in carries a warning."""


class Precision(StrEnum):
    """In what a network may be computed; weights and tensors at its ends stay float32."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


@dataclass(frozen=True)
class Profile:
    """The shapes that one input can have (an optimisation profile of TensorRT)."""

    smallest: Shape
    usual: Shape
    """The one that it is tuned for."""
    largest: Shape


Check = Callable[["Runtime"], str]
"""Asks a network something; returns how it did in words, raises `EngineError` if it did not."""


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How a network is to be loaded."""

    threads: int = 1
    """Of the processor, that one run may use."""
    device: int = 0
    """The ordinal of the GPU, for runtimes that have one."""
    precisions: frozenset[Precision] = frozenset({Precision.FP32})
    """Those that the engine's author allows; the fastest that the runtime has is taken."""
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    """By input; needed where the file leaves an axis open and the runtime plans ahead."""
    cache_dir: Path | None = None
    """Where plans and measurements are kept; None keeps none."""
    server_url: str = ""
    """Of a remote runtime: http://host:8000."""
    check: Check | None = None
    """Called by a runtime that keeps plans, before it gives a network away. A plan that fails is
    built anew, once; then `load` raises what it raised."""


class Runtime(Protocol):
    """A network, loaded and ready."""

    @property
    def description(self) -> str:
        """Name, version, device and precision of what runs it, for reports."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of its inputs."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of its outputs."""

    def run(self, inputs: Arrays) -> Arrays:
        """Return all outputs by name.

        Raises
        ------
        EngineUnavailable
            If memory or the device is lacking now.
        EngineError
            If the network fails on these inputs.
        """

    def close(self) -> None:
        """Free what it holds; may be called twice."""


class RuntimeKind(Protocol):
    """A way to run networks."""

    @property
    def name(self) -> str:
        """As in the configuration: onnxruntime, openvino, tensorrt, kserve, null."""

    def missing(self) -> str:
        """Return what is missing on this machine and who can add it; empty if it can be used."""

    def load(self, file: Path, options: LoadOptions) -> Runtime:
        """Return the network of an ONNX file.

        Raises
        ------
        EngineUnavailable
            If memory, the device or the server is lacking now.
        EngineError
            If the runtime cannot run this file; the message says which operator it lacks.
        """


@runtime_checkable
class Prepares(Protocol):
    """What a `RuntimeKind` has besides, if it plans ahead: TensorRT builds for minutes."""

    def prepare(self, file: Path, options: LoadOptions) -> str:
        """Do now what the first load would spend its time on, and keep it in `cache_dir`.

        Returns
        -------
        str
            What was made, or found as it should be, and in how many seconds: one sentence.

        Raises
        ------
        EngineUnavailable
            If memory or the device is lacking now.
        EngineError
            If the runtime cannot run this file; the message says which operator it lacks.
        """
