"""The suites of this folder run on the fake driver; those of tests/gpu, the same, on a real GPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dicom_node.infer.gpu.device import Device
from dicom_node.infer.gpu.kernels import Kernels
from tests.fake_cuda.fake import FakeCuda
from tests.fake_cuda.fixtures import cuda
from tests.unit.infer.gpu.machines import FakeMachine, Machine

__all__ = ["cuda"]


@pytest.fixture
def machine(cuda: FakeCuda) -> Machine:
    """Return the fake driver, which does everything as late as it may."""
    cuda.set(order="late")
    return FakeMachine(cuda)


@pytest.fixture
def device(machine: Machine) -> Iterator[Device]:
    """Return a device; what a test leaves on it is freed."""
    opened = machine.device()
    yield opened
    opened.close()


@pytest.fixture
def kernels(machine: Machine, device: Device) -> Kernels:
    return device.call(lambda: Kernels(device, machine.compile_source))
