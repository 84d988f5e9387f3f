"""A plain nnU-Net of 128^3 windows with 31 million random weights, as its export looks.

Speed does not depend on what the weights are. The architecture is nnU-Net's `3d_fullres` plan for
windows of 128^3: six stages of two convolutions each, instance norm, leaky ReLU, strides of 2,
transposed convolutions on the way up; weights scaled so that activations stay in range.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FEATURES = (32, 64, 128, 256, 320, 320)
SIDE = 128


class _Graph:
    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.count = 0
        self._random = np.random.default_rng(seed)

    def weight(self, values: NDArray[Any]) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def random(self, *shape: int, fan_in: int) -> str:
        self.count += int(np.prod(shape))
        return self.weight(self._random.standard_normal(shape) * (2 / fan_in) ** 0.5)

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def block(self, x: str, channels_in: int, channels: int, stride: int) -> str:
        weights = self.random(channels, channels_in, 3, 3, 3, fan_in=27 * channels_in)
        bias = self.random(channels, fan_in=channels)
        x = self.node("Conv", x, weights, bias, pads=[1] * 6, strides=[stride] * 3)
        scale, shift = self.weight(np.ones(channels)), self.weight(np.zeros(channels))
        self.count += 2 * channels
        x = self.node("InstanceNormalization", x, scale, shift, epsilon=1e-5)
        return self.node("LeakyRelu", x, alpha=0.01)


def write_nnunet(
    file: Path, classes: int = 3, features: tuple[int, ...] = FEATURES, seed: int = 0
) -> int:
    """Write the network, input `x` [n, 1, d, h, w], output `y` [n, classes, d, h, w] of logits.

    Returns
    -------
    int
        How many weights it has.
    """
    graph = _Graph(seed)
    skips: list[str] = []
    x, before = "x", 1
    for stage, channels in enumerate(features):
        x = graph.block(x, before, channels, 1 if stage == 0 else 2)
        x = graph.block(x, channels, channels, 1)
        skips.append(x)
        before = channels
    for channels, skip in zip(reversed(features[:-1]), reversed(skips[:-1]), strict=True):
        weights = graph.random(before, channels, 2, 2, 2, fan_in=before)
        up = graph.node("ConvTranspose", x, weights, kernel_shape=[2] * 3, strides=[2] * 3)
        x = graph.node("Concat", up, skip, axis=1)
        x = graph.block(x, 2 * channels, channels, 1)
        x = graph.block(x, channels, channels, 1)
        before = channels
    last = graph.random(classes, before, 1, 1, 1, fan_in=before)
    graph.nodes.append(helper.make_node("Conv", [x, last], ["y"]))
    axes = ["d", "h", "w"]
    made = helper.make_graph(
        graph.nodes,
        "nnunet_plain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, *axes])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", classes, *axes])],
        graph.weights,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, file)
    return graph.count
