"""A Keras model as ONNX: layer by layer, channels in front, batch normalisation folded in.

Keras keeps channels behind rows and columns; the node, as ONNX and every GPU, has them in front.
Turning the whole model at its ends would cost a transposition of each image and leave the graph in
the way of its backend, different from one to the other. So each layer is written as the one or two
nodes that it is, with its weights turned. What has no place here is refused by its name.

The answers are compared with those of Keras before anything is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dicom_node.errors import EngineError
from dicom_node.infer.runtimes.port import LoadOptions
from dicom_node.infer.runtimes.registry import DEFAULT, RUNTIMES
from engines.recipes.backend import keras

OPERATOR_SET, IR_VERSION = 17, 8
TOLERANCE = 1e-4
"""Between Keras and onnxruntime, of a probability: both add float32, in different orders."""

_ACTIVATIONS = {
    "linear": None,
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "elu": "Elu",
    "softplus": "Softplus",
    "softmax": "Softmax",
}
_ONLY_IN_TRAINING = ("Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout")


def export_onnx(model: Any, file: Path, sample: NDArray[np.float32], ends: tuple[str, str]) -> None:
    """Write a model as ONNX, and make sure that it answers as Keras does.

    Parameters
    ----------
    model : keras.Model
        Of one input [n, rows, columns, channels] and one output.
    file : Path
    sample : numpy.ndarray, shape (n, rows, columns, 1), float32
        What both are asked. Where the network has more channels, it sees the one in each of them.
    ends : tuple of str
        The names of input and output.

    Raises
    ------
    EngineError
        If a layer is not known here, or the answers differ.
    """
    file.write_bytes(onnx_of(model, ends))
    given = np.repeat(sample, model.input.shape[-1], axis=-1)
    expected = np.asarray(model.predict(given, verbose=0, batch_size=32))
    if expected.ndim == 4:
        expected = expected.transpose(0, 3, 1, 2)
    answer = answers_of(file, sample, ends)
    difference = float(np.abs(answer - expected).max())
    if not difference <= TOLERANCE:
        file.unlink()
        raise EngineError(
            f"the ONNX of {model.name} differs from Keras by {difference:g}",
            hint="a mistake of engines/recipes/export.py: report it with the network",
        )


def answers_of(
    file: Path, sample: NDArray[np.float32], ends: tuple[str, str], batch: int = 32
) -> NDArray[np.float32]:
    """Return what onnxruntime answers to images of shape (n, rows, columns, 1)."""
    runtime = RUNTIMES[DEFAULT].load(file, LoadOptions(threads=1))
    given = np.ascontiguousarray(sample.transpose(0, 3, 1, 2), np.float32)
    parts = range(0, len(given), batch)
    return np.concatenate(
        [runtime.run({ends[0]: given[part : part + batch]})[ends[1]] for part in parts]
    )


def onnx_of(model: Any, ends: tuple[str, str]) -> bytes:
    """Return the ONNX file of a model; the same weights give the same bytes."""
    return _Graph(model, ends).file()


class _Graph:
    """The graph in the making."""

    def __init__(self, model: Any, ends: tuple[str, str]) -> None:
        self._model = model
        self._ends = ends
        self._nodes: list[onnx.NodeProto] = []
        self._numbers: dict[str, NDArray[Any]] = {}
        self._names: dict[int, str] = {}  # of Keras tensors
        self._convolutions: dict[str, tuple[str, str]] = {}  # weight and bias, by output
        self._used = Counter(id(each) for layer in model.layers for each in _inputs(layer))

    def file(self) -> bytes:
        model, (given, answer) = self._model, self._ends
        rows, columns, channels = model.input.shape[1:]
        name = given
        if channels != 1:
            name = self._node("Concat", [given] * channels, axis=1)
        self._names[id(model.input)] = name
        for layer in model.layers:
            kind = type(layer).__name__
            if kind == "InputLayer":
                continue
            write = _WRITERS.get(kind)
            if write is None:
                known = ", ".join(sorted(_WRITERS))
                raise _without_place(f"{layer.name} is a {kind}; known are {known}")
            inputs = [self._names[id(each)] for each in _inputs(layer)]
            self._names[id(layer.output)] = write(self, layer, inputs)
        self._nodes.append(helper.make_node("Identity", [self._names[id(model.output)]], [answer]))
        shape = model.output.shape[1:]
        if len(shape) == 3:
            shape = (shape[2], *shape[:2])
        graph = helper.make_graph(
            self._nodes,
            model.name,
            [helper.make_tensor_value_info(given, TensorProto.FLOAT, ["n", 1, rows, columns])],
            [helper.make_tensor_value_info(answer, TensorProto.FLOAT, ["n", *shape])],
            [numpy_helper.from_array(value, name) for name, value in self._numbers.items()],
        )
        made = helper.make_model(
            graph,
            opset_imports=[helper.make_operatorsetid("", OPERATOR_SET)],
            ir_version=IR_VERSION,
            producer_name="dicom_node recipes",
        )
        onnx.checker.check_model(made, full_check=True)
        content: bytes = made.SerializeToString(deterministic=True)
        return content

    def _node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        output = f"{operator.lower()}_{len(self._nodes) + 1}"
        self._nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def _constant(self, values: Any) -> str:
        name = f"numbers_{len(self._numbers) + 1}"
        array = np.asarray(values)
        self._numbers[name] = array if array.dtype == np.int64 else array.astype(np.float32)
        return name

    def _activated(self, x: str, function: str, rank: int) -> str:
        if function not in _ACTIVATIONS:
            raise _without_place(f"activation {function}; known are {', '.join(_ACTIVATIONS)}")
        operator = _ACTIVATIONS[function]
        if operator is None:
            return x
        axis = {"axis": 1 if rank == 4 else -1} if operator == "Softmax" else {}
        return self._node(operator, [x], **axis)

    # ------------------------------------------------------------ layers

    def _convolution(self, layer: Any, inputs: list[str]) -> str:
        if layer.groups != 1 or layer.data_format != "channels_last":
            raise _without_place(f"{layer.name}: groups, or channels in front in Keras")
        weights = _values(layer.kernel).transpose(3, 2, 0, 1)
        bias = _values(layer.bias) if layer.use_bias else np.zeros(layer.filters)
        names = self._constant(weights), self._constant(bias)
        output = self._node(
            "Conv",
            [inputs[0], *names],
            kernel_shape=layer.kernel_size,
            strides=layer.strides,
            dilations=layer.dilation_rate,
            pads=_pads(layer, layer.kernel_size, layer.dilation_rate),
        )
        if layer.activation.__name__ == "linear" and self._used[id(layer.output)] == 1:
            self._convolutions[output] = names
        return self._activated(output, layer.activation.__name__, 4)

    def _normalisation(self, layer: Any, inputs: list[str]) -> str:
        """In the convolution before it, where there is one: y = (x - mean) * factor + beta."""
        if layer.axis not in (-1, len(layer.output.shape) - 1):
            raise _without_place(f"{layer.name}: normalises another axis than the channels")
        mean = _values(layer.moving_mean).astype(np.float64)
        factor = 1 / np.sqrt(_values(layer.moving_variance).astype(np.float64) + layer.epsilon)
        if layer.scale:
            factor = factor * _values(layer.gamma).astype(np.float64)
        beta = _values(layer.beta).astype(np.float64) if layer.center else np.zeros_like(mean)
        before = self._convolutions.get(inputs[0])
        if before is None:
            column = (-1, 1, 1) if len(layer.output.shape) == 4 else (-1,)
            x = self._node("Mul", [inputs[0], self._constant(factor.reshape(column))])
            return self._node("Add", [x, self._constant((beta - mean * factor).reshape(column))])
        weight, bias = before
        folded = self._numbers[weight] * factor[:, None, None, None]
        self._numbers[weight] = folded.astype(np.float32)
        self._numbers[bias] = ((self._numbers[bias] - mean) * factor + beta).astype(np.float32)
        return inputs[0]

    def _rescaling(self, layer: Any, inputs: list[str]) -> str:
        x = self._node("Mul", [inputs[0], self._constant(float(layer.scale))])
        return self._node("Add", [x, self._constant(float(layer.offset))]) if layer.offset else x

    def _relu(self, layer: Any, inputs: list[str]) -> str:
        if float(layer.negative_slope) or float(layer.threshold):
            raise _without_place(f"{layer.name}: a ReLU with slope or threshold")
        if layer.max_value is None:
            return self._node("Relu", inputs)
        limits = [self._constant(0.0), self._constant(float(layer.max_value))]
        return self._node("Clip", [inputs[0], *limits])

    def _activation(self, layer: Any, inputs: list[str]) -> str:
        return self._activated(inputs[0], layer.activation.__name__, len(layer.output.shape))

    def _softmax(self, layer: Any, inputs: list[str]) -> str:
        if layer.axis not in (-1, len(layer.output.shape) - 1):
            raise _without_place(f"{layer.name}: over another axis than the channels")
        return self._activated(inputs[0], "softmax", len(layer.output.shape))

    def _pooling(self, layer: Any, inputs: list[str]) -> str:
        return self._node(
            "MaxPool" if type(layer).__name__ == "MaxPooling2D" else "AveragePool",
            inputs,
            kernel_shape=layer.pool_size,
            strides=layer.strides,
            pads=_pads(layer, layer.pool_size, (1, 1)),
        )

    def _means(self, layer: Any, inputs: list[str]) -> str:
        x = self._node("GlobalAveragePool", inputs)
        return x if layer.keepdims else self._node("Flatten", [x], axis=1)

    def _flatten(self, layer: Any, inputs: list[str]) -> str:
        """Rows, columns, channels is the order that the weights behind it have."""
        x = inputs[0]
        if len(layer.input.shape) == 4:
            x = self._node("Transpose", [x], perm=[0, 2, 3, 1])
        return self._node("Flatten", [x], axis=1)

    def _dense(self, layer: Any, inputs: list[str]) -> str:
        if len(layer.output.shape) != 2:
            raise _without_place(f"{layer.name}: Dense over more than one row of numbers")
        weights = self._constant(_values(layer.kernel))
        bias = _values(layer.bias) if layer.use_bias else np.zeros(layer.units)
        x = self._node("Gemm", [inputs[0], weights, self._constant(bias)])
        return self._activated(x, layer.activation.__name__, 2)

    def _enlarged(self, layer: Any, inputs: list[str]) -> str:
        sizes = self._constant([1.0, 1.0, *map(float, layer.size)])
        modes = {"nearest": "nearest", "bilinear": "linear"}
        if layer.interpolation not in modes:
            raise _without_place(f"{layer.name}: interpolation {layer.interpolation}")
        nearest = {"nearest_mode": "floor"} if layer.interpolation == "nearest" else {}
        return self._node(
            "Resize",
            [inputs[0], "", sizes],
            mode=modes[layer.interpolation],
            coordinate_transformation_mode="asymmetric" if nearest else "half_pixel",
            **nearest,
        )

    def _concatenated(self, layer: Any, inputs: list[str]) -> str:
        rank = len(layer.output.shape)
        if layer.axis not in (-1, rank - 1):
            raise _without_place(f"{layer.name}: joins along another axis than the channels")
        return self._node("Concat", inputs, axis=1)

    def _added(self, _: Any, inputs: list[str]) -> str:
        total = inputs[0]
        for each in inputs[1:]:
            total = self._node("Add", [total, each])
        return total

    def _nothing(self, _: Any, inputs: list[str]) -> str:
        return inputs[0]


def _without_place(what: str) -> EngineError:
    hint = "build the network without it, or bring your own ONNX: dicom-node engines import"
    return EngineError(what, hint=hint)


def _pads(layer: Any, kernel: tuple[int, int], dilation: tuple[int, int]) -> list[int]:
    """Return what `same` adds above, left, below, right; ONNX's own word for it knows no holes."""
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    sides = layer.input.shape[1:3]
    totals = [
        max((-(-side // stride) - 1) * stride + hole * (size - 1) + 1 - side, 0)
        for side, stride, size, hole in zip(sides, layer.strides, kernel, dilation, strict=True)
    ]
    before = [total // 2 for total in totals]
    return [*before, *(total - first for total, first in zip(totals, before, strict=True))]


def _values(variable: Any) -> NDArray[Any]:
    values: NDArray[Any] = keras.ops.convert_to_numpy(variable)
    return values


def _inputs(layer: Any) -> list[Any]:
    given = layer.input
    return list(given) if isinstance(given, (list, tuple)) else [given]


_WRITERS: Mapping[str, Callable[[_Graph, Any, list[str]], str]] = {
    "Conv2D": _Graph._convolution,
    "BatchNormalization": _Graph._normalisation,
    "Rescaling": _Graph._rescaling,
    "ReLU": _Graph._relu,
    "Activation": _Graph._activation,
    "Softmax": _Graph._softmax,
    "MaxPooling2D": _Graph._pooling,
    "AveragePooling2D": _Graph._pooling,
    "GlobalAveragePooling2D": _Graph._means,
    "Flatten": _Graph._flatten,
    "Dense": _Graph._dense,
    "UpSampling2D": _Graph._enlarged,
    "Concatenate": _Graph._concatenated,
    "Add": _Graph._added,
    **dict.fromkeys(_ONLY_IN_TRAINING, _Graph._nothing),
}
