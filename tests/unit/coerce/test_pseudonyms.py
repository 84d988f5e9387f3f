"""Replacements: keyed, stable, and different for whatever differs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dicom_node.coerce.pseudonyms import Pseudonyms
from dicom_node.uid import is_uid
from tests.unit.coerce.copies import SECRET


@pytest.mark.parametrize(
    "other",
    [Pseudonyms(SECRET[::-1], "research"), Pseudonyms(SECRET, "teaching")],
    ids=["secret", "profile"],
)
def test_another_secret_or_profile_gives_other_replacements(other: Pseudonyms) -> None:
    ours = Pseudonyms(SECRET, "research")
    assert ours.uid("1.2.3") != other.uid("1.2.3")
    assert ours.text("PatientID", "SYN-1") != other.text("PatientID", "SYN-1")
    assert ours.days("SYN-1") != other.days("SYN-1")


def test_a_uid_is_one_of_the_arc_of_random_ones_and_a_text_fits_every_vr() -> None:
    ours = Pseudonyms(SECRET, "research")
    uid = ours.uid("1.2.3")
    assert is_uid(uid)
    assert int(uid.removeprefix("2.25.")) < 2**128
    text = ours.text("AccessionNumber", "A0001")
    assert len(text) == 16
    assert text.isascii()
    assert text.upper() == text


def test_the_same_value_of_two_attributes_has_two_pseudonyms() -> None:
    ours = Pseudonyms(SECRET, "research")
    assert ours.text("PatientID", "17") != ours.text("AccessionNumber", "17")


def test_dates_move_by_days_into_the_past() -> None:
    ours = Pseudonyms(SECRET, "research")
    days = {ours.days(f"patient {n}") for n in range(500)}
    assert all(-3652 <= one <= -1 for one in days)
    assert len(days) > 400


def test_a_secret_that_is_none_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="too short"):
        Pseudonyms(b"", "research")


def test_another_process_gives_the_same() -> None:
    program = (
        "from dicom_node.coerce.pseudonyms import Pseudonyms as P\n"
        "p = P(bytes(range(32)), 'research')\n"
        "print(p.uid('1.2.3'), p.text('PatientID', 'Jörg'), p.days('SYN-1'))"
    )
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", program], capture_output=True, text=True, check=True
    )
    ours = Pseudonyms(SECRET, "research")
    here = f"{ours.uid('1.2.3')} {ours.text('PatientID', 'Jörg')} {ours.days('SYN-1')}"
    assert done.stdout.strip() == here
