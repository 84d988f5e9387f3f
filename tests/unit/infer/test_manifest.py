"""A manifest is frozen values, or every mistake in it at once with file, line and key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from dicom_node.conditions import Condition
from dicom_node.errors import ConfigError
from dicom_node.finding import Code, FindingKind
from dicom_node.infer import blocks
from dicom_node.infer.blocks import Percentile
from dicom_node.infer.manifest import Manifest, list_engines, load_manifest
from dicom_node.infer.pixels import Values
from tests.unit.infer.engine_folders import CLASSIFICATION, QUALITY, SEGMENTATION, write_engine

ROOT = Path(__file__).parents[3]
VOLUME = SEGMENTATION["volume"]
SLABS = SEGMENTATION | {"volume": VOLUME | {"network_sees": "slab", "slab_slices": 3}}
SLICES = SEGMENTATION | {"volume": VOLUME | {"network_sees": "slice"}}
WINDOWS = SEGMENTATION | {
    "volume": VOLUME | {"network_sees": "window", "window": {"size": [8] * 3}}
}
LABELS = SEGMENTATION | {"model": SEGMENTATION["model"] | {"gives": "labels"}}
MISSING = {"file": "more.onnx", "sha256": "0" * 64}


def test_every_word_arrives_as_a_value(tmp_path: Path) -> None:
    manifest = load_manifest(
        write_engine(
            tmp_path,
            SEGMENTATION,
            accepts={"Modality": ["CT", "PT"], "SliceThickness": "<= 5"},
            intensity={"values": "hounsfield", "scale": {"low": -1000, "high": "p99.5"}},
        )
    )
    assert (manifest.name, manifest.version, manifest.title) == ("an_engine", "1.2.3", "An engine")
    assert manifest.kind is FindingKind.SEGMENTATION
    assert manifest.accepts == (
        Condition("Modality", ("CT", "PT")),
        Condition("SliceThickness", ("<= 5",)),
    )
    assert manifest.limits == ("For tests only.",)
    assert manifest.intensity.values is Values.HOUNSFIELD
    assert manifest.intensity.scale is not None
    assert manifest.intensity.scale.low == -1000.0
    assert manifest.intensity.scale.high == Percentile(99.5)
    assert manifest.volume is not None
    assert manifest.volume.spacing_mm == (1.0, 1.0, 1.0)
    assert manifest.segments[0].type == Code("39607008", "SCT", "Lung")
    assert manifest.folder == tmp_path / "an_engine"
    assert manifest.model_digest == sha256(b"model").hexdigest()


def test_the_digest_of_several_models_is_over_their_digests(tmp_path: Path) -> None:
    digests = sha256(b"model").hexdigest(), sha256(b"locate").hexdigest()
    locate = {"sha256": digests[1], "input": "x", "output": "y", "what": "brain"}
    manifest = load_manifest(write_engine(tmp_path, SEGMENTATION, locate=locate))
    assert manifest.model_files == {"model.onnx": digests[0], "locate.onnx": digests[1]}
    assert manifest.model_digest == sha256("".join(digests).encode()).hexdigest()


def put(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(written: dict[str, Any]) -> None:
        here: Any = written
        for part in path[:-1]:
            here = here[part]
        here[path[-1]] = value

    return apply


def drop(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda written: written.pop(key)


def copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("written", "spoil", "message"),
    [
        (SEGMENTATION, put("version", value="1.0"), "version: String should match"),
        (SEGMENTATION, put("name", value="other name"), "name: String should match"),
        (SEGMENTATION, put("kind", value="guess"), "'segmentation', 'classification' or 'quality'"),
        (SEGMENTATION, put("colour", value="red"), "colour: no such key"),
        (SEGMENTATION, put("folder", value="x"), "folder: no such key"),
        (SEGMENTATION, drop("model"), "model: is missing"),
        (SEGMENTATION, drop("accepts"), "accepts: is missing"),
        (SEGMENTATION, put("accepts", value=["CT"]), "accepts: must be a mapping"),
        (SEGMENTATION, put("accepts", "Modalty", value="CT"), "Modalty is no DICOM keyword"),
        (SEGMENTATION, put("accepts", "calling_ae_title", value="X"), "is for rules.yaml"),
        (SEGMENTATION, put("model", "sha256", value="abc"), "model.sha256: String should match"),
        (SEGMENTATION, put("model", "file", value="../x.onnx"), "must be the name of a file"),
        (SEGMENTATION, put("model", "file", value="x.onnx"), "x.onnx is not in the folder"),
        (SEGMENTATION, put("test_vector", "file", value="t.npz"), "t.npz is not in the folder"),
        (SEGMENTATION, put("volume", "axes", value="HPX"), "must be three letters"),
        (SEGMENTATION, put("volume", "network_sees", value="all"), "'window' or 'whole'"),
        (SEGMENTATION, put("volume", "spacing_mm", value=[1, 1]), "volume.spacing_mm"),
        (SEGMENTATION, put("volume", "spacing_mm", value=[1, 0, 1]), "greater than 0"),
        (SEGMENTATION, put("volume", "size", value=[8, 8, 8.5]), "volume.size.2"),
        (SEGMENTATION, put("volume", "pixel_spacing_mm", value=[2, 1]), "[smaller, larger]"),
        (SEGMENTATION, put("segments", 0, "type", value="Lung"), "must be [code value, coding"),
        (SEGMENTATION, put("segments", 0, "type", value=["", "SCT", "x"]), "1 to 16 characters"),
        (SEGMENTATION, put("segments", 0, "label", value=0), "greater than 0"),
        (SEGMENTATION, put("segments", value=[]), "segments is missing"),
        (SEGMENTATION, drop("volume"), "volume is missing: a segmentation engine needs it"),
        (SEGMENTATION, put("image", value={"size": [8, 8]}), "a segmentation engine has no image"),
        (SEGMENTATION, put("intensity", "values", value="HU"), "'hounsfield' or 'brightness'"),
        (SEGMENTATION, put("intensity", "scale", value={"low": "1%", "high": 1}), "such as p99.9"),
        (SEGMENTATION, put("components", value={"connectivity": 18}), "should be 6 or 26"),
        (CLASSIFICATION, put("classes", 0, "threshold", value=1.5), "less than or equal to 1"),
        (CLASSIFICATION, drop("image"), "image or volume is missing: a classification"),
        (CLASSIFICATION, put("faults", value=QUALITY["faults"]), "has no faults"),
        (CLASSIFICATION, put("volume", value=SEGMENTATION["volume"]), "(volume), not both"),
        (SEGMENTATION, put("image", value=CLASSIFICATION["image"]), "segmentation engine has no"),
        (SEGMENTATION, put("volume", "network_sees", value="slab"), "slab_slices is missing"),
        (SEGMENTATION, put("volume", "network_sees", value="window"), "window is missing"),
        (SEGMENTATION, put("volume", "window", value={"size": [8, 8, 8]}), "not a whole"),
        (SLABS, put("volume", "slab_slices", value=4), "must be an odd number"),
        (SLABS, put("volume", "slab_slices", value=1), "greater than or equal to 3"),
        (WINDOWS, put("volume", "window", "overlap", value=1), "less than 1"),
        (WINDOWS, put("volume", "size", value=[None, 4, None]), "is less than a window, 8"),
        (WINDOWS, put("volume", "take", value={"part": [0.7, 0.3]}), "[smaller, larger]"),
        (WINDOWS, put("model", "gives", value="labels"), "labels have no mean"),
        (SEGMENTATION, put("model", "mirrors", value=[[1, 1]]), "an axis stands twice"),
        (SEGMENTATION, put("model", "mirrors", value=[[3]]), "less than or equal to 2"),
        (SLICES, put("model", "mirrors", value=[[0]]), "cannot be flipped along axis 0"),
        (SEGMENTATION, put("model", "ensemble", value=[MISSING]), "more.onnx is not in the folder"),
        (LABELS, put("model", "mirrors", value=[[1]]), "labels have no mean"),
        (LABELS, put("model", "classes_are", value="independent"), "exclusive"),
        (QUALITY, put("faults", 1, "index", value=0), "faults.1.index: 0 stands twice"),
        (QUALITY, put("faults", 0, "limited", value=0.9), "must not be above non_diagnostic"),
        (QUALITY, put("image", "field", value="left half"), "'central square' or 'whole'"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(
    written: dict[str, Any],
    spoil: Callable[[dict[str, Any]], None],
    message: str,
    tmp_path: Path,
) -> None:
    written = copied(written)
    spoil(written)
    with pytest.raises(ConfigError) as refusal:
        load_manifest(write_engine(tmp_path, written))
    assert message in str(refusal.value)
    assert all(mistake.line > 0 for mistake in refusal.value.mistakes)


def test_all_mistakes_of_all_folders_come_at_once(tmp_path: Path) -> None:
    first = write_engine(tmp_path, SEGMENTATION, name="one", version="x", colour="red")
    write_engine(tmp_path, QUALITY, name="two", accepts={"Modalty": "CR"})
    write_engine(tmp_path, QUALITY, name="three")
    with pytest.raises(ConfigError) as refusal:
        list_engines(tmp_path)
    told = [(Path(m.file).parent.name, m.key) for m in refusal.value.mistakes]
    assert sorted(told) == [("one", "colour"), ("one", "version"), ("two", "accepts.Modalty")]
    lines = (first / "engine.yaml").read_text("utf-8").splitlines()
    (version,) = [m for m in refusal.value.mistakes if m.key == "version"]
    assert lines[version.line - 1] == "version: x"


def test_a_folder_bears_the_name_of_its_engine(tmp_path: Path) -> None:
    folder = write_engine(tmp_path, SEGMENTATION)
    folder.rename(tmp_path / "another")
    with pytest.raises(ConfigError, match="name: must be the folder's name, another"):
        load_manifest(tmp_path / "another")


def test_engines_are_listed_by_name(tmp_path: Path) -> None:
    for name in ("two", "one"):
        write_engine(tmp_path, SEGMENTATION, name=name)
    (tmp_path / "not_an_engine").mkdir()
    engines = list_engines(tmp_path)
    assert list(engines) == ["one", "two"]
    assert all(isinstance(manifest, Manifest) for manifest in engines.values())
    with pytest.raises(ConfigError, match="is no folder"):
        list_engines(tmp_path / "nowhere")


def test_a_missing_or_empty_manifest_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_manifest(tmp_path)
    (tmp_path / "engine.yaml").write_text("- a list\n", "utf-8")
    with pytest.raises(ConfigError, match="must be a mapping"):
        load_manifest(tmp_path)


def is_manifest_block(one: object) -> bool:
    own = getattr(one, "__module__", "") == blocks.__name__
    return own and is_dataclass(one) and one is not Percentile


def test_every_word_of_a_manifest_stands_in_the_guide() -> None:
    guide = (ROOT / "docs" / "engines.md").read_text("utf-8")
    words = {"name", "version", "title", "kind", "description", "limits", "accepts"}
    for file in (ROOT / "engines").glob("*/engine.yaml"):
        keys = [
            line.strip().lstrip("- ").split(":")[0] for line in file.read_text("utf-8").split("\n")
        ]
        words |= {key for key in keys if key.isidentifier() and key.islower()}
    sections = [Manifest, *(one for one in vars(blocks).values() if is_manifest_block(one))]
    assert len(sections) == 16
    for section in sections:
        words |= {field.name for field in fields(section)} - {"folder"}
    assert sorted(word for word in words if f"`{word}`" not in guide) == []
