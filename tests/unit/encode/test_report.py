"""The report: what stands on its pages, and that the same finding gives the same file."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import EncapsulatedPDFStorage

from dicom_node.encode.pages import pages_of
from dicom_node.encode.pdf import make_pdf
from dicom_node.encode.report import name_in_print, report_of
from dicom_node.finding import Measurement
from tests.factories import make_ct_series, make_xray
from tests.unit.encode.findings import (
    BONE_AGE,
    MONTH,
    classification,
    headers_of,
    quality,
    regression,
    segmentation,
)
from tests.unit.encode.materials import content_of, material_of, written

CT = make_ct_series(6)
HEADERS = headers_of(CT)
LUNGS = material_of(segmentation(HEADERS), CT)
XRAYS = [make_xray(number=1), make_xray(number=2)]


def test_it_says_whose_images_these_are_and_who_found_what() -> None:
    report = report_of(LUNGS)
    assert dict(report.patient) == {
        "Patient": "Synthetic, Patient",
        "Patient ID": "SYN-1",
        "Born": "1970-01-01",
        "Sex": "O",
    }
    assert dict(report.study) == {
        "Study": "2024-01-02, Synthetic study",
        "Series": "CT, Synthetic series",
        "Accession": "A0001",
        "Images": "6 images",
    }
    assert dict(report.method)["Engine"] == "ct-lungs 1.0.0"
    assert report.signature == "ct-lungs 1.0.0, 2023-11-14 22:13 UTC"
    assert report.notes == ("Two slices are missing.",)
    assert report.limits == ("Trained on adults.", "Not for children.")
    assert len(report.figures) == 1


def test_a_structure_has_a_row_and_a_measurement_a_column() -> None:
    [table] = report_of(LUNGS).tables
    assert table.headings == ("Structure", "Volume (ml)")
    right, _ = LUNGS.finding.segments
    assert table.rows[0].cells == ("Right lung", f"{right.volume_ml:.1f}")
    assert table.rows[0].colour == (31, 119, 180)


def test_what_was_looked_for_and_not_found_has_a_row_too() -> None:
    only_right = np.asarray(LUNGS.finding.mask == 1, np.uint8)
    material = material_of(segmentation(HEADERS, only_right), CT)
    [table] = report_of(material).tables
    assert [row.cells[1] for row in table.rows][1] == "not found"
    assert table.rows[1].colour is None


def test_measurements_without_a_word_of_the_standard_are_no_column() -> None:
    finding = segmentation(HEADERS)
    for_rules = Measurement("share", 0.5, MONTH, None)
    segments = tuple(
        replace(one, measurements=(*one.measurements, for_rules)) for one in finding.segments
    )
    [table] = report_of(material_of(replace(finding, segments=segments), CT)).tables
    assert len(table.headings) == 2


def test_statements_are_told_image_by_image() -> None:
    [table] = report_of(material_of(classification(headers_of(XRAYS)), XRAYS)).tables
    assert table.headings == ("Finding", "Result", "Probability", "Threshold", "Image")
    assert [row.cells for row in table.rows] == [
        ("Pneumonia", "present", "0.93", "0.5", "1"),
        ("Pneumonia", "present", "0.93", "0.5", "2"),
    ]
    grades, faults = report_of(material_of(quality(headers_of(XRAYS[:1])), XRAYS[:1])).tables
    assert grades.rows[0].cells == ("limited", "AP view (0.97)")
    assert [row.cells for row in faults.rows] == [
        ("Rotated", "found", "0.91"),
        ("Clipped", "not found", "0.02"),
    ]
    [values] = report_of(material_of(regression(headers_of(XRAYS[:1])), XRAYS[:1])).tables
    assert values.rows[0].cells == (BONE_AGE.meaning, "131.25 mo")


@pytest.mark.parametrize(
    ("name", "printed", "noted"),
    [
        ("Doe^Jane^Q", "Doe, Jane Q", False),
        ("Люкceмбypг^Иван", "Люкceмбypг, Иван", False),
        ("Müller^Jürgen", "Müller, Jürgen", False),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou", True),
        ("王^小東", "(see Patient ID)", True),
        ("=王^小東", "(see Patient ID)", True),
        ("", "", False),
    ],
)
def test_a_name_is_printed_as_far_as_the_font_goes_and_the_rest_is_told(
    name: str, printed: str, noted: bool
) -> None:
    text, note = name_in_print(name)
    assert text == printed
    assert bool(note) == noted


def test_what_the_font_has_not_is_a_box() -> None:
    slices = make_ct_series(
        2, SpecificCharacterSet="ISO_IR 192", StudyDescription="胸部 CT", PatientName="Doe^J"
    )
    report = report_of(material_of(segmentation(headers_of(slices)), slices))
    assert dict(report.study)["Study"] == "2024-01-02, □□ CT"


def test_the_document_carries_the_pages_and_names_its_sources() -> None:
    made = make_pdf(LUNGS)
    document = written(made, LUNGS)
    assert document.SOPClassUID == EncapsulatedPDFStorage
    assert document.MIMETypeOfEncapsulatedDocument == "application/pdf"
    pages = document.EncapsulatedDocument[: document.EncapsulatedDocumentLength]
    assert pages == pages_of(report_of(LUNGS))
    assert pages.startswith(b"%PDF-")
    assert [one.ReferencedSOPInstanceUID for one in document.SourceInstanceSequence] == [
        one.SOPInstanceUID for one in CT
    ]


def test_the_same_finding_gives_the_same_bytes_in_another_process() -> None:
    script = (
        "import hashlib\n"
        "from tests.unit.encode.test_report import LUNGS, content_of, make_pdf\n"
        "print(hashlib.sha256(content_of(make_pdf(LUNGS), LUNGS)).hexdigest())\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONHASHSEED": "3"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert printed == hashlib.sha256(content_of(make_pdf(LUNGS), LUNGS)).hexdigest()
