"""No text that a scanner sends and no test that a person writes makes a condition raise."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.conditions import Answer, Condition, parse_conditions, parse_rule_conditions
from tests.unit.route.made import when

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
            "PatientName is (withheld), not absent",
            "PatientName is (withheld), not what the rule asks for",
            "PatientName is (withheld)",
        }


# ---------------------------------------------------------------- joined conditions

LEAVES: st.SearchStrategy[dict[str, object]] = st.sampled_from(
    [
        {"Modality": "CT"},
        {"Modality": ["MR", "absent"]},
        {"SliceThickness": "<= 2.5"},
        {"SliceThickness": {"is": "> 1", "missing": "parks"}},
        {"SliceThickness": {"is": "> 1", "missing": "holds"}},
        {"time_of_day": "22:00 .. 06:00"},
        {"a.probability": "> 0.5"},
        {"PatientName": "/doe/"},
    ]
)
JOINED: st.SearchStrategy[dict[str, object]] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(lambda one: {"not": one}),
        st.lists(inner, min_size=1, max_size=3).map(lambda several: {"any": several}),
        st.lists(inner, min_size=1, max_size=3).map(lambda several: {"all": several}),
    ),
    max_leaves=6,
)
ATTRIBUTES = st.fixed_dictionaries(
    {},
    optional={
        "Modality": st.sampled_from([("CT",), ("MR", "CT"), ("",), ()]),
        "SliceThickness": st.sampled_from([("1",), ("2.5",), (".5",), ("thin",), ("thin", "1")]),
        "time_of_day": st.sampled_from([("230000",), ("120000",), ("soon",)]),
        "a.probability": st.sampled_from([("0.7",), ("0.1",), ("pending",)]),
        "PatientName": st.just(("Doe^Jane",)),
    },
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(first=JOINED, second=JOINED, attributes=ATTRIBUTES)
def test_any_all_and_not_obey_de_morgan(
    first: dict[str, object], second: dict[str, object], attributes: dict[str, tuple[str, ...]]
) -> None:
    def answer(written: dict[str, object]) -> Answer:
        return when(written).check(attributes).answer

    neither = answer({"not": {"any": [first, second]}})
    assert neither is answer({"all": [{"not": first}, {"not": second}]})
    not_both = answer({"not": {"all": [first, second]}})
    assert not_both is answer({"any": [{"not": first}, {"not": second}]})
    assert answer({"not": {"not": first}}) is answer(first)
    assert answer({"any": [first, second]}) is answer({"any": [second, first]})


@settings(max_examples=300, deadline=None, derandomize=True)
@given(written=JOINED, attributes=ATTRIBUTES)
def test_every_answer_has_a_reason_and_none_says_who_the_patient_is(
    written: dict[str, object], attributes: dict[str, tuple[str, ...]]
) -> None:
    outcome = when(written).check(attributes)
    assert outcome.reason
    said = [outcome.reason, *(reason for _, reason in outcome.leaves())]
    assert not any("doe" in reason.casefold() for reason in said)


ANYTHING: st.SearchStrategy[object] = st.recursive(
    WRITTEN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["any", "all", "not", "is", "missing", "", "1", *KEYWORDS]),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(written=ANYTHING, attributes=ATTRIBUTES)
def test_whatever_is_written_it_is_a_mistake_or_a_condition(
    written: object, attributes: dict[str, tuple[str, ...]]
) -> None:
    conditions, mistakes = parse_rule_conditions(written)
    assert all(message for _, message in mistakes)
    assert conditions.check(attributes).answer in Answer
