"""Conditions on header attributes, as rules and engines write them.

A condition is written `Keyword: test`; the keyword is DICOM's (PS3.6) or one of `OWN_KEYWORDS`:

    Modality: CT                     one of the attribute's values equals it; case does not matter
    Modality: [CR, DX]               equals one of these
    SliceThickness: "<= 5"           a number: <, <=, >, >=
    KVP: "80 .. 140"                 a number in a range, both ends included
    SeriesDescription: "/t1|mprage/" a regular expression, found anywhere; case does not matter
    ViewPosition: absent             missing or empty; `present` is the opposite

Several tests in a list are alternatives: `BodyPartExamined: [HEAD, BRAIN, absent]`. A missing
attribute fulfils `absent` and nothing else.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydicom.datadict import dictionary_VR, tag_for_keyword

from dicom_node.model import Attributes

OWN_KEYWORDS: Mapping[str, str] = {
    "instance_count": "how many instances of the series were received",
    "calling_ae_title": "the AE title of who sent the series",
}
"""Keywords beside DICOM's, with what they mean."""

IDENTIFYING_KEYWORDS = frozenset(
    {
        "PatientName",
        "PatientID",
        "OtherPatientIDs",
        "OtherPatientNames",
        "PatientBirthDate",
        "PatientAddress",
        "PatientMotherBirthName",
        "PatientTelephoneNumbers",
        "AccessionNumber",
    }
)
"""A reason never shows the value of these: reasons end in logs and in the ledger's events."""

_NUMERIC_VRS = frozenset({"DS", "IS", "FL", "FD", "SL", "SS", "UL", "US", "SV", "UV", "US or SS"})
_NUMERIC_OWN = frozenset({"instance_count"})
_COMPARISON = re.compile(r"(<=|>=|<|>)\s*(-?[0-9.]+(?:[eE][-+]?[0-9]+)?)")
_RANGE = re.compile(r"(-?[0-9.]+)\s*\.\.\s*(-?[0-9.]+)")
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Outcome:
    """Whether a condition holds, and why, in words."""

    holds: bool
    reason: str


@dataclass(frozen=True)
class Condition:
    """One `Keyword: test` line; the tests are alternatives."""

    keyword: str
    tests: tuple[str, ...]

    def check(self, attributes: Attributes) -> Outcome:
        """Return whether the attributes of a series fulfil this condition."""
        values = tuple(v for v in attributes.get(self.keyword, ()) if v != "")
        shown = "\\".join(values) if values else "absent"
        if values and self.keyword in IDENTIFYING_KEYWORDS:
            shown = "(withheld)"
        wanted = " or ".join(self.tests)
        if any(_holds(test, values) for test in self.tests):
            return Outcome(True, f"{self.keyword} is {shown}")
        return Outcome(False, f"{self.keyword} is {shown}, not {wanted}")


def parse_conditions(written: object) -> tuple[tuple[Condition, ...], tuple[tuple[str, str], ...]]:
    """Return the conditions of a mapping read from YAML, and every mistake in it.

    Parameters
    ----------
    written : object
        What stands under `when:` or `accepts:`.

    Returns
    -------
    conditions : tuple of Condition
        Those without a mistake.
    mistakes : tuple of (keyword, message)
        An empty keyword stands for the mapping itself.
    """
    if not isinstance(written, Mapping):
        return (), (("", "must be a mapping of attribute keywords to tests"),)
    conditions: list[Condition] = []
    mistakes: list[tuple[str, str]] = []
    for keyword, test in written.items():
        alternatives: Sequence[object] = test if isinstance(test, list) else [test]
        tests = tuple(_text(alternative) for alternative in alternatives)
        found = _mistakes(str(keyword), tests)
        mistakes += [(str(keyword), message) for message in found]
        if not found:
            conditions.append(Condition(str(keyword), tests))
    return tuple(conditions), tuple(mistakes)


def _text(written: object) -> str:
    if isinstance(written, bool):  # YAML reads a bare YES or NO as a truth value
        return "YES" if written else "NO"
    return "absent" if written is None else str(written).strip()


def _mistakes(keyword: str, tests: tuple[str, ...]) -> list[str]:
    if keyword not in OWN_KEYWORDS and tag_for_keyword(keyword) is None:
        own = ", ".join(sorted(OWN_KEYWORDS))
        return [f"{keyword} is no DICOM keyword and none of ours ({own})"]
    if not tests:
        return [f"{keyword} has an empty list of tests and could never hold"]
    found = []
    for test in tests:
        if _is_pattern(test):
            try:
                re.compile(test[1:-1])
            except re.error as error:
                found.append(f"{test} is no regular expression: {error}")
        elif _COMPARISON.fullmatch(test) or _RANGE.fullmatch(test):
            if not _is_numeric(keyword):
                found.append(f"{test} compares numbers, but {keyword} holds text")
        elif test[:1] in {"<", ">"}:
            found.append(f"{test} has no number after its sign")
    return found


def _is_numeric(keyword: str) -> bool:
    if keyword in OWN_KEYWORDS:
        return keyword in _NUMERIC_OWN
    tag = tag_for_keyword(keyword)
    return tag is not None and dictionary_VR(tag) in _NUMERIC_VRS


def _is_pattern(test: str) -> bool:
    return len(test) > 2 and test.startswith("/") and test.endswith("/")


def _holds(test: str, values: tuple[str, ...]) -> bool:
    if test == "absent":
        return not values
    if test == "present":
        return bool(values)
    if _is_pattern(test):
        pattern = re.compile(test[1:-1], re.IGNORECASE)
        return any(pattern.search(value) for value in values)
    if match := _COMPARISON.fullmatch(test):
        compare, bound = _COMPARE[match[1]], float(match[2])
        return any(compare(number, bound) for number in _numbers(values))
    if match := _RANGE.fullmatch(test):
        low, high = float(match[1]), float(match[2])
        return any(low <= number <= high for number in _numbers(values))
    return any(_same(value, test) for value in values)


def _numbers(values: tuple[str, ...]) -> list[float]:
    numbers = []
    for value in values:
        try:
            numbers.append(float(value))
        except ValueError:
            continue
    return numbers


def _same(value: str, test: str) -> bool:
    if value.strip().casefold() == test.casefold():
        return True
    try:
        return float(value) == float(test)
    except ValueError:
        return False
