"""Archives that lie, over sockets: fifty seeded runs of the node's own sending and asking."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node.config.settings import Config, DeliverSettings, Peer
from dicom_node.deliver.deliverer import Deliverer
from dicom_node.deliver.dicom_archive import dicom_archives
from dicom_node.deliver.outlets import Outlets
from dicom_node.deliver.prover import Prover
from dicom_node.harness.lying_archive import Deed, LyingArchive, Reports
from dicom_node.ledger import schema
from dicom_node.ledger.database import Database
from dicom_node.ledger.deliveries import Parcel, plan_delivery
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryState
from dicom_node.model import Priority, Result
from dicom_node.receive.contexts import STORAGE_SOP_CLASSES
from dicom_node.store.local import LocalStore
from dicom_node.uid import random_uid
from tests.factories import make_instance, write
from tests.fault.test_kill import sent_bytes
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock

RUNS, IN_ONE_TEST, RESULTS = 50, 10, 3
OPEN = (DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.SENT)
DEEDS = (Deed.KEEP,) * 6 + tuple(Deed)
TURNS_MAX = 60
REPORTS = (Reports.AT_ONCE, Reports.AT_ONCE, Reports.PARTLY, Reports.NOT_OFFERED, Reports.NEVER)


@dataclass
class Ward:
    """Results in a store, and a ledger in which they can be sent to any number of archives."""

    folder: Path

    def __post_init__(self) -> None:
        self.ledger: Ledger = rows.new_ledger(self.folder)
        self._database = Database(f"sqlite:///{self.folder / 'ledger.sqlite'}")
        self.store = LocalStore(self.folder / "data")
        self.results = [self._made(number) for number in range(1, RESULTS + 1)]
        rows.finished(self.ledger, *self.results, job=rows.a_job(destinations=()))
        self.clock = HandClock(1_000_000.0)

    def _made(self, number: int) -> Result:
        dataset = make_instance(number=number)
        path = f"results/{number}.dcm"
        write(dataset, self.store.path(path))
        return rows.a_result(
            sop_instance_uid=str(dataset.SOPInstanceUID),
            sop_class_uid=str(dataset.SOPClassUID),
            study_instance_uid=str(dataset.StudyInstanceUID),
            series_instance_uid=str(dataset.SeriesInstanceUID),
            transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
            path=path,
        )

    def send_to(self, name: str, archive: LyingArchive, peer: Peer, down: range) -> list[Parcel]:
        """Deliver to one archive until nothing is open; it is down in these turns."""
        with self._database.writing() as connection:
            for result in self.results:
                now, priority = self.clock(), Priority.ROUTINE
                plan_delivery(self._database, connection, result, name, priority, now)
        config = Config(
            deliver=DeliverSettings(timeout_s=5, retry_first_s=10, resends_max=5),
            peers={name: peer},
        )
        # one that reports does so at once, and is waited for no longer than that takes
        stay_s = 5.0 if archive.reports in (Reports.AT_ONCE, Reports.PARTLY) else 0.05
        archives = dicom_archives(config, self.store, stay_s)
        outlets = Outlets(config, self.ledger, archives, self.clock)
        deliverer = Deliverer(config, self.ledger, archives, outlets, self.clock)
        prover = Prover(config, self.ledger, archives, outlets, self.clock, random_uid)
        for turn in range(TURNS_MAX):
            if turn in down:
                archive.stop()
            deliverer.turn(name)
            prover.turn(name)
            if turn in down:
                archive.start()
            parcels = self.ledger.deliveries.parcels(schema.deliveries.c.destination == name)
            waiting = [p.delivery.not_before for p in parcels if p.delivery.state in OPEN]
            if not waiting:
                return parcels
            breakers = [breaker.not_before for breaker in self.ledger.breakers.all_open()]
            self.clock.now = max([min(waiting), self.clock.now + 0.001, *breakers])
        raise AssertionError("something stays open for ever")

    def close(self) -> None:
        self.ledger.close()
        self._database.close()


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = Ward(tmp_path)
    with capture_logs():
        yield ward
    ward.close()


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, RUNS, IN_ONE_TEST))
def test_fifty_runs_over_sockets_end_with_what_the_archive_has(
    first: int, ward: Ward, tmp_path: Path
) -> None:
    proven = 0
    for seed in range(first, first + IN_ONE_TEST):
        drawn = random.Random(seed)
        deeds = [drawn.choice(DEEDS) for _ in range(100)]
        archive = LyingArchive(
            tmp_path / f"archive{seed}",
            script=deeds.__getitem__,
            reports=drawn.choice(REPORTS),
            answers_query=drawn.random() < 0.7,
            # pynetdicom takes a fifth of a second for an association where all are offered
            refused_sop_class_uids=STORAGE_SOP_CLASSES - {rows.CT_IMAGE_STORAGE},
        )
        down = range(1, 2) if drawn.random() < 0.2 else range(0)
        with archive:
            peer = Peer(
                ae_title="ARCHIVE",
                host="127.0.0.1",
                port=archive.port,
                read_back=drawn.choice(("find", "content")),
            )
            parcels = ward.send_to(f"archive{seed}", archive, peer, down)
            held = {received.sop_instance_uid: received for received in archive.received()}
            assert archive.conflicts() == ()
        for delivery, result in ((parcel.delivery, parcel.result) for parcel in parcels):
            assert delivery.state not in OPEN
            assert delivery.reason
            there = held.get(result.sop_instance_uid)
            if delivery.state is DeliveryState.PROVEN:
                assert there is not None, f"seed {seed}: {delivery.reason}"
                data_set = sent_bytes(ward.store.path(result.path))[1]
                assert sent_bytes(there.path)[1] == data_set
                proven += 1
            elif "though it answered Success" in delivery.reason:
                assert there is None, f"seed {seed}: {delivery.reason}"
    assert proven >= IN_ONE_TEST
