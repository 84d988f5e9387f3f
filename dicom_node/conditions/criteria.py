"""One test of a condition: `CT`, `<= 5`, `80 .. 140`, `/t1|mprage/`, `absent`, `present`.

A criterion is read for the kind of its keyword, so that what could never hold is a mistake when the
rules are read. A value that is none of its kind (a slice thickness of "thin") raises `WrongType`:
that is neither yes nor no.
"""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Callable, Mapping, Sequence

from pydicom.uid import UID_dictionary  # type: ignore[attr-defined]

from dicom_node.conditions.keywords import Kind

_COMPARISON = re.compile(r"(<=|>=|<|>)\s*(.*)")
_RANGE = re.compile(r"(.+?)\s*\.\.\s*(.+)")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_DATE = re.compile(r"([0-9]{4})[-.]?([0-9]{2})[-.]?([0-9]{2})(?:[0-9].*)?")
_TIME = re.compile(r"([0-9]{2})(?::?([0-9]{2})(?::?([0-9]{2})(?:\.([0-9]{1,6}))?)?)?")
_AGE = re.compile(r"([0-9]{1,3})\s*([DWMYdwmy])")
_DAYS = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_UIDS = {entry[4].casefold(): uid for uid, entry in UID_dictionary.items() if entry[4]}
_EXAMPLES = {
    Kind.NUMBER: "80 .. 140",
    Kind.DATE: "2024-01-01 .. 2024-12-31",
    Kind.TIME: "22:00 .. 06:00",
    Kind.AGE: "1Y .. 5Y",
}

Values = Sequence[str]


class WrongType(Exception):
    """A value is none of what its attribute should hold; the argument is the value."""


Criterion = Callable[[Values], bool]
"""Whether the values, none of them empty, fulfil a test; may raise WrongType."""


def read_criterion(kind: Kind, written: str) -> Criterion:
    """Return a test as a function.

    Raises
    ------
    ValueError
        If it is none, or could never hold; the message goes behind the test as it was written.
    """
    if written == "absent":
        return _absent
    if written == "present":
        return bool
    if len(written) > 2 and written.startswith("/") and written.endswith("/"):
        return _pattern(written[1:-1])
    measure = _MEASURES.get(kind)
    match = _COMPARISON.fullmatch(written)
    if match:
        return _comparison(kind, measure, match[1], match[2])
    match = _RANGE.fullmatch(written)
    if match and (measure or all(map(_NUMBER.fullmatch, match.groups()))):
        return _range(kind, measure, match[1], match[2])
    if measure:
        return _equals_measured(kind, measure, written)
    if kind is Kind.UID:
        return _equals_text(_UIDS.get(written.casefold(), written))
    return _equals_text(written)


def _absent(values: Values) -> bool:
    return not values


def _pattern(text: str) -> Criterion:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Python may read in another way one day
            search = re.compile(text, re.IGNORECASE).search
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return lambda values: any(search(value) for value in values)


def _equals_text(written: str) -> Criterion:
    wanted = written.casefold()
    return lambda values: any(value.strip().casefold() == wanted for value in values)


Measure = Callable[[str], float]
"""From a text to what can be compared; WrongType if it is none."""


def _equals_measured(kind: Kind, measure: Measure, written: str) -> Criterion:
    try:
        wanted = measure(written)
    except WrongType:
        if ".." in written:
            raise ValueError(f"is no range; write two {kind.value}s: {_EXAMPLES[kind]}") from None
        raise ValueError(f"is no {kind.value}, and could never hold") from None
    return _any(measure, lambda value: value == wanted)


def _comparison(kind: Kind, measure: Measure | None, sign: str, bound: str) -> Criterion:
    if measure is None:
        if not _NUMBER.fullmatch(bound):
            raise ValueError("has no number after its sign")
        raise ValueError("compares numbers, but {keyword} holds text")
    try:
        limit = measure(bound)
    except WrongType:
        raise ValueError(f"has no {kind.value} after its sign") from None
    compare = _COMPARE[sign]
    return _any(measure, lambda value: compare(value, limit))


def _range(kind: Kind, measure: Measure | None, first: str, last: str) -> Criterion:
    if measure is None:
        raise ValueError("compares numbers, but {keyword} holds text")
    try:
        low, high = measure(first), measure(last)
    except WrongType:
        raise ValueError(f"is no range; write two {kind.value}s: {_EXAMPLES[kind]}") from None
    if low <= high:
        return _any(measure, lambda value: low <= value <= high)
    if kind is Kind.TIME:  # through midnight
        return _any(measure, lambda value: value >= low or value <= high)
    raise ValueError(f"is an empty range; write the smaller {kind.value} first")


def _any(measure: Measure, holds: Callable[[float], bool]) -> Criterion:
    """Return whether any value holds; one that cannot be measured matters only if none does."""

    def criterion(values: Values) -> bool:
        wrong = None
        for value in values:
            try:
                if holds(measure(value)):
                    return True
            except WrongType as error:
                wrong = error
        if wrong is not None:
            raise wrong
        return False

    return criterion


def _number(text: str) -> float:
    stripped = text.strip()
    if not _NUMBER.fullmatch(stripped):
        raise WrongType(text)
    return float(stripped)


def _date(text: str) -> float:
    """Return a date as yyyymmdd (PS3.5 6.2, DA; the form with points is of before 1993)."""
    match = _DATE.fullmatch(text.strip())
    if match is None:
        raise WrongType(text)
    year, month, day = (int(part) for part in match.groups())
    if not (1 <= month <= 12 and 1 <= day <= 31):
        raise WrongType(text)
    return float(year * 10_000 + month * 100 + day)


def _time(text: str) -> float:
    """Return a time as seconds since midnight (PS3.5 6.2, TM)."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise WrongType(text)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()[:3])
    if hours > 23 or minutes > 59 or seconds > 60:
        raise WrongType(text)
    return hours * 3600 + minutes * 60 + seconds + float(f"0.{match[4] or 0}")


def _age(text: str) -> float:
    """Return an age in days (PS3.5 6.2, AS); months and years have their mean length."""
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise WrongType(text)
    return int(match[1]) * _DAYS[match[2].upper()]


_MEASURES: Mapping[Kind, Measure] = {
    Kind.NUMBER: _number,
    Kind.DATE: _date,
    Kind.TIME: _time,
    Kind.AGE: _age,
}
