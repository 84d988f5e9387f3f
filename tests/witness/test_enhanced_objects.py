"""Every object on enhanced sources before programs that we did not write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from dicom_node.headers import read_header
from dicom_node.multiframe import frames_of
from tests.enhanced import ENHANCED, Written, everything_on, made_on
from tests.witness.programs import faults_found_by_dciodvfy, said_by
from tests.witness.readers import numbers_read_by_dcmqi, values_read_by_dcmqi
from tests.witness.test_seg_encodings import FALSE_ALARM

pytestmark = pytest.mark.witness

REAL = {
    "mr-enhanced-siemens-xa10-1": ("MR", 500.0),
    "ct-enhanced-supplemental-2f": ("CT", -900.0),
}


def passed_by_dciodvfy(written: Written) -> None:
    assert written.reason == ""
    assert set(written.paths) == {
        *("SEG", "LABELMAP", "FRACTIONAL", "PM", "PR", "SC", "KO", "PDF", "SR"),
    }
    for kind, paths in written.paths.items():
        for path in paths:
            allowed = {FALSE_ALARM} if kind == "SR" else set()
            assert set(faults_found_by_dciodvfy(path)) <= allowed, kind


def read_exactly_by_dcmqi(written: Written, sources: list[Dataset], folder: Path) -> None:
    """Assert that dcmqi reads each voxel of a SEG in each encoding, and each number of a map."""
    finding = written.outcome.finding
    assert finding.mask is not None
    assert finding.probabilities is not None
    for kind, expected in (
        ("SEG", finding.mask),
        ("LABELMAP", finding.mask),
        ("FRACTIONAL", finding.probabilities[0]),
    ):
        [values] = values_read_by_dcmqi(written.paths[kind][0], folder / kind, sources)
        np.testing.assert_array_equal(values, expected, kind)
    places, read = numbers_read_by_dcmqi(written.paths["PM"][0], folder / "PM", sources)
    np.testing.assert_array_equal(read, finding.maps[0].values[places])


@pytest.mark.parametrize("name", ENHANCED)
def test_objects_on_enhanced_sources(name: str, tmp_path: Path) -> None:
    _, written = made_on(name, tmp_path)
    passed_by_dciodvfy(written)
    read_exactly_by_dcmqi(written, list(written.outcome.headers), tmp_path)


@pytest.mark.parametrize("name", REAL)
def test_objects_on_real_enhanced_images(name: str, data_dir: Path, tmp_path: Path) -> None:
    file = data_dir / "enhanced" / f"{name}.dcm"
    modality, bright = REAL[name]
    written = everything_on([file], tmp_path, is_ct=False, modality=modality, bright=bright)
    passed_by_dciodvfy(written)
    read_exactly_by_dcmqi(written, list(written.outcome.headers), tmp_path)

    uid = str(read_header(file).SOPInstanceUID)
    numbers = {frame.ReferencedFrameNumber for frame in frames_of(read_header(file))}
    assert {int(one.ReferencedFrameNumber) for one in written.outcome.headers} <= numbers
    for kind, least in (("PR", 1), ("SC", 1), ("KO", 1), ("PM", len(written.outcome.headers))):
        dump = said_by("dcmdump", "+P", "0008,1155", "+P", "0008,1160", written.paths[kind][0])
        assert uid in dump
        assert dump.count("ReferencedFrameNumber") >= least, kind


def test_the_report_of_a_real_enhanced_mr_is_a_page_with_a_picture(
    data_dir: Path, tmp_path: Path
) -> None:
    file = data_dir / "enhanced" / "mr-enhanced-siemens-xa10-1.dcm"
    written = everything_on([file], tmp_path, is_ct=False, modality="MR")
    document = tmp_path / "report.pdf"
    document.write_bytes(pydicom.dcmread(written.paths["PDF"][0]).EncapsulatedDocument)
    text = said_by("pdftotext", "-layout", document, "-")
    count = len(written.outcome.headers)
    assert f"{count} images" in text
    assert f"of {count}" in text, "which of them is shown"
    assert "NOT FOR DIAGNOSTIC USE" in text
    said_by("pdftoppm", "-r", "60", "-png", document, tmp_path / "page")
    page = Image.open(sorted(tmp_path.glob("page-*.png"))[0]).convert("RGB")
    colours = page.getcolors(1 << 20)
    assert colours is not None
    assert len(colours) > 50, "there is no picture on the page"
