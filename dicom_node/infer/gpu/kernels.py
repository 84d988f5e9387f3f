"""Our kernels, loaded on a device: each by its name, with the types of its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files

from dicom_node.infer.gpu.device import Device
from dicom_node.infer.gpu.resources import Kernel

Compile = Callable[[str, str], bytes]
"""(source, architecture) to an image that the driver loads."""

STORED_TYPES = ("uint8", "int16", "uint16", "int32", "float32")
"""Of the voxels that `gather_volume` takes."""

_RING = "iiii"
_TAPS = "PPP"
_WINDOW = "iiiiii"
_SAID = "PqPPiifff"
_WAY = 3 * _TAPS + "iiii"

FORMATS: Mapping[str, str] = {
    **{
        f"gather_volume_{name}": f"PiiiPPff{3 * _TAPS}iif{'fffff'}{_RING}iiPq"
        for name in STORED_TYPES
    },
    **{f"gather_windows_{name}": f"P{_RING}iPiiiiiPq" for name in ("float32", "float16")},
    "largest_along": "PiqPiiPq",
    "count_keys": f"P{_RING}iiPiiiiPq",
    "clear_planes": f"Pq{_RING}iiqq",
    **{f"accumulate_{name}": f"P{_WINDOW}iP{_RING}Pqq" for name in ("float32", "float16")},
    "add_weights": f"{_WINDOW}P{_RING}Pq",
    **{
        f"take_labels_{name}": f"P{_WINDOW}{_RING}Pq"
        for name in ("uint8", "int32", "int64", "float32")
    },
    "likeliest": f"{_SAID}{_WAY}{_RING}iiPq",
    "above": f"{_SAID}{_WAY}{_RING}PiqqPq",
    "fullest": f"P{_WAY}{_RING}iPq",
}
"""By kernel, as in the `struct` module; a struct of the source stands there member by member."""


@cache
def source(*, for_device: bool = True) -> str:
    """Return the source of all kernels.

    Parameters
    ----------
    for_device : bool
        Whether it begins with what a device's compiler needs to be told.
    """
    folder = files("dicom_node.infer.gpu") / "kernels"
    names = ("common.cuh", "gather.cu", "levels.cu", "accumulate.cu", "finish.cu")
    parts = ["prelude.cuh", *names] if for_device else list(names)
    return "\n".join((folder / name).read_text("utf-8") for name in parts)


class Kernels:
    """All kernels, on one device; made on its thread.

    Parameters
    ----------
    device : Device
    compile_source : callable
        `nvrtc.compiled`, with its folder.

    Raises
    ------
    EngineUnavailable, EngineError
        If they cannot be compiled or loaded.
    """

    def __init__(self, device: Device, compile_source: Compile) -> None:
        module = device.module(compile_source(source(), device.arch))
        self._kernels = {name: module.kernel(name, types) for name, types in FORMATS.items()}

    def __getitem__(self, name: str) -> Kernel:
        return self._kernels[name]
