"""Conditions as rules and engines write them: what holds, what does not, and why, in words."""

from __future__ import annotations

import pytest

from dicom_node.conditions import (
    All,
    Answer,
    AnyOf,
    Condition,
    Missing,
    Node,
    Not,
    parse_conditions,
    parse_rule_conditions,
)
from dicom_node.conditions.tree import PENDING
from dicom_node.model import Attributes
from tests.unit.route.made import when

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
        ("", "CT", "is no DICOM keyword"),
        ("SeriesDescription", "/(?P<a{b}>x)/", "is no regular expression"),
        ("SeriesDescription", "/(?P<a{b>x)/", "bad character in group name 'a{b'"),
        ("SeriesDescription", "/[[a]/", "is no regular expression: Possible nested set"),
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


def test_what_a_rule_asks_of_an_identity_is_not_shown_either() -> None:
    """A reason stands in the events of every study that the rule was tried on."""
    for values in (("4711",), ()):
        outcome = Condition("PatientID", ("0815", "absent")).check({"PatientID": values})
        assert "0815" not in outcome.reason
    outcome = Condition("PatientBirthDate", ("< 1970-01-01",)).check({"PatientBirthDate": ("?",)})
    assert outcome.reason == (
        "PatientBirthDate is (withheld), which is no date; wanted what the rule asks for"
    )


# ---------------------------------------------------------------- typed by the data dictionary


@pytest.mark.parametrize(
    ("keyword", "written", "value", "answer"),
    [
        ("SliceThickness", "<= .5", ".5", Answer.YES),  # PS3.5 6.2: a DS needs no digit first
        ("SliceThickness", ".5", "0.50", Answer.YES),
        ("SliceThickness", "-.5 .. +.5", "-.25", Answer.YES),
        ("SliceThickness", "<= 5", "5.", Answer.YES),
        ("SliceThickness", "<= 5", " 5 ", Answer.YES),
        ("SliceThickness", "<= 5", ".", Answer.ERROR),
        ("SliceThickness", "<= 5", "thin", Answer.ERROR),
        ("SliceThickness", "<= 5", "nan", Answer.ERROR),
        ("SliceThickness", "/^5/", "5.0", Answer.YES),
        ("StudyDate", "2024-01-31", "20240131", Answer.YES),
        ("StudyDate", "20240131", "2024.01.31", Answer.YES),  # ACR-NEMA wrote points
        ("StudyDate", "> 2024-01-31", "20240131", Answer.NO),
        ("StudyDate", ">= 2024-01-31", "20240131", Answer.YES),
        ("StudyDate", "2024-01-01 .. 2024-12-31", "20241231", Answer.YES),
        ("StudyDate", "2024.01.01..2024.12.31", "20250101", Answer.NO),
        ("StudyDate", "< 2024-01-01", "20241301", Answer.ERROR),
        ("StudyDate", "< 2024-01-01", "yesterday", Answer.ERROR),
        ("AcquisitionDateTime", "2024-01-31", "20240131101500.25+0100", Answer.YES),
        ("AcquisitionDateTime", "> 2024-01-31", "20240201", Answer.YES),
        ("AcquisitionDateTime", "> 2024-01-31", "2024", Answer.ERROR),
        ("StudyTime", "07:30 .. 16:00", "073000", Answer.YES),
        ("StudyTime", "07:30 .. 16:00", "160000.000000", Answer.YES),
        ("StudyTime", "07:30 .. 16:00", "160000.000001", Answer.NO),
        ("StudyTime", "07:30 .. 16:00", "07", Answer.NO),  # to the hour only
        ("StudyTime", ">= 07:30:15", "07:30:15", Answer.YES),
        ("StudyTime", "< 24:00:00", "070000", None),
        ("StudyTime", "07:30 .. 16:00", "250000", Answer.ERROR),
        ("time_of_day", "22:00 .. 06:00", "220000", Answer.YES),
        ("time_of_day", "22:00 .. 06:00", "000000", Answer.YES),
        ("time_of_day", "22:00 .. 06:00", "060000", Answer.YES),
        ("time_of_day", "22:00 .. 06:00", "060001", Answer.NO),
        ("time_of_day", "22:00 .. 06:00", "215959", Answer.NO),
        ("PatientAge", ">= 18Y", "018Y", Answer.YES),
        ("PatientAge", "< 18y", "215M", Answer.YES),
        ("PatientAge", "1Y .. 5Y", "052W", Answer.NO),  # one day short
        ("PatientAge", "1Y .. 5Y", "053W", Answer.YES),
        ("PatientAge", "12M", "001Y", Answer.YES),
        ("PatientAge", "< 18Y", "17", Answer.ERROR),
        ("PatientAge", "< 18", "017Y", None),
        ("SOPClassUID", "CTImageStorage", "1.2.840.10008.5.1.4.1.1.2", Answer.YES),
        ("SOPClassUID", "ctimagestorage", "1.2.840.10008.5.1.4.1.1.2", Answer.YES),
        ("SOPClassUID", "MRImageStorage", "1.2.840.10008.5.1.4.1.1.2", Answer.NO),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2", Answer.YES),
        ("SOPClassUID", "/1[.]2$/", "1.2.840.10008.5.1.4.1.1.2", Answer.YES),
        ("Rows", "512", "512", Answer.YES),
        ("Rows", "many", "512", None),
        ("StudyDate", "2024-12-31 .. 2024-01-01", "20240601", None),
        ("StudyDate", "<= soon", "20240601", None),
        ("StudyTime", "22:00 .. late", "230000", None),
        ("PatientAge", "5Y .. 1Y", "003Y", None),
        ("SOPClassUID", "> 1", "1.2", None),
        ("weekday", "saturday", "saturday", Answer.YES),
    ],
)
def test_a_test_is_read_for_the_kind_of_its_attribute(
    keyword: str, written: object, value: str, answer: Answer | None
) -> None:
    """No answer: it is a mistake when it is read."""
    conditions, mistakes = parse_rule_conditions({keyword: written})
    assert bool(mistakes) is (answer is None)
    if answer is not None:
        assert conditions.check({keyword: (value,)}).answer is answer


def test_of_several_values_one_that_holds_is_enough_and_a_wrong_one_matters_only_without() -> None:
    thin = when({"SliceThickness": "<= 2"})
    assert thin.check({"SliceThickness": ("thin", "1")}).answer is Answer.YES
    assert thin.check({"SliceThickness": ("thin", "3")}).answer is Answer.ERROR
    assert thin.check({"SliceThickness": ("3", "")}).answer is Answer.NO


# ---------------------------------------------------------------- what missing means


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        ("<= 5", Answer.NO),
        ({"is": "<= 5"}, Answer.NO),
        ({"is": "<= 5", "missing": "fails"}, Answer.NO),
        ({"is": "<= 5", "missing": "holds"}, Answer.YES),
        ({"is": "<= 5", "missing": "parks"}, Answer.ERROR),
        ({"is": ["<= 5", "absent"]}, Answer.YES),
        ({"is": "present", "missing": "parks"}, Answer.ERROR),
    ],
)
@pytest.mark.parametrize("attributes", [{}, {"SliceThickness": ()}, {"SliceThickness": ("",)}])
def test_a_missing_attribute_means_what_the_condition_says(
    written: object, answer: Answer, attributes: Attributes
) -> None:
    assert when({"SliceThickness": written}).check(attributes).answer is answer


def test_what_is_there_is_judged_whatever_missing_means() -> None:
    for missing in Missing:
        condition = when({"KVP": {"is": ["80", "120"], "missing": missing.value}})
        assert condition.check({"KVP": ("120",)}).answer is Answer.YES
        assert condition.check({"KVP": ("100",)}).answer is Answer.NO


def test_under_not_a_missing_attribute_holds_unless_it_is_said_otherwise() -> None:
    assert when({"not": {"Modality": "CT"}}).check({}).answer is Answer.YES
    parks = {"Modality": {"is": "CT", "missing": "parks"}}
    assert when({"not": parks}).check({}).answer is Answer.ERROR


@pytest.mark.parametrize(
    ("written", "path", "message"),
    [
        ({"KVP": {}}, ("KVP",), "needs `is`"),
        ({"KVP": {"missing": "parks"}}, ("KVP",), "needs `is`"),
        ({"KVP": {"is": []}}, ("KVP",), "empty list of tests"),
        ({"KVP": {"is": {"is": 5}}}, ("KVP",), "is no test"),
        ({"KVP": {"is": "< x"}}, ("KVP",), "has no number after its sign"),
        ({"KVP": {"is": 120, "missing": "maybe"}}, ("KVP", "missing"), "fails, holds or parks"),
        ({"KVP": {"is": 120, "was": 100}}, ("KVP", "was"), "no such key"),
        ({"any": {"KVP": 120}}, ("any",), "must be a list of mappings"),
        ({"any": []}, ("any",), "must be a list of mappings"),
        ({"all": [{"KVP": 120}, "KVP"]}, ("all", 1), "must be a mapping"),
        ({"all": [{"KVP": 120}, {"KVP": "x"}]}, ("all", 1, "KVP"), "is no number"),
        ({"not": {}}, ("not",), "could never hold"),
        ({"not": None}, ("not",), "must be a mapping"),
        ({"not": {"any": [{"Modalty": "CT"}]}}, ("not", "any", 0, "Modalty"), "no DICOM keyword"),
        ({"a.colour": "red"}, ("a.colour",), "a finding has outcome, grade"),
        ({"A.grade": "limited"}, ("A.grade",), "is no DICOM keyword"),
        ({"a.probability": "high"}, ("a.probability",), "is no number"),
    ],
)
def test_each_mistake_is_found_where_it_stands(
    written: object, path: tuple[str | int, ...], message: str
) -> None:
    _, mistakes = parse_rule_conditions(written)
    [(where, said)] = mistakes
    assert where == path
    assert message in said


def test_what_is_nested_without_end_is_a_mistake() -> None:
    written: dict[str, object] = {"Modality": "CT"}
    for _ in range(5000):
        written = {"not": written}
    _, [(path, message)] = parse_rule_conditions(written)
    assert message == "is nested too deeply"
    assert set(path) == {"not"}


def test_an_engine_knows_no_any_no_finding_and_no_time_of_day() -> None:
    for written in (
        {"any": [{"Modality": "CT"}]},
        {"not": {"Modality": "CT"}},
        {"cxr_quality.grade": "diagnostic"},
        {"time_of_day": "> 07:00"},
    ):
        _, mistakes = parse_conditions(written)
        assert len(mistakes) == 1, written


# ---------------------------------------------------------------- any, all, not

YES, NO, UNKNOWN, ERROR = Answer.YES, Answer.NO, Answer.UNKNOWN, Answer.ERROR
SAYING: dict[Answer, Node] = {
    YES: Condition("Modality", ("CT",)),
    NO: Condition("Modality", ("MR",)),
    UNKNOWN: Condition("a.grade", ("limited",)),
    ERROR: Condition("KVP", ("> 1",)),
}
OF_EACH: Attributes = {"Modality": ("CT",), "a.grade": (PENDING,), "KVP": ("high",)}
ORDER = (YES, NO, UNKNOWN, ERROR)
ALL_OF_TWO = (  # typed by hand: rows and columns in ORDER
    (YES, NO, UNKNOWN, ERROR),
    (NO, NO, NO, NO),
    (UNKNOWN, NO, UNKNOWN, ERROR),
    (ERROR, NO, ERROR, ERROR),
)
ANY_OF_TWO = (
    (YES, YES, YES, YES),
    (YES, NO, UNKNOWN, ERROR),
    (YES, UNKNOWN, UNKNOWN, ERROR),
    (YES, ERROR, ERROR, ERROR),
)


@pytest.mark.parametrize("row", range(4))
@pytest.mark.parametrize("column", range(4))
def test_any_and_all_of_every_pair_of_answers(row: int, column: int) -> None:
    parts = (SAYING[ORDER[row]], SAYING[ORDER[column]])
    assert All(parts).check(OF_EACH).answer is ALL_OF_TWO[row][column]
    assert AnyOf(parts).check(OF_EACH).answer is ANY_OF_TWO[row][column]


@pytest.mark.parametrize(
    ("answer", "turned"), [(YES, NO), (NO, YES), (UNKNOWN, UNKNOWN), (ERROR, ERROR)]
)
def test_not_turns_yes_and_no_round_and_leaves_the_rest(answer: Answer, turned: Answer) -> None:
    assert Not(SAYING[answer]).check(OF_EACH).answer is turned


def test_without_conditions_a_rule_always_holds() -> None:
    outcome = when({}).check({})
    assert (outcome.answer, outcome.reason) == (YES, "")


def test_a_value_that_only_looks_pending_is_a_value() -> None:
    assert (
        when({"SeriesDescription": "pending"}).check({"SeriesDescription": (PENDING,)}).answer
        is YES
    )


# ---------------------------------------------------------------- in words


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ({"Modality": "CT", "KVP": "/high/"}, "Modality is CT; KVP is high"),
        ({"Modality": "MR", "KVP": "> 1"}, "Modality is CT, not MR"),
        ({"any": [{"Modality": "MR"}, {"Modality": "CT"}]}, "Modality is CT"),
        (
            {"any": [{"Modality": "MR"}, {"Modality": "US"}]},
            "none of: Modality is CT, not MR, Modality is CT, not US",
        ),
        (
            {"any": [{"Modality": "MR"}, {"KVP": "> 1"}]},
            "KVP is high, which is no number; wanted > 1",
        ),
        ({"not": {"Modality": "MR"}}, "Modality is CT, not MR"),
        ({"not": {"Modality": "CT"}}, "not wanted: Modality is CT"),
        ({"not": {"a.grade": "limited"}}, "a.grade is not known yet"),
        ({"a.grade": "limited"}, "a.grade is not known yet"),
        ({"Modality": "CT", "a.grade": "limited"}, "a.grade is not known yet"),
        (
            {"Rows": {"is": 512, "missing": "parks"}},
            "Rows is absent, and the rule cannot do without it",
        ),
        ({"Rows": {"is": 512, "missing": "holds"}}, "Rows is absent"),
    ],
)
def test_the_reason_names_what_decided(written: dict[str, object], reason: str) -> None:
    assert when(written).check(OF_EACH).reason == reason


def test_each_condition_can_be_asked_for_its_answer() -> None:
    outcome = when({"Modality": "CT", "not": {"any": [{"a.grade": "limited"}]}}).check(OF_EACH)
    assert list(outcome.leaves()) == [
        (YES, "Modality is CT"),
        (UNKNOWN, "a.grade is not known yet"),
    ]


@pytest.mark.parametrize(
    "keyword", ["StudyID", "ClinicalTrialSubjectID", "RequestedProcedureID", "ImageComments"]
)
def test_numbers_that_lead_to_a_patient_are_withheld_too(keyword: str) -> None:
    outcome = Condition(keyword, ("present",)).check({keyword: ("secret-19700101",)})
    assert outcome.reason == f"{keyword} is (withheld)"
