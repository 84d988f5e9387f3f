"""Fetches of prior studies keep their contract on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dicom_node.ledger.fetches import SENT_ON_S, PlannedFetch, was_asked_for
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.routing import Plan
from dicom_node.lifecycle import FetchState, JobState
from dicom_node.model import Job, Priority
from dicom_node.priors import FetchedPrior, PriorFetch, PriorsWanted
from tests.unit.ledger import rows
from tests.unit.ledger.rows import STUDY, a_job, job_of

WANTED = PriorsWanted(
    "archive", 2, ("CT", "PT"), "*chest*", ("CHEST",), within_days=730, wait_s=100.0
)
PRIOR = FetchedPrior("1.2.9", "ARCHIVE", False, 4, 0, False, asked_at=310.0, ended_at=None)


def route(
    ledger: Ledger, *jobs: Job, wanted: PriorsWanted | None = WANTED, now: float = 300.0
) -> None:
    """Route the complete study to these jobs, each of which waits for priors."""
    fetches = [PlannedFetch(job.job_id, wanted) for job in jobs if wanted is not None]
    rule_set = ledger.routing.keep_rule_set("rules", now)
    plan = Plan("rules", rule_set, "", {}, jobs=jobs, fetches=tuple(fetches))
    assert ledger.routing.record(rows.study_of(ledger), plan, now)


def waiting(ledger: Ledger, *jobs: Job) -> None:
    rows.complete(ledger, rows.an_instance())
    route(ledger, *(jobs or (a_job(),)))


def fetch_of(ledger: Ledger, job_id: str = "job-1") -> PriorFetch:
    fetch = ledger.fetches.for_job(job_id)
    assert fetch is not None
    return fetch


def started(ledger: Ledger, now: float = 310.0) -> PriorFetch:
    ready = ledger.fetches.ready("archive", now)
    assert ready is not None
    fetch = ledger.fetches.start(ready, now)
    assert fetch is not None
    return fetch


def jobs_ready(ledger: Ledger, now: float = 350.0) -> list[str]:
    return [job.job_id for job in ledger.jobs.ready(now)]


def test_a_job_waits_until_its_priors_are_here(ledger: Ledger) -> None:
    waiting(ledger)
    assert jobs_ready(ledger) == []
    fetch = fetch_of(ledger)
    assert (fetch.state, fetch.wanted, fetch.give_up_at) == (FetchState.PENDING, WANTED, 400.0)
    assert (fetch.study_instance_uid, fetch.series_instance_uid) == (STUDY, rows.SERIES)
    assert ledger.fetches.sources_ready(300.0) == [("archive", Priority.ROUTINE)]
    fetch = started(ledger)
    assert jobs_ready(ledger) == []
    assert ledger.fetches.note(fetch, PRIOR)
    assert ledger.fetches.of_job("job-1") == ()
    assert ledger.fetches.note(fetch, replace(PRIOR, is_whole=True, ended_at=320.0))
    assert ledger.fetches.fetched(fetch, "1 of 1", 321.0)
    assert jobs_ready(ledger) == ["job-1"]
    assert ledger.fetches.of_job("job-1") == ("1.2.9",)
    assert rows.moves_of(ledger, str(fetch.fetch_id)) == [
        ("CREATED", "", "PENDING"),
        ("STARTED", "PENDING", "FETCHING"),
        ("CAME", "FETCHING", "FETCHED"),
    ]


def test_a_job_without_wishes_waits_for_nothing(ledger: Ledger) -> None:
    rows.complete(ledger, rows.an_instance())
    route(ledger, a_job(), wanted=None)
    assert jobs_ready(ledger) == ["job-1"]
    assert ledger.fetches.for_job("job-1") is None
    assert ledger.fetches.of_job("job-1") == ()


def test_the_urgent_is_fetched_first(ledger: Ledger) -> None:
    waiting(ledger, a_job("routine"), a_job("stat", priority=Priority.STAT))
    assert ledger.fetches.sources_ready(300.0) == [("archive", Priority.STAT)]
    assert started(ledger).job_id == "stat"
    assert started(ledger).job_id == "routine"
    assert ledger.fetches.ready("archive", 310.0) is None


def test_after_the_wait_the_job_runs_without_and_says_so(ledger: Ledger) -> None:
    waiting(ledger)
    fetch = started(ledger)
    assert ledger.fetches.postpone(fetch, "ARCHIVE cannot be reached", 320.0, 311.0)
    assert ledger.fetches.give_up_late(399.9) == 0
    assert jobs_ready(ledger, 399.9) == []
    assert ledger.fetches.ready("archive", 400.0) is None  # nobody waits any more
    assert ledger.fetches.sources_ready(400.0) == []
    assert ledger.fetches.give_up_late(400.0) == 1
    assert jobs_ready(ledger, 400.0) == ["job-1"]
    reason = "without prior studies: waited 100 s for archive: ARCHIVE cannot be reached"
    assert job_of(ledger).reason == f"rule lungs-on-ct: Modality is CT; {reason}"
    [event] = ledger.events.named("WITHOUT_PRIORS")
    assert (event.subject_kind, event.subject, event.reason) == ("job", "job-1", reason)
    assert fetch_of(ledger).state is FetchState.DEAD


def test_what_comes_after_the_wait_changes_nothing(ledger: Ledger) -> None:
    waiting(ledger)
    fetch = started(ledger)
    assert ledger.fetches.give_up_late(400.0) == 1
    assert not ledger.fetches.note(fetch, PRIOR)
    assert not ledger.fetches.fetched(fetch, "too late", 401.0)
    assert not ledger.fetches.give_up(fetch, "too late", 401.0)
    assert len(ledger.events.named("WITHOUT_PRIORS")) == 1


def test_a_clock_that_was_set_back_holds_no_job_for_years(ledger: Ledger) -> None:
    waiting(ledger)
    assert ledger.fetches.give_up_late(400.0 - 90_000.0) == 1


def test_a_refusal_for_good_lets_the_job_run_at_once(ledger: Ledger) -> None:
    waiting(ledger)
    assert ledger.fetches.give_up(started(ledger), "it answered 0xA801", 311.0)
    assert jobs_ready(ledger) == ["job-1"]
    assert "0xA801" in job_of(ledger).reason


def test_an_interrupted_fetch_is_had_again_at_once(ledger: Ledger) -> None:
    waiting(ledger)
    fetch = started(ledger)
    assert ledger.fetches.interrupt(fetch, "the node stopped", 320.0)
    again = started(ledger, 320.0)
    assert (again.attempt, again.failures) == (2, 0)
    assert not ledger.fetches.fetched(fetch, "of the first attempt", 321.0)


def test_a_fetch_ends_with_the_job_that_it_is_for_and_comes_back_with_it(ledger: Ledger) -> None:
    waiting(ledger)
    fetch = started(ledger)
    assert ledger.fetches.note(fetch, PRIOR)
    rows.complete(ledger, rows.an_instance(2), now=320.0)
    route(ledger, a_job("job-2", revision=2), now=330.0)
    assert job_of(ledger).state is JobState.SUPERSEDED
    assert fetch_of(ledger).state is FetchState.SUPERSEDED
    assert fetch_of(ledger, "job-2").state is FetchState.PENDING
    assert not ledger.fetches.note(fetch, replace(PRIOR, is_whole=True))
    assert ledger.studies.retry(STUDY, 340.0)
    other = replace(WANTED, source="pacs")
    route(ledger, a_job(revision=2), wanted=other, now=350.0)
    back = fetch_of(ledger)
    assert (back.state, back.source, back.give_up_at) == (FetchState.PENDING, "pacs", 450.0)
    assert fetch_of(ledger, "job-2").state is FetchState.SUPERSEDED


def test_a_study_that_is_routed_again_keeps_what_its_open_job_waits_for(ledger: Ledger) -> None:
    waiting(ledger)
    assert ledger.studies.retry(STUDY, 320.0)
    route(ledger, a_job(), wanted=replace(WANTED, source="pacs"), now=330.0)
    assert (fetch_of(ledger).source, fetch_of(ledger).give_up_at) == ("archive", 400.0)


def test_a_job_that_has_begun_does_not_wait_any_more(ledger: Ledger) -> None:
    rows.complete(ledger, rows.an_instance())
    route(ledger, a_job(), wanted=None)
    rows.started(ledger)
    assert ledger.studies.retry(STUDY, 320.0)
    route(ledger, a_job(), now=330.0)
    assert ledger.fetches.for_job("job-1") is None


@pytest.mark.parametrize("state", ["PENDING", "FETCHING", "FETCHED"])
def test_only_what_is_dead_is_retried(state: str, ledger: Ledger) -> None:
    waiting(ledger)
    if state != "PENDING":
        fetch = started(ledger)
        assert state != "FETCHED" or ledger.fetches.fetched(fetch, "", 320.0)
    assert fetch_of(ledger).state == state
    assert not ledger.fetches.retry(fetch_of(ledger).fetch_id, 330.0)
    assert not ledger.fetches.retry(99, 330.0)


def test_a_retry_has_the_job_wait_once_more(ledger: Ledger) -> None:
    waiting(ledger)
    ledger.fetches.give_up(started(ledger), "it answered 0xA801", 311.0)
    assert ledger.fetches.retry(fetch_of(ledger).fetch_id, 500.0)
    fetch = fetch_of(ledger)
    assert (fetch.state, fetch.failures, fetch.give_up_at) == (FetchState.PENDING, 0, 600.0)
    assert jobs_ready(ledger, 500.0) == []


# ---------------------------------------------------------------- what came as a prior


def test_a_study_is_a_prior_from_when_it_is_asked_for(ledger: Ledger) -> None:
    waiting(ledger)
    fetch = started(ledger)
    assert ledger.fetches.note(fetch, PRIOR)
    [(current, prior)] = ledger.fetches.askings("1.2.9")
    assert (current, prior) == (STUDY, PRIOR)
    ledger.fetches.postpone(fetch, "it broke off", 320.0, 315.0)
    [(_, prior)] = ledger.fetches.askings("1.2.9")
    assert prior.ended_at == 315.0 + SENT_ON_S  # the archive may not have noticed
    again = started(ledger, 320.0)
    assert ledger.fetches.note(again, replace(PRIOR, asked_at=320.0))
    [(_, prior)] = ledger.fetches.askings("1.2.9")
    assert prior == PRIOR  # asked for since the first time


def test_what_was_held_is_no_prior_for_the_router(ledger: Ledger) -> None:
    waiting(ledger)
    fetch = started(ledger)
    assert ledger.fetches.note(fetch, replace(PRIOR, was_held=True, is_whole=True))
    assert ledger.fetches.askings("1.2.9") == []
    assert ledger.fetches.of_job("job-1") == ("1.2.9",)


@pytest.mark.parametrize(
    ("at", "calling", "ended_at", "asked"),
    [
        (309.0, "ARCHIVE", 400.0, False),
        (310.0, "ARCHIVE", 400.0, True),
        (400.0, "ARCHIVE", 400.0, True),
        (400.1, "ARCHIVE", 400.0, False),
        (9999.0, "ARCHIVE", None, True),
        (350.0, "SCANNER", 400.0, False),
    ],
)
def test_an_instance_was_asked_for_if_it_came_from_there_and_then(
    at: float, calling: str, ended_at: float | None, asked: bool
) -> None:
    instance = rows.an_instance(received_at=at, calling_ae_title=calling)
    askings = [("1.2.3", replace(PRIOR, ended_at=ended_at))]
    assert was_asked_for(instance, askings) is asked
