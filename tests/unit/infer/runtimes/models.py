"""Small ONNX models, made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper


def save_small(path: Path) -> Path:
    """Save a model of two outputs: x + 1 and x * 2; x is float32 [n, 3]."""
    nodes = [
        helper.make_node("Add", ["x", "one"], ["more"]),
        helper.make_node("Mul", ["x", "two"], ["double"]),
    ]
    weights = [
        helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0]),
    ]
    return save(path, nodes, ["n", 3], {"more": ["n", 3], "double": ["n", 3]}, weights)


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    input_shape: Sequence[int | str | None],
    outputs: Mapping[str, Sequence[int | str | None]],
    weights: Sequence[onnx.TensorProto] = (),
) -> Path:
    """Save a model of one float32 input x, and float32 outputs by name."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in outputs.items()
        ],
        list(weights),
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name="a hand"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path
