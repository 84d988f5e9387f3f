"""The networks are what they say, and their ONNX answers as Keras does, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from dicom_node.errors import EngineError
from engines.recipes.backend import keras
from engines.recipes.export import answers_of, export_onnx, onnx_of
from engines.recipes.networks import introductory, textbook_cnn, unet

layers = keras.layers
ENDS = ("image", "answer")
SIDE = 12


def with_random_weights(model: Any) -> Any:
    """Return a model as if it had been trained: no statistic at its neutral value."""
    random = np.random.default_rng(2)
    for layer in model.layers:
        changed = [random.normal(0, 0.3, each.shape) for each in layer.get_weights()]
        if isinstance(layer, layers.BatchNormalization):
            changed = [random.uniform(0.5, 2.0, each.shape) for each in changed]
        layer.set_weights(changed)
    return model


def images(size: tuple[int, int], largest: float = 255.0) -> NDArray[np.float32]:
    random = np.random.default_rng(3)
    return random.uniform(0, largest, (3, *size, 1)).astype(np.float32)


def of(*rows: Any) -> Any:
    """Return a model of layers one after the other, on images of one channel."""
    image = keras.Input((SIDE, SIDE, 1))
    x = layers.Conv2D(4, 3, padding="same")(image)
    for layer in rows:
        x = layer(x)
    return with_random_weights(keras.Model(image, x, name="one"))


LAYERS = {
    "a convolution": lambda: [layers.Conv2D(3, 5, padding="same")],
    "one that shrinks": lambda: [layers.Conv2D(3, 3, padding="valid", activation="relu")],
    "one with strides": lambda: [layers.Conv2D(3, 3, strides=2, padding="same")],
    "one with holes": lambda: [layers.Conv2D(3, 3, dilation_rate=2, padding="same")],
    "one without bias": lambda: [layers.Conv2D(3, 3, use_bias=False, activation="tanh")],
    "normalisation in a convolution": lambda: [layers.BatchNormalization(), layers.ReLU()],
    "normalisation by itself": lambda: [layers.ReLU(), layers.BatchNormalization()],
    "one without scale": lambda: [layers.BatchNormalization(scale=False, center=False)],
    "ReLU": lambda: [layers.ReLU()],
    "ReLU with a ceiling": lambda: [layers.ReLU(max_value=1.0)],
    "sigmoid": lambda: [layers.Activation("sigmoid")],
    "tanh": lambda: [layers.Activation("tanh")],
    "softmax of channels": lambda: [layers.Softmax()],
    "softmax as an activation": lambda: [layers.Conv2D(3, 1, activation="softmax")],
    "max pooling": lambda: [layers.MaxPooling2D(2)],
    "average pooling": lambda: [layers.AveragePooling2D(3, strides=2)],
    "pooling to the rim": lambda: [layers.AveragePooling2D(5, strides=1, padding="same")],
    "max pooling to the rim": lambda: [layers.MaxPooling2D(5, padding="same")],
    "means": lambda: [layers.GlobalAveragePooling2D()],
    "means that keep their axes": lambda: [layers.GlobalAveragePooling2D(keepdims=True)],
    "flatten and dense": lambda: [layers.Flatten(), layers.Dense(5, activation="relu")],
    "dense and normalised": lambda: [
        layers.Flatten(),
        layers.Dense(5),
        layers.BatchNormalization(),
    ],
    "dropout": lambda: [layers.Dropout(0.5), layers.SpatialDropout2D(0.5)],
    "rescaling": lambda: [layers.Rescaling(1 / 127.5, offset=-1.0)],
    "enlarged": lambda: [layers.UpSampling2D(2)],
    "enlarged smoothly": lambda: [layers.UpSampling2D(2, interpolation="bilinear")],
}


@pytest.mark.parametrize("kind", LAYERS)
def test_every_kind_of_layer_answers_as_in_keras(kind: str, tmp_path: Path) -> None:
    model = of(*LAYERS[kind]())
    asked = images((SIDE, SIDE), 1.0)
    (tmp_path / "m.onnx").write_bytes(onnx_of(model, ENDS))
    expected = np.asarray(model(asked, training=False))
    if expected.ndim == 4:
        expected = expected.transpose(0, 3, 1, 2)
    answers = answers_of(tmp_path / "m.onnx", asked, ENDS)
    np.testing.assert_allclose(answers, expected, rtol=1e-5, atol=1e-5)


def test_a_bridge_is_joined_and_a_shortcut_added(tmp_path: Path) -> None:
    image = keras.Input((SIDE, SIDE, 1))
    first = layers.Conv2D(4, 3, padding="same")(image)
    second = layers.Conv2D(4, 3, padding="same")(first)
    both = layers.Concatenate()([layers.Add()([first, second]), image])
    model = with_random_weights(keras.Model(image, both, name="two_ways"))
    export_onnx(model, tmp_path / "m.onnx", images((SIDE, SIDE), 1.0), ENDS)


def test_a_convolution_that_others_need_is_left_alone() -> None:
    """Its normalisation may not be folded in: the other way would see it too."""
    image = keras.Input((SIDE, SIDE, 1))
    first = layers.Conv2D(4, 3, padding="same")(image)
    both = layers.Concatenate()([layers.BatchNormalization()(first), first])
    model = with_random_weights(keras.Model(image, both, name="needed_twice"))
    kinds = [node.op_type for node in onnx.load_from_string(onnx_of(model, ENDS)).graph.node]
    assert kinds == ["Conv", "Mul", "Add", "Concat", "Identity"]


def test_normalisation_costs_nothing_where_it_can_be_folded() -> None:
    made = onnx.load_from_string(onnx_of(textbook_cnn((16, 16), 1, widths=(4, 8)), ENDS))
    kinds = {node.op_type for node in made.graph.node}
    assert kinds == {
        *("Mul", "Clip", "Conv", "Relu", "MaxPool", "GlobalAveragePool", "Flatten", "Gemm"),
        *("Sigmoid", "Identity"),
    }


@pytest.mark.parametrize(
    "model",
    [
        lambda: introductory(),
        lambda: textbook_cnn((28, 28), 2, last="softmax"),
        lambda: textbook_cnn((32, 32), 3, pooling="average", activation="tanh", dense=8),
        lambda: textbook_cnn((32, 32), 3, activation="sigmoid", value_range=(-1000, 400)),
        lambda: unet((32, 48), 3, value_range=(-1000, 400)),
    ],
)
def test_whole_networks_answer_as_in_keras(model: Any, tmp_path: Path) -> None:
    network = with_random_weights(model())
    export_onnx(network, tmp_path / "m.onnx", images(network.input.shape[1:3]), ENDS)
    made = onnx.load(tmp_path / "m.onnx")
    (given,), (answer,) = made.graph.input, made.graph.output
    assert [d.dim_value for d in given.type.tensor_type.shape.dim][1:] == [
        1,
        *network.input.shape[1:3],
    ]
    assert given.type.tensor_type.shape.dim[0].dim_param == "n"
    assert answer.type.tensor_type.shape.dim[1].dim_value == network.output.shape[-1]


def test_the_introductory_classifier_is_that_of_the_textbooks() -> None:
    model = introductory()
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == [
        *("InputLayer", "Rescaling", "Conv2D", "MaxPooling2D", "Flatten", "Dense", "Dense"),
        "Activation",
    ]
    assert model.input.shape == (None, 64, 64, 3)
    assert model.layers[2].filters == 32
    assert model.layers[2].kernel_size == (3, 3)
    assert model.layers[3].pool_size == (2, 2)
    assert model.layers[5].units == 128
    assert model.output.shape == (None, 1)
    assert model.count_params() == 3 * 3 * 3 * 32 + 32 + 31 * 31 * 32 * 128 + 128 + 128 + 1


def test_values_beyond_the_range_are_held_at_its_ends() -> None:
    model = with_random_weights(textbook_cnn((16, 16), 1, widths=(4,), value_range=(-1000, 400)))
    low, lower = np.full((1, 16, 16, 1), -1000.0), np.full((1, 16, 16, 1), -3000.0)
    np.testing.assert_array_equal(model(low), model(lower))


def test_the_same_weights_are_the_same_bytes() -> None:
    model = with_random_weights(unet((16, 16), 2, widths=(4, 8)))
    assert onnx_of(model, ENDS) == onnx_of(model, ENDS)


def test_a_side_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be halved 3 times"):
        unet((60, 64), 2)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda: layers.LayerNormalization(name="odd"), "odd is a LayerNormalization; known are"),
        (lambda: layers.Activation("gelu"), "activation gelu; known are"),
        (lambda: layers.ReLU(negative_slope=0.1, name="odd"), "odd: a ReLU with slope"),
        (lambda: layers.Conv2D(4, 3, groups=2, name="odd"), "odd: groups"),
        (lambda: layers.Softmax(axis=1, name="odd"), "odd: over another axis"),
    ],
)
def test_what_has_no_place_in_the_export_is_refused_by_its_name(layer: Any, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        onnx_of(of(layer()), ENDS)


def test_an_export_that_answers_otherwise_leaves_no_file(tmp_path: Path) -> None:
    """Noise of training is left out of the graph; one that is always there would be missed."""

    class GaussianNoise(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x + 1.0

    with pytest.raises(EngineError, match="the ONNX of one differs from Keras by"):
        export_onnx(of(GaussianNoise()), tmp_path / "m.onnx", images((SIDE, SIDE)), ENDS)
    assert list(tmp_path.iterdir()) == []
