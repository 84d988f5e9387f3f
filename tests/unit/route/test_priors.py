"""Prior studies in rules: read with every mistake, ordered once, and skipped by other rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from dicom_node.config.settings import Config, Peer, ReceiveSettings
from dicom_node.config.yaml_lines import load_yaml
from dicom_node.priors import PriorsWanted
from dicom_node.route.decide import decide, decide_at_once
from dicom_node.route.decision import record_of
from dicom_node.route.facts import InstanceFacts
from dicom_node.route.lint import lint
from dicom_node.route.rules import ForwardOrder, Level, Rule, RuleSet
from dicom_node.route.rules_file import EngineWords, Names, validate_rules
from tests.unit.route.made import engine_rule, series, study, when

NAMES = Names({"ct_lungs": EngineWords()}, ("archive", "mute"), not_admitted=("mute",))
WANTED = PriorsWanted("archive")


def read(folder: Path, priors: Any, names: Names = NAMES) -> tuple[RuleSet, list[tuple[str, str]]]:
    """Return the rules, and key and message of each mistake."""
    given = {"name": "one", "when": {}, "engines": ["ct_lungs"], "destinations": ["archive"]}
    file = folder / "rules.yaml"
    file.write_text(yaml.safe_dump({"rules": [{**given, "priors": priors}]}))
    loaded = load_yaml(file)
    rules = validate_rules(loaded, names)
    return rules, [(m.key.removeprefix("rules.0."), m.message) for m in loaded.mistakes]


# ---------------------------------------------------------------- reading them


def test_what_is_wanted_is_read_as_it_is_written(tmp_path: Path) -> None:
    written = {
        "from": "archive",
        "count": 2,
        "modalities": ["CT", "PT"],
        "study_description": "*chest*",
        "body_parts": "CHEST",
        "within_days": 730,
        "wait_s": 60,
    }
    rules, mistakes = read(tmp_path, written)
    assert mistakes == []
    assert rules.rules[0].priors == PriorsWanted(
        "archive", 2, ("CT", "PT"), "*chest*", ("CHEST",), within_days=730, wait_s=60.0
    )


def test_all_but_the_archive_may_be_left_out(tmp_path: Path) -> None:
    rules, mistakes = read(tmp_path, {"from": "archive"})
    assert mistakes == []
    assert rules.rules[0].priors == WANTED


@pytest.mark.parametrize(
    ("written", "key", "message"),
    [
        ("archive", "priors", "must be a mapping with `from`"),
        ({}, "priors", "needs `from`, a peer that has an address; there are: archive, mute"),
        ({"from": "scanner"}, "priors.from", "there are: archive, mute"),
        ({"from": "mute"}, "priors.from", "`may_send: true`, or `retrieve: get`"),
        ({"count": 0}, "priors.count", "must be a whole number from 1 to 10"),
        ({"count": 1.5}, "priors.count", "must be a whole number from 1 to 10"),
        ({"count": True}, "priors.count", "must be a whole number from 1 to 10"),
        ({"wait_s": 0}, "priors.wait_s", "must be a number from 1 to 86400"),
        ({"wait_s": "long"}, "priors.wait_s", "must be a number from 1 to 86400"),
        ({"wait_s": 90_000}, "priors.wait_s", "must be a number from 1 to 86400"),
        ({"within_days": -1}, "priors.within_days", "must be a whole number from 0 to 36500"),
        ({"modalities": []}, "priors.modalities", "must be a text or a list of texts"),
        ({"modalities": [1]}, "priors.modalities", "must be a text or a list of texts"),
        ({"body_parts": ""}, "priors.body_parts", "must be a text or a list of texts"),
        ({"study_description": 5}, "priors.study_description", "must be a text"),
        ({"modality": "CT"}, "priors.modality", "no such key; priors has from, count"),
    ],
)
def test_every_mistake_has_its_key(written: Any, key: str, message: str, tmp_path: Path) -> None:
    if isinstance(written, dict) and written and "from" not in written:
        written = {"from": "archive", **written}
    _, [(found, said)] = read(tmp_path, written)
    assert found == key
    assert message in said


def test_priors_without_an_engine_are_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    written = {"name": "one", "when": {}, "notify": "it came", "priors": {"from": "archive"}}
    file.write_text(yaml.safe_dump({"rules": [written]}))
    loaded = load_yaml(file)
    validate_rules(loaded, NAMES)
    [mistake] = loaded.mistakes
    assert "priors needs `engines`" in mistake.message


def test_who_can_only_be_sent_to_is_no_source_of_priors(tmp_path: Path) -> None:
    names = replace(NAMES, not_called=("archive",))
    _, [(key, message)] = read(tmp_path, {"from": "archive"}, names)
    assert key == "priors.from"
    assert message == "needs `from`, a peer that has an address; there are: mute"


@pytest.mark.parametrize(
    ("archive", "admits_all", "is_admitted"),
    [
        ({"may_send": True}, False, True),
        ({}, False, False),
        ({"retrieve": "get"}, False, True),
        ({}, True, True),
        ({"ae_title": "SCANNER"}, False, True),  # by the entry of the scanner
    ],
)
def test_who_is_asked_by_c_move_has_to_be_let_in(
    archive: dict[str, Any], admits_all: bool, is_admitted: bool
) -> None:
    given: dict[str, Any] = {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": 104}
    config = Config(
        receive=ReceiveSettings(admit_unknown_calling_ae_titles=admits_all),
        peers={
            "scanner": Peer(ae_title="SCANNER", may_send=True),
            "archive": Peer(**(given | archive)),
        },
    )
    assert ("archive" not in config.not_admitted) is is_admitted


# ---------------------------------------------------------------- who waits for what


def test_the_first_rule_that_wants_priors_decides_which() -> None:
    plain = engine_rule("plain", {}, "ct_lungs")
    first = replace(engine_rule("first", {}, "ct_lungs"), priors=WANTED)
    other = replace(engine_rule("other", {}, "ct_lungs"), priors=PriorsWanted("pacs"))
    [order] = decide(RuleSet((plain, first, other)), study(series())).orders
    assert (order.rule, order.priors) == ("plain", WANTED)


def test_priors_stand_in_the_record_of_a_decision_that_has_some() -> None:
    rule = engine_rule("one", {}, "ct_lungs")
    [without] = record_of(decide(RuleSet((rule,)), study(series())))["orders"]
    assert "priors" not in without
    wanting = replace(rule, priors=replace(WANTED, modalities=("CT",)))
    [order] = record_of(decide(RuleSet((wanting,)), study(series())))["orders"]
    assert (order["priors"]["source"], order["priors"]["modalities"]) == ("archive", ["CT"])


def test_a_rule_that_adds_priors_adds_something() -> None:
    plain = engine_rule("plain", {"Modality": "CT"}, "ct_lungs")
    wanting = replace(plain, name="wanting", priors=WANTED)
    [smell] = lint(RuleSet((plain, wanting)))
    assert smell.message == "plain adds nothing: wanting does the same for all it matches"


# ---------------------------------------------------------------- what came as a prior

CT = engine_rule("ct", {"Modality": "CT"}, "ct_lungs")
PRIORS_ONLY = engine_rule("priors-only", {"Modality": "CT", "prior": True}, "ct_lungs")
NO_PRIORS = engine_rule("no-priors", {"Modality": "CT", "prior": "no"}, "ct_lungs")
EITHER = engine_rule("either", {"prior": ["yes", "no"]}, "ct_lungs")


@pytest.mark.parametrize(
    ("rule", "of_prior", "of_other"),
    [(CT, False, True), (PRIORS_ONLY, True, False), (NO_PRIORS, False, True), (EITHER, True, True)],
)
def test_rules_apply_to_a_prior_study_only_if_they_ask(
    rule: Rule, of_prior: bool, of_other: bool
) -> None:
    rules = RuleSet((rule,))
    assert bool(decide(rules, study(series(), prior_of=("1.9",))).orders) is of_prior
    assert bool(decide(rules, study(series())).orders) is of_other


def test_a_prior_study_says_whose_it_is() -> None:
    decision = decide(RuleSet((CT,)), study(series(), prior_of=("1.8", "1.9")))
    assert decision.reason == "fetched as a prior study of 1.8, 1.9"
    drop = Rule("no-ct", when({"Modality": "CT"}), drop="not wanted")
    assert decide(RuleSet((drop,)), study(series(), prior_of=("1.9",))).drops == ()
    hold = Rule("hold", when({"prior": "yes"}), level=Level.STUDY, hold="look at it")
    assert decide(RuleSet((hold,)), study(series(), prior_of=("1.9",))).holds != ()


def test_an_instance_of_a_prior_study_is_not_forwarded_at_once() -> None:
    forward = ForwardOrder(("archive",), at_once=True)
    rules = RuleSet((Rule("all", when({}), Level.INSTANCE, forward=forward),))
    asking = RuleSet((Rule("priors", when({"prior": "yes"}), Level.INSTANCE, forward=forward),))
    prior = ("1.2.1", InstanceFacts("1.2.1.1", "d", {}, "ARCHIVE", is_prior=True))
    other = ("1.2.1", InstanceFacts("1.2.1.2", "d", {}, "SCANNER"))
    for rule_set, forwarded in ((rules, "1.2.1.2"), (asking, "1.2.1.1")):
        [made] = decide_at_once(rule_set, [prior, other]).forwards
        assert [key.sop_instance_uid for key in made.instances] == [forwarded]
