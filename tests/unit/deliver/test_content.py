"""What must come back as it was sent, and what an archive may change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from dicom_node.data_sets import encode
from dicom_node.deliver.content import content_digest
from dicom_node.errors import StudyUnusable
from tests.factories import make_instance

EXPLICIT, IMPLICIT = str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)


def a_report(text: str = "no finding") -> Dataset:
    item = Dataset()
    item.ValueType, item.TextValue = "TEXT", text
    report = Dataset()
    report.SOPClassUID, report.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.34", "2.25.1"
    report.StudyInstanceUID, report.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    report.ContentSequence = [item]
    return report


def digest(dataset: Dataset, syntax: str = EXPLICIT) -> str:
    return content_digest(encode(dataset, syntax), syntax)


@pytest.mark.parametrize("make", [make_instance, a_report])
def test_the_same_content_has_one_digest_however_it_is_encoded(make: Callable[[], Dataset]) -> None:
    assert digest(make(), EXPLICIT) == digest(make(), IMPLICIT)


def test_an_archive_may_keep_pixels_compressed() -> None:
    compressed = make_instance()
    compressed.compress(RLELossless, generate_instance_uid=False)
    assert digest(compressed, str(RLELossless)) == digest(make_instance())


def test_an_archive_may_correct_the_patient_and_add_what_it_likes() -> None:
    corrected = make_instance()
    corrected.PatientName, corrected.PatientID, corrected.AccessionNumber = "A^B", "7", "8"
    corrected.add_new(0x00091001, "LO", "private")
    assert digest(corrected) == digest(make_instance())


@pytest.mark.parametrize(
    "keyword", ["SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID"]
)
def test_an_object_that_was_filed_elsewhere_is_another(keyword: str) -> None:
    moved = make_instance()
    setattr(moved, keyword, "1.2.3.99")
    assert digest(moved) != digest(make_instance())


def test_one_pixel_makes_another_object() -> None:
    changed = make_instance()
    changed.PixelData = bytes([changed.PixelData[0] ^ 1]) + changed.PixelData[1:]
    assert digest(changed) != digest(make_instance())
    shorter = make_instance()
    shorter.PixelData = shorter.PixelData[:-2]
    assert digest(shorter) != digest(make_instance())


def test_one_word_makes_another_report_and_so_does_a_document() -> None:
    assert digest(a_report("a finding")) != digest(a_report())
    document = a_report()
    document.EncapsulatedDocument = b"%PDF-1"
    assert digest(document) != digest(a_report())


def test_pixels_that_cannot_be_read_are_no_content() -> None:
    broken = make_instance()
    with pytest.raises(StudyUnusable):
        content_digest(encode(broken, EXPLICIT), str(RLELossless))
