"""The hours of a destination, by the clock on the wall."""

from __future__ import annotations

import time

import pytest

from dicom_node.deliver.windows import least_urgent
from dicom_node.model import Priority

NIGHT, NOON = "22:00-06:00", "12:00-13:30"


def at(text: str) -> time.struct_time:
    return time.strptime(text, "%H:%M")


@pytest.mark.parametrize(
    ("hours", "now", "may_go"),
    [
        ([], "15:00", True),
        ([NOON], "11:59", False),
        ([NOON], "12:00", True),
        ([NOON], "13:29", True),
        ([NOON], "13:30", False),
        ([NIGHT], "21:59", False),
        ([NIGHT], "22:00", True),
        ([NIGHT], "00:00", True),
        ([NIGHT], "05:59", True),
        ([NIGHT], "06:00", False),
        ([NIGHT, NOON], "12:30", True),
        ([NIGHT, NOON], "23:30", True),
        ([NIGHT, NOON], "18:00", False),
    ],
)
def test_within_the_hours_everything_goes_and_outside_what_is_stat(
    hours: list[str], now: str, may_go: bool
) -> None:
    assert least_urgent(hours, at(now)) is (Priority.LOW if may_go else Priority.STAT)
