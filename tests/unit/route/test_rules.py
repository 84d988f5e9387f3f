"""Rules: what matches, what follows, and every mistake at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.conditions import Condition
from dicom_node.errors import ConfigError
from dicom_node.infer.manifest import list_engines
from dicom_node.model import Priority
from dicom_node.route.rules import Order, Rule, load_rules, orders, try_rules

ROOT = Path(__file__).parents[3]
CT_CHEST = {"Modality": ("CT",), "BodyPartExamined": ("CHEST",), "instance_count": ("49",)}
ENGINES = dict.fromkeys(["ct_lungs", "cxr_quality"])
DESTINATIONS = dict.fromkeys(["archive", "research"])


def rule(name: str, *engines: str, to: tuple[str, ...] = ("archive",), **changes: object) -> Rule:
    when = changes.pop("when", {"Modality": "CT"})
    assert isinstance(when, dict)
    priority = changes.pop("priority", Priority.ROUTINE)
    assert isinstance(priority, Priority)
    conditions = tuple(Condition(keyword, (test,)) for keyword, test in when.items())
    return Rule(name, conditions, engines or ("ct_lungs",), to, priority)


# ---------------------------------------------------------------- what matches


def test_a_rule_matches_where_all_of_its_conditions_hold() -> None:
    whole = rule("chest", when={"Modality": "CT", "BodyPartExamined": "CHEST"})
    [outcome] = try_rules([whole], CT_CHEST)
    assert outcome.matches
    assert outcome.reason == "Modality is CT; BodyPartExamined is CHEST"


def test_a_rule_that_does_not_match_names_every_condition_that_failed_and_no_other() -> None:
    wanted = {"Modality": "CT", "BodyPartExamined": "HEAD", "instance_count": ">= 60"}
    [outcome] = try_rules([rule("head", when=wanted)], CT_CHEST)
    assert not outcome.matches
    assert outcome.reason == "BodyPartExamined is CHEST, not HEAD; instance_count is 49, not >= 60"


def test_a_rule_without_conditions_matches_everything() -> None:
    [outcome] = try_rules([rule("all", when={})], {})
    assert outcome.matches
    assert outcome.reason == "it has no conditions"


# ---------------------------------------------------------------- what follows


def test_every_rule_that_matches_applies() -> None:
    rules = [
        rule("one", "ct_lungs"),
        rule("two", "cxr_quality", when={"Modality": "CR"}),
        rule("three", "cxr_quality"),
    ]
    assert orders(try_rules(rules, CT_CHEST)) == [
        Order("one", "ct_lungs", ("archive",), Priority.ROUTINE, "Modality is CT"),
        Order("three", "cxr_quality", ("archive",), Priority.ROUTINE, "Modality is CT"),
    ]


def test_an_engine_that_two_rules_ask_for_runs_once_for_both() -> None:
    rules = [
        rule("night", to=("archive",), priority=Priority.LOW),
        rule("study", to=("research", "archive"), priority=Priority.STAT, when={}),
        rule("again", to=("research",)),
    ]
    [order] = orders(try_rules(rules, CT_CHEST))
    assert order.rule == "night"  # in the name of the first
    assert order.reason == "Modality is CT"
    assert order.destinations == ("archive", "research")
    assert order.priority is Priority.STAT  # the more urgent


def test_a_rule_that_does_not_match_adds_nothing_to_another_ones_order() -> None:
    rules = [rule("one"), rule("two", to=("research",), when={"Modality": "MR"})]
    [order] = orders(try_rules(rules, CT_CHEST))
    assert order.destinations == ("archive",)


def test_several_engines_of_one_rule_keep_their_order() -> None:
    found = orders(try_rules([rule("both", "cxr_quality", "ct_lungs")], CT_CHEST))
    assert [order.engine for order in found] == ["cxr_quality", "ct_lungs"]


# ---------------------------------------------------------------- reading them


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rules.yaml"


def load(file: Path, text: str) -> tuple[Rule, ...]:
    file.write_text(text, "utf-8")
    return load_rules(file, ENGINES, DESTINATIONS)


def mistakes_in(file: Path, text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigError) as caught:
        load(file, text)
    assert {mistake.file for mistake in caught.value.mistakes} == {str(file)}
    return [(m.line, m.key, m.message) for m in caught.value.mistakes]


def test_a_rule_is_read_as_it_is_written(file: Path) -> None:
    text = """\
rules:
  - name: lungs
    when: {Modality: [CT, PT], SliceThickness: "<= 5", ViewPosition: absent}
    engines: ct_lungs
    destinations: [archive, research]
    priority: stat
  - name: everything
    when: {}
    engines: [ct_lungs, cxr_quality]
    destinations: archive
"""
    assert load(file, text) == (
        Rule(
            "lungs",
            (
                Condition("Modality", ("CT", "PT")),
                Condition("SliceThickness", ("<= 5",)),
                Condition("ViewPosition", ("absent",)),
            ),
            ("ct_lungs",),
            ("archive", "research"),
            Priority.STAT,
        ),
        Rule("everything", (), ("ct_lungs", "cxr_quality"), ("archive",), Priority.ROUTINE),
    )


def test_every_mistake_is_found_at_once_with_its_line_and_key(file: Path) -> None:
    text = """\
rules:
  - name: one
    when:
      Modalty: CT
      KVP: "< x"
    engines: [ct_lungs, ct_brain]
    destinations: [archiv]
    priority: urgent
    notes: none
  - when: {}
    engines: []
    destinations: archive
  - name: two
    engines: ct_lungs
    destinations: archive
  - name: one
    when: {}
    engines: ct_lungs
    destinations: archive
  - name: one
    when: {}
    engines: ct_lungs
    destinations: archive
  - just text
  - name: list
    when: [CT]
    engines: ct_lungs
    destinations: {archive: true}
more: 1
"""
    found = mistakes_in(file, text)
    assert {(line, key) for line, key, _ in found} == {
        (4, "rules.0.when.Modalty"),
        (5, "rules.0.when.KVP"),
        (6, "rules.0.engines.1"),
        (7, "rules.0.destinations.0"),
        (8, "rules.0.priority"),
        (9, "rules.0.notes"),
        (10, "rules.1"),
        (11, "rules.1.engines"),
        (13, "rules.2"),
        (20, "rules.4.name"),
        (24, "rules.5"),
        (26, "rules.6.when"),
        (28, "rules.6.destinations"),
        (29, "more"),
    }
    messages = {key: message for _, key, message in found}
    assert messages["rules.0.engines.1"] == (
        "there is no engine called ct_brain; there are: ct_lungs, cxr_quality"
    )
    assert messages["rules.0.destinations.0"] == (
        "there is no destination called archiv; there are: archive, research"
    )
    assert messages["rules.0.priority"] == "must be one of stat, high, routine, low"
    assert messages["rules.1"] == "needs a name"
    assert messages["rules.1.engines"] == "needs at least one engine"
    assert messages["rules.2"] == ("needs `when`; write `when: {}` for a rule that always matches")
    assert messages["rules.4.name"] == "another rule is called one"
    assert messages["more"] == "no such key"


@pytest.mark.parametrize("when", ["when:", "when: ~", "when: []", "when: ''", "when: 0"])
def test_a_when_with_nothing_after_it_is_no_rule_that_always_matches(when: str, file: Path) -> None:
    """Conditions that were all commented out would send every study to the engine."""
    text = f"rules:\n  - name: one\n    {when}\n    engines: ct_lungs\n    destinations: archive\n"
    [(line, key, _)] = mistakes_in(file, text)
    assert (line, key) == (3, "rules.0.when")


@pytest.mark.parametrize(
    "text", ["", "rules:\n", "rules: {}\n", "rule: []\n", "- name: one\n", "just text\n"]
)
def test_a_file_without_a_list_of_rules_says_so(text: str, file: Path) -> None:
    assert mistakes_in(file, text)[0] == (
        1,
        "",
        "must have the key `rules` with a list of rules",
    )


def test_no_rules_are_allowed(file: Path) -> None:
    assert load(file, "rules: []\n") == ()


def test_the_rules_of_this_repository_load_with_its_engines() -> None:
    engines = list_engines(ROOT / "engines")
    rules = load_rules(ROOT / "config" / "rules.yaml", engines, {"archive": None})
    assert [rule.name for rule in rules] == ["lungs-on-ct", "chest-x-ray", "brain-on-t1-mr"]
    assert {engine for rule in rules for engine in rule.engines} == set(engines)


@pytest.mark.parametrize("engines", ["[{ct_lungs: true}]", "[[ct_lungs]]", "[~]", "[1]"])
def test_an_engine_that_is_no_name_is_a_mistake(engines: str, file: Path) -> None:
    text = f"rules:\n  - name: one\n    when: {{}}\n    engines: {engines}\n"
    [(line, key, _)] = mistakes_in(file, text + "    destinations: archive\n")
    assert (line, key) == (4, "rules.0.engines.0")
