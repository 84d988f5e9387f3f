"""What lives on a device: memory, streams, events, kernels; pycuda's, each freed where it was made.

All of it is made by a `Device`, used and freed on its thread.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Owner(Protocol):
    """What a thing on a device asks of the device."""

    def check_thread(self) -> None:
        """Raise `InvariantBroken` on any thread but the device's own."""

    def keep(self, owned: Owned) -> None:
        """Hold what was made, until it is freed or the device is closed."""

    def forget(self, owned: Owned) -> None:
        """Hold it no more."""

    def check_alive(self, what: str) -> None:
        """Raise `DeviceLost` if nothing more can be done with the device; `what` went wrong."""

    def translated(self, what: str) -> AbstractContextManager[None]:
        """Translate what pycuda raises; see `Device.translated`."""


class Owned:
    """Something of the driver's, freed on the device's thread: by `free`, or with the device."""

    def __init__(self, device: Owner, what: Any) -> None:
        self._device = device
        self._what = what
        device.keep(self)

    def free(self) -> None:
        """Free it; may be called twice."""
        self._device.check_thread()
        what, self._what = self._what, None
        if what is not None:
            self._device.forget(self)
            self._release(what)

    def _release(self, what: Any) -> None:
        """Streams, events and modules go with their last reference, which is `what`."""


class Buffer(Owned):
    """Memory of the device, its bytes undefined at first."""

    def __init__(self, device: Owner, allocation: Any, size_bytes: int) -> None:
        self.address = int(allocation)
        self.size_bytes = size_bytes
        super().__init__(device, allocation)

    def _release(self, what: Any) -> None:
        with self._device.translated("memory could not be freed"):
            what.free()


class Pinned(Owned):
    """Memory of the host that the device copies from and to while the processor does other work."""

    def __init__(self, device: Owner, array: NDArray[Any]) -> None:
        self.array = array
        """Not to be used once it is freed."""
        super().__init__(device, array.base)

    def _release(self, what: Any) -> None:
        self.array = np.empty(0)
        with self._device.translated("pinned memory could not be freed"):
            what.free()


class Event(Owned):
    """A moment in a stream."""

    def record(self, stream: Stream) -> None:
        """Let it be the moment when all that is on the stream so far is done."""
        with self._device.translated("an event could not be recorded"):
            self._what.record(stream.raw)

    def wait(self) -> None:
        """Block until it has come."""
        with self._device.translated("work on the GPU failed"):
            self._what.synchronize()

    def ms_since(self, earlier: Event) -> float:
        """Return the milliseconds between two events that have both come."""
        with self._device.translated("an event has no time"):
            return float(self._what.time_since(earlier._what))

    @property
    def raw(self) -> Any:
        """pycuda's."""
        return self._what


class Stream(Owned):
    """A queue of work on the device; streams do not wait for each other but by events."""

    @property
    def handle(self) -> int:
        """The driver's CUstream."""
        return int(self._what.handle)

    @property
    def raw(self) -> Any:
        """pycuda's."""
        return self._what

    def wait_for(self, event: Event) -> None:
        """Let what comes after on this stream wait for an event of another."""
        with self._device.translated("a stream cannot wait"):
            self._what.wait_for_event(event.raw)

    def synchronize(self) -> None:
        """Block until all that is on it is done."""
        with self._device.translated("work on the GPU failed"):
            self._what.synchronize()


class Kernel:
    """A function of a module; one thread makes one element of its result."""

    _BLOCK = 256

    def __init__(self, device: Owner, function: Any, formats: str) -> None:
        self._device = device
        self._function = function.prepare(formats)

    def __call__(self, stream: Stream, count: int, *arguments: float) -> None:
        """Launch a thread for each of `count` elements; the kernel's last argument is `count`."""
        if count <= 0:
            return
        grid = (-(-count // self._BLOCK), 1)
        with self._device.translated("a kernel could not be launched"):
            self._function.prepared_async_call(
                grid, (self._BLOCK, 1, 1), stream.raw, *arguments, count
            )


class Module(Owned):
    """Loaded kernels."""

    def kernel(self, name: str, formats: str) -> Kernel:
        """Return a kernel.

        Parameters
        ----------
        name : str
            As in its source, declared extern "C".
        formats : str
            The types of its arguments, as in the `struct` module: P address, q i f numbers.
        """
        with self._device.translated(f"there is no kernel {name}"):
            return Kernel(self._device, self._what.get_function(name), formats)
