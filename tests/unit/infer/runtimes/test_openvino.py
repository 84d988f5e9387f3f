"""OpenVINO computes in float32 unless it is allowed otherwise, and keeps nothing of one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from dicom_node.errors import EngineError
from dicom_node.infer.runtimes.openvino import OpenVino, _precision
from dicom_node.infer.runtimes.port import Precision
from tests.unit.infer.runtimes.models import save, save_small

FP32 = frozenset({Precision.FP32, Precision.FP16})
BF16 = FP32 | {Precision.BF16}


class Core:
    """What is asked of openvino.Core, for a processor that can do some things."""

    def __init__(self, *can: str) -> None:
        self.can = list(can)

    def get_property(self, device: str, name: str) -> Any:
        return {("CPU", "OPTIMIZATION_CAPABILITIES"): self.can}[device, name]


@pytest.mark.parametrize(
    ("can", "allowed", "taken"),
    [
        (("FP32", "BF16"), FP32, Precision.FP32),
        (("FP32", "BF16"), BF16, Precision.BF16),
        (("FP32",), BF16, Precision.FP32),
    ],
)
def test_bf16_needs_leave_and_a_processor(
    can: tuple[str, ...], allowed: frozenset[Precision], taken: Precision
) -> None:
    assert _precision(Core(*can), allowed) is taken


def test_float32_is_exact_to_float32(tmp_path: Path) -> None:
    """A product of 4096 ones and thousandths: bfloat16 would be off by parts in a hundred."""
    random = np.random.default_rng(3)
    weights = random.normal(size=(4096, 8)).astype(np.float32)
    tensor = helper.make_tensor("w", 1, weights.shape, weights.tobytes(), raw=True)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    file = save(tmp_path / "x.onnx", [node], ["n", 4096], {"y": ["n", 8]}, [tensor])
    runtime = OpenVino(file, threads=1, precisions=FP32)
    assert runtime.description.startswith("openvino ")
    assert runtime.description.endswith(" CPU fp32")
    x = random.normal(size=(4, 4096)).astype(np.float32)
    exact = x.astype(np.float64) @ weights
    np.testing.assert_allclose(runtime.run({"x": x})["y"], exact, atol=1e-3)


def test_a_missing_input_is_not_the_last_one(tmp_path: Path) -> None:
    """OpenVINO itself answers with what it was given before."""
    runtime = OpenVino(save_small(tmp_path / "x.onnx"), threads=1, precisions=FP32)
    runtime.run({"x": np.ones((1, 3), np.float32)})
    with pytest.raises(EngineError, match="it takes x, but was given nothing"):
        runtime.run({})


def test_memory_of_a_large_run_is_given_back_and_the_next_is_right(tmp_path: Path) -> None:
    runtime = OpenVino(save_small(tmp_path / "x.onnx"), threads=1, precisions=FP32)
    large = np.ones((2**21, 3), np.float32)
    assert (runtime.run({"x": large})["more"] == 2).all()
    assert runtime.run({"x": large[:1]})["double"].tolist() == [[2, 2, 2]]


def test_an_operator_that_it_lacks_is_named(tmp_path: Path) -> None:
    node = helper.make_node("Unheard", ["x"], ["y"], domain="org.example")
    file = save(tmp_path / "x.onnx", [node], ["n"], {"y": ["n"]})
    with pytest.raises(EngineError, match=r"x\.onnx cannot be loaded: .*Unheard"):
        OpenVino(file, threads=1, precisions=FP32)
