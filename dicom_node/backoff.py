"""How long to wait before the next attempt, and when to stop trying. Pure."""

from __future__ import annotations

import hashlib

_STEPS = 1 << 32


def delay_s(failures: int, first_s: float, longest_s: float) -> float:
    """Return the wait after the n-th failure: doubling from `first_s` up to `longest_s`.

    >>> [delay_s(n, 5, 3600) for n in (1, 2, 3, 20)]
    [5.0, 10.0, 20.0, 3600]
    """
    doublings = min(failures - 1, 32)
    return min(first_s * float(1 << doublings), longest_s)


def jittered_s(delay: float, jitter: float, seed: str) -> float:
    """Return a wait shortened by up to a share of it, so that not all come back at once.

    Parameters
    ----------
    jitter : float
        The share, 0 to 1.
    seed : str
        The same seed gives the same wait.

    >>> jittered_s(100, 0, "any")
    100.0
    >>> 80 < jittered_s(100, 0.2, "one") < 100 != jittered_s(100, 0.2, "other")
    True
    """
    return delay * (1.0 - jitter * chance(seed))


def chance(seed: str) -> float:
    """Return a number from 0 up to 1 that looks drawn and depends on the seed alone."""
    drawn = hashlib.blake2b(seed.encode(), digest_size=4).digest()
    return int.from_bytes(drawn, "big") / _STEPS
