"""Compile the fake driver, and kernels for it; kept in the virtual environment by their content."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

SOURCES = Path(__file__).parent / "src"
CACHE = Path(sys.prefix) / "fake_cuda"
NEEDED = ("gcc", "g++", "nm")
MAGIC = b"FAKECUDA:"


def missing() -> str:
    """Return what lacks to build the fake and to run pycuda on it; empty if nothing."""
    programs = [name for name in NEEDED if shutil.which(name) is None]
    if programs:
        return f"{', '.join(programs)} is not installed (Debian's g++)"
    return "" if find_spec("pycuda") else "pycuda is not installed; .ci/pycuda builds it"


def build_driver() -> Path:
    """Return the fake libcuda.so.1; alone in its folder, which LD_LIBRARY_PATH can name."""
    stubs = "".join(f"int {name}(void) {{ return 801; }}\n" for name in _not_imitated())
    sources = [*sorted(SOURCES.glob("*.c")), SOURCES / "fake.h"]
    key = _key(stubs, *(file.read_text() for file in sources))

    def compile_to(target: Path, work: Path) -> list[str]:
        (work / "stubs.c").write_text(stubs)
        files = [str(file) for file in sources if file.suffix == ".c"]
        return [
            *("gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"),
            *("-shared", "-fPIC", "-pthread", "-Wl,-soname,libcuda.so.1", "-o", str(target)),
            *(*files, str(work / "stubs.c"), "-ldl"),
        ]

    return _built(CACHE / key / "libcuda.so.1", compile_to)


def build_kernels(source: str) -> bytes:
    """Return an image of kernels that the fake driver loads, as a compiler returns a cubin.

    Parameters
    ----------
    source : str
        CUDA C without the device's prelude; each kernel is declared `extern "C" __global__ void`.
    """
    text = (SOURCES / "device.h").read_text() + source

    def compile_to(target: Path, work: Path) -> list[str]:
        (work / "source.cpp").write_text(text)
        # Macros may declare kernels too: ask the preprocessor.
        expanded = subprocess.run(
            ["g++", "-E", "-P", str(work / "source.cpp")],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        names = re.findall(r'extern\s+"C"\s+void\s+(\w+)\s*\(', expanded)
        launchers = "".join(f"FAKE_KERNEL({name})\n" for name in names)
        (work / "kernels.cpp").write_text(text + "\n" + launchers)
        # No fused multiply-add, as for the device: then both round alike.
        return [
            *("g++", "-std=c++17", "-O2", "-Wall", "-Werror", "-Wno-unused-function"),
            *("-Wno-unknown-pragmas", "-ffp-contract=off", "-fnon-call-exceptions"),
            *("-shared", "-fPIC", "-o", str(target), str(work / "kernels.cpp")),
        ]

    return MAGIC + bytes(_built(CACHE / f"{_key(text)}.so", compile_to)) + b"\0"


def _not_imitated() -> list[str]:
    """Return the calls that pycuda refers to and the fake does not have."""
    spec = find_spec("pycuda")
    folder = Path(next(iter(spec.submodule_search_locations or ()))) if spec else Path()
    [extension] = folder.glob("_driver*.so")
    listed = subprocess.run(
        ["nm", "-D", "--undefined-only", str(extension)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    wanted = set(re.findall(r" U (cu\w+)$", listed, re.MULTILINE))
    text = "".join(file.read_text() for file in SOURCES.glob("*.c"))
    return sorted(wanted - set(re.findall(r"^Status (cu\w+)\(", text, re.MULTILINE)))


def _key(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _built(target: Path, compile_to: Callable[[Path, Path], list[str]]) -> Path:
    """Return `target`, compiled first where it is not there yet."""
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        work = Path(folder)
        command = compile_to(work / target.name, work)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed:\n{done.stderr}")
        os.replace(work / target.name, target)  # two may build at a time; both build the same
    return target
