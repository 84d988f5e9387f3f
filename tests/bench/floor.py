"""What a network cannot do faster: its multiplications, and the bytes between its layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import shape_inference


@dataclass(frozen=True)
class Work:
    """Of one run of a network."""

    operations: int
    """Multiplications and additions of its convolutions and matrix products."""
    bytes_moved: int
    """Each tensor between two layers written once and read once, activations fused away."""


_FUSED = {
    "Relu",
    "LeakyRelu",
    "Elu",
    "Sigmoid",
    "Clip",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Constant",
    "Cast",
}
"""What a good compiler does while it writes the layer before."""


def work_of(file: Path, shape: tuple[int, ...], element_bytes: int = 2) -> Work:
    """Return the work of one run.

    Parameters
    ----------
    file : Path
        An ONNX file with one input.
    shape : tuple of int
        Of its input.
    element_bytes : int
        Of an activation: 2 in half precision.
    """
    model = onnx.load(file)
    for at, side in enumerate(shape):
        model.graph.input[0].type.tensor_type.shape.dim[at].dim_value = side
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        one.name: [dim.dim_value for dim in one.type.tensor_type.shape.dim]
        for one in (*graph.input, *graph.value_info, *graph.output)
    }
    weights = {one.name: list(one.dims) for one in graph.initializer}
    operations = moved = 0
    for node in graph.node:
        out = shapes.get(node.output[0], [])
        if node.op_type in {"Conv", "ConvTranspose", "Gemm"}:
            per_output = int(np.prod(weights[node.input[1]][1:]))
            where = out
            if node.op_type == "ConvTranspose":
                # Each voxel that comes in is spread over all channels that go out.
                where = shapes[node.input[0]]
            operations += 2 * int(np.prod(where)) * per_output
        if node.op_type not in _FUSED:
            inputs = [shapes[name] for name in node.input if name in shapes]
            moved += element_bytes * sum(int(np.prod(one)) for one in (*inputs, out))
            moved += element_bytes * sum(
                int(np.prod(weights[name])) for name in node.input if name in weights
            )
    return Work(operations, moved)
