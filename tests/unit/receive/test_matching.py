"""Matching as PS3.4 C.2.2.2 wants it."""

from __future__ import annotations

import time

import pytest

from dicom_node.receive.matching import is_universal, matches, wildcard


@pytest.mark.parametrize(
    ("vr", "key", "value", "expected"),
    [
        # single values are case-sensitive, but for names
        ("LO", "HEAD", "HEAD", True),
        ("LO", "head", "HEAD", False),
        ("SH", "A1 ", "A1", True),
        ("PN", "doe^jane", "DOE^Jane", True),
        ("PN", "Doe^Jane^^^", "Doe^Jane", True),
        ("PN", "Doe", "Doe^Jane", False),
        # names in several writings: one group finds any, several find each its own
        ("PN", "山田^太郎", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("PN", "Yamada*", "Yamada^Tarou=山田^太郎", True),
        ("PN", "Yamada*=山田*", "Yamada^Tarou=山田^太郎", True),
        ("PN", "Yamada*=鈴木*", "Yamada^Tarou=山田^太郎", False),
        ("PN", "=山田*", "Yamada^Tarou=山田^太郎", True),
        ("PN", "=*", "Doe^Jane", True),
        ("PN", "müller*", "MÜLLER^JÖRG", True),
        # wildcards
        ("PN", "d?e*", "Doe^Jane", True),
        ("CS", "M?", "MR", True),
        ("CS", "M?", "M", False),
        ("LO", "*chest*", "CT chest low dose", True),
        ("UI", "1.2.*", "1.2.3", False),
        # dates and their ranges
        ("DA", "20240102", "20240102", True),
        ("DA", "20240102", "2024.01.02", True),
        ("DA", "20240101-20240131", "20240102", True),
        ("DA", "20240101-20240131", "20240201", False),
        ("DA", "-20240102", "20240102", True),
        ("DA", "20240103-", "20240102", False),
        # times, as precise as they are
        ("TM", "1015", "101559.5", True),
        ("TM", "1015", "1016", False),
        ("TM", "10-12", "125959", True),
        ("TM", "10:15:00-", "101500", True),
        ("TM", "-095959", "10", False),
        ("TM", "101500.5", "10", True),
        # numbers by their value
        ("IS", "7", "007", True),
        ("IS", "+7 ", "7", True),
        ("IS", "7", "8", False),
        ("US", "512", "512", True),
        ("UI", "1.2.3", "1.2.3", True),
        ("UI", "1.2.3", "1.2.30", False),
    ],
)
def test_a_value_matches_a_key(vr: str, key: str, value: str, expected: bool) -> None:
    assert matches(vr, [key], [value]) is expected


def test_a_list_of_uids_matches_each_of_them() -> None:
    assert matches("UI", ["1.2", "1.3"], ["1.3"])
    assert not matches("UI", ["1.2", "1.3"], ["1.4"])


def test_one_of_several_values_is_enough() -> None:
    assert matches("CS", ["CT"], ["CT", "SR"])
    assert not matches("CS", ["MR"], ["CT", "SR"])


@pytest.mark.parametrize("wanted", [[], [""], ["*"], ["**"], ["", ""]])
def test_nothing_and_an_asterisk_match_everything(wanted: list[str]) -> None:
    assert is_universal(wanted)
    assert matches("UI", wanted, ["1.2"])


def test_what_is_unknown_matches_every_key() -> None:
    assert matches("DA", ["20240101-"], [])
    assert matches("LO", ["A1"], [""])


def test_a_pattern_made_to_take_for_ever_does_not() -> None:
    began = time.perf_counter()
    assert not wildcard("*a" * 30 + "b", "a" * 10_000)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    ("pattern", "text"), [("*", ""), ("", ""), ("a*b*c", "abbbc"), ("*.*", "a.b"), ("???", "abc")]
)
def test_a_pattern_that_fits(pattern: str, text: str) -> None:
    assert wildcard(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text"), [("?", ""), ("", "a"), ("a*b", "abc"), ("[ab]", "a"), ("a", "ab")]
)
def test_a_pattern_that_does_not_fit(pattern: str, text: str) -> None:
    assert not wildcard(pattern, text)
