"""`shadow:` and `canary:` in a rule: read, refused, decided, and made into jobs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from dicom_node.errors import ConfigError
from dicom_node.model import Job, JobRole, Priority
from dicom_node.route.decide import decide
from dicom_node.route.decision import Decision, Order, record_of
from dicom_node.route.lint import lint
from dicom_node.route.replay import replay
from dicom_node.route.rules import EngineOrder, Rule, RuleSet
from dicom_node.route.rules_file import EngineWords, Names, ParameterRange, load_rules
from dicom_node.route.trying import with_candidates
from dicom_node.trials import StopRule, TrialMode, TrialWanted
from tests.unit.ledger.rows import a_job
from tests.unit.route.made import engine_rule, series, study, when

NAMES = Names(
    {
        "lungs": EngineWords({"volume_min_ml": ParameterRange(0, 100)}, None, "segmentation"),
        "lungs_2": EngineWords({"volume_min_ml": ParameterRange(0, 100)}, None, "segmentation"),
        "cxr": EngineWords({}, None, "classification"),
        "broken": EngineWords(),
    },
    ("archive",),
)
SHADOW = TrialWanted("lungs_2", TrialMode.SHADOW)
CANARY = TrialWanted("lungs_2", TrialMode.CANARY)


def rules_with(file: Path, below: Any) -> RuleSet:
    """Load one rule that runs `lungs` with this below it."""
    rule = {
        "name": "chest",
        "when": {},
        "engines": [{"lungs": below}],
        "destinations": ["archive"],
    }
    file.write_text(yaml.safe_dump({"rules": [rule]}), "utf-8")
    return load_rules(file, NAMES)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rules.yaml"


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("below", "expected"),
    [
        ({"shadow": "lungs_2"}, SHADOW),
        ({"shadow": "broken"}, replace(SHADOW, engine="broken")),  # of what kind is not known
        ({"canary": {"engine": "lungs_2", "share": "10%"}}, replace(CANARY, share=0.1)),
        ({"canary": {"engine": "lungs_2", "share": 1}}, CANARY),
        ({"shadow": {"engine": "lungs_2", "share": 0.25}}, replace(SHADOW, share=0.25)),
        (
            {"shadow": {"engine": "lungs_2", "parameters": {"volume_min_ml": 5}}},
            replace(SHADOW, parameters={"volume_min_ml": 5.0}),
        ),
        (
            {
                "shadow": {
                    "engine": "lungs_2",
                    "stop": {
                        "dice_below": 0.9,
                        "volume_above": "20%",
                        "kappa_below": -0.1,
                        "flips_above": 0.05,
                        "slower_than": "2x",
                        "failures": 5,
                        "after_studies": 50,
                    },
                }
            },
            replace(SHADOW, stop=StopRule(0.9, 0.2, -0.1, 0.05, 2.0, 5, 50)),
        ),
        (
            {"shadow": {"engine": "lungs_2", "stop": {"slower_than": 1.5}}},
            replace(SHADOW, stop=StopRule(slower_than=1.5)),
        ),
    ],
)
def test_a_trial_is_read_as_it_is_written(
    below: dict[str, Any], expected: TrialWanted, file: Path
) -> None:
    [rule] = rules_with(file, below).rules
    assert rule.engines == (EngineOrder("lungs", {}, expected),)


def test_parameters_of_the_engine_in_use_stand_beside_it(file: Path) -> None:
    [rule] = rules_with(file, {"volume_min_ml": 2, "shadow": "lungs_2"}).rules
    assert rule.engines == (EngineOrder("lungs", {"volume_min_ml": 2.0}, SHADOW),)
    assert rule.actions == ("run lungs", "try lungs_2 beside lungs")


@pytest.mark.parametrize(
    ("below", "key", "message"),
    [
        (
            {"shadow": "cxr"},
            "shadow",
            "another engine of the same kind; there are: broken, lungs_2",
        ),
        ({"shadow": "lungs"}, "shadow", "needs another engine"),
        ({"shadow": {"engine": "lung"}}, "shadow.engine", "needs another engine"),
        ({"shadow": {}}, "shadow", "needs another engine"),
        ({"shadow": ["lungs_2"]}, "shadow", "must be an engine, or a mapping"),
        ({"shadow": {"engine": "lungs_2", "stops": {}}}, "shadow.stops", "no such key"),
        ({"canary": "lungs_2"}, "canary", "needs `share`"),
        ({"shadow": "lungs_2", "canary": "lungs_2"}, "canary", "not both"),
        ({"canary": {"engine": "lungs_2", "share": 10}}, "canary.share", "must be a share"),
        ({"canary": {"engine": "lungs_2", "share": "0%"}}, "canary.share", "must be a share"),
        ({"canary": {"engine": "lungs_2", "share": True}}, "canary.share", "must be a share"),
        (
            {"shadow": {"engine": "lungs_2", "parameters": {"volume_min_ml": 500}}},
            "shadow.parameters.volume_min_ml",
            "must be between 0 and 100",
        ),
        ({"shadow": {"engine": "lungs_2", "parameters": []}}, "shadow.parameters", "a mapping"),
        ({"shadow": {"engine": "lungs_2", "stop": "soon"}}, "shadow.stop", "must be a mapping"),
        *(
            ({"shadow": {"engine": "lungs_2", "stop": {key: value}}}, f"shadow.stop.{key}", message)
            for key, value, message in (
                ("dice", 0.9, "no such key"),
                ("dice_below", 90, "must be a number from 0 to 1"),
                ("dice_below", "0.9", "must be a number"),
                ("kappa_below", 2, "must be a number from -1 to 1"),
                ("flips_above", "5", "must be a share"),
                ("slower_than", "twice", "must be so many times"),
                ("slower_than", 0, "must be so many times"),
                ("failures", 0, "must be a whole number"),
                ("after_studies", 2.5, "must be a whole number"),
            )
        ),
    ],
)
def test_what_is_wrong_is_a_mistake_at_its_key(
    below: dict[str, Any], key: str, message: str, file: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        rules_with(file, below)
    [mistake] = caught.value.mistakes
    assert mistake.key == f"rules.0.engines.0.lungs.{key}"
    assert message in mistake.message


# ---------------------------------------------------------------- deciding


def tried(name: str, trial: TrialWanted | None, **header: str) -> Rule:
    rule = engine_rule(name, header or {"Modality": "CT"}, "lungs")
    return replace(rule, engines=(EngineOrder("lungs", {}, trial),))


def decided(*rules: Rule) -> Decision:
    return decide(RuleSet(rules), study(series()))


def test_a_decision_says_what_runs_beside_what() -> None:
    [order] = decided(tried("chest", SHADOW)).orders
    assert (order.engine, order.trial, order.is_tried) == ("lungs", SHADOW, True)
    assert decided(tried("chest", SHADOW)).reason == "chest -> lungs (shadow lungs_2)"
    assert decided(tried("chest", CANARY)).reason == "chest -> lungs_2 (canary of lungs)"


def test_a_study_outside_of_the_share_is_decided_as_without_a_trial() -> None:
    never = replace(CANARY, share=1e-9)
    with_it, without = decided(tried("chest", never)), decided(tried("chest", None))
    assert not with_it.orders[0].is_tried
    assert record_of(with_it) == record_of(without)
    assert with_it.reason == without.reason


def test_the_record_and_the_replay_know_of_a_trial() -> None:
    before, now = RuleSet((tried("chest", None),)), RuleSet((tried("chest", SHADOW),))
    [recorded] = record_of(decide(now, study(series())))["orders"]
    assert recorded["trial"] == {"engine": "lungs_2", "mode": "shadow", "parameters": {}}
    found = replay(before, now, [study(series())])
    assert found.changed == ["1.2"]
    assert (found.engines["lungs_2"].before, found.engines["lungs_2"].now) == (0, 1)
    assert found.destinations["archive"].now == 1


def test_of_two_rules_the_first_that_tries_something_counts() -> None:
    rules = (tried("first", None), tried("second", SHADOW), tried("third", CANARY))
    [order] = decided(*rules).orders
    assert (order.rule, order.trial) == ("first", SHADOW)
    smells = [str(smell) for smell in lint(RuleSet(rules))]
    assert (
        "second, third: try something else beside lungs on the same series; that of second wins"
        in (smells)
    )


# ---------------------------------------------------------------- jobs


def an_order(trial: TrialWanted | None, engine: str = "lungs", *, is_tried: bool = True) -> Order:
    return Order("1", engine, {}, ("archive",), Priority.HIGH, "r", "x", None, trial, is_tried)


def jobs_of(*orders: Order, takes: bool = True) -> tuple[list[Job], list[tuple[str, str]]]:
    def job(order: Order, engine: str) -> Job:
        given = {"destinations": order.destinations, "priority": order.priority}
        return a_job(f"job of {engine}", engine_name=engine, **given)

    planned, comparisons = with_candidates(
        [(order, job(order, order.engine)) for order in orders],
        lambda order: job(order, order.trial.engine if order.trial else ""),
        lambda current, candidate: takes,
    )
    return (
        [job for _, job in planned],
        [(one.current.engine_name, one.candidate.engine_name) for one in comparisons],
    )


def test_a_shadow_runs_behind_all_others_and_goes_nowhere() -> None:
    (current, shadow), compared = jobs_of(an_order(SHADOW))
    assert (current.destinations, current.priority) == (("archive",), Priority.HIGH)
    assert (shadow.engine_name, shadow.role) == ("lungs_2", JobRole.SHADOW)
    assert (shadow.destinations, shadow.priority) == ((), Priority.LOW)
    assert compared == [("lungs", "lungs_2")]


def test_a_canary_takes_the_destinations_and_the_priority() -> None:
    (current, canary), compared = jobs_of(an_order(CANARY))
    assert (current.destinations, current.role) == ((), JobRole.CURRENT)
    assert (canary.engine_name, canary.role) == ("lungs_2", JobRole.CANARY)
    assert (canary.destinations, canary.priority) == (("archive",), Priority.HIGH)
    assert compared == [("lungs", "lungs_2")]


@pytest.mark.parametrize(
    ("order", "takes"),
    [
        (an_order(None), True),
        (an_order(CANARY, is_tried=False), True),
        (an_order(CANARY), False),  # it was stopped
    ],
)
def test_without_a_trial_everything_is_as_it_was(order: Order, takes: bool) -> None:
    [current], compared = jobs_of(order, takes=takes)
    assert (current.destinations, compared) == (("archive",), [])


@pytest.mark.parametrize("trial", [SHADOW, CANARY])
def test_what_a_rule_runs_by_itself_is_only_compared(trial: TrialWanted) -> None:
    jobs, compared = jobs_of(an_order(trial), an_order(None, "lungs_2"))
    assert [(job.engine_name, job.destinations, job.role) for job in jobs] == [
        ("lungs", ("archive",), JobRole.CURRENT),
        ("lungs_2", ("archive",), JobRole.CURRENT),
    ]
    assert compared == [("lungs", "lungs_2")]


def test_conditions_of_a_rule_may_stand_beside_a_trial() -> None:
    rule = replace(tried("chest", SHADOW), when=when({"Modality": "MR"}))
    assert decided(rule).orders == ()
