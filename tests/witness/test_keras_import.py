"""A model of Keras becomes an engine, where Keras, TensorFlow and tf2onnx are installed.

They are no dependency of the tests: 2 GB. In an environment that has them besides:

    pip install keras==3.15.1 tensorflow-cpu==2.21.0 tf2onnx==1.17.0
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from dicom_node.infer.authoring.importing import import_model
from dicom_node.infer.engine_folders import load_manifest

pytestmark = pytest.mark.witness


@pytest.mark.filterwarnings("ignore")
def test_a_keras_file_computes_the_same_as_an_engine(tmp_path: Path) -> None:
    reason = "Keras is not installed: pip install keras tensorflow-cpu tf2onnx"
    for package in ("tensorflow", "tf2onnx"):
        pytest.importorskip(package, reason=reason)
    keras = pytest.importorskip("keras", reason=reason)
    layers = keras.layers
    keras.utils.set_random_seed(7)
    image = keras.Input((32, 24, 1), name="image")
    x = layers.Conv2D(4, 3, activation="relu")(image)
    x = layers.BatchNormalization()(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(3, activation="softmax")(x))
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(7).normal(size=(5, 32, 24, 1)).astype(np.float32)
    expected = model.predict(images, verbose=0)

    manifest = load_manifest(import_model(tmp_path / "model.keras", "mine", tmp_path).folder)
    session = onnxruntime.InferenceSession(manifest.folder / manifest.model.file)
    given = {manifest.model.input: np.ascontiguousarray(images.transpose(0, 3, 1, 2))}
    (answer,) = session.run([manifest.model.output], given)
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    assert manifest.model.gives == "probabilities"
    assert manifest.image is not None
    assert manifest.image.size == (32, 24)
