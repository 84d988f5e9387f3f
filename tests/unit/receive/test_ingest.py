"""From the log into the ledger: in batches, once, and past what no database takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dicom_node.errors import InvariantBroken, StorageError
from dicom_node.ledger.arrivals import (
    Arrival,
    Arrivals,
    AssociationOpened,
    LoggedRow,
    NotedEvent,
    OnConflict,
)
from dicom_node.ledger.database import Database
from dicom_node.ledger.ledger import Ledger
from dicom_node.model import Instance
from dicom_node.receive.ingest import Ingest, IngestThread, log_folder
from dicom_node.receive.rows import InstanceTexts, event_texts, opened_texts
from dicom_node.store.disk import LogDisk
from dicom_node.store.local import LocalStore
from dicom_node.store.receive_log import Entry, ReceiveLog
from dicom_node.store.record import RecordKind
from dicom_node.store.replay import LOG_BEGIN, LogPiece, LogPlace
from dicom_node.store.segments import SegmentPool
from tests.node_process import wait_until
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock

SEGMENT_BYTES = 1 << 20
POISON = "9.9.9"


class Picky(Arrivals):
    """A ledger that does not take one instance, whatever it is given with."""

    def record(
        self,
        some: Sequence[LoggedRow],
        log: str,
        place: tuple[int, int],
        on_conflict: OnConflict = "replace",
    ) -> list[tuple[Instance, Arrival]]:
        if any(isinstance(row, Instance) and row.sop_instance_uid == POISON for row in some):
            raise InvariantBroken("the ledger does not take a value of ours")
        return super().record(some, log, place, on_conflict)


class Absent(Arrivals):
    """A ledger that is gone for a moment."""

    calls = 0

    def record(
        self,
        some: Sequence[LoggedRow],
        log: str,
        place: tuple[int, int],
        on_conflict: OnConflict = "replace",
    ) -> list[tuple[Instance, Arrival]]:
        self.calls += 1
        if self.calls == 1:
            raise StorageError("the ledger failed: gone for a moment")
        return super().record(some, log, place, on_conflict)


class Site:
    """A store with a log, and a ledger."""

    def __init__(self, folder: Path) -> None:
        self.store = LocalStore(folder / "data")
        self.ledger = rows.new_ledger(folder)
        self.database = Database(f"sqlite:///{folder / 'ledger.sqlite'}")
        disk = LogDisk()
        pool = SegmentPool(folder / "data" / log_folder("0"), SEGMENT_BYTES, 1, disk)
        self.log = ReceiveLog(pool, SEGMENT_BYTES, disk, lambda entries: None)
        self.ingest = Ingest(self.store, self.ledger, HandClock())

    def write(self, *entries: Entry) -> LogPlace:
        self.log.write(list(entries))
        assert [entry.error for entry in entries] == [None] * len(entries)
        return LogPlace(*self.log.durable)

    def uids(self) -> list[str]:
        return rows.uids(self.ledger.studies.instances(rows.STUDY))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.log.stop()
    site.database.close()
    site.ledger.close()


def an_instance(uid: str) -> Entry:
    """Return the record of an instance that lies in a file of its own."""
    texts = InstanceTexts(
        uid, rows.CT_IMAGE_STORAGE, rows.STUDY, rows.SERIES, "1.2", rows.ASSOCIATION, "CT", 5.0
    )
    return Entry(RecordKind.INSTANCE_FILE, texts.texts_with_file(f"instances/{uid}", 9, uid))


def piece(site: Site, end: LogPlace, entries: Sequence[Entry] = ()) -> LogPiece:
    heads = tuple(entry.head for entry in entries) or None
    return LogPiece(site.ingest.place("0"), end, heads)


def test_what_the_writer_tells_and_what_it_does_not_become_the_same_rows(site: Site) -> None:
    told = [an_instance("1.1"), an_instance("1.2")]
    end = site.write(*told)
    assert site.ingest.advance("0", piece(site, end, told)) == 2
    end = site.write(an_instance("1.3"))
    assert site.ingest.advance("0", LogPiece(LOG_BEGIN, end, None)) == 1
    assert site.uids() == ["1.1", "1.2", "1.3"]
    assert site.ledger.arrivals.read_up_to("0") == (end.segment_number, end.offset)


def test_nothing_is_written_twice(site: Site) -> None:
    told = [an_instance("1.1")]
    end = site.write(*told)
    begin = site.ingest.place("0")
    for _ in range(3):
        site.ingest.advance("0", LogPiece(begin, end, (told[0].head,)))
    assert site.ingest.recover("0") == 0
    assert site.ledger.events.of("1.1") == []


def test_an_association_and_an_event_become_rows_too(site: Site) -> None:
    opened = AssociationOpened("new", "CT", "NODE", "127.0.0.1", 4.0)
    event = NotedEvent(5.0, "association", "CT", "BROKEN", "it spoke HTTP")
    end = site.write(
        Entry(RecordKind.ASSOCIATION_OPENED, opened_texts(opened)),
        Entry(RecordKind.EVENT, event_texts(event)),
    )
    site.ingest.advance("0", LogPiece(LOG_BEGIN, end, None))
    [noted] = site.ledger.events.named("BROKEN")
    assert (noted.at, noted.subject, noted.reason) == (5.0, "CT", "it spoke HTTP")
    assert site.ingest.close_lost("0", 6.0) == 1
    assert site.ingest.close_lost("0", 6.0) == 0


def test_a_record_that_no_database_takes_is_set_aside_and_the_rest_goes_on(
    site: Site,
) -> None:
    site.ledger.arrivals = Picky(site.database)
    end = site.write(an_instance("1.1"), an_instance(POISON), an_instance("1.2"))
    assert site.ingest.advance("0", LogPiece(LOG_BEGIN, end, None)) == 3
    assert site.uids() == ["1.1", "1.2"]
    [event] = site.ledger.events.named("RECORD_SET_ASIDE")
    assert "log 0, segment 1" in event.reason
    assert site.ledger.arrivals.read_up_to("0") == (end.segment_number, end.offset)


def test_a_ledger_that_fails_is_tried_again_and_who_waits_is_told_after_that(
    site: Site,
) -> None:
    failures, told = list[str](), list[list[str]]()
    site.ledger.arrivals = Absent(site.database)
    entries = [an_instance("1.1")]
    end = site.write(*entries)
    thread = IngestThread(site.ingest, failures.append)
    thread.durable("0", piece(site, end, entries))
    thread.when_caught_up(lambda: told.append(site.uids()))
    thread.start()
    wait_until(lambda: told == [["1.1"]], 10.0, "the second try")
    thread.stop()
    assert failures == ["the ledger failed: gone for a moment"]
    assert thread.is_idle()


def test_the_ledger_lost_is_made_anew_from_the_log(site: Site, tmp_path: Path) -> None:
    end = site.write(an_instance("1.1"), an_instance("1.2"))
    site.ingest.advance("0", LogPiece(LOG_BEGIN, end, None))
    (tmp_path / "again").mkdir()
    ledger: Ledger = rows.new_ledger(tmp_path / "again")
    assert Ingest(site.store, ledger, HandClock()).recover("0") == 2
    assert rows.uids(ledger.studies.instances(rows.STUDY)) == ["1.1", "1.2"]
    ledger.close()
