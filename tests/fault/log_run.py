"""A receiver's log, its ingest and a ledger without threads and sockets: each step is taken alone.

What a sender is told is noted with the moment: how many operations the disk had done by then.
"""

from __future__ import annotations

import mmap
import random
import sqlite3
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from dicom_node.errors import StorageError
from dicom_node.ledger.arrivals import AssociationOpened
from dicom_node.ledger.ledger import Ledger
from dicom_node.model import Instance
from dicom_node.receive.ingest import Ingest, log_folder
from dicom_node.receive.rows import InstanceTexts, opened_texts
from dicom_node.store.disk import LogDisk
from dicom_node.store.large import LargeFile, part10_path
from dicom_node.store.local import Disk, LocalStore
from dicom_node.store.receive_log import Entry, ReceiveLog
from dicom_node.store.record import BLOCK_BYTES, RecordKind, digest_of, whole_blocks
from dicom_node.store.replay import LOG_BEGIN, LogPiece, LogPlace
from dicom_node.store.segments import SegmentPool
from tests.unit.store.log_disks import Killed, NotingDisk, NotingLogDisk, Platter

LOG = "0"
SEGMENT_BYTES = 16 * BLOCK_BYTES
STARTS_MAX = 3
STUDY, SERIES = "1.2.3.1", "1.2.3.1.1"
FILE_META = bytes(128) + b"DICM" + b"as it may be " * 60


def data_set_of(number: int) -> bytes:
    """Return the data set of the n-th instance: up to three blocks of noise."""
    noise = random.Random(number)
    return noise.randbytes(noise.randrange(1, 3 * BLOCK_BYTES))


def part10_of(number: int) -> bytes:
    return FILE_META + data_set_of(number)


def uid_of(number: int) -> str:
    return f"{SERIES}.{number}"


@cache
def empty_ledger() -> bytes:
    """Return SQLite's file of a ledger that was migrated, and knows nothing."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.sqlite"
        ledger = Ledger(f"sqlite:///{file}")
        ledger.migrate()
        ledger.close()
        return file.read_bytes()


def snapshot_of(ledger_file: Path) -> bytes:
    """Return what is committed in a ledger."""
    connection = sqlite3.connect(ledger_file)
    try:
        return connection.serialize()
    finally:
        connection.close()


@dataclass
class Diary:
    """What happened to instances and ledger, over the lives of several processes."""

    acknowledged: list[tuple[int, int]] = field(default_factory=list)
    """(moment, number) of each answer of success."""
    refused: list[int] = field(default_factory=list)
    commits: list[tuple[int, bytes]] = field(default_factory=list)
    """(moment, ledger) after each commit."""

    def acknowledged_before(self, moment: int) -> set[int]:
        return {number for at, number in self.acknowledged if at < moment}

    def ledger_before(self, moment: int) -> bytes | None:
        """Return the ledger as it was then; None if nothing had been committed."""
        return next((ledger for at, ledger in reversed(self.commits) if at < moment), None)


class Run:
    """The life of one process that receives.

    Parameters
    ----------
    root : Path
        Of the store.
    ledger_file : Path
        Must be there.
    platter : Platter, optional
        Notes what is done; else it is done on the disk, and nothing noted.
    """

    def __init__(
        self,
        root: Path,
        ledger_file: Path,
        platter: Platter | None = None,
        diary: Diary | None = None,
    ) -> None:
        self.diary = diary or Diary()
        self._platter = platter
        self._ledger_file = ledger_file
        self._disk = LogDisk() if platter is None else NotingLogDisk(platter)
        self._store = LocalStore(root, Disk() if platter is None else NotingDisk(platter))
        self._ledger = Ledger(f"sqlite:///{ledger_file}")
        self._ingest = Ingest(
            self._store,
            self._ledger,
            lambda: 1000.0,
            checkpoint=self._passed,
            disk=self._disk,
        )
        try:
            self._ingest.recover(LOG)
            self._store.remove_leftovers()
            folder = root / log_folder(LOG)
            self._pool = SegmentPool(folder, SEGMENT_BYTES, 1, self._disk)
        except BaseException:
            self.die()
            raise
        self._log = ReceiveLog(self._pool, SEGMENT_BYTES, self._disk, self._done)
        self._numbers: dict[int, int] = {}

    @classmethod
    def started(
        cls,
        root: Path,
        ledger_file: Path,
        platter: Platter | None = None,
        diary: Diary | None = None,
    ) -> Run:
        """Start a process; where the disk fails it, start it again."""
        for _ in range(STARTS_MAX):
            try:
                return cls(root, ledger_file, platter, diary)
            except (OSError, StorageError, Killed):
                continue
        raise AssertionError("the receiver does not start")

    def close(self) -> None:
        self._log.stop()
        self._ledger.close()

    def die(self) -> None:
        """End as a process that was killed: the disk is told nothing any more."""
        if isinstance(self._disk, NotingLogDisk):
            self._disk.close_all()
        self._ledger.close()

    def store(self, *numbers: int) -> None:
        """Let these instances come at once, so that they share a write."""
        opened = AssociationOpened("association", "SCANNER", "DICOM_NODE", "127.0.0.1", 1000.0)
        entries = [Entry(RecordKind.ASSOCIATION_OPENED, opened_texts(opened))]
        self._log.write([*entries, *map(self._instance, numbers)])

    def store_large(self, number: int) -> None:
        """Let an instance come that gets a file of its own."""
        file = LargeFile(self._store, self._disk)
        content, digest = part10_of(number), digest_of(data_set_of(number)).hex()
        path = part10_path("instances/00/" + STUDY, SERIES, uid_of(number), digest)
        try:
            for begin in range(0, len(content), BLOCK_BYTES):
                piece = content[begin : begin + BLOCK_BYTES]
                block = memoryview(mmap.mmap(-1, BLOCK_BYTES))
                block[: len(piece)] = piece
                file.write([block], len(piece))
            file.finish(path)
        except StorageError:
            file.drop()
            self.diary.refused.append(number)
            return
        texts = _texts(number).texts_with_file(path, len(content), digest)
        entry = Entry(RecordKind.INSTANCE_FILE, texts)
        self._numbers[id(entry)] = number
        self._log.write([entry])

    def fill_up(self) -> None:
        """Make segments, as the thread does that takes no notice of an error."""
        with suppress(OSError):
            self._pool.fill_up()

    def advance(self) -> None:
        """Let the ledger catch up, reading from the log."""
        end = LogPlace(*self._log.durable)
        self._ingest.advance(LOG, LogPiece(LOG_BEGIN, end, None))

    def kept(self) -> dict[int, bytes]:
        """Return what the ledger names, with the bytes that lie there."""
        rows = self._ledger.studies.instances(STUDY)
        return {_number_of(row): self._bytes_of(row) for row in rows}

    def _now(self) -> int:
        return 0 if self._platter is None else len(self._platter)

    def _bytes_of(self, row: Instance) -> bytes:
        content = self._store.file(row.path).read_bytes()
        assert len(content) == row.size_bytes
        assert digest_of(content[len(FILE_META) :]).hex() == row.digest
        return content

    def _instance(self, number: int) -> Entry:
        data_set = data_set_of(number)
        data_offset = BLOCK_BYTES + len(FILE_META)
        record = memoryview(mmap.mmap(-1, whole_blocks(data_offset + len(data_set))))
        record[BLOCK_BYTES : data_offset + len(data_set)] = FILE_META + data_set
        entry = Entry(
            RecordKind.INSTANCE,
            _texts(number).texts(),
            [record],
            data_offset,
            len(data_set),
            digest_of(data_set),
        )
        self._numbers[id(entry)] = number
        return entry

    def _done(self, entries: list[Entry]) -> None:
        for entry in entries:
            number = self._numbers.pop(id(entry), None)
            if number is None:
                continue
            if entry.error is None:
                self.diary.acknowledged.append((self._now(), number))
            else:
                self.diary.refused.append(number)

    def _passed(self, checkpoint: str) -> None:
        if checkpoint == "ingest.recorded":
            self.diary.commits.append((self._now(), snapshot_of(self._ledger_file)))


def _texts(number: int) -> InstanceTexts:
    uid = uid_of(number)
    return InstanceTexts(
        uid,
        "1.2.840.10008.5.1.4.1.1.2",
        STUDY,
        SERIES,
        "1.2.840.10008.1.2.1",
        "association",
        "SCANNER",
        1000.0 + number,
    )


def _number_of(row: Instance) -> int:
    return int(row.sop_instance_uid.rpartition(".")[2])
