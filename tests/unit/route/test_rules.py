"""rules.yaml: read as it is written, and every mistake at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.errors import ConfigError
from dicom_node.infer.manifest import list_engines
from dicom_node.model import Priority
from dicom_node.node import words_of
from dicom_node.route.rules import Rule
from dicom_node.route.rules_file import EngineWords, Names, load_rules
from tests.unit.route.made import engine_rule

ROOT = Path(__file__).parents[3]
NAMES = Names({"ct_lungs": EngineWords(), "cxr_quality": EngineWords()}, ("archive", "research"))


# ---------------------------------------------------------------- reading them


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rules.yaml"


def load(file: Path, text: str) -> tuple[Rule, ...]:
    file.write_text(text, "utf-8")
    return load_rules(file, NAMES).rules


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
        engine_rule(
            "lungs",
            {"Modality": ["CT", "PT"], "SliceThickness": "<= 5", "ViewPosition": "absent"},
            "ct_lungs",
            to=("archive", "research"),
            priority=Priority.STAT,
        ),
        engine_rule("everything", {}, "ct_lungs", "cxr_quality"),
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
    assert messages["rules.0.priority"] == "must be one of stat, high, routine, low, requested"
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
    names = Names({name: words_of(manifest) for name, manifest in engines.items()}, ("archive",))
    rules = load_rules(ROOT / "config" / "rules.yaml", names)
    assert rules.names == ("lungs-on-ct", "chest-x-ray", "brain-on-t1-mr")
    assert {order.engine for rule in rules.rules for order in rule.engines} == set(engines)


@pytest.mark.parametrize("engines", ["[[ct_lungs]]", "[~]", "[1]"])
def test_an_engine_that_is_no_name_is_a_mistake(engines: str, file: Path) -> None:
    text = f"rules:\n  - name: one\n    when: {{}}\n    engines: {engines}\n"
    [(line, key, _)] = mistakes_in(file, text + "    destinations: archive\n")
    assert (line, key) == (4, "rules.0.engines.0")
