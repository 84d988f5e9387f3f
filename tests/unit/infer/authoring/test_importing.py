"""A model becomes an engine folder that loads, runs, and refuses every study until it is edited."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from dicom_node.errors import ConfigError, EngineError, StudyUnusable
from dicom_node.infer.authoring.importing import import_model
from dicom_node.infer.authoring.layout import put_channels_first
from dicom_node.infer.engine_folders import load_manifest
from dicom_node.infer.engine_loading import load_engine
from dicom_node.infer.manifest import Manifest
from tests.factories import make_xray, write
from tests.unit.infer.runtimes.models import save

ROOT = Path(__file__).parents[4]
TEXTBOOK = ROOT / "tests" / "data" / "models" / "textbook.onnx"

Axes = Sequence[int | str | None]


def made(tmp_path: Path, source: Path, name: str = "mine") -> Manifest:
    engines = tmp_path / "engines"
    engines.mkdir(exist_ok=True)
    return load_manifest(import_model(source, name, engines).folder)


def mapping(tmp_path: Path, operator: str, shape: Axes) -> Path:
    """Save a model whose output is as large as its input."""
    node = helper.make_node(operator, ["x"], ["y"])
    return save(tmp_path / "model.onnx", [node], shape, {"y": shape})


def classifier(tmp_path: Path, shape: Axes, softmax: bool = True) -> Path:
    """Save a model of two outputs, which are sums over all of its input and none of it."""
    axes = list(range(2, len(shape)))
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=axes, keepdims=0),
        helper.make_node("Sub", ["mean", "mean"], ["none"]),
        helper.make_node("Concat", ["mean", "none"], ["logits"], axis=1),
        helper.make_node("Softmax" if softmax else "Identity", ["logits"], ["y"]),
    ]
    return save(tmp_path / "model.onnx", nodes, shape, {"y": ["n", 2]})


@pytest.mark.parametrize("name", ["ct_lungs", "cxr_pneumonia", "cxr_quality", "mr_brain"])
def test_the_bundled_models_can_be_imported_and_are_right_at_once(
    name: str, tmp_path: Path
) -> None:
    manifest = made(tmp_path, ROOT / "engines" / name / "model.onnx")
    bundled = load_manifest(ROOT / "engines" / name)
    assert manifest.model.sha256 == bundled.model.sha256
    assert (manifest.model.input, manifest.model.output) == (
        bundled.model.input,
        bundled.model.output,
    )
    assert manifest.model.gives == bundled.model.gives
    load_engine(manifest.folder, threads=1).verify()


def test_an_engine_that_nobody_edited_refuses_every_study(tmp_path: Path) -> None:
    manifest = made(tmp_path, ROOT / "engines" / "cxr_quality" / "model.onnx")
    file = write(make_xray(), tmp_path / "x.dcm")
    with pytest.raises(StudyUnusable, match="Modality is CR, not CHANGE"):
        load_engine(manifest.folder, threads=1).run([file])


def test_once_edited_it_runs(tmp_path: Path) -> None:
    manifest = made(tmp_path, TEXTBOOK)
    yaml = manifest.folder / "engine.yaml"
    yaml.write_text(yaml.read_text().replace("Modality: CHANGE", "Modality: CR"))
    file = write(make_xray(), tmp_path / "x.dcm")
    finding, _ = load_engine(manifest.folder, threads=1).run([file])
    assert len(finding.classifications) == 3
    assert sum(each.probability for each in finding.classifications) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("shape", "sees"),
    [
        (["n", 1, 64, 64], "slice"),
        (["n", 1, "h", "w"], "slice"),
        (["n", 5, 64, 64], "slab"),
        (["n", 1, 16, 32, 32], "window"),
        (["n", 1, "d", "h", "w"], "whole"),
    ],
)
def test_a_value_for_each_voxel_is_a_segmentation(shape: Axes, sees: str, tmp_path: Path) -> None:
    manifest = made(tmp_path, mapping(tmp_path, "Sigmoid", shape))
    assert manifest.kind == "segmentation"
    assert manifest.volume is not None
    assert manifest.volume.network_sees == sees
    assert manifest.model.classes_are == "independent"
    assert len(manifest.segments) == shape[1]
    if sees == "window":
        assert manifest.volume.window is not None
        assert manifest.volume.window.size == (16, 32, 32)


def test_a_background_is_no_segment(tmp_path: Path) -> None:
    softmax = helper.make_node("Softmax", ["x"], ["y"], axis=1)
    source = save(tmp_path / "m.onnx", [softmax], ["n", 3, 8, 8], {"y": ["n", 3, 8, 8]})
    manifest = made(tmp_path, source)
    assert manifest.model.classes_are == "exclusive"
    assert [segment.label for segment in manifest.segments] == [1, 2]


@pytest.mark.parametrize(("softmax", "gives"), [(True, "probabilities"), (False, "logits")])
def test_what_is_given_is_seen_in_the_answer(softmax: bool, gives: str, tmp_path: Path) -> None:
    manifest = made(tmp_path, classifier(tmp_path, ["n", 1, 32, 48], softmax))
    assert manifest.model.gives == gives
    assert manifest.image is not None
    assert manifest.image.size == (32, 48)
    assert len(manifest.classes) == 2


def test_a_volume_may_be_classified_as_a_whole(tmp_path: Path) -> None:
    manifest = made(tmp_path, classifier(tmp_path, ["n", 1, 8, 32, 32]))
    assert manifest.kind == "classification"
    assert manifest.volume is not None
    assert manifest.volume.network_sees == "whole"
    assert manifest.volume.size == (8, 32, 32)


@pytest.mark.parametrize("shape", [["n", 16, 24, 1], ["n", 8, 16, 24, 1], ["n", "h", "w", 1]])
def test_channels_behind_are_put_in_front_and_compute_the_same(shape: Axes, tmp_path: Path) -> None:
    """The values and their order in the answer stay; only the axes are in another order."""
    rank = len(shape)
    weight = helper.make_tensor("w", onnx.TensorProto.FLOAT, [2], [1.0, -2.0])
    node = helper.make_node("Mul", ["x", "w"], ["y"])  # one channel becomes two, at the end
    source = save(tmp_path / "last.onnx", [node], shape, {"y": [*shape[:-1], 2]}, [weight])
    put_channels_first(source, tmp_path / "first.onnx")
    sides = [side if isinstance(side, int) else 20 for side in shape[1:-1]]
    x = np.random.default_rng(2).normal(size=(3, *sides, 1)).astype(np.float32)
    to_first = (0, rank - 1, *range(1, rank - 1))
    (expected,) = onnxruntime.InferenceSession(source).run(None, {"x": x})
    session = onnxruntime.InferenceSession(tmp_path / "first.onnx")
    (answer,) = session.run(None, {"x": np.ascontiguousarray(x.transpose(to_first))})
    np.testing.assert_array_equal(answer, expected.transpose(to_first))
    assert answer.shape == (3, 2, *sides)


def test_a_model_of_keras_gets_its_channels_in_front(tmp_path: Path) -> None:
    with np.load(TEXTBOOK.with_suffix(".npz")) as recorded:
        images, expected = recorded["image"], recorded["probabilities"]
    manifest = made(tmp_path, TEXTBOOK)
    session = onnxruntime.InferenceSession(manifest.folder / manifest.model.file)
    (answer,) = session.run(None, {"image": np.ascontiguousarray(images.transpose(0, 3, 1, 2))})
    np.testing.assert_allclose(answer, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (["n", 3], r"takes float32 \[n, 3\] as x; the node gives it float32 images"),
        (["n", 2, 8, 8], "takes 2 channels; the node gives it one, or an odd number"),
    ],
)
def test_what_no_engine_can_be_made_of_is_told(shape: Axes, words: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=words):
        made(tmp_path, mapping(tmp_path, "Sigmoid", shape))
    assert list((tmp_path / "engines").iterdir()) == []


def test_colours_are_no_slices(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="takes 3 channels"):
        made(tmp_path, classifier(tmp_path, ["n", 3, 32, 32]))


def test_an_answer_that_means_neither_is_told(tmp_path: Path) -> None:
    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[1, 2], keepdims=0)
    source = save(tmp_path / "m.onnx", [node], ["n", 1, 8, 8, 8], {"y": ["n", 8, 8]})
    with pytest.raises(EngineError, match=r"neither \[n, classes\] nor a value for each"):
        made(tmp_path, source)


def test_two_inputs_are_told_by_name(tmp_path: Path) -> None:
    source = mapping(tmp_path, "Sigmoid", ["n", 1, 8, 8])
    model = onnx.load(source)
    model.graph.input.append(helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [1]))
    onnx.save(model, source)
    with pytest.raises(EngineError, match=r"has 2 inputs \(x, z\)"):
        made(tmp_path, source)


def test_no_engine_is_written_over(tmp_path: Path) -> None:
    source = mapping(tmp_path, "Sigmoid", ["n", 1, 8, 8])
    made(tmp_path, source)
    with pytest.raises(ConfigError, match="is there already"):
        made(tmp_path, source)


@pytest.mark.parametrize("name", ["../mine", "Mine", "", "1st", "a" * 33])
def test_a_name_that_is_none_is_told(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no name for an engine"):
        made(tmp_path, mapping(tmp_path, "Sigmoid", ["n", 1, 8, 8]), name)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.onnx is no file"):
        made(tmp_path, tmp_path / "gone.onnx")


def test_what_is_no_model_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(EngineError, match=r"x\.onnx cannot be loaded"):
        made(tmp_path, tmp_path / "x.onnx")
    assert list((tmp_path / "engines").iterdir()) == []


def test_a_model_of_keras_needs_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)  # the recipes' tests have it
    (tmp_path / "x.keras").write_bytes(b"")
    with pytest.raises(EngineError, match="model of Keras, which is not installed") as failure:
        made(tmp_path, tmp_path / "x.keras")
    assert "pip install keras" in failure.value.hint
    assert "model.export('model.onnx', format='onnx')" in failure.value.hint
