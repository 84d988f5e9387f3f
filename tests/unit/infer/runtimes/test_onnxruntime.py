"""onnxruntime answers by name, and its failures come out as ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from dicom_node.errors import EngineError
from dicom_node.infer.runtimes.onnxruntime import OnnxRuntime
from tests.unit.infer.runtimes.models import save_small


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_small(tmp_path / "small.onnx")


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
