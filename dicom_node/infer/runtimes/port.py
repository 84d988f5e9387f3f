"""What the infer stage asks of a runtime: one loaded network, arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


class Runtime(Protocol):
    """A network, loaded and ready."""

    @property
    def description(self) -> str:
        """Name, version and device of what runs it, for reports."""

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
