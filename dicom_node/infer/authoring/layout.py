"""Channels in front of rows and columns, where a model has them behind, as Keras does.

The node lays tensors out as [n, channels, rows, columns]. A model that wants them otherwise gets a
Transpose at its ends; what is between is left as it is. This changes a model and so needs the
`onnx` package, which the node itself does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dicom_node.errors import EngineError

_BATCH_AXIS = "n"


def put_channels_first(source: Path, target: Path) -> None:
    """Write a model with its channels in front, and its first axes under one name.

    Raises
    ------
    EngineError
        If `onnx` is not installed, or the changed model is not valid.
    """
    try:
        import onnx
    except ImportError as error:
        raise EngineError(
            f"{source.name} has its channels behind rows and columns; to put them in front, the "
            "package onnx is needed",
            hint="pip install onnx, here or where the model is exported from",
        ) from error
    model = onnx.load(source)
    graph = model.graph
    [given] = graph.input
    rank = len(given.type.tensor_type.shape.dim)
    to_last = [0, *range(2, rank), 1]
    to_first = [0, rank - 1, *range(1, rank - 1)]
    _rename(graph, given.name, f"{given.name}_channels_last")
    _permute(given, to_first)
    before = onnx.helper.make_node(
        "Transpose", [given.name], [f"{given.name}_channels_last"], perm=to_last
    )
    graph.node.insert(0, before)
    for answer in graph.output:
        if len(answer.type.tensor_type.shape.dim) == rank:
            _rename(graph, answer.name, f"{answer.name}_channels_last")
            _permute(answer, to_first)
            after = onnx.helper.make_node(
                "Transpose", [f"{answer.name}_channels_last"], [answer.name], perm=to_first
            )
            graph.node.append(after)
    for value in (given, *graph.output):
        first = value.type.tensor_type.shape.dim[:1]
        if first and not first[0].HasField("dim_value"):
            first[0].dim_param = _BATCH_AXIS  # exporters give each end a name of its own
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise EngineError(f"{source.name} could not be turned: {error}") from error
    onnx.save(model, target)


def _rename(graph: Any, old: str, new: str) -> None:
    """Rename a value wherever nodes make or take it."""
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, old, new)


def _permute(value: Any, order: list[int]) -> None:
    dimensions = value.type.tensor_type.shape.dim
    permuted = [type(dimensions[0])() for _ in order]
    for target, source in zip(permuted, order, strict=True):
        target.CopyFrom(dimensions[source])
    del dimensions[:]
    dimensions.extend(permuted)
