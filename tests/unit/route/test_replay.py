"""What a change of the rules would have done: counted for rules, engines and destinations."""

from __future__ import annotations

from dicom_node.route.replay import Load, replay
from dicom_node.route.rules import ForwardOrder, Rule, RuleSet
from tests.unit.route.made import engine_rule, series, study, when

STUDIES = [
    study(series(1, 3, Modality="CT"), series(2, 2, Modality="MR")),
    study(series(3, 5, Modality="CT", SliceThickness="1")),
]
CT = engine_rule("ct", {"Modality": "CT"}, "lungs")


def test_the_same_rules_change_nothing() -> None:
    found = replay(RuleSet((CT,)), RuleSet((CT,)), STUDIES)
    assert (found.studies, found.instances, found.changed) == (2, 10, [])
    assert (found.rules["ct"].before, found.rules["ct"].now) == (2, 2)
    assert found.engines == {"lungs": Load(2, 2)}
    assert found.destinations == {"archive": Load(2, 2)}


def test_what_a_rule_gains_and_loses_is_named() -> None:
    one = [study(series(1, 3, Modality="CT", SliceThickness="5"))]
    thin = engine_rule("ct", {"Modality": "CT", "SliceThickness": "<= 1"}, "lungs")
    lost = replay(RuleSet((CT,)), RuleSet((thin,)), one)
    assert (lost.rules["ct"].lost, lost.rules["ct"].gained) == (["1.2"], [])
    assert lost.changed == ["1.2"]
    assert lost.engines == {"lungs": Load(1, 0)}
    gained = replay(RuleSet((thin,)), RuleSet((CT,)), one)
    assert (gained.rules["ct"].lost, gained.rules["ct"].gained) == ([], ["1.2"])


def test_a_rule_that_is_new_or_gone_is_counted_too() -> None:
    forward = Rule("away", when({}), forward=ForwardOrder(("research",)))
    found = replay(RuleSet((CT,)), RuleSet((forward,)), STUDIES[:1])
    assert (found.rules["ct"].before, found.rules["ct"].now) == (1, 0)
    assert (found.rules["away"].before, found.rules["away"].now) == (0, 1)
    assert found.destinations == {"archive": Load(1, 0), "research": Load(0, 5)}


def test_what_is_dropped_and_parked_is_counted() -> None:
    drop = Rule("drop", when({"Modality": "MR"}), drop="of no use")
    hold = Rule("hold", when({"Modality": "CT"}), hold="look at it")
    found = replay(RuleSet(), RuleSet((drop, hold)), STUDIES[:1])
    assert found.dropped == Load(0, 2)
    assert found.parked == Load(0, 1)
