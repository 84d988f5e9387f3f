"""How long to wait before the next attempt, and when to stop trying. Pure."""

from __future__ import annotations


def delay_s(failures: int, first_s: float, longest_s: float) -> float:
    """Return the wait after the n-th failure: doubling from `first_s` up to `longest_s`.

    >>> [delay_s(n, 5, 3600) for n in (1, 2, 3, 20)]
    [5.0, 10.0, 20.0, 3600]
    """
    doublings = min(failures - 1, 32)
    return min(first_s * float(1 << doublings), longest_s)
