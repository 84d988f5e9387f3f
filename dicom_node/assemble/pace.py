"""How long a scanner pauses inside of a study: measured, learned, and turned into a wait.

A silence with every association released is another than one with an association open: after a
release the sender has said that it is done with this one, and only those who split their studies
come back. So both are learned apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil

from dicom_node.assemble.evidence import Pace
from dicom_node.ledger.arriving import Carrier
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.verdict import Silences

LEARNED_FROM = 10
"""Fewer studies say nothing of how slow a scanner can be."""
MARGIN = 1.5
"""A scanner may be so much slower than it was seen to be in other studies,"""
OWN_MARGIN = 1.2
"""or in this one."""
QUANTILE = 0.95
"""One study in twenty may have had a pause that was an accident."""
SHORTEST_S = 2.0
"""No scanner is so fast that a shorter silence means anything: rows come in batches, too."""


def longest_silences(
    received_at: Sequence[float], carriers: Sequence[Carrier], longest_s: float
) -> Silences:
    """Return the longest silences inside of a study.

    Parameters
    ----------
    received_at : sequence of float
        When its images came, ascending.
    carriers : sequence of Carrier
        Which associations carried it.
    longest_s : float
        What lasted longer is no pause of a scanner: nobody would have waited for it.
    """
    released_s = open_s = 0.0
    for before, after in pairwise(received_at):
        silent_from, may_be_learned = before, True
        for carrier in carriers:
            if carrier.opened_at <= before and (carrier.closed_at or after) > silent_from:
                silent_from = after if carrier.closed_at is None else min(carrier.closed_at, after)
                may_be_learned = carrier.end is AssociationEnd.RELEASED
        with_open_s, with_none_s = silent_from - before, after - silent_from
        if with_open_s <= longest_s:
            open_s = max(open_s, with_open_s)
        if may_be_learned and with_none_s <= longest_s:
            released_s = max(released_s, with_none_s)
    return Silences(released_s, open_s)


def pace_of(studies: Sequence[Silences]) -> Pace | None:
    """Return how slow a scanner is, by its recent studies; None if they are too few."""
    if len(studies) < LEARNED_FROM:
        return None
    rank = ceil(QUANTILE * len(studies)) - 1
    return Pace(
        len(studies),
        Silences(
            sorted(study.released_s for study in studies)[rank],
            sorted(study.open_s for study in studies)[rank],
        ),
    )


def slowest(paces: Sequence[Pace | None]) -> Pace | None:
    """Return the pace of several scanners together; None if one of them is not known."""
    known = [pace for pace in paces if pace is not None]
    if not known or len(known) < len(paces):
        return None
    return Pace(
        min(pace.studies for pace in known),
        Silences(
            max(pace.silences.released_s for pace in known),
            max(pace.silences.open_s for pace in known),
        ),
    )
