"""Just enough of ONNX's protobuf to write a network of a few nodes, without the `onnx` package.

A message is a row of fields; a field is its number and wire type in one varint, then its value: a
varint, or a length with so many bytes. Nothing else is needed here.

References
----------
onnx/onnx.proto (IR version 8, operator set 17); protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

IR_VERSION = 8
OPERATOR_SET = 17

_VARINT, _BYTES = 0, 2  # wire types
_FLOAT32, _INT64 = 1, 7  # TensorProto.DataType
_ATTRIBUTE_INT, _ATTRIBUTE_INTS = 2, 7  # AttributeProto.AttributeType

Dimension = int | str
"""A size, or the name of one that is open."""


@dataclass
class Network:
    """A network in the making: nodes in the order in which they are computed."""

    name: str
    _parts: list[bytes] = field(default_factory=list)
    _count: int = 0

    def node(self, operator: str, *inputs: str, **attributes: int | Sequence[int]) -> str:
        """Add a node and return the name of its output."""
        self._count += 1
        output = f"{operator.lower()}_{self._count}"
        message = b"".join(_text(1, name) for name in inputs) + _text(2, output)
        message += _text(4, operator)
        message += b"".join(_bytes(5, _attribute(*item)) for item in sorted(attributes.items()))
        self._parts.append(_bytes(1, message))
        return output

    def constant(self, values: NDArray[np.float32] | NDArray[np.int64]) -> str:
        """Add numbers and return their name."""
        self._count += 1
        name = f"constant_{self._count}"
        message = b"".join(_integer(1, size) for size in values.shape)
        message += _integer(2, _INT64 if values.dtype == np.int64 else _FLOAT32)
        message += _text(8, name) + _bytes(9, np.ascontiguousarray(values).tobytes())
        self._parts.append(_bytes(5, message))
        return name

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def model(
        self,
        inputs: dict[str, Sequence[Dimension]],
        output: str,
        name: str,
        shape: Sequence[Dimension],
    ) -> bytes:
        """Return the ONNX file: what goes in, and the node's output that comes out as `name`."""
        renamed = _bytes(1, _text(1, output) + _text(2, name) + _text(4, "Identity"))
        graph = b"".join(self._parts) + renamed + _text(2, self.name)
        graph += b"".join(_bytes(11, _tensor(*item)) for item in inputs.items())
        graph += _bytes(12, _tensor(name, shape))
        operators = _text(1, "") + _integer(2, OPERATOR_SET)
        return (
            _integer(1, IR_VERSION)
            + _text(2, "dicom_node")
            + _bytes(7, graph)
            + _bytes(8, operators)
        )


def _attribute(name: str, value: int | Sequence[int]) -> bytes:
    if isinstance(value, int):
        return _text(1, name) + _integer(3, value) + _integer(20, _ATTRIBUTE_INT)
    numbers = b"".join(_integer(8, one) for one in value)
    return _text(1, name) + numbers + _integer(20, _ATTRIBUTE_INTS)


def _tensor(name: str, shape: Sequence[Dimension]) -> bytes:
    """Return a ValueInfoProto: a name with its type, float32, and its shape."""
    sizes = b"".join(
        _bytes(1, _text(2, size) if isinstance(size, str) else _integer(1, size)) for size in shape
    )
    return _text(1, name) + _bytes(2, _bytes(1, _integer(1, _FLOAT32) + _bytes(2, sizes)))


def _integer(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _text(number: int, value: str) -> bytes:
    return _bytes(number, value.encode())


def _varint(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])
