"""What TensorRT is told, in each of its versions, and what its refusals become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from dicom_node.errors import DeviceFull, EngineError
from dicom_node.infer.plans.builder import Built, build_plan
from dicom_node.infer.plans.library import Library
from dicom_node.infer.plans.shapes import plan_shapes
from dicom_node.infer.plans.source import read_source
from dicom_node.infer.runtimes.port import Precision, Profile
from tests.stand_in_tensorrt import Faults, make_tensorrt
from tests.stand_in_tensorrt.building import MAGIC
from tests.unit.infer.plans.networks import convolution, network, node, quantized, saved

FIRST, WEIGHTS = convolution("c1", "x", "y", (1, 3))
MODEL = network([FIRST], WEIGHTS)
PROFILES = {"x": Profile((1, 1, 8, 8), (2, 1, 8, 8), (4, 1, 8, 8))}
OLD, NEW = "8.6.0", "11.4.0.106"


def build(
    file: Path,
    version: str = NEW,
    precision: Precision = Precision.FP32,
    *,
    faults: Faults | None = None,
    timing: bytes = b"",
) -> Built:
    library = Library(make_tensorrt(version, faults=faults))
    source = read_source(file, precision)
    shapes = plan_shapes(source.name, source.inputs, PROFILES)
    return build_plan(library, source, shapes, workspace_bytes=1 << 20, timing=timing)


def told(built: Built) -> dict[str, Any]:
    """Return what the stand-in was told, which its plans say."""
    about: dict[str, Any] = json.loads(built.plan[len(MAGIC) :])
    return about


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return saved(MODEL, tmp_path)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
@pytest.mark.parametrize("version", [NEW, "10.9.0.34"])
def test_types_come_from_the_file_alone(file: Path, version: str, precision: Precision) -> None:
    about = told(build(file, version, precision))
    assert about["network_flags"] == 1 << 1  # STRONGLY_TYPED
    assert about["flags"] == []
    assert about["features"] == ["RESIZE"]


@pytest.mark.parametrize(("precision", "flags"), [(Precision.FP32, []), (Precision.FP16, ["FP16"])])
def test_tensorrt_8_is_told_by_flags(file: Path, precision: Precision, flags: list[str]) -> None:
    about = told(build(file, OLD, precision))
    assert about["network_flags"] == 1 << 0  # EXPLICIT_BATCH
    assert about["flags"] == flags
    assert about["features"] == ["PROFILE_SHARING_0806"]


def test_tensorrt_8_takes_int8_with_what_is_left_in_fp16(tmp_path: Path) -> None:
    about = told(build(saved(quantized(), tmp_path), OLD))
    assert about["flags"] == ["FP16", "INT8"]


def test_shapes_and_memory_are_told(file: Path) -> None:
    about = told(build(file))
    assert about["profile"] == {"x": [[1, 1, 8, 8], [2, 1, 8, 8], [4, 1, 8, 8]]}
    assert about["pools"] == {"WORKSPACE": 1 << 20}


def test_what_was_measured_is_used_and_returned(file: Path) -> None:
    assert build(file).timing == b"measured;"
    assert build(file, timing=b"measured;").timing == b"measured;measured;"
    assert build(file, timing=b"of another device;").timing == b"measured;"


def test_tensorrt_rtx_is_not_asked_for_measurements(file: Path) -> None:
    """It has none since 1.2, and warns whoever asks."""
    library = Library(make_tensorrt(name="tensorrt_rtx"))
    source = read_source(file, Precision.FP32)
    built = build_plan(library, source, PROFILES, workspace_bytes=1, timing=b"measured;")
    assert built.timing == b""


def test_operators_that_it_lacks_are_named(tmp_path: Path) -> None:
    nodes = [node("Det", ["x"], ["a"], name="d1"), node("Unique", ["a"], ["y"])]
    with pytest.raises(EngineError) as refusal:
        build(saved(network(nodes), tmp_path, "own.onnx"))
    assert refusal.value.message == (
        "own.onnx: operator Det at node d1 is not supported by TensorRT 11.4.0.106; "
        "operator Unique at node 1 of the graph is not supported by TensorRT 11.4.0.106"
    )


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("OnnxParser.parse", "model.onnx: TensorRT 11.4.0.106 cannot read it: injected"),
        ("IBuilderConfig.add_optimization_profile", "TensorRT refuses the shapes"),
        (
            "Builder.build_serialized_network",
            "model.onnx cannot be built by TensorRT 11.4.0.106: injected: Builder.build",
        ),
    ],
)
def test_what_it_does_not_do_is_told_in_its_words(file: Path, call: str, reason: str) -> None:
    with pytest.raises(EngineError) as refusal:
        build(file, faults=Faults(refuse=lambda name: name == call))
    assert reason in refusal.value.message


def test_an_exception_of_its_own_comes_out_as_ours(file: Path) -> None:
    faults = Faults(refuse=lambda name: name == "Builder.create_network", how="raise")
    with pytest.raises(EngineError, match=r"cannot be built by TensorRT .*: injected") as refusal:
        build(file, faults=faults)
    assert isinstance(refusal.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    "words",
    [
        "[localCheckMacros.cpp::getErrorStr::132] Error Code 2: OutOfMemory (Requested size 10)",
        "Requested amount of GPU memory (10 bytes) could not be allocated. Out of memory",
        "[defaultAllocator.cpp::allocate] Error Code 1: Cuda Runtime (out of memory)",
    ],
)
def test_too_little_memory_can_be_mended(file: Path, words: str) -> None:
    faults = Faults()

    def refuse(name: str) -> bool:
        if name == "Builder.build_serialized_network":
            faults.log(1, words)
            return True
        return False

    faults.refuse = refuse
    with pytest.raises(DeviceFull) as refusal:
        build(file, faults=faults)
    assert refusal.value.retryable
    assert "smaller windows or batches" in refusal.value.hint


def test_errors_of_one_build_are_not_told_of_the_next(file: Path) -> None:
    faults = Faults(refuse=lambda name: name == "Builder.build_serialized_network")
    library = Library(make_tensorrt(faults=faults))
    source = read_source(file, Precision.FP32)
    for _ in range(2):
        faults.log(2, "a warning from before")
        with pytest.raises(EngineError) as refusal:
            build_plan(library, source, PROFILES, workspace_bytes=1)
        assert refusal.value.message.count("injected") == 1
    faults.refuse = lambda name: False
    built = build_plan(library, source, PROFILES, workspace_bytes=1)
    assert built.warnings == ()


def test_weights_that_lie_beside_the_file_are_built_in(tmp_path: Path) -> None:
    weights = np.random.default_rng(1).standard_normal((64, 1, 8, 8)).astype(np.float32)
    conv = node("Conv", ["x", "w"], ["y"])
    onnx.save(
        network([conv], {"w": weights}),
        tmp_path / "big.onnx",
        save_as_external_data=True,
        location="big.weights",
    )
    assert (tmp_path / "big.weights").exists()
    source = read_source(tmp_path / "big.onnx", Precision.FP32)
    assert len(source.content) > weights.nbytes
    before = source.digest
    content = bytearray((tmp_path / "big.weights").read_bytes())
    content[0] ^= 1
    (tmp_path / "big.weights").write_bytes(content)
    assert read_source(tmp_path / "big.onnx", Precision.FP32).digest != before
