"""The suites of the GPU path on a real GPU; skipped where the driver finds none.

Run them by themselves, `pytest tests/gpu`: a process has one libcuda, and that of the other tests
is the fake.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from functools import cache

import pytest

from dicom_node.infer.gpu.device import Device
from dicom_node.infer.gpu.kernels import Kernels
from tests.fake_cuda import fake
from tests.unit.infer.gpu.machines import Machine, RealMachine

_ASK = "from dicom_node.infer.gpu import driver; print(driver.missing())"


@cache
def lacking() -> str:
    """Return what is missing for a GPU; asked of a process that never saw the fake driver."""
    told = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, check=True)
    if told.stdout.strip():
        return told.stdout.strip()
    if fake.load.cache_info().currsize:
        return "the fake driver is loaded in this process: run pytest tests/gpu by itself"
    return ""


@pytest.fixture(autouse=True)
def gpu() -> None:
    if reason := lacking():
        pytest.skip(reason)
    ctypes.CDLL("libcuda.so.1")


@pytest.fixture
def machine(gpu: None) -> Machine:
    return RealMachine()


@pytest.fixture
def device(machine: Machine) -> Iterator[Device]:
    opened = machine.device()
    yield opened
    opened.close()


@pytest.fixture
def kernels(machine: Machine, device: Device) -> Kernels:
    return device.call(lambda: Kernels(device, machine.compile_source))
