"""The bundled engines through the gate, on a TensorRT and a GPU that are none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.infer.engine_folders import load_manifest
from dicom_node.infer.gate import Passed, Way, pass_gate
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.gpu.kernels import Kernels
from dicom_node.infer.gpu.memory import Budget
from dicom_node.infer.gpu.path import GpuPath
from dicom_node.infer.plans.library import Library
from dicom_node.infer.plans.runtime import TensorRtRuntime
from dicom_node.infer.runtimes import onnxruntime
from dicom_node.infer.runtimes.port import LoadOptions, Precision
from dicom_node.infer.runtimes.tensorrt import TensorRtKind
from dicom_node.infer.volume import place
from dicom_node.infer.voxels import Voxels
from dicom_node.ledger.ledger import Ledger
from tests.engines.bundled import (
    BUNDLED,
    CT_LUNGS,
    CXR_PNEUMONIA,
    CXR_QUALITY,
    ENGINES,
    MR_BRAIN,
    MR_BRAIN_LOCATE,
    Bundled,
)
from tests.fake_cuda.fake import FakeCuda
from tests.fake_cuda.fixtures import cuda
from tests.stand_in_tensorrt import Faults, make_tensorrt
from tests.unit.infer.gpu.machines import FakeMachine
from tests.unit.infer.gpu.volumes import Expected, a_grid

__all__ = ["cuda"]

FP16, FP32 = Precision.FP16, Precision.FP32

Pass = Callable[..., Passed]


@pytest.fixture
def pass_ct_lungs(cuda: FakeCuda, tmp_path: Path) -> Iterator[Pass]:
    """Return a function that loads the engine's network on the first way that answers rightly."""
    cuda.set(graphs=True)
    device = Device()
    passed: list[Passed] = []

    def load(faults: Faults | None = None, version: str = "11.4.0.106") -> Passed:
        library = Library(make_tensorrt(version, faults=faults, on_stream=cuda.on_stream))
        gpu = TensorRtKind(library=lambda: library, device=lambda ordinal: device)
        ways = [Way(gpu, FP16), Way(gpu, FP32), Way(onnxruntime.KIND, FP32)]
        options = LoadOptions(
            profiles={CT_LUNGS.input: CT_LUNGS.profile(4)}, cache_dir=tmp_path / "plans"
        )
        passed.append(pass_gate("ct_lungs", CT_LUNGS.file, ways, options, CT_LUNGS.vector()))
        return passed[-1]

    yield load
    for one in passed:
        one.runtime.close()
    device.close()
    assert cuda.leaked_bytes == 0


def wrong_in(*precisions: Precision) -> Faults:
    """Return faults by which new plans of these precisions answer wrongly; FP16 is built first."""
    faults = Faults()

    def tamper(name: str, values: Any) -> Any:
        precision = FP16 if faults.calls.count("OnnxParser.parse") == 1 else FP32
        return values + 0.1 if precision in precisions else values

    faults.tamper = tamper
    return faults


@pytest.mark.parametrize("version", ["11.4.0.106", "8.6.0"])
def test_the_network_gives_the_answers_of_its_test_vector_in_fp16(
    version: str, pass_ct_lungs: Pass
) -> None:
    passed = pass_ct_lungs(version=version)
    assert isinstance(passed.runtime, TensorRtRuntime)
    assert passed.runtime.description == f"TensorRT {version} on FAKE-0, fp16"
    (parity,) = passed.parities
    assert parity.accepted
    assert parity.difference is not None
    assert parity.difference.max_abs == pytest.approx(0.0018, abs=0.0001)
    assert parity.difference.flips == 0.0
    assert parity.difference.dice == 1.0
    vector = CT_LUNGS.vector()
    answer = passed.runtime.run(vector.inputs)["probabilities"]
    assert answer == pytest.approx(vector.expected.astype(np.float32), abs=0.002)
    many = np.tile(vector.inputs["image_hu"], (5, 1, 1, 1))
    assert passed.runtime.run({"image_hu": many})["probabilities"].shape == (10, 3, 128, 128)


def test_a_plan_that_answers_wrongly_in_fp16_is_followed_by_one_in_fp32(
    pass_ct_lungs: Pass,
) -> None:
    passed = pass_ct_lungs(wrong_in(FP16))
    assert passed.runtime.description == "TensorRT 11.4.0.106 on FAKE-0, fp32"
    refused, accepted = passed.parities
    assert (refused.precision, refused.accepted) == (FP16, False)
    assert refused.reason.startswith("numbers differ by up to 0.102, more than 0.002")
    assert accepted.difference is not None
    assert accepted.difference.max_abs == pytest.approx(0.0, abs=0.0005)


def test_where_no_plan_answers_rightly_the_processor_does(
    pass_ct_lungs: Pass, tmp_path: Path
) -> None:
    passed = pass_ct_lungs(wrong_in(FP16, FP32))
    assert passed.runtime.description.startswith("onnxruntime ")
    assert [parity.accepted for parity in passed.parities] == [False, False, True]
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.migrate()
    for at, parity in enumerate(passed.parities):
        ledger.engines.record_parity(
            float(at), parity.engine, accepted=parity.accepted, reason=parity.in_words
        )
    told = [(event.event, event.reason) for event in ledger.engines.parities("ct_lungs")]
    ledger.close()
    assert [event for event, _ in told] == ["PARITY_ACCEPTED", "PARITY_REFUSED", "PARITY_REFUSED"]
    assert told[2][1].startswith(
        "model.onnx on TensorRT 11.4.0.106 on FAKE-0, fp16 (fp16) refused: numbers differ by up to"
    )


def test_a_kept_plan_that_answers_wrongly_now_is_built_again_and_taken(
    pass_ct_lungs: Pass, tmp_path: Path
) -> None:
    pass_ct_lungs()
    faults = Faults()
    # The kept plan has gone bad; the one that is built instead has not.
    faults.tamper = lambda name, values: (
        values if "Builder.build_serialized_network" in faults.calls else values + 0.1
    )
    passed = pass_ct_lungs(faults)
    assert [(p.precision, p.accepted) for p in passed.parities] == [(FP16, True)]
    assert faults.calls.count("Builder.build_serialized_network") == 1
    assert len(list((tmp_path / "plans").glob("*/plan.bad"))) == 1


def test_the_second_start_builds_nothing(pass_ct_lungs: Pass) -> None:
    pass_ct_lungs()
    faults = Faults()
    pass_ct_lungs(faults)
    assert "Builder.build_serialized_network" not in faults.calls


def test_a_plan_that_was_refused_when_it_was_new_is_not_built_at_each_start(
    pass_ct_lungs: Pass,
) -> None:
    pass_ct_lungs(wrong_in(FP16))
    again = Faults()
    again.tamper = lambda name, values: (
        values + 0.1 if again.calls.count("Runtime.deserialize_cuda_engine") == 1 else values
    )
    passed = pass_ct_lungs(again)
    assert [(p.precision, p.accepted) for p in passed.parities] == [(FP16, False), (FP32, True)]
    assert "Builder.build_serialized_network" not in again.calls


@pytest.mark.parametrize(
    "network",
    [
        CXR_PNEUMONIA,
        CXR_QUALITY,
        pytest.param(MR_BRAIN, marks=pytest.mark.slow),
        MR_BRAIN_LOCATE,
    ],
    ids=str,
)
def test_the_other_bundled_networks_pass_in_fp16(network: Bundled, cuda: FakeCuda) -> None:
    library = Library(make_tensorrt(on_stream=cuda.on_stream))
    options = LoadOptions(profiles={network.input: network.profile(1)})
    with closing(Device()) as device:
        kind = TensorRtKind(library=lambda: library, device=lambda ordinal: device)
        way = Way(kind, FP16)
        passed = pass_gate(str(network), network.file, [way], options, network.vector())
        passed.runtime.close()
    assert passed.parities[0].accepted


def test_every_bundled_network_is_known_here() -> None:
    assert {one.name for one in BUNDLED} == {
        str(file.relative_to(ENGINES)) for file in ENGINES.glob("*/*.onnx")
    }


CHEST = (12, 256, 256)


def a_chest() -> Voxels:
    """Return two lungs of air in a body of water, in HU."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in CHEST), indexing="ij")
    hounsfield = np.full(x.shape, -1000, np.int16)
    hounsfield[(x / 0.85) ** 2 + (y / 0.6) ** 2 < 1] = 40
    for side in (-0.38, 0.38):
        lung = ((x - side) / 0.26) ** 2 + (y / 0.42) ** 2 + (z / 0.9) ** 2 < 1
        hounsfield[lung] = -850
    return Voxels(hounsfield, np.ones(CHEST[0], np.float32), np.zeros(CHEST[0], np.float32))


def test_a_plan_is_the_network_of_the_whole_way_on_the_gpu(cuda: FakeCuda, tmp_path: Path) -> None:
    """Kernels of ours, a plan of TensorRT's: the mask that the processor makes of the same."""
    cuda.set(order="late")
    manifest = load_manifest(ENGINES / "ct_lungs")
    assert manifest.volume is not None
    library = Library(make_tensorrt(on_stream=cuda.on_stream))
    voxels, grid = a_chest(), a_grid(CHEST, (8.0, 1.3, 1.3))
    machine = FakeMachine(cuda)
    with closing(Device()) as device:
        kind = TensorRtKind(library=lambda: library, device=lambda ordinal: device)
        options = LoadOptions(profiles={CT_LUNGS.input: CT_LUNGS.profile(16)})
        runtime = kind.load(CT_LUNGS.file, options)
        network = runtime.on_device("probabilities")
        kernels = device.call(lambda: Kernels(device, machine.compile_source))
        path = GpuPath(
            device,
            kernels,
            [network],
            manifest.volume,
            manifest.model,
            manifest.intensity,
            budget=Budget(device.total_bytes),
        )
        found = path.labels(voxels, place(grid, manifest.volume))
        path.close()
        device.call(network.close)
        runtime.close()
    processor = onnxruntime.KIND.load(CT_LUNGS.file, LoadOptions(threads=2))

    def answer(shown: NDArray[np.float32]) -> NDArray[Any]:
        return processor.run({"image_hu": shown})["probabilities"]

    given = (manifest.volume, manifest.model, manifest.intensity)
    Expected(grid, voxels, *given, [answer]).agrees(found)
    counts = np.bincount(found.ravel(), minlength=3)
    assert counts[1] > 1000
    assert counts[2] > 1000
