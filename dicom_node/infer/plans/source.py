"""What TensorRT's parser is given: an ONNX file, in the precision that is wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, TensorProto
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from dicom_node.errors import EngineError
from dicom_node.infer.plans import half
from dicom_node.infer.plans.quantized import is_quantized, quantization_refusals
from dicom_node.infer.plans.shapes import OpenShape
from dicom_node.infer.runtimes.port import Precision

INT8 = "int8"
"""How a network is called that is computed in integers because its file says so."""


@dataclass(frozen=True, eq=False)
class Source:
    """A network, ready to be parsed."""

    name: str
    """Of its file, for messages."""
    digest: str
    """SHA-256 of the file, and of those that hold its weights, as they lie on the disk."""
    precision: str
    """fp32, fp16, or int8 where the file has quantised parts."""
    converter: str
    """What was done to it, with versions; empty if nothing was."""
    content: bytes
    """An ONNX model, weights included."""
    inputs: Mapping[str, OpenShape]
    nodes: tuple[tuple[str, str], ...]
    """Operator and name of each node of `content`, for messages about them."""


def read_source(file: Path, precision: Precision) -> Source:
    """Return the network of a file.

    Raises
    ------
    EngineError
        If it is no ONNX model, or is quantised in a way that TensorRT refuses.
    """
    with _translated(file.name):
        digest = _digest(file)
        model = onnx.load(file)
        if not model.graph.node:
            raise EngineError(f"{file.name} is no network that can be read: it has no nodes")
        as_int8 = is_quantized(model)
        if refusals := quantization_refusals(model):
            raise EngineError(f"{file.name}: TensorRT cannot take it: {'; '.join(refusals)}")
        converted = precision is Precision.FP16 and not as_int8
        if converted:
            model = half.to_half(model)
        constants = {tensor.name for tensor in model.graph.initializer}
        return Source(
            name=file.name,
            digest=digest,
            precision=INT8 if as_int8 else precision.value,
            converter=f"half {half.VERSION}, onnx {onnx.__version__}" if converted else "",
            content=model.SerializeToString(),
            inputs={v.name: _shape(v) for v in model.graph.input if v.name not in constants},
            nodes=tuple((node.op_type, node.name) for node in model.graph.node),
        )


def _shape(value: onnx.ValueInfoProto) -> OpenShape:
    return tuple(
        side.dim_value if side.HasField("dim_value") and side.dim_value > 0 else None
        for side in value.type.tensor_type.shape.dim
    )


def _digest(file: Path) -> str:
    """Return the SHA-256 of a model; weights in other files count as they come in the graph."""
    digest = hashlib.sha256(file.read_bytes())
    model = onnx.load(file, load_external_data=False)
    others = {ExternalDataInfo(tensor).location for tensor in _external(model)}
    for name in sorted(others):
        digest.update(name.encode() + b"\0")
        digest.update((file.parent / name).read_bytes())
    return digest.hexdigest()


def _external(model: ModelProto) -> Iterator[TensorProto]:
    def of(graph: GraphProto) -> Iterator[TensorProto]:
        yield from (tensor for tensor in graph.initializer if uses_external_data(tensor))
        for node in graph.node:
            for attribute in node.attribute:
                if uses_external_data(attribute.t):
                    yield attribute.t
                for body in (attribute.g, *attribute.graphs):
                    yield from of(body)

    return of(model.graph)


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """Translate what onnx and protobuf raise: their exceptions have no base of their own."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise EngineError(f"{name} is no network that can be read: {told}") from error
