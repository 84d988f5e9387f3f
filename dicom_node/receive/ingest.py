"""From the receive logs into the ledger, in batches, behind the answers.

Runs in the supervisor, on a thread of its own: receivers say how far their logs are durable, and
what lies before that is written into the ledger, in one transaction a batch. Before a receiver
starts, and after one died, its log is read to the end, each record with all its bytes: the last one
may be torn, and was then never acknowledged.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from dicom_node.clock import Checkpoint, Clock, pass_checkpoint
from dicom_node.errors import DicomNodeError, InvariantBroken
from dicom_node.ledger.arrivals import (
    Arrival,
    AssociationClosed,
    AssociationOpened,
    LoggedRow,
    NotedEvent,
    OnConflict,
)
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.ledger.ledger import Ledger
from dicom_node.model import Instance
from dicom_node.receive.rows import row_of
from dicom_node.store.disk import LogDisk
from dicom_node.store.local import LocalStore
from dicom_node.store.record import RecordHead
from dicom_node.store.replay import LogPiece, LogPlace, read_log
from dicom_node.store.segments import (
    release_segment,
    segment_name,
    segment_numbers,
    trim_segment,
)

log = structlog.get_logger()

LOGS_FOLDER = "log"
"""Below the store's root; each receiver has a folder of its own in it, named by its number."""

_Batch = list[tuple[LoggedRow, LogPlace]]

_BATCH_ROWS_MAX = 512
_AGAIN_AFTER_FAILURE_S = 1.0


def log_folder(name: str) -> str:
    """Return the folder of a receiver's log, relative to the store's root."""
    return f"{LOGS_FOLDER}/{name}"


def log_names(root: Path) -> list[str]:
    """Return the names of the logs that lie in a store."""
    folder = root / LOGS_FOLDER
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


class Ingest:
    """Reads logs into the ledger.

    Parameters
    ----------
    on_conflict : {"replace", "keep", "refuse"}
        From `receive.same_uid_other_bytes`.
    on_progress : callable
        Told after a batch that ended an association.
    """

    def __init__(
        self,
        store: LocalStore,
        ledger: Ledger,
        clock: Clock,
        on_conflict: OnConflict = "replace",
        on_progress: Callable[[], None] = lambda: None,
        checkpoint: Checkpoint = pass_checkpoint,
        disk: LogDisk | None = None,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._on_conflict = on_conflict
        self._on_progress = on_progress
        self._checkpoint = checkpoint
        self._disk = disk or LogDisk()
        self._logs: dict[str, _Log] = {}
        self._reading = threading.Lock()

    def recover(self, name: str) -> int:
        """Read a log that has no writer to its end; return how many records were not yet known.

        What its segments have left over is given back to the disk: a new writer begins another.

        Raises
        ------
        StorageError
            If the ledger does not take it now. A new writer may begin all the same; what is in
            doubt is read with all its bytes later on.
        """
        with self._reading:
            state = self._state(name)
            state.doubt_below = max(state.numbers(), default=0) + 1
            count = self._read(name, state, None)
            self._checkpoint("replay.recorded")
            state.end_of_life(self._disk)
            self._checkpoint("replay.trimmed")
        if count:
            log.info("log_recovered", log=name, records=count)
        return count

    def close_lost(self, name: str, now: float) -> int:
        """Close the associations that the receiver of a log had open when it died."""
        with self._reading:
            state = self._state(name)
            lost = [AssociationClosed(i, AssociationEnd.LOST, now) for i in sorted(state.open)]
            if lost:
                place = (state.place.segment_number, state.place.offset)
                self._ledger.arrivals.record(lost, name, place)
            state.open.clear()
        return len(lost)

    def place(self, name: str) -> LogPlace:
        """Return up to where the ledger has a log."""
        with self._reading:
            return self._state(name).place

    def advance(self, name: str, piece: LogPiece) -> int:
        """Take what the writer of a log says is durable; return how many records.

        What it does not tell, or what was missed before, is read from the log.
        """
        with self._reading:
            state = self._state(name)
            if piece.heads is None or piece.begin != state.place:
                return self._read(name, state, piece.end)
            records = ((head, LogPlace(head.segment_number, _end(head))) for head in piece.heads)
            return self._record(name, state, records)

    def _state(self, name: str) -> _Log:
        state = self._logs.get(name)
        if state is None:
            folder = self._store.root / log_folder(name)
            state = _Log(folder, LogPlace(*self._ledger.arrivals.read_up_to(name)))
            self._logs[name] = state
        return state

    def _read(self, name: str, state: _Log, end: LogPlace | None) -> int:
        records = read_log(state.folder, state.place, end, state.doubt_below)
        return self._record(name, state, records)

    def _record(
        self, name: str, state: _Log, records: Iterable[tuple[RecordHead, LogPlace]]
    ) -> int:
        count = 0
        for batch in _batches(name, state.place, records):
            self._checkpoint("ingest.read")
            try:
                self._record_batch(name, state, batch)
            except InvariantBroken:
                for one in batch:
                    self._record_alone(name, state, one)
            count += len(batch)
        return count

    def _record_batch(self, name: str, state: _Log, batch: _Batch) -> None:
        rows, place = [row for row, _ in batch], batch[-1][1]
        arrivals = self._ledger.arrivals.record(
            rows, name, (place.segment_number, place.offset), self._on_conflict
        )
        self._checkpoint("ingest.recorded")
        state.took(place, rows, arrivals, self._disk)
        self._checkpoint("ingest.released")
        self._tell(rows, arrivals)

    def _record_alone(self, name: str, state: _Log, one: tuple[LoggedRow, LogPlace]) -> None:
        """Record one row; one that no database takes may not hold up all that follow."""
        row, place = one
        try:
            self._record_batch(name, state, [one])
        except InvariantBroken as error:
            where = f"log {name}, segment {place.segment_number}, before {place.offset}"
            log.error("record_set_aside", where=where, kind=type(row).__name__)
            reason = f"{error.message}; it stays in {where}"
            event = NotedEvent(self._clock(), "node", "ingest", "RECORD_SET_ASIDE", reason)
            self._record_batch(name, state, [(event, place)])

    def _tell(self, rows: list[LoggedRow], arrivals: list[tuple[Instance, Arrival]]) -> None:
        for instance, arrival in arrivals:
            if arrival in (Arrival.REPLACED, Arrival.KEPT_FIRST):
                log.error(
                    "instance_conflict",
                    sop_instance_uid=instance.sop_instance_uid,
                    calling_ae_title=instance.calling_ae_title,
                    outcome=arrival.value,
                )
        if any(isinstance(row, AssociationClosed) for row in rows):
            self._on_progress()


def _batches(
    name: str, place: LogPlace, records: Iterable[tuple[RecordHead, LogPlace]]
) -> Iterator[_Batch]:
    """Yield rows, each with the place after it; a batch ends with its segment."""
    folder = log_folder(name)
    batch: _Batch = []
    for head, after in records:
        is_other_segment = after.segment_number != place.segment_number
        if batch and (len(batch) == _BATCH_ROWS_MAX or is_other_segment):
            yield batch
            batch = []
        batch.append((row_of(head, folder), after))
        place = after
    if batch:
        yield batch


def _end(head: RecordHead) -> int:
    return head.offset + head.record_bytes


class _Log:
    """How far a log was read, and whether the segment there holds anything that is wanted."""

    def __init__(self, folder: Path, place: LogPlace) -> None:
        self.folder = folder
        self.place = place
        # what lies there before its writer told of anything may be what a dead one left
        self.doubt_below = max(self.numbers(), default=0) + 1
        self.open: set[str] = set()
        """Associations that began and have not ended, as far as this process has read."""
        # a segment of which we have not seen the begin may hold what was wanted of it before
        self._may_be_wanted = place.offset > 0

    def numbers(self) -> list[int]:
        return segment_numbers(self.folder) if self.folder.is_dir() else []

    def took(
        self,
        place: LogPlace,
        rows: Sequence[LoggedRow],
        arrivals: list[tuple[Instance, Arrival]],
        disk: LogDisk,
    ) -> None:
        """Note what became of a batch; a segment that is behind us and unwanted is released."""
        for row in rows:
            if isinstance(row, AssociationOpened):
                self.open.add(row.association_id)
            elif isinstance(row, AssociationClosed):
                self.open.discard(row.association_id)
        if place.segment_number != self.place.segment_number:
            self._leave(disk)
            self._may_be_wanted = False
        self.place = place
        # of a large instance only the row stands here, and is kept too: the ledger may be lost
        self._may_be_wanted |= any(
            arrival in (Arrival.NEW, Arrival.REPLACED) for _, arrival in arrivals
        )

    def end_of_life(self, disk: LogDisk) -> None:
        """Give back what the segments have left over: their writer will not come back to them.

        The last one stays, if only as a name: the numbers go on from there.
        """
        for number in self.numbers():
            path = self.folder / segment_name(number)
            if number == self.place.segment_number:
                trim_segment(path, self.place.offset, disk)
            elif number > self.place.segment_number:  # it was taken, and nothing whole is in it
                trim_segment(path, 0, disk)

    def _leave(self, disk: LogDisk) -> None:
        path = self.folder / segment_name(self.place.segment_number)
        if self._may_be_wanted or not path.exists():
            return
        with suppress(OSError):  # it costs room, nothing else
            release_segment(self.folder, self.place.segment_number, disk)


class IngestThread:
    """Advances logs as their receivers say; what fails is tried again.

    Parameters
    ----------
    failed : callable
        Told why the ledger did not take it.
    """

    def __init__(self, ingest: Ingest, failed: Callable[[str], None]) -> None:
        self._ingest = ingest
        self._failed = failed
        self._wanted: dict[str, LogPiece] = {}
        self._waiting: list[Callable[[], object]] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._at_work = False
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def durable(self, name: str, piece: LogPiece) -> None:
        """Take the word of a receiver; from any thread."""
        with self._changed:
            before = self._wanted.get(name)
            self._wanted[name] = piece if before is None else before.then(piece)
            self._changed.notify_all()

    def when_caught_up(self, call: Callable[[], object]) -> None:
        """Call once the ledger has everything that was told until now; on this thread."""
        with self._changed:
            self._waiting.append(call)
            self._changed.notify_all()

    def is_idle(self) -> bool:
        """Return whether the ledger has everything that the receivers spoke of."""
        with self._changed:
            return not self._wanted and not self._at_work

    def stop(self) -> None:
        """Read what is still to be read, then end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._at_work = False
                self._changed.wait_for(lambda: self._wanted or self._waiting or self._stopping)
                wanted, self._wanted = self._wanted, {}
                waiting, self._waiting = self._waiting, []
                self._at_work = bool(wanted)
                if not wanted and not waiting:
                    return
            done = [self._advance(name, piece) for name, piece in wanted.items()]
            if all(done):
                for call in waiting:
                    call()
            else:
                self._try_again_later(waiting)

    def _advance(self, name: str, piece: LogPiece) -> bool:
        try:
            self._ingest.advance(name, piece)
        except DicomNodeError as error:
            log.error("ingest_failed", log=name, reason=error.message)
            self._failed(error.message)
            with self._changed:
                later = self._wanted.get(name)
                self._wanted[name] = piece if later is None else piece.then(later)
            return False
        return True

    def _try_again_later(self, waiting: list[Callable[[], object]]) -> None:
        with self._changed:
            if self._stopping:  # the next start reads the log from where the ledger is
                self._wanted.clear()
            else:
                self._waiting = waiting + self._waiting
                self._changed.wait_for(lambda: self._stopping, _AGAIN_AFTER_FAILURE_S)
