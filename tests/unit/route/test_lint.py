"""What is wrong with rules that have no mistake."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from dicom_node.route.lint import lint
from dicom_node.route.rules import EngineOrder, ForwardOrder, Level, Rule, RuleSet
from tests.unit.route.made import engine_rule, when

CT: Mapping[str, object] = {"Modality": "CT"}


def smells(*rules: Rule) -> list[str]:
    return [str(smell) for smell in lint(RuleSet(rules))]


# ---------------------------------------------------------------- never


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            {"Modality": "CT", "all": [{"Modality": ["MR", "PT"]}]},
            "Modality cannot be CT and MR or PT",
        ),
        (
            {"SliceThickness": "<= 3", "all": [{"SliceThickness": "> 3"}]},
            "SliceThickness cannot be <= 3 and > 3",
        ),
        (
            {"SliceThickness": "1 .. 2", "all": [{"SliceThickness": "2.5 .. 9"}]},
            "SliceThickness cannot be 1 .. 2 and 2.5 .. 9",
        ),
        (
            {"ViewPosition": "absent", "all": [{"ViewPosition": "present"}]},
            "ViewPosition cannot be absent and present",
        ),
        (
            {"SeriesDescription": "/t1/", "all": [{"SeriesDescription": ["T2 TSE", "FLAIR"]}]},
            "SeriesDescription cannot be /t1/ and T2 TSE or FLAIR",
        ),
        (
            {"StudyDate": "< 2020-01-01", "all": [{"StudyDate": "2021-01-01"}]},
            "StudyDate cannot be < 2020-01-01 and 2021-01-01",
        ),
    ],
)
def test_a_rule_that_can_never_match_is_found(written: Mapping[str, object], message: str) -> None:
    assert smells(engine_rule("one", written, "e")) == [f"one: never matches: {message}"]


@pytest.mark.parametrize(
    "written",
    [
        {"SliceThickness": "<= 3", "all": [{"SliceThickness": ">= 3"}]},
        {"ImageType": "ORIGINAL", "all": [{"ImageType": "AXIAL"}]},  # several values
        {"SeriesDescription": "/t1/", "all": [{"SeriesDescription": "/mprage/"}]},
        {"SeriesDescription": "/t1/", "all": [{"SeriesDescription": "T1 MPRAGE"}]},
        {"SeriesDescription": "/t1/", "all": [{"SeriesDescription": "present"}]},
        {"Modality": ["CT", "absent"], "all": [{"Modality": ["MR", "absent"]}]},
        {"Modality": "CT", "any": [{"Modality": "MR"}, {"KVP": "120"}]},  # not looked into
    ],
)
def test_a_rule_that_may_match_is_left_alone(written: Mapping[str, object]) -> None:
    assert smells(engine_rule("one", written, "e")) == []


def test_a_study_has_the_values_of_all_its_series() -> None:
    rule = Rule("both", when({**CT, "all": [{"Modality": "PT"}]}), Level.STUDY, notify="a PET-CT")
    assert smells(rule) == []


# ---------------------------------------------------------------- shadowed


@pytest.mark.parametrize("action", ["drop", "hold"])
def test_a_rule_all_of_whose_matches_another_one_takes_away_is_found(action: str) -> None:
    over = Rule("all-ct", when(CT), **{action: "of no use"})  # type: ignore[arg-type]
    rule = engine_rule("thin", {**CT, "SliceThickness": "<= 1"}, "e")
    assert smells(rule, over) == [f"thin, all-ct: all-ct {action}s whatever thin matches"]
    assert smells(over, rule) == [f"thin, all-ct: all-ct {action}s whatever thin matches"]


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ({"SliceThickness": "<= 1"}, {"SliceThickness": "<= 3"}),
        ({"SliceThickness": "2 .. 3"}, {"SliceThickness": "> 1.5"}),
        ({"SliceThickness": 2}, {"SliceThickness": "1 .. 3"}),
        ({"Modality": "CT"}, {"Modality": ["CT", "MR"]}),
        ({"Modality": "CT"}, {"Modality": "present"}),
        ({"SeriesDescription": "T1 MPRAGE"}, {"SeriesDescription": "/t1/"}),
        ({"Modality": "CT"}, {}),
    ],
)
def test_what_is_narrower_is_covered(
    narrow: Mapping[str, object], wide: Mapping[str, object]
) -> None:
    over = Rule("wide", when(wide), drop="of no use")
    assert len(smells(engine_rule("narrow", narrow, "e"), over)) == 1


@pytest.mark.parametrize(
    ("rule", "over"),
    [
        ({"SliceThickness": "<= 3"}, {"SliceThickness": "<= 1"}),
        ({"SliceThickness": "<= 3"}, {"SliceThickness": "< 3"}),
        ({"Modality": ["CT", "MR"]}, {"Modality": "CT"}),
        ({"SeriesDescription": "/t1/"}, {"SeriesDescription": "/t1 mprage/"}),
        ({"Modality": "CT"}, {"KVP": "120"}),
        ({"Modality": "CT"}, {"not": {"Modality": "MR"}}),  # true, and not claimed
    ],
)
def test_what_is_not_certainly_covered_is_not_claimed(
    rule: Mapping[str, object], over: Mapping[str, object]
) -> None:
    assert smells(engine_rule("rule", rule, "e"), Rule("over", when(over), drop="no use")) == []


# ---------------------------------------------------------------- repeated, contradicting


def test_a_rule_that_adds_nothing_is_found() -> None:
    wide = engine_rule("wide", CT, "e", to=("archive", "research"))
    narrow = engine_rule("narrow", {**CT, "KVP": "120"}, "e")
    message = "narrow, wide: narrow adds nothing: wide does the same for all it matches"
    assert smells(wide, narrow) == smells(narrow, wide) == [message]


def test_a_rule_that_sends_elsewhere_adds_something() -> None:
    wide = engine_rule("wide", CT, "e")
    assert smells(wide, engine_rule("narrow", CT, "e", to=("research",))) == []
    assert smells(wide, Rule("narrow", when(CT), forward=ForwardOrder(("archive",)))) == []


def test_one_engine_with_different_parameters_on_the_same_series_is_found() -> None:
    def rule(name: str, threshold: float, written: Mapping[str, object]) -> Rule:
        orders = (EngineOrder("e", {"threshold": threshold}),)
        return Rule(name, when(written), engines=orders, destinations=("archive",))

    found = smells(rule("one", 0.5, CT), rule("two", 0.7, {"KVP": "120"}))
    assert found == ["one, two: run e with other parameters on the same series; those of one win"]
    assert smells(rule("one", 0.5, CT), rule("two", 0.7, {"Modality": "MR"})) == []
    assert smells(rule("one", 0.5, CT), rule("two", 0.5, {"KVP": "120"})) == []


def test_the_same_instances_by_two_profiles_to_one_destination_are_found() -> None:
    plain = Rule("plain", when(CT), forward=ForwardOrder(("research",)))
    other = Rule("other", when(CT), forward=ForwardOrder(("research",), "anonymous"))
    assert smells(plain, other) == [
        "plain, other: send the same instances to research by different profiles"
    ]


def test_rules_in_order_have_nothing_to_look_at() -> None:
    assert smells(engine_rule("ct", CT, "e"), engine_rule("mr", {"Modality": "MR"}, "f")) == []
