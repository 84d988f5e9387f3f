"""How long scanners pause: measured in a study, and learned over many."""

from __future__ import annotations

import pytest

from dicom_node.assemble.pace import longest_silences, pace_of, slowest
from dicom_node.ledger.arriving import Carrier
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.verdict import Silences


def through(
    opened_at: float, closed_at: float | None, end: AssociationEnd | None = AssociationEnd.RELEASED
) -> Carrier:
    name = f"from {opened_at}"
    return Carrier(name, "CT1", opened_at, closed_at, end, opened_at, "1.2", frozenset({"1.2"}))


@pytest.mark.parametrize(
    ("received_at", "carriers", "released_s", "open_s"),
    [
        ([], [], 0, 0),
        ([5], [through(0, 6)], 0, 0),
        ([0, 1, 4], [through(0, 6)], 0, 3),
        ([0, 1, 4], [through(0, None, None)], 0, 3),
        ([0, 1, 21, 22], [through(0, 2), through(20.5, 23)], 19, 1),
        # the one that closes last counts
        ([0, 1, 21, 22], [through(0, 2), through(0.5, 11), through(20.5, 23)], 10, 10),
        # nobody waits for a pause after a break as for one after a release
        ([0, 1, 21, 22], [through(0, 2, AssociationEnd.ABORTED), through(20.5, 23)], 0, 1),
        # a report on the next day is no pause
        ([0, 1, 90000], [through(0, 2)], 0, 1),
    ],
)
def test_silences_are_told_apart_by_whether_an_association_was_open(
    received_at: list[float], carriers: list[Carrier], released_s: float, open_s: float
) -> None:
    assert longest_silences(received_at, carriers, 600) == Silences(released_s, open_s)


def test_one_accident_in_twenty_teaches_nothing() -> None:
    studies = [Silences(float(n % 7), 2.0) for n in range(39)]
    pace = pace_of([*studies, Silences(500.0, 300.0)])
    assert pace is not None
    assert (pace.studies, pace.silences) == (40, Silences(6.0, 2.0))
    assert pace_of(studies[:9]) is None


def test_of_several_scanners_the_slowest_counts_and_an_unknown_one_is_slower_still() -> None:
    fast, slow = pace_of([Silences(1.0, 9.0)] * 10), pace_of([Silences(8.0, 2.0)] * 12)
    both = slowest([fast, slow])
    assert both is not None
    assert (both.studies, both.silences) == (10, Silences(8.0, 9.0))
    assert slowest([fast, None]) is None
    assert slowest([]) is None
