"""What hospitals send, and what the results make of it."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pydicom
import pytest
from pydicom.data import get_charset_files
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import JPEG2000, UID, JPEGBaseline8Bit

from dicom_node.encode.results import encode
from dicom_node.encode.sources import TYPE_2
from dicom_node.headers import read_header
from tests.factories import make_ct_series, make_xray
from tests.unit.encode.findings import STAMP, headers_of, read, segmentation


def results_on(sources: list[Dataset]) -> list[FileDataset]:
    return [read(result) for result in encode(segmentation(sources), sources, STAMP)]


def with_names_of(charset_file: str, slices: int = 3) -> list[Dataset]:
    """Return CT headers with the names and the character set of one of pydicom's files."""
    named = pydicom.dcmread(get_charset_files(charset_file)[0], force=True)
    headers = []
    for instance in make_ct_series(slices):
        instance.SpecificCharacterSet = named.SpecificCharacterSet
        instance.add(named["PatientName"])
        buffer = BytesIO()
        instance.save_as(buffer, enforce_file_format=True)
        headers.append(read_header(BytesIO(buffer.getvalue())))
    return headers


@pytest.mark.parametrize(
    ("charset_file", "name"),
    [
        ("chrFren.dcm", "Buc^Jérôme"),
        ("chrRuss.dcm", "Люкceмбypг"),
        ("chrH31.dcm", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("chrH32.dcm", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        ("chrI2.dcm", "Hong^Gildong=洪^吉洞=홍^길동"),
        ("chrX2.dcm", "Wang^XiaoDong=王^小东"),
    ],
)
def test_names_survive_in_utf8(charset_file: str, name: str) -> None:
    for result in results_on(with_names_of(charset_file)):
        assert result.SpecificCharacterSet == "ISO_IR 192"
        assert str(result.PatientName) == name


def test_absent_attributes_of_type_2_are_empty() -> None:
    absent: dict[str, Any] = dict.fromkeys(TYPE_2)
    sources = headers_of(make_ct_series(3, **absent))
    for result in results_on(sources):
        for keyword in TYPE_2:
            assert result[keyword].is_empty, keyword


def test_patient_and_study_are_copied() -> None:
    given: dict[str, Any] = {
        "IssuerOfPatientID": "HOSPITAL",
        "PatientAge": "054Y",
        "PatientWeight": 70.5,
    }
    for result in results_on(headers_of(make_ct_series(3, **given))):
        assert result.PatientName == "Synthetic^Patient"
        assert result.PatientID == "SYN-1"
        assert result.AccessionNumber == "A0001"
        assert result.StudyDescription == "Synthetic study"
        for keyword, value in given.items():
            assert result[keyword].value == value


@pytest.mark.parametrize(
    ("keyword", "broken", "written"),
    [
        ("PatientSex", "X", ""),
        ("PatientBirthDate", "1970", ""),
        ("StudyDate", "yesterday", ""),
        ("StudyTime", "25 o'clock", ""),
        ("StudyDate", "1995.07.20", "19950720"),
        ("StudyTime", "11:22:07", "112207"),
        ("PatientAge", "54", None),
        ("DeidentificationMethod", "", None),
        ("Manufacturer", None, "dicom_node"),
    ],
)
def test_a_broken_value_is_mended_or_left_out(
    keyword: str, broken: str | None, written: str | None
) -> None:
    instances = make_ct_series(3)
    for instance in instances:
        if broken is None:
            delattr(instance, keyword)
        else:
            vr = pydicom.datadict.dictionary_VR(keyword)
            instance[keyword] = pydicom.DataElement(keyword, vr, broken, validation_mode=0)
    for result in results_on(headers_of(instances)):
        assert result.get(keyword) == written


def test_identity_that_was_removed_in_an_unknown_way_is_told_so() -> None:
    sources = headers_of(make_ct_series(3, PatientIdentityRemoved="YES", DeidentificationMethod=""))
    for result in results_on(sources):
        assert result.DeidentificationMethod == "Not stated by the source"


def test_uids_are_kept_even_where_they_break_the_rules() -> None:
    uids: dict[str, Any] = {
        "StudyInstanceUID": "1.2.840.007.1",
        "SeriesInstanceUID": "1.2.840.007.2",
    }
    with pytest.warns(UserWarning, match="Invalid value for VR UI"):
        sources = headers_of(make_ct_series(2, **uids))
    for result in results_on(sources):
        assert result.StudyInstanceUID == "1.2.840.007.1"


def test_a_series_that_tells_no_frame_of_reference_has_one_all_the_same() -> None:
    sources = headers_of(make_ct_series(3, FrameOfReferenceUID=None))
    seg = results_on(sources)[0]
    assert seg.FrameOfReferenceUID == results_on(sources)[0].FrameOfReferenceUID
    assert "FrameOfReferenceUID" not in sources[0]


def test_private_elements_stay_with_the_source() -> None:
    instances = make_ct_series(3)
    for instance in instances:
        instance.private_block(0x0011, "VENDOR", create=True).add_new(1, "LO", "secret")
    for result in results_on(headers_of(instances)):
        assert not [element for element in result if element.tag.is_private]


@pytest.mark.parametrize(
    ("syntax", "changes", "written"),
    [
        (None, {}, ("00", None, None)),
        (None, {"LossyImageCompression": "00"}, ("00", None, None)),
        (
            None,
            {
                "LossyImageCompression": "01",
                "LossyImageCompressionRatio": 12.5,
                "LossyImageCompressionMethod": "ISO_15444_1",
            },
            ("01", 12.5, "ISO_15444_1"),
        ),
        (
            JPEG2000,
            {"LossyImageCompression": "01", "LossyImageCompressionRatio": 10.0},
            ("01", 10.0, "ISO_15444_1"),
        ),
        (JPEGBaseline8Bit, {}, ("01", None, "ISO_10918_1")),
        (JPEG2000, {"LossyImageCompression": "00"}, ("00", None, None)),
    ],
    ids=["not said", "no", "yes", "method by transfer syntax", "transfer syntax alone", "denied"],
)
def test_loss_in_the_source_is_told_in_the_seg(
    syntax: str | None, changes: dict[str, Any], written: tuple[Any, ...]
) -> None:
    sources = headers_of([make_xray(**changes)])
    if syntax is not None:
        sources[0].file_meta.TransferSyntaxUID = UID(syntax)
    seg = results_on(sources)[0]
    assert written == (
        seg.LossyImageCompression,
        seg.get("LossyImageCompressionRatio"),
        seg.get("LossyImageCompressionMethod"),
    )
