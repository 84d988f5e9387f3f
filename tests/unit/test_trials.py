"""Which studies a candidate is tried on: by their UIDs alone, always the same."""

from __future__ import annotations

import pytest

from dicom_node.trials import TrialMode, TrialWanted

UIDS = [f"1.2.840.{number}" for number in range(2000)]


def taken(share: float, engine: str = "new") -> set[str]:
    wanted = TrialWanted(engine, TrialMode.CANARY, share=share)
    return {uid for uid in UIDS if wanted.takes(uid)}


def test_a_study_is_taken_again_when_it_was_taken_before() -> None:
    assert taken(0.3) == taken(0.3)
    first = [uid in taken(0.5) for uid in UIDS[:12]]
    assert [number for number, is_taken in enumerate(first) if is_taken] == [0, 4, 5, 6, 9, 11]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_about_the_share_is_taken(share: float) -> None:
    assert len(taken(share)) / len(UIDS) == pytest.approx(share, abs=0.03)


def test_all_are_taken_unless_a_share_is_named() -> None:
    assert taken(1.0) == set(UIDS)


def test_a_larger_share_takes_what_a_smaller_one_took() -> None:
    assert taken(0.1) < taken(0.2) < taken(0.7)


def test_another_candidate_takes_other_studies() -> None:
    assert len(taken(0.5) & taken(0.5, "newer")) / len(UIDS) == pytest.approx(0.25, abs=0.05)
