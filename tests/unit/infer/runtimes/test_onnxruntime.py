"""onnxruntime answers by name, and its failures come out as ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from dicom_node.errors import EngineError, EngineUnavailable
from dicom_node.infer.runtimes.onnxruntime import OnnxRuntime, _translated


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a model of two outputs: x + 1 and x * 2."""
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    two = helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0])
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "one"], ["more"]),
            helper.make_node("Mul", ["x", "two"], ["double"]),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3])
            for name in ("more", "double")
        ],
        [one, two],
    )
    path = tmp_path / "small.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path
    )
    return path


def test_all_outputs_come_by_name(model: Path) -> None:
    runtime = OnnxRuntime(model, threads=1)
    assert (runtime.inputs, runtime.outputs) == (("x",), ("more", "double"))
    assert runtime.description == f"onnxruntime {onnxruntime.__version__} CPU"
    answer = runtime.run({"x": np.array([[1, 2, 3]], np.float32)})
    assert answer["more"].tolist() == [[2, 3, 4]]
    assert answer["double"].tolist() == [[2, 4, 6]]


@pytest.mark.parametrize(
    "inputs",
    [
        {"x": np.zeros((1, 4), np.float32)},
        {"x": np.zeros((1, 3), np.int32)},
        {"y": np.zeros((1, 3), np.float32)},
        {},
    ],
)
def test_inputs_that_do_not_fit_are_the_engines_fault(
    inputs: dict[str, np.ndarray], model: Path
) -> None:
    with pytest.raises(EngineError, match=r"small\.onnx failed"):
        OnnxRuntime(model, threads=1).run(inputs)


def test_what_is_no_model_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(EngineError, match=r"x\.onnx cannot be loaded"):
        OnnxRuntime(tmp_path / "x.onnx", threads=1)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("Failed to allocate memory for requested buffer of size 9")],
)
def test_too_little_memory_may_be_tried_again(error: Exception) -> None:
    with pytest.raises(EngineUnavailable, match="out of memory") as refusal, _translated("x"):
        raise error
    assert refusal.value.retryable
