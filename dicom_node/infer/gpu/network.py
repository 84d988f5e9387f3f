"""What the path on a GPU asks of a network that was loaded there.

Only addresses go in and out. A network owns its weights and nothing else: the block that it works
in is given to it, so that networks which never run at once can share one. All of it is called on
the device's own thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

ElementType = Literal["float32", "float16", "uint8", "int32", "int64"]

ELEMENT_BYTES: dict[ElementType, int] = {
    "float32": 4,
    "float16": 2,
    "uint8": 1,
    "int32": 4,
    "int64": 8,
}

Shape = tuple[int, ...]
"""(batch, channels, ...): of slices (b, c, rows, columns), of volumes (b, c, z, y, x)."""


@dataclass(frozen=True)
class End:
    """An input or output of a network."""

    name: str
    dtype: ElementType
    channels: int


class DeviceNetwork(Protocol):
    """A network on one device, ready to be enqueued; one stream at a time."""

    @property
    def input(self) -> End:
        """float32 or float16."""

    @property
    def output(self) -> End:
        """Of the input's shape but for the channels; integers only where it gives labels."""

    @property
    def batch_max(self) -> int:
        """As many windows, slices or slabs can be enqueued at once."""

    @property
    def resident_bytes(self) -> int:
        """Of the device's memory that it holds from loading to closing: weights, mostly."""

    def scratch_bytes(self, shape: Shape) -> int:
        """Return the memory that it works in while it is enqueued with this input shape.

        Raises
        ------
        EngineError
            If it cannot be enqueued with it.
        """

    def use_scratch(self, address: int, size_bytes: int) -> None:
        """Work in this block from now on; nothing of an earlier one is kept or freed."""

    def enqueue(self, shape: Shape, input_address: int, output_address: int, stream: int) -> None:
        """Put one run on a stream, and return before it is done.

        Parameters
        ----------
        shape : tuple of int
            Of the input.
        input_address, output_address : int
            In the device's memory: contiguous, C order, aligned to 256 bytes.
        stream : int
            Its handle.

        Raises
        ------
        EngineUnavailable
            If the device cannot now.
        EngineError
            If the network fails on this shape.
        """

    def close(self) -> None:
        """Free what it holds; may be called twice."""
