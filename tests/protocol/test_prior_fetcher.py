"""The fetcher against archives that misbehave: what it says is here is here, and jobs go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pynetdicom.dimse_primitives import C_GET
from structlog.testing import capture_logs

from dicom_node.config.settings import Config, DeliverSettings, NodeSettings, Peer, ReceiveSettings
from dicom_node.harness.query_archive import Inquiry, QueryArchive
from dicom_node.harness.query_faults import (
    MiscountingQueryArchive,
    PartialQueryArchive,
    RefusingQueryArchive,
    SilentQueryArchive,
    SlowQueryArchive,
)
from dicom_node.harness.scanner import send
from dicom_node.ledger.fetches import PlannedFetch
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.routing import Plan
from dicom_node.lifecycle import FetchState
from dicom_node.prior.fetcher import PriorFetcher
from dicom_node.priors import FetchedPrior, PriorFetch, PriorsWanted
from dicom_node.store.local import LocalStore
from tests.factories import make_ct_series, write, write_series
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock, a_job

HOST = "127.0.0.1"
CURRENT, NEWER, OLDER = "1.2.1", "1.2.2", "1.2.3"
SLICES = 3


def of_patient(uid: str, date: str, **changes: Any) -> list[Any]:
    given = {
        "PatientID": "SECRET-ID",
        "PatientBirthDate": "19450607",
        "StudyDate": date,
        "StudyInstanceUID": uid,
        "SeriesInstanceUID": f"{uid}.1",
    }
    return make_ct_series(SLICES, **(given | changes))


class BreaksOffOnce(QueryArchive):
    """Aborts the first C-GET after two instances."""

    has_broken_off = False

    def before_answer(self, inquiry: Inquiry, answered: int) -> None:
        if isinstance(inquiry.request, C_GET) and answered == 2 and not self.has_broken_off:
            self.has_broken_off = True
            inquiry.association.abort()


class SlowToSend(SlowQueryArchive):
    """Holds a C-GET after two instances, until it is cancelled or released."""

    def before_answer(self, inquiry: Inquiry, answered: int) -> None:
        if isinstance(inquiry.request, C_GET):
            super().before_answer(inquiry, answered)


@dataclass
class Fetching:
    """A fetcher with a job that waits for priors by C-GET."""

    ledger: Ledger
    store: LocalStore
    clock: HandClock
    fetcher: PriorFetcher
    is_stopping: Callable[[], bool]

    def turn(self) -> PriorFetch:
        with capture_logs() as logs:
            self.fetcher.turn("archive")
        fetch = self.fetch()
        told = f"{logs} {fetch.reason} {[e.reason for e in self.ledger.events.of('1')]}"
        assert "SECRET" not in told
        assert "19450607" not in told
        return fetch

    def fetch(self) -> PriorFetch:
        fetch = self.ledger.fetches.for_job("job-1")
        assert fetch is not None
        return fetch

    def wait_for_backoff(self) -> None:
        self.clock.now = self.fetch().not_before

    def priors(self) -> dict[str, FetchedPrior]:
        return {p.study_instance_uid: p for p in self.ledger.fetches.priors(1)}

    def held(self, uid: str) -> int:
        return self.ledger.studies.instance_count(uid)


MakeFetching = Callable[..., Fetching]


@pytest.fixture
def fetching(tmp_path: Path) -> Iterator[MakeFetching]:
    """Return a function that makes `Fetching` for the archive at a port."""
    ledgers: list[Ledger] = []

    def make(port: int, count: int = 1, **changes: Any) -> Fetching:
        ledger = rows.new_ledger(tmp_path)
        ledgers.append(ledger)
        store = LocalStore(tmp_path / "data")
        [current, *_] = of_patient(CURRENT, "20240601", **changes)
        write(current, store.path("instances/current.dcm"))
        instance = rows.an_instance(
            study_instance_uid=CURRENT,
            series_instance_uid=f"{CURRENT}.1",
            path="instances/current.dcm",
        )
        study = rows.complete(ledger, instance)
        job = a_job(study_instance_uid=CURRENT, series_instance_uid=f"{CURRENT}.1")
        wanted = PriorsWanted("archive", count, wait_s=100.0)
        rule_set = ledger.routing.keep_rule_set("rules", 1000.0)
        fetches = (PlannedFetch("job-1", wanted),)
        plan = Plan("rules", rule_set, "", {}, jobs=(job,), fetches=fetches)
        assert ledger.routing.record(study, plan, 1000.0)
        config = Config(
            node=NodeSettings(ae_title="DICOM_NODE"),
            receive=ReceiveSettings(free_bytes_min=0),
            deliver=DeliverSettings(timeout_s=2, retry_first_s=5),
            peers={
                "archive": Peer(ae_title="ARCHIVE", host=HOST, port=port, retrieve="get"),
            },
        )
        clock = HandClock(1000.0)
        fetcher = PriorFetcher(config, ledger, store, clock, lambda _: site.is_stopping())
        site = Fetching(ledger, store, clock, fetcher, lambda: False)
        return site

    yield make
    for ledger in ledgers:
        ledger.close()


def keep(archive: QueryArchive, folder: Path) -> None:
    """Give an archive two older studies of the patient."""
    for uid, date in ((NEWER, "20230601"), (OLDER, "20220601")):
        files = write_series(of_patient(uid, date), folder / uid)
        assert [a.status for a in send(files, HOST, archive.port, called="ARCHIVE")] == [0] * SLICES


def archive_of(kind: type[QueryArchive], folder: Path, **options: Any) -> QueryArchive:
    return kind(folder / "archive", **options)


@pytest.mark.parametrize("tells_counts", [True, False])
def test_as_many_as_are_wanted_are_fetched_once(
    tells_counts: bool, fetching: MakeFetching, tmp_path: Path
) -> None:
    with archive_of(QueryArchive, tmp_path, tells_counts=tells_counts) as archive:
        keep(archive, tmp_path)
        site = fetching(archive.port, count=5)
        fetch = site.turn()
        assert fetch.state is FetchState.FETCHED
        assert fetch.reason == (
            f"2 of 2 studies that were found: {NEWER} of 20230601, {OLDER} of 20220601"
        )
        assert set(site.ledger.fetches.of_job("job-1")) == {NEWER, OLDER}
        assert (site.held(NEWER), site.held(OLDER)) == (SLICES, SLICES)
        assert site.turn().attempt == 1  # nothing is due any more


def test_what_is_here_is_not_fetched_again(fetching: MakeFetching, tmp_path: Path) -> None:
    with archive_of(QueryArchive, tmp_path) as archive:
        keep(archive, tmp_path)
        site = fetching(archive.port)
        for number in range(1, SLICES + 1):
            site.ledger.studies.instance_stored(
                rows.an_instance(number, study_instance_uid=NEWER, series_instance_uid=f"{NEWER}.1")
            )
        assert site.turn().state is FetchState.FETCHED
        assert site.priors()[NEWER].was_held
        assert site.ledger.events.named("REPEATED") == []
        assert site.ledger.fetches.askings(NEWER) == []


@pytest.mark.parametrize(
    ("patient", "reason"),
    [
        ({"PatientID": ""}, "the study has no Patient ID"),
        ({"PatientID": "SECRET-OTHER"}, "0 of 0 studies that were found: none"),
        (
            {"PatientBirthDate": "19991231"},
            "0 of 2 studies that were found: none; "
            "its patient has another birth date under the same Patient ID (2)",
        ),
    ],
)
def test_a_patient_without_priors_waits_for_none(
    patient: dict[str, str], reason: str, fetching: MakeFetching, tmp_path: Path
) -> None:
    with archive_of(QueryArchive, tmp_path) as archive:
        keep(archive, tmp_path)
        site = fetching(archive.port, **patient)
        assert (site.turn().state, site.turn().reason) == (FetchState.FETCHED, reason)
        assert site.ledger.fetches.of_job("job-1") == ()


def test_an_archive_that_breaks_off_is_asked_for_the_rest(
    fetching: MakeFetching, tmp_path: Path
) -> None:
    with archive_of(BreaksOffOnce, tmp_path) as archive:
        keep(archive, tmp_path)
        site = fetching(archive.port)
        fetch = site.turn()
        assert (fetch.state, fetch.failures) == (FetchState.PENDING, 1)
        site.wait_for_backoff()
        assert site.turn().state is FetchState.FETCHED
        assert site.held(NEWER) == SLICES
        assert site.ledger.events.named("REPLACED") == []


def test_what_an_archive_cannot_send_is_told_and_the_job_goes_on_without(
    fetching: MakeFetching, tmp_path: Path
) -> None:
    with archive_of(PartialQueryArchive, tmp_path) as archive:
        keep(archive, tmp_path)
        site = fetching(archive.port)
        site.turn()
        while site.fetch().state is FetchState.PENDING:
            site.wait_for_backoff()
            site.turn()
        fetch = site.fetch()
        assert fetch.state is FetchState.DEAD
        assert fetch.attempt > 5
        assert f"of {SLICES} instances of the prior study {NEWER} are here" in fetch.reason
        assert site.clock.now < fetch.give_up_at
        assert site.ledger.fetches.of_job("job-1") == ()
        assert site.ledger.jobs.ready(site.clock.now) != []


def test_an_archive_that_refuses_for_good_costs_no_wait(
    fetching: MakeFetching, tmp_path: Path
) -> None:
    with archive_of(RefusingQueryArchive, tmp_path, status=0xC001) as archive:
        site = fetching(archive.port)
        fetch = site.turn()
        assert (fetch.state, fetch.attempt) == (FetchState.DEAD, 1)
        assert "0xC001" in fetch.reason
        [job] = site.ledger.jobs.ready(1000.0)
        assert "without prior studies" in job.reason


def test_an_archive_that_is_busy_is_asked_again(fetching: MakeFetching, tmp_path: Path) -> None:
    with archive_of(RefusingQueryArchive, tmp_path, status=0xA700) as archive:
        site = fetching(archive.port)
        fetch = site.turn()
        assert (fetch.state, fetch.not_before) == (FetchState.PENDING, 1005.0)


def test_an_archive_that_is_silent_costs_its_time_out(
    fetching: MakeFetching, tmp_path: Path
) -> None:
    with archive_of(SilentQueryArchive, tmp_path) as archive:
        keep(archive, tmp_path)
        site = fetching(archive.port)
        fetch = site.turn()
        assert fetch.state is FetchState.PENDING
        assert "was silent for 2 s" in fetch.reason


def test_a_count_that_is_wrong_is_looked_into(fetching: MakeFetching, tmp_path: Path) -> None:
    with archive_of(MiscountingQueryArchive, tmp_path) as archive:
        keep(archive, tmp_path)
        site = fetching(archive.port)
        assert site.turn().state is FetchState.FETCHED
        prior = site.priors()[NEWER]
        assert (site.held(NEWER), prior.instance_count, prior.is_whole) == (SLICES, SLICES, True)


def test_a_node_that_stops_leaves_the_fetch_for_its_next_start(
    fetching: MakeFetching, tmp_path: Path
) -> None:
    with archive_of(QueryArchive, tmp_path) as archive:
        keep(archive, tmp_path)
        site = fetching(archive.port)
        site.is_stopping = lambda: True
        assert site.turn().attempt == 0
        site.is_stopping = lambda: False
        assert site.turn().state is FetchState.FETCHED


def test_a_node_that_stops_breaks_off_a_slow_archive_and_goes_on_later(
    fetching: MakeFetching, tmp_path: Path
) -> None:
    with SlowToSend(tmp_path / "archive", after=2) as archive:
        keep(archive, tmp_path)
        site = fetching(archive.port)
        site.is_stopping = archive.asked.is_set
        fetch = site.turn()
        assert (fetch.state, fetch.failures) == (FetchState.PENDING, 0)
        assert fetch.reason == "it was broken off"
        assert site.held(NEWER) == 2
        site.is_stopping = lambda: False
        archive.release()
        assert site.turn().state is FetchState.FETCHED
        assert site.held(NEWER) == SLICES


def test_a_slow_archive_is_broken_off_when_the_job_has_waited_long_enough(
    fetching: MakeFetching, tmp_path: Path
) -> None:
    with SlowToSend(tmp_path / "archive", after=2) as archive:
        keep(archive, tmp_path)
        site = fetching(archive.port)

        def time_passes() -> bool:
            if archive.asked.is_set():
                site.clock.now = site.fetch().give_up_at
            return False

        site.is_stopping = time_passes
        assert site.turn().attempt == 1
        assert site.ledger.jobs.ready(site.clock.now) == []
        assert site.ledger.fetches.give_up_late(site.clock.now) == 1
        [job] = site.ledger.jobs.ready(site.clock.now)
        assert job.reason.endswith(
            "without prior studies: waited 100 s for archive: it was broken off"
        )


def test_an_error_of_ours_postpones_what_was_in_hand(
    fetching: MakeFetching, free_port: int
) -> None:
    site = fetching(free_port)
    ready = site.ledger.fetches.ready("archive", 1000.0)
    assert ready is not None
    assert site.ledger.fetches.start(ready, 1000.0)
    site.fetcher.broke("other", KeyError("SECRET"))
    assert site.fetch().state is FetchState.FETCHING
    site.fetcher.broke("archive", KeyError("SECRET"))
    assert site.fetch().state is FetchState.PENDING
    assert site.fetch().reason == "our own error: KeyError; see the node's log"


def test_a_header_that_cannot_be_read_gives_up_at_once(
    fetching: MakeFetching, free_port: int
) -> None:
    site = fetching(free_port)
    site.store.path("instances/current.dcm").write_bytes(b"no DICOM")
    fetch = site.turn()
    assert fetch.state is FetchState.DEAD
    assert "no header of the series can be read" in fetch.reason
