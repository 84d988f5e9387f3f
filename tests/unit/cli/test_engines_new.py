"""`dicom-node engines new`, and `process` with what it made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from tests.factories import make_ct_series, make_xray, write, write_series
from tests.unit.cli.sites import Site


@pytest.fixture
def own(site: Site) -> Site:
    """Return a site with an empty folder of engines and no rules."""
    text = site.config.read_text("utf-8")
    lines = [line for line in text.splitlines() if "engines_dir" not in line]
    lines = [line for line in lines if "rules_file" not in line]
    at = lines.index("node:") + 1
    lines[at:at] = ["  engines_dir: engines", "  rules_file: rules.yaml"]
    site.config.write_text("\n".join(lines), "utf-8")
    (site.folder / "rules.yaml").write_text("rules: []\n", "utf-8")
    (site.folder / "engines").mkdir()
    return site


def test_a_new_engine_runs_at_once(own: Site) -> None:
    made = own.call("engines", "new", "dense")
    assert made.exit_code == 0, made.output
    assert "model.onnx" in made.output
    assert "dicom-node process FILE_OR_FOLDER --out results --engine dense" in made.output
    pixels = np.full((12, 40, 40), -1000, np.int16)
    pixels[4:8, 10:30, 10:30] = 40
    write_series(make_ct_series(pixels=pixels), own.folder / "ct")
    out = own.folder / "results"
    done = own.call("process", own.folder / "ct", "--out", out, "--engine", "dense")
    assert done.exit_code == 0, done.output
    assert "body 3.2 ml" in done.output
    modalities = sorted(pydicom.dcmread(file).Modality for file in out.glob("*.dcm"))
    assert modalities == ["SEG", "SR"]


def test_other_kinds_see_an_image_unless_said(own: Site) -> None:
    assert own.call("engines", "new", "bright", "--kind", "regression").exit_code == 0
    write(make_xray(), own.folder / "xray.dcm")
    done = own.call(
        "process", own.folder / "xray.dcm", "--out", own.folder / "out", "--engine", "bright"
    )
    assert done.exit_code == 0, done.output
    assert "Brightness 0." in done.output


def test_into_names_another_folder(own: Site, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    made = own.call("engines", "new", "mine", "--sees", "whole", "--into", elsewhere)
    assert made.exit_code == 0
    assert (elsewhere / "mine" / "engine.yaml").is_file()
    assert list((own.folder / "engines").iterdir()) == []


def test_a_second_one_of_the_same_name_is_refused(own: Site) -> None:
    assert own.call("engines", "new", "mine").exit_code == 0
    again = own.call("engines", "new", "mine")
    assert again.exit_code == 2
    assert "exists" in again.output
