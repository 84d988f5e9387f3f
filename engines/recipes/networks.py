"""The networks: the introductory classifier, a textbook CNN and a U-Net, in plain Keras.

Each takes raw values (0 to 255 of an X-ray, Hounsfield units of a CT) and brings them to 0 .. 1
itself, so that what was done in training cannot be forgotten where the network runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engines.recipes.backend import keras

layers = keras.layers

Activation = Literal["relu", "tanh", "sigmoid"]
Pooling = Literal["max", "average"]
Answer = Literal["sigmoid", "softmax"]

SCALED = "scaled"
"""The name of the layer that holds values within 0 and 1."""
LOGITS = "logits"
"""The name of the layer in front of the last activation; calibration works on its weights."""


def introductory(size: int = 64, channels: int = 3) -> Any:
    """Return the binary classifier with which textbooks begin.

    One convolution finds edges, pooling keeps the strongest of each four answers, and two dense
    layers weigh where they were found. 64 x 64 pixels give 3.9 million weights, nearly all of them
    between the pooled image and the 128 neurons: that is why other networks pool more often.
    """
    image = keras.Input((size, size, channels), name="image")
    x = layers.Rescaling(1 / 255, name=SCALED)(image)
    x = layers.Conv2D(32, (3, 3), activation="relu")(x)
    x = layers.MaxPooling2D((2, 2))(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    return keras.Model(image, answer(x, 1, "sigmoid"), name="introductory")


def textbook_cnn(
    size: tuple[int, int],
    outputs: int,
    *,
    value_range: tuple[float, float] = (0.0, 255.0),
    widths: Sequence[int] = (24, 48, 96),
    activation: Activation = "relu",
    pooling: Pooling = "max",
    dense: int = 0,
    dropout: float = 0.3,
    last: Answer = "sigmoid",
) -> Any:
    """Return a CNN: two convolutions a level, pooling between levels, means, and an answer.

    Parameters
    ----------
    size : tuple of int
        Rows and columns.
    outputs : int
        How many probabilities.
    value_range : tuple of float
        What becomes 0 and 1; values beyond are held there.
    widths : sequence of int
        Channels of each level; as many levels as numbers.
    activation, pooling
        Of all convolutions, and between all levels.
    dense : int
        Neurons between the means and the answer; 0 is none.
    dropout : float
        Share of the means that a training step does not see.
    last
        `sigmoid`: each output is a probability by itself. `softmax`: they add up to 1.
    """
    image = keras.Input((*size, 1), name="image")
    x = scaled(image, *value_range)
    for level, width in enumerate(widths):
        if level:
            x = pooled(x, pooling)
        x = convolved(x, width, activation)
        x = convolved(x, width, activation)
    x = layers.GlobalAveragePooling2D()(x)
    if dense:
        x = layers.Dense(dense, activation=activation)(x)
    x = layers.Dropout(dropout)(x)
    return keras.Model(image, answer(x, outputs, last), name="textbook_cnn")


def unet(
    size: tuple[int, int],
    classes: int,
    *,
    value_range: tuple[float, float] = (0.0, 255.0),
    widths: Sequence[int] = (12, 24, 48, 96),
    activation: Activation = "relu",
    pooling: Pooling = "max",
    dropout: float = 0.1,
) -> Any:
    """Return a U-Net: down to see more at a time, up to say where, with bridges between.

    The sides of `size` must be divisible by 2 as often as there are levels below the first.
    `classes` counts the background; their probabilities add up to 1 in each pixel.
    """
    below = 2 ** (len(widths) - 1)
    if any(side % below for side in size):
        raise ValueError(f"{size} cannot be halved {len(widths) - 1} times")
    image = keras.Input((*size, 1), name="image")
    x = scaled(image, *value_range)
    bridges = []
    for width in widths[:-1]:
        x = convolved(convolved(x, width, activation), width, activation)
        bridges.append(x)
        x = pooled(x, pooling)
    x = convolved(x, widths[-1], activation)
    x = layers.Dropout(dropout)(x)
    x = convolved(x, widths[-1], activation)
    for width, bridge in zip(reversed(widths[:-1]), reversed(bridges), strict=True):
        x = layers.UpSampling2D(2)(x)
        x = layers.Concatenate()([x, bridge])
        x = convolved(convolved(x, width, activation), width, activation)
    x = layers.Conv2D(classes, 1, name=LOGITS)(x)
    return keras.Model(image, layers.Softmax()(x), name="unet")


def scaled(x: Any, low: float, high: float) -> Any:
    """Bring values from `low` .. `high` to 0 .. 1 and hold them there."""
    x = layers.Rescaling(1 / (high - low), offset=-low / (high - low))(x)
    return layers.ReLU(max_value=1.0, name=SCALED)(x)


def convolved(x: Any, width: int, activation: Activation) -> Any:
    """One step of a level: 3 x 3 convolution, batch normalisation, activation."""
    x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU()(x) if activation == "relu" else layers.Activation(activation)(x)


def pooled(x: Any, pooling: Pooling) -> Any:
    """Return every 2 x 2 pixels as one."""
    return layers.MaxPooling2D(2)(x) if pooling == "max" else layers.AveragePooling2D(2)(x)


def answer(x: Any, outputs: int, last: Answer) -> Any:
    """Return probabilities, made of what the layers before found."""
    x = layers.Dense(outputs, name=LOGITS)(x)
    return layers.Softmax()(x) if last == "softmax" else layers.Activation("sigmoid")(x)
