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

_IDENTIFYING_GROUPS = frozenset({0x0010, 0x0038})  # patient, visit
_HARMLESS = frozenset(
    {
        "PatientSex",
        "PatientAge",
        "PatientSize",
        "PatientWeight",
        "PatientSpeciesDescription",
        "PatientSexNeutered",
        "PregnancyStatus",
    }
)
NO_ATTRIBUTE_VRS = frozenset({"SQ", "OB", "OW", "OF", "OD", "OL", "OV", "UN"})
"""Elements of these are never among the attributes of a series."""

_NUMERIC_VRS = frozenset({"DS", "IS", "FL", "FD", "SL", "SS", "UL", "US", "SV", "UV", "US or SS"})
_NUMERIC_OWN = frozenset({"instance_count"})
_NUMBER = r"-?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?"
_COMPARISON = re.compile(rf"(<=|>=|<|>)\s*({_NUMBER})")
_RANGE = re.compile(rf"({_NUMBER})\s*\.\.\s*({_NUMBER})")
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
        if values and _identifies(self.keyword):
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
        found = _mistakes(str(keyword), alternatives)
        mistakes += [(str(keyword), message) for message in found]
        if not found:
            conditions.append(Condition(str(keyword), tuple(map(_text, alternatives))))
    return tuple(conditions), tuple(mistakes)


def _text(written: object) -> str:
    if isinstance(written, bool):  # YAML reads a bare YES or NO as a truth value
        return "YES" if written else "NO"
    return "absent" if written is None else str(written).strip()


def _mistakes(keyword: str, alternatives: Sequence[object]) -> list[str]:
    found = _keyword_mistakes(keyword)
    if found:
        return found
    if not alternatives:
        return [f"{keyword} has an empty list of tests and could never hold"]
    for written in alternatives:
        if isinstance(written, (Mapping, list)):
            found.append(f"{written} is no test; write a value, or a list of values")
        else:
            found += _test_mistakes(keyword, _text(written))
    return found


def _keyword_mistakes(keyword: str) -> list[str]:
    if keyword in OWN_KEYWORDS:
        return []
    tag = tag_for_keyword(keyword)
    if tag is None:
        own = ", ".join(sorted(OWN_KEYWORDS))
        return [f"{keyword} is no DICOM keyword and none of ours ({own})"]
    if set(dictionary_VR(tag).split(" or ")) & NO_ATTRIBUTE_VRS:
        return [f"{keyword} holds a sequence or bytes; a condition can only test values"]
    return []


def _test_mistakes(keyword: str, test: str) -> list[str]:
    if _is_pattern(test):
        try:
            re.compile(test[1:-1])
        except (re.error, OverflowError, RecursionError) as error:
            return [f"{test} is no regular expression: {error}"]
        return []
    match = _RANGE.fullmatch(test)
    if match or _COMPARISON.fullmatch(test):
        if not _is_numeric(keyword):
            return [f"{test} compares numbers, but {keyword} holds text"]
        if match and float(match[1]) > float(match[2]):
            return [f"{test} is an empty range; write the smaller number first"]
        return []
    if test[:1] in {"<", ">"}:
        return [f"{test} has no number after its sign"]
    if ".." in test and _is_numeric(keyword):
        return [f"{test} is no range; write two numbers: 80 .. 140"]
    return []


def _identifies(keyword: str) -> bool:
    """Return whether values of this attribute can identify a patient (PS3.15 Table E.1-1)."""
    tag = tag_for_keyword(keyword)
    if tag is None or keyword in _HARMLESS:
        return False
    named = dictionary_VR(tag) == "PN" or keyword == "AccessionNumber"
    return named or tag >> 16 in _IDENTIFYING_GROUPS


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
