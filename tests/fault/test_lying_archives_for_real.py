"""Archives that lie, over sockets: fifty seeded runs of the node's own sending and asking."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from dicom_node.coerce.profile import Profile
from dicom_node.config.settings import Config, DeliverSettings, Peer
from dicom_node.deliver.copies import Copies
from dicom_node.deliver.deliverer import Deliverer
from dicom_node.deliver.dicom_archive import dicom_archives
from dicom_node.deliver.forwarder import Forwarder
from dicom_node.deliver.outlets import Outlets
from dicom_node.deliver.own import Own
from dicom_node.deliver.prover import Prover
from dicom_node.harness.lying_archive import Deed, LyingArchive, Reports
from dicom_node.ledger import schema
from dicom_node.ledger.database import Database
from dicom_node.ledger.deliveries import plan_delivery
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryState
from dicom_node.model import Forward, Instance, Priority, Result
from dicom_node.receive.contexts import STORAGE_SOP_CLASSES
from dicom_node.store.local import LocalStore
from dicom_node.uid import random_uid
from tests.factories import make_instance, write
from tests.fault.test_kill import sent_bytes
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock
from tests.unit.route.made import key_of

RUNS, IN_ONE_TEST, RESULTS, ORIGINALS = 50, 10, 3, 4
OPEN = (DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.SENT)
DEEDS = (Deed.KEEP,) * 6 + tuple(Deed)
TURNS_MAX = 60
REPORTS = (Reports.AT_ONCE, Reports.AT_ONCE, Reports.PARTLY, Reports.NOT_OFFERED, Reports.NEVER)


@dataclass(frozen=True)
class Ending:
    """What the ledger says of a result or an original, and our file of it."""

    sop_instance_uid: str
    state: DeliveryState
    reason: str
    path: str


@dataclass
class Ward:
    """Results and originals in a store, and a ledger in which they can be sent to any number of
    archives."""

    folder: Path

    def __post_init__(self) -> None:
        self.ledger: Ledger = rows.new_ledger(self.folder)
        self._database = Database(f"sqlite:///{self.folder / 'ledger.sqlite'}")
        self.store = LocalStore(self.folder / "data")
        self.results = [self._made(number) for number in range(1, RESULTS + 1)]
        rows.finished(self.ledger, *self.results, job=rows.a_job(destinations=()))
        self.originals = [self._come(n) for n in range(11, 11 + ORIGINALS)]
        self._copies = Copies(self.ledger, self.store, {"nothing": Profile("nothing")}, b"secret")
        self.clock = HandClock(1_000_000.0)

    def _come(self, number: int) -> Instance:
        dataset = make_instance(number=number)
        path = f"instances/{number}.dcm"
        write(dataset, self.store.path(path))
        instance = rows.an_instance(
            sop_instance_uid=str(dataset.SOPInstanceUID),
            series_instance_uid=str(dataset.SeriesInstanceUID),
            study_instance_uid=str(dataset.StudyInstanceUID),
            path=path,
        )
        self.ledger.studies.instance_stored(instance)
        return instance

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

    def send_to(
        self, name: str, archive: LyingArchive, peer: Peer, down: range, profile: str
    ) -> list[Ending]:
        """Deliver to one archive until nothing is open; it is down in these turns."""
        now = self.clock()
        with self._database.writing() as connection:
            for result in self.results:
                plan_delivery(self._database, connection, result, name, Priority.ROUTINE, now)
        keys = tuple(key_of(one) for one in self.originals)
        planned = Forward(name, profile, Priority.ROUTINE, "all", keys)
        [study] = {one.study_instance_uid for one in self.originals}
        self.ledger.routing.forward_at_once(study, [planned], now)
        config = Config(
            deliver=DeliverSettings(timeout_s=5, retry_first_s=10, resends_max=5),
            peers={name: peer},
        )
        # one that reports does so at once, and is waited for no longer than that takes
        stay_s = 5.0 if archive.reports in (Reports.AT_ONCE, Reports.PARTLY) else 0.05
        archives = dicom_archives(config, self.store, stay_s)
        outlets = Outlets(config, self.ledger, archives, self.clock)
        parts = (config, self.ledger, archives)
        deliverer = Deliverer(*parts, outlets, self.clock)
        forwarder = Forwarder(*parts, self._copies, outlets, self.clock)
        is_same = Own(self.store, self._copies).is_same
        prover = Prover(*parts, outlets, is_same, self.clock, random_uid)
        for turn in range(TURNS_MAX):
            if turn in down:
                archive.stop()
            deliverer.turn(name)
            while forwarder.turn(name):
                pass
            prover.turn(name)
            if turn in down:
                archive.start()
            waiting = self._waiting(name)
            if not waiting:
                return [*self._results(name), *self._originals(name)]
            breakers = [breaker.not_before for breaker in self.ledger.breakers.all_open()]
            self.clock.now = max([min(waiting), self.clock.now + 0.001, *breakers])
        raise AssertionError("something stays open for ever")

    def _waiting(self, name: str) -> list[float]:
        """Return when something is due."""
        dues: list[float] = []
        with self._database.reading() as connection:
            for table, states in (
                (schema.deliveries, OPEN),
                (schema.forwards, OPEN[:2]),
                (schema.consignments, OPEN[2:]),
            ):
                query = select(table.c.not_before).where(
                    table.c.destination == name, table.c.state.in_([one.value for one in states])
                )
                dues += connection.execute(query).scalars()
        return dues

    def _results(self, name: str) -> list[Ending]:
        parcels = self.ledger.deliveries.parcels(schema.deliveries.c.destination == name)
        return [
            Ending(r.sop_instance_uid, d.state, d.reason, r.path)
            for d, r in ((one.delivery, one.result) for one in parcels)
        ]

    def _originals(self, name: str) -> list[Ending]:
        f, c, o = schema.forwards, schema.consignments, schema.forwarded_instances
        query = (
            select(o.c.sop_instance_uid, o.c.refused, c.c.state, c.c.reason)
            .join(f, f.c.forward_id == o.c.forward_id)
            .outerjoin(c, c.c.consignment_id == o.c.consignment_id)
            .where(f.c.destination == name)
        )
        paths = {one.sop_instance_uid: one.path for one in self.originals}
        with self._database.reading() as connection:
            return [
                Ending(
                    row.sop_instance_uid,
                    DeliveryState("DEAD" if row.refused else row.state or "PENDING"),
                    row.refused or row.reason or "",
                    paths[row.sop_instance_uid],
                )
                for row in connection.execute(query)
            ]

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
    proven: Counter[str] = Counter()
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
            profile = drawn.choice(("", "nothing"))
            endings = ward.send_to(f"archive{seed}", archive, peer, down, profile)
            held = {received.sop_instance_uid: received for received in archive.received()}
            assert archive.conflicts() == ()
        assert len(endings) == RESULTS + ORIGINALS
        for one in endings:
            assert one.state not in OPEN
            assert one.reason
            there = held.get(one.sop_instance_uid)
            if one.state is DeliveryState.PROVEN:
                assert there is not None, f"seed {seed}: {one.reason}"
                data_set = sent_bytes(ward.store.path(one.path))[1]
                assert sent_bytes(there.path)[1] == data_set
                proven[one.path.split("/")[0]] += 1
            elif "though it answered Success" in one.reason:
                assert there is None, f"seed {seed}: {one.reason}"
    assert min(proven["results"], proven["instances"]) >= IN_ONE_TEST
