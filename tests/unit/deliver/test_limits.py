"""How much goes out in a minute."""

from __future__ import annotations

from dicom_node.deliver.limits import Limiter

MEGABYTE = 1_000_000


def sent_within(limiter: Limiter, seconds: int, size_bytes: int, begin: float = 0.0) -> int:
    """Send as much as the limiter lets out, looking once a second; return how many went."""
    sent = 0
    for now in range(seconds):
        while limiter.has_room(begin + now):
            limiter.spend(1, size_bytes)
            sent += 1
    return sent


def test_instances_keep_to_their_rate_but_for_ten_seconds_worth_at_the_start() -> None:
    limiter = Limiter(60, None)
    assert sent_within(limiter, 1, 1) == 10
    assert 599 <= sent_within(limiter, 600, 1) <= 601


def test_bytes_keep_to_their_rate_whatever_the_instances_weigh() -> None:
    for size_bytes in (50_000, 7 * MEGABYTE):
        limiter = Limiter(None, 60)
        sent_bytes = sent_within(limiter, 600, size_bytes) * size_bytes
        assert 590 * MEGABYTE <= sent_bytes <= 625 * MEGABYTE


def test_one_that_is_larger_than_a_minute_goes_and_the_wait_after_it_pays() -> None:
    limiter = Limiter(None, 6)
    assert limiter.has_room(0)
    limiter.spend(1, 60 * MEGABYTE)
    assert not limiter.has_room(589)
    assert limiter.has_room(591)


def test_the_slower_of_two_limits_counts() -> None:
    assert sent_within(Limiter(60, 6), 60, MEGABYTE) <= 8
    assert 59 <= sent_within(Limiter(6000, 60), 60, MEGABYTE) <= 70


def test_a_rate_of_less_than_one_a_minute_lets_one_go_now_and_then() -> None:
    assert sent_within(Limiter(0.1, None), 1800, 1) == 4


def test_without_limits_there_is_always_room() -> None:
    limiter = Limiter(None, None)
    limiter.spend(10**6, 10**12)
    assert limiter.has_room(0)


def test_a_clock_that_is_set_back_neither_fills_nor_blocks() -> None:
    limiter = Limiter(60, None)
    assert sent_within(limiter, 1, 1, begin=1000) == 10
    assert not limiter.has_room(500)
    assert limiter.has_room(502)
