"""Several images at each place of a series: which of them make a volume together.

Theory of operation: an attribute, or two of them together, tells images apart (`distinctions`).
It splits a series if each of its values has exactly one image at each place: then each value is a
stack, a volume by itself. Attributes that say what images are (an echo time, a temporal position)
are asked before those that count or time them. Where two of the same standing split a series
differently, or none does, nobody knows, and the series is refused. So it is where its images show
different quantities: a field map is no echo of the magnitude beside it, whatever its header says.

One thing is forgiven: a scan that was broken off. If all time points are complete but the last, and
there are at least two of them, the last is left out and that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.errors import StudyUnusable
from dicom_node.finding import TimePoint
from dicom_node.infer.distinctions import COUNTED, NAMED, Distinction, distinctions, kind_of

THE_SAME = "the same slice as another instance"
SEND_EACH = "send each phase, echo or time point as its own series"

Positions = Sequence[Sequence[int]]
IsSame = Callable[[int, int], bool]
_Way = tuple[Distinction, ...]


@dataclass(frozen=True)
class Stack:
    """The images of one volume."""

    members: tuple[int, ...]
    """Their indices, place by place."""
    time_point: TimePoint


@dataclass(frozen=True)
class Split:
    """A series in stacks."""

    stacks: tuple[Stack, ...]
    """In the order of what tells them apart; at least two."""
    left_out: tuple[tuple[int, str], ...]
    """Indices of images, each with the reason."""


def split(
    headers: Sequence[Dataset], names: Sequence[str], positions: Positions, is_same: IsSame
) -> Split | None:
    """Return the stacks of a series that has several images at one place.

    Parameters
    ----------
    headers : sequence of pydicom.Dataset
        Of all slices, by Instance Number.
    names : sequence of str
        What each is called in a message.
    positions : sequence of sequence of int
        For each place, in order, the indices of the images there.
    is_same : callable
        Whether two images, by their indices, have the same pixels.

    Returns
    -------
    Split or None
        None where all images at one place are the same picture.

    Raises
    ------
    StudyUnusable
        If no attribute, or more than one, says which belong together.
    """
    pairs = ((first, other) for first, *others in positions for other in others)
    different = next((pair for pair in pairs if not is_same(*pair)), None)
    if different is None:
        return None
    try:
        return _split(headers, positions, is_same)
    except _Unclear as unclear:
        one, other = (names[index] for index in different)
        raise StudyUnusable(
            f"two different images at one position: {one} and {other}; {unclear}", hint=SEND_EACH
        ) from unclear


class _Unclear(Exception):
    """Why nobody can say which images belong together."""


def _split(headers: Sequence[Dataset], positions: Positions, is_same: IsSame) -> Split:
    if len(kinds := {kind_of(header) for header in headers}) > 1:
        told = ", ".join(sorted(kind or "none told" for kind in kinds))
        raise _Unclear(f"they show different quantities ({told})")
    places = np.empty(len(headers), np.int64)
    for place, here in enumerate(positions):
        places[list(here)] = place
    table = _Table(places, len(positions), is_same)
    named = distinctions(NAMED, headers, places)
    counted = distinctions(COUNTED, headers, places)
    differing = {one.attribute.keyword for one in named}
    tiers = (
        [(one,) for one in named if one.attribute.beside not in differing],
        list(combinations(named, 2)),
        [(one,) for one in counted],
        list(product(named, counted)),
    )
    for tier in tiers:
        if (found := _agreed(table, tier)) is not None:
            return found
    for way in chain(*tiers):
        if (early := table.stacked(way, may_end_early=True)) is not None:
            return early
    raise _Unclear(_why_not(table, [*named, *counted]))


def _agreed(table: _Table, ways: Sequence[_Way]) -> Split | None:
    """Return what the ways of one standing make of a series, if any of them splits it."""
    found = [(way, done) for way in ways if (done := table.stacked(way)) is not None]
    if not found:
        return None
    (first, chosen), *others = found
    for way, other in others:
        if {one.members for one in other.stacks} != {one.members for one in chosen.stacks}:
            raise _Unclear(f"{_named(first)} and {_named(way)} split them differently")
    return chosen


class _Table:
    """The images of a series by their places."""

    def __init__(self, places: NDArray[np.int64], count: int, is_same: IsSame) -> None:
        self._places = places
        self._count = count
        self._is_same = is_same

    def stacked(self, way: _Way, *, may_end_early: bool = False) -> Split | None:
        """Return the stacks that a way of telling apart makes; None if they are none."""
        if may_end_early and not any(one.may_end_early for one in way):
            return None
        groups = self.groups(way)
        short = {mark for mark, group in groups.items() if self._covered(group) < self._count}
        broken_off = may_end_early and short == {max(groups)} and len(groups) > 2
        if len(groups) < 2 or (short and not broken_off):
            return None
        stacks: list[Stack] = []
        left_out: list[tuple[int, str]] = []
        for number, (mark, group) in enumerate(sorted(groups.items()), start=1):
            time_point = TimePoint(
                number,
                len(groups),
                way[0].noun,
                ", ".join(one.told(group) for one in way),
                ";".join(one.key(group) for one in way),
            )
            if mark in short:
                covered = self._covered(group)
                reason = f"{time_point.in_words} has only {covered} of {self._count} slices"
                left_out += [(one, reason) for one in group]
                continue
            members: dict[int, int] = {}
            for one in group:
                place = int(self._places[one])
                if members.setdefault(place, one) == one:
                    continue
                if not self._is_same(members[place], one):
                    return None
                left_out.append((one, THE_SAME))
            stacks.append(Stack(tuple(members[at] for at in sorted(members)), time_point))
        return Split(tuple(stacks), tuple(left_out))

    def groups(self, way: _Way) -> dict[tuple[int, ...], list[int]]:
        """Return the images by their marks."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, mark in enumerate(zip(*(one.marks.tolist() for one in way), strict=True)):
            groups.setdefault(mark, []).append(index)
        return groups

    def _covered(self, group: Sequence[int]) -> int:
        return len(set(self._places[group].tolist()))

    def gaps(self, one: Distinction) -> Iterator[str]:
        """Yield what is amiss with each value of an attribute."""
        for group in self.groups((one,)).values():
            covered = self._covered(group)
            if covered < self._count:
                yield f"{one.told(group)} has {covered} of {self._count} slices"
            elif len(group) > self._count:
                yield f"{one.told(group)} has {len(group)} images at {self._count} places"


def _why_not(table: _Table, tried: Sequence[Distinction]) -> str:
    for one in tried:
        if (gap := next(table.gaps(one), None)) is not None:
            return f"{one.words} does not tell which belong together: {gap}"
    return "no attribute tells which belong together"


def _named(way: _Way) -> str:
    return " with ".join(one.words for one in way)
