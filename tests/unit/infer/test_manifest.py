"""A manifest is frozen values, or every mistake in it at once with file, line and key."""

from __future__ import annotations

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
from dicom_node.infer.engine_folders import list_engines, load_manifest
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.pixels import Values
from tests.unit.infer.bad_manifests import BAD, Spoil, spoilt
from tests.unit.infer.engine_folders import (
    QUALITY,
    SEGMENTATION,
    write_engine,
)

ROOT = Path(__file__).parents[3]


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


@pytest.mark.parametrize(("written", "spoil", "message"), BAD)
def test_a_mistake_is_told_with_its_place(
    written: dict[str, Any],
    spoil: Spoil,
    message: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_manifest(write_engine(tmp_path, spoilt(written, spoil)))
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
    assert len(sections) == 19
    for section in sections:
        words |= {field.name for field in fields(section)} - {"folder"}
    assert sorted(word for word in words if f"`{word}`" not in guide) == []
