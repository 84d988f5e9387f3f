"""What follows from rules: precedence, joined orders, follow-on rules, levels; and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from dicom_node.conditions import Answer
from dicom_node.model import Attributes, InstanceKey, Priority
from dicom_node.route.decide import decide, decide_at_once
from dicom_node.route.decision import Decision
from dicom_node.route.facts import SeriesFacts, StudyFacts
from dicom_node.route.rules import EngineOrder, ForwardOrder, Level, Rule, RuleSet
from tests.unit.route.made import engine_rule, series, study, when

LUNGS = engine_rule("lungs", {"Modality": "CT"}, "ct_lungs")


def decided(facts: StudyFacts, *rules: Rule) -> Decision:
    return decide(RuleSet(rules), facts)


def drop(name: str, written: Mapping[str, object], level: Level = Level.SERIES) -> Rule:
    return Rule(name, when(written), level, drop="of no use")


def forward(
    name: str,
    written: Mapping[str, object],
    *to: str,
    level: Level = Level.SERIES,
    profile: str = "",
    priority: Priority | None = Priority.ROUTINE,
) -> Rule:
    order = ForwardOrder(to or ("research",), profile)
    return Rule(name, when(written), level, forward=order, priority=priority)


def at_once(name: str, written: Mapping[str, object], *to: str) -> Rule:
    order = ForwardOrder(to or ("research",), at_once=True)
    return Rule(name, when(written), Level.INSTANCE, forward=order)


def found(one: SeriesFacts, **findings: Attributes) -> SeriesFacts:
    """Return a series on which engines have come to their end."""
    ends = {engine: {"outcome": ("done",), **facts} for engine, facts in findings.items()}
    return replace(one, findings=ends)


def keys(one: SeriesFacts, *numbers: int) -> tuple[InstanceKey, ...]:
    """Return the keys of the n-th instances of a series; of all if none is named."""
    chosen = [one.instances[n - 1] for n in numbers] if numbers else one.instances
    return tuple(InstanceKey(one.series_instance_uid, i.sop_instance_uid, i.digest) for i in chosen)


def mixed(number: int, *headers: dict[str, str]) -> SeriesFacts:
    """Return a series whose instances have different headers."""
    one = series(number, len(headers))
    instances = tuple(
        replace(instance, header={**instance.header, **{k: (v,) for k, v in header.items()}})
        for instance, header in zip(one.instances, headers, strict=True)
    )
    return replace(one, instances=instances)


def engines(decision: Decision) -> list[tuple[str, str]]:
    return [(order.series_instance_uid, order.engine) for order in decision.orders]


# ---------------------------------------------------------------- run and forward


def test_each_series_that_a_rule_matches_gets_an_order_with_its_reason() -> None:
    decision = decided(study(series(1), series(2, Modality="MR")), LUNGS)
    [order] = decision.orders
    assert (order.series_instance_uid, order.engine) == ("1.2.1", "ct_lungs")
    assert (order.rule, order.reason) == ("lungs", "Modality is CT")
    assert order.destinations == ("archive",)
    assert decision.reason == "lungs -> ct_lungs"
    assert [(o.subject, o.answer) for o in decision.outcomes] == [
        ("1.2.1", Answer.YES),
        ("1.2.2", Answer.NO),
    ]


def test_two_rules_that_ask_for_one_engine_run_it_once_for_both() -> None:
    first = engine_rule("first", {}, "e", to=("archive",))
    second = Rule(
        "second",
        when({}),
        engines=(EngineOrder("e", {"threshold": 0.3}),),
        destinations=("research", "archive"),
        priority=Priority.STAT,
    )
    third = replace(second, name="third", engines=(EngineOrder("e", {"threshold": 0.9}),))
    [order] = decided(study(series()), first, second, third).orders
    assert order.rule == "first"
    assert order.parameters == {"threshold": 0.3}  # of the first that names any
    assert order.destinations == ("archive", "research")
    assert order.priority is Priority.STAT


@pytest.mark.parametrize(
    ("requested", "priority"),
    [
        ("STAT", Priority.STAT),
        (" stat ", Priority.STAT),
        ("HIGH", Priority.HIGH),
        ("MEDIUM", Priority.ROUTINE),
        ("LOW", Priority.LOW),
        ("AT ONCE", Priority.ROUTINE),
        ("", Priority.ROUTINE),
    ],
)
def test_a_priority_can_be_that_of_the_request(requested: str, priority: Priority) -> None:
    """(0040,1003) Requested Procedure Priority."""
    rule = engine_rule("rule", {}, "e", priority=None)
    assert RuleSet((rule,)).keywords == {"RequestedProcedurePriority"}
    [order] = decided(study(series(RequestedProcedurePriority=requested)), rule).orders
    assert order.priority is priority


def test_instances_that_were_requested_differently_make_the_forward_as_urgent_as_the_first() -> (
    None
):
    rule = forward("f", {}, level=Level.INSTANCE, priority=None)
    urgent = mixed(1, {}, {"RequestedProcedurePriority": "STAT"})
    [made] = decided(study(urgent), rule).forwards
    assert (made.priority, made.instances) == (Priority.STAT, keys(urgent))


def test_forwards_to_one_destination_by_one_profile_are_one() -> None:
    one, other = series(1), series(2, Modality="MR")
    decision = decided(
        study(one, other),
        forward("ct", {"Modality": "CT"}, "research", "archive"),
        forward("all", {}, "research", level=Level.STUDY, priority=Priority.HIGH),
        forward("hidden", {"Modality": "CT"}, "research", profile="anonymous"),
        forward("first-ones", {}, "archive", level=Level.INSTANCE),
    )
    assert [(f.destination, f.profile, f.rule, f.priority) for f in decision.forwards] == [
        ("archive", "", "ct", Priority.ROUTINE),
        ("research", "", "ct", Priority.HIGH),
        ("research", "anonymous", "hidden", Priority.ROUTINE),
    ]
    assert [f.instances for f in decision.forwards] == [
        keys(one) + keys(other),
        keys(one) + keys(other),
        keys(one),
    ]


def test_a_forward_has_the_name_of_the_first_rule_whichever_series_comes_first() -> None:
    """By the order of series the second rule would be asked first, on the first series."""
    rules = (forward("mr", {"Modality": "MR"}), forward("ct", {"Modality": "CT"}))
    [made] = decided(study(series(1), series(2, Modality="MR")), *rules).forwards
    assert made.rule == "mr"


def test_a_study_that_no_rule_matches_says_why() -> None:
    decision = decided(study(series(1, Modality="MR")), LUNGS)
    assert decision.reason == "no rule matched (lungs: Modality is MR, not CT)"
    assert not decision.is_parked


def test_a_thousand_different_reasons_are_told_by_a_few() -> None:
    rule = forward("f", {"InstanceNumber": "> 5000"}, level=Level.INSTANCE)
    many = mixed(1, *[{"InstanceNumber": str(number)} for number in range(1000)])
    reason = decided(study(many), rule).reason
    assert reason.endswith(" | and 988 more)")
    assert len(reason) < 1000


def test_what_cannot_be_parsed_is_named_and_the_rest_decides() -> None:
    broken = replace(series(1).instances[0], header={}, unreadable=True)
    one = replace(series(1), instances=(broken, *series(1).instances[1:]))
    decision = decided(study(one), LUNGS)
    assert decision.unreadable == ("1.2.1.1",)
    assert decision.reason == "lungs -> ct_lungs; 1 instances cannot be parsed"


# ---------------------------------------------------------------- drop comes first


def test_a_dropped_study_takes_no_part_in_anything() -> None:
    one = series()
    decision = decided(
        study(one),
        LUNGS,
        forward("f", {}, level=Level.STUDY),
        Rule("h", when({}), hold="wait"),
        Rule("n", when({}), notify="look"),
        drop("d", {}, Level.STUDY),
    )
    [dropped] = decision.drops
    assert (dropped.rule, dropped.reason) == ("d", "of no use")
    assert dropped.instances == keys(one)
    assert (decision.orders, decision.forwards) == ((), ())
    assert (decision.holds, decision.notices) == ((), ())
    assert decision.reason == "dropped by d: 3 instances"


def test_a_dropped_series_is_as_if_it_had_not_come() -> None:
    kept, gone = series(1), series(2, Modality="SR")
    decision = decided(
        study(kept, gone),
        drop("sr", {"Modality": "SR"}),
        forward("all", {}, level=Level.STUDY),
        engine_rule("alone", {"series_count": 1}, "e"),
    )
    assert [f.instances for f in decision.forwards] == [keys(kept)]
    assert engines(decision) == [("1.2.1", "e")]
    assert [(d.rule, d.instances) for d in decision.drops] == [("sr", keys(gone))]


def test_a_dropped_instance_is_not_counted_and_not_sent() -> None:
    one = mixed(1, {"ImageType": "LOCALIZER"}, {}, {}, {"ImageType": "LOCALIZER"})
    decision = decided(
        study(one),
        drop("scouts", {"ImageType": "LOCALIZER"}, Level.INSTANCE),
        engine_rule("two", {"instance_count": 2}, "e"),
        forward("all", {}),
    )
    assert [(d.rule, d.instances) for d in decision.drops] == [("scouts", keys(one, 1, 4))]
    assert [f.instances for f in decision.forwards] == [keys(one, 2, 3)]
    assert engines(decision) == [("1.2.1", "e")]


def test_a_series_of_which_every_instance_is_dropped_is_gone() -> None:
    one = series(1)
    decision = decided(study(one), LUNGS, drop("d", {"Modality": "CT"}, Level.INSTANCE))
    assert decision.orders == ()
    assert [outcome.rule.name for outcome in decision.outcomes] == ["d"]
    assert decision.drops[0].instances == keys(one)


def test_a_rule_that_drops_in_two_series_is_one_drop() -> None:
    one, other = series(1), series(2)
    [dropped] = decided(study(one, other), drop("d", {}, Level.INSTANCE)).drops
    assert dropped.instances == keys(one) + keys(other)


def test_an_instance_that_two_rules_drop_is_dropped_once_by_the_first() -> None:
    one = mixed(1, {"KVP": "80"}, {"KVP": "120"})
    decision = decided(
        study(one),
        drop("low", {"KVP": "< 100"}, Level.INSTANCE),
        drop("all", {}, Level.INSTANCE),
    )
    assert [(d.rule, d.instances) for d in decision.drops] == [
        ("low", keys(one, 1)),
        ("all", keys(one, 2)),
    ]


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("first", ["drops", "cannot be judged"])
def test_what_is_dropped_no_rule_need_be_able_to_judge_whichever_stands_first(
    level: Level, first: str
) -> None:
    rules = [drop("d", {"Modality": "CT"}, level), drop("unjudged", {"KVP": "> 1"}, level)]
    if first != "drops":
        rules.reverse()
    decision = decided(study(series(1, KVP="high"), series(2, Modality="CT")), *rules)
    assert decision.problems == ()
    assert [d.rule for d in decision.drops] == ["d"]


@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES])
def test_a_drop_that_cannot_be_judged_matters_only_where_something_is_left(level: Level) -> None:
    unjudged, instances = drop("u", {"KVP": "> 1"}, level), drop("i", {}, Level.INSTANCE)
    assert decided(study(series(1, KVP="high")), unjudged, instances).problems == ()
    some = drop("i", {"InstanceNumber": 1}, Level.INSTANCE)
    one = mixed(1, {"KVP": "high", "InstanceNumber": "1"}, {"KVP": "high"})
    [problem] = decided(study(one), unjudged, some).problems
    assert problem.rule == "u"


# ---------------------------------------------------------------- then error, then hold


@pytest.mark.parametrize("level", Level)
def test_a_rule_that_cannot_be_judged_parks_the_study_and_nothing_is_done(level: Level) -> None:
    unjudged = forward("thin", {"SliceThickness": "<= 2"}, level=level)
    decision = decided(study(series(1, SliceThickness="thin"), series(2)), LUNGS, unjudged)
    assert decision.is_parked
    assert (decision.orders, decision.forwards) == ((), ())
    said = "SliceThickness is thin, which is no number; wanted <= 2"
    assert [(p.rule, p.text) for p in decision.problems] == [("thin", said)]
    assert decision.reason == f"thin cannot be judged: {said}"


def test_a_problem_of_what_is_dropped_is_none() -> None:
    unjudged = engine_rule("thin", {"SliceThickness": "<= 2"}, "e")
    facts = study(series(1, SliceThickness="thin", Modality="SR"), series(2))
    decision = decided(facts, unjudged, LUNGS, drop("sr", {"Modality": "SR"}))
    assert engines(decision) == [("1.2.2", "ct_lungs")]


def test_a_held_study_waits_and_a_released_one_goes_on() -> None:
    hold = Rule("first-look", when({"Modality": "CT"}), hold="somebody looks at it first")
    notify = Rule("n", when({}), notify="tell the ward")
    facts = study(series())
    held = decided(facts, LUNGS, hold, notify, forward("f", {}))
    assert held.is_parked
    assert (held.orders, held.forwards) == ((), ())
    assert [n.text for n in held.notices] == ["tell the ward"]  # it changes nothing to be told
    assert held.reason == "held by first-look: somebody looks at it first"
    released = decided(replace(facts, released=True), LUNGS, hold, forward("f", {}))
    assert not released.is_parked
    assert engines(released) == [("1.2.1", "ct_lungs")]
    assert len(released.forwards) == 1


def test_a_person_who_releases_a_study_does_not_make_it_judgeable() -> None:
    hold = Rule("h", when({}), hold="wait")
    unjudged = engine_rule("thin", {"SliceThickness": "<= 2"}, "e")
    facts = replace(study(series(SliceThickness="thin")), released=True)
    decision = decided(facts, hold, unjudged)
    assert decision.is_parked
    assert decision.reason.startswith("thin cannot be judged")


def test_a_study_is_told_of_once_whatever_the_number_of_its_instances() -> None:
    rule = Rule("n", when({}), Level.INSTANCE, notify="look")
    decision = decided(study(series(1, 300)), rule)
    assert [(n.rule, n.subject, n.text) for n in decision.notices] == [("n", "1.2.1", "look")]


# ---------------------------------------------------------------- levels


def test_a_study_has_every_value_that_one_of_its_series_has() -> None:
    rule = forward("both", {"all": [{"Modality": "CT"}, {"Modality": "PT"}]}, level=Level.STUDY)
    assert decided(study(series(1), series(2, Modality="PT")), rule).forwards
    assert not decided(study(series(1), series(2)), rule).forwards


def test_counts_are_those_of_the_level() -> None:
    facts = replace(study(series(1, 2), series(2, 3)), completeness="probable")
    for level, count in ((Level.STUDY, 5), (Level.INSTANCE, 1)):
        assert decided(facts, forward("f", {"instance_count": count}, level=level)).forwards
    of_series = decided(facts, forward("f", {"instance_count": 3, "series_count": 2}))
    assert [len(f.instances) for f in of_series.forwards] == [3]
    assert decided(facts, forward("f", {"completeness": "probable"})).forwards


def test_instances_are_forwarded_each_by_its_own_header() -> None:
    one = mixed(1, {"KVP": "80"}, {"KVP": "120"}, {"KVP": "80"})
    decision = decided(study(one), forward("low", {"KVP": "< 100"}, level=Level.INSTANCE))
    assert [f.instances for f in decision.forwards] == [keys(one, 1, 3)]
    assert [(o.subject, o.count, o.answer) for o in decision.outcomes] == [
        ("1.2.1.1", 2, Answer.YES),
        ("1.2.1.2", 1, Answer.NO),
    ]


# ---------------------------------------------------------------- at once


def test_an_instance_goes_at_once_if_its_header_says_so() -> None:
    one = mixed(1, {"KVP": "80"}, {"KVP": "120"})
    rules = RuleSet((at_once("low", {"KVP": "< 100"}), forward("later", {})))
    assert rules.forwards_at_once
    decision = decide_at_once(rules, [("1.2.1", instance) for instance in one.instances])
    assert [(f.rule, f.instances) for f in decision.forwards] == [("low", keys(one, 1))]


def test_what_a_rule_on_instances_drops_or_may_drop_does_not_go_at_once() -> None:
    one = mixed(1, {"KVP": "80"}, {"KVP": "high"}, {"KVP": "120"})
    rules = RuleSet((drop("low", {"KVP": "< 100"}, Level.INSTANCE), at_once("all", {})))
    decision = decide_at_once(rules, [("1.2.1", instance) for instance in one.instances])
    assert [f.instances for f in decision.forwards] == [keys(one, 3)]


def test_what_cannot_be_judged_does_not_go_at_once_and_is_told() -> None:
    one = series(1, KVP="high")
    rules = RuleSet((at_once("low", {"KVP": "< 100"}),))
    decision = decide_at_once(rules, [("1.2.1", instance) for instance in one.instances])
    assert decision.forwards == ()
    assert [p.rule for p in decision.problems] == ["low"]


def test_what_went_at_once_is_chosen_again_when_the_study_is_complete() -> None:
    one = series(1)
    [made] = decided(study(one), at_once("all", {})).forwards
    assert made.instances == keys(one)


# ---------------------------------------------------------------- follow-on rules

QUALITY = engine_rule("quality", {"Modality": "CT"}, "quality")
BAD = {"quality.grade": "non-diagnostic"}


def test_a_rule_on_a_finding_waits_for_its_engine() -> None:
    rule = Rule("tell", when(BAD), notify="repeat it")
    decision = decided(study(series()), QUALITY, rule)
    assert engines(decision) == [("1.2.1", "quality")]
    assert [(w.series_instance_uid, w.engine, w.rule) for w in decision.waits] == [
        ("1.2.1", "quality", "tell")
    ]
    assert decision.notices == ()
    assert decision.reason == "quality -> quality, tell waits for quality"


@pytest.mark.parametrize(("grade", "told"), [("non-diagnostic", 1), ("diagnostic", 0)])
def test_when_the_finding_is_there_the_rule_is_decided(grade: str, told: int) -> None:
    rule = Rule("tell", when(BAD), notify="repeat it")
    decision = decided(study(found(series(), quality={"grade": (grade,)})), QUALITY, rule)
    assert decision.waits == ()
    assert len(decision.notices) == told
    assert engines(decision) == [("1.2.1", "quality")]  # asked for still: it is not superseded


@pytest.mark.parametrize("written", [{"quality.outcome": "absent"}, {"not": BAD}])
def test_a_finding_that_nobody_is_to_make_is_missing(written: Mapping[str, object]) -> None:
    rule = forward("f", written)
    decision = decided(study(series(1, Modality="MR")), QUALITY, rule)
    assert decision.waits == ()
    assert len(decision.forwards) == 1


def test_a_missing_finding_can_park_the_study() -> None:
    rule = Rule("r", when({"quality.grade": {"is": "limited", "missing": "parks"}}), notify="look")
    assert decided(study(series(1, Modality="MR")), QUALITY, rule).is_parked
    assert not decided(study(series(1)), QUALITY, rule).is_parked


def test_an_engine_may_run_on_the_finding_of_another_in_a_chain() -> None:
    b = engine_rule("b", {"a.present": "lung"}, "b")
    c = engine_rule("c", {"b.volume_ml": "< 2000"}, "c")
    rules = (engine_rule("a", {}, "a"), c, b)
    first = decided(study(series()), *rules)
    assert engines(first) == [("1.2.1", "a")]
    assert {(w.engine, w.rule) for w in first.waits} == {("a", "b"), ("b", "c")}
    second = decided(study(found(series(), a={"present": ("lung",)})), *rules)
    assert engines(second) == [("1.2.1", "a"), ("1.2.1", "b")]
    assert {(w.engine, w.rule) for w in second.waits} == {("b", "c")}
    last = found(series(), a={"present": ("lung",)}, b={"volume_ml": ("1500",)})
    third = decided(study(last), *rules)
    assert {engine for _, engine in engines(third)} == {"a", "b", "c"}
    assert third.waits == ()


def test_a_chain_that_breaks_leaves_nothing_waiting() -> None:
    b = engine_rule("b", {"a.present": "lung"}, "b")
    c = engine_rule("c", {"b.volume_ml": "< 2000"}, "c")
    decision = decided(study(found(series(), a={"present": ()})), engine_rule("a", {}, "a"), b, c)
    assert engines(decision) == [("1.2.1", "a")]
    assert decision.waits == ()


def test_a_study_rule_waits_for_a_finding_on_any_series() -> None:
    rule = forward("f", {"quality.grade": "diagnostic"}, level=Level.STUDY)
    ct, mr = series(1), series(2, Modality="MR")
    decision = decided(study(ct, mr), QUALITY, rule)
    assert [(w.series_instance_uid, w.engine) for w in decision.waits] == [("1.2.1", "quality")]
    assert decision.forwards == ()
    good = found(ct, quality={"grade": ("diagnostic",)})
    [made] = decided(study(good, mr), QUALITY, rule).forwards
    assert made.instances == keys(ct) + keys(mr)
    assert decided(study(good, series(3)), QUALITY, rule).forwards == ()  # one is still to come


def test_a_study_rule_waits_for_an_engine_that_itself_still_waits() -> None:
    """Taken for missing, it would be forwarded before anything was found."""
    b = engine_rule("b", {"a.present": "lung"}, "b")
    rule = forward("f", {"not": {"b.volume_ml": "< 2000"}}, level=Level.STUDY)
    decision = decided(study(series()), engine_rule("a", {}, "a"), b, rule)
    assert decision.forwards == ()
    assert ("b", "f") in {(w.engine, w.rule) for w in decision.waits}


# ---------------------------------------------------------------- stop

STOP = Rule("stop", when(BAD), notify="repeat it", stop=True)


def test_while_a_stop_is_undecided_the_other_engines_wait() -> None:
    decision = decided(study(series()), LUNGS, QUALITY, STOP)
    assert engines(decision) == [("1.2.1", "quality")]
    assert decision.stops == ()


def test_a_stop_that_does_not_hold_lets_the_others_begin() -> None:
    good = found(series(), quality={"grade": ("diagnostic",)})
    decision = decided(study(good), LUNGS, QUALITY, STOP)
    assert engines(decision) == [("1.2.1", "ct_lungs"), ("1.2.1", "quality")]


def test_a_stop_that_holds_lets_no_engine_begin_and_what_is_done_stand() -> None:
    bad = found(series(), quality={"grade": ("non-diagnostic",)}, ct_lungs={})
    other = engine_rule("other", {"Modality": "CT"}, "other")
    decision = decided(study(bad), LUNGS, other, QUALITY, STOP)
    assert engines(decision) == [("1.2.1", "ct_lungs"), ("1.2.1", "quality")]
    assert [(s.rule, s.subject) for s in decision.stops] == [("stop", "1.2.1")]
    assert "stop: no engine begins any more" in decision.reason


def test_a_stop_holds_up_its_own_series_alone() -> None:
    mr = engine_rule("mr", {"Modality": "MR"}, "mr_brain")
    decision = decided(study(series(1), series(2, Modality="MR")), LUNGS, QUALITY, STOP, mr)
    assert engines(decision) == [("1.2.1", "quality"), ("1.2.2", "mr_brain")]


def test_a_stop_lets_those_begin_that_its_own_finding_hangs_on() -> None:
    """Else both would wait for ever."""
    quality = engine_rule("quality", {"a.present": "chest"}, "quality")
    decision = decided(study(series()), LUNGS, engine_rule("a", {}, "a"), quality, STOP)
    assert engines(decision) == [("1.2.1", "a")]


def test_an_engine_that_a_stop_rules_out_is_not_waited_for() -> None:
    bad = found(series(), quality={"grade": ("non-diagnostic",)})
    small = Rule("small", when({"ct_lungs.volume_ml": "< 2000"}), notify="small lungs")
    gone = forward("f", {"ct_lungs.outcome": "absent"}, level=Level.STUDY)
    decision = decided(study(bad), LUNGS, QUALITY, STOP, small, gone)
    assert decision.waits == ()
    assert len(decision.forwards) == 1


def test_an_engine_that_waits_for_a_stop_is_still_to_come() -> None:
    """What asks for its finding must not take it for missing."""
    rule = forward("f", {"not": {"ct_lungs.volume_ml": "< 2000"}}, level=Level.STUDY)
    decision = decided(study(series()), LUNGS, QUALITY, STOP, rule)
    assert decision.forwards == ()
    assert ("ct_lungs", "f") in {(w.engine, w.rule) for w in decision.waits}


def test_originals_are_forwarded_in_spite_of_a_stop() -> None:
    bad = found(series(), quality={"grade": ("non-diagnostic",)})
    assert len(decided(study(bad), QUALITY, STOP, forward("f", {})).forwards) == 1
