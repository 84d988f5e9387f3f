"""CUDA C to a cubin for the device at hand, by NVIDIA's run-time compiler; no nvcc is needed.

The compiler is a library: PyPI's nvidia-cuda-nvrtc, or that of an installed CUDA. What it makes is
kept by all that it depends on, so it is asked once a machine and version.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
import os
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from dicom_node.errors import EngineError, EngineUnavailable

_OPTIONS = ("--std=c++17", "--fmad=false")
"""Without fused multiply-add a GPU rounds as the processor does."""


def missing() -> str:
    """Return what lacks to compile, and who can add it; empty if nothing."""
    try:
        _library()
    except EngineUnavailable as error:
        return error.message
    return ""


def compiled(source: str, arch: str, cache_dir: Path | None = None) -> bytes:
    """Return the cubin of a source.

    Parameters
    ----------
    source : str
        CUDA C that includes nothing.
    arch : str
        For which device: sm_90.
    cache_dir : Path, optional
        Where cubins are kept; None keeps none.

    Raises
    ------
    EngineUnavailable
        If there is no compiler on this machine.
    EngineError
        If the compiler refuses the source or does not know the device; with its words.
    """
    if cache_dir is None:
        return _compile(source, arch)
    depends = (source, arch, *_OPTIONS, version())
    file = cache_dir / f"{hashlib.sha256(chr(0).join(depends).encode()).hexdigest()}.cubin"
    try:
        return file.read_bytes()
    except FileNotFoundError:
        cubin = _compile(source, arch)
    cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=cache_dir, delete=False) as temporary:
        temporary.write(cubin)
    os.replace(temporary.name, file)
    return cubin


def version() -> str:
    """Return the compiler's version: 13.0."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return f"{major.value}.{minor.value}"


def _compile(source: str, arch: str) -> bytes:
    library = _library()
    program = ctypes.c_void_p()
    _check(
        library.nvrtcCreateProgram(
            ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None
        )
    )
    try:
        options = [option.encode() for option in (*_OPTIONS, f"--gpu-architecture={arch}")]
        array = (ctypes.c_char_p * len(options))(*options)
        if library.nvrtcCompileProgram(program, len(options), array):
            words = _told(program, "nvrtcGetProgramLog").decode(errors="replace").strip("\0 \n")
            raise EngineError(f"the kernels cannot be compiled for {arch}: {words}")
        return _told(program, "nvrtcGetCUBIN")
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _told(program: ctypes.c_void_p, what: str) -> bytes:
    library, size = _library(), ctypes.c_size_t()
    _check(getattr(library, f"{what}Size")(program, ctypes.byref(size)))
    text = ctypes.create_string_buffer(size.value)
    _check(getattr(library, what)(program, text))
    return text.raw


def _check(status: int) -> None:
    if status:
        library = _library()
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        raise EngineError(f"NVRTC: {library.nvrtcGetErrorString(status).decode()}")


@cache
def _library() -> ctypes.CDLL:
    for name in _candidates():
        try:
            # It looks for its other half by name only; what is loaded already is found.
            for builtins in Path(name).parent.glob("libnvrtc-builtins.so.*"):
                ctypes.CDLL(str(builtins))
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise EngineUnavailable(
        "no compiler for kernels (libnvrtc)", hint="pip install nvidia-cuda-nvrtc"
    )


def _candidates() -> list[str]:
    """Return where it may lie: in NVIDIA's wheels, or where the loader looks; the newest first."""
    spec = find_spec("nvidia")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    found = [str(file) for folder in folders for file in folder.glob("**/libnvrtc.so.*")]
    installed = ctypes.util.find_library("nvrtc")
    return [
        *sorted(found, reverse=True),
        *([installed] if installed else []),
        *("libnvrtc.so.13", "libnvrtc.so.12"),
    ]
