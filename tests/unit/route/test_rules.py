"""rules.yaml: read as it is written, and every mistake at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dicom_node.conditions import Answer
from dicom_node.errors import ConfigError
from dicom_node.infer.engine_folders import list_engines
from dicom_node.model import Priority
from dicom_node.plan import words_of
from dicom_node.route.rules import EngineOrder, ForwardOrder, Level, Rule
from dicom_node.route.rules_file import EngineWords, Names, ParameterRange, load_rules
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
    used = {order.engine for rule in rules.rules for order in rule.engines}
    assert set(engines) - used == {"ct_quality"}  # it knows two patients: who wants it says so
    assert used < set(engines)


@pytest.mark.parametrize("engines", ["[[ct_lungs]]", "[~]", "[1]"])
def test_an_engine_that_is_no_name_is_a_mistake(engines: str, file: Path) -> None:
    text = f"rules:\n  - name: one\n    when: {{}}\n    engines: {engines}\n"
    [(line, key, _)] = mistakes_in(file, text + "    destinations: archive\n")
    assert (line, key) == (4, "rules.0.engines.0")


# ---------------------------------------------------------------- every mistake once

WORDS = Names(
    {
        "ct_lungs": EngineWords({"volume_min_ml": ParameterRange(0, 1000)}, frozenset({"outcome"})),
        "cxr_quality": EngineWords({}, frozenset({"outcome", "grade"})),
        "old": EngineWords(),
    },
    ("archive", "research"),
)
RUNS = {"engines": ["ct_lungs"], "destinations": ["archive"]}
ON_FINDING = {"cxr_quality.grade": "limited"}


def found_in(file: Path, *rules: object) -> list[tuple[str, str]]:
    """Return key, without the number of the rule, and message of each mistake."""
    written = {"profiles": {"anonymous": {"deidentify": {}}}, "rules": list(rules)}
    file.write_text(yaml.safe_dump(written), "utf-8")
    try:
        load_rules(file, WORDS)
    except ConfigError as error:
        return [(mistake.key.partition(".0")[2][1:], mistake.message) for mistake in error.mistakes]
    return []


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        ({"level": "image", **RUNS}, "level", "must be one of instance, series, study"),
        ({"level": ["series"], **RUNS}, "level", "must be one of"),
        ({}, "", "does nothing; a rule has one of engines, forward"),
        ({"stop": False}, "", "does nothing"),
        (
            {"engines": {"ct_lungs": {}}, "destinations": "archive"},
            "engines",
            "at least one engine",
        ),
        ({"engines": "ct_lungs"}, "destinations", "needs at least one destination"),
        ({"notify": "x", "destinations": "archive"}, "destinations", "go by `forward`"),
        (
            RUNS | {"engines": [{"ct_lungs": {"threshold": 1}}]},
            "engines.0.ct_lungs.threshold",
            "has no such parameter; it has: volume_min_ml",
        ),
        (
            RUNS | {"engines": [{"cxr_quality": {"threshold": 1}}]},
            "engines.0.cxr_quality.threshold",
            "it has: none",
        ),
        (
            RUNS | {"engines": [{"ct_lungs": {"volume_min_ml": 1001}}]},
            "engines.0.ct_lungs.volume_min_ml",
            "must be between 0 and 1000",
        ),
        (
            RUNS | {"engines": [{"ct_lungs": {"volume_min_ml": float("nan")}}]},
            "engines.0.ct_lungs.volume_min_ml",
            "must be between",
        ),
        *(
            (
                RUNS | {"engines": [{"ct_lungs": {"volume_min_ml": value}}]},
                "engines.0.ct_lungs.volume_min_ml",
                "must be a number",
            )
            for value in (True, "5", None, [5])
        ),
        *(
            (RUNS | {"engines": [{"ct_lungs": value}]}, "engines.0.ct_lungs", "must be a mapping")
            for value in (0, False, ["volume_min_ml"], "volume_min_ml")
        ),
        ({"forward": []}, "forward", "needs at least one destination"),
        ({"forward": None}, "forward", "needs at least one destination"),
        ({"forward": "disk"}, "forward.0", "there is no destination called disk"),
        ({"forward": {}}, "forward.to", "needs at least one destination"),
        ({"forward": {"to": "archive", "by": "x"}}, "forward.by", "no such key; forward has to"),
        (
            {"forward": {"to": "archive", "profile": "secret"}},
            "forward.profile",
            "there is no profile called secret; there are: anonymous",
        ),
        ({"forward": {"to": "archive", "at": "noon"}}, "forward.at", "must be complete or once"),
        (
            {"forward": {"to": "archive", "at": "once"}},
            "forward.at",
            "once needs `level: instance`",
        ),
        ({"drop": ""}, "drop", "needs a text that says why"),
        ({"hold": True}, "hold", "needs a text that says why"),
        ({"notify": " "}, "notify", "needs a text that says why"),
        ({"stop": "yes", "when": ON_FINDING}, "stop", "must be true or false"),
        ({"stop": True}, "stop", "stop needs a condition on a finding"),
        ({"priority": 1, **RUNS}, "priority", "must be one of stat, high, routine, low, requested"),
        ({"level": "study", **RUNS}, "engines", "engines needs `level: series`"),
        (
            {"level": "study", "stop": True, "when": ON_FINDING},
            "stop",
            "stop needs `level: series`",
        ),
        (
            {"level": "instance", "hold": "x"},
            "hold",
            "hold needs `level: series` or `level: study`",
        ),
        (
            {"level": "instance", "notify": "x", "when": ON_FINDING},
            "when",
            "an engine finds something on a series, not an instance",
        ),
        *(
            (
                {"level": "instance", "notify": "x", "when": {keyword: value}},
                f"when.{keyword}",
                f"an instance has no {keyword} of its own",
            )
            for keyword, value in (("slice_count", 1), ("series_count", 1), ("completeness", "x"))
        ),
        ({"drop": "x", "notify": "y"}, "drop", "can have nothing else done to it"),
        ({"drop": "x", "when": ON_FINDING}, "drop", "what an engine has run on is not dropped"),
        (
            {"notify": "x", "when": {"brain.outcome": "done"}},
            "when.brain.outcome",
            "there is no engine called brain",
        ),
        (
            {"notify": "x", "when": {"any": [{"ct_lungs.volume_ml.heart": "> 1"}]}},
            "when.ct_lungs.volume_ml.heart",
            "ct_lungs finds no volume_ml.heart; it has outcome",
        ),
        (
            {"notify": "x", "when": {"ct_lungs.colour": "red"}},
            "when.ct_lungs.colour",
            "a finding has",
        ),
    ],
)
def test_what_does_not_fit_is_a_mistake_at_its_key(
    changes: dict[str, object], key: str, message: str, file: Path
) -> None:
    [(where, said)] = found_in(file, {"name": "one", "when": {}, **changes})
    assert where == key
    assert message in said


@pytest.mark.parametrize(
    "rule",
    [
        {"forward": "archive"},
        {"forward": ["archive", "research"], "level": "study"},
        {"forward": {"to": "archive", "profile": "anonymous"}},
        {"forward": {"to": ["archive"], "at": "once"}, "level": "instance"},
        {"forward": {"to": "archive", "at": "complete"}},
        {"drop": "of no use", "level": "instance", "priority": "low"},
        {"hold": "look", "notify": "look", "level": "study"},
        {"stop": True, "notify": "repeat it", "when": ON_FINDING},
        {**RUNS, "engines": ["cxr_quality", {"ct_lungs": {"volume_min_ml": 5}}], "stop": False},
        {**RUNS, "engines": [{"ct_lungs": None}], "priority": "requested"},
        {"notify": "x", "when": {"old.probability.anything": "> 0.5"}},
        {"notify": "x", "when": {"orientation": "axial"}, "level": "instance"},
    ],
)
def test_what_fits_is_none(rule: dict[str, object], file: Path) -> None:
    assert found_in(file, {"name": "one", "when": {}, **rule}) == []


def test_parameters_forwards_and_levels_are_read_as_they_are_written(file: Path) -> None:
    file.write_text(
        """\
profiles: {anonymous: {deidentify: {}}}
rules:
  - name: run
    when: {StudyTime: 22:00}
    engines: [{ct_lungs: {volume_min_ml: 5}}, cxr_quality]
    destinations: archive
    priority: requested
  - name: send
    level: instance
    when: {}
    forward: {to: research, profile: anonymous, at: once}
""",
        "utf-8",
    )
    run, send = load_rules(file, WORDS).rules
    assert run.engines == (
        EngineOrder("ct_lungs", {"volume_min_ml": 5.0}),
        EngineOrder("cxr_quality"),
    )
    assert run.priority is None
    assert run.when.check({"StudyTime": ("220000",)}).answer is Answer.YES
    assert send.level is Level.INSTANCE
    assert send.forward == ForwardOrder(("research",), "anonymous", at_once=True)


def test_engines_that_would_wait_for_one_another_are_a_mistake(file: Path) -> None:
    [(_, said)] = found_in(
        file,
        {"name": "a", "when": {"cxr_quality.outcome": "done"}, **RUNS},
        {
            "name": "b",
            "when": {"not": {"ct_lungs.outcome": "done"}},
            "engines": ["cxr_quality"],
            "destinations": ["archive"],
        },
    )
    assert said.startswith("engines would wait for one another: ")
    [(_, said)] = found_in(file, {"name": "a", "when": {"ct_lungs.outcome": "done"}, **RUNS})
    assert said == "engines would wait for one another: ct_lungs -> ct_lungs"
