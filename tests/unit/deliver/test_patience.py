"""How long a peer is tried, and when it is given up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dicom_node.config.settings import DeliverSettings
from dicom_node.deliver.patience import probe_wait_s, wait_s
from dicom_node.lifecycle import DeliveryState
from dicom_node.model import Delivery, Priority

SETTINGS = DeliverSettings(retry_first_s=5, retry_longest_s=60, give_up_after_h=1, jitter=0)
TRIED = Delivery(
    1, "1.2", "archive", Priority.ROUTINE, DeliveryState.SENDING, 1, 0, 0.0, "", 0.0, 100.0, 0.0
)


@pytest.mark.parametrize(("failures", "waits_s"), [(0, 5), (1, 10), (2, 20), (9, 60)])
def test_the_wait_doubles_up_to_the_longest(failures: int, waits_s: float) -> None:
    assert wait_s(replace(TRIED, failures=failures), SETTINGS, 200.0) == waits_s


def test_what_was_tried_for_long_enough_is_given_up() -> None:
    often = replace(TRIED, failures=8)
    assert wait_s(often, SETTINGS, 100.0 + 3600.0) is not None
    assert wait_s(often, SETTINGS, 100.0 + 3600.1) is None


def test_a_clock_that_was_wrong_at_boot_ends_nothing() -> None:
    assert wait_s(replace(TRIED, failures=7), SETTINGS, 1e9) is not None


def test_what_failed_together_is_tried_again_together_and_peers_apart() -> None:
    chancy = SETTINGS.model_copy(update={"jitter": 0.5})
    waits_s = {wait_s(replace(TRIED, delivery_id=n), chancy, 200.0) for n in range(50)}
    assert len(waits_s) == 1
    others = {wait_s(replace(TRIED, destination=f"pacs{n}"), chancy, 200.0) for n in range(50)}
    assert len(others) == 50
    assert all(wait is not None and 2.5 <= wait <= 5 for wait in others)


def test_a_probe_comes_within_five_minutes_or_as_soon_as_the_longest_wait() -> None:
    hours = SETTINGS.model_copy(update={"retry_longest_s": 3600})
    assert [probe_wait_s("archive", n, hours) for n in (0, 1, 20)] == [5, 10, 300]
    assert probe_wait_s("archive", 20, SETTINGS) == 60
