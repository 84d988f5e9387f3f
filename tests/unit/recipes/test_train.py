"""The introductory recipe, from data to results in DICOM, and what can go wrong on the way."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pydicom
import pytest
from typer.testing import CliRunner, Result

from dicom_node.infer.engine_folders import find_engines, load_manifest
from engines.recipes import train
from tests.unit.cli.sites import ROOT, Site

SHORT = ("--set", "epochs=2", "--set", "steps=4", "--set", "batch=16")
RULES = """\
rules:
  - name: chest-x-ray
    when: {Modality: [CR, DX]}
    engines: [first_try]
    destinations: [archive]
"""


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(train.app, [*map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the engine `first_try`, just trained."""
    folder = tmp_path_factory.mktemp("engines")
    result = call("intro", "--out", folder / "first_try", *SHORT)
    assert result.exit_code == 0, result.output
    assert "test: AP view 0." in result.output
    assert "Next: dicom-node engines verify first_try" in result.output
    return folder


@pytest.fixture
def site(engines: Path, tmp_path: Path) -> Site:
    made = Site(tmp_path)
    (tmp_path / "rules.yaml").write_text(RULES, "utf-8")
    text = made.config.read_text("utf-8").replace(str(ROOT / "engines"), str(engines))
    text = text.replace(str(ROOT / "config" / "rules.yaml"), "rules.yaml")
    made.config.write_text(text, "utf-8")
    return made


def test_the_folder_has_all_that_an_engine_needs(engines: Path) -> None:
    folder = engines / "first_try"
    names = {file.name for file in folder.iterdir()}
    assert names >= {"LICENSE", "card.md", "engine.yaml", "model.onnx", "test_vector.npz"}
    manifest = load_manifest(folder)
    assert manifest.name == "first_try"
    assert "Trained on 600 images" in manifest.description
    assert 0 < manifest.classes[0].threshold < 1


def test_the_card_says_how_it_was_made_and_how_good_it_is(engines: Path) -> None:
    card = (engines / "first_try" / "card.md").read_text("utf-8")
    assert "    python -m engines.recipes.train " in card
    assert "| AP view | 0." in card
    assert "3,937,409 weights, trained from scratch" in card
    assert "Thresholds, calibration and epoch were chosen on validation" in " ".join(card.split())
    assert "not a medical device" in card
    licence = " ".join((engines / "first_try" / "LICENSE").read_text("utf-8").split())
    assert "the NIH Clinical Center" in licence


def test_engines_verify_accepts_it(site: Site) -> None:
    result = site.call("engines", "verify", "first_try")
    assert result.exit_code == 0, result.output
    assert "right" in result.output


def test_an_x_ray_becomes_its_report(site: Site, data_dir: Path, tmp_path: Path) -> None:
    source = data_dir / "xray" / "dx-nih-00000001_000.dcm"
    result = site.call("process", source, "--out", tmp_path / "out", "--engine", "first_try")
    assert result.exit_code == 0, result.output
    (report,) = (pydicom.dcmread(file) for file in (tmp_path / "out").glob("*.dcm"))
    assert report.Modality == "SR"
    assert report.StudyInstanceUID == pydicom.dcmread(source).StudyInstanceUID
    codes = [str(each.value) for each in report.iterall() if each.keyword == "CodeValue"]
    assert "399348003" in codes


def test_the_test_vector_holds_images_of_both_kinds_in_whole_numbers(engines: Path) -> None:
    with np.load(engines / "first_try" / "test_vector.npz") as vector:
        given, answer = vector["input"], vector["output"]
    assert given.dtype == np.int16
    assert given.shape == (8, 1, 64, 64)
    session = onnxruntime.InferenceSession(engines / "first_try" / "model.onnx")
    (said,) = session.run(None, {"image_0_255": given.astype(np.float32)})
    np.testing.assert_allclose(said, answer, atol=1e-6)
    assert np.ptp(answer) > 0


def test_the_same_command_gives_the_same_bytes(engines: Path, tmp_path: Path) -> None:
    assert call("intro", "--out", tmp_path / "first_try", *SHORT).exit_code == 0
    for name in ("model.onnx", "engine.yaml", "test_vector.npz"):
        again = (tmp_path / "first_try" / name).read_bytes()
        assert again == (engines / "first_try" / name).read_bytes(), name


def test_another_seed_gives_other_weights_and_an_engine_that_is_there_gives_way(
    engines: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(engines / "first_try", other)
    (other / "note.txt").touch()
    result = call("intro", "--out", other, *SHORT, "--set", "seed=2", "--replace")
    assert result.exit_code == 0, result.output
    first = (engines / "first_try" / "model.onnx").read_bytes()
    assert (other / "model.onnx").read_bytes() != first
    assert not (other / "note.txt").exists()
    assert list(tmp_path.iterdir()) == [other]


def test_a_search_takes_what_validation_likes_best(tmp_path: Path) -> None:
    result = call("intro", "--out", tmp_path / "s", *SHORT, "--search", "learning_rate=1e-9,1e-3")
    assert result.exit_code == 0, result.output
    card = (tmp_path / "s" / "card.md").read_text("utf-8")
    assert card.count("Searched: learning_rate") == 2
    assert "learning rate 0.001" in " ".join(card.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing",), "no recipe is called nothing; one of intro, cxr_pneumonia"),
        (("intro", "--set", "colour=red"), "no setting is called colour; one of balance, batch"),
        (("intro", "--set", "epochs=many"), "epochs is 12 by default; 'many' is not like it"),
        (("intro", "--set", "epochs"), "epochs is no setting; word=value"),
        (("intro", "--search", "epochs"), "epochs is no setting; word=value"),
        (("intro", "--out", "engines/Mine"), "Mine is no name for an engine"),
        (("intro", "--out", "engines/cxr_quality"), "is there already; choose another --out"),
        (("intro", "--out", "engines/recipes", "--replace"), "is no engine's folder"),
        (("intro", "--data", "nowhere", "--out", "engines/x"), "nowhere is not there"),
    ],
)
def test_a_wrong_command_is_told_before_anything_is_trained(
    arguments: tuple[str, ...], words: str
) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())


def test_settings_are_printed_as_they_can_be_given() -> None:
    result = call("cxr_pneumonia", "--settings")
    assert result.exit_code == 0
    lines = result.stdout.split()
    assert "widths=16-32-64" in lines
    assert "mirror=True" in lines
    again = [argument for line in lines for argument in ("--set", line)]
    assert call("cxr_pneumonia", "--settings", *again).stdout.split() == lines


def test_recipes_are_no_engine() -> None:
    found = find_engines(ROOT / "engines")
    assert "recipes" not in found.folders
    assert found.mistakes == ()
