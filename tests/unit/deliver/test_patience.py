"""How long a peer is tried, and when it is given up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dicom_node.config.settings import DeliverSettings
from dicom_node.deliver.patience import wait_s
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
