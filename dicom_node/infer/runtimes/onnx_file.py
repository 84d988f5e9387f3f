"""What an ONNX file says of its network, read without loading it.

ONNX is a protobuf message. Of its fields only the few named here are looked at, through a map of
the file, so that a gigabyte of weights is neither read nor kept; the `onnx` package, which reads
all of it, is for those who change models.

References
----------
onnx/onnx: onnx/onnx.proto, messages ModelProto, GraphProto, ValueInfoProto, TypeProto
protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dicom_node.errors import EngineError
from dicom_node.infer.runtimes.ends import Ends, Tensor

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_WIDTHS = {_FIXED_64: 8, _FIXED_32: 4}

_DTYPES = {  # TensorProto.DataType
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
}

Field = tuple[int, int | memoryview]
"""A field's number and its value: a number, or the bytes of a string or of a message."""


@dataclass(frozen=True)
class OnnxFile:
    """The declarations of a model."""

    ends: Ends
    opset: int
    """Of the standard operators."""
    producer: str
    operators: frozenset[str]
    """Those of its main graph, with their domain where it is not the standard one."""


def read_onnx(file: Path) -> OnnxFile:
    """Return what a model declares.

    Raises
    ------
    EngineError
        If the file is no ONNX model, or has an input or output that is no tensor of numbers.
    """
    try:
        with file.open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: it is empty
        raise EngineError(f"{file.name} cannot be loaded: {error}") from error
    try:
        return _model(memoryview(mapped))  # the map is closed with the last view of it
    except (IndexError, UnicodeDecodeError, _NotOnnx) as error:
        words = str(error) if isinstance(error, _NotOnnx) else "it is no ONNX model"
        raise EngineError(f"{file.name} cannot be loaded: {words}") from error


class _NotOnnx(Exception):
    pass


def _model(message: memoryview) -> OnnxFile:
    producer, opset, graph = [""], 0, None
    for number, value in _fields(message):
        if number in {2, 3}:  # producer_name, producer_version
            producer.append(_text(value))
        elif number == 7:
            graph = _graph(_bytes(value))
        elif number == 8:  # opset_import
            imported = dict(_fields(_bytes(value)))
            if not _text(imported.get(1, memoryview(b""))):
                opset = _number(imported.get(2, 0))
    if graph is None or not opset:
        raise _NotOnnx("it is no ONNX model")
    return OnnxFile(graph[0], opset, " ".join(producer).strip(), graph[1])


def _graph(message: memoryview) -> tuple[Ends, frozenset[str]]:
    inputs: list[memoryview] = []
    outputs: list[memoryview] = []
    weights: set[str] = set()
    operators: set[str] = set()
    for number, value in _fields(message):
        if number == 1:
            operators.add(_operator(_bytes(value)))
        elif number == 5:  # initializer: its name is field 8
            weights |= {_text(name) for field, name in _fields(_bytes(value)) if field == 8}
        elif number == 11:
            inputs.append(_bytes(value))
        elif number == 12:
            outputs.append(_bytes(value))
    # Old files list their weights among the inputs.
    ends = Ends(
        tuple(_tensor(value) for value in inputs if _name(value) not in weights),
        tuple(_tensor(value) for value in outputs),
    )
    return ends, frozenset(operators)


def _operator(node: memoryview) -> str:
    texts = {number: _text(value) for number, value in _fields(node) if number in {4, 7}}
    kind, domain = texts.get(4, ""), texts.get(7, "")
    return f"{domain}.{kind}" if domain else kind


def _name(value_info: memoryview) -> str:
    return next((_text(value) for number, value in _fields(value_info) if number == 1), "")


def _tensor(value_info: memoryview) -> Tensor:
    name = _name(value_info)
    kind = dict(_fields(_bytes(dict(_fields(value_info)).get(2, memoryview(b"")))))
    tensor = dict(_fields(_bytes(kind.get(1, memoryview(b"")))))
    dtype = _DTYPES.get(_number(tensor.get(1, 0)))
    if dtype is None:
        raise _NotOnnx(f"{name} is no tensor of numbers that numpy knows")
    shape = None
    if 2 in tensor:
        shape = tuple(
            _axis(_bytes(dim)) for number, dim in _fields(_bytes(tensor[2])) if number == 1
        )
    return Tensor(name, np.dtype(dtype), shape)


def _axis(dimension: memoryview) -> int | str:
    for number, value in _fields(dimension):
        if number == 1:
            return _number(value)
        if number == 2:
            return _text(value)
    return ""


def _fields(message: memoryview) -> Iterator[Field]:
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _varint(message, at)
        elif wire in _WIDTHS:
            length = _WIDTHS[wire]
        else:
            raise _NotOnnx("it is no ONNX model")
        if at + length > len(message):
            raise _NotOnnx("it ends too early")
        yield number, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _number(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise _NotOnnx("it is no ONNX model")
    return value


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _NotOnnx("it is no ONNX model")
    return value


def _text(value: int | memoryview) -> str:
    return str(_bytes(value), "utf-8")
