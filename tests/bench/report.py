"""From single runs to medians, ratios, tables and goals met or missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.bench.rows import Goal, Row
from tests.bench.workbench import Measurement

Runs = dict[str, list[Measurement]]
"""What each contestant gave, round by round."""


@dataclass(frozen=True)
class Verdict:
    """A goal and what became of it; `measured` is None where a run was missing."""

    row: str
    goal: Goal
    measured: float | None

    @property
    def met(self) -> bool:
        if self.measured is None:
            return False
        if self.goal.sense == ">=":
            return self.measured >= self.goal.bound
        return self.measured <= self.goal.bound

    def in_words(self, heading: str) -> str:
        goal = self.goal
        peer = f" {goal.of}" if goal.of else ""
        wanted = f"{goal.subject}: {heading} {goal.sense} {goal.bound:g}{peer}"
        if self.measured is None:
            return f"{wanted}: not measured"
        return f"{wanted}: {number(self.measured)}, {'met' if self.met else 'MISSED'}"


def verdicts(row: Row, runs: Runs) -> list[Verdict]:
    return [Verdict(row.name, goal, _measured(goal, runs)) for goal in row.goals]


def middle(measurements: Sequence[Measurement]) -> dict[str, float]:
    """Return the median of each value over the rounds that gave it."""
    keys = dict.fromkeys(key for m in measurements for key in m.values)
    return {key: median(m.values[key] for m in measurements if key in m.values) for key in keys}


def ratio(value: str, subject: Sequence[Measurement], of: Sequence[Measurement]) -> float | None:
    """Return the median of the ratios within each round: what slows a round down slows both."""
    ratios = [
        mine.values[value] / theirs.values[value]
        for mine, theirs in zip(subject, of, strict=False)
        if value in mine.values and theirs.values.get(value)
    ]
    return median(ratios) if ratios else None


def table(row: Row, runs: Runs) -> str:
    """Return a row's table: a line a receiver, and a line a goal."""
    columns = row.probe.columns
    main = next(iter(columns))
    first = row.contestants[0].key
    lines = [["receiver", *columns.values(), f"{first} is"]]
    notes = []
    for contestant in row.contestants:
        key = contestant.key
        medians = middle(runs[key])
        compared = ratio(main, runs[first], runs[key]) if key != first else None
        cells = [number(medians[column]) if column in medians else "-" for column in columns]
        lines.append([key, *cells, "" if compared is None else f"{number(compared)} x"])
        told = dict.fromkeys(note for measurement in runs[key] for note in measurement.notes)
        notes += [f"  {key}: {note}" for note in told]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [f"{row.name}: {row.title}"]
    for line in lines:
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        cells[0] = line[0].ljust(widths[0])
        text.append("  " + "  ".join(cells).rstrip())
    text += notes
    text += [f"  goal {v.in_words(columns[v.goal.value])}" for v in verdicts(row, runs)]
    return "\n".join(text)


def summary(all_verdicts: Sequence[Verdict]) -> str:
    """Return how many goals are met, and which are not."""
    met = sum(verdict.met for verdict in all_verdicts)
    lines = [f"{met} of {len(all_verdicts)} goals met"]
    lines += [
        f"  {verdict.row}: {verdict.in_words(verdict.goal.value)}"
        for verdict in all_verdicts
        if not verdict.met
    ]
    return "\n".join(lines)


def as_json(row: Row, runs: Runs) -> dict[str, Any]:
    """Return everything that is known of a row, each round's values too."""
    return {
        "name": row.name,
        "title": row.title,
        "receivers": {
            contestant.key: {
                "title": contestant.receiver.title,
                "median": middle(runs[contestant.key]),
                "rounds": [
                    {"values": run.values, "notes": run.notes} for run in runs[contestant.key]
                ],
            }
            for contestant in row.contestants
        },
        "goals": [
            {
                "subject": verdict.goal.subject,
                "value": verdict.goal.value,
                "sense": verdict.goal.sense,
                "bound": verdict.goal.bound,
                "of": verdict.goal.of,
                "measured": verdict.measured,
                "met": verdict.met,
            }
            for verdict in verdicts(row, runs)
        ],
    }


def number(value: float) -> str:
    """Return three figures that count."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _measured(goal: Goal, runs: Runs) -> float | None:
    if goal.of:
        return ratio(goal.value, runs[goal.subject], runs[goal.of])
    return middle(runs[goal.subject]).get(goal.value)
