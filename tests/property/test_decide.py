"""Whatever the rules and whatever the study: the order of either decides nothing, none raises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dicom_node.model import InstanceKey
from dicom_node.route.decide import decide, decide_at_once
from dicom_node.route.decision import Decision, record_of
from dicom_node.route.facts import InstanceFacts, SeriesFacts, StudyFacts
from dicom_node.route.rules import EngineOrder, ForwardOrder, Level, Rule, RuleSet
from tests.unit.route.made import when

LEAVES: list[dict[str, Any]] = [
    {},
    {"Modality": "CT"},
    {"Modality": ["MR", "absent"]},
    {"SliceThickness": "<= 2"},
    {"SliceThickness": {"is": "2 .. 6", "missing": "parks"}},
    {"ImageType": "LOCALIZER"},
    {"instance_count": ">= 2"},
    {"orientation": "axial"},
    {"calling_ae_title": "SCANNER"},
    {"a.grade": "limited"},
    {"b.volume_ml": "< 2000"},
    {"b.outcome": {"is": "done", "missing": "holds"}},
]
CONDITIONS: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        inner.filter(bool).map(lambda one: {"not": one}),
        st.lists(inner, min_size=1, max_size=2).map(lambda several: {"any": several}),
        st.lists(inner, min_size=1, max_size=2).map(lambda several: {"all": several}),
    ),
    max_leaves=3,
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Modality": st.sampled_from([("CT",), ("MR",)]),
        "SliceThickness": st.sampled_from([("1",), ("5",), ("thin",)]),
        "ImageType": st.sampled_from([("ORIGINAL", "AXIAL"), ("DERIVED", "LOCALIZER")]),
        "ImageOrientationPatient": st.just(("1", "0", "0", "0", "1", "0")),
        "RequestedProcedurePriority": st.sampled_from([("STAT",), ("LOW",)]),
    },
)
FINDINGS = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.fixed_dictionaries(
        {"outcome": st.just(("done",))},
        optional={
            "grade": st.sampled_from([("limited",), ("diagnostic",)]),
            "volume_ml": st.sampled_from([("1500",), ("2500",), ("much",)]),
        },
    ),
    max_size=2,
)


@st.composite
def a_rule(draw: st.DrawFn, name: str) -> Rule:
    """Return a rule as rules.yaml lets one be."""
    conditions = when(draw(CONDITIONS))
    waits = any("." in keyword for keyword in conditions.keywords())
    priority = draw(st.sampled_from([None, "STAT", "ROUTINE"]))
    rule = Rule(name, conditions)
    if priority is None:
        rule = replace(rule, priority=None)
    does = ["run", "forward", "notify"] + (["stop", "hold"] if waits else ["drop", "drop", "hold"])
    doing = draw(st.sampled_from(does))
    if doing == "run":  # `c` waits for the others, and none for it: no circle
        engine = "c" if waits else draw(st.sampled_from(["a", "b"]))
        parameters = draw(st.sampled_from([{}, {"threshold": 0.5}]))
        order = EngineOrder(engine, parameters)
        to = draw(st.sampled_from([("archive",), ("research", "archive")]))
        return replace(rule, engines=(order,), destinations=to)
    if doing == "stop":
        return replace(rule, stop=True)
    levels = [Level.SERIES, Level.STUDY]
    if doing in ("forward", "drop") and not waits:
        levels.append(Level.INSTANCE)
    rule = replace(rule, level=draw(st.sampled_from(levels)))
    if doing == "forward":
        once = rule.level is Level.INSTANCE and draw(st.booleans())
        to = draw(st.sampled_from([("archive",), ("research", "archive")]))
        profile = draw(st.sampled_from(["", "anonymous"]))
        return replace(rule, forward=ForwardOrder(to, profile, once))
    if doing == "drop":
        return replace(rule, drop="because")
    return replace(rule, hold="because") if doing == "hold" else replace(rule, notify="because")


@st.composite
def some_rules(draw: st.DrawFn) -> list[Rule]:
    return [draw(a_rule(f"rule-{number}")) for number in range(draw(st.integers(1, 7)))]


@st.composite
def a_study(draw: st.DrawFn) -> StudyFacts:
    series = []
    for number in range(draw(st.integers(1, 3))):
        instances = tuple(
            InstanceFacts(f"1.2.{number}.{i}", f"d{i}", header, "SCANNER", "NODE", "", 1000.0 + i)
            for i, header in enumerate(draw(st.lists(HEADERS, min_size=1, max_size=4)))
        )
        series.append(SeriesFacts(f"1.2.{number}", instances, draw(FINDINGS)))
    return StudyFacts("1.2", tuple(series), released=draw(st.booleans()))


def essence(decision: Decision) -> dict[str, Any]:
    """Return what follows, without the names of rules and the parameters of engines."""
    dropped = sorted(key for drop in decision.drops for key in drop.instances)
    return {
        "orders": sorted(
            (o.series_instance_uid, o.engine, sorted(o.destinations), o.priority)
            for o in decision.orders
        ),
        "forwards": sorted(
            (f.destination, f.profile, f.priority, f.instances) for f in decision.forwards
        ),
        "dropped": dropped,
        "parked": (bool(decision.problems), bool(decision.holds)),
        "said": {(o.rule.name, o.answer) for o in decision.outcomes},
        "notices": set(decision.notices),
        "waits": set(decision.waits),
        "problems": set(decision.problems),
        "stops": set(decision.stops),
    }


def shuffled(facts: StudyFacts, random: Random) -> StudyFacts:
    series = [
        replace(one, instances=_in_another_order(one.instances, random)) for one in facts.series
    ]
    return replace(facts, series=_in_another_order(series, random))


def _in_another_order(values: Sequence[Any], random: Random) -> tuple[Any, ...]:
    return tuple(random.sample(values, len(values)))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(rules=some_rules(), facts=a_study(), random=st.randoms(use_true_random=False))
def test_the_order_of_rules_decides_names_and_parameters_alone(
    rules: list[Rule], facts: StudyFacts, random: Random
) -> None:
    before = decide(RuleSet(tuple(rules)), facts)
    after = decide(RuleSet(_in_another_order(rules, random)), facts)
    assert essence(before) == essence(after)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(rules=some_rules(), facts=a_study(), random=st.randoms(use_true_random=False))
def test_the_order_of_arrival_decides_nothing(
    rules: list[Rule], facts: StudyFacts, random: Random
) -> None:
    rule_set = RuleSet(tuple(rules))
    before, after = decide(rule_set, facts), decide(rule_set, shuffled(facts, random))
    assert before == after
    assert (before.reason, record_of(before)) == (after.reason, record_of(after))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(rules=some_rules(), facts=a_study())
def test_what_is_dropped_goes_nowhere_and_all_of_it_is_noted(
    rules: list[Rule], facts: StudyFacts
) -> None:
    decision = decide(RuleSet(tuple(rules)), facts)
    dropped = [key for drop in decision.drops for key in drop.instances]
    assert len(dropped) == len(set(dropped))
    left = {
        InstanceKey(series.series_instance_uid, one.sop_instance_uid, one.digest)
        for series in facts.series
        for one in series.instances
    } - set(dropped)
    for forward in decision.forwards:
        assert left.issuperset(forward.instances)
        assert forward.instances
    assert {o.series_instance_uid for o in decision.orders} <= {k.series_instance_uid for k in left}
    assert all(drop.instances and drop.reason for drop in decision.drops)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(rules=some_rules(), facts=a_study())
def test_a_parked_study_orders_nothing_and_every_decision_has_a_reason(
    rules: list[Rule], facts: StudyFacts
) -> None:
    decision = decide(RuleSet(tuple(rules)), facts)
    assert decision.reason
    if decision.is_parked:
        left = (decision.orders, decision.forwards, decision.waits, decision.stops)
        assert left == ((), (), (), ())
    if facts.released:
        assert decision.holds == ()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(rules=some_rules(), facts=a_study())
def test_what_is_waited_for_comes_sooner_or_later(rules: list[Rule], facts: StudyFacts) -> None:
    """Engines that find nothing in particular: in a few rounds nobody waits any more."""
    rule_set = RuleSet(tuple(rules))
    for _ in range(4):
        decision = decide(rule_set, facts)
        if not decision.waits:
            break
        waiting = {(w.series_instance_uid, w.engine) for w in decision.waits}
        ends = {(o.series_instance_uid, o.engine) for o in decision.orders}
        new = ends & waiting - {
            (s.series_instance_uid, e) for s in facts.series for e in s.findings
        }
        assert new, decision.reason
        series = [
            replace(
                one,
                findings={
                    **one.findings,
                    **{
                        e: {"outcome": ("done",)}
                        for uid, e in new
                        if uid == one.series_instance_uid
                    },
                },
            )
            for one in facts.series
        ]
        facts = replace(facts, series=tuple(series))
    assert not decide(rule_set, facts).waits


@settings(max_examples=100, deadline=None, derandomize=True)
@given(rules=some_rules(), facts=a_study())
def test_what_goes_at_once_is_among_what_goes_when_it_is_complete(
    rules: list[Rule], facts: StudyFacts
) -> None:
    """Unless the study or the series is dropped, or a person has to look at it."""
    assume(not any(rule.drop and rule.level is not Level.INSTANCE for rule in rules))
    rule_set = RuleSet(tuple(rules))
    at_once = decide_at_once(
        rule_set, [(s.series_instance_uid, one) for s in facts.series for one in s.instances]
    )
    decision = decide(rule_set, facts)
    assume(not decision.is_parked)
    later = {(f.destination, f.profile, key) for f in decision.forwards for key in f.instances}
    now = {(f.destination, f.profile, key) for f in at_once.forwards for key in f.instances}
    assert now <= later
