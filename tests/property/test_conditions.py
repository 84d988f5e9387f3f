"""No text that a scanner sends and no test that a person writes makes a condition raise."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.conditions import Condition, parse_conditions

KEYWORDS = ["Modality", "SliceThickness", "KVP", "InstanceNumber", "PatientName", "instance_count"]
WRITTEN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.from_regex(r"(<=|>=|<|>) ?-?[0-9.eE+-]{0,8}", fullmatch=True),
    st.from_regex(r"-?[0-9.]{1,6} ?\.\. ?-?[0-9.]{1,6}", fullmatch=True),
    st.from_regex(r"/[a-z0-9(){}\[\]|*+?.^$\\]{1,10}/", fullmatch=True),
)
VALUES = st.lists(
    st.one_of(
        st.text(max_size=20),
        st.sampled_from(["nan", "inf", "-inf", "1e999", "1_000", "", " ", "٣", "0x10", "CT"]),
        st.floats().map(str),
    ),
    max_size=4,
).map(tuple)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    keyword=st.sampled_from(KEYWORDS),
    written=st.one_of(WRITTEN, st.lists(WRITTEN, max_size=3)),
    values=VALUES,
)
def test_what_was_read_without_a_mistake_can_be_asked_of_any_value(
    keyword: str, written: object, values: tuple[str, ...]
) -> None:
    conditions, mistakes = parse_conditions({keyword: written})
    assert bool(conditions) is not bool(mistakes)
    for condition in conditions:
        outcome = condition.check({keyword: values})
        assert outcome.reason.startswith(f"{keyword} is ")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(values=VALUES)
def test_present_is_the_opposite_of_absent(values: tuple[str, ...]) -> None:
    attributes = {"Modality": values}
    absent = Condition("Modality", ("absent",)).check(attributes).holds
    assert absent is all(value == "" for value in values)
    assert Condition("Modality", ("present",)).check(attributes).holds is not absent


@settings(max_examples=100, deadline=None, derandomize=True)
@given(value=st.floats(allow_nan=False, allow_infinity=False), bound=st.integers(-1000, 1000))
def test_a_comparison_compares_numbers(value: float, bound: int) -> None:
    attributes = {"KVP": (repr(value),)}

    def holds(test: str) -> bool:
        return Condition("KVP", (f"{test}",)).check(attributes).holds

    assert holds(f"< {bound}") is (value < bound)
    assert holds(f"<= {bound}") is (value <= bound)
    assert holds(f"> {bound}") is (value > bound)
    assert holds(f">= {bound}") is (value >= bound)
    assert holds(f"{bound} .. {bound + 5}") is (bound <= value <= bound + 5)
    assert holds(str(bound)) is math.isclose(value, bound, rel_tol=0)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(values=st.lists(st.text(min_size=8, max_size=20), min_size=1, max_size=3).map(tuple))
def test_an_identity_is_never_shown(values: tuple[str, ...]) -> None:
    for test in ("present", "absent", "somebody else"):
        reason = Condition("PatientName", (test,)).check({"PatientName": values}).reason
        assert reason in {
            f"PatientName is (withheld), not {test}",
            "PatientName is (withheld)",
        }
