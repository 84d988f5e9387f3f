"""Mistakes and waits, by one definition for whoever watched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from tests.corpus.language import Transfer
from tests.corpus.player import Act

Watched = Sequence[tuple[Transfer, list[Act]]]


def mistakes(watched: Watched) -> int:
    """Count how often a study was acted upon before the last instance of its set came.

    Sets of which a part never comes are left out: there is no right time to act on them.
    """
    return len(mistaken(watched))


def mistaken(watched: Watched) -> list[Act]:
    return [
        act
        for transfer, acts in watched
        if transfer.whole_at is not None
        for act in acts
        if not act.was_whole
    ]


def waits(watched: Watched) -> list[float]:
    """Return the seconds from the last instance of each set to acting upon all of it."""
    return [
        next(act.at for act in acts if act.was_whole) - transfer.whole_at
        for transfer, acts in watched
        if transfer.whole_at is not None
    ]


def best_faultless_timer(transfers: Iterable[Transfer]) -> float:
    """Return the shortest timer that makes no mistake: the longest silence inside of a set."""
    longest_s = 0.0
    for transfer in transfers:
        if transfer.whole_at is None:
            continue
        times = [at for at, _ in transfer.arrivals if at <= transfer.whole_at]
        longest_s = max([longest_s, *(b - a for a, b in pairwise(times))])
    return longest_s
