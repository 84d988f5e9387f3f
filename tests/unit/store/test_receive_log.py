"""The log: what comes together shares a write, and what failed hides nothing that comes after."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from dicom_node.store.disk import LogDisk
from dicom_node.store.receive_log import Entry, ReceiveLog
from dicom_node.store.record import BLOCK_BYTES, RecordKind, digest_of
from dicom_node.store.replay import LOG_BEGIN, LogPlace, read_log
from dicom_node.store.segments import SegmentPool, segment_name, segment_numbers
from tests.unit.store.log_disks import Kind, NotingLogDisk, Platter, broken
from tests.unit.store.log_records import FILE_META, TEXTS, a_note, an_entry

SEGMENT_BYTES = 16 * BLOCK_BYTES


class WriteCounter(LogDisk):
    """Counts the buffers of each write into a segment; holds writes up where a test wants it."""

    def __init__(self) -> None:
        self.writes: list[int] = []
        self.under_way = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def write(self, fd: int, buffers: Sequence[memoryview], offset: int) -> None:
        self.writes.append(len(buffers))
        self.under_way.set()
        assert self.go_on.wait(10)
        super().write(fd, buffers, offset)


class Log:
    """A log with its pool, and what it told."""

    def __init__(self, folder: Path, disk: LogDisk | None = None) -> None:
        self.folder = folder
        disk = disk or LogDisk()
        self.batches: list[list[Entry]] = []
        pool = SegmentPool(folder, SEGMENT_BYTES, 1, disk)
        self.log = ReceiveLog(pool, SEGMENT_BYTES, disk, self.batches.append)

    def write(self, *entries: Entry) -> None:
        self.log.write(list(entries))

    def found(self, end: LogPlace | None = None) -> list[tuple[RecordKind, tuple[str, ...]]]:
        """Return kind and texts of every record that a reader finds."""
        return [(head.kind, head.texts) for head, _ in read_log(self.folder, LOG_BEGIN, end)]


# ---------------------------------------------------------------- writing


def test_entries_lie_in_the_log_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.write(a_note("first"), an_entry(b"data"), a_note("second"))
    log.write(an_entry(b"more", ["other"]))
    assert log.found() == [
        (RecordKind.EVENT, ("first",)),
        (RecordKind.INSTANCE, TEXTS),
        (RecordKind.EVENT, ("second",)),
        (RecordKind.INSTANCE, ("other",)),
    ]
    log.log.stop()


def test_an_entry_knows_where_it_lies_and_its_part_10_file_lies_there(tmp_path: Path) -> None:
    log = Log(tmp_path)
    data_set = bytes(range(256)) * 30
    entry = an_entry(data_set)
    log.write(a_note(), entry)
    log.log.stop()
    assert (entry.segment_number, entry.offset, entry.error) == (1, BLOCK_BYTES, None)
    content = (tmp_path / segment_name(1)).read_bytes()
    begin = entry.offset + BLOCK_BYTES
    assert content[begin : begin + len(FILE_META) + len(data_set)] == FILE_META + data_set


def test_what_the_log_tells_of_an_entry_is_what_a_reader_finds(tmp_path: Path) -> None:
    log = Log(tmp_path)
    entries = [a_note("a"), an_entry(b"data"), an_entry(bytes(9000)), a_note("b")]
    log.write(*entries)
    log.log.stop()
    for entry, (head, _) in zip(entries, read_log(tmp_path, LOG_BEGIN), strict=True):
        told = entry.head
        assert (told.kind, told.texts) == (head.kind, head.texts)
        assert (told.segment_number, told.offset) == (head.segment_number, head.offset)
        assert (told.data_offset, told.data_bytes) == (head.data_offset, head.data_bytes)
        assert told.record_bytes == head.record_bytes == entry.record_bytes
        assert told.digest == head.digest


def test_a_data_set_that_came_in_several_blocks_of_memory_is_one_record(tmp_path: Path) -> None:
    data_set = bytes(range(256)) * 60
    entry = an_entry(data_set)
    [whole] = entry.buffers
    piece = 2 * BLOCK_BYTES
    entry.buffers = [whole[begin : begin + piece] for begin in range(0, len(whole), piece)]
    log = Log(tmp_path)
    log.write(entry)
    log.log.stop()
    [(head, _)] = read_log(tmp_path, LOG_BEGIN)
    assert head.digest == digest_of(data_set)


def test_where_everything_is_durable_is_the_end_of_the_last_record(tmp_path: Path) -> None:
    log = Log(tmp_path)
    assert log.log.durable == (0, 0)
    for _ in range(12):
        log.write(an_entry(bytes(5000)), a_note())
        *_, (_, after) = read_log(tmp_path, LOG_BEGIN)
        assert LogPlace(*log.log.durable) == after
    log.log.stop()


# ---------------------------------------------------------------- batches


def test_a_batch_is_one_write(tmp_path: Path) -> None:
    disk = WriteCounter()
    log = Log(tmp_path, disk)
    log.write(*(a_note(str(number)) for number in range(10)))
    assert disk.writes == [10]
    log.log.stop()


def test_what_comes_during_a_write_shares_the_next_one(tmp_path: Path) -> None:
    disk = WriteCounter()
    disk.go_on.clear()
    log = Log(tmp_path, disk)
    log.log.start()
    log.log.append(a_note("alone"))
    assert disk.under_way.wait(10)
    for number in range(7):
        log.log.append(a_note(str(number)))
    disk.go_on.set()
    log.log.stop()
    assert disk.writes == [1, 7]
    assert [len(batch) for batch in log.batches] == [1, 7]
    assert len(log.found()) == 8


def test_a_batch_is_told_only_when_its_write_has_returned(tmp_path: Path) -> None:
    disk = WriteCounter()
    disk.go_on.clear()
    log = Log(tmp_path, disk)
    log.log.start()
    log.log.append(a_note())
    assert disk.under_way.wait(10)
    assert log.batches == []
    assert log.log.durable[1] == 0
    disk.go_on.set()
    log.log.stop()
    assert len(log.batches) == 1


def test_a_batch_of_more_entries_than_there_is_room_for_is_split(tmp_path: Path) -> None:
    disk = WriteCounter()
    disk.go_on.clear()
    log = Log(tmp_path, disk)
    log.log.start()
    for number in range(201):
        log.log.append(a_note(str(number)))
    disk.go_on.set()
    log.log.stop()
    assert sum(map(len, log.batches)) == 201
    assert max(map(len, log.batches)) <= 64
    assert log.found() == [(RecordKind.EVENT, (str(number),)) for number in range(201)]


def test_what_was_appended_before_the_stop_is_written(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.log.start()
    for number in range(50):
        log.log.append(a_note(str(number)))
    log.log.stop()
    assert len(log.found()) == 50


# ---------------------------------------------------------------- from segment to segment


def test_what_does_not_fit_goes_to_the_next_segment_whole(tmp_path: Path) -> None:
    log = Log(tmp_path)
    entries = [an_entry(bytes(6 * BLOCK_BYTES)) for _ in range(5)]
    log.write(*entries)
    log.log.stop()
    places = [(entry.segment_number, entry.offset // BLOCK_BYTES) for entry in entries]
    assert places == [(1, 0), (1, 8), (2, 0), (2, 8), (3, 0)]
    assert len(log.found()) == 5


def test_a_segment_is_used_to_its_last_block(tmp_path: Path) -> None:
    log = Log(tmp_path)
    notes = [a_note(str(number)) for number in range(17)]
    log.write(*notes)
    log.log.stop()
    assert [note.segment_number for note in notes] == [1] * 16 + [2]


# ---------------------------------------------------------------- the disk fails


def failing_log(folder: Path) -> tuple[Log, Platter]:
    platter = Platter(folder)
    return Log(folder, NotingLogDisk(platter)), platter


def test_a_write_that_fails_is_told_to_all_that_were_in_it_and_to_nobody_else(
    tmp_path: Path,
) -> None:
    log, platter = failing_log(tmp_path)
    before, failed, after = a_note("before"), [a_note("1"), an_entry(b"2")], a_note("after")
    log.write(before)
    platter.fail_next(Kind.WRITE_SYNCED)
    log.write(*failed)
    log.write(after)
    log.log.stop()
    assert [entry.error and entry.error.errno for entry in failed] == [broken().errno] * 2
    assert before.error is None
    assert after.error is None


def test_after_a_write_that_failed_the_next_record_is_found(tmp_path: Path) -> None:
    log, platter = failing_log(tmp_path)
    log.write(a_note("before"))
    platter.fail_next(Kind.WRITE_SYNCED)
    log.write(an_entry(bytes(9000)))
    after = a_note("after")
    log.write(after)
    log.log.stop()
    assert after.segment_number == 2
    expected = [(RecordKind.EVENT, ("before",)), (RecordKind.EVENT, ("after",))]
    assert log.found() == expected
    assert log.found(end=LogPlace(*log.log.durable)) == expected


def test_what_a_write_that_failed_left_is_cut_off_before_another_segment_begins(
    tmp_path: Path,
) -> None:
    """Its head may be whole and its data set torn, and behind a writer only heads are read."""
    log, platter = failing_log(tmp_path)
    log.write(a_note("before"))
    platter.fail_next(Kind.WRITE_SYNCED)
    log.write(an_entry(bytes(9000)))
    assert len(log.found(end=LogPlace(2, 0))) == 2  # that is the trap
    log.write(a_note("after"))
    assert len(log.found(end=LogPlace(*log.log.durable))) == 2
    assert (tmp_path / segment_name(1)).stat().st_size == BLOCK_BYTES
    log.log.stop()


def test_as_long_as_it_cannot_be_cut_off_nothing_is_acknowledged(tmp_path: Path) -> None:
    log, platter = failing_log(tmp_path)
    log.write(a_note("before"))
    platter.fail_next(Kind.WRITE_SYNCED)
    platter.fail_next(Kind.CUT)
    entries = [an_entry(bytes(9000)), a_note("too early"), a_note("after")]
    for entry in entries:
        log.write(entry)
    log.log.stop()
    assert [entry.error is None for entry in entries] == [False, False, True]
    assert len(log.found(end=LogPlace(*log.log.durable))) == 2


def test_of_a_batch_that_goes_over_two_segments_the_part_that_is_durable_is_kept(
    tmp_path: Path,
) -> None:
    class FailsInSecond(LogDisk):
        def write(self, fd: int, buffers: Sequence[memoryview], offset: int) -> None:
            if Path(f"/proc/self/fd/{fd}").resolve().name == segment_name(2):
                raise broken()
            super().write(fd, buffers, offset)

    log = Log(tmp_path, FailsInSecond())
    entries = [an_entry(bytes(6 * BLOCK_BYTES), [str(number)]) for number in range(4)]
    log.write(*entries)
    log.write(a_note("after"))
    log.log.stop()
    assert [entry.error is None for entry in entries] == [True, True, False, False]
    assert [texts for _, texts in log.found()] == [("0",), ("1",), ("after",)]


@pytest.mark.parametrize("kind", [Kind.GROW, Kind.NAME, Kind.SYNC, Kind.SYNC_FOLDER, Kind.OPEN])
def test_a_segment_that_cannot_be_had_costs_the_batch_and_not_the_next_one(
    kind: Kind, tmp_path: Path
) -> None:
    log, platter = failing_log(tmp_path)
    platter.fail_next(kind)
    refused, taken = a_note("refused"), a_note("taken")
    log.write(refused)
    log.write(taken)
    log.log.stop()
    assert refused.error is not None
    assert taken.error is None
    assert log.found() == [(RecordKind.EVENT, ("taken",))]


def test_a_segment_that_cannot_be_closed_costs_nothing(tmp_path: Path) -> None:
    """Every write into it was synced."""
    log, platter = failing_log(tmp_path)
    entries = [an_entry(bytes(6 * BLOCK_BYTES)) for _ in range(3)]
    log.write(*entries[:2])
    platter.fail_next(Kind.CLOSE)
    log.write(entries[2])
    platter.fail_next(Kind.CLOSE)
    log.log.stop()
    assert [entry.error for entry in entries] == [None] * 3
    assert segment_numbers(tmp_path) == [1, 2]


def test_a_mistake_of_ours_is_told_and_acknowledges_nothing(tmp_path: Path) -> None:
    """The supervisor then starts another receiver: better than one that answers nobody."""

    class MistakenDisk(LogDisk):
        def write(self, fd: int, buffers: Sequence[memoryview], offset: int) -> None:
            raise ValueError("a mistake")

    disk, told, failed = MistakenDisk(), list[list[Entry]](), threading.Event()
    pool = SegmentPool(tmp_path, SEGMENT_BYTES, 1, disk)
    log = ReceiveLog(pool, SEGMENT_BYTES, disk, told.append, on_failure=failed.set)
    log.start()
    log.append(a_note())
    assert failed.wait(10)
    log.stop()
    assert told == []
