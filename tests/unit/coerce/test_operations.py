"""Operations on attributes: what each does, and what none does."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.coerce.coercion import apply
from dicom_node.coerce.profile import (
    Copy,
    Deidentification,
    Hash,
    Map,
    Operation,
    Profile,
    Remove,
    Replace,
    Set,
)
from dicom_node.coerce.pseudonyms import Pseudonyms
from dicom_node.data_sets import decode
from dicom_node.errors import StudyUnusable
from tests.factories import make_instance
from tests.unit.coerce.copies import EXPLICIT, SECRET, bytes_of, coercing

PLACES = {"THORAX": "CHEST"}


@pytest.mark.parametrize(
    ("operation", "given", "keyword", "expected"),
    [
        (Set("InstitutionName", "A"), {}, "InstitutionName", "A"),
        (Set("InstitutionName", "A"), {"InstitutionName": "B"}, "InstitutionName", "A"),
        (Set("KVP", "80"), {}, "KVP", 80),
        (Copy("StudyDescription", "SeriesDescription"), {}, "SeriesDescription", "Synthetic study"),
        (Copy("StudyID", "PatientComments"), {}, "PatientComments", "1"),
        (Copy("PatientComments", "StudyID"), {}, "StudyID", "1"),
        (Copy("PatientName", "PatientComments"), {}, "PatientComments", "Synthetic^Patient"),
        (Remove("PatientComments"), {"PatientComments": "x"}, "PatientComments", None),
        (Remove("PatientComments"), {}, "PatientComments", None),
        (Map("BodyPartExamined", PLACES), {}, "BodyPartExamined", "CHEST"),
        (Map("BodyPartExamined", {"CHEST": "LUNG"}), {}, "BodyPartExamined", "LUNG"),
        (Map("BodyPartExamined", PLACES, keeps_others=False), {}, "BodyPartExamined", None),
        (Map("StationName", PLACES), {}, "StationName", None),
        (
            Map("ImageType", {"AXIAL": "OTHER"}),
            {},
            "ImageType",
            ["ORIGINAL", "PRIMARY", "OTHER"],
        ),
        (Replace("StudyDescription", "^Synthetic ", ""), {}, "StudyDescription", "study"),
        (Replace("PatientID", r"^SYN-(\d)", r"H\1"), {}, "PatientID", "H1"),
        (Hash("StationName"), {}, "StationName", None),
        (Hash("StationName"), {"StationName": ""}, "StationName", ""),
    ],
)
def test_what_an_operation_makes(
    operation: Operation, given: dict[str, Any], keyword: str, expected: Any
) -> None:
    dataset = make_instance(**given)
    before = bytes_of(dataset)
    copy = apply(coercing(operation), dataset, SECRET).dataset
    value = copy.get(keyword)
    assert (list(value) if isinstance(expected, list) else value) == expected
    assert bytes_of(dataset) == before


def test_a_hash_is_a_pseudonym() -> None:
    copy = apply(coercing(Hash("AccessionNumber")), make_instance(), SECRET).dataset
    ours = Pseudonyms(SECRET, "coercing")
    assert copy.AccessionNumber == ours.text("AccessionNumber", "A0001")


def test_operations_follow_each_other() -> None:
    profile = coercing(
        Set("StationName", "A"), Copy("StationName", "StudyID"), Replace("StudyID", "A", "B")
    )
    assert apply(profile, make_instance(), SECRET).dataset.StudyID == "B"


def test_operations_see_only_what_deidentification_left() -> None:
    profile = Profile("p", Deidentification(), (Copy("PatientComments", "StudyID"),))
    copy = apply(profile, make_instance(PatientComments="Doe"), SECRET).dataset
    assert not copy.StudyID


def test_a_value_that_grew_too_long_is_refused_without_being_told() -> None:
    profile = coercing(Replace("StationName", "x", "doe" * 9))
    with pytest.raises(StudyUnusable, match="StationName") as refused:
        apply(profile, make_instance(StationName="x"), SECRET)
    assert "doe" not in refused.value.message


def test_a_value_that_the_character_set_lacks_turns_the_copy_to_utf_8() -> None:
    instance = make_instance(PatientName="Müller^Jürgen")
    segment = Dataset()
    segment.SegmentLabel = "Läsion"
    instance.SegmentSequence = [segment]
    before = bytes_of(instance)
    dataset = decode(before, EXPLICIT)
    copy = apply(coercing(Set("InstitutionName", "Klinik 東京")), dataset, SECRET).dataset
    assert copy.SpecificCharacterSet == "ISO_IR 192"
    sent = bytes_of(copy)
    assert "Klinik 東京".encode() in sent
    assert "Müller^Jürgen".encode() in sent
    assert "Läsion".encode() in sent
    assert bytes_of(dataset) == before


def test_a_changed_patient_leads_back_and_an_unchanged_one_needs_no_entry() -> None:
    profile = coercing(Set("PatientID", "H-1"))
    [entry] = apply(profile, make_instance(), SECRET).crosswalk_entries
    assert (entry.kind, entry.original, entry.replacement) == ("PatientID", "SYN-1", "H-1")
    assert apply(coercing(Remove("KVP")), make_instance(), SECRET).crosswalk_entries == ()
