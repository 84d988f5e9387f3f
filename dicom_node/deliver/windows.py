"""At which times of the day a destination may be sent to. Pure, but for the zone of the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import struct_time

from dicom_node.model import Priority

LocalTime = Callable[[float], struct_time]
"""Seconds since the epoch as the clock on the wall shows them: `time.localtime`."""


def least_urgent(hours: Iterable[str], local: struct_time) -> Priority:
    """Return the priority from which on things may go out now.

    Within the hours everything may; outside of them STAT alone, for which somebody waits. Without
    hours it is always within them.

    Parameters
    ----------
    hours : iterable of str
        Such as "22:00-06:00": from the first minute up to the second time, over midnight if that
        is earlier. On the nights when the clock is set, the hours are those that it shows.
    """
    windows = list(hours)
    now = local.tm_hour * 60 + local.tm_min
    if not windows or any(_is_within(now, window) for window in windows):
        return Priority.LOW
    return Priority.STAT


def _is_within(now: int, window: str) -> bool:
    begin, end = map(_minutes, window.split("-"))
    return begin <= now < end if begin < end else now >= begin or now < end


def _minutes(time: str) -> int:
    hours, minutes = time.split(":")
    return int(hours) * 60 + int(minutes)
