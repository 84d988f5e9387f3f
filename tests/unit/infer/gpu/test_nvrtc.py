"""The kernels compile for every GPU that we serve, with the compiler that a site would have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dicom_node.errors import EngineError
from dicom_node.infer.gpu import nvrtc
from dicom_node.infer.gpu.kernels import FORMATS, source

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
ELF = b"\x7fELF"


@pytest.fixture(autouse=True)
def compiler() -> None:
    if reason := nvrtc.missing():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_all_kernels_compile_for(arch: str) -> None:
    cubin = nvrtc.compiled(source(), arch)
    assert cubin.startswith(ELF)
    assert [name for name in FORMATS if f"\0{name}\0".encode() not in cubin] == []


def test_a_mistake_is_told_with_its_line() -> None:
    with pytest.raises(EngineError, match=r"for sm_90: kernels.cu\(2\): error: .*undefined"):
        nvrtc.compiled('extern "C" __global__ void f(int *a) {\n*a = undefined_name;\n}', "sm_90")


def test_a_device_that_the_compiler_does_not_know_is_told() -> None:
    with pytest.raises(EngineError, match=r"sm_12345: .*gpu-architecture"):
        nvrtc.compiled(source(), "sm_12345")


def test_what_was_compiled_is_kept_by_all_that_it_depends_on(tmp_path: Path) -> None:
    small = 'extern "C" __global__ void f(int *a) { *a = 1; }'
    made = nvrtc.compiled(small, "sm_80", tmp_path)
    [file] = tmp_path.iterdir()
    file.write_bytes(b"kept")
    assert nvrtc.compiled(small, "sm_80", tmp_path) == b"kept"
    assert nvrtc.compiled(small, "sm_90", tmp_path).startswith(ELF)
    assert nvrtc.compiled(small + "\n", "sm_80", tmp_path).startswith(ELF)
    assert made.startswith(ELF)
    assert len(list(tmp_path.iterdir())) == 3
