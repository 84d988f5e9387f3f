"""`dicom-node process`: files in, results out, without network or ledger."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from typer.testing import CliRunner

from dicom_node.cli.app import app
from tests.factories import make_ct_series, make_instance, make_xray, write, write_series
from tests.unit.cli.sites import Site


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results"


def written(out: Path) -> list[str]:
    return sorted(path.name.split("-")[0] for path in out.glob("*.dcm"))


def test_one_x_ray_becomes_its_results(site: Site, data_dir: Path, out: Path) -> None:
    source = data_dir / "xray" / "dx-nih-00000001_000.dcm"
    result = site.call("process", source, "--out", out)
    assert result.exit_code == 0
    assert written(out) == ["cxr_pneumonia", "cxr_quality"]
    assert f"2 results in {out}" in result.output
    assert "pneumonia 0." in result.output
    study = pydicom.dcmread(source, stop_before_pixels=True).StudyInstanceUID
    for file in out.glob("*.dcm"):
        report = pydicom.dcmread(file)
        assert report.StudyInstanceUID == study
        assert report.Modality == "SR"
    assert not (site.folder / "data" / "ledger.sqlite").exists()


def test_an_engine_that_is_named_runs_alone(site: Site, data_dir: Path, out: Path) -> None:
    source = data_dir / "xray" / "dx-nih-00000001_000.dcm"
    result = site.call("process", source, "--out", out, "--engine", "cxr_quality")
    assert result.exit_code == 0
    assert written(out) == ["cxr_quality"]


def test_an_arm_matches_no_rule_and_says_who_explains_it(
    site: Site, data_dir: Path, out: Path
) -> None:
    arm = data_dir / "xray" / "cr-extremity-fuji-j2k-RG3.dcm"
    result = site.call("process", arm, "--out", out)
    assert result.exit_code == 1
    assert "no rule matched" in result.output
    assert "dicom-node explain" in result.output
    assert written(out) == []


@pytest.mark.parametrize("name", ["cr-extremity-fuji-j2k-RG3.dcm", "dx-thorax-canine-fuji.dcm"])
def test_an_engine_that_is_forced_still_refuses_what_it_was_not_made_for(
    name: str, site: Site, data_dir: Path, out: Path
) -> None:
    result = site.call("process", data_dir / "xray" / name, "--out", out, "-e", "cxr_pneumonia")
    assert result.exit_code == 1
    assert "refused: not what cxr_pneumonia was made for" in result.output
    assert written(out) == []


def test_a_text_file_is_refused_without_a_traceback(site: Site, tmp_path: Path, out: Path) -> None:
    text = tmp_path / "letter.txt"
    text.write_text("Dear colleague, " * 50, "utf-8")
    result = site.call("process", text, "--out", out)
    assert result.exit_code == 1
    assert "letter.txt" in result.output
    assert written(out) == []


@pytest.mark.parametrize("content", [b"", bytes(128) + b"DICM", b"%PDF-1.4", b"\xff" * 400])
def test_neither_is_any_other_file(content: bytes, site: Site, tmp_path: Path, out: Path) -> None:
    file = tmp_path / "file.dcm"
    file.write_bytes(content)
    assert site.call("process", file, "--out", out).exit_code == 1


def test_a_file_that_is_not_there_is_said_to_be_missing(site: Site, out: Path) -> None:
    result = site.call("process", site.folder / "missing.dcm", "--out", out)
    assert result.exit_code == 1
    assert "there is no file" in result.output


def test_an_unknown_engine_is_a_mistake_and_the_known_ones_are_named(
    site: Site, tmp_path: Path, out: Path
) -> None:
    file = write(make_xray(), tmp_path / "x.dcm")
    result = site.call("process", file, "--out", out, "--engine", "cxr_fractures")
    assert result.exit_code == 2
    assert "there is no engine called cxr_fractures" in result.output
    assert "have: ct_lungs, ct_quality, cxr_pneumonia, cxr_quality, mr_brain" in result.output


def test_what_is_good_in_a_folder_is_processed_and_the_rest_is_told(
    site: Site, tmp_path: Path, out: Path
) -> None:
    folder = tmp_path / "study"
    write(make_xray(), folder / "x.dcm")
    write_series(make_ct_series(2), folder / "ct")
    (folder / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 50)
    result = site.call("process", folder, "--out", out)
    assert result.exit_code == 1
    assert written(out) == ["cxr_pneumonia", "cxr_quality"]
    assert "broken.dcm" in result.output
    assert "CT Synthetic series" in result.output


def test_an_image_without_pixels_is_refused(site: Site, tmp_path: Path, out: Path) -> None:
    file = write(make_xray(PixelData=None), tmp_path / "x.dcm")
    result = site.call("process", file, "--out", out)
    assert result.exit_code == 1
    assert "refused: " in result.output


def test_a_slice_is_no_volume(site: Site, tmp_path: Path, out: Path) -> None:
    file = write(make_instance(), tmp_path / "slice.dcm")
    result = site.call("process", file, "--out", out, "--engine", "ct_lungs")
    assert result.exit_code == 1
    assert "refused: " in result.output


def test_help_names_every_command() -> None:
    output = CliRunner().invoke(app, ["--help"]).output
    for command in ("serve", "check", "explain", "process", "status", "retry"):
        assert command in output
