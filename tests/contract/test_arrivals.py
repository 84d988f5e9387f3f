"""What the receive logs say becomes rows, batch by batch, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import func, select

from dicom_node.errors import StorageError
from dicom_node.ledger import schema
from dicom_node.ledger.arrivals import (
    Arrival,
    AssociationClosed,
    AssociationOpened,
    LoggedRow,
    NotedEvent,
    OnConflict,
)
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.ledger.database import Database
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import StudyState
from dicom_node.model import Instance
from tests.unit.ledger.rows import (
    SERIES,
    STUDY,
    an_instance,
    complete,
    last_end,
    moves_of,
    study_of,
    uids,
)

LOG = "0"
UID = f"{SERIES}.1"


def record(
    ledger: Ledger,
    *rows: LoggedRow,
    log: str = LOG,
    place: tuple[int, int] = (1, 4096),
    on_conflict: OnConflict = "replace",
) -> list[Arrival]:
    """Record one batch; return what became of each instance."""
    return [arrival for _, arrival in ledger.arrivals.record(rows, log, place, on_conflict)]


def opened(name: str, at: float = 90.0) -> AssociationOpened:
    return AssociationOpened(name, "SCANNER", "DICOM_NODE", "10.1.2.3", at)


def closed(name: str, at: float = 200.0) -> AssociationClosed:
    return AssociationClosed(name, AssociationEnd.RELEASED, at)


def counts(database: Database) -> dict[str, int]:
    tables = ("associations", "instances", "studies", "carried", "events")
    with database.reading() as connection:
        return {
            name: connection.execute(
                select(func.count()).select_from(schema.metadata.tables[name])
            ).scalar_one()
            for name in tables
        }


# ------------------------------------------------------------ one batch


def test_a_batch_becomes_all_its_rows(ledger: Ledger) -> None:
    batch: list[LoggedRow] = [
        opened("a"),
        an_instance(1, association_id="a"),
        an_instance(2, association_id="a", study_instance_uid="1.2.9"),
        an_instance(3, association_id="a"),
        NotedEvent(120.0, "association", "STRANGER", "REJECTED", "unknown"),
        closed("a"),
    ]
    assert record(ledger, *batch) == [Arrival.NEW] * 3
    assert uids(ledger.studies.instances(STUDY)) == [f"{SERIES}.1", f"{SERIES}.3"]
    assert uids(ledger.studies.instances("1.2.9")) == [f"{SERIES}.2"]
    [event] = ledger.events.of("STRANGER")
    assert (event.at, event.subject_kind, event.event) == (120.0, "association", "REJECTED")
    for evidence in ledger.studies.receiving():
        assert evidence.open_associations == 0
        assert last_end(evidence) == (AssociationEnd.RELEASED, 200.0)


def test_an_instance_comes_back_as_it_was_logged(ledger: Ledger) -> None:
    instance = an_instance(path="log/0/0000000001.segment@4096+526000", received_at=1.7e9 + 0.25)
    record(ledger, instance)
    assert ledger.studies.instances(STUDY) == [instance]


def test_an_empty_batch_moves_the_place_only(ledger: Ledger, database: Database) -> None:
    before = counts(database)
    assert record(ledger, place=(7, 0)) == []
    assert counts(database) == before
    assert ledger.arrivals.read_up_to(LOG) == (7, 0)


def test_a_batch_of_more_instances_than_fit_into_a_query_is_whole(ledger: Ledger) -> None:
    many = [an_instance(number) for number in range(1200)]
    assert record(ledger, *many) == [Arrival.NEW] * 1200
    assert record(ledger, *many) == [Arrival.REPEATED] * 1200
    assert len(ledger.studies.instances(STUDY)) == 1200
    assert moves_of(ledger, STUDY) == [("INSTANCE_STORED", "", "RECEIVING")]


# ------------------------------------------------------------ the place


def test_a_log_that_was_never_read_is_read_from_its_begin(ledger: Ledger) -> None:
    assert ledger.arrivals.read_up_to("never") == (0, 0)


def test_each_log_has_a_place_of_its_own(ledger: Ledger) -> None:
    record(ledger, log="0", place=(1, 4096))
    record(ledger, log="1", place=(9, 8192))
    record(ledger, log="0", place=(2, 0))
    assert ledger.arrivals.read_up_to("0") == (2, 0)
    assert ledger.arrivals.read_up_to("1") == (9, 8192)


def test_a_large_place_is_kept(ledger: Ledger) -> None:
    place = (2**31 + 5, 2**32)
    record(ledger, place=place)
    assert ledger.arrivals.read_up_to(LOG) == place


def test_a_batch_that_fails_leaves_nothing_and_the_place_where_it_was(
    ledger: Ledger, database: Database
) -> None:
    record(ledger, an_instance(1), place=(1, 4096))
    before = counts(database)
    batch: list[LoggedRow] = [
        opened("a"),
        an_instance(2, association_id="a"),
        NotedEvent(120.0, "association", "STRANGER", "REJECTED", "unknown"),
        an_instance(3, association_id="a", study_instance_uid="1.2.9", calling_ae_title=None),
    ]
    with pytest.raises(StorageError):
        record(ledger, *batch, place=(1, 8192))
    assert counts(database) == before
    assert ledger.arrivals.read_up_to(LOG) == (1, 4096)


# ------------------------------------------------------------ associations


def test_an_association_that_is_told_twice_has_one_row(ledger: Ledger, database: Database) -> None:
    before = counts(database)["associations"]
    record(ledger, opened("a", at=90.0))
    record(ledger, opened("a", at=91.0))
    assert counts(database)["associations"] == before + 1


def test_only_its_first_end_counts(ledger: Ledger) -> None:
    record(ledger, opened("a"), an_instance(association_id="a"), closed("a", at=200.0))
    record(ledger, AssociationClosed("a", AssociationEnd.LOST, 300.0))
    [evidence] = ledger.studies.receiving()
    assert last_end(evidence) == (AssociationEnd.RELEASED, 200.0)


def test_an_end_without_a_begin_is_passed_over(ledger: Ledger, database: Database) -> None:
    before = counts(database)
    record(ledger, closed("never-opened"))
    assert counts(database) == before


def test_an_instance_whose_association_was_never_told_has_one_that_is_open(
    ledger: Ledger,
) -> None:
    record(ledger, an_instance(association_id="untold", received_at=101.0))
    [evidence] = ledger.studies.receiving()
    assert evidence.open_associations == 1
    assert ledger.associations.close_lost(300.0) == 2  # and the one that every ledger here has


def test_a_study_from_two_associations_waits_for_both(ledger: Ledger) -> None:
    record(
        ledger,
        opened("a"),
        opened("b"),
        an_instance(1, association_id="a"),
        an_instance(2, association_id="b"),
        an_instance(3, association_id="a"),
        closed("a", at=200.0),
    )
    [evidence] = ledger.studies.receiving()
    assert (evidence.instance_count, evidence.open_associations) == (3, 1)
    record(ledger, closed("b", at=210.0))
    [evidence] = ledger.studies.receiving()
    assert (evidence.open_associations, last_end(evidence)[1]) == (0, 210.0)


# ------------------------------------------------------------ again


def test_the_same_again_in_one_batch_is_a_repeat(ledger: Ledger) -> None:
    again = an_instance(received_at=150.0, path="log/0/0000000001.segment@9+9")
    assert record(ledger, an_instance(), again) == [Arrival.NEW, Arrival.REPEATED]
    assert ledger.studies.instances(STUDY) == [an_instance()]
    [event] = ledger.events.of(UID)
    assert (event.event, event.at) == ("REPEATED", 150.0)
    assert event.reason == "received again, unchanged"


def test_the_same_again_in_a_later_batch_is_a_repeat(ledger: Ledger) -> None:
    record(ledger, an_instance())
    assert record(ledger, an_instance(received_at=150.0)) == [Arrival.REPEATED]
    [evidence] = ledger.studies.receiving()
    assert (evidence.instance_count, evidence.last_instance_at) == (1, 101.0)


@pytest.mark.parametrize("batches", [1, 2])
def test_other_bytes_replace_the_row_and_name_the_first(batches: int, ledger: Ledger) -> None:
    first, other = an_instance(), an_instance(content="x", received_at=150.0)
    arrivals = in_batches(ledger, [first, other], batches, "replace")
    assert arrivals == [Arrival.NEW, Arrival.REPLACED]
    assert ledger.studies.instances(STUDY) == [other]
    [event] = ledger.events.of(UID)
    assert event.event == "REPLACED"
    assert first.path in event.reason
    assert study_of(ledger).revision == 1


@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize("on_conflict", ["keep", "refuse"])
def test_other_bytes_are_set_aside_where_the_first_is_to_be_kept(
    batches: int, on_conflict: OnConflict, ledger: Ledger
) -> None:
    first, other = an_instance(), an_instance(content="x", received_at=150.0)
    arrivals = in_batches(ledger, [first, other, first], batches, on_conflict)
    assert arrivals == [Arrival.NEW, Arrival.KEPT_FIRST, Arrival.REPEATED]
    assert ledger.studies.instances(STUDY) == [first]
    kept, repeated = ledger.events.of(UID)
    assert (kept.event, repeated.event) == ("KEPT_FIRST", "REPEATED")
    assert first.path in kept.reason
    [evidence] = ledger.studies.receiving()
    assert evidence.last_instance_at == first.received_at


@pytest.mark.parametrize("batches", [1, 4])
def test_content_that_goes_back_and_forth_is_replaced_each_time(
    batches: int, ledger: Ledger
) -> None:
    sent = [an_instance(content=content) for content in ("", "x", "", "x")]
    arrivals = in_batches(ledger, sent, batches, "replace")
    assert arrivals == [Arrival.NEW, *[Arrival.REPLACED] * 3]
    assert ledger.studies.instances(STUDY) == [sent[-1]]


def in_batches(
    ledger: Ledger, instances: Sequence[Instance], batches: int, on_conflict: OnConflict
) -> list[Arrival]:
    """Record all in one batch, or each in one of its own."""
    if batches == 1:
        return record(ledger, *instances, on_conflict=on_conflict)
    return [
        arrival
        for instance in instances
        for arrival in record(ledger, instance, on_conflict=on_conflict)
    ]


def test_the_same_uid_in_another_study_or_series_is_another_instance(ledger: Ledger) -> None:
    batch = [
        an_instance(),
        an_instance(sop_instance_uid=UID, study_instance_uid="1.2.9"),
        an_instance(sop_instance_uid=UID, series_instance_uid="1.2.9.9"),
    ]
    assert record(ledger, *batch) == [Arrival.NEW] * 3
    assert len(ledger.studies.instances(STUDY)) == 2


# ------------------------------------------------------------ revisions


def test_a_late_batch_opens_one_revision(ledger: Ledger) -> None:
    complete(ledger, an_instance(1))
    late = [an_instance(number, received_at=500.0 + number) for number in (2, 3, 4)]
    assert record(ledger, *late) == [Arrival.NEW] * 3
    study = study_of(ledger)
    assert (study.state, study.revision) == (StudyState.RECEIVING, 2)
    assert study.updated_at == 504.0
    assert moves_of(ledger, STUDY)[-1] == ("INSTANCE_STORED", "COMPLETE", "RECEIVING")
    record(ledger, an_instance(5, received_at=510.0))
    assert study_of(ledger).revision == 2


def test_late_replacements_open_one_revision_and_late_repeats_none(ledger: Ledger) -> None:
    complete(ledger, an_instance(1), an_instance(2))
    repeats = [an_instance(1, received_at=500.0), an_instance(2, received_at=501.0)]
    assert record(ledger, *repeats) == [Arrival.REPEATED] * 2
    assert (study_of(ledger).state, study_of(ledger).revision) == (StudyState.COMPLETE, 1)
    others = [an_instance(number, content="x", received_at=510.0) for number in (1, 2)]
    assert record(ledger, *others) == [Arrival.REPLACED] * 2
    assert (study_of(ledger).state, study_of(ledger).revision) == (StudyState.RECEIVING, 2)


def test_what_is_set_aside_opens_no_revision(ledger: Ledger) -> None:
    complete(ledger, an_instance())
    late = an_instance(content="x", received_at=500.0)
    assert record(ledger, late, on_conflict="keep") == [Arrival.KEPT_FIRST]
    assert (study_of(ledger).state, study_of(ledger).revision) == (StudyState.COMPLETE, 1)


def test_two_revisions_in_two_batches(ledger: Ledger) -> None:
    for number in (1, 2, 3):
        complete(ledger, an_instance(number, received_at=100.0 * number), now=100.0 * number + 50)
    assert study_of(ledger).revision == 3
    moves = [event for event, _, _ in moves_of(ledger, STUDY)]
    assert moves == ["INSTANCE_STORED", "COMPLETED"] * 3


# ------------------------------------------------------------ several logs at once


def test_two_logs_with_one_study_lose_nothing(ledger: Ledger) -> None:
    gate = Barrier(4)

    def store(log: int) -> list[Arrival]:
        gate.wait(30)
        arrivals = []
        for batch in range(5):
            name = f"log-{log}"
            numbers = range(100 * log + 10 * batch, 100 * log + 10 * batch + 10)
            batch_rows = [opened(name)] + [an_instance(n, association_id=name) for n in numbers]
            arrivals += record(ledger, *batch_rows, log=name, place=(1, 4096 * batch))
        return arrivals

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(store, range(4)))
    assert answers == [[Arrival.NEW] * 50] * 4
    assert len(ledger.studies.instances(STUDY)) == 200
    assert study_of(ledger).revision == 1
    assert moves_of(ledger, STUDY) == [("INSTANCE_STORED", "", "RECEIVING")]
    assert [ledger.arrivals.read_up_to(f"log-{log}") for log in range(4)] == [(1, 16384)] * 4


def test_two_logs_with_two_studies_in_turn_do_not_wait_for_each_other_for_ever(
    ledger: Ledger,
) -> None:
    """Each batch locks both studies; in one order, or two batches would hold one each."""
    gate = Barrier(2)

    def store(log: int) -> list[Arrival]:
        gate.wait(30)
        arrivals = []
        for batch in range(20):
            studies = ["1.2.8", "1.2.9"]
            if log:
                studies.reverse()
            pair = [
                an_instance(1000 * log + batch, study_instance_uid=study, association_id="both")
                for study in studies
            ]
            arrivals += record(ledger, opened("both"), *pair, log=f"log-{log}")
        return arrivals

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(store, range(2)))
    assert answers == [[Arrival.NEW] * 40] * 2


def test_the_same_instance_from_two_logs_is_stored_once(ledger: Ledger) -> None:
    gate = Barrier(2)

    def store(log: int) -> list[Arrival]:
        gate.wait(30)
        return record(ledger, an_instance(), log=f"log-{log}")

    with ThreadPoolExecutor(2) as pool:
        answers = [arrival for answer in pool.map(store, range(2)) for arrival in answer]
    assert sorted(answers) == [Arrival.NEW, Arrival.REPEATED]
    assert uids(ledger.studies.instances(STUDY)) == [UID]
