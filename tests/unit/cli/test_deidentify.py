"""`dicom-node deidentify`: copies of files, and counts of what was done."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from tests.factories import make_ct_series, make_instance
from tests.unit.cli.sites import Site
from tests.unit.coerce.copies import file_of

PROFILES = """\
rules: []
profiles:
  research:
    deidentify:
      options: [retain_longitudinal_modified_dates]
    coerce:
      - set: {InstitutionName: Hospital A}
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    rules = tmp_path / "profiles.yaml"
    rules.write_text(PROFILES, "utf-8")
    text = site.config.read_text("utf-8")
    old = next(line for line in text.splitlines() if "rules_file" in line)
    site.config.write_text(text.replace(old, f"  rules_file: {rules}"), "utf-8")
    return site


def write(folder: Path, *contents: bytes) -> Path:
    folder.mkdir()
    for number, content in enumerate(contents):
        (folder / f"{number}.dcm").write_bytes(content)
    return folder


def test_a_folder_is_copied_and_no_value_is_printed(site: Site, tmp_path: Path) -> None:
    source = write(tmp_path / "in", *(file_of(one) for one in make_ct_series(3)))
    result = site.call("deidentify", source, "--profile", "research", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "3 of 3 files copied" in result.output
    assert "UIDs replaced" in result.output
    for value in ("Synthetic^Patient", "SYN-1", "A0001", "19700101"):
        assert value not in result.output
    copies = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").rglob("*.dcm"))]
    assert len({copy.SOPInstanceUID for copy in copies}) == 3
    assert {copy.InstitutionName for copy in copies} == {"Hospital A"}
    assert {copy.PatientIdentityRemoved for copy in copies} == {"YES"}
    assert len(list((tmp_path / "out").iterdir())) == 1  # one study


def test_the_same_command_again_makes_the_same_files(site: Site, tmp_path: Path) -> None:
    source = write(tmp_path / "in", file_of(make_instance()))
    made = []
    for name in ("a", "b"):
        site.call("deidentify", source, "-p", "research", "-o", tmp_path / name)
        [path] = (tmp_path / name).rglob("*.dcm")
        made.append((path.name, path.read_bytes()))
    assert made[0] == made[1]


def test_what_is_refused_is_told_with_its_reason(site: Site, tmp_path: Path) -> None:
    good, burned = make_instance(), make_instance(number=2, BurnedInAnnotation="YES")
    source = write(tmp_path / "in", file_of(good), file_of(burned), b"no DICOM")
    result = site.call("deidentify", source, "-p", "research", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "1 of 3 files copied" in result.output
    assert "1.dcm: not forwarded: Burned In Annotation" in result.output
    assert "2.dcm: " in result.output


@pytest.mark.parametrize(
    ("profile", "source", "message", "code"),
    [
        ("missing", "in", "there is no profile called missing", 2),
        ("research", "nowhere", "there is no file", 1),
    ],
)
def test_what_cannot_be_found_is_said(
    profile: str, source: str, message: str, code: int, site: Site, tmp_path: Path
) -> None:
    write(tmp_path / "in", file_of(make_instance()))
    result = site.call("deidentify", tmp_path / source, "-p", profile, "-o", tmp_path / "out")
    assert result.exit_code == code
    assert message in result.output


def test_a_folder_that_cannot_be_made_is_said(site: Site, tmp_path: Path) -> None:
    source = write(tmp_path / "in", file_of(make_instance()))
    result = site.call("deidentify", source, "-p", "research", "-o", source / "0.dcm")
    assert result.exit_code == 1
    assert "cannot be written" in result.output
