"""A network in FP16, its ends and its delicate nodes in FP32.

Since TensorRT 10 a network is typed strongly: it is computed in the types that its file has, so it
is the file that has to be converted. Names keep their meaning: `x` stays the float32 tensor that it
was, `x__half` is the same in FP16, and a cast stands where a node wants the other of the two.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from dicom_node.infer.plans.graph import Graph, Slots, captured
from dicom_node.infer.plans.wide import choose_wide

VERSION = 1
"""Of these rules and of those in `wide`: a part of the identity of every plan made by them."""

_SUFFIX = "__half"


def to_half(model: ModelProto) -> ModelProto:
    """Return a network that computes in FP16 what may be, with the ends of the one given."""
    return _Conversion(Graph(model)).converted()


class _Conversion:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._wide = choose_wide(graph)
        self._nodes: list[NodeProto] = []
        self._half: set[str] = set()
        """Float tensors of which the FP16 form is there."""
        self._full = set(graph.inputs) | set(graph.constants)
        """Float tensors of which the FP32 form is there."""

    def converted(self) -> ModelProto:
        for index, node in enumerate(self._graph.nodes):
            changed = NodeProto()
            changed.CopyFrom(node)
            slots = self._graph.slots(node)
            if index in self._wide or slots is None:
                self._keep(changed)
            else:
                self._narrow(changed, slots)
            self._nodes.append(changed)
        self._widen(self._graph.outputs)
        return self._assembled()

    def _keep(self, node: NodeProto) -> None:
        reads = [name for name in node.input if name in self._graph.floats]
        gives_floats = any(name in self._graph.floats for name in node.output)
        if len(reads) == 1 and not gives_floats and not captured(node):
            self._take_as_it_is(node)
        else:
            self._widen([*reads, *captured(node)])
        self._full.update(node.output)

    def _take_as_it_is(self, node: NodeProto) -> None:
        """Let a node that gives no float (ArgMax, Shape) read what is there."""
        slots = self._graph.slots(node)
        for index, name in enumerate(node.input):
            if name in self._half and name not in self._full:
                if slots is not None and index in slots.inputs:
                    node.input[index] = name + _SUFFIX
                else:
                    self._widen([name])

    def _narrow(self, node: NodeProto, slots: Slots) -> None:
        self._widen(name for i, name in enumerate(node.input) if i not in slots.inputs)
        for index in slots.inputs:
            name = node.input[index]
            if name not in self._half:
                self._half.add(name)
                if name not in self._graph.constants:
                    self._cast(name, name + _SUFFIX, TensorProto.FLOAT16)
            node.input[index] = name + _SUFFIX
        for index in slots.outputs:
            self._half.add(node.output[index])
            node.output[index] += _SUFFIX

    def _widen(self, names: Iterable[str]) -> None:
        """Have the FP32 form of these, where there is only the other."""
        for name in names:
            if name in self._half and name not in self._full:
                self._full.add(name)
                self._cast(name + _SUFFIX, name, TensorProto.FLOAT)

    def _cast(self, source: str, target: str, to: int) -> None:
        name = f"{target}__cast"
        self._nodes.append(helper.make_node("Cast", [source], [target], name=name, to=to))

    def _assembled(self) -> ModelProto:
        model = self._graph.model
        constants = self._graph.constants
        with np.errstate(over="ignore", under="ignore"):
            halves = [
                numpy_helper.from_array(constants[name].astype(np.float16), name + _SUFFIX)
                for name in sorted(self._half & set(constants))
            ]
        read = {name for node in self._nodes for name in (*node.input, *captured(node))}
        read |= self._graph.outputs
        kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
        del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
        model.graph.node.extend(self._nodes)
        model.graph.initializer.extend([*kept, *halves])
        return model
