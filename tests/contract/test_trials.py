"""Trials and comparisons: the ledger's contract, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.routing import Plan
from dicom_node.lifecycle import ComparisonState, JobState, TrialState
from dicom_node.model import Job, JobRole, Priority
from dicom_node.trials import Comparison, StopRule, Trial, TrialMode, TrialWanted
from tests.unit.ledger.rows import (
    STUDY,
    a_job,
    a_result,
    an_instance,
    complete,
    job_of,
    moves_of,
    receive,
    started,
    study_of,
)
from tests.unit.ledger.trials import route_trial

STOP = StopRule(dice_below=0.9, slower_than=2.0, failures=2)
SHADOW = TrialWanted("lungs_2", TrialMode.SHADOW, stop=STOP)
CANARY = TrialWanted("lungs_2", TrialMode.CANARY, share=0.1, stop=STOP)
AGREEMENT = {"dice": {"Lung": 0.5}, "grade": ["limited", "diagnostic"]}


def a_candidate(wanted: TrialWanted, **changes: Any) -> Job:
    given: dict[str, Any] = {"engine_name": "lungs_2", "engine_version": "2.0.0"}
    if wanted.mode is TrialMode.SHADOW:
        given |= {"role": JobRole.SHADOW, "destinations": (), "priority": Priority.LOW}
    else:
        given |= {"role": JobRole.CANARY}
    return a_job(**{"job_id": "candidate", **given, **changes})


def route(ledger: Ledger, wanted: TrialWanted, *, again: bool = False) -> Comparison:
    """Route a study with a trial; return its comparison."""
    study = study_of(ledger) if again else complete(ledger, an_instance())
    current = a_job("current", destinations=() if wanted.mode is TrialMode.CANARY else ("archive",))
    route_trial(ledger, study, wanted, current, a_candidate(wanted))
    [comparison] = ledger.trials.of_study(STUDY)
    return comparison


def the_trial(ledger: Ledger) -> Trial:
    [trial] = ledger.trials.all()
    return trial


def the_comparison(ledger: Ledger) -> Comparison:
    [comparison] = ledger.trials.of_study(STUDY)
    return comparison


def do(ledger: Ledger, job_id: str, number: int) -> None:
    result = a_result(number, job_id=job_id)
    assert ledger.jobs.finish(started(ledger, job_id), [result], "", {"infer": 1.0}, 400.0)


def delivered(ledger: Ledger, job_id: str) -> list[str]:
    return [parcel.delivery.destination for parcel in ledger.deliveries.of_job(job_id)]


# ---------------------------------------------------------------- routing


def test_a_trial_begins_with_its_first_study(ledger: Ledger) -> None:
    comparison = route(ledger, SHADOW)
    trial = the_trial(ledger)
    assert (trial.current_engine, trial.current_version) == ("ct_lungs", "1.0.0")
    assert (trial.candidate_engine, trial.candidate_version) == ("lungs_2", "2.0.0")
    assert (trial.mode, trial.share, trial.stop) == (TrialMode.SHADOW, 1.0, STOP)
    assert (trial.state, trial.counts_from, trial.name) == (TrialState.RUNNING, 300.0, "t1")
    assert comparison.state is ComparisonState.OPEN
    assert (comparison.current_job_id, comparison.candidate_job_id) == ("current", "candidate")
    assert job_of(ledger, "candidate").role is JobRole.SHADOW
    assert ledger.trials.get(trial.trial_id) == trial
    assert ledger.trials.comparison(comparison.comparison_id) == comparison


def test_a_study_that_is_routed_again_is_compared_once(ledger: Ledger) -> None:
    first = route(ledger, SHADOW)
    ledger.studies.retry(STUDY, 350.0)
    assert route(ledger, SHADOW, again=True) == first


def test_what_the_rule_says_last_counts(ledger: Ledger) -> None:
    route(ledger, SHADOW)
    receive(ledger, an_instance(2))
    other = replace(SHADOW, mode=TrialMode.CANARY, share=0.5, stop=StopRule(failures=9))
    study = complete(ledger, an_instance(3), now=500.0)
    current = a_job("current-2", revision=study.revision)
    candidate = a_candidate(other, job_id="candidate-2", revision=study.revision)
    route_trial(ledger, study, other, current, candidate, 500.0)
    trial = the_trial(ledger)
    assert (trial.mode, trial.share, trial.stop) == (TrialMode.CANARY, 0.5, StopRule(failures=9))
    assert trial.counts_from == 300.0


# ---------------------------------------------------------------- working


def test_a_shadow_is_no_work_that_anybody_waits_for(ledger: Ledger) -> None:
    route(ledger, SHADOW)
    assert [job.job_id for job in ledger.jobs.ready(500.0)] == ["current"]
    assert [job.job_id for job in ledger.jobs.shadows_ready(500.0, 10)] == ["candidate"]
    assert ledger.jobs.are_waited_for(500.0)
    started(ledger, "current")
    assert ledger.jobs.are_waited_for(500.0)
    do_it = job_of(ledger, "current")
    ledger.jobs.finish(do_it, [a_result(job_id="current")], "", {}, 400.0)
    assert not ledger.jobs.are_waited_for(500.0)
    started(ledger, "candidate")
    assert not ledger.jobs.are_waited_for(500.0)
    assert ledger.jobs.counts() == {JobState.DONE: 1}


def test_a_shadow_is_kept_and_sent_nowhere(ledger: Ledger) -> None:
    route(ledger, SHADOW)
    do(ledger, "current", 1)
    do(ledger, "candidate", 2)
    assert delivered(ledger, "current") == ["archive"]
    assert delivered(ledger, "candidate") == []
    assert len(ledger.results.of_job("candidate")) == 1


def test_a_canary_is_sent_and_the_other_is_kept(ledger: Ledger) -> None:
    route(ledger, CANARY)
    do(ledger, "current", 1)
    do(ledger, "candidate", 2)
    assert delivered(ledger, "current") == []
    assert delivered(ledger, "candidate") == ["archive"]


def test_a_shadow_that_the_rules_ask_for_is_sent_after_all(ledger: Ledger) -> None:
    """So a candidate is taken into use: the study is routed again, and its results are there."""
    route(ledger, SHADOW)
    do(ledger, "candidate", 2)
    ledger.studies.retry(STUDY, 350.0)
    promoted = a_candidate(CANARY, role=JobRole.CURRENT)
    rules = ledger.routing.keep_rule_set("rules", 300.0)
    plan = Plan("rules", rules, "", {}, (promoted,))
    assert ledger.routing.record(study_of(ledger), plan, 500.0)
    assert delivered(ledger, "candidate") == ["archive"]
    assert job_of(ledger, "candidate").role is JobRole.CURRENT
    assert "PROMOTED" in [event for event, _, _ in moves_of(ledger, "candidate")]


def test_a_failed_shadow_that_the_rules_ask_for_runs_anew(ledger: Ledger) -> None:
    route(ledger, SHADOW)
    ledger.jobs.give_up(started(ledger, "candidate"), "broken", 400.0)
    ledger.studies.retry(STUDY, 350.0)
    promoted = a_candidate(CANARY, role=JobRole.CURRENT)
    rules = ledger.routing.keep_rule_set("rules", 300.0)
    ledger.routing.record(study_of(ledger), Plan("rules", rules, "", {}, (promoted,)), 500.0)
    job = job_of(ledger, "candidate")
    assert (job.state, job.destinations, job.priority) == (
        JobState.QUEUED,
        ("archive",),
        Priority.ROUTINE,
    )


# ---------------------------------------------------------------- comparing


def test_a_comparison_waits_for_both_jobs(ledger: Ledger) -> None:
    route(ledger, SHADOW)
    assert ledger.trials.ended() == []
    do(ledger, "current", 1)
    assert ledger.trials.ended() == []
    ledger.jobs.refuse(started(ledger, "candidate"), "no chest", 400.0)
    [ended] = ledger.trials.ended()
    assert (ended.current, ended.candidate) == (JobState.DONE, JobState.REFUSED)
    assert ended.candidate_reason == "no chest"


def test_an_agreement_is_kept_and_counted_once(ledger: Ledger) -> None:
    comparison = route(ledger, SHADOW)
    assert ledger.trials.compared(comparison, AGREEMENT, (1.0, 2.5), "Dice 0.5", 600.0)
    assert not ledger.trials.compared(comparison, AGREEMENT, (9.0, 9.0), "again", 700.0)
    kept = the_comparison(ledger)
    assert (kept.state, kept.agreement, kept.reason) == (
        ComparisonState.COMPARED,
        AGREEMENT,
        "Dice 0.5",
    )
    assert (kept.current_s, kept.candidate_s) == (1.0, 2.5)
    assert ledger.trials.counts(kept.trial_id) == {ComparisonState.COMPARED: 1}
    of_trial = ledger.trials.of_trial
    assert of_trial(kept.trial_id, ComparisonState.COMPARED, since=600.0) == [kept]
    assert of_trial(kept.trial_id, ComparisonState.COMPARED, since=600.1) == []
    assert of_trial(kept.trial_id, ComparisonState.FAILED) == []


@pytest.mark.parametrize("current_is_done", [True, False])
def test_what_a_failed_canary_owes_is_sent_by_the_version_in_use(
    current_is_done: bool, ledger: Ledger
) -> None:
    comparison = route(ledger, CANARY)
    if current_is_done:
        do(ledger, "current", 1)
    assert ledger.trials.failed(comparison, "it crashed", 500.0)
    if not current_is_done:
        do(ledger, "current", 1)
    assert delivered(ledger, "current") == ["archive"]
    assert job_of(ledger, "candidate").destinations == ()
    assert not ledger.trials.failed(comparison, "again", 600.0)
    assert delivered(ledger, "current") == ["archive"]


def test_a_job_that_was_told_where_to_send_while_it_ran_sends_there(ledger: Ledger) -> None:
    comparison = route(ledger, CANARY)
    running = started(ledger, "current")
    ledger.trials.failed(comparison, "it crashed", 500.0)
    assert ledger.jobs.finish(running, [a_result(job_id="current")], "", {}, 600.0)
    assert delivered(ledger, "current") == ["archive"]


def test_a_failed_shadow_changes_nothing_for_the_version_in_use(ledger: Ledger) -> None:
    comparison = route(ledger, SHADOW)
    before = job_of(ledger, "current")
    ledger.trials.failed(comparison, "it crashed", 500.0)
    assert job_of(ledger, "current") == before


def test_what_there_is_nothing_to_compare_of_is_left_out(ledger: Ledger) -> None:
    comparison = route(ledger, CANARY)
    assert ledger.trials.left_out(comparison, "both refused it", 500.0)
    assert the_comparison(ledger).state is ComparisonState.UNCOMPARED
    assert job_of(ledger, "candidate").destinations == ("archive",)


# ---------------------------------------------------------------- stopping


def test_a_stopped_trial_takes_no_new_study_until_it_is_started_again(ledger: Ledger) -> None:
    route(ledger, SHADOW)
    trial = the_trial(ledger)
    new = (a_job("new"), a_candidate(SHADOW, job_id="new-candidate"))
    assert ledger.trials.takes(*new)
    assert ledger.trials.stop(trial, "Dice 0.5", 700.0)
    assert not ledger.trials.stop(trial, "Dice 0.4", 800.0)
    assert not ledger.trials.takes(*new)
    stopped = the_trial(ledger)
    assert (stopped.state, stopped.reason) == (TrialState.STOPPED, "Dice 0.5")
    other_version = replace(new[1], engine_version="2.0.1")
    assert ledger.trials.takes(new[0], other_version)  # that is another trial
    assert ledger.trials.start_again(trial.trial_id, 900.0)
    assert not ledger.trials.start_again(trial.trial_id, 950.0)
    assert ledger.trials.takes(*new)
    assert the_trial(ledger).counts_from == 900.0
    assert [e.event for e in ledger.events.of("1") if e.subject_kind == "trial"] == [
        "CREATED",
        "STOPPED",
        "RETRIED",
    ]


def test_what_a_stopped_trial_has_begun_goes_on(ledger: Ledger) -> None:
    comparison = route(ledger, CANARY)
    running = started(ledger, "candidate")
    ledger.trials.stop(the_trial(ledger), "Dice 0.5", 700.0)
    assert ledger.trials.takes(job_of(ledger, "current"), job_of(ledger, "candidate"))
    assert ledger.jobs.finish(running, [a_result(2, job_id="candidate")], "", {}, 800.0)
    assert delivered(ledger, "candidate") == ["archive"]
    assert the_comparison(ledger) == comparison


@pytest.mark.parametrize("wanted", [SHADOW, CANARY])
def test_what_a_stopped_trial_has_not_begun_is_withdrawn(
    wanted: TrialWanted, ledger: Ledger
) -> None:
    route(ledger, wanted)
    do(ledger, "current", 1)
    ledger.trials.stop(the_trial(ledger), "Dice 0.5", 700.0)
    assert job_of(ledger, "candidate").state is JobState.SUPERSEDED
    assert the_comparison(ledger).state is ComparisonState.WITHDRAWN
    assert delivered(ledger, "current") == ["archive"]
    current, candidate = job_of(ledger, "current"), job_of(ledger, "candidate")
    assert not ledger.trials.takes(current, candidate)
    ledger.trials.start_again(1, 900.0)
    assert not ledger.trials.takes(current, candidate)  # not sent twice


def test_a_trial_that_nobody_knows_cannot_be_started_again(ledger: Ledger) -> None:
    assert not ledger.trials.start_again(7, 900.0)
    assert ledger.trials.get(7) is None
    assert ledger.trials.comparison(7) is None
