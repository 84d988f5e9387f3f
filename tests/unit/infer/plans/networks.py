"""Small networks, written node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
Shape = Sequence[int | str | None]
node = helper.make_node


def network(
    nodes: Sequence[NodeProto],
    constants: Mapping[str, Any] | None = None,
    *,
    x: Shape = ("n", 1, 8, 8),
    outputs: Mapping[str, int] | None = None,
    opset: int = 17,
    **more_inputs: Shape,
) -> ModelProto:
    """Return a network with the float32 input `x`, and by default the float32 output `y`."""
    graph = helper.make_graph(
        nodes,
        "small",
        [
            helper.make_tensor_value_info(name, FLOAT, shape)
            for name, shape in {"x": x, **more_inputs}.items()
        ],
        [
            helper.make_tensor_value_info(name, kind, None)
            for name, kind in (outputs or {"y": FLOAT}).items()
        ],
        [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in (constants or {}).items()
        ],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(model)
    for end, known in zip(model.graph.output, inferred.graph.output, strict=True):
        end.CopyFrom(known)
    return model


def convolution(name: str, source: str, target: str, channels: tuple[int, int]) -> Any:
    """Return a 3 x 3 convolution and its seeded weights."""
    rng = np.random.default_rng(len(name))
    before, after = channels
    weights = rng.standard_normal((after, before, 3, 3)).astype(np.float32) * 0.3
    made = node("Conv", [source, f"{name}_w"], [target], name=name, pads=[1, 1, 1, 1])
    return made, {f"{name}_w": weights}


def quantized(kind: type[np.generic] = np.int8, bias: str = "float") -> ModelProto:
    """Return a convolution in INT8, with a bias that is quantised or is not."""
    weights = np.random.default_rng(1).integers(-127, 128, (4, 1, 3, 3), np.int8)
    constants: dict[str, Any] = {
        "scale": np.float32(0.05),
        "zero": kind(0),
        "w": weights,
        "w_scale": np.float32(0.01),
        "b": np.ones(4, np.float32 if bias == "float" else np.int32),
    }
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="quantise"),
        node("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="dequantise"),
        node("DequantizeLinear", ["w", "w_scale"], ["wd"], name="weights"),
    ]
    if bias == "quantised":
        nodes.append(node("DequantizeLinear", ["b", "w_scale"], ["bd"], name="bias"))
    of_bias = "b" if bias == "float" else "bd"
    nodes.append(node("Conv", ["d", "wd", of_bias], ["y"], pads=[1, 1, 1, 1]))
    return network(nodes, constants)


def saved(model: ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    """Return the file of a model."""
    onnx.save(model, folder / name)
    return folder / name


def answers(model: ModelProto, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return what onnxruntime computes, by output."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))
