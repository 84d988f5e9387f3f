"""A new engine folder runs at once, says what can be foretold, and explains each word."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from numpy.typing import NDArray

from dicom_node.errors import ConfigError
from dicom_node.finding import Finding, FindingKind, QualityGrade
from dicom_node.infer import blocks
from dicom_node.infer.engine_loading import load_engine
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.scaffold import Wanted, network_of, new_engine
from dicom_node.infer.scaffold_text import Sees
from tests.factories import make_ct_series, make_xray, write_series
from tests.unit.infer.test_schema import faults

ROOT = Path(__file__).parents[3]
EVERY = [Wanted(kind, sees) for kind in FindingKind for sees in Sees]
OF_VOLUMES = [wanted for wanted in EVERY if wanted.sees is not Sees.IMAGE]


def named(wanted: Wanted) -> str:
    return f"{wanted.kind}-{wanted.sees}"


every = pytest.mark.parametrize("wanted", EVERY, ids=named)


def body() -> NDArray[np.int16]:
    """Return 20 slices of 40 x 40: a block of water in air, and a crumb beside it."""
    pixels = np.full((20, 40, 40), -1000, np.int16)
    pixels[4:16, 10:30, 8:33] = 0
    pixels[2, 2, 2] = 0
    return pixels


def found(wanted: Wanted, folder: Path, grey: int = 0) -> Finding:
    """Return what a new engine says of a CT (segmentation: of a body) or of an X-ray."""
    engine = load_engine(new_engine(folder / "engines", "fresh", wanted), threads=1)
    if wanted.sees is Sees.IMAGE:
        pixels = np.zeros((128, 128), np.uint16)
        pixels[: round(128 * grey / 100)] = 1000
        return engine.run(write_series([make_xray(pixels)], folder / "xray"))[0]
    pixels_ct = body() if wanted.is_segmentation else np.full((20, 40, 40), grey, np.int16)
    series = make_ct_series(pixels=pixels_ct, spacing_mm=(1.0, 1.0, 1.0))
    return engine.run(write_series(series, folder / "ct"))[0]


@every
def test_the_network_is_one_that_onnx_itself_finds_right(wanted: Wanted) -> None:
    onnx.checker.check_model(onnx.load_from_string(network_of(wanted)), full_check=True)


@every
def test_the_manifest_is_right_in_an_editor_too(wanted: Wanted, tmp_path: Path) -> None:
    folder = new_engine(tmp_path, "fresh", wanted)
    assert faults(yaml.safe_load((folder / "engine.yaml").read_text("utf-8"))) == []
    assert sorted(file.name for file in folder.iterdir()) == [
        "LICENSE",
        "card.md",
        "engine.yaml",
        "model.onnx",
        "test_vector.npz",
    ]


@pytest.mark.parametrize("sees", ["slice", "slab", "window", "whole"])
def test_a_new_segmentation_draws_what_is_denser_than_its_threshold(
    sees: str, tmp_path: Path
) -> None:
    finding = found(Wanted(FindingKind.SEGMENTATION, Sees(sees)), tmp_path)
    expected = body() == 0
    expected[2, 2, 2] = False
    assert finding.mask is not None
    assert np.array_equal(finding.mask == 1, expected)
    told = {one.name: one.value for one in finding.segments[0].measurements}
    assert told["volume_ml"] == pytest.approx(6.0)
    assert told["mean_value"] == 0


def test_a_new_segmentation_of_images_draws_what_is_bright(tmp_path: Path) -> None:
    finding = found(Wanted(FindingKind.SEGMENTATION, Sees.IMAGE), tmp_path, grey=50)
    expected = np.zeros((1, 128, 128), bool)
    expected[:, :64] = True
    assert finding.mask is not None
    assert np.array_equal(finding.mask == 1, expected)
    told = {one.name: one.value for one in finding.segments[0].measurements}
    assert told["area_cm2"] == pytest.approx(64 * 128 * 0.14**2)
    assert finding.segments[0].image_share == 0.5


@pytest.mark.parametrize("sees", list(Sees))
@pytest.mark.parametrize("is_bright", [False, True])
def test_a_new_classification_tells_bright_from_dark(
    sees: Sees, is_bright: bool, tmp_path: Path
) -> None:
    share = (80 if is_bright else 20) if sees is Sees.IMAGE else (0 if is_bright else -1000)
    finding = found(Wanted(FindingKind.CLASSIFICATION, sees), tmp_path, share)
    (said,) = finding.classifications
    assert said.present is is_bright
    assert (said.sop_instance_uid == "") is (sees is not Sees.IMAGE)


@pytest.mark.parametrize("sees", list(Sees))
def test_a_new_quality_engine_finds_what_is_too_dark(sees: Sees, tmp_path: Path) -> None:
    finding = found(Wanted(FindingKind.QUALITY, sees), tmp_path, 2 if sees is Sees.IMAGE else -1000)
    (quality,) = finding.qualities
    assert quality.grade is not QualityGrade.DIAGNOSTIC
    assert [fault.name for fault in quality.faults if fault.found] == ["too dark"]


@pytest.mark.parametrize("sees", list(Sees))
def test_a_new_regression_says_how_bright_it_is(sees: Sees, tmp_path: Path) -> None:
    grey = 75 if sees is Sees.IMAGE else 40
    finding = found(Wanted(FindingKind.REGRESSION, sees), tmp_path, grey)
    (value,) = finding.values
    assert value.value == pytest.approx(0.75 if sees is Sees.IMAGE else 40, rel=0.001)


# ---------------------------------------------------------------- what stands in engine.yaml

BLOCKS = {
    "model": blocks.Model,
    "intensity": blocks.Intensity,
    "volume": blocks.VolumeInput,
    "image": blocks.ImageInput,
    "window": blocks.Window,
    "components": blocks.Components,
    "segments": blocks.SegmentLabel,
    "classes": blocks.ClassLabel,
    "faults": blocks.FaultLabel,
    "notes": blocks.NoteLabel,
    "values": blocks.ValueLabel,
    "test_vector": blocks.TestVector,
}
NOT_FOR_BEGINNERS = {"folder", "locate", "inputs"}


def test_every_word_stands_in_one_of_the_templates(tmp_path: Path) -> None:
    text = "\n".join(
        (new_engine(tmp_path, f"e{at}", wanted) / "engine.yaml").read_text("utf-8")
        for at, wanted in enumerate(EVERY)
    )
    for block in (Manifest, *BLOCKS.values()):
        for field in fields(block):
            if field.name not in NOT_FOR_BEGINNERS:
                assert re.search(rf"\b{field.name}: |\b{field.name}:$", text, re.MULTILINE), field


@every
def test_each_word_of_a_template_is_explained(wanted: Wanted, tmp_path: Path) -> None:
    text = (new_engine(tmp_path, "fresh", wanted) / "engine.yaml").read_text("utf-8")
    lines = text.splitlines()
    explained = {"Modality", "BodyPartExamined", "ViewPosition"}  # under `accepts`, which is
    for before, line in zip(["", *lines], lines, strict=False):
        word = re.match(r"[ #-]*([a-z_]+):( |$)", line)
        if word and "  # " not in line and not before.startswith("#"):
            assert word[1] in explained | {"kind", *OBVIOUS}, line


OBVIOUS = {"title", "intensity", "model", "volume", "image", "segments", "classes", "values"} | {
    "name",
    "type",
    "window",
    "offset",
}


@every
def test_what_can_be_left_out_is_right_once_it_is_taken_in(wanted: Wanted, tmp_path: Path) -> None:
    """Every example behind a # is one that the schema takes."""
    text = (new_engine(tmp_path, "fresh", wanted) / "engine.yaml").read_text("utf-8")
    examples = re.findall(r"^( *)# ([A-Za-z_]+: .+)$", text, re.MULTILINE)
    assert len(examples) > 5
    for indent, example in examples:
        if example.startswith(("yaml", "ensemble")):  # the schema itself; a digest with dots
            continue
        taken = text.replace(f"{indent}# {example}", f"{indent}{example}", 1)
        written = yaml.safe_load(taken)
        assert written != yaml.safe_load(text), example
        assert faults(written) == [], example


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("name", ["My engine", "1st", "", "../up", "x" * 33])
def test_a_name_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no name of an engine"):
        new_engine(tmp_path, name, EVERY[0])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "engine.yaml").write_text("precious")
    with pytest.raises(ConfigError, match="exists"):
        new_engine(tmp_path, "mine", EVERY[0])
    assert (tmp_path / "mine" / "engine.yaml").read_text() == "precious"


def test_the_schema_is_named_where_it_lies(tmp_path: Path) -> None:
    folder = new_engine(tmp_path / "engines", "far", EVERY[0])
    assert "$schema" not in (folder / "engine.yaml").read_text("utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "engine.schema.json").write_text("{}")
    folder = new_engine(tmp_path / "engines", "near", EVERY[0])
    first = (folder / "engine.yaml").read_text("utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=../../docs/engine.schema.json"
