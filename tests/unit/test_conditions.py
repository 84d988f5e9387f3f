"""Conditions as rules and engines write them: what holds, what does not, and why, in words."""

from __future__ import annotations

import pytest

from dicom_node.conditions import Condition, parse_conditions

CT_HEAD = {
    "Modality": ("CT",),
    "ImageType": ("ORIGINAL", "PRIMARY", "AXIAL"),
    "SeriesDescription": ("T1 MPRAGE sag",),
    "SliceThickness": ("5.0",),
    "KVP": ("120",),
    "ViewPosition": ("",),
    "BodyPartExamined": (),
    "ContrastBolusAgent": ("YES",),
    "SOPClassUID": ("1.2.840.10008.5.1.4.1.1.2",),
    "ImagePositionPatient": ("-32.5", "0", "1e2"),
    "SeriesNumber": ("unknown",),
    "instance_count": ("49",),
    "calling_ae_title": ("SCANNER",),
}


def condition(keyword: str, written: object) -> Condition:
    conditions, mistakes = parse_conditions({keyword: written})
    assert mistakes == ()
    return conditions[0]


@pytest.mark.parametrize(
    ("keyword", "written"),
    [
        ("Modality", "CT"),
        ("Modality", "ct"),
        ("Modality", " CT "),
        ("Modality", ["CR", "CT"]),
        ("ImageType", "AXIAL"),  # any of the values
        ("ImageType", ["LOCALIZER", "PRIMARY"]),
        ("SliceThickness", 5),  # 5 and 5.0 are the same number
        ("SliceThickness", "5.00"),
        ("SliceThickness", "<= 5"),
        ("SliceThickness", ">=5"),
        ("SliceThickness", "< 5.1"),
        ("SliceThickness", "> 4.9"),
        ("SliceThickness", "> 4e0"),
        ("KVP", "120 .. 140"),
        ("KVP", "80..120"),
        ("KVP", ["80 .. 100", "110 .. 130"]),
        ("ImagePositionPatient", "< -30"),
        ("ImagePositionPatient", "-40 .. -30"),
        ("ImagePositionPatient", ">= 100"),
        ("SeriesDescription", "/t1|mprage/"),
        ("SeriesDescription", "/^T1 .*SAG$/"),
        ("ViewPosition", "absent"),  # empty is absent
        ("BodyPartExamined", "absent"),
        ("BodyPartExamined", ["HEAD", "absent"]),
        ("BodyPartExamined", None),  # YAML's null
        ("StudyDescription", "absent"),
        ("Modality", "present"),
        ("ContrastBolusAgent", True),  # a bare YES in YAML
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"),
        ("instance_count", ">= 49"),
        ("instance_count", 49),
        ("calling_ae_title", ["PACS", "SCANNER"]),
    ],
)
def test_it_holds(keyword: str, written: object) -> None:
    outcome = condition(keyword, written).check(CT_HEAD)
    assert outcome.holds, outcome.reason


@pytest.mark.parametrize(
    ("keyword", "written", "reason"),
    [
        ("Modality", "MR", "Modality is CT, not MR"),
        ("Modality", ["CR", "DX"], "Modality is CT, not CR or DX"),
        ("Modality", "absent", "Modality is CT, not absent"),
        ("Modality", "C", "Modality is CT, not C"),  # equal, not part of
        ("ImageType", "LOCALIZER", "ImageType is ORIGINAL\\PRIMARY\\AXIAL, not LOCALIZER"),
        ("SliceThickness", "< 5", "SliceThickness is 5.0, not < 5"),
        ("SliceThickness", "> 5", "SliceThickness is 5.0, not > 5"),
        ("KVP", "121 .. 140", "KVP is 120, not 121 .. 140"),
        ("KVP", "80 .. 119.9", "KVP is 120, not 80 .. 119.9"),
        ("SeriesDescription", "/t2/", "SeriesDescription is T1 MPRAGE sag, not /t2/"),
        # what is no number is neither in the range nor out of it
        ("SeriesNumber", ">= 1", "SeriesNumber is unknown, which is no number; wanted >= 1"),
        # a missing attribute fulfils `absent` and nothing else
        ("ViewPosition", "present", "ViewPosition is absent, not present"),
        ("ViewPosition", ["PA", "AP"], "ViewPosition is absent, not PA or AP"),
        ("BodyPartExamined", "/./", "BodyPartExamined is absent, not /./"),
        ("Exposure", ">= 0", "Exposure is absent, not >= 0"),
        ("Exposure", "0 .. 9", "Exposure is absent, not 0 .. 9"),
        ("instance_count", "< 49", "instance_count is 49, not < 49"),
        ("calling_ae_title", "PACS", "calling_ae_title is SCANNER, not PACS"),
    ],
)
def test_it_does_not_hold_and_says_why(keyword: str, written: object, reason: str) -> None:
    outcome = condition(keyword, written).check(CT_HEAD)
    assert not outcome.holds
    assert outcome.reason == reason


def test_what_holds_says_so_too() -> None:
    assert condition("Modality", ["CR", "CT"]).check(CT_HEAD).reason == "Modality is CT"
    assert condition("ViewPosition", "absent").check(CT_HEAD).reason == "ViewPosition is absent"


@pytest.mark.parametrize(
    ("keyword", "written", "mistake"),
    [
        ("Modalty", "CT", "is no DICOM keyword"),
        ("instance_cuont", ">= 3", "none of ours (calling_ae_title, instance_count)"),
        ("Modality", [], "could never hold"),
        ("SeriesDescription", "/t1(/", "is no regular expression"),
        ("SeriesDescription", "<= 5", "compares numbers, but SeriesDescription holds text"),
        ("SeriesDescription", "1 .. 5", "compares numbers, but SeriesDescription holds text"),
        ("calling_ae_title", "> 1", "compares numbers, but calling_ae_title holds text"),
        ("SliceThickness", "<= thin", "has no number after its sign"),
        ("SliceThickness", ">", "has no number after its sign"),
    ],
)
def test_a_mistake_is_found_when_it_is_read(keyword: str, written: object, mistake: str) -> None:
    conditions, mistakes = parse_conditions({keyword: written})
    assert conditions == ()
    [(where, message)] = mistakes
    assert where == (keyword,)
    assert mistake in message


@pytest.mark.parametrize("written", ["<= 1.2.3", "> .", "1.2.3 .. 4", "4 .. 1.2.3", ". .. ."])
def test_a_number_that_is_none_is_a_mistake_and_not_a_crash_at_the_first_study(
    written: str,
) -> None:
    conditions, mistakes = parse_conditions({"SliceThickness": written})
    assert conditions == ()
    assert [where for where, _ in mistakes] == [("SliceThickness",)]


def test_a_pattern_that_python_cannot_compile_is_a_mistake_whatever_it_raises() -> None:
    _, mistakes = parse_conditions({"SeriesDescription": "/a{99999999999999999999}/"})
    assert [where for where, _ in mistakes] == [("SeriesDescription",)]


@pytest.mark.parametrize(
    ("keyword", "written"),
    [
        ("KVP", "140 .. 80"),  # no number is between
        ("Modality", [["CT"]]),
    ],
)
def test_what_could_never_hold_is_a_mistake(keyword: str, written: object) -> None:
    _, mistakes = parse_conditions({keyword: written})
    assert [where for where, _ in mistakes] == [(keyword,)]


@pytest.mark.parametrize("keyword", ["SharedFunctionalGroupsSequence", "PixelData"])
def test_a_keyword_that_no_series_ever_shows_is_a_mistake(keyword: str) -> None:
    """Sequences and pixels are not among the attributes: `absent` would hold for every series."""
    _, mistakes = parse_conditions({keyword: "absent"})
    assert [where for where, _ in mistakes] == [(keyword,)]


def test_all_mistakes_are_found_at_once() -> None:
    conditions, mistakes = parse_conditions(
        {"Modalty": "CT", "Modality": "CT", "KVP": ["< x", "> y"], "SeriesDescription": "/(/"}
    )
    assert conditions == (Condition("Modality", ("CT",)),)
    assert [where for where, _ in mistakes] == [
        ("Modalty",),
        ("KVP",),
        ("KVP",),
        ("SeriesDescription",),
    ]


@pytest.mark.parametrize("written", [["Modality"], "Modality: CT", 7])
def test_conditions_must_be_a_mapping(written: object) -> None:
    conditions, mistakes = parse_conditions(written)
    assert conditions == ()
    assert mistakes == (((), "must be a mapping of attribute keywords to tests"),)


@pytest.mark.parametrize(
    "keyword",
    [
        "PatientName",
        "PatientID",
        "OtherPatientIDs",
        "PatientBirthDate",
        "AccessionNumber",
        "PatientAddress",
        "PatientTelephoneNumbers",
    ],
)
def test_a_reason_never_shows_who_the_patient_is(keyword: str) -> None:
    attributes = {keyword: ("secret-19700101",)}
    for written in ("2024-01-31", "absent", "present", "/SECRET/"):
        outcome = condition(keyword, written).check(attributes)
        assert "secret-19700101" not in outcome.reason
        assert "(withheld)" in outcome.reason


@pytest.mark.parametrize(
    "keyword",
    [
        "PatientBirthName",
        "PatientBirthTime",
        "PatientComments",
        "ResponsiblePerson",
        "ReferringPhysicianName",
        "MedicalRecordLocator",
        "AdmissionID",
    ],
)
def test_the_patients_other_names_and_numbers_are_withheld_as_well(keyword: str) -> None:
    """PS3.15 Table E.1-1 has them all among what identifies."""
    outcome = Condition(keyword, ("12",)).check({keyword: ("secret-19700101",)})
    assert "secret-19700101" not in outcome.reason


def test_an_absent_identity_is_said_to_be_absent() -> None:
    assert condition("PatientID", "present").check({}).reason == "PatientID is absent, not present"
