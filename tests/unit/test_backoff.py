from __future__ import annotations

import pytest

from dicom_node.backoff import delay_s, jittered_s


@pytest.mark.parametrize(
    ("failures", "wait_s"),
    [(1, 5), (2, 10), (3, 20), (4, 40), (10, 2560), (11, 3600), (12, 3600), (10_000, 3600)],
)
def test_the_wait_doubles_up_to_the_longest(failures: int, wait_s: float) -> None:
    assert delay_s(failures, 5, 3600) == wait_s


def test_the_first_wait_is_never_longer_than_the_longest() -> None:
    assert delay_s(1, 60, 30) == 30


def test_three_days_of_trying_are_a_few_dozen_attempts() -> None:
    waited_s = [delay_s(failures, 5, 3600) for failures in range(1, 200)]
    within_72_h = next(n for n in range(200) if sum(waited_s[:n]) > 72 * 3600)
    assert 70 < within_72_h < 90


def test_chance_shortens_a_wait_by_its_share_at_most_and_never_lengthens_it() -> None:
    waits_s = [jittered_s(100, 0.2, f"seed {number}") for number in range(500)]
    assert 80 <= min(waits_s) < 82
    assert 98 < max(waits_s) <= 100
    assert 88 < sum(waits_s) / 500 < 92


def test_the_same_seed_gives_the_same_wait_and_no_jitter_gives_the_whole() -> None:
    assert jittered_s(100, 0.2, "seed") == jittered_s(100, 0.2, "seed")
    assert jittered_s(100, 0, "seed") == 100
