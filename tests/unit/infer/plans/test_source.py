"""What is given to the parser, and what is refused before it is asked."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest

from dicom_node.errors import EngineError
from dicom_node.infer.plans.quantized import quantization_refusals
from dicom_node.infer.plans.source import read_source
from dicom_node.infer.runtimes.port import Precision
from tests.unit.infer.plans.networks import convolution, network, node, quantized, saved

FIRST, WEIGHTS = convolution("c1", "x", "y", (1, 3))
MODEL = network([FIRST], WEIGHTS, x=("n", 1, None, 8))


def test_a_file_in_fp32_is_taken_as_it_is(tmp_path: Path) -> None:
    file = saved(MODEL, tmp_path)
    source = read_source(file, Precision.FP32)
    assert source.content == MODEL.SerializeToString()
    assert source.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (source.name, source.precision, source.converter) == ("model.onnx", "fp32", "")
    assert source.inputs == {"x": (None, 1, None, 8)}
    assert source.nodes == (("Conv", "c1"),)


def test_a_file_in_fp16_says_what_converted_it(tmp_path: Path) -> None:
    file = saved(MODEL, tmp_path)
    source = read_source(file, Precision.FP16)
    assert source.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert source.precision == "fp16"
    assert source.converter == f"half 1, onnx {onnx.__version__}"
    assert [operator for operator, _ in source.nodes] == ["Cast", "Conv", "Cast"]


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"\x08\x08\x12"])
def test_what_is_no_network_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(EngineError, match=r"x\.onnx is no network that can be read"):
        read_source(tmp_path / "x.onnx", Precision.FP32)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"x\.onnx is no network that can be read: .*No such"):
        read_source(tmp_path / "x.onnx", Precision.FP32)


def test_a_network_that_is_not_quantised_has_nothing_to_be_refused() -> None:
    assert quantization_refusals(MODEL) == ()
    assert quantization_refusals(quantized()) == ()


def test_every_way_to_quantise_that_tensorrt_does_not_take_is_told() -> None:
    constants = {
        "s": np.float32(0.1),
        "z": np.int8(3),
        "u": np.uint8(0),
        "w": np.zeros((3, 1, 3, 3), np.uint8),
    }
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["a"], name="shifted"),
        node("DequantizeLinear", ["a", "s", "z"], ["b"], name="shifted_back"),
        node("QuantizeLinear", ["b", "s"], ["c"]),
        node("DequantizeLinear", ["w", "s", "u"], ["d"], name="weights"),
        node("DynamicQuantizeLinear", ["b"], ["e", "f", "g"], name="dynamic"),
        node("QLinearConv", ["a", "s", "z", "w", "s", "u", "s", "z"], ["y"], name="fused"),
    ]
    told = quantization_refusals(network(nodes, constants, outputs={"y": onnx.TensorProto.INT8}))
    assert told[:-1] == (
        "QuantizeLinear at shifted has a zero point that is not 0",
        "DequantizeLinear at shifted_back has a zero point that is not 0",
        "QuantizeLinear that gives c has no zero point, which makes it UINT8",
        "DequantizeLinear at weights is UINT8, not INT8",
        "DynamicQuantizeLinear at dynamic is not a pair of QuantizeLinear and DequantizeLinear",
        "QLinearConv at fused is not a pair of QuantizeLinear and DequantizeLinear",
    )
    assert "symmetric INT8" in told[-1]
