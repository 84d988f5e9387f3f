"""The ledger's contract, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import func, inspect, select, text

from dicom_node.errors import ConfigError, StorageError
from dicom_node.ledger import schema
from dicom_node.ledger.arrivals import Arrival
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.ledger.database import Database
from dicom_node.ledger.deliveries import Parcel
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.paces import Lesson
from dicom_node.lifecycle import DeliveryState, JobState, StudyState
from dicom_node.model import REJECTION, Delivery, Instance, Job, Priority
from dicom_node.verdict import Action, Certainty, SeriesVerdict, Silences, Verdict
from tests.unit.ledger import rows
from tests.unit.ledger.rows import (
    SERIES,
    STUDY,
    a_job,
    a_result,
    an_instance,
    complete,
    delivery_of,
    finished,
    job_of,
    last_end,
    moves_of,
    receive,
    routed,
    sending,
    started,
    study_of,
    uids,
)

STUDY_STATES = {"RECEIVING", "COMPLETE", "ROUTED", "PARKED"}
JOB_STATES = {"QUEUED", "RUNNING", "DONE", "REFUSED", "PARKED", "SUPERSEDED"}
DELIVERY_STATES = {"PENDING", "SENDING", "SENT", "PROVEN", "UNPROVEN", "DEAD"}


def count_of(database: Database, table: str) -> int:
    with database.reading() as connection:
        query = select(func.count()).select_from(schema.metadata.tables[table])
        return int(connection.execute(query).scalar_one())


# ---------------------------------------------------------------- the schema


def test_a_ledger_that_was_never_made_says_what_to_do(empty_url: str) -> None:
    ledger = Ledger(empty_url)
    with pytest.raises(ConfigError) as caught:
        ledger.require_current()
    assert "serve" in caught.value.hint
    ledger.close()


def test_migrating_twice_changes_nothing(empty_url: str) -> None:
    ledger = Ledger(empty_url)
    ledger.migrate()
    rows.open_association(ledger)
    receive(ledger, an_instance())
    ledger.migrate()
    ledger.require_current()
    assert uids(ledger.studies.instances(STUDY)) == [f"{SERIES}.1"]
    ledger.close()


def test_the_migrations_make_what_the_schema_says(database: Database) -> None:
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []


@pytest.mark.parametrize(
    ("table", "states"),
    [("studies", STUDY_STATES), ("jobs", JOB_STATES), ("deliveries", DELIVERY_STATES)],
)
def test_the_database_knows_the_states_and_refuses_any_other(
    table: str, states: set[str], ledger: Ledger, database: Database
) -> None:
    finished(ledger)
    for state in sorted(states):
        with database.writing() as connection:
            connection.execute(text(f"UPDATE {table} SET state = '{state}'"))
    for state in ("NONSENSE", "", "queued"):
        with pytest.raises(StorageError), database.writing() as connection:
            connection.execute(text(f"UPDATE {table} SET state = '{state}'"))


def test_every_foreign_key_and_index_has_a_name_of_the_convention(database: Database) -> None:
    with database.reading() as connection:
        inspector = inspect(connection)
        for table in schema.metadata.tables:
            for index in inspector.get_indexes(table):
                assert str(index["name"]).startswith((f"ix_{table}_", f"uq_{table}_"))


def test_a_transaction_that_fails_leaves_nothing(ledger: Ledger, database: Database) -> None:
    nameless = an_instance(calling_ae_title=None)
    with pytest.raises(StorageError):
        ledger.studies.instance_stored(nameless)
    assert count_of(database, "studies") == 0
    assert count_of(database, "instances") == 0
    assert count_of(database, "events") == 0


# ---------------------------------------------------------------- instances


def test_a_new_instance_opens_its_study(ledger: Ledger) -> None:
    assert ledger.studies.instance_stored(an_instance()) is Arrival.NEW
    assert ledger.studies.instances(STUDY) == [an_instance()]
    study = study_of(ledger)
    assert (study.state, study.revision) == (StudyState.RECEIVING, 1)
    assert moves_of(ledger, STUDY) == [("INSTANCE_STORED", "", "RECEIVING")]
    assert ledger.studies.study_of_instance(f"{SERIES}.1") == STUDY


def test_further_instances_leave_no_event_each(ledger: Ledger) -> None:
    for number in range(1, 6):
        assert ledger.studies.instance_stored(an_instance(number)) is Arrival.NEW
    assert len(ledger.events.of(STUDY)) == 1
    assert study_of(ledger).updated_at == 105.0


def test_the_same_instance_again_is_a_repeat(ledger: Ledger) -> None:
    ledger.studies.instance_stored(an_instance())
    again = an_instance(received_at=150.0, calling_ae_title="PACS")
    assert ledger.studies.instance_stored(again) is Arrival.REPEATED
    assert ledger.studies.instances(STUDY) == [an_instance()]
    [evidence] = ledger.studies.receiving()
    assert evidence.last_instance_at == 101.0
    assert moves_of(ledger, f"{SERIES}.1") == [("REPEATED", "", "")]


def test_another_content_under_the_same_uid_replaces_it(ledger: Ledger) -> None:
    ledger.studies.instance_stored(an_instance())
    other = an_instance(content="x", received_at=150.0)
    assert ledger.studies.instance_stored(other) is Arrival.REPLACED
    assert ledger.studies.instances(STUDY) == [other]
    [event] = ledger.events.of(f"{SERIES}.1")
    assert event.event == "REPLACED"
    assert an_instance().path in event.reason
    # while the study is still arriving this is no new revision
    assert (study_of(ledger).revision, study_of(ledger).updated_at) == (1, 150.0)


def test_content_that_goes_back_and_forth_is_replaced_each_time(ledger: Ledger) -> None:
    for content in ("", "x", "", "x"):
        ledger.studies.instance_stored(an_instance(content=content))
    assert [event for event, _, _ in moves_of(ledger, f"{SERIES}.1")] == ["REPLACED"] * 3


def test_the_same_uid_in_another_study_or_series_is_another_instance(ledger: Ledger) -> None:
    one = an_instance(1)
    for other in (
        one,
        replace(one, study_instance_uid="1.2.9"),
        replace(one, series_instance_uid="1.2.9.9"),
    ):
        assert ledger.studies.instance_stored(other) is Arrival.NEW
    assert len(ledger.studies.instances(STUDY)) == 2


def test_instances_come_in_the_order_of_series_and_uid(ledger: Ledger) -> None:
    receive(
        ledger,
        an_instance(2),
        an_instance(1, series_instance_uid="1.2.3.1.2"),
        an_instance(1),
    )
    assert uids(ledger.studies.instances(STUDY)) == [f"{SERIES}.1", f"{SERIES}.2", "1.2.3.1.2.1"]


def reach(ledger: Ledger, state: StudyState) -> None:
    study = complete(ledger, an_instance())
    if state is StudyState.ROUTED:
        assert rows.route(ledger, study, [], "nothing matched", 300.0)
    elif state is StudyState.PARKED:
        assert ledger.studies.routing_failed(study, "a rule failed", 300.0)


@pytest.mark.parametrize("state", [StudyState.COMPLETE, StudyState.ROUTED, StudyState.PARKED])
@pytest.mark.parametrize("late", [an_instance(2), an_instance(1, content="x")])
def test_a_late_instance_opens_the_next_revision(
    state: StudyState, late: Instance, ledger: Ledger
) -> None:
    reach(ledger, state)
    ledger.studies.instance_stored(replace(late, received_at=500.0))
    study = study_of(ledger)
    assert (study.state, study.revision) == (StudyState.RECEIVING, 2)
    assert study.reason == "a late instance opened revision 2"
    assert moves_of(ledger, STUDY)[-1] == ("INSTANCE_STORED", str(state), "RECEIVING")
    ledger.studies.instance_stored(an_instance(3, received_at=501.0))
    assert study_of(ledger).revision == 2


@pytest.mark.parametrize("state", [StudyState.COMPLETE, StudyState.ROUTED, StudyState.PARKED])
def test_a_late_repeat_opens_nothing(state: StudyState, ledger: Ledger) -> None:
    reach(ledger, state)
    ledger.studies.instance_stored(an_instance(received_at=500.0))
    assert (study_of(ledger).state, study_of(ledger).revision) == (state, 1)


# ---------------------------------------------------------------- evidence


def test_the_evidence_counts_instances_and_open_associations(ledger: Ledger) -> None:
    other = rows.open_association(ledger, "association-2")
    evidence = receive(ledger, an_instance(1), an_instance(2, association_id=other), an_instance(3))
    assert evidence.study_instance_uid == STUDY
    assert evidence.revision == 1
    assert evidence.instance_count == 3
    assert evidence.last_instance_at == 103.0
    assert evidence.open_associations == 2
    assert last_end(evidence) == (None, 0.0)


@pytest.mark.parametrize("end", AssociationEnd)
def test_the_association_that_closed_last_speaks(end: AssociationEnd, ledger: Ledger) -> None:
    other = rows.open_association(ledger, "association-2")
    receive(ledger, an_instance(1), an_instance(2, association_id=other))
    ledger.associations.closed(other, end, 300.0)
    ledger.associations.closed(rows.ASSOCIATION, AssociationEnd.RELEASED, 200.0)
    [evidence] = ledger.studies.receiving()
    assert evidence.open_associations == 0
    assert last_end(evidence) == (end, 300.0)


def test_only_the_first_end_of_an_association_counts(ledger: Ledger) -> None:
    receive(ledger, an_instance())
    ledger.associations.closed(rows.ASSOCIATION, AssociationEnd.RELEASED, 200.0)
    ledger.associations.closed(rows.ASSOCIATION, AssociationEnd.LOST, 300.0)
    [evidence] = ledger.studies.receiving()
    assert last_end(evidence) == (AssociationEnd.RELEASED, 200.0)


def test_a_repeat_through_another_association_is_evidence(ledger: Ledger) -> None:
    receive(ledger, an_instance())
    rows.release(ledger)
    other = rows.open_association(ledger, "association-2")
    [evidence] = [receive(ledger, an_instance(association_id=other))]
    assert evidence.open_associations == 1


def test_an_association_that_carried_nothing_of_a_study_is_none_of_its_evidence(
    ledger: Ledger,
) -> None:
    rows.open_association(ledger, "another-scanner")
    receive(ledger, an_instance())
    rows.release(ledger)
    [evidence] = ledger.studies.receiving()
    assert evidence.open_associations == 0


def test_what_a_receiver_held_is_lost_with_it(ledger: Ledger) -> None:
    rows.open_association(ledger, "association-2")
    receive(ledger, an_instance())
    rows.release(ledger, at=200.0)
    assert ledger.associations.close_lost(300.0) == 1
    assert ledger.associations.close_lost(301.0) == 0
    [evidence] = ledger.studies.receiving()
    assert last_end(evidence)[0] is AssociationEnd.RELEASED


# ---------------------------------------------------------------- complete


def test_a_study_is_completed_once(ledger: Ledger) -> None:
    evidence = receive(ledger, an_instance())
    assert ledger.studies.completed(evidence, "quiet for 5 s", 250.0)
    assert not ledger.studies.completed(evidence, "quiet for 5 s", 251.0)
    assert study_of(ledger).reason == "quiet for 5 s"
    assert ledger.studies.receiving() == []
    assert moves_of(ledger, STUDY)[1:] == [("COMPLETED", "RECEIVING", "COMPLETE")]


def test_an_instance_since_the_evidence_keeps_the_study_open(ledger: Ledger) -> None:
    evidence = receive(ledger, an_instance(1))
    receive(ledger, an_instance(2))
    assert not ledger.studies.completed(evidence, "quiet", 250.0)
    assert study_of(ledger).state is StudyState.RECEIVING


def test_evidence_of_an_older_revision_completes_nothing(ledger: Ledger) -> None:
    old = receive(ledger, an_instance(1, received_at=100.0))
    assert ledger.studies.completed(old, "quiet", 250.0)
    # the clock was set back: the second revision has the time of the first
    receive(ledger, an_instance(2, received_at=100.0))
    assert not ledger.studies.completed(old, "quiet", 251.0)
    assert study_of(ledger).state is StudyState.RECEIVING


# ---------------------------------------------------------------- route


def test_routing_makes_the_jobs_and_the_study_in_one_step(ledger: Ledger) -> None:
    routed(ledger, a_job("one"), a_job("two", priority=Priority.STAT))
    assert study_of(ledger).state is StudyState.ROUTED
    assert study_of(ledger).reason == "rules matched"
    assert ledger.jobs.of_study(STUDY) == [a_job("two", priority=Priority.STAT), a_job("one")]
    assert moves_of(ledger, "one") == [("CREATED", "", "QUEUED")]


def test_what_a_job_carries_comes_back_as_it_was(ledger: Ledger) -> None:
    job = a_job(destinations=("archive", "research"), reason="Modality is CT; ü", not_before=300.25)
    routed(ledger, job)
    assert job_of(ledger) == job


def test_a_study_is_routed_once(ledger: Ledger) -> None:
    study = complete(ledger, an_instance())
    assert rows.route(ledger, study, [a_job("one")], "rules", 300.0)
    assert not rows.route(ledger, study, [a_job("two")], "rules", 301.0)
    assert [job.job_id for job in ledger.jobs.of_study(STUDY)] == ["one"]


def test_a_study_that_moved_on_meanwhile_gets_no_job(ledger: Ledger) -> None:
    study = complete(ledger, an_instance(1))
    receive(ledger, an_instance(2))
    assert not rows.route(ledger, study, [a_job()], "rules", 300.0)
    assert not ledger.studies.routing_failed(study, "failed", 300.0)
    assert ledger.jobs.of_study(STUDY) == []


def next_revision(
    ledger: Ledger, *jobs: Job, number: int = 2, now: float = 600.0, series: str = SERIES
) -> None:
    """Let a late instance come, and route the new revision."""
    late = an_instance(number, received_at=now - 50, series_instance_uid=series)
    study = complete(ledger, late, now=now - 10)
    assert rows.route(ledger, study, jobs, "rules matched", now)


def test_a_job_whose_input_did_not_change_stands(ledger: Ledger) -> None:
    finished(ledger)
    before = job_of(ledger)
    next_revision(ledger, a_job(revision=2))
    assert job_of(ledger) == replace(before, revision=2)
    last = ledger.events.of("job-1")[-1]
    assert (last.event, last.reason) == (
        "UNCHANGED",
        "revision 2 has the input of this job again; it stands",
    )
    assert len(ledger.deliveries.of_job("job-1")) == 1


@pytest.mark.parametrize(
    "bring",
    [
        lambda ledger: None,
        lambda ledger: started(ledger),
        lambda ledger: ledger.jobs.give_up(started(ledger), "broken", 320.0),
    ],
    ids=["QUEUED", "RUNNING", "PARKED"],
)
def test_an_open_job_that_the_new_revision_does_not_want_is_superseded(
    bring: Callable[[Ledger], object], ledger: Ledger
) -> None:
    routed(ledger, a_job())
    bring(ledger)
    next_revision(ledger, a_job("job-2", revision=2), series="1.2.3.1.2")
    job = job_of(ledger)
    assert job.state is JobState.SUPERSEDED
    assert job.reason == "revision 2 of the study no longer asks for it"
    assert job_of(ledger, "job-2").state is JobState.QUEUED


@pytest.mark.parametrize("is_running", [False, True])
def test_an_open_job_whose_series_grows_is_superseded_at_once(
    is_running: bool, ledger: Ledger
) -> None:
    routed(ledger, a_job(), a_job("of-another-series", series_instance_uid="1.2.3.1.2"))
    job = started(ledger) if is_running else job_of(ledger)
    receive(ledger, an_instance(2, received_at=350.0))
    assert job_of(ledger).state is JobState.SUPERSEDED
    assert "its series got another instance" in job_of(ledger).reason
    assert job_of(ledger, "of-another-series").state is JobState.QUEUED
    assert not ledger.jobs.finish(job, [a_result()], "found", {}, 360.0)
    # one more, while the new revision is still arriving
    receive(ledger, an_instance(1, received_at=361.0, series_instance_uid="1.2.3.1.2"))
    assert job_of(ledger, "of-another-series").state is JobState.SUPERSEDED


def test_the_same_again_supersedes_nothing(ledger: Ledger) -> None:
    routed(ledger, a_job())
    ledger.studies.instance_stored(an_instance(received_at=350.0))
    assert job_of(ledger).state is JobState.QUEUED


def test_a_job_that_came_to_its_end_is_not_superseded(ledger: Ledger) -> None:
    finished(ledger)
    next_revision(ledger, a_job("job-2", revision=2))
    assert job_of(ledger).state is JobState.DONE


def test_the_jobs_of_other_studies_are_left_alone(ledger: Ledger) -> None:
    other = "1.2.99"
    study = complete(ledger, an_instance(study_instance_uid=other))
    rows.route(ledger, study, [a_job("other", study_instance_uid=other)], "rules", 300.0)
    routed(ledger, a_job())
    next_revision(ledger)
    assert job_of(ledger).state is JobState.SUPERSEDED
    assert job_of(ledger, "other").state is JobState.QUEUED


def test_a_superseded_job_lives_again_when_its_input_comes_back(ledger: Ledger) -> None:
    routed(ledger, a_job())
    next_revision(ledger, a_job("job-2", revision=2))
    next_revision(ledger, a_job(revision=3), number=3, now=900.0)
    assert job_of(ledger).state is JobState.QUEUED
    assert job_of(ledger, "job-2").state is JobState.SUPERSEDED
    assert [event for event, _, _ in moves_of(ledger, "job-1")] == [
        "CREATED",
        "SUPERSEDED",
        "RETRIED",
    ]


def test_a_job_that_lives_again_is_tried_at_once_with_a_clean_count(ledger: Ledger) -> None:
    routed(ledger, a_job())
    ledger.jobs.fail(started(ledger), "broken", 9000.0, 320.0)
    next_revision(ledger, a_job("job-2", revision=2))
    next_revision(ledger, a_job(revision=3), number=3, now=900.0)
    assert [job.job_id for job in ledger.jobs.ready(900.0)] == ["job-1"]
    assert job_of(ledger).failures == 0


def test_a_parked_study_is_routed_again_when_a_person_retries_it(ledger: Ledger) -> None:
    reach(ledger, StudyState.PARKED)
    assert ledger.studies.in_states([StudyState.PARKED])[0].reason == "a rule failed"
    assert ledger.studies.retry(STUDY, 400.0)
    assert study_of(ledger).state is StudyState.COMPLETE
    assert not ledger.studies.retry(STUDY, 401.0)
    assert not ledger.studies.retry("1.2.999", 401.0)


# ---------------------------------------------------------------- jobs


def test_what_is_ready_comes_urgent_first_then_oldest(ledger: Ledger) -> None:
    routed(
        ledger,
        a_job("low", priority=Priority.LOW, created_at=290.0),
        a_job("second", created_at=296.0),
        a_job("first", created_at=295.0),
        a_job("stat", priority=Priority.STAT, created_at=299.0),
        a_job("later", priority=Priority.STAT, not_before=301.0),
    )
    assert [job.job_id for job in ledger.jobs.ready(300.0)] == ["stat", "first", "second", "low"]
    assert "later" in [job.job_id for job in ledger.jobs.ready(301.0)]


def test_a_started_job_is_no_longer_ready_and_cannot_be_started_again(ledger: Ledger) -> None:
    routed(ledger, a_job())
    job = started(ledger, now=310.0)
    assert (job.state, job.attempt, job.updated_at) == (JobState.RUNNING, 1, 310.0)
    assert ledger.jobs.ready(10_000.0) == []
    assert ledger.jobs.start("job-1", 311.0) is None
    assert ledger.jobs.start("unknown", 311.0) is None


JOB_ENDS: dict[str, tuple[JobState, Callable[[Ledger, Job], bool]]] = {
    "finish": (JobState.DONE, lambda at, j: at.jobs.finish(j, [a_result()], "found", {}, 400.0)),
    "refuse": (JobState.REFUSED, lambda at, j: at.jobs.refuse(j, "not a chest", 400.0)),
    "supersede": (JobState.SUPERSEDED, lambda at, j: at.jobs.supersede(j, "changed", 400.0)),
    "fail": (JobState.QUEUED, lambda at, j: at.jobs.fail(j, "model raised", 405.0, 400.0)),
    "crash": (JobState.QUEUED, lambda at, j: at.jobs.crash(j, "killed", 405.0, 400.0)),
    "interrupt": (JobState.QUEUED, lambda at, j: at.jobs.interrupt(j, "node stopped", 400.0)),
    "give_up": (JobState.PARKED, lambda at, j: at.jobs.give_up(j, "3 crashes", 400.0)),
}


@pytest.mark.parametrize("end", JOB_ENDS)
def test_an_attempt_ends_once_with_one_event_and_its_reason(
    end: str, ledger: Ledger, database: Database
) -> None:
    state, act = JOB_ENDS[end]
    routed(ledger, a_job())
    job = started(ledger)
    before = count_of(database, "events")
    assert act(ledger, job)
    assert not act(ledger, job)
    assert job_of(ledger).state is state
    assert job_of(ledger).attempt == 1
    assert count_of(database, "events") == before + 1
    last = ledger.events.of("job-1")[-1]
    assert (last.from_state, last.to_state, last.at) == ("RUNNING", state, 400.0)
    assert last.reason == job_of(ledger).reason != ""


@pytest.mark.parametrize("end", JOB_ENDS)
def test_a_late_end_of_an_older_attempt_is_dropped(
    end: str, ledger: Ledger, database: Database
) -> None:
    _, act = JOB_ENDS[end]
    routed(ledger, a_job())
    old = started(ledger)
    ledger.jobs.interrupt(old, "the node stopped while it ran", 320.0)
    current = started(ledger, now=330.0)
    before = count_of(database, "events")
    assert not act(ledger, old)
    assert job_of(ledger) == current
    assert count_of(database, "events") == before
    assert count_of(database, "results") == 0
    assert count_of(database, "deliveries") == 0


@pytest.mark.parametrize("end", JOB_ENDS)
def test_a_job_that_does_not_run_cannot_end(end: str, ledger: Ledger, database: Database) -> None:
    _, act = JOB_ENDS[end]
    routed(ledger, a_job())
    assert not act(ledger, job_of(ledger))
    assert job_of(ledger).state is JobState.QUEUED
    assert count_of(database, "results") == 0


def test_failures_and_crashes_are_counted_apart_and_interruptions_not_at_all(
    ledger: Ledger,
) -> None:
    routed(ledger, a_job())
    ledger.jobs.fail(started(ledger), "raised", 330.0, 320.0)
    ledger.jobs.crash(started(ledger), "killed", 340.0, 330.0)
    ledger.jobs.crash(started(ledger), "killed", 350.0, 340.0)
    ledger.jobs.interrupt(started(ledger), "stopped", 350.0)
    job = job_of(ledger)
    assert (job.attempt, job.failures, job.crashes) == (4, 1, 2)
    assert job.not_before == 350.0


def test_a_job_that_failed_waits_for_its_time(ledger: Ledger) -> None:
    routed(ledger, a_job())
    ledger.jobs.fail(started(ledger), "raised", 330.0, 320.0)
    assert ledger.jobs.ready(329.9) == []
    assert [job.job_id for job in ledger.jobs.ready(330.0)] == ["job-1"]


def test_finishing_records_the_results_and_plans_each_delivery_once(
    ledger: Ledger, database: Database
) -> None:
    routed(ledger, a_job(destinations=("archive", "research"), priority=Priority.HIGH))
    job = started(ledger)
    results = [a_result(1), a_result(2, kind="SR")]
    assert ledger.jobs.finish(job, results, "left lung 1955 ml", {"infer": 1.5}, 400.0)
    assert ledger.results.of_job("job-1") == results
    done = job_of(ledger)
    assert (done.summary, done.seconds) == ("left lung 1955 ml", {"infer": 1.5})
    planned = ledger.deliveries.of_job("job-1")
    assert {(p.result.sop_instance_uid, p.delivery.destination) for p in planned} == {
        ("2.25.1", "archive"),
        ("2.25.1", "research"),
        ("2.25.2", "archive"),
        ("2.25.2", "research"),
    }
    for parcel in planned:
        delivery = parcel.delivery
        assert (delivery.state, delivery.priority) == (DeliveryState.PENDING, Priority.HIGH)
        assert (delivery.attempt, delivery.failures) == (0, 0)
        assert delivery.not_before == delivery.created_at == delivery.tried_since == 400.0
    assert not ledger.jobs.finish(job, results, "again", {}, 401.0)
    assert count_of(database, "deliveries") == 4


def test_a_kind_of_result_can_be_for_some_destinations_only(ledger: Ledger) -> None:
    routed(ledger, a_job(destinations=("archive", "research")))
    results = [a_result(1), a_result(2, kind=REJECTION)]
    only_to = {REJECTION: ["research"]}
    assert ledger.jobs.finish(started(ledger), results, "", {}, 400.0, only_to=only_to)
    assert {(p.result.kind, p.delivery.destination) for p in ledger.deliveries.of_job("job-1")} == {
        ("SEG", "archive"),
        ("SEG", "research"),
        (REJECTION, "research"),
    }


def test_a_job_replaces_the_last_of_its_engine_that_no_longer_stands(ledger: Ledger) -> None:
    study = complete(ledger, an_instance())
    older = [
        a_job("oldest", created_at=300.0, revision=1),
        a_job("old", created_at=310.0, revision=2),
        a_job("of another engine", created_at=320.0, revision=2, engine_name="other"),
        a_job("of another series", created_at=320.0, revision=2, series_instance_uid="1.2.9"),
        a_job("sent elsewhere", created_at=320.0, revision=2, destinations=("research",)),
        a_job("beside it", created_at=330.0, revision=3, parameters={"threshold": 0.4}),
    ]
    rows.route(ledger, study, older, "rules", 340.0)
    for number, job in enumerate(older, 1):
        results = [
            a_result(10 * number, job_id=job.job_id),
            a_result(10 * number + 1, job_id=job.job_id, kind="SR"),
            a_result(10 * number + 2, job_id=job.job_id, kind=REJECTION),
        ]
        ledger.jobs.finish(started(ledger, job.job_id), results, "", {}, 400.0 + number)
    new = a_job("new", created_at=350.0, revision=3)
    replaced = ledger.results.replaced_by(new, ["archive"])
    assert [(one.job_id, one.kind) for one in replaced] == [("old", "SEG"), ("old", "SR")]
    upgraded = a_job("upgraded", created_at=350.0, revision=3, parameters={"threshold": 0.4})
    assert {one.job_id for one in ledger.results.replaced_by(upgraded, ["archive"])} == {
        "beside it"
    }
    assert ledger.results.replaced_by(older[0], ["archive"]) == []
    assert ledger.results.replaced_by(new, []) == []


def test_each_destination_gets_the_tree_of_its_rendition_and_an_unknown_one_the_default(
    ledger: Ledger,
) -> None:
    routed(ledger, a_job(destinations=("archive", "viewer", "new")))
    results = [
        a_result(1, renditions=("default", "SEG+KO+SR")),
        a_result(2, kind="SR"),
        a_result(3, kind="KO", renditions=("SEG+KO+SR",)),
        a_result(4, kind="SR", renditions=("SEG+KO+SR",)),
    ]
    wanted = {"archive": "default", "viewer": "SEG+KO+SR"}
    assert ledger.jobs.finish(started(ledger), results, "", {}, 400.0, renditions=wanted)
    planned: dict[str, set[str]] = {}
    for parcel in ledger.deliveries.of_job("job-1"):
        uids_of = planned.setdefault(parcel.delivery.destination, set())
        uids_of.add(parcel.result.sop_instance_uid)
    assert planned == {
        "archive": {"2.25.1", "2.25.2"},
        "new": {"2.25.1", "2.25.2"},
        "viewer": {"2.25.1", "2.25.3", "2.25.4"},
    }
    assert {one.renditions for one in ledger.results.of_job("job-1")} == {
        ("default", "SEG+KO+SR"),
        ("default",),
        ("SEG+KO+SR",),
    }


def test_what_a_destination_accepts_is_remembered_as_it_last_answered(ledger: Ledger) -> None:
    assert ledger.acceptances.accepting("1.2.3") == frozenset()
    assert ledger.acceptances.asked_at("archive", "1.2.3") is None
    ledger.acceptances.note("archive", "1.2.3", accepted=True, now=100.0)
    ledger.acceptances.note("other", "1.2.3", accepted=False, now=110.0)
    ledger.acceptances.note("archive", "1.2.4", accepted=False, now=120.0)
    assert ledger.acceptances.accepting("1.2.3") == {"archive"}
    ledger.acceptances.note("archive", "1.2.3", accepted=False, now=200.0)
    assert ledger.acceptances.accepting("1.2.3") == frozenset()
    assert ledger.acceptances.asked_at("archive", "1.2.3") == 200.0


@pytest.mark.parametrize("end", ["give_up", "refuse"])
def test_a_person_can_retry_what_was_parked_or_refused(end: str, ledger: Ledger) -> None:
    routed(ledger, a_job())
    ledger.jobs.fail(started(ledger), "raised", 315.0, 311.0)
    ledger.jobs.crash(started(ledger), "killed", 320.0, 316.0)
    JOB_ENDS[end][1](ledger, started(ledger))
    assert ledger.jobs.retry("job-1", 500.0)
    job = job_of(ledger)
    assert (job.state, job.failures, job.crashes, job.not_before) == (JobState.QUEUED, 0, 0, 500.0)
    assert job.attempt == 3  # never reset: it fences late answers
    assert not ledger.jobs.retry("job-1", 501.0)
    assert moves_of(ledger, "job-1")[-1][0] == "RETRIED"


@pytest.mark.parametrize("end", ["finish", "supersede"])
def test_what_is_done_or_superseded_is_not_retried(end: str, ledger: Ledger) -> None:
    routed(ledger, a_job())
    JOB_ENDS[end][1](ledger, started(ledger))
    assert not ledger.jobs.retry("job-1", 500.0)
    assert not ledger.jobs.retry("unknown", 500.0)


def test_jobs_are_found_and_counted_by_state(ledger: Ledger) -> None:
    routed(ledger, a_job("one"), a_job("two"), a_job("three"))
    started(ledger, "two")
    assert ledger.jobs.counts() == {JobState.QUEUED: 2, JobState.RUNNING: 1}
    assert [job.job_id for job in ledger.jobs.in_states(JobState.RUNNING)] == ["two"]
    assert ledger.jobs.in_states(JobState.DONE, JobState.PARKED) == []


# ---------------------------------------------------------------- deliveries


def test_what_can_be_sent_comes_urgent_first_then_oldest(ledger: Ledger) -> None:
    study = complete(ledger, an_instance())
    jobs = [
        a_job("routine"),
        a_job("stat", priority=Priority.STAT),
        a_job("elsewhere", destinations=("research",), priority=Priority.LOW),
    ]
    rows.route(ledger, study, jobs, "rules", 300.0)
    for number, job in enumerate(jobs, 1):
        result = a_result(number, job_id=job.job_id)
        ledger.jobs.finish(started(ledger, job.job_id), [result], "", {}, 400.0 + number)
    ready = ledger.deliveries.ready("archive", 500.0, 10)
    assert [parcel.result.job_id for parcel in ready] == ["stat", "routine"]
    assert len(ledger.deliveries.ready("archive", 500.0, 1)) == 1
    assert ledger.deliveries.ready("archive", 400.5, 10) == []
    assert sorted(ledger.deliveries.destinations_ready(500.0)) == [
        ("archive", Priority.STAT),
        ("research", Priority.LOW),
    ]
    assert ledger.deliveries.destinations_ready(400.5) == []


def test_a_delivery_is_taken_once(ledger: Ledger) -> None:
    finished(ledger, a_result(1), a_result(2))
    ready = ledger.deliveries.ready("archive", 410.0, 10)
    taken = ledger.deliveries.start(ready, 410.0)
    assert [p.delivery.delivery_id for p in taken] == [p.delivery.delivery_id for p in ready]
    assert {(p.delivery.state, p.delivery.attempt) for p in taken} == {(DeliveryState.SENDING, 1)}
    assert ledger.deliveries.start(ready, 411.0) == []
    assert ledger.deliveries.ready("archive", 999.0, 10) == []


def test_what_start_returns_is_what_the_ledger_holds(ledger: Ledger) -> None:
    finished(ledger)
    [parcel] = sending(ledger)
    held = delivery_of(ledger, parcel.delivery.delivery_id)
    assert (held.state, held.attempt) == (parcel.delivery.state, parcel.delivery.attempt)


DELIVERY_ENDS: dict[str, tuple[DeliveryState, Callable[[Ledger, Delivery], bool]]] = {
    "accepted": (DeliveryState.SENT, lambda at, d: at.deliveries.accepted(d, "stored", 420.0)),
    "postpone": (
        DeliveryState.PENDING,
        lambda at, d: at.deliveries.postpone(d, "unreachable", 430.0, 420.0),
    ),
    "give_up": (DeliveryState.DEAD, lambda at, d: at.deliveries.give_up(d, "refused", 420.0)),
    "interrupt": (
        DeliveryState.PENDING,
        lambda at, d: at.deliveries.interrupt(d, "node stopped", 420.0),
    ),
}


@pytest.mark.parametrize("end", DELIVERY_ENDS)
def test_a_sending_ends_once_with_one_event_and_its_reason(
    end: str, ledger: Ledger, database: Database
) -> None:
    state, act = DELIVERY_ENDS[end]
    finished(ledger)
    [parcel] = sending(ledger)
    before = count_of(database, "events")
    assert act(ledger, parcel.delivery)
    assert not act(ledger, parcel.delivery)
    held = delivery_of(ledger, parcel.delivery.delivery_id)
    assert (held.state, held.attempt) == (state, 1)
    assert count_of(database, "events") == before + 1
    last = ledger.events.of(str(held.delivery_id))[-1]
    assert (last.subject_kind, last.from_state, last.to_state) == ("delivery", "SENDING", state)
    assert last.reason == held.reason != ""


@pytest.mark.parametrize("end", DELIVERY_ENDS)
def test_a_late_end_of_an_older_sending_is_dropped(end: str, ledger: Ledger) -> None:
    _, act = DELIVERY_ENDS[end]
    finished(ledger)
    [old] = sending(ledger)
    ledger.deliveries.interrupt(old.delivery, "the node stopped", 412.0)
    [current] = sending(ledger, now=415.0)
    assert not act(ledger, old.delivery)
    held = delivery_of(ledger, old.delivery.delivery_id)
    assert (held.state, held.attempt) == (DeliveryState.SENDING, current.delivery.attempt)


def test_a_postponed_delivery_waits_and_counts_and_an_interrupted_one_does_not(
    ledger: Ledger,
) -> None:
    finished(ledger, a_result(1), a_result(2))
    one, two = sending(ledger)
    ledger.deliveries.postpone(one.delivery, "unreachable", 430.0, 420.0)
    ledger.deliveries.interrupt(two.delivery, "stopped", 420.0)
    assert [p.delivery.delivery_id for p in ledger.deliveries.ready("archive", 429.0, 9)] == [
        two.delivery.delivery_id
    ]
    assert len(ledger.deliveries.ready("archive", 430.0, 9)) == 2
    assert delivery_of(ledger, one.delivery.delivery_id).failures == 1
    assert delivery_of(ledger, two.delivery.delivery_id).failures == 0


@pytest.mark.parametrize("end", ["give_up", "accepted"])
def test_a_person_can_replay_what_is_dead_or_sent(end: str, ledger: Ledger) -> None:
    finished(ledger)
    [parcel] = sending(ledger)
    delivery = parcel.delivery
    ledger.deliveries.postpone(delivery, "unreachable", 412.0, 411.0)
    [parcel] = sending(ledger, now=412.0)
    DELIVERY_ENDS[end][1](ledger, parcel.delivery)
    assert ledger.deliveries.retry(delivery.delivery_id, 900.0)
    held = delivery_of(ledger, delivery.delivery_id)
    assert (held.state, held.failures, held.attempt) == (DeliveryState.PENDING, 0, 2)
    assert held.not_before == held.tried_since == 900.0
    assert not ledger.deliveries.retry(delivery.delivery_id, 901.0)
    assert not ledger.deliveries.retry(12345, 901.0)


def test_a_number_that_no_delivery_can_have_is_simply_unknown(ledger: Ledger) -> None:
    assert not ledger.deliveries.retry(999_999_999_999, 900.0)


def test_hurry_lets_what_waits_go_at_once(ledger: Ledger) -> None:
    finished(ledger, a_result(1), a_result(2))
    for parcel in sending(ledger):
        ledger.deliveries.postpone(parcel.delivery, "unreachable", 9000.0, 420.0)
    assert ledger.deliveries.hurry(500.0) == 2
    assert ledger.deliveries.hurry(500.0) == 0
    assert len(ledger.deliveries.ready("archive", 500.0, 10)) == 2


def test_deliveries_are_found_and_counted_by_state(ledger: Ledger) -> None:
    finished(ledger, a_result(1), a_result(2), a_result(3))
    one, two, _ = ledger.deliveries.ready("archive", 410.0, 10)
    [sent, _] = ledger.deliveries.start([one, two], 410.0)
    ledger.deliveries.accepted(sent.delivery, "stored", 420.0)
    assert ledger.deliveries.counts() == {
        DeliveryState.PENDING: 1,
        DeliveryState.SENDING: 1,
        DeliveryState.SENT: 1,
    }
    [dead] = ledger.deliveries.in_states(DeliveryState.SENT)
    assert dead.result == a_result(1)


# ---------------------------------------------------------------- events


def test_an_event_that_is_no_transition_is_kept_as_it_was_told(ledger: Ledger) -> None:
    ledger.events.record(5.0, ("association", "CT9"), "REJECTED", "calling AE title is unknown")
    ledger.events.record(6.0, ("association", "CT9"), "REJECTED", "again")
    first, second = ledger.events.of("CT9")
    assert (first.at, first.subject_kind, first.event) == (5.0, "association", "REJECTED")
    assert second.reason == "again"
    assert ledger.events.named("REJECTED") == [first, second]
    assert ledger.events.named("REFUSED") == []


# ---------------------------------------------------------------- several at once


def together(count: int, act: Callable[[int], object]) -> list[object]:
    """Call `act` from so many threads at the same moment; return what each returned."""
    gate = threading.Barrier(count)
    answers: list[object] = [None] * count

    def run(number: int) -> None:
        gate.wait(30)
        try:
            answers[number] = act(number)
        except Exception as error:  # noqa: BLE001
            answers[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers


def test_of_two_who_want_the_same_job_exactly_one_gets_it(ledger: Ledger) -> None:
    def start(key: str, _number: int) -> Job | None:
        return ledger.jobs.start(key, 310.0)

    routed(ledger, *[a_job(f"job-{number}") for number in range(5)])
    for number in range(5):
        job_id = f"job-{number}"
        answers = together(2, partial(start, job_id))
        assert sorted(answer is None for answer in answers) == [False, True]
        assert job_of(ledger, f"job-{number}").attempt == 1


def test_of_two_who_want_the_same_deliveries_each_goes_to_one(ledger: Ledger) -> None:
    finished(ledger, *[a_result(number) for number in range(6)])
    ready = ledger.deliveries.ready("archive", 410.0, 10)
    answers = together(2, lambda _: ledger.deliveries.start(ready, 410.0))
    taken = [parcel for answer in answers for parcel in _parcels(answer)]
    assert sorted(p.delivery.delivery_id for p in taken) == sorted(
        p.delivery.delivery_id for p in ready
    )


def _parcels(answer: object) -> list[Parcel]:
    assert isinstance(answer, list), answer
    return answer


def test_eight_threads_that_store_one_study_lose_nothing(ledger: Ledger) -> None:
    each = 10

    def store(thread: int) -> list[Arrival]:
        numbers = range(thread * each, (thread + 1) * each)
        return [ledger.studies.instance_stored(an_instance(number)) for number in numbers]

    answers = together(8, store)
    assert answers == [[Arrival.NEW] * each] * 8
    assert len(ledger.studies.instances(STUDY)) == 8 * each
    assert study_of(ledger).revision == 1
    assert moves_of(ledger, STUDY) == [("INSTANCE_STORED", "", "RECEIVING")]


def test_eight_threads_that_store_the_same_instance_store_it_once(ledger: Ledger) -> None:
    answers = together(8, lambda _: ledger.studies.instance_stored(an_instance()))
    assert sorted(str(answer) for answer in answers) == ["new", *["repeated"] * 7]
    assert len(ledger.studies.instances(STUDY)) == 1


def test_a_late_instance_and_the_router_never_both_win(ledger: Ledger) -> None:
    study = complete(ledger, an_instance(1))
    routed_it, _ = together(
        2,
        lambda number: (
            rows.route(ledger, study, [a_job()], "rules", 300.0)
            if number == 0
            else ledger.studies.instance_stored(an_instance(2, received_at=299.0))
        ),
    )
    found = study_of(ledger)
    assert (found.state, found.revision) == (StudyState.RECEIVING, 2)
    assert bool(routed_it) is bool(ledger.jobs.of_study(STUDY))


def test_two_routers_make_the_jobs_once(ledger: Ledger) -> None:
    study = complete(ledger, an_instance(1))
    answers = together(2, lambda _: rows.route(ledger, study, [a_job()], "rules", 300.0))
    assert sorted(map(bool, answers)) == [False, True]
    assert moves_of(ledger, "job-1") == [("CREATED", "", "QUEUED")]


# ---------------------------------------------------------------- verdicts and paces


def a_verdict(certainty: Certainty = Certainty.PROBABLE, *against: str) -> Verdict:
    series = SeriesVerdict(SERIES, certainty, ("1 instances",), against)
    return Verdict(certainty, ("1 instances in 1 series",), against, (series,), Action.ROUTE, 0.0)


def test_a_verdict_is_kept_with_its_reasons_for_each_revision(ledger: Ledger) -> None:
    verdict = a_verdict(Certainty.SUSPECT, "an association of SCANNER was aborted; ü")
    first = receive(ledger, an_instance(1))
    assert ledger.studies.completed(first, verdict.reason, 250.0, verdict)
    second = receive(ledger, an_instance(2, received_at=300.0))
    assert ledger.studies.completed(second, "again", 310.0, a_verdict())
    kept = ledger.verdicts.of_study(STUDY)
    assert [(v.revision, v.series_instance_uid) for v in kept] == [
        (1, ""),
        (1, SERIES),
        (2, ""),
        (2, SERIES),
    ]
    assert (kept[0].certainty, kept[0].at) == (Certainty.SUSPECT, 250.0)
    assert kept[0].for_ == ("1 instances in 1 series",)
    assert kept[0].against == ("an association of SCANNER was aborted; ü",)


def test_no_verdict_and_no_lesson_is_kept_of_a_study_that_moved_on(ledger: Ledger) -> None:
    evidence = receive(ledger, an_instance(1))
    receive(ledger, an_instance(2))
    lesson = Lesson("SCANNER", "CT", Silences(1.0, 2.0))
    assert not ledger.studies.completed(evidence, "quiet", 250.0, a_verdict(), [lesson])
    assert ledger.verdicts.of_study(STUDY) == []
    assert ledger.paces.of("SCANNER", "CT") == ()


def test_a_lesson_is_corrected_and_only_the_last_fifty_are_kept(ledger: Ledger) -> None:
    for number in range(60):
        uid = f"1.2.9.{number}"
        evidence = receive(ledger, an_instance(study_instance_uid=uid))
        lesson = Lesson("SCANNER", "CT", Silences(float(number), 0.5))
        assert ledger.studies.completed(evidence, "quiet", 250.0, None, [lesson])
    kept = ledger.paces.of("SCANNER", "CT")
    assert [silences.released_s for silences in kept] == [float(n) for n in range(10, 60)]
    late = receive(ledger, an_instance(2, study_instance_uid="1.2.9.30", received_at=300.0))
    lesson = Lesson("SCANNER", "CT", Silences(77.0, 0.5))
    assert ledger.studies.completed(late, "quiet", 350.0, None, [lesson])
    assert [s.released_s for s in ledger.paces.of("SCANNER", "CT")][20] == 77.0
    assert len(ledger.paces.of("SCANNER", "CT")) == 50
    assert ledger.paces.of("SCANNER", "MR") == ()


def test_evidence_names_who_carried_what_repeats_too(ledger: Ledger) -> None:
    rows.open_association(ledger, "again", at=110.0)
    receive(ledger, an_instance(1), an_instance(1, series_instance_uid="1.2.3.1.2"))
    rows.release(ledger, at=109.0)
    evidence = receive(ledger, an_instance(1, received_at=120.0, association_id="again"))
    first, again = evidence.carriers
    assert (first.end, again.end) == (AssociationEnd.RELEASED, None)
    assert set(first.series) == {SERIES, "1.2.3.1.2"}
    assert (set(again.series), again.last_series) == ({SERIES}, SERIES)
    assert (again.last_at, evidence.last_instance_at) == (120.0, 101.0)
    assert (evidence.instance_count, evidence.open_associations) == (2, 1)


def test_what_was_refused_is_evidence_until_it_comes(ledger: Ledger) -> None:
    for number in (1, 2):
        uid = an_instance(number).sop_instance_uid
        ledger.events.record(90.0, ("association", rows.ASSOCIATION), "INSTANCE_REFUSED", uid)
    assert receive(ledger, an_instance(1)).refused == {an_instance(2).sop_instance_uid}
    assert receive(ledger, an_instance(2)).refused == frozenset()
