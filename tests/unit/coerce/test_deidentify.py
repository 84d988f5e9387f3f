"""De-identification of one data set: what stays, what is replaced, and by what."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ComprehensiveSRStorage

from dicom_node.coerce.profile import Option
from dicom_node.coerce.pseudonyms import Pseudonyms
from dicom_node.data_sets import decode, encode
from dicom_node.errors import StudyUnusable
from tests.factories import STUDY, make_ct_series, make_instance
from tests.unit.coerce.copies import SECRET, bytes_of, coerced, copy_of

FULL = Option.RETAIN_LONGITUDINAL_FULL_DATES
MODIFIED = Option.RETAIN_LONGITUDINAL_MODIFIED_DATES
OURS = Pseudonyms(SECRET, "research")
DAYS = OURS.days("SYN-1")


def item(**attributes: Any) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def a_code(meaning: str, scheme: str = "SCT") -> Dataset:
    return item(CodeValue="1", CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def content(value_type: str, **attributes: Any) -> Dataset:
    return item(RelationshipType="CONTAINS", ValueType=value_type, **attributes)


def test_the_original_is_not_changed_and_its_pixels_are_shared() -> None:
    dataset = make_instance()
    before = bytes_of(dataset)
    copy = copy_of(dataset, *(option for option in Option if option is not FULL))
    assert bytes_of(dataset) == before
    assert copy["PixelData"] is dataset["PixelData"]


def test_a_copy_says_that_it_is_one_and_how_it_was_made() -> None:
    copy = copy_of(make_instance(), Option.CLEAN_DESCRIPTORS, MODIFIED)
    assert copy.PatientIdentityRemoved == "YES"
    assert copy.DeidentificationMethod == "PS3.15 2026c Basic Application Confidentiality Profile"
    codes = [
        (one.CodeValue, one.CodingSchemeDesignator, one.CodeMeaning)
        for one in copy.DeidentificationMethodCodeSequence
    ]
    assert codes == [
        ("113100", "DCM", "Basic Application Confidentiality Profile"),
        ("113105", "DCM", "Clean Descriptors Option"),
        ("113107", "DCM", "Retain Longitudinal Temporal Information Modified Dates Option"),
    ]


def test_what_somebody_said_of_cleaned_pixels_stays_true() -> None:
    before = make_instance(
        DeidentificationMethod="by Dr. Doe",
        DeidentificationMethodCodeSequence=[
            item(CodeValue="113101", CodingSchemeDesignator="DCM", CodeMeaning="by Doe"),
            item(CodeValue="113108", CodingSchemeDesignator="DCM", CodeMeaning="x"),
        ],
    )
    copy = copy_of(before)
    assert b"Doe" not in bytes_of(copy)
    values = [one.CodeValue for one in copy.DeidentificationMethodCodeSequence]
    assert values == ["113100", "113101"]


@pytest.mark.parametrize(
    ("options", "said"), [((), "REMOVED"), ((MODIFIED,), "MODIFIED"), ((FULL,), "UNMODIFIED")]
)
def test_a_copy_says_what_became_of_its_dates(options: tuple[Option, ...], said: str) -> None:
    copy = copy_of(make_instance(), *options)
    assert copy.LongitudinalTemporalInformationModified == said


def test_names_and_numbers_become_pseudonyms_that_keep_a_patient_together() -> None:
    copies = [copy_of(one) for one in (make_instance(), make_instance(number=2))]
    assert {str(one.PatientID) for one in copies} == {OURS.text("PatientID", "SYN-1")}
    assert {str(one.PatientName) for one in copies} == {OURS.text("PatientID", "SYN-1")}
    assert {str(one.AccessionNumber) for one in copies} == {OURS.text("AccessionNumber", "A0001")}
    other = copy_of(make_instance(PatientID="SYN-2"))
    assert other.PatientID != copies[0].PatientID


def test_patients_without_an_id_are_told_apart_by_name_and_birth_date() -> None:
    one = copy_of(make_instance(PatientID="", PatientName="Doe^Jane"))
    two = copy_of(make_instance(PatientID="", PatientName="Roe^Jane"))
    assert one.PatientID == ""
    assert one.PatientName != two.PatientName


def test_uids_of_a_series_stay_together_and_those_of_the_standard_stay() -> None:
    series = make_ct_series(3)
    for one in series[1:]:
        one.ReferencedImageSequence = [
            item(
                ReferencedSOPClassUID=series[0].SOPClassUID,
                ReferencedSOPInstanceUID=series[0].SOPInstanceUID,
            )
        ]
    copies = [copy_of(one) for one in series]
    assert len({one.SOPInstanceUID for one in copies}) == 3
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert {one[keyword].value for one in copies} == {OURS.uid(series[0][keyword].value)}
    assert {one.SOPClassUID for one in copies} == {series[0].SOPClassUID}
    [reference] = copies[2].ReferencedImageSequence
    assert reference.ReferencedSOPInstanceUID == copies[0].SOPInstanceUID
    assert reference.ReferencedSOPClassUID == series[0].SOPClassUID


def test_retained_uids_stay() -> None:
    dataset = make_instance(StorageMediaFileSetUID="1.2.9")
    copy = copy_of(dataset, Option.RETAIN_UIDS)
    for keyword in ("StudyInstanceUID", "SOPInstanceUID", "StorageMediaFileSetUID"):
        assert copy[keyword].value == dataset[keyword].value


@pytest.mark.parametrize(
    ("keyword", "value", "expected"),
    [
        ("StudyDate", "20240102", "moved"),
        ("StudyDate", "2024.01.02", "moved"),
        ("StudyTime", "101500", "101500"),
        ("AcquisitionDateTime", "20240102101500.5+0100", "moved101500.5+0100"),
        ("AcquisitionDateTime", "2024", "19000101000000"),
        ("StudyDate", "Silvester", ""),
        ("PatientBirthDate", "19700101", ""),
        ("StudyDate", "", ""),
        ("StudyDate", "00010101", ""),  # nobody can move it further back
    ],
)
def test_dates_move_and_times_stay(keyword: str, value: str, expected: str) -> None:
    dataset = make_instance()
    setattr(dataset, keyword, value)
    copy = copy_of(dataset, MODIFIED)
    if "moved" in expected:
        day = str(copy[keyword].value)[:8]
        ordinal = coerced(make_instance(StudyDate="20240102"), MODIFIED).dataset.StudyDate
        assert day == ordinal
        expected = expected.replace("moved", day)
    assert str(copy[keyword].value or "") == expected


def test_intervals_between_dates_of_a_patient_are_kept() -> None:
    def day(text: str) -> date:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))

    before = ("20240102", "20240229", "20241231")
    after = [str(copy_of(make_instance(StudyDate=one), MODIFIED).StudyDate) for one in before]
    assert [(day(b) - day(a)).days for a, b in zip(before, after, strict=True)] == [DAYS] * 3


def test_every_persons_name_is_treated_even_where_the_table_knows_none() -> None:
    dataset = make_instance(DocumentAuthorTrial="Doe^John")
    dataset.ReferencedSeriesSequence = [item(EvaluatorName="Doe^John")]
    assert b"Doe" not in bytes_of(copy_of(dataset))


def test_private_unknown_and_old_elements_go() -> None:
    dataset = make_instance()
    block = dataset.private_block(0x0029, "ACME", create=True)
    block.add_new(0x01, "LO", "MARKED")
    block.add_new(0x02, "SQ", Sequence([item(PatientComments="MARKED")]))
    dataset.add_new(0x00091001, "LO", "MARKED")  # of no creator
    dataset.add_new(0x00189FF0, "LO", "MARKED")  # of no dictionary
    dataset.add_new(0x50000005, "US", 1)
    dataset.add_new(0x50002500, "LO", "MARKED")
    dataset.add_new(0x60003000, "OW", b"MARKED")
    dataset.add_new(0x60000022, "LO", "MARKED")
    dataset.add_new(0xFFFCFFFC, "OB", b"MARKED")
    result = coerced(dataset)
    assert b"MARKED" not in bytes_of(result.dataset)
    assert b"ACME" not in bytes_of(result.dataset)
    assert result.counts["private removed"] == 3


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        (0x00100033, "LO", "MARKED"),  # birth in another calendar
        (0x00400400, "LT", "MARKED"),
        (0x00081190, "UR", "https://MARKED"),
        (0x00081140, "OB", b"MARKED"),  # a sequence that says it is none
        (0x0040A067, "LO", "MARKED"),  # a person's name that says it is none
        (0x00081167, "LO", "MARKED"),  # a UID that says it is none
    ],
)
def test_what_the_table_forgets_and_what_hides_its_vr_goes(
    tag: int, vr: str, value: object
) -> None:
    dataset = make_instance()
    dataset.add_new(tag, vr, value)
    assert b"MARKED" in bytes_of(dataset)
    read = decode(bytes_of(dataset), "1.2.840.10008.1.2.1")
    for each in (dataset, read):
        assert b"MARKED" not in bytes_of(copy_of(each))


def test_private_elements_that_are_known_to_be_safe_stay_with_their_creator() -> None:
    dataset = make_instance()
    block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x00, "DS", "0.5")
    block.add_new(0x03, "LO", "MARKED")
    copy = copy_of(dataset, Option.RETAIN_SAFE_PRIVATE)
    kept = copy.private_block(0x7053, "Philips PET Private Group")
    assert kept[0x00].value == 0.5
    assert 0x03 not in kept
    assert not any(element.tag.is_private for element in copy_of(dataset))


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("CT Thorax with contrast", "CT Thorax with contrast"),
        ("CT Thorax for Dr. Huber", "CT Thorax"),
        ("Synthetic T2 FLAIR", "T2 FLAIR"),
        ("Jane Doe 12345678", None),
        ("2 1", None),
    ],
)
def test_a_cleaned_description_has_only_words_that_everybody_uses(
    description: str, expected: str | None
) -> None:
    copy = copy_of(make_instance(SeriesDescription=description), Option.CLEAN_DESCRIPTORS)
    assert copy.get("SeriesDescription") == expected
    assert "SeriesDescription" not in copy_of(make_instance(SeriesDescription=description))


def test_a_word_of_the_vocabulary_goes_if_it_is_a_name_in_this_data_set() -> None:
    dataset = make_instance(PatientName="Head^Axial", SeriesDescription="Head axial T1")
    assert copy_of(dataset, Option.CLEAN_DESCRIPTORS).SeriesDescription == "T1"


def test_cleaned_codes_are_those_of_public_schemes() -> None:
    dataset = make_instance(
        AdmittingDiagnosesCodeSequence=[a_code("Fracture"), a_code("MARKED", "99LOCAL")]
    )
    [kept] = copy_of(dataset, Option.CLEAN_DESCRIPTORS).AdmittingDiagnosesCodeSequence
    assert kept.CodeMeaning == "Fracture"
    assert "AdmittingDiagnosesCodeSequence" not in copy_of(dataset)


def test_text_that_is_kept_is_searched_for_the_patient() -> None:
    dataset = make_instance(
        PatientName="Müller^Jürgen",
        SpecificCharacterSet="ISO_IR 192",
        FilterType="for MÜLLER, SYN-1",
        ManufacturerModelName="Mueller 3000",
    )
    copy = copy_of(dataset)
    assert copy.FilterType == "for ******, *****"
    assert copy.ManufacturerModelName == "Mueller 3000"


def test_a_name_is_found_in_a_script_that_has_no_spaces() -> None:
    dataset = make_instance(
        PatientName="Yamada^Tarou=山田^太郎", SpecificCharacterSet="ISO_IR 192", FilterType="山田の"
    )
    assert copy_of(dataset).FilterType == "**の"


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
@pytest.mark.parametrize(
    ("charset", "label"),
    [("ISO_IR 192", "Läsion 病変"), ("ISO_IR 100", "Läsion"), (["", "ISO 2022 IR 87"], "病変")],
)
def test_text_in_items_keeps_its_character_set(charset: Any, label: str, syntax: str) -> None:
    dataset = make_instance(SpecificCharacterSet=charset, PatientName="Doe^Jane")
    dataset.SegmentSequence = [item(SegmentLabel=label, SegmentDescription=f"{label} of Doe")]
    read = decode(encode(dataset, syntax), syntax)
    sent = decode(encode(copy_of(read), syntax), syntax)
    [segment] = sent.SegmentSequence
    assert segment.SegmentLabel == label
    assert segment.SegmentDescription == f"{label} of ***"


@pytest.mark.parametrize(
    ("age", "expected"), [("089Y", "089Y"), ("094Y", "090Y"), ("003M", "003M")]
)
def test_the_age_of_the_oldest_is_not_told(age: str, expected: str) -> None:
    dataset = make_instance(PatientAge=age, PatientSex="F", PatientWeight="70")
    copy = copy_of(dataset, Option.RETAIN_PATIENT_CHARACTERISTICS)
    assert (copy.PatientAge, copy.PatientSex, copy.PatientWeight) == (expected, "F", 70)
    assert "PatientAge" not in copy_of(dataset)


def a_report() -> Dataset:
    return make_instance(
        SOPClassUID=ComprehensiveSRStorage,
        ContentSequence=[
            content("PNAME", PersonName="MARKED"),
            content("TEXT", TextValue="nodule of MARKED in the left lung"),
            content("UIDREF", UID=STUDY),
            content("NUM", ConceptNameCodeSequence=[a_code("Volume")]),
            content("CODE", ConceptNameCodeSequence=[item(CodeValue="121032")]),
            content("CONTAINER", ContentSequence=[content("TEXT", TextValue="MARKED")]),
        ],
    )


def test_a_document_loses_its_content() -> None:
    copy = copy_of(a_report())
    [only] = copy.ContentSequence
    assert (only.ValueType, only.TextValue) == ("TEXT", "REMOVED")


def test_cleaned_content_keeps_its_tree_without_names_and_free_text() -> None:
    copy = copy_of(a_report(), Option.CLEAN_STRUCTURED_CONTENT)
    assert b"MARKED" not in bytes_of(copy)
    name, text, uid, number, container = copy.ContentSequence
    assert name.PersonName == "REMOVED"
    assert text.TextValue.endswith("left lung")
    assert copy.StudyInstanceUID == uid.UID
    assert number.ConceptNameCodeSequence[0].CodeMeaning == "Volume"
    assert container.ContentSequence[0].TextValue == "REMOVED"
    both = copy_of(
        a_report(), Option.CLEAN_STRUCTURED_CONTENT, Option.RETAIN_PATIENT_CHARACTERISTICS
    )
    assert len(both.ContentSequence) == 6


def test_cleaned_graphics_keep_regions_and_lines_without_text() -> None:
    dataset = make_instance(
        GraphicAnnotationSequence=[
            item(
                GraphicLayer="L",
                TextObjectSequence=[item(UnformattedTextValue="MARKED")],
                GraphicObjectSequence=[item(GraphicType="POLYLINE")],
            ),
            item(GraphicLayer="L", TextObjectSequence=[item(UnformattedTextValue="MARKED")]),
        ]
    )
    for group, kind in ((0x6000, "R"), (0x6002, "G")):
        dataset.add_new(group << 16 | 0x0040, "CS", kind)
        dataset.add_new(group << 16 | 0x1500, "LO", "MARKED")
        dataset.add_new(group << 16 | 0x3000, "OW", b"\1\1")
    copy = copy_of(dataset, Option.CLEAN_GRAPHICS)
    assert b"MARKED" not in bytes_of(copy)
    assert [0x60003000 in copy, 0x60023000 in copy] == [True, False]
    [lines] = copy.GraphicAnnotationSequence
    assert lines.GraphicObjectSequence[0].GraphicType == "POLYLINE"
    assert "GraphicAnnotationSequence" not in copy_of(dataset)


@pytest.mark.parametrize(
    ("option", "keyword", "value"),
    [
        (Option.RETAIN_DEVICE_IDENTITY, "StationName", "CT1"),
        (Option.RETAIN_INSTITUTION_IDENTITY, "InstitutionName", "Hospital"),
    ],
)
def test_what_an_option_retains_stays(option: Option, keyword: str, value: str) -> None:
    dataset = make_instance()
    setattr(dataset, keyword, value)
    assert copy_of(dataset, option)[keyword].value == value
    assert copy_of(dataset)[keyword].value == "REMOVED"


def test_an_instance_without_a_study_is_not_copied() -> None:
    with pytest.raises(StudyUnusable, match="no Study Instance UID"):
        copy_of(make_instance(StudyInstanceUID=None))


def test_the_crosswalk_has_what_leads_back_and_no_more() -> None:
    result = coerced(make_instance(PatientComments="secret"), MODIFIED)
    by_kind: dict[str, list[tuple[str, str]]] = {}
    for entry in result.crosswalk_entries:
        assert entry.profile == "research"
        assert entry.study_instance_uid == OURS.uid(STUDY)
        by_kind.setdefault(entry.kind, []).append((entry.original, entry.replacement))
    assert (STUDY, OURS.uid(STUDY)) in by_kind["uid"]
    assert by_kind["date"] == [("20240102", str(result.dataset.StudyDate))]
    assert by_kind["PatientID"] == [("SYN-1", OURS.text("PatientID", "SYN-1"))]
    assert by_kind["PatientBirthDate"] == [("19700101", "")]
    assert "StudyTime" not in by_kind
    assert "secret" not in repr(result.crosswalk_entries)
