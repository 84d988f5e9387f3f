"""Which nodes of a network have to stay in FP32 when the rest goes to FP16.

* Sums over many voxels, norms, softmax, exponentials, roots and quotients: FP16 ends at 65504, and
  a sum over a volume or a square is soon there.
* Arithmetic of which only such nodes see the answer, like the squares in a norm that an exporter
  wrote out, node by node.
* Arithmetic on the input, before the first layer: above 2048, FP16 has no odd Hounsfield units.
* What makes the answer out of the last layer: a sigmoid, a scaling.
* Nodes with constants that FP16 cannot hold.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from dicom_node.infer.plans.graph import Graph, Slots

_NORMS = {
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "LpNormalization",
    "LRN",
    "MeanVarianceNormalization",
    "RMSNormalization",
}
_SUMS = {
    "CumSum",
    "Einsum",
    "GlobalAveragePool",
    "GlobalLpPool",
    "LpPool",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMean",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
}
_STEEP = {
    "Div",
    "Exp",
    "Hardmax",
    "Log",
    "LogSoftmax",
    "Pow",
    "Reciprocal",
    "Softmax",
    "Softplus",
    "Sqrt",
}
_SENSITIVE = _NORMS | _SUMS | _STEEP
_ARITHMETIC = {"Abs", "Add", "Mean", "Mul", "Neg", "Sub", "Sum"}
_MOVING = {
    "Clip",
    "Concat",
    "Flatten",
    "Identity",
    "Pad",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}
_ANSWERING = {"HardSigmoid", "Sigmoid", "Tanh"}


def choose_wide(graph: Graph) -> frozenset[int]:
    """Return the indices of the nodes that stay in FP32."""
    wide = {
        index
        for index, node in enumerate(graph.nodes)
        if (slots := graph.slots(node)) is None
        or node.op_type in _SENSITIVE
        or not _constants_fit(graph, node, slots)
    }
    wide |= _head(graph)
    wide |= _tail(graph, wide)
    return frozenset(wide)


def _constants_fit(graph: Graph, node: NodeProto, slots: Slots) -> bool:
    names = [node.input[index] for index in slots.inputs]
    return all(_fits(graph.constants[name]) for name in names if name in graph.constants)


def _fits(values: NDArray[np.float32]) -> bool:
    """Return whether FP16 holds these numbers; of many weights some may be too small for it."""
    with np.errstate(over="ignore", under="ignore"):
        half = values.astype(np.float16)
    if np.any(np.isinf(half) & np.isfinite(values)):
        return False
    return half.size != 1 or bool(half.item()) == bool(values.item())


def _head(graph: Graph) -> set[int]:
    """Return the nodes that prepare the input: arithmetic on nothing but it and constants."""
    found: set[int] = set()
    prepared = set(graph.inputs)
    for index, node in enumerate(graph.nodes):
        values = {name for name in node.input if name in graph.floats} - set(graph.constants)
        prepares = node.op_type in _ARITHMETIC | _MOVING | {"Div"}
        if prepares and values and values <= prepared:
            found.add(index)
            prepared.update(node.output)
    return found


def _tail(graph: Graph, wide: set[int]) -> set[int]:
    """Return the arithmetic whose answer only FP32 nodes, or the caller, will see."""
    found: set[int] = set()
    for index in reversed(range(len(graph.nodes))):
        node = graph.nodes[index]
        if node.op_type not in _ARITHMETIC | _MOVING | _ANSWERING:
            continue
        seen_by = {one for name in node.output for one in graph.consumers.get(name, ())}
        answers = any(name in graph.outputs for name in node.output)
        if (seen_by or answers) and seen_by <= wide | found:
            found.add(index)
    return found
