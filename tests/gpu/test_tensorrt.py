"""The bundled networks on a real TensorRT and a real GPU; skipped where one of them is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from dicom_node.infer.gate import Way, pass_gate
from dicom_node.infer.gpu import driver
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.runtimes.port import LoadOptions, Precision
from dicom_node.infer.runtimes.tensorrt import TensorRtKind
from tests.engines.bundled import BUNDLED, Bundled

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    if lacking := TensorRtKind().missing():
        pytest.skip(lacking)
    if hasattr(driver.library(), "fake_cuda_set"):
        pytest.skip("the driver in this process is the fake one; run tests/gpu by itself")
    with closing(Device()) as device:
        yield device


@pytest.fixture
def kind(device: Device) -> TensorRtKind:
    return TensorRtKind(device=lambda ordinal: device)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
@pytest.mark.parametrize("network", BUNDLED, ids=str)
def test_it_gives_the_answers_of_its_test_vector(
    network: Bundled, precision: Precision, kind: TensorRtKind, tmp_path: Path
) -> None:
    vector = network.vector()
    options = LoadOptions(profiles={network.input: network.profile(16)}, cache_dir=tmp_path)
    for start in ("built", "found"):
        passed = pass_gate(str(network), network.file, [Way(kind, precision)], options, vector)
        print(f"{start}: {passed.parities[-1].in_words}")
        first = passed.runtime.run(vector.inputs)[vector.output]
        again = passed.runtime.run(vector.inputs)[vector.output]
        passed.runtime.close()
        assert np.array_equal(first, again)
