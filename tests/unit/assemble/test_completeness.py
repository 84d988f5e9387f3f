"""When a study is whole: a table of evidence, and both sides of each boundary."""

from __future__ import annotations

import pytest

from dicom_node.assemble.completeness import judge
from dicom_node.config.settings import AssembleSettings
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.ledger.studies import StudyEvidence

POLICY = AssembleSettings(quiet_after_release_s=5, quiet_otherwise_s=60)
RELEASED, ABORTED, LOST = AssociationEnd.RELEASED, AssociationEnd.ABORTED, AssociationEnd.LOST


def evidence(
    last_instance_at: float,
    last_end: AssociationEnd | None,
    last_closed_at: float,
    open_associations: int = 0,
) -> StudyEvidence:
    return StudyEvidence(
        "1.2.3", 1, 49, last_instance_at, open_associations, last_end, last_closed_at
    )


@pytest.mark.parametrize(
    ("seen", "complete_at"),
    [
        # released: a short silence, counted from what came last
        (evidence(100, RELEASED, 101), 106),
        (evidence(100, RELEASED, 100), 105),
        (evidence(103, RELEASED, 101), 108),  # through another association, released before
        # aborted or lost: the sender will try again
        (evidence(100, ABORTED, 101), 161),
        (evidence(100, LOST, 130), 190),
        # one is still open: it may carry more, whatever the others did
        (evidence(100, RELEASED, 101, open_associations=1), 160),
        (evidence(100, ABORTED, 101, open_associations=2), 160),
        (evidence(100, None, 0, open_associations=1), 160),
        # never closed and not open: nothing is known, so wait long
        (evidence(100, None, 0), 160),
    ],
)
def test_it_is_complete_from_that_second_on_and_not_before(
    seen: StudyEvidence, complete_at: float
) -> None:
    for now in (seen.last_instance_at, complete_at - 1, complete_at - 0.001):
        verdict = judge(seen, POLICY, now)
        assert not verdict.complete
        assert verdict.ask_again_at == complete_at
    for now in (complete_at, complete_at + 1, complete_at + 86400):
        assert judge(seen, POLICY, now).complete


def test_asking_again_when_told_to_gets_the_answer() -> None:
    seen = evidence(100.3, RELEASED, 101.7)
    again_at = judge(seen, POLICY, 101.7).ask_again_at
    assert judge(seen, POLICY, again_at).complete


@pytest.mark.parametrize(
    ("seen", "now", "reason"),
    [
        (
            evidence(100, RELEASED, 101),
            102,
            "49 instances; the last association was released; waiting for 5 s of silence",
        ),
        (
            evidence(100, RELEASED, 101),
            110,
            "49 instances; the last association was released, and nothing came for 9 s",
        ),
        (
            evidence(100, LOST, 101),
            110,
            "49 instances; the last association was lost; waiting for 60 s of silence",
        ),
        (
            evidence(100, RELEASED, 101, open_associations=2),
            170,
            "49 instances; 2 association(s) still open, and nothing came for 70 s",
        ),
        (
            evidence(100, None, 0),
            110,
            "49 instances; the last association was never closed; waiting for 60 s of silence",
        ),
    ],
)
def test_the_verdict_says_why(seen: StudyEvidence, now: float, reason: str) -> None:
    assert judge(seen, POLICY, now).reason == reason


def test_without_a_quiet_time_a_released_study_is_complete_at_once() -> None:
    at_once = AssembleSettings(quiet_after_release_s=0, quiet_otherwise_s=0)
    assert judge(evidence(100, RELEASED, 101), at_once, 101).complete


def test_a_clock_that_was_set_back_a_little_makes_us_wait_a_little() -> None:
    verdict = judge(evidence(100, RELEASED, 101), POLICY, 97)
    assert not verdict.complete
    assert verdict.ask_again_at == 106


def test_a_clock_that_was_set_back_far_does_not_make_us_wait_until_it_has_caught_up() -> None:
    verdict = judge(evidence(100, RELEASED, 101), POLICY, 50)
    assert verdict.complete
    assert "the clock was set back" in verdict.reason
