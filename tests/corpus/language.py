"""The language in which transfers are written down, and the moments that they consist of.

    series a: 40 CT                      what the study consists of: the set
    series s: 1 SR
    past of CT1: 0 0 31 0                longest silences of earlier studies, all released
    headers of a count 40 in series      what headers say: in series, in study, in acquisition
    headers of a count on in series      ... as many as there were when it was written
    0 CT1 opens x
    0 x carries a 1-20 every 0.1         a 20-1 backwards; a 1 3 5 singly; a: all of it
    2.5 x releases | aborts | is lost
    3 x refuses a 21
    0 MPPS p of CT1 begins
    9 MPPS p completes naming a, s       or: discontinues naming a 1-20
    9 IAN of PACS names a 1-20
    9 PACS is asked
    9.2 PACS answers a 40, s 1           or: PACS does not answer

Seconds stand first. Whatever the set has and nobody carries never comes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "SR": "1.2.840.10008.5.1.4.1.1.88.22",
    "KO": "1.2.840.10008.5.1.4.1.1.88.59",
    "PR": "1.2.840.10008.5.1.4.1.1.11.1",
    "RAW": "1.2.840.10008.5.1.4.1.1.66",
}
Name = tuple[str, int]
"""An instance: its series and its number, from 1."""


@dataclass(frozen=True)
class Moment:
    """Something happens."""

    at: float
    what: str
    who: str
    names: tuple[Name, ...] = ()
    counts: tuple[tuple[str, int], ...] = ()
    of: str = ""


@dataclass
class Transfer:
    """A study on its way to us."""

    title: str
    script: str
    series: dict[str, tuple[int, str]] = field(default_factory=dict)
    """How many instances of which kind."""
    past: dict[str, list[float]] = field(default_factory=dict)
    headers: list[tuple[str, str, str]] = field(default_factory=list)
    """(series, number or "on", in what)."""
    moments: list[Moment] = field(default_factory=list)
    has_layout: str = "stack"
    """stack, phases (every ten make one phase), or none."""

    def __post_init__(self) -> None:
        for line in filter(None, map(str.strip, self.script.splitlines())):
            self._read(line)
        self.moments.sort(key=lambda moment: moment.at)

    @property
    def whole(self) -> frozenset[Name]:
        """The set."""
        return frozenset(
            (name, number + 1)
            for name, (count, _) in self.series.items()
            for number in range(count)
        )

    @property
    def arrivals(self) -> list[tuple[float, Name]]:
        return [(m.at, name) for m in self.moments if m.what == "carries" for name in m.names]

    @property
    def whole_at(self) -> float | None:
        """When the last instance of the set came; None if one never does."""
        first: dict[Name, float] = {}
        for at, name in self.arrivals:
            first.setdefault(name, at)
        return max(first.values()) if first.keys() >= self.whole else None

    def _read(self, line: str) -> None:
        if found := re.fullmatch(r"series (\w+): (\d+) (\w+)", line):
            self.series[found[1]] = (int(found[2]), found[3])
        elif found := re.fullmatch(r"past of (\w+): (.*)", line):
            self.past[found[1]] = [float(text) for text in found[2].split()]
        elif found := re.fullmatch(r"headers of (\w+) count (\w+) in (\w+)", line):
            self.headers.append((found[1], found[2], found[3]))
        elif found := re.fullmatch(r"layout (\w+)", line):
            self.has_layout = found[1]
        else:
            at, _, rest = line.partition(" ")
            self.moments += self._moments(float(at), rest)

    def _moments(self, at: float, text: str) -> Iterator[Moment]:
        if found := re.fullmatch(r"(\w+) opens (\w+)", text):
            yield Moment(at, "opens", found[2], of=found[1])
        elif found := re.fullmatch(r"(\w+) (releases|aborts|is lost)", text):
            yield Moment(at, found[2], found[1])
        elif found := re.fullmatch(r"(\w+) carries (.+) every ([\d.]+)", text):
            for index, name in enumerate(self._names(found[2])):
                yield Moment(at + index * float(found[3]), "carries", found[1], (name,))
        elif found := re.fullmatch(r"(\w+) refuses (.+)", text):
            yield Moment(at, "refuses", found[1], self._names(found[2]))
        elif found := re.fullmatch(r"(MPPS|IAN) ?(\w*) of (\w+) (begins|names (.+))", text):
            names = self._names(found[5]) if found[5] else ()
            yield Moment(at, found[1], found[2] or found[3], names, of=found[3])
        elif found := re.fullmatch(r"MPPS (\w+) (completes|discontinues)(?: naming (.+))?", text):
            yield Moment(at, found[2], found[1], self._names(found[3] or ""))
        elif found := re.fullmatch(r"(\w+) (is asked|does not answer)", text):
            yield Moment(at, found[2], found[1])
        elif found := re.fullmatch(r"(\w+) answers (.+)", text):
            counts = [part.split() for part in found[2].split(",")]
            yield Moment(
                at, "answers", found[1], counts=tuple((name, int(count)) for name, count in counts)
            )
        else:
            raise ValueError(f"{self.title}: what does {text!r} mean?")

    def _names(self, text: str) -> tuple[Name, ...]:
        names: list[Name] = []
        for part in filter(None, map(str.strip, text.split(","))):
            series, *ranges = part.split()
            for piece in ranges or [f"1-{self.series[series][0]}"]:
                first, _, last = piece.partition("-")
                begin, end = int(first), int(last or first)
                step = 1 if end >= begin else -1
                names += [(series, number) for number in range(begin, end + step, step)]
        return tuple(names)
