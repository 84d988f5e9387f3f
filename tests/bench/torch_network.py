"""An ONNX network as a PyTorch module, so that both sides of a benchmark run the very same one.

Only for machines that have PyTorch, and only for the operators that our networks use; any other
is an error, not a guess.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch.nn import functional

_POOLS = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_CONVOLUTIONS = {2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {2: functional.conv_transpose2d, 3: functional.conv_transpose3d}
_DTYPES = {1: torch.float32, 2: torch.uint8, 6: torch.int32, 7: torch.int64, 10: torch.float16}


class OnnxModule(torch.nn.Module):  # type: ignore[misc]
    """The graph of an ONNX file, node by node.

    Parameters
    ----------
    file : Path
        With one input and one output.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        graph = onnx.load(file).graph
        self._nodes = list(graph.node)
        self._input, self._output = graph.input[0].name, graph.output[0].name
        self._constants: dict[str, torch.Tensor] = {}
        for tensor in graph.initializer:
            self._hold(tensor.name, tensor)
        for node in self._nodes:
            if node.op_type == "Constant":
                self._hold(node.output[0], node.attribute[0].t)

    def _hold(self, name: str, tensor: onnx.TensorProto) -> None:
        values = torch.from_numpy(numpy_helper.to_array(tensor).copy())
        if values.is_floating_point():
            safe = f"w_{len(self._buffers)}"
            self.register_buffer(safe, values)
            self._constants[name] = safe
        else:
            self._constants[name] = values

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output for one input."""
        values: dict[str, Any] = {self._input: x}
        for name, held in self._constants.items():
            values[name] = self._buffers[held] if isinstance(held, str) else held
        for node in self._nodes:
            if node.op_type != "Constant":
                given = [values[name] if name else None for name in node.input]
                values[node.output[0]] = _computed(node, given)
        return values[self._output]


def _computed(node: onnx.NodeProto, given: list[Any]) -> torch.Tensor:
    attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    x = given[0]
    match node.op_type:
        case "Conv":
            dims = x.ndim - 2
            pads = attributes.get("pads", [0] * 2 * dims)
            assert pads[:dims] == pads[dims:], "padding that is not alike on both sides"
            return _CONVOLUTIONS[dims](
                x,
                given[1],
                given[2] if len(given) > 2 else None,
                stride=attributes.get("strides", [1] * dims),
                padding=pads[:dims],
                dilation=attributes.get("dilations", [1] * dims),
            )
        case "ConvTranspose":
            assert not any(attributes.get("pads", []))
            return _TRANSPOSED[x.ndim - 2](x, *given[1:], stride=attributes["strides"])
        case "InstanceNormalization":
            return functional.instance_norm(
                x, weight=given[1], bias=given[2], eps=attributes.get("epsilon", 1e-5)
            )
        case "MaxPool":
            sides = attributes["kernel_shape"]
            return _POOLS[len(sides)](x, sides, stride=attributes.get("strides", sides))
        case "Resize":
            scales = [float(scale) for scale in given[2]][2:]
            mode = attributes.get("mode", b"nearest").decode()
            linear = {2: "bilinear", 3: "trilinear"}[x.ndim - 2]
            return functional.interpolate(
                x,
                scale_factor=scales,
                mode="nearest" if mode == "nearest" else linear,
                **({} if mode == "nearest" else {"align_corners": False}),
            )
        case "Concat":
            return torch.cat(given, dim=attributes["axis"])
        case "ReduceMean":
            axes = attributes.get("axes") or [int(axis) for axis in given[1]]
            return x.mean(dim=tuple(axes), keepdim=bool(attributes.get("keepdims", 1)))
        case "Gemm":
            weights = given[1].T if attributes.get("transB") else given[1]
            return x @ weights + given[2]
        case "Clip":
            return x.clamp(given[1], given[2])
        case "ArgMax":
            axis, keep = attributes["axis"], bool(attributes.get("keepdims", 1))
            return x.argmax(dim=axis, keepdim=keep)
        case "Cast":
            return x.to(_DTYPES[attributes["to"]])
        case "Softmax":
            return x.softmax(dim=attributes.get("axis", -1))
        case "LeakyRelu":
            return functional.leaky_relu(x, attributes.get("alpha", 0.01))
        case "Relu":
            return functional.relu(x)
        case "Elu":
            return functional.elu(x, attributes.get("alpha", 1.0))
        case "Sigmoid":
            return x.sigmoid()
        case "Add":
            return x + given[1]
        case "Sub":
            return x - given[1]
        case "Mul":
            return x * given[1]
        case other:
            raise NotImplementedError(f"{other} is not among the operators of our networks")
