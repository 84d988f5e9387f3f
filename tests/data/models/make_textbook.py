"""Make textbook.onnx and textbook.npz: every layer kind of a textbook CNN, exported from Keras.

Run once, in an environment of its own; the tests need neither Keras nor TensorFlow:

    pip install keras==3.15.1 tensorflow-cpu==2.21.0 tf2onnx==1.17.0
    KERAS_BACKEND=tensorflow python tests/data/models/make_textbook.py

The weights are seeded, and so are the moving averages of the batch normalisation, which would
otherwise do nothing. The recorded answers are Keras's own, not those of an ONNX runtime.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

HERE = Path(__file__).parent
SEED = 5
SHAPE = (32, 32, 1)
IMAGES = 3


def textbook() -> keras.Model:
    """Return the network: rows, columns and channels in, as Keras has them; three classes out."""
    keras.utils.set_random_seed(SEED)
    image = keras.Input(shape=SHAPE, name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    x = layers.MaxPooling2D(2)(x)
    x = layers.BatchNormalization()(x)  # behind a convolution the export would fold it away
    x = layers.Conv2D(8, 3, padding="same")(x)
    x = layers.Activation("tanh")(x)
    x = layers.AveragePooling2D(2)(x)
    x = layers.Conv2D(4, 3)(x)
    x = layers.ReLU()(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(16, activation="sigmoid")(x)
    x = layers.Dropout(0.25)(x)
    x = layers.Dense(3, kernel_initializer=keras.initializers.RandomNormal(0, 1.5, seed=SEED))(x)
    model = keras.Model(image, layers.Softmax(name="probabilities")(x), name="textbook")
    random = np.random.default_rng(SEED)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            around = [(1.0, 0.2), (0.0, 0.2), (0.1, 0.3), (0.5, 0.1)]  # gamma, beta, mean, variance
            layer.set_weights(
                [
                    np.abs(random.normal(mean, spread, weight.shape))
                    for weight, (mean, spread) in zip(layer.get_weights(), around, strict=True)
                ]
            )
    return model


def main() -> None:
    """Write both files beside this one."""
    model = textbook()
    random = np.random.default_rng(SEED)
    brightness = np.linspace(-3, 3, IMAGES).reshape(-1, 1, 1, 1)
    images = (random.normal(0, 1, (IMAGES, *SHAPE)) + brightness).astype(np.float32)
    signature = [tf.TensorSpec((None, *SHAPE), tf.float32, name="image")]
    model.export(
        HERE / "textbook.onnx",
        format="onnx",
        input_signature=signature,
        opset_version=17,
        verbose=False,
    )
    np.savez_compressed(
        HERE / "textbook.npz", image=images, probabilities=model.predict(images, verbose=0)
    )
    print(f"Keras {keras.__version__}, {model.count_params()} weights")


if __name__ == "__main__":
    main()
