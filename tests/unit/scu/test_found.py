"""What the matches of a C-FIND are read as."""

from __future__ import annotations

import pytest

from dicom_node.scu.counting import SenderCount, SeriesCount
from dicom_node.scu.find import Found
from dicom_node.scu.found import FoundStudy, count_in

MATCH = {
    "StudyInstanceUID": ("1.2.3",),
    "StudyDate": ("2003.12.07",),
    "ModalitiesInStudy": ("CT", "SR", ""),
    "NumberOfStudyRelatedInstances": ("49",),
    "NumberOfStudyRelatedSeries": ("",),
    "PatientID": ("SECRET-ID",),
    "PatientBirthDate": ("19700101",),
    "IssuerOfPatientID": ("SECRET-ISSUER",),
}


def test_a_study_is_read_from_its_match() -> None:
    study = FoundStudy.of(MATCH)
    assert (study.study_instance_uid, study.study_date) == ("1.2.3", "20031207")
    assert study.modalities == ("CT", "SR")
    assert (study.series_count, study.instance_count) == (None, 49)
    assert study.patient_id == "SECRET-ID"


def test_no_representation_tells_whom_it_is_about() -> None:
    told = repr(FoundStudy.of(MATCH)) + repr(Found((MATCH,), True, False))
    assert "SECRET" not in told
    assert "19700101" not in told


@pytest.mark.parametrize(
    ("value", "count"),
    [(("49",), 49), ((" 49 ",), 49), ((), None), (("",), None), (("-1",), None), (("many",), None)],
)
def test_a_count_that_is_none_is_none(value: tuple[str, ...], count: int | None) -> None:
    assert (
        count_in({"NumberOfStudyRelatedInstances": value}, "NumberOfStudyRelatedInstances") == count
    )


@pytest.mark.parametrize(
    ("series_count", "instance_count", "is_consistent"),
    [(1, 49, True), (None, None, True), (None, 49, True), (1, 50, False), (2, 49, False)],
)
def test_what_the_study_states_is_held_against_its_series(
    series_count: int | None, instance_count: int | None, is_consistent: bool
) -> None:
    series = (SeriesCount("1.2.3.4", "CT", 49, False),)
    count = SenderCount("1.2.3", series, series_count, instance_count)
    assert (count.series_count, count.instance_count) == (1, 49)
    assert count.is_consistent is is_consistent
