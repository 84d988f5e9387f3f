"""The CUDA driver, for the few calls that pycuda does not have; and whether there is a driver."""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.util import find_spec

SUCCESS = 0
_SONAME = "libcuda.so.1"


@cache
def library() -> ctypes.CDLL:
    """Return the driver's library.

    Raises
    ------
    OSError
        If this machine has none.
    """
    return ctypes.CDLL(_SONAME)


def call(name: str, *arguments: object) -> int:
    """Return the status of a call of the driver, by its name; `SUCCESS` is 0."""
    status: int = getattr(library(), name)(*arguments)
    return status


def devices() -> int:
    """Return how many GPUs this machine has; no context is made and no memory taken."""
    count = ctypes.c_int(0)
    try:
        if call("cuInit", 0) != SUCCESS or call("cuDeviceGetCount", ctypes.byref(count)):
            return 0
    except OSError:
        return 0
    return count.value


def missing() -> str:
    """Return what this machine lacks to run on a GPU, and who can add it; empty if nothing."""
    try:
        library()
    except OSError:
        return "no NVIDIA driver (libcuda.so.1): the administrator of the machine installs it"
    if not devices():
        return "the NVIDIA driver finds no GPU: see nvidia-smi"
    if find_spec("pycuda") is None:
        return "pycuda is not installed: pip install 'dicom-node[gpu]'"
    return ""
