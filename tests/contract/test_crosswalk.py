"""The crosswalk's contract, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from typing import Any

from dicom_node.ledger.ledger import Ledger
from dicom_node.model import CrosswalkEntry

COPY = "2.25.1"


def an_entry(**changes: Any) -> CrosswalkEntry:
    given = {
        "profile": "research",
        "study_instance_uid": COPY,
        "kind": "uid",
        "original": "1.2.3.1",
        "replacement": COPY,
    }
    return CrosswalkEntry(**(given | changes))


def test_what_is_recorded_is_found_by_the_study_of_the_copy_and_in_its_order(
    ledger: Ledger,
) -> None:
    entries = (
        an_entry(),
        an_entry(kind="PatientName", original="Müller^Jürgen", replacement="ABC"),
        an_entry(kind="date", original="20240102", replacement="20191231"),
    )
    ledger.crosswalk.record(entries)
    ledger.crosswalk.record((an_entry(study_instance_uid="2.25.2"),))
    assert ledger.crosswalk.find(COPY) == entries
    assert ledger.crosswalk.find("1.2.3.1") == ()


def test_nothing_to_record_is_no_transaction(ledger: Ledger) -> None:
    ledger.crosswalk.record(())
    assert ledger.crosswalk.find(COPY) == ()


def test_a_copy_by_another_profile_is_another_copy(ledger: Ledger) -> None:
    entry = an_entry()
    other = an_entry(profile="teaching", study_instance_uid="2.25.9", replacement="2.25.9")
    ledger.crosswalk.record((entry, other))
    assert ledger.crosswalk.find(COPY) == (entry,)
    assert ledger.crosswalk.find("2.25.9") == (other,)


def test_a_copy_that_is_made_again_adds_nothing_and_what_came_first_stays(ledger: Ledger) -> None:
    name = an_entry(kind="PatientName", original="Doe^Jane", replacement="ABC")
    ledger.crosswalk.record((an_entry(), name))
    respelt = an_entry(kind="PatientName", original="DOE^JANE", replacement="ABC")
    ledger.crosswalk.record((an_entry(), respelt, an_entry(original="1.2.4", replacement="2.25.4")))
    assert [entry.original for entry in ledger.crosswalk.find(COPY)] == [
        "1.2.3.1",
        "Doe^Jane",
        "1.2.4",
    ]


def test_many_instances_are_recorded_at_once(ledger: Ledger) -> None:
    entries = [an_entry(original=f"1.2.{n}", replacement=f"2.25.{n}") for n in range(2000)]
    ledger.crosswalk.record(entries)
    assert len(ledger.crosswalk.find(COPY)) == 2000
