"""Which studies are priors, and why the others are not."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from dicom_node.priors import PriorsWanted
from dicom_node.scu.found import FoundStudy
from dicom_node.scu.prior_choice import choose_priors, study_date_range

TODAY = date(2024, 6, 1)
CURRENT = FoundStudy(
    "1.2.0",
    study_date="20240501",
    study_time="1200",
    modalities=("CT",),
    patient_id="SECRET-1",
    issuer_of_patient_id="SECRET-ISSUER",
    patient_birth_date="19700101",
)
PRIOR = replace(
    CURRENT, study_instance_uid="1.2.1", study_date="20230501", study_description="CT Chest"
)
ANY = PriorsWanted("archive", count_max=10)


def chosen(found: list[FoundStudy], wanted: PriorsWanted = ANY, **current: Any) -> list[str]:
    choices = choose_priors(found, replace(CURRENT, **current), wanted, TODAY)
    assert all(choice.reason for choice in choices)
    return [choice.study.study_instance_uid for choice in choices if choice.is_chosen]


def reason(study: FoundStudy, wanted: PriorsWanted = ANY, **current: Any) -> str:
    [choice] = choose_priors([study], replace(CURRENT, **current), wanted, TODAY)
    return "" if choice.is_chosen else choice.reason


def dated(number: int, study_date: str, study_time: str = "") -> FoundStudy:
    return replace(
        PRIOR, study_instance_uid=f"1.2.{number}", study_date=study_date, study_time=study_time
    )


def test_the_newest_come_first_and_no_more_than_are_wanted() -> None:
    found = [dated(1, "20210101"), dated(2, "20230101"), dated(3, "20220101")]
    assert chosen(found) == ["1.2.2", "1.2.3", "1.2.1"]
    choices = choose_priors(found, CURRENT, PriorsWanted("archive", 2), TODAY)
    assert [(c.study.study_instance_uid, c.is_chosen, c.reason) for c in choices] == [
        ("1.2.2", True, "prior 1 of at most 2, of 20230101"),
        ("1.2.3", True, "prior 2 of at most 2, of 20220101"),
        ("1.2.1", False, "2 newer ones are enough"),
    ]


def test_of_one_day_the_later_is_the_newer() -> None:
    found = [dated(1, "20230101", "0900"), dated(2, "20230101", "101500.25"), dated(3, "20230101")]
    assert chosen(found) == ["1.2.2", "1.2.1", "1.2.3"]


def test_the_order_of_the_answers_changes_nothing() -> None:
    found = [dated(number, "20230101") for number in range(1, 6)]
    assert chosen(found) == chosen(found[::-1]) == [f"1.2.{number}" for number in range(1, 6)]


def test_a_study_that_is_answered_twice_is_one() -> None:
    assert chosen([PRIOR, PRIOR]) == ["1.2.1"]
    assert len(choose_priors([PRIOR, PRIOR], CURRENT, ANY, TODAY)) == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"study_instance_uid": "1.2.0"}, "it is the current study"),
        ({"study_instance_uid": ""}, "it has no Study Instance UID"),
        ({"patient_id": "SECRET-2"}, "its Patient ID is another"),
        ({"patient_id": ""}, "its Patient ID is another"),
        ({"issuer_of_patient_id": "OTHER"}, "the issuer of its Patient ID is another"),
        ({"issuer_of_patient_id": ""}, ""),
        (
            {"patient_birth_date": "19800101"},
            "its patient has another birth date under the same Patient ID",
        ),
        ({"patient_birth_date": ""}, ""),
        ({"study_date": ""}, "it has no Study Date"),
        ({"study_date": "20231399"}, "it has no Study Date"),
        ({"study_date": "20240502"}, "it is newer than the current study"),
        ({"study_date": "20240501", "study_time": "1300"}, "it is newer than the current study"),
        ({"study_date": "20240501", "study_time": "1100"}, ""),
        ({"study_date": "20240501", "study_time": ""}, ""),
        ({}, ""),
    ],
)
def test_whatever_is_known_of_patient_and_date_has_to_agree(
    changes: dict[str, Any], why: str
) -> None:
    assert reason(replace(PRIOR, **changes)) == why


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"modalities": ("CT", "MR")}, ""),
        ({"modalities": ("MR",)}, "none of its modalities is MR"),
        ({"study_description": "*chest*"}, ""),
        ({"study_description": "*head*"}, "its Study Description does not match"),
        ({"body_parts": ("HEAD",)}, ""),  # this archive does not tell it
        ({"within_days": 366}, ""),
        ({"within_days": 365}, "it is more than 365 days older"),
        ({"count_max": 0}, "0 newer ones are enough"),
    ],
)
def test_a_rule_says_what_kind_is_wanted(wanted: dict[str, Any], why: str) -> None:
    assert reason(PRIOR, PriorsWanted("archive", **{"count_max": 10, **wanted})) == why


def test_a_body_part_that_is_told_has_to_be_wanted() -> None:
    wanted = PriorsWanted("archive", body_parts=("CHEST", "LUNG"))
    assert reason(replace(PRIOR, body_parts=("Lung",)), wanted) == ""
    assert reason(replace(PRIOR, body_parts=("HEAD",)), wanted) == "it shows no CHEST or LUNG"


def test_without_a_patient_id_nothing_is_a_prior() -> None:
    assert reason(replace(PRIOR, patient_id=""), patient_id="") == (
        "the current study has no Patient ID"
    )


def test_a_later_study_counts_where_the_rule_says_so() -> None:
    later = dated(1, "20240502")
    assert chosen([later], PriorsWanted("archive", older_than_study=False)) == ["1.2.1"]


def test_a_current_study_without_date_is_taken_for_todays() -> None:
    assert reason(dated(1, "20240531"), study_date="") == ""
    assert reason(dated(1, "20240602"), study_date="") == "it is newer than the current study"


def test_no_reason_tells_whom_it_is_about() -> None:
    others = [replace(PRIOR, patient_id="SECRET-2"), dated(3, ""), PRIOR]
    told = " ".join(choice.reason for choice in choose_priors(others, CURRENT, ANY, TODAY))
    assert "SECRET" not in told
    assert "1970" not in told


@pytest.mark.parametrize(
    ("wanted", "study_date", "asked"),
    [
        ({}, "20240501", "-20240501"),
        ({"within_days": 30}, "20240501", "20240401-20240501"),
        ({"within_days": 30, "older_than_study": False}, "20240501", "20240401-"),
        ({"older_than_study": False}, "20240501", ""),
        ({}, "", "-20240601"),
    ],
)
def test_the_archive_is_asked_for_the_days_that_matter(
    wanted: dict[str, Any], study_date: str, asked: str
) -> None:
    current = replace(CURRENT, study_date=study_date)
    assert study_date_range(current, PriorsWanted("archive", **wanted), TODAY) == asked
