"""Delivery against archives that misbehave: the ledger says what is true, and all arrives once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dicom_node.config.settings import Config, DeliverSettings, NodeSettings, Peer
from dicom_node.deliver.deliverer import Deliverer
from dicom_node.harness.archive import Archive
from dicom_node.harness.faults import (
    AbortingArchive,
    ClosingArchive,
    FailingArchive,
    NarrowArchive,
    RejectingArchive,
    SilentArchive,
)
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryState, JobState
from dicom_node.model import Instance, Job, Priority, Result
from dicom_node.store.local import LocalStore
from tests.factories import make_instance
from tests.unit.deliver.delivering import deliverer_of
from tests.unit.ledger import rows

RESULTS = 5
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
STUDY = "1.2.3"


class HandClock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Sending:
    """A deliverer with five results due to one archive."""

    ledger: Ledger
    clock: HandClock
    deliverer: Deliverer
    sop_instance_uids: list[str]

    def states(self) -> list[DeliveryState]:
        return [parcel.delivery.state for parcel in self.ledger.deliveries.of_job("job")]

    def reasons(self) -> list[str]:
        return [parcel.delivery.reason for parcel in self.ledger.deliveries.of_job("job")]

    def turn(self) -> None:
        self.deliverer.turn("archive")

    def wait_for_backoff(self) -> None:
        self.clock.now += 4000


SendingTo = Callable[[int], Sending]


@pytest.fixture
def sending_to(tmp_path: Path) -> Iterator[SendingTo]:
    """Return a function that makes `Sending` for the archive at a port."""
    ledgers: list[Ledger] = []

    def make(port: int) -> Sending:
        ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
        ledger.migrate()
        ledgers.append(ledger)
        store = LocalStore(tmp_path / "store")
        clock = HandClock()
        results = [_result(store, tmp_path, number) for number in range(RESULTS)]
        _record(ledger, results, clock())
        config = Config(
            node=NodeSettings(ae_title="DICOM_NODE"),
            deliver=DeliverSettings(
                timeout_s=2, retry_first_s=10, give_up_after_h=24, jitter=0, breaker_failures=1000
            ),
            peers={"archive": Peer(ae_title="ARCHIVE", host="127.0.0.1", port=port)},
        )
        deliverer = deliverer_of(config, ledger, store, clock)
        return Sending(ledger, clock, deliverer, [r.sop_instance_uid for r in results])

    yield make
    for ledger in ledgers:
        ledger.close()


def _result(store: LocalStore, tmp_path: Path, number: int) -> Result:
    dataset = make_instance(StudyInstanceUID=STUDY, SOPInstanceUID=f"1.2.3.4.{number + 1}")
    file = tmp_path / f"{number}.dcm"
    dataset.save_as(file, enforce_file_format=True)
    content = file.read_bytes()
    path = f"results/{number}.dcm"
    store.save(path, [content])
    return Result(
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        study_instance_uid=STUDY,
        transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
        job_id="job",
        kind="SR",
        path=path,
        size_bytes=len(content),
        digest=hashlib.sha256(content).hexdigest(),
    )


def _record(ledger: Ledger, results: list[Result], now: float) -> None:
    """Bring a study and its job to the point where the results are due."""
    ledger.associations.opened("a", "SCANNER", "DICOM_NODE", "127.0.0.1", now)
    instance = Instance(
        "1.2.3.9",
        CT_IMAGE_STORAGE,
        STUDY,
        "1.2.3.1",
        "1.2.840.10008.1.2",
        "p",
        1,
        "d",
        now,
        "a",
        "S",
    )
    ledger.studies.instance_stored(instance)
    [evidence] = ledger.studies.receiving()
    assert ledger.studies.completed(evidence, "test", now)
    study = ledger.studies.get(STUDY)
    assert study is not None
    job = Job(
        job_id="job",
        study_instance_uid=STUDY,
        series_instance_uid="1.2.3.1",
        revision=1,
        engine_name="engine",
        engine_version="1.0.0",
        rule="rule",
        destinations=("archive",),
        priority=Priority.ROUTINE,
        state=JobState.QUEUED,
        attempt=0,
        failures=0,
        crashes=0,
        not_before=now,
        reason="test",
        created_at=now,
        updated_at=now,
    )
    assert rows.route(ledger, study, [job], "test", now)
    started = ledger.jobs.start("job", now)
    assert started is not None
    assert ledger.jobs.finish(started, results, "summary", {}, now)


def test_a_good_archive_gets_each_result_once(sending_to: SendingTo, tmp_path: Path) -> None:
    with Archive(tmp_path / "archive") as archive:
        sending = sending_to(archive.port)
        sending.turn()
        sending.turn()
        assert sending.states() == [DeliveryState.SENT] * RESULTS
        assert sorted(r.sop_instance_uid for r in archive.received()) == sending.sop_instance_uids
        assert [r.count for r in archive.received()] == [1] * RESULTS


def test_an_archive_that_is_down_gets_everything_when_it_is_up(
    sending_to: SendingTo, tmp_path: Path, free_port: int
) -> None:
    sending = sending_to(free_port)
    sending.turn()
    assert sending.states() == [DeliveryState.PENDING] * RESULTS
    assert all("cannot be reached" in reason for reason in sending.reasons())
    sending.turn()  # not due yet: nothing is tried
    assert len(sending.ledger.events.of("1")) == 2
    with Archive(tmp_path / "archive", port=free_port) as archive:
        sending.wait_for_backoff()
        sending.turn()
        assert sending.states() == [DeliveryState.SENT] * RESULTS
        assert len(archive.received()) == RESULTS


def test_the_wait_doubles_with_each_failure_up_to_the_longest(
    sending_to: SendingTo, free_port: int
) -> None:
    sending = sending_to(free_port)
    waits = []
    for _ in range(11):
        sending.turn()
        delivery = sending.ledger.deliveries.of_job("job")[0].delivery
        waits.append(delivery.not_before - sending.clock())
        sending.clock.now = delivery.not_before
    assert waits == [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]


def test_after_a_day_of_trying_a_delivery_is_dead_and_can_be_replayed(
    sending_to: SendingTo, tmp_path: Path, free_port: int
) -> None:
    sending = sending_to(free_port)
    sending.clock.now += 25 * 3600  # a clock that was wrong at boot: nothing is given up for that
    sending.turn()
    assert sending.states() == [DeliveryState.PENDING] * RESULTS
    for _ in range(8):
        sending.wait_for_backoff()
        sending.turn()
    assert sending.states() == [DeliveryState.DEAD] * RESULTS
    with Archive(tmp_path / "archive", port=free_port) as archive:
        for parcel in sending.ledger.deliveries.of_job("job"):
            assert sending.ledger.deliveries.retry(parcel.delivery.delivery_id, sending.clock())
        sending.turn()
        assert sending.states() == [DeliveryState.SENT] * RESULTS
        assert len(archive.received()) == RESULTS


@pytest.mark.parametrize("keeps_last", [False, True])
@pytest.mark.parametrize("kind", [AbortingArchive, ClosingArchive])
def test_an_association_that_breaks_in_the_middle_costs_an_attempt_and_no_result(
    kind: type[AbortingArchive] | type[ClosingArchive],
    keeps_last: bool,
    sending_to: SendingTo,
    tmp_path: Path,
) -> None:
    with kind(tmp_path / "archive", after=2, keeps_last=keeps_last, times=1) as archive:
        sending = sending_to(archive.port)
        sending.turn()
        assert sending.states().count(DeliveryState.SENT) == 2
        assert sending.states().count(DeliveryState.PENDING) == 3
        sending.wait_for_backoff()
        sending.turn()
        assert sending.states() == [DeliveryState.SENT] * RESULTS
        assert sorted(r.sop_instance_uid for r in archive.received()) == sending.sop_instance_uids
        assert archive.conflicts() == ()


def test_an_archive_that_is_full_is_tried_again(sending_to: SendingTo, tmp_path: Path) -> None:
    with FailingArchive(tmp_path / "archive", status=0xA700, every=2, times=2) as archive:
        sending = sending_to(archive.port)
        sending.turn()
        assert sending.states().count(DeliveryState.SENT) == 3
        assert sum("0xA700" in reason for reason in sending.reasons()) == 2
        sending.wait_for_backoff()
        sending.turn()
        assert sending.states() == [DeliveryState.SENT] * RESULTS
        assert len(archive.received()) == RESULTS


def test_what_an_archive_cannot_understand_is_dead_at_once_and_says_why(
    sending_to: SendingTo, tmp_path: Path
) -> None:
    with FailingArchive(tmp_path / "archive", status=0xC000, every=5, times=1) as archive:
        sending = sending_to(archive.port)
        sending.turn()
        assert sending.states().count(DeliveryState.SENT) == 4
        assert sending.states().count(DeliveryState.DEAD) == 1
        assert any("answered 0xC000" in reason for reason in sending.reasons())


def test_a_sop_class_that_the_archive_does_not_accept_is_dead_with_a_hint(
    sending_to: SendingTo, tmp_path: Path
) -> None:
    with NarrowArchive(tmp_path / "archive", refused_sop_class_uids=[CT_IMAGE_STORAGE]) as archive:
        sending = sending_to(archive.port)
        sending.turn()
        assert sending.states() == [DeliveryState.DEAD] * RESULTS
        assert all("accepts no CT Image Storage" in reason for reason in sending.reasons())


def test_an_archive_that_rejects_us_is_tried_again_and_the_hint_names_our_ae_title(
    sending_to: SendingTo, tmp_path: Path
) -> None:
    with RejectingArchive(tmp_path / "archive") as archive:
        sending = sending_to(archive.port)
        sending.turn()
        assert sending.states() == [DeliveryState.PENDING] * RESULTS
        assert all("DICOM_NODE" in reason for reason in sending.reasons())


def test_an_archive_that_never_answers_costs_the_timeout_and_an_attempt(
    sending_to: SendingTo, tmp_path: Path
) -> None:
    with SilentArchive(tmp_path / "archive") as archive:
        sending = sending_to(archive.port)
        sending.turn()
        assert sending.states() == [DeliveryState.PENDING] * RESULTS
        assert all("no answer within 2 s" in reason for reason in sending.reasons())
