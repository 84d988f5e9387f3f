"""Pinned memory that copies go through, a piece in each buffer in turn.

A copy from or to ordinary memory would make the processor wait for the device. So bytes go through
two pinned buffers: while the device copies one, the processor fills or empties the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.infer.gpu.device import Device
from dicom_node.infer.gpu.resources import Event, Pinned, Stream

Bytes = NDArray[np.uint8]


class _Slot:
    def __init__(self, device: Device, size_bytes: int) -> None:
        self.memory: Pinned = device.pinned((size_bytes,), np.uint8)
        self.copied: Event = device.event()
        self.then: Callable[[], None] | None = None
        """What is to be done once the copy is done; None if nobody waits for one."""

    def settle(self) -> None:
        then, self.then = self.then, None
        if then is not None:
            self.copied.wait()
            then()


class Staging:
    """Two pinned buffers, taken in turn.

    Parameters
    ----------
    device : Device
    size_bytes : int
        Of each.
    """

    def __init__(self, device: Device, size_bytes: int) -> None:
        self._device = device
        self._size = size_bytes
        self._slots = (_Slot(device, size_bytes), _Slot(device, size_bytes))
        self._turn = 0

    def upload(self, address: int, source: NDArray[Any], stream: Stream) -> None:
        """Copy an array to the device; it may change as soon as this returns."""
        flat = source.reshape(-1).view(np.uint8)
        for at in range(0, len(flat), self._size):
            piece = flat[at : at + self._size]
            slot = self._next()
            there = slot.memory.array[: len(piece)]
            there[:] = piece
            self._device.upload(address + at, there, stream)
            self._expect(slot, stream, _nothing)

    def download(
        self, target: Bytes, address: int, stream: Stream, then: Callable[[], None]
    ) -> None:
        """Copy from the device; by `settle` at the latest it is there, and `then` was called."""
        for at in range(0, len(target), self._size):
            part = target[at : at + self._size]
            slot = self._next()
            there = slot.memory.array[: len(part)]
            self._device.download(there, address + at, stream)
            is_last = at + self._size >= len(target)
            self._expect(slot, stream, _filling(part, there, then if is_last else _nothing))

    def settle(self) -> None:
        """Wait for all copies."""
        for _ in self._slots:
            self._next().settle()

    def free(self) -> None:
        """Free the buffers."""
        for slot in self._slots:
            slot.memory.free()
            slot.copied.free()

    def _next(self) -> _Slot:
        """Return the buffer that was used longest ago, free to be used."""
        slot = self._slots[self._turn]
        self._turn = (self._turn + 1) % len(self._slots)
        slot.settle()
        return slot

    def _expect(self, slot: _Slot, stream: Stream, then: Callable[[], None]) -> None:
        slot.copied.record(stream)
        slot.then = then


def _nothing() -> None:
    """Nothing is to be done with what was uploaded."""


def _filling(part: Bytes, there: Bytes, then: Callable[[], None]) -> Callable[[], None]:
    def fill() -> None:
        part[:] = there
        then()

    return fill
