"""Whichever call of TensorRT or of the driver fails: an error of ours, nothing lost, and go on."""

from __future__ import annotations

from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.errors import DeviceLost, EngineError
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.plans.library import Library
from dicom_node.infer.runtimes.port import LoadOptions, Precision, Profile
from dicom_node.infer.runtimes.tensorrt import TensorRtKind
from tests.fake_cuda.fake import ILLEGAL_ADDRESS, OUT_OF_MEMORY, FakeCuda
from tests.stand_in_tensorrt import Faults, make_tensorrt
from tests.unit.infer.plans.networks import answers, convolution, network, saved

FIRST, WEIGHTS = convolution("c1", "x", "y", (1, 3))
MODEL = network([FIRST], WEIGHTS)
X = np.random.default_rng(1).standard_normal((3, 1, 8, 8)).astype(np.float32)
OPTIONS = LoadOptions(
    precisions=frozenset({Precision.FP16}),
    profiles={"x": Profile((1, 1, 8, 8), (2, 1, 8, 8), (2, 1, 8, 8))},
)
VERSIONS = ("11.4.0.106", "8.6.0")


def answer_of(kind: TensorRtKind, file: Path, cache: Path) -> NDArray[np.float32]:
    """Load the network, ask it, close it: what is to survive every fault."""

    def check(runtime: object) -> str:
        return "fine"

    options = LoadOptions(
        precisions=OPTIONS.precisions, profiles=OPTIONS.profiles, cache_dir=cache, check=check
    )
    runtime = kind.load(file, options)
    try:
        answer: NDArray[np.float32] = runtime.run({"x": X})["y"]
        return answer
    finally:
        runtime.close()


@pytest.mark.parametrize("how", ["answer", "raise"])
@pytest.mark.parametrize("version", VERSIONS)
def test_any_call_of_tensorrt_may_fail(
    version: str, how: Literal["answer", "raise"], cuda: FakeCuda, device: Device, tmp_path: Path
) -> None:
    file = saved(MODEL, tmp_path)
    expected = answers(MODEL, x=X)["y"]
    cuda.set(graphs=True)
    failed = 0
    for n in count(1):
        faults = Faults(fail_at=n, how=how)
        library = Library(make_tensorrt(version, faults=faults, on_stream=cuda.on_stream))
        kind = TensorRtKind(library=lambda library=library: library, device=lambda _: device)  # type: ignore[misc]
        try:
            answer = answer_of(kind, file, tmp_path / f"plans-{n}")
        except EngineError as error:
            failed += "injected" in error.message
        else:
            assert answer == pytest.approx(expected, abs=0.01)
        assert cuda.used_bytes() == 0
        assert cuda.pinned_bytes() == 0
        if len(faults.calls) < n:
            break
        # It goes on where it was, with the plan if there is one.
        assert answer_of(kind, file, tmp_path / f"plans-{n}") == pytest.approx(expected, abs=0.01)
    assert failed > 10


CALLS = (
    *("cuMemAlloc_v2", "cuMemHostAlloc", "cuStreamCreate", "cuMemGetInfo_v2"),
    *("cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuLaunchHostFunc", "cuStreamSynchronize"),
    *("cuStreamBeginCapture_v2", "cuGraphInstantiateWithFlags", "cuGraphLaunch"),
)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("error", [OUT_OF_MEMORY, ILLEGAL_ADDRESS])
def test_any_call_of_the_driver_may_fail(
    error: int, name: str, cuda: FakeCuda, tmp_path: Path
) -> None:
    """Out of memory is gone the next time; an illegal address ends the use of the device."""
    file = saved(MODEL, tmp_path)
    expected = answers(MODEL, x=X)["y"]
    library = Library(make_tensorrt(on_stream=cuda.on_stream))
    for n in count(1):
        cuda.set(graphs=True)
        with closing(Device()) as device:
            kind = TensorRtKind(library=lambda: library, device=lambda _, device=device: device)  # type: ignore[misc]
            cuda.fail(name, n, error)
            before = cuda.calls(name)
            try:
                answer = answer_of(kind, file, tmp_path / "plans")
                assert answer == pytest.approx(expected, abs=0.01)
            except DeviceLost:
                assert error == ILLEGAL_ADDRESS
            except EngineError:
                assert error == OUT_OF_MEMORY
            made = cuda.calls(name) - before
            if error == OUT_OF_MEMORY and made >= n:
                answer = answer_of(kind, file, tmp_path / "plans")
                assert answer == pytest.approx(expected, abs=0.01)
        if made < n:
            break
    assert n > 1 or name == "cuMemGetInfo_v2"  # which is asked when something else failed
