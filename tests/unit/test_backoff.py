from __future__ import annotations

import pytest

from dicom_node.backoff import delay_s


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
