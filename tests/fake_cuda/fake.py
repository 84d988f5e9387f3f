"""The fake driver in this process: load it, shape it, ask it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Literal

from tests.fake_cuda.build import build_driver

ILLEGAL_ADDRESS = 700
OUT_OF_MEMORY = 2
UNKNOWN = 999
ANY = "*"

Order = Literal["at once", "late", "late copies", "late kernels"]
_ORDERS = ("at once", "late", "late copies", "late kernels")

_HostFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class FakeCuda:
    """What a test sets and asks; one for a process."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        for name, result in (
            ("fake_cuda_used", ctypes.c_size_t),
            ("fake_cuda_pinned", ctypes.c_size_t),
            ("fake_cuda_leaked", ctypes.c_size_t),
            ("fake_cuda_calls", ctypes.c_long),
            ("fake_cuda_pageable", ctypes.c_long),
            ("fake_cuda_overruns", ctypes.c_long),
        ):
            getattr(library, name).restype = result
        self._kept: list[object] = []

    def set(
        self,
        *,
        devices: int = 1,
        memory_bytes: int = 1 << 30,
        order: Order = "at once",
        graphs: bool = False,
    ) -> None:
        """Shape the devices, mend them, and begin to count again.

        Parameters
        ----------
        devices, memory_bytes : int
            How many there are, and what each has.
        order : {"at once", "late", "late copies", "late kernels"}
            When work that was put on a stream is done; late is when somebody waits for it.
        graphs : bool
            Whether streams can be captured; else that is not supported.
        """
        self._kept.clear()
        self._library.fake_cuda_set(
            devices, ctypes.c_size_t(memory_bytes), _ORDERS.index(order), int(graphs)
        )
        self._library.fake_cuda_mend()
        self._library.fake_cuda_forget()

    def restart(self) -> None:
        """Be as in a new process: one device that nobody uses; all contexts must be closed."""
        self._library.fake_cuda_restart()
        self.set()

    def fail(self, name: str, n: int, error: int, *, times: int = 1) -> None:
        """Let calls of a name, or of `ANY`, answer an error, from the n-th from now.

        pycuda collects garbage and tries again when memory is out: that takes two times.
        """
        self._library.fake_cuda_fail(name.encode(), ctypes.c_long(n), ctypes.c_long(times), error)

    def calls(self, name: str = ANY) -> int:
        """Return how often a call of the driver was made."""
        return int(self._library.fake_cuda_calls(name.encode()))

    def used_bytes(self, device: int = 0) -> int:
        """Return what is allocated on a device."""
        return int(self._library.fake_cuda_used(device))

    def pinned_bytes(self) -> int:
        """Return what is allocated on the host."""
        return int(self._library.fake_cuda_pinned())

    @property
    def leaked_bytes(self) -> int:
        """What went with a context because nobody had freed it."""
        return int(self._library.fake_cuda_leaked())

    @property
    def pageable_copies(self) -> int:
        """How many copies on a stream were none, because their memory was not pinned."""
        return int(self._library.fake_cuda_pageable())

    @property
    def overruns(self) -> int:
        """In how many blocks something was written behind the end."""
        return int(self._library.fake_cuda_overruns())

    def on_stream(self, stream: int, function: Callable[[], None]) -> None:
        """Put a function of the host on a stream: what a network that is played does."""
        call = _HostFunction(lambda _: function())
        self._kept.append(call)
        status = self._library.cuLaunchHostFunc(ctypes.c_void_p(stream), call, None)
        if status:
            raise RuntimeError(f"cuLaunchHostFunc answers {status}")


@cache
def load() -> FakeCuda:
    """Load the fake driver into this process, before pycuda asks for one.

    The loader knows libraries by their soname, so whoever asks for libcuda.so.1 later gets ours.
    """
    return FakeCuda(ctypes.CDLL(str(build_driver())))
