"""A TensorRT and a GPU that are none, for whoever asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from dicom_node.infer.gpu.device import Device
from dicom_node.infer.plans.library import Library
from dicom_node.infer.runtimes.tensorrt import TensorRtKind
from tests.fake_cuda.fake import FakeCuda
from tests.fake_cuda.fixtures import cuda
from tests.stand_in_tensorrt import Faults, make_tensorrt

__all__ = ["cuda"]

MakeKind = Callable[..., TensorRtKind]


@pytest.fixture
def device(cuda: FakeCuda) -> Iterator[Device]:
    """Return the fake GPU; whatever a test leaves on it is found when it is closed."""
    device = Device()
    yield device
    device.close()
    assert cuda.leaked_bytes == 0


@pytest.fixture
def make_kind(cuda: FakeCuda, device: Device) -> MakeKind:
    """Return a function that gives the runtime, on a TensorRT of this version and these faults."""

    def make(version: str = "11.4.0.106", faults: Faults | None = None) -> TensorRtKind:
        library = Library(make_tensorrt(version, faults=faults, on_stream=cuda.on_stream))
        return TensorRtKind(library=lambda: library, device=lambda ordinal: device)

    return make
