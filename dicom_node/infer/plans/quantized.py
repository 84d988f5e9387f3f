"""Networks in INT8: taken as their file has them, and only in the form that TensorRT takes.

That is explicit QuantizeLinear and DequantizeLinear pairs, symmetric, with biases left in float.
What onnxruntime's quantiser writes by default is none of that; the parser refuses it with a line of
its own source code, so it is told here in words.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

_PAIRS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_IMPLICIT = frozenset(
    ["QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"]
)
_ADVICE = "quantise with symmetric INT8 activations and weights in QDQ form, biases left in float"


def is_quantized(model: ModelProto) -> bool:
    """Return whether a part of the network is integer arithmetic."""
    return any(node.op_type in _PAIRS | _IMPLICIT for node in model.graph.node)


def quantization_refusals(model: ModelProto) -> tuple[str, ...]:
    """Return why TensorRT cannot take the quantised parts; nothing if it can."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found = [reason for node in model.graph.node for reason in _refusals(node, constants)]
    return (*dict.fromkeys(found), _ADVICE) if found else ()


def _refusals(node: NodeProto, constants: dict[str, TensorProto]) -> Iterator[str]:
    where = f"at {node.name}" if node.name else f"that gives {node.output[0]}"
    if node.op_type in _IMPLICIT or (node.domain and node.op_type.startswith("QLinear")):
        yield f"{node.op_type} {where} is not a pair of QuantizeLinear and DequantizeLinear"
    if node.op_type not in _PAIRS:
        return
    zero = constants.get(node.input[2]) if len(node.input) > 2 else None
    data = constants.get(node.input[0])
    for tensor in (zero, data):
        if tensor is not None and tensor.data_type == TensorProto.UINT8:
            yield f"{node.op_type} {where} is UINT8, not INT8"
            return
    if data is not None and data.data_type == TensorProto.INT32:
        yield f"{node.op_type} {where} has a quantised bias (INT32)"
    if zero is not None and np.any(numpy_helper.to_array(zero)):
        yield f"{node.op_type} {where} has a zero point that is not 0"
    if zero is None and len(node.input) < 3 and node.op_type == "QuantizeLinear":
        yield f"{node.op_type} {where} has no zero point, which makes it UINT8"
