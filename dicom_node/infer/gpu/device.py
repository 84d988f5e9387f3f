"""One GPU, and the one thread that owns it.

pycuda ties what it makes to the context object of the thread that made it, and frees it in
whatever thread drops the last reference: memory that is dropped elsewhere stays allocated, with
nothing but a warning. So a device has one thread of its own. What is to be done on the GPU is done
in a function given to `Device.call`, and numbers and arrays come back, never a handle. The device
keeps a reference to everything that was made, so nothing is freed by chance, and frees the rest
when it is closed.

The context is the device's primary one, which TensorRT, ONNX Runtime and PyTorch share.

An error after which every call fails (an illegal access, a device that fell off the bus) ends all
use of a GPU in this process: `DeviceLost`, and the worker has to be started again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from numpy.typing import DTypeLike, NDArray

from dicom_node.errors import (
    DeviceFull,
    DeviceLost,
    EngineUnavailable,
    InvariantBroken,
)
from dicom_node.infer.gpu import driver
from dicom_node.infer.gpu.resources import Buffer, Event, Module, Owned, Pinned, Stream

T = TypeVar("T")
_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: no implicit waiting for the default stream."""


class Device:
    """A GPU.

    Parameters
    ----------
    ordinal : int
        Counted by the driver, from 0.

    Raises
    ------
    EngineUnavailable
        If there is no such device, or it gives no context.
    """

    def __init__(self, ordinal: int = 0) -> None:
        self.ordinal = ordinal
        self.name = ""
        self.arch = ""
        """As compilers call it: sm_90."""
        self.total_bytes = 0
        self._owned: dict[int, Owned] = {}
        self._lost: DeviceLost | None = None
        self._is_capturing = False
        self._is_closed = False
        self._ident = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"gpu-{ordinal}")
        try:
            self._context = self._thread.submit(self._take).result()
        except EngineUnavailable:
            self._thread.shutdown()
            raise

    # -------------------------------------------------------- from any thread

    def call(self, function: Callable[[], T]) -> T:
        """Return what a function returns that is run on the device's own thread.

        Parameters
        ----------
        function : callable
            May use all of the device; what it returns must be plain values or arrays.

        Raises
        ------
        DeviceLost
            If the device was lost, now or earlier.
        Exception
            Whatever the function raises.
        """
        if threading.get_ident() == self._ident:
            return function()
        if self._is_closed:
            raise InvariantBroken(f"GPU {self.ordinal} is closed")
        return self._thread.submit(self._within, function).result()

    def close(self) -> None:
        """Free all that was made on the device and end its thread; may be called twice."""
        if not self._is_closed:
            self._is_closed = True
            self._thread.submit(self._within, self._free_all).result()
            self._thread.submit(self._give_back).result()
            self._thread.shutdown()

    # -------------------------------------------------------- on the device's thread

    def allocate(self, size_bytes: int) -> Buffer:
        """Return memory of the device.

        Raises
        ------
        DeviceFull
            If it has not so much.
        """
        self.check_thread()
        import pycuda.driver as cuda

        with self.translated(f"{size_bytes / 2**20:.0f} MiB could not be allocated"):
            return Buffer(self, cuda.mem_alloc(size_bytes), size_bytes)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> Pinned:
        """Return memory of the host that copies to and from the device do not wait for."""
        self.check_thread()
        import pycuda.driver as cuda

        with self.translated("no pinned memory"):
            return Pinned(self, cuda.pagelocked_empty(shape, dtype))

    def stream(self) -> Stream:
        """Return a new stream."""
        self.check_thread()
        import pycuda.driver as cuda

        with self.translated("no stream"):
            return Stream(self, cuda.Stream(_NON_BLOCKING))

    def event(self) -> Event:
        """Return a new event, which measures time."""
        self.check_thread()
        import pycuda.driver as cuda

        with self.translated("no event"):
            return Event(self, cuda.Event())

    def module(self, image: bytes) -> Module:
        """Return the kernels of a cubin or of PTX."""
        self.check_thread()
        import pycuda.driver as cuda

        with self.translated("the kernels could not be loaded"):
            return Module(self, cuda.module_from_buffer(image))

    def upload(self, address: int, source: NDArray[Any], stream: Stream) -> None:
        """Copy to the device; `source` must be pinned and stay as it is until it is done."""
        import pycuda.driver as cuda

        with self.translated("a copy to the GPU failed"):
            cuda.memcpy_htod_async(address, source, stream.raw)

    def download(self, target: NDArray[Any], address: int, stream: Stream) -> None:
        """Copy from the device; `target` must be pinned, and holds it when the stream is done."""
        import pycuda.driver as cuda

        with self.translated("a copy from the GPU failed"):
            cuda.memcpy_dtoh_async(target, address, stream.raw)

    def clear(self, address: int, size_bytes: int, stream: Stream) -> None:
        """Set memory of the device to zeros."""
        import pycuda.driver as cuda

        with self.translated("memory of the GPU could not be cleared"):
            cuda.memset_d8_async(address, 0, size_bytes, stream.raw)

    def free_bytes(self) -> int:
        """Return how much memory is free now, for this process and others."""
        self.check_thread()
        import pycuda.driver as cuda

        with self.translated("the GPU does not tell its memory"):
            return int(cuda.mem_get_info()[0])

    def check_thread(self) -> None:
        """Raise `InvariantBroken` on any thread but the device's own."""
        if threading.get_ident() != self._ident:
            raise InvariantBroken(f"GPU {self.ordinal} was used outside of its thread")

    def keep(self, owned: Owned) -> None:
        """Hold what was made, until it is freed or the device is closed."""
        self._owned[id(owned)] = owned

    def forget(self, owned: Owned) -> None:
        """Hold it no more."""
        del self._owned[id(owned)]

    @contextmanager
    def translated(self, what: str) -> Iterator[None]:
        """Translate what pycuda raises, and tell by the driver whether the device is lost.

        Raises
        ------
        DeviceFull, DeviceLost, EngineUnavailable
        """
        import pycuda.driver as cuda

        if self._lost is not None:
            raise DeviceLost(self._lost.message, hint=self._lost.hint)
        try:
            yield
        except cuda.MemoryError as error:
            raise DeviceFull(
                f"GPU {self.ordinal}: {what}: out of memory",
                hint="load fewer engines on it, or let it do nothing else",
            ) from error
        except cuda.Error as error:
            words = f"{what}: {error}"
            if not self._is_capturing:  # else the question itself would be refused
                self.check_alive(words)
            raise EngineUnavailable(f"GPU {self.ordinal}: {words}") from error

    def check_alive(self, what: str) -> None:
        """Raise `DeviceLost` if nothing more can be done with the device; `what` went wrong."""
        if driver.call("cuCtxSynchronize") != driver.SUCCESS:
            self._lost = DeviceLost(
                f"GPU {self.ordinal} is lost: {what}",
                hint="if it comes again: nvidia-smi, then dmesg",
            )
            raise self._lost

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Do something while a stream is recorded: the device cannot be asked how it is."""
        self._is_capturing = True
        try:
            yield
        finally:
            self._is_capturing = False

    # -------------------------------------------------------- the thread

    def _take(self) -> Any:
        self._ident = threading.get_ident()
        if lacking := driver.missing():
            raise EngineUnavailable(f"GPU {self.ordinal} cannot be used: {lacking}")
        import pycuda.driver as cuda

        try:
            cuda.init()
            device = cuda.Device(self.ordinal)
            self.name = str(device.name())
            major, minor = device.compute_capability()
            self.arch = f"sm_{major}{minor}"
            self.total_bytes = int(device.total_memory())
            return device.retain_primary_context()
        except cuda.Error as error:
            raise EngineUnavailable(f"GPU {self.ordinal} cannot be used: {error}") from error

    def _within(self, function: Callable[[], T]) -> T:
        """Return what a function returns that finds the context current.

        It is current only meanwhile: a context that a thread leaves on its stack when it ends makes
        pycuda abort the process.
        """
        import pycuda.driver as cuda

        try:
            self._context.push()
        except cuda.Error as error:
            raise EngineUnavailable(f"GPU {self.ordinal} cannot be used: {error}") from error
        try:
            return function()
        finally:
            with suppress(cuda.Error):
                self._context.pop()

    def _free_all(self) -> None:
        for owned in reversed(list(self._owned.values())):
            with suppress(EngineUnavailable):  # the context goes next, and it with it
                owned.free()

    def _give_back(self) -> None:
        # In any state, and it takes the context off the stack if it is still there.
        self._context.detach()
        self._context = None
