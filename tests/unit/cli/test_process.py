"""`dicom-node process`: files in, results out, without network or ledger."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from dicom_node.cli.app import app
from dicom_node.encode.profiles import PROFILES
from dicom_node.finding import FindingKind
from dicom_node.infer.scaffold import Wanted, new_engine
from dicom_node.infer.scaffold_text import Sees
from tests.factories import make_ct_series, make_instance, make_xray, write, write_series
from tests.unit.cli.sites import NODE, Site

RULES = """\
rules:
  - name: every-ct
    when: {Modality: CT}
    engines: [dense]
    destinations: [archive]
"""


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


# ---------------------------------------------------------------- profiles and the gate

SENT = {
    "default": (["SEG", "SR"], ["SR"]),
    "ohif": (["SEG", "SR"], ["SR"]),
    "slicer": (["SEG", "SR"], ["SR"]),
    "weasis": (["KO", "SEG", "SR"], ["SR"]),
    "orthanc": (["SEG", "SR"], ["SR"]),
    "no-seg": (["KO", "PR", "SC", "SR"], ["PR", "SC", "SR"]),
    "sr-text-only": (["SR"], ["SR"]),
    "everything": (["KO", "PDF", "PR", "SC", "SEG", "SR"], ["PDF", "PR", "SC", "SR"]),
}
"""What is written of a CT with something in it, and of an X-ray of diagnostic quality."""


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of engines that draws on CT what is denser than -300 HU."""
    folder = tmp_path_factory.mktemp("engines")
    new_engine(folder, "dense", Wanted(FindingKind.SEGMENTATION, Sees.SLICE))
    return folder


def drawing(site: Site, engines: Path, more: str = "") -> Site:
    """Return the site with that engine alone, run on every CT."""
    rules = site.folder / "rules.yaml"
    rules.write_text(RULES, "utf-8")
    text = NODE.format(engines_dir=engines, rules_file=rules, port=1, runtime="onnxruntime")
    site.config.write_text(text + more, "utf-8")
    return site


def kinds(out: Path) -> list[str]:
    return sorted(path.name.split("-")[1] for path in out.iterdir())


def test_each_profile_has_a_row_here() -> None:
    assert set(SENT) == set(PROFILES)


@pytest.mark.slow
@pytest.mark.parametrize("profile", SENT)
def test_a_real_ct_becomes_what_a_destination_of_the_profile_gets(
    profile: str, site: Site, engines: Path, data_dir: Path, out: Path
) -> None:
    ct = data_dir / "ct-abdomen-totalsegmentator"
    result = drawing(site, engines).call("process", ct, "--out", out, "--profile", profile)
    assert result.exit_code == 0, result.output
    assert kinds(out) == SENT[profile][0]
    refers_to_nothing_that_is_not_there(out, ct)


@pytest.mark.parametrize("profile", SENT)
def test_so_does_a_real_x_ray(profile: str, site: Site, data_dir: Path, out: Path) -> None:
    source = data_dir / "xray" / "dx-nih-00000001_000.dcm"
    result = site.call("process", source, "--out", out, "-e", "cxr_quality", "-p", profile)
    assert result.exit_code == 0, result.output
    assert kinds(out) == SENT[profile][1]
    refers_to_nothing_that_is_not_there(out, source)


def refers_to_nothing_that_is_not_there(out: Path, source: Path) -> None:
    files = [*out.iterdir(), *(source.rglob("*.dcm") if source.is_dir() else [source])]
    there = {str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in files}
    [report] = out.glob("*-SR-*.dcm")
    listed = {
        str(instance.ReferencedSOPInstanceUID)
        for study in pydicom.dcmread(report).CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert listed == there - {str(pydicom.dcmread(report).SOPInstanceUID)}


def test_a_profile_of_ones_own_can_be_tried(
    site: Site, engines: Path, data_dir: Path, out: Path
) -> None:
    own = "results_profiles: {reading-room: {objects: [SEG, PDF], labelmap: true}}\n"
    ct = data_dir / "ct-abdomen-totalsegmentator"
    site = drawing(site, engines, own)
    assert site.call("process", ct, "--out", out, "-p", "reading-room").exit_code == 0
    assert kinds(out) == ["LABELMAP", "PDF", "SR"]


def test_an_unknown_profile_is_a_mistake_and_the_known_ones_are_named(
    site: Site, tmp_path: Path, out: Path
) -> None:
    file = write(make_xray(), tmp_path / "x.dcm")
    result = site.call("process", file, "--out", out, "--profile", "weasel")
    assert result.exit_code == 2
    assert "there is no profile called weasel" in result.output
    assert "have: default, everything, no-seg, ohif" in result.output
    assert not out.exists()


def test_what_does_not_pass_the_gate_is_not_written_and_the_reason_is_told(
    site: Site, engines: Path, tmp_path: Path, out: Path
) -> None:
    folder = tmp_path / "ct"
    pixels = np.full((5, 64, 64), -1000, np.int16)
    pixels[1:4, 20:40, 20:40] = 40
    write_series(make_ct_series(pixels=pixels), folder)
    assert drawing(site, engines).call("process", folder, "--out", out).exit_code == 0
    assert kinds(out) == ["SEG", "SR"]
    good = {path: path.read_bytes() for path in out.iterdir()}

    site = drawing(site, engines, "results: {bytes_max: 9000}\n")
    result = site.call("process", folder, "--out", out, "--profile", "everything")
    assert result.exit_code == 1
    assert "held back, nothing is written: " in result.output
    assert "more than results.bytes_max: 9000" in result.output
    assert "0 results in" in result.output
    assert {path: path.read_bytes() for path in out.iterdir()} == good, "nothing is left behind"


def test_the_same_files_give_the_same_results(
    site: Site, engines: Path, data_dir: Path, tmp_path: Path
) -> None:
    ct = data_dir / "ct-abdomen-totalsegmentator"
    site = drawing(site, engines)
    for name in ("first", "second"):
        assert site.call("process", ct, "--out", tmp_path / name, "-p", "weasis").exit_code == 0
    first, second = (
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
        for name in ("first", "second")
    )
    assert first == second


def test_help_names_every_command() -> None:
    output = CliRunner().invoke(app, ["--help"]).output
    for command in ("serve", "check", "explain", "process", "status", "retry"):
        assert command in output
