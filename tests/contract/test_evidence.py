"""What peers ask and announce: the ledger's contract, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select, text

from dicom_node.errors import StorageError
from dicom_node.ledger import schema
from dicom_node.ledger.commitments import CLASS_INSTANCE_CONFLICT, NO_SUCH_INSTANCE
from dicom_node.ledger.database import Database
from dicom_node.ledger.evidence import StepUpdate
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import CommitmentState
from dicom_node.model import (
    AnnouncedInstance,
    Announcement,
    AnnouncementKind,
    AnnouncementStatus,
    Commitment,
    Instance,
    ReferencedInstance,
)
from tests.unit.ledger.rows import (
    CT_IMAGE_STORAGE,
    SERIES,
    STUDY,
    an_instance,
    moves_of,
    receive,
)

MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
TRANSACTION = "1.2.3.77"


def held(instance: Instance) -> bool:
    return True


def a_reference(number: int = 1, **changes: Any) -> ReferencedInstance:
    return replace(ReferencedInstance(CT_IMAGE_STORAGE, f"{SERIES}.{number}"), **changes)


def requested(
    ledger: Ledger,
    *references: ReferencedInstance,
    transaction_uid: str = TRANSACTION,
    calling: str = "SCANNER",
    not_before: float = 560.0,
    now: float = 500.0,
) -> Commitment:
    wanted = references or (a_reference(),)
    return ledger.commitments.request(transaction_uid, calling, wanted, not_before, now)


def reporting(ledger: Ledger, now: float = 600.0, calling: str = "SCANNER") -> list[Commitment]:
    return ledger.commitments.start(ledger.commitments.ready(calling, now, 100), now)


def state_of(ledger: Ledger, commitment: Commitment) -> CommitmentState:
    found = ledger.commitments.get(commitment.commitment_id)
    assert found is not None
    return found.state


def rows_in(database: Database, table: str) -> int:
    with database.reading() as connection:
        query = select(func.count()).select_from(schema.metadata.tables[table])
        return int(connection.execute(query).scalar_one())


# ---------------------------------------------------------------- commitments: what is asked


def test_a_request_is_kept_with_all_that_it_names(ledger: Ledger, database: Database) -> None:
    commitment = requested(ledger, a_reference(1), a_reference(2), a_reference(1))
    assert commitment == Commitment(
        commitment_id=commitment.commitment_id,
        transaction_uid=TRANSACTION,
        calling_ae_title="SCANNER",
        state=CommitmentState.PENDING,
        attempt=0,
        failures=0,
        not_before=560.0,
        reason="not decided yet",
        created_at=500.0,
        tried_since=500.0,
        updated_at=500.0,
    )
    assert ledger.commitments.get(commitment.commitment_id) == commitment
    assert ledger.commitments.counts() == {CommitmentState.PENDING: 1}
    assert rows_in(database, "commitment_references") == 2
    [event] = ledger.events.of(str(commitment.commitment_id))
    assert (event.event, event.to_state) == ("CREATED", "PENDING")
    assert event.reason == f"requested by SCANNER as {TRANSACTION}"


def test_two_requestors_may_use_the_same_transaction_uid(ledger: Ledger) -> None:
    first = requested(ledger)
    second = requested(ledger, calling="PACS")
    assert first.commitment_id != second.commitment_id
    assert ledger.commitments.requestors_ready(560.0) == ["PACS", "SCANNER"]


@pytest.mark.parametrize("state", CommitmentState)
def test_the_same_request_again_begins_anew_from_every_state(
    state: CommitmentState, ledger: Ledger, database: Database
) -> None:
    first = requested(ledger, a_reference(1), a_reference(2))
    with database.writing() as connection:
        connection.execute(text(f"UPDATE commitments SET state = '{state}', failures = 5"))
    second = requested(ledger, a_reference(3), not_before=760.0, now=700.0)
    assert second.commitment_id == first.commitment_id
    assert (second.state, second.failures, second.tried_since) == (
        CommitmentState.PENDING,
        0,
        700.0,
    )
    assert second.attempt > first.attempt
    receive(ledger, an_instance(1), an_instance(3))
    assert ledger.commitments.outcome(second, held).committed == (a_reference(3),)
    assert moves_of(ledger, str(first.commitment_id))[-1] == ("RETRIED", state, "PENDING")


def test_the_database_knows_the_states_and_refuses_any_other(
    ledger: Ledger, database: Database
) -> None:
    requested(ledger)
    for state in ("PENDING", "REPORTING", "REPORTED", "DEAD"):
        with database.writing() as connection:
            connection.execute(text(f"UPDATE commitments SET state = '{state}'"))
    for state in ("NONSENSE", "", "pending"):
        with pytest.raises(StorageError), database.writing() as connection:
            connection.execute(text(f"UPDATE commitments SET state = '{state}'"))


# ---------------------------------------------------------------- commitments: what is held


def test_what_is_held_is_what_has_a_row_its_class_and_its_bytes(ledger: Ledger) -> None:
    receive(ledger, an_instance(1), an_instance(2), an_instance(3))
    other_class = a_reference(2, sop_class_uid=MR_IMAGE_STORAGE)
    commitment = requested(ledger, a_reference(1), other_class, a_reference(3), a_reference(4))
    outcome = ledger.commitments.outcome(
        commitment, lambda instance: instance.sop_instance_uid != f"{SERIES}.3"
    )
    assert outcome.committed == (a_reference(1),)
    assert outcome.failed == (
        (other_class, CLASS_INSTANCE_CONFLICT),
        (a_reference(3), NO_SUCH_INSTANCE),
        (a_reference(4), NO_SUCH_INSTANCE),
    )
    assert outcome.in_words == (
        f"3 of 4 instances are not committed, the first is {SERIES}.2 (0x0119)"
    )


def test_what_arrives_later_counts_when_it_is_asked_later(ledger: Ledger) -> None:
    commitment = requested(ledger)
    assert len(ledger.commitments.outcome(commitment, held).failed) == 1
    receive(ledger, an_instance(1))
    outcome = ledger.commitments.outcome(commitment, held)
    assert outcome.failed == ()
    assert outcome.in_words == "all 1 instances are committed"


def test_an_instance_of_two_studies_is_held_if_either_is(ledger: Ledger) -> None:
    other = an_instance(1, study_instance_uid="1.2.3.9", path="elsewhere")
    receive(ledger, an_instance(1), other)
    commitment = requested(ledger)
    outcome = ledger.commitments.outcome(commitment, lambda one: one.path == "elsewhere")
    assert outcome.committed == (a_reference(1),)


# ---------------------------------------------------------------- commitments: the report


def test_nothing_is_reported_before_its_time(ledger: Ledger) -> None:
    requested(ledger)
    assert ledger.commitments.requestors_ready(559.0) == []
    assert reporting(ledger, 559.0) == []
    assert ledger.commitments.requestors_ready(560.0) == ["SCANNER"]


def test_only_one_taker_gets_a_commitment(ledger: Ledger) -> None:
    requested(ledger)
    ready = ledger.commitments.ready("SCANNER", 600.0, 10)
    [taken] = ledger.commitments.start(ready, 600.0)
    assert ledger.commitments.start(ready, 600.0) == []
    assert (taken.state, taken.attempt) == (CommitmentState.REPORTING, 1)
    assert ledger.commitments.get(taken.commitment_id) == replace(
        taken, reason="attempt 1", updated_at=600.0
    )


def test_a_report_that_is_acknowledged_ends_it(ledger: Ledger) -> None:
    requested(ledger)
    [taken] = reporting(ledger)
    assert ledger.commitments.acknowledged(taken, "all 1 instances are committed", 610.0)
    assert moves_of(ledger, str(taken.commitment_id)) == [
        ("CREATED", "", "PENDING"),
        ("STARTED", "PENDING", "REPORTING"),
        ("ACKNOWLEDGED", "REPORTING", "REPORTED"),
    ]


def test_a_report_that_fails_waits_and_a_dead_one_can_be_retried(ledger: Ledger) -> None:
    requested(ledger)
    [taken] = reporting(ledger)
    assert ledger.commitments.postpone(taken, "unreachable", 700.0, 610.0)
    assert reporting(ledger, 699.0) == []
    [again] = reporting(ledger, 700.0)
    assert (again.attempt, again.failures) == (2, 1)
    assert ledger.commitments.give_up(again, "refused", 710.0)
    assert ledger.commitments.retry(again.commitment_id, 800.0)
    found = ledger.commitments.get(again.commitment_id)
    assert found is not None
    assert (found.state, found.failures, found.tried_since) == (CommitmentState.PENDING, 0, 800.0)
    assert not ledger.commitments.retry(again.commitment_id, 800.0)
    assert not ledger.commitments.retry(999, 800.0)


def test_a_report_that_was_interrupted_is_due_at_once(ledger: Ledger) -> None:
    requested(ledger)
    [taken] = reporting(ledger)
    assert ledger.commitments.interrupt(taken, "the node stopped while it was reporting", 620.0)
    assert len(reporting(ledger, 620.0)) == 1


def test_a_late_answer_moves_nothing(ledger: Ledger) -> None:
    asked = requested(ledger)
    [first] = reporting(ledger)
    ledger.commitments.postpone(first, "unreachable", 600.0, 600.0)
    [second] = reporting(ledger)
    for late in (asked, first):
        assert not ledger.commitments.acknowledged(late, "late", 620.0)
        assert not ledger.commitments.give_up(late, "late", 620.0)
        assert not ledger.commitments.acknowledged_at_once(late, "late", 620.0)
        assert not ledger.commitments.not_acknowledged_at_once(late, "late", 620.0)
    assert state_of(ledger, second) is CommitmentState.REPORTING


def test_who_answers_at_once_is_not_reported_to_again(ledger: Ledger) -> None:
    commitment = requested(ledger)
    assert ledger.commitments.acknowledged_at_once(commitment, "acknowledged", 501.0)
    assert state_of(ledger, commitment) is CommitmentState.REPORTED
    assert ledger.commitments.requestors_ready(9999.0) == []


def test_who_does_not_is_due_at_once(ledger: Ledger) -> None:
    commitment = requested(ledger)
    assert ledger.commitments.not_acknowledged_at_once(commitment, "gone", 501.0)
    assert ledger.commitments.requestors_ready(501.0) == ["SCANNER"]


def test_a_node_that_was_killed_reports_what_it_has_not(ledger: Ledger) -> None:
    requested(ledger)
    failed = requested(ledger, calling="PACS", not_before=500.0)
    [taken] = reporting(ledger, calling="PACS")
    ledger.commitments.postpone(taken, "unreachable", 900.0, 500.0)
    assert ledger.commitments.nobody_reports_at_once("killed", 501.0) == 1
    assert ledger.commitments.requestors_ready(501.0) == ["SCANNER"]
    assert state_of(ledger, failed) is CommitmentState.PENDING  # and waits as long as it waited
    assert ledger.commitments.nobody_reports_at_once("killed", 502.0) == 0


# ---------------------------------------------------------------- announcements


def an_announcement(source_uid: str = "1.2.3.99", **changes: Any) -> Announcement:
    given: dict[str, Any] = {
        "source_uid": source_uid,
        "kind": AnnouncementKind.MPPS,
        "calling_ae_title": "SCANNER",
        "status": AnnouncementStatus.IN_PROGRESS,
        "study_instance_uids": (STUDY,),
        "instances": (),
        "announced_at": 100.0,
        "ended_at": None,
        "updated_at": 100.0,
    }
    return Announcement(**(given | changes))


def announced_instances(count: int, series: str = SERIES) -> tuple[AnnouncedInstance, ...]:
    return tuple(
        AnnouncedInstance(series, f"{series}.{number}", CT_IMAGE_STORAGE)
        for number in range(1, count + 1)
    )


def test_what_is_announced_is_read_back_as_it_was(ledger: Ledger) -> None:
    step = an_announcement(study_instance_uids=(STUDY, "1.2.3.2"))
    notification = an_announcement(
        "1.2.3.98",
        kind=AnnouncementKind.IAN,
        status=AnnouncementStatus.AVAILABLE,
        calling_ae_title="PACS",
        instances=tuple(replace(one, availability="ONLINE") for one in announced_instances(2)),
        announced_at=50.0,
        ended_at=50.0,
    )
    assert ledger.evidence.announce(step)
    assert ledger.evidence.announce(notification)
    assert ledger.evidence.announced(STUDY) == [notification, step]
    assert ledger.evidence.announced("1.2.3.2") == [step]
    assert ledger.evidence.announced("1.2.3.3") == []


def test_a_uid_announces_once(ledger: Ledger, database: Database) -> None:
    first = an_announcement(instances=announced_instances(2))
    assert ledger.evidence.announce(first)
    assert not ledger.evidence.announce(an_announcement(study_instance_uids=("1.2.3.2",)))
    assert ledger.evidence.announced(STUDY) == [first]
    assert rows_in(database, "announced_studies") == 1


def test_a_step_is_changed_until_it_ends(ledger: Ledger) -> None:
    evidence = ledger.evidence
    evidence.announce(an_announcement())
    uid, some = "1.2.3.99", announced_instances(3)
    assert evidence.update_step(uid, None, some, 110.0) is StepUpdate.DONE
    assert evidence.announced(STUDY) == [an_announcement(instances=some, updated_at=110.0)]
    ended = AnnouncementStatus.COMPLETED
    assert evidence.update_step(uid, ended, None, 120.0) is StepUpdate.DONE
    assert evidence.update_step(uid, None, (), 130.0) is StepUpdate.ENDED
    [found] = evidence.announced(STUDY)
    assert found == an_announcement(status=ended, instances=some, updated_at=120.0, ended_at=120.0)
    assert evidence.update_step("1.2.3.4", None, None, 130.0) is StepUpdate.UNKNOWN


def test_an_instance_that_a_step_names_twice_is_announced_once(ledger: Ledger) -> None:
    ledger.evidence.announce(an_announcement(instances=announced_instances(2) * 2))
    [found] = ledger.evidence.announced(STUDY)
    assert found.instances == announced_instances(2)


# ---------------------------------------------------------------- holdings


def test_studies_are_counted_by_series_and_class(ledger: Ledger) -> None:
    other = f"{STUDY}.2"
    receive(
        ledger,
        an_instance(1),
        an_instance(2),
        an_instance(3, sop_class_uid=MR_IMAGE_STORAGE),
        an_instance(1, series_instance_uid=other),
    )
    [study] = ledger.holdings.studies(["1.2.3.404", STUDY, STUDY])
    assert study.instance_count == 4
    assert study.sop_class_uids == (CT_IMAGE_STORAGE, MR_IMAGE_STORAGE)
    told = [
        (series.series_instance_uid, series.instance_count, series.first_sop_instance_uid)
        for series in study.series
    ]
    assert told == [(SERIES, 3, f"{SERIES}.1"), (other, 1, f"{other}.1")]
    assert ledger.holdings.instance(STUDY, SERIES, f"{SERIES}.2") == an_instance(2)
    assert ledger.holdings.instance(STUDY, other, f"{SERIES}.2") is None


def test_the_study_that_got_an_instance_last_comes_first(ledger: Ledger) -> None:
    for number in (1, 2, 3):
        uid = f"1.2.9.{number}"
        receive(ledger, an_instance(1, study_instance_uid=uid, received_at=100.0 + number))
    receive(ledger, an_instance(2, study_instance_uid="1.2.9.1", received_at=200.0))
    assert ledger.holdings.newest_studies(2) == ["1.2.9.1", "1.2.9.3"]
    assert [s.study_instance_uid for s in ledger.holdings.studies(["1.2.9.3", "1.2.9.1"])] == [
        "1.2.9.3",
        "1.2.9.1",
    ]
