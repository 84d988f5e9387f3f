"""A CSV of labels: which column says whose they are, and what they are."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engines.recipes.errors import DataUnusable
from engines.recipes.loaders.progress import some
from engines.recipes.samples import SPLITS

KEYS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID")
"""The columns that can say what a row is about; the first of them that is there does."""
_SPLIT = "split"
_TRUE, _FALSE, _UNKNOWN = (
    {"yes", "true", "present"},
    {"no", "false", "absent"},
    {"", "?", "unknown"},
)


@dataclass(frozen=True)
class Labelled:
    """One row: labels in 0 to 1, NaN where nobody knows, and the part it is for, or nothing."""

    values: tuple[float, ...]
    part: str
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Table:
    """All rows, by the value of the column `key`."""

    name: str
    key: str
    labels: tuple[str, ...]
    rows: dict[str, Labelled]


def read_table(file: Path, labels: Sequence[str] = ()) -> Table:
    """Return a table of labels.

    Parameters
    ----------
    file : pathlib.Path
        UTF-8, its first line the names of the columns. One of `KEYS` says what a row is about; a
        column `split` may hold train, validation or test. Every other column is a label: a number
        from 0 to 1, yes or no, or nothing where nobody knows.
    labels : sequence of str
        The columns that are meant; all others are then passed over.

    Raises
    ------
    DataUnusable
        With every line that is wrong, or the column that is missing.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            lines = csv.DictReader(opened, restval="")
            columns = [column.strip() for column in lines.fieldnames or ()]
            lines.fieldnames = columns
            written = [(lines.line_num, line) for line in lines]
    except OSError as error:
        raise DataUnusable(
            f"{file} cannot be read: {error.strerror}", hint="look at its name and permissions"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataUnusable(
            f"{file.name} is no CSV in UTF-8: {error}", hint="save it as CSV in UTF-8"
        ) from error
    key = next((one for one in KEYS if one in columns), None)
    if key is None:
        raise DataUnusable(
            f"{file.name} has no column that says what a row is about, but {', '.join(columns)}",
            hint=f"add one of {', '.join(KEYS)}",
        )
    if missing := [label for label in labels if label not in columns]:
        raise DataUnusable(
            f"{file.name} has no column {some(missing)}, but {', '.join(columns)}",
            hint="name the labels as the table does",
        )
    chosen = tuple(labels) or tuple(c for c in columns if c not in {*KEYS, _SPLIT, ""})
    if not chosen:
        raise DataUnusable(f"{file.name} has no column with a label", hint="docs/recipes-data.md")
    rows: dict[str, Labelled] = {}
    wrong: list[str] = []
    for number, line in written:
        about = line[key].strip()
        try:
            row = _row(number, line, chosen)
            if not about:
                raise ValueError(f"{key} is empty")
            if about in rows and not _alike(rows[about], row):
                raise ValueError(f"the {key} stands twice, with other labels")
            rows.setdefault(about, row)
        except ValueError as error:
            wrong.append(f"{file.name}:{number}: {error}")
    if wrong:
        raise DataUnusable(some(wrong), hint="correct these lines")
    return Table(file.name, key, chosen, rows)


def _row(number: int, line: dict[str, str], labels: Sequence[str]) -> Labelled:
    part = (line.get(_SPLIT) or "").strip()
    if _SPLIT in line and part not in SPLITS:
        raise ValueError(f"split is {part!r}, not {', '.join(SPLITS)}")
    return Labelled(tuple(_number(label, line[label] or "") for label in labels), part, number)


def _alike(one: Labelled, other: Labelled) -> bool:
    return one.part == other.part and np.array_equal(one.values, other.values, equal_nan=True)


def _number(label: str, written: str) -> float:
    word = written.strip().casefold()
    if word in _UNKNOWN:
        return float("nan")
    if word in _TRUE or word in _FALSE:
        return float(word in _TRUE)
    try:
        value = float(word)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise ValueError(f"{label} is {written!r}, neither 0 to 1 nor yes, no or nothing")
    return value
