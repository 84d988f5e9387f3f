"""Runtimes for tests: kinds that lack something, run a function, or fail, and a clock for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.infer.runtimes.port import Arrays, LoadOptions

Network = Callable[[NDArray[Any]], NDArray[Any]]


def right(x: NDArray[Any]) -> NDArray[Any]:
    """Answer as the engines of these tests were released with: twice the input."""
    return (x * 2).astype(np.float32)


@dataclass
class Clock:
    """Time that passes only where a runtime takes some."""

    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Kind:
    """A runtime that takes a while for each run; `loaded` has what it was asked to load."""

    name: str
    takes_s: float = 0.010
    lacks: str = ""
    network: Network = right
    refuses: Exception | None = None
    """Raised at load."""
    clock: Clock = field(default_factory=Clock)
    loaded: list[tuple[str, LoadOptions]] = field(default_factory=list)
    open: int = 0

    def missing(self) -> str:
        return self.lacks

    def load(self, file: Path, options: LoadOptions) -> Loaded:
        self.loaded.append((file.name, options))
        if self.refuses:
            raise self.refuses
        self.open += 1
        return Loaded(self)


class Loaded:
    """A network of a `Kind`: x in, y out."""

    inputs = ("x",)
    outputs = ("y",)

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._closed = False
        self.description = f"{kind.name} 1.0"

    def run(self, inputs: Arrays) -> Arrays:
        self._kind.clock.now_s += self._kind.takes_s
        return {"y": self._kind.network(inputs["x"])}

    def close(self) -> None:
        self._kind.open -= not self._closed
        self._closed = True
