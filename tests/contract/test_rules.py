"""Headers, forwards and decisions: the ledger's contract, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_node.ledger.headers import KeptHeader
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.routing import Plan
from dicom_node.lifecycle import DeliveryState, JobState, StudyEvent, StudyState
from dicom_node.model import Drop, Forward, ForwardTask, InstanceKey, Priority
from tests.unit.ledger.rows import (
    SERIES,
    STUDY,
    a_job,
    an_instance,
    complete,
    finished,
    job_of,
    moves_of,
    receive,
    started,
    study_of,
)
from tests.unit.route.made import key_of

NUMBERS = count(1)
KEYS = tuple(key_of(an_instance(number)) for number in range(1, 6))

# ---------------------------------------------------------------- headers

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
HEADER = st.dictionaries(
    st.sampled_from(["Modality", "KVP", "PatientID#", "ImageType"]),
    st.lists(WORDS, max_size=3).map(tuple),
)


def a_header(number: int, attributes: Any = None, **changes: Any) -> KeptHeader:
    given: dict[str, Any] = {
        "series_instance_uid": SERIES,
        "sop_instance_uid": f"{SERIES}.{number}",
        "digest": f"digest-{number}",
        "attributes": attributes if attributes is not None else {"KVP": (str(number),)},
        "keywords": frozenset({"KVP", "Modality"}),
    }
    return KeptHeader(**(given | changes))


def keep(ledger: Ledger, *headers: KeptHeader) -> None:
    ledger.headers.keep(STUDY, headers, headers[0].keywords)


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(batches=st.lists(st.lists(st.tuples(st.integers(1, 4), HEADER), max_size=6), max_size=3))
def test_whatever_headers_are_kept_they_come_back_as_they_were(
    ledger: Ledger, batches: list[list[tuple[int, dict[str, tuple[str, ...]]]]]
) -> None:
    """Each is kept as what differs from the first of its series."""
    study = f"1.2.{next(NUMBERS)}"
    receive(ledger, an_instance(1, study_instance_uid=study))
    expected: dict[str, KeptHeader] = {}
    for batch in batches:
        headers = {
            number: a_header(number, attributes, series_instance_uid=f"{SERIES}.{number % 2}")
            for number, attributes in batch
        }
        ledger.headers.keep(study, list(headers.values()), frozenset({"KVP", "Modality"}))
        expected |= {one.sop_instance_uid: one for one in headers.values()}
    kept = ledger.headers.of_study(study)
    assert {uid: one for of_one in kept.values() for uid, one in of_one.items()} == expected


def test_a_header_that_is_kept_again_takes_the_place_of_the_first(ledger: Ledger) -> None:
    receive(ledger, an_instance(1), an_instance(2))
    keep(ledger, a_header(1), a_header(2))
    wider = frozenset({"KVP", "Modality", "Rows"})
    again = a_header(1, {"Rows": ("512",)}, digest="other", keywords=wider)
    keep(ledger, again)
    assert ledger.headers.of_study(STUDY) == {
        SERIES: {f"{SERIES}.1": again, f"{SERIES}.2": a_header(2)}
    }
    assert ledger.headers.count() == 2


def test_that_a_header_cannot_be_read_is_kept_too(ledger: Ledger) -> None:
    receive(ledger, an_instance(1))
    broken = a_header(1, {}, unreadable="the header cannot be read")
    keep(ledger, broken)
    assert ledger.headers.of_study(STUDY)[SERIES][f"{SERIES}.1"] == broken


def test_headers_of_studies_of_which_nothing_came_since_are_forgotten(ledger: Ledger) -> None:
    young = an_instance(1, study_instance_uid="1.9", series_instance_uid="1.9.1", received_at=900.0)
    receive(ledger, an_instance(1), an_instance(2), young)
    keep(ledger, a_header(1), a_header(2))
    of_young = a_header(1, series_instance_uid="1.9.1")
    ledger.headers.keep("1.9", [of_young], of_young.keywords)
    assert ledger.headers.forget(500.0) == 2
    assert ledger.headers.of_study(STUDY) == {}
    assert ledger.headers.count() == 1
    keep(ledger, a_header(2), a_header(1))  # and can be kept again
    assert len(ledger.headers.of_study(STUDY)[SERIES]) == 2


# ---------------------------------------------------------------- forwards


def plan(ledger: Ledger, *keys: InstanceKey, now: float = 300.0, **changes: Any) -> int:
    """Choose instances to go to an archive; return how many are new."""
    planned = Forward("archive", "", Priority.ROUTINE, "all", keys or KEYS)
    return ledger.routing.forward_at_once(STUDY, [replace(planned, **changes)], now)


def only(ledger: Ledger) -> ForwardTask:
    [forward] = ledger.forwards.of_study(STUDY)
    return forward


def taken(ledger: Ledger, now: float = 310.0) -> ForwardTask:
    forward = ledger.forwards.start(only(ledger), now)
    assert forward is not None
    return forward


@pytest.fixture
def arriving(ledger: Ledger) -> Ledger:
    """Return a ledger with a study of five instances that is still arriving."""
    receive(ledger, *[an_instance(number) for number in range(1, 6)])
    return ledger


def test_a_forward_is_made_once_and_grows(arriving: Ledger) -> None:
    assert plan(arriving, *KEYS[:2]) == 2
    assert plan(arriving, *KEYS[:4], rule="other", priority=Priority.STAT, now=305.0) == 2
    assert plan(arriving) == 1
    assert plan(arriving) == 0
    forward = only(arriving)
    assert (forward.rule, forward.priority, forward.state) == (
        "all",
        Priority.STAT,
        DeliveryState.PENDING,
    )
    assert arriving.forwards.progress(forward.forward_id) == (0, 0, 5)
    [created] = arriving.events.of(str(forward.forward_id))
    assert created.reason == "rule all: to archive"


def test_each_destination_and_profile_is_a_forward_of_its_own(arriving: Ledger) -> None:
    plan(arriving)
    plan(arriving, destination="research")
    plan(arriving, profile="anonymous", priority=Priority.STAT)
    assert [(f.destination, f.profile) for f in arriving.forwards.of_study(STUDY)] == [
        ("archive", "anonymous"),
        ("archive", ""),
        ("research", ""),
    ]
    assert sorted(arriving.forwards.destinations_ready(300.0)) == [
        ("archive", Priority.STAT),
        ("research", Priority.ROUTINE),
    ]
    assert arriving.forwards.counts() == {DeliveryState.PENDING: 3}
    assert arriving.forwards.destinations_ready(299.0) == []


def test_only_one_taker_gets_a_forward(arriving: Ledger) -> None:
    plan(arriving)
    seen = only(arriving)
    assert arriving.forwards.start(seen, 310.0) is not None
    assert arriving.forwards.start(seen, 310.0) is None


def test_what_was_taken_is_marked_and_not_sent_again(arriving: Ledger) -> None:
    plan(arriving)
    forward = taken(arriving)
    arriving.forwards.sent(forward, KEYS[:3], [], 320.0)
    assert arriving.forwards.unsent(forward.forward_id, 10) == list(KEYS[3:])
    assert arriving.forwards.unsent(forward.forward_id, 1) == [KEYS[3]]
    assert not arriving.forwards.accepted(forward, "all sent", 320.0)
    arriving.forwards.sent(forward, KEYS[3:], [], 330.0)
    assert arriving.forwards.accepted(forward, "all sent", 330.0)
    assert plan(arriving) == 0
    assert only(arriving).state is DeliveryState.SENT


def test_what_is_chosen_while_the_rest_is_sent_goes_with_the_next_attempt(
    arriving: Ledger,
) -> None:
    plan(arriving, *KEYS[:3])
    forward = taken(arriving)
    assert plan(arriving) == 2
    arriving.forwards.sent(forward, KEYS[:3], [], 320.0)
    assert not arriving.forwards.accepted(forward, "all sent", 320.0)
    assert arriving.forwards.go_on(forward, "the rest follows", 320.0)
    assert arriving.forwards.unsent(forward.forward_id, 10) == list(KEYS[3:])
    assert only(arriving).not_before == 320.0


@pytest.mark.parametrize("end", [DeliveryState.SENT, DeliveryState.DEAD])
def test_a_forward_at_its_end_goes_on_when_more_is_chosen(
    end: DeliveryState, arriving: Ledger
) -> None:
    plan(arriving, *KEYS[:3])
    forward = taken(arriving)
    if end is DeliveryState.SENT:
        arriving.forwards.sent(forward, KEYS[:3], [], 320.0)
        assert arriving.forwards.accepted(forward, "all sent", 320.0)
    else:
        assert arriving.forwards.give_up(forward, "tried for days", 320.0)
    assert plan(arriving, now=400.0) == 2
    again = only(arriving)
    assert (again.state, again.tried_since, again.failures) == (DeliveryState.PENDING, 400.0, 0)
    assert again.forward_id == forward.forward_id


def test_an_instance_that_came_again_with_other_bytes_is_sent_again(arriving: Ledger) -> None:
    plan(arriving)
    forward = taken(arriving)
    other = KEYS[0]._replace(digest="other")
    assert plan(arriving, other) == 1  # while the first bytes are on their way
    arriving.forwards.sent(forward, KEYS, [], 320.0)
    assert arriving.forwards.unsent(forward.forward_id, 10) == [other]
    assert not arriving.forwards.accepted(forward, "all sent", 320.0)


def test_what_was_refused_is_not_tried_again_until_a_person_asks(arriving: Ledger) -> None:
    plan(arriving)
    forward = taken(arriving)
    arriving.forwards.sent(forward, KEYS[1:], [(KEYS[0], "answered 0xC000")], 320.0)
    assert arriving.forwards.unsent(forward.forward_id, 10) == []
    assert arriving.forwards.progress(forward.forward_id) == (4, 1, 5)
    assert plan(arriving) == 0
    assert arriving.forwards.give_up(forward, "4 of 5 sent, 1 refused", 320.0)
    told = arriving.events.named("NOT_FORWARDED")
    assert [event.reason for event in told] == [f"{KEYS[0].sop_instance_uid}: answered 0xC000"]
    assert arriving.forwards.retry(forward.forward_id, 400.0)
    assert arriving.forwards.unsent(forward.forward_id, 10) == [KEYS[0]]
    assert only(arriving).state is DeliveryState.PENDING


def test_what_is_on_its_way_or_unknown_cannot_be_retried(arriving: Ledger) -> None:
    plan(arriving)
    assert not arriving.forwards.retry(only(arriving).forward_id, 400.0)
    assert not arriving.forwards.retry(999, 400.0)


def test_a_failed_attempt_waits_and_one_that_gets_on_counts_anew(arriving: Ledger) -> None:
    plan(arriving)
    assert arriving.forwards.postpone(taken(arriving), "unreachable", 400.0, 320.0)
    assert arriving.forwards.ready("archive", 399.0) == []
    assert (only(arriving).failures, only(arriving).tried_since) == (1, 300.0)
    assert arriving.forwards.hurry(330.0) == 1
    [ready] = arriving.forwards.ready("archive", 330.0)
    forward = arriving.forwards.start(ready, 330.0)
    assert forward is not None
    assert (forward.attempt, forward.failures) == (2, 1)
    assert arriving.forwards.go_on(forward, "the rest follows", 340.0)
    assert (only(arriving).failures, only(arriving).tried_since) == (0, 340.0)
    assert moves_of(arriving, str(forward.forward_id)) == [
        ("CREATED", "", "PENDING"),
        ("STARTED", "PENDING", "SENDING"),
        ("POSTPONED", "SENDING", "PENDING"),
        ("STARTED", "PENDING", "SENDING"),
        ("INTERRUPTED", "SENDING", "PENDING"),
    ]


def test_a_late_answer_moves_nothing_but_what_was_taken_is_known(arriving: Ledger) -> None:
    plan(arriving)
    lost = taken(arriving)
    assert arriving.forwards.interrupt(lost, "the node stopped", 320.0)
    current = taken(arriving, 330.0)
    arriving.forwards.sent(lost, KEYS, [], 340.0)
    assert not arriving.forwards.accepted(lost, "all sent", 340.0)
    assert not arriving.forwards.postpone(lost, "unreachable", 400.0, 340.0)
    assert not arriving.forwards.give_up(lost, "dead", 340.0)
    assert arriving.forwards.accepted(current, "all sent", 350.0)


# ---------------------------------------------------------------- what the rules made of a study


def a_plan(ledger: Ledger, **changes: Any) -> Plan:
    rule_set = ledger.routing.keep_rule_set("rules: []", 300.0)
    return replace(Plan("the reason", rule_set, "complete", {"matched": []}), **changes)


def completed(ledger: Ledger) -> None:
    complete(ledger, *[an_instance(number) for number in range(1, 6)])


def test_a_decision_is_one_transaction_with_all_that_follows(ledger: Ledger) -> None:
    completed(ledger)
    recorded = a_plan(
        ledger,
        jobs=(a_job(),),
        forwards=(Forward("archive", "", Priority.HIGH, "all", KEYS[1:]),),
        drops=(Drop("scouts", "no slice", KEYS[:1]),),
        notices=("look at it", "look at it"),
        decided={"matched": ["all"]},
    )
    assert ledger.routing.record(study_of(ledger), recorded, 300.0)
    assert (study_of(ledger).state, study_of(ledger).reason) == (StudyState.ROUTED, "the reason")
    assert job_of(ledger).state is JobState.QUEUED
    assert only(ledger).priority is Priority.HIGH
    assert ledger.routing.dropped(STUDY) == {KEYS[0][:2]: ("scouts", "no slice")}
    [decided] = ledger.routing.decisions(STUDY)
    assert (decided.revision, decided.completeness, decided.decided) == (
        1,
        "complete",
        {"matched": ["all"]},
    )
    assert [event.reason for event in ledger.events.named("NOTICE")] == ["look at it"]
    assert [event.reason for event in ledger.events.named("DROPPED")] == [
        "1 instances by rule scouts: no slice"
    ]
    assert ledger.routing.last_rule_set() == "rules: []"


def test_a_study_that_moved_on_is_left_alone(ledger: Ledger) -> None:
    completed(ledger)
    before = study_of(ledger)
    receive(ledger, an_instance(6))
    for parked in (None, StudyEvent.HELD):
        recorded = a_plan(ledger, parked=parked, notices=("n",), drops=(Drop("d", "why", KEYS),))
        assert not ledger.routing.record(before, recorded, 300.0)
    assert study_of(ledger).state is StudyState.RECEIVING
    assert ledger.routing.decisions(STUDY) == []
    assert ledger.routing.dropped(STUDY) == {}
    assert ledger.events.named("NOTICE") == []


@pytest.mark.parametrize("event", [StudyEvent.HELD, StudyEvent.ROUTING_FAILED])
def test_a_parked_study_makes_nothing_and_keeps_why(event: StudyEvent, ledger: Ledger) -> None:
    completed(ledger)
    recorded = a_plan(
        ledger,
        parked=event,
        jobs=(a_job(),),
        forwards=(Forward("archive", "", Priority.HIGH, "all", KEYS),),
        notices=("n",),
    )
    assert ledger.routing.record(study_of(ledger), recorded, 300.0)
    assert (study_of(ledger).state, study_of(ledger).reason) == (StudyState.PARKED, "the reason")
    assert (ledger.jobs.of_study(STUDY), ledger.forwards.of_study(STUDY)) == ([], [])
    assert len(ledger.routing.decisions(STUDY)) == 1
    assert len(ledger.events.named("NOTICE")) == 1
    assert (event, "COMPLETE", "PARKED") in moves_of(ledger, STUDY)


def test_a_retry_releases_this_revision_and_no_later_one(ledger: Ledger) -> None:
    completed(ledger)
    assert ledger.routing.record(study_of(ledger), a_plan(ledger, parked=StudyEvent.HELD), 300.0)
    assert ledger.studies.retry(STUDY, 310.0)
    assert study_of(ledger).released_revision == 1
    complete(ledger, an_instance(6), now=400.0)
    assert (study_of(ledger).revision, study_of(ledger).released_revision) == (2, 1)


def test_drops_are_those_of_the_last_decision_and_told_once(ledger: Ledger) -> None:
    completed(ledger)
    first = (Drop("a", "why", KEYS[:2]),)
    assert ledger.routing.record(study_of(ledger), a_plan(ledger, drops=first), 300.0)
    assert ledger.studies.retry(STUDY, 310.0)
    second = (Drop("a", "why", KEYS[1:3]), Drop("b", "because", KEYS[3:4]))
    assert ledger.routing.record(study_of(ledger), a_plan(ledger, drops=second), 320.0)
    assert ledger.routing.dropped(STUDY) == {
        KEYS[1][:2]: ("a", "why"),
        KEYS[2][:2]: ("a", "why"),
        KEYS[3][:2]: ("b", "because"),
    }
    assert [event.reason for event in ledger.events.named("DROPPED")] == [
        "2 instances by rule a: why",
        "1 instances by rule a: why",
        "1 instances by rule b: because",
    ]


def test_what_is_dropped_is_taken_out_of_the_forwards_unless_it_was_sent(ledger: Ledger) -> None:
    receive(ledger, *[an_instance(number) for number in range(1, 6)])
    plan(ledger)
    forward = taken(ledger)
    ledger.forwards.sent(forward, KEYS[:1], [], 320.0)
    completed(ledger)
    recorded = a_plan(ledger, drops=(Drop("d", "why", KEYS[:3]),))
    assert ledger.routing.record(study_of(ledger), recorded, 330.0)
    assert ledger.forwards.unsent(forward.forward_id, 10) == list(KEYS[3:])
    assert ledger.forwards.progress(forward.forward_id) == (1, 0, 3)


def test_a_notice_is_told_once_for_each_study(ledger: Ledger) -> None:
    completed(ledger)
    for now in (300.0, 320.0):
        recorded = a_plan(ledger, notices=("look at it",))
        assert ledger.routing.record(study_of(ledger), recorded, now)
        assert ledger.studies.retry(STUDY, now)
    assert len(ledger.events.named("NOTICE")) == 1


def test_an_awaited_finding_is_found_when_its_engine_has_come_to_its_end(ledger: Ledger) -> None:
    finished(ledger, now=310.0)
    assert ledger.routing.found() == []  # nobody waits
    assert ledger.studies.retry(STUDY, 320.0)
    waits = ((SERIES, "ct_lungs"), (SERIES, "ct_lungs"), (SERIES, "other"))
    recorded = a_plan(ledger, jobs=(a_job(),), awaited=waits)
    assert ledger.routing.record(study_of(ledger), recorded, 330.0)
    assert ledger.routing.found() == [(STUDY, "ct_lungs")]
    assert ledger.studies.found(STUDY, "ct_lungs has come to its end", 340.0)
    assert ledger.routing.found() == []  # it is being decided
    assert not ledger.studies.found(STUDY, "again", 340.0)
    assert ledger.routing.record(study_of(ledger), a_plan(ledger, jobs=(a_job(),)), 350.0)
    assert ledger.routing.found() == []  # nobody waits any more


def test_what_an_engine_found_before_does_not_count_while_it_works_anew(ledger: Ledger) -> None:
    finished(ledger, now=310.0)
    assert ledger.studies.retry(STUDY, 320.0)
    again = a_job("job-2", created_at=330.0)
    recorded = a_plan(ledger, jobs=(again,), awaited=((SERIES, "ct_lungs"),))
    assert ledger.routing.record(study_of(ledger), recorded, 330.0)
    assert ledger.routing.found() == []
    assert ledger.jobs.finish(started(ledger, "job-2", 340.0), [], "found", {}, 350.0)
    assert ledger.routing.found() == [(STUDY, "ct_lungs")]
