"""An ONNX graph, as far as a change of types has to know it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    defs,
    numpy_helper,
    shape_inference,
)

_HALF = "tensor(float16)"


@dataclass(frozen=True)
class Slots:
    """Which inputs and outputs of a node may be FP16 instead of FP32, by position."""

    inputs: frozenset[int]
    outputs: frozenset[int]


class Graph:
    """The top graph of a model, its types inferred and its constants at hand.

    Parameters
    ----------
    model : onnx.ModelProto
        Left as it is; `self.model` is a copy without Constant nodes.
    """

    def __init__(self, model: ModelProto) -> None:
        self.model = shape_inference.infer_shapes(model)
        graph = self.model.graph
        _constants_to_initializers(graph)
        self.nodes: list[NodeProto] = list(graph.node)
        self.inputs = {value.name for value in graph.input}
        self.outputs = {value.name for value in graph.output}
        self._opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))

    @cached_property
    def constants(self) -> Mapping[str, NDArray[Any]]:
        """The float32 initializers."""
        return {
            tensor.name: numpy_helper.to_array(tensor)
            for tensor in self.model.graph.initializer
            if tensor.data_type == TensorProto.FLOAT
        }

    @cached_property
    def floats(self) -> frozenset[str]:
        """The names of all tensors that are known to be float32."""
        graph = self.model.graph
        known = [*graph.input, *graph.output, *graph.value_info]
        typed = {v.name for v in known if v.type.tensor_type.elem_type == TensorProto.FLOAT}
        return frozenset(typed | set(self.constants))

    @cached_property
    def typed(self) -> frozenset[str]:
        """The names of all tensors of which the type is known."""
        graph = self.model.graph
        known = [*graph.input, *graph.output, *graph.value_info]
        names = {value.name for value in known if value.type.tensor_type.elem_type}
        return frozenset(names | {tensor.name for tensor in graph.initializer})

    @cached_property
    def consumers(self) -> Mapping[str, list[int]]:
        """The nodes that read a tensor, by its name; those that capture it in a subgraph too."""
        found: dict[str, list[int]] = defaultdict(list)
        for index, node in enumerate(self.nodes):
            for name in {*node.input, *captured(node)}:
                found[name].append(index)
        return found

    def slots(self, node: NodeProto) -> Slots | None:
        """Return which float32 ends of a node ONNX also knows as FP16; None if it can have none.

        None also where a float32 output would not follow its inputs, as that of a Cast, or where
        the type of a tensor is not known.
        """
        if node.domain not in ("", "ai.onnx") or any(subgraphs(node)):
            return None
        try:
            schema = defs.get_schema(node.op_type, self._opset, "")
        except defs.SchemaError:
            return None
        allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
        formal_inputs, formal_outputs = list(schema.inputs), list(schema.outputs)

        def changeable(names: list[str], formal: list[Any]) -> dict[int, str]:
            kinds = {
                index: str(formal[min(index, len(formal) - 1)].type_str)  # the last is variadic
                for index, name in enumerate(names)
                if name in self.floats
            }
            return {index: kind for index, kind in kinds.items() if _HALF in allowed.get(kind, ())}

        if not {name for name in (*node.input, *node.output) if name} <= self.typed:
            return None
        inputs = changeable(list(node.input), formal_inputs)
        outputs = changeable(list(node.output), formal_outputs)
        float_outputs = {i for i, name in enumerate(node.output) if name in self.floats}
        if not inputs or set(outputs) != float_outputs:
            return None
        if not set(outputs.values()) <= set(inputs.values()):
            return None
        return Slots(frozenset(inputs), frozenset(outputs))


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the bodies of control flow."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def captured(node: NodeProto) -> set[str]:
    """Return the names that the bodies of a node read, those of their own among them."""
    names: set[str] = set()
    for body in subgraphs(node):
        names |= {value.name for value in body.output}
        for inner in body.node:
            names |= {*inner.input, *captured(inner)}
    return names


def _constants_to_initializers(graph: GraphProto) -> None:
    kept = []
    for node in graph.node:
        value = next((a for a in node.attribute if a.name in ("value", "value_float")), None)
        if node.op_type != "Constant" or value is None:
            kept.append(node)
            continue
        if value.name == "value":
            tensor = TensorProto()
            tensor.CopyFrom(value.t)
        else:
            tensor = numpy_helper.from_array(np.array(value.f, np.float32))
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
    del graph.node[:]
    graph.node.extend(kept)
