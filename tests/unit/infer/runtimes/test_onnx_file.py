"""What an ONNX file declares, against the `onnx` package, which reads it in another way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dicom_node.errors import EngineError
from dicom_node.infer.runtimes.ends import Tensor
from dicom_node.infer.runtimes.onnx_file import read_onnx
from tests.unit.infer.runtimes.models import save, save_small

ROOT = Path(__file__).parents[4]
MODELS = sorted([*ROOT.glob("engines/*/*.onnx"), *ROOT.glob("tests/data/models/*.onnx")])


def declared(values: list[onnx.ValueInfoProto]) -> list[Tensor]:
    def axis(dimension: onnx.TensorShapeProto.Dimension) -> int | str:
        return str(dimension.dim_param) or int(dimension.dim_value)

    return [
        Tensor(
            value.name,
            helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
            tuple(axis(dimension) for dimension in value.type.tensor_type.shape.dim),
        )
        for value in values
    ]


@pytest.mark.parametrize("file", MODELS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_file_says_what_the_onnx_package_reads(file: Path) -> None:
    model, found = onnx.load(file), read_onnx(file)
    assert list(found.ends.inputs) == declared(list(model.graph.input))
    assert list(found.ends.outputs) == declared(list(model.graph.output))
    assert found.opset == next(o.version for o in model.opset_import if not o.domain)
    assert found.producer == f"{model.producer_name} {model.producer_version}".strip()
    assert found.operators == {node.op_type for node in model.graph.node}


def test_there_are_models_to_read() -> None:
    assert len(MODELS) >= 6


def test_weights_among_the_inputs_are_none(tmp_path: Path) -> None:
    model = onnx.load(save_small(tmp_path / "x.onnx"))
    one = helper.make_tensor_value_info("one", TensorProto.FLOAT, [1])
    model.graph.input.append(one)
    onnx.save(model, tmp_path / "old.onnx")
    assert read_onnx(tmp_path / "old.onnx").ends.input_names == ("x",)


def test_an_axis_may_have_no_name_and_an_output_no_shape(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    file = save(tmp_path / "x.onnx", [node], [None, 3], {"y": []})
    model = onnx.load(file)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, file)
    ends = read_onnx(file).ends
    assert ends.inputs == (Tensor("x", np.dtype("float32"), ("", 3)),)
    assert ends.outputs == (Tensor("y", np.dtype("float32"), None),)
    assert str(ends.inputs[0]) == "float32 [?, 3]"
    assert str(ends.outputs[0]) == "float32 of any shape"


def test_an_operator_of_somebody_elses_is_named_with_its_domain(tmp_path: Path) -> None:
    node = helper.make_node("Unheard", ["x"], ["y"], domain="org.example")
    file = save(tmp_path / "x.onnx", [node], ["n"], {"y": ["n"]})
    assert read_onnx(file).operators == {"org.example.Unheard"}


def test_an_input_that_is_no_tensor_is_named(tmp_path: Path) -> None:
    model = onnx.load(save_small(tmp_path / "x.onnx"))
    sequence = helper.make_tensor_sequence_value_info("many", TensorProto.FLOAT, ["n"])
    model.graph.input.append(sequence)
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(EngineError, match="many is no tensor of numbers"):
        read_onnx(tmp_path / "x.onnx")


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"\xff" * 40, b"\x0a"])
def test_what_is_no_model_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(EngineError, match=r"x\.onnx cannot be loaded"):
        read_onnx(tmp_path / "x.onnx")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"x\.onnx cannot be loaded: .*No such file"):
        read_onnx(tmp_path / "x.onnx")


def test_a_model_that_was_cut_off_is_told_or_read_but_never_crashes(tmp_path: Path) -> None:
    whole = save_small(tmp_path / "whole.onnx").read_bytes()
    told = 0
    for length in range(1, len(whole)):
        (tmp_path / "x.onnx").write_bytes(whole[:length])
        try:
            read_onnx(tmp_path / "x.onnx")
        except EngineError:
            told += 1
    assert told > len(whole) - 20  # the graph, nearly all of it, ends too early
