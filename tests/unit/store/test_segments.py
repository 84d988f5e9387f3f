"""Segments: made ahead, taken in order, released and used again."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from dicom_node.store.disk import LogDisk
from dicom_node.store.record import BLOCK_BYTES
from dicom_node.store.segments import (
    SegmentPool,
    release_segment,
    segment_name,
    segment_numbers,
    trim_segment,
)
from tests.node_process import wait_until
from tests.unit.store.log_disks import Kind, NotingLogDisk, Platter, broken, full

SEGMENT_BYTES = 4 * BLOCK_BYTES


def a_pool(folder: Path, ready: int = 1, disk: LogDisk | None = None) -> SegmentPool:
    return SegmentPool(folder, SEGMENT_BYTES, ready, disk or LogDisk())


def take(pool: SegmentPool) -> int:
    """Take a segment, close it, and return its number."""
    number, fd = pool.take()
    os.close(fd)
    return number


def free_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("free-*.segment"))


# ---------------------------------------------------------------- making


def test_segments_are_made_ahead_with_all_their_room_written(tmp_path: Path) -> None:
    a_pool(tmp_path / "log", ready=3).fill_up()
    free = free_in(tmp_path / "log")
    assert [path.read_bytes() for path in free] == [bytes(SEGMENT_BYTES)] * 3
    assert all(path.stat().st_blocks * 512 >= SEGMENT_BYTES for path in free)
    assert list((tmp_path / "log").glob("*.part")) == []


def test_what_was_made_is_not_made_again(tmp_path: Path) -> None:
    a_pool(tmp_path, ready=2).fill_up()
    first = free_in(tmp_path)
    a_pool(tmp_path, ready=2).fill_up()
    assert free_in(tmp_path) == first


def test_a_thread_keeps_as_many_ready_as_are_wanted(tmp_path: Path) -> None:
    pool = a_pool(tmp_path, ready=2)
    pool.start()
    try:
        for number in range(1, 6):
            wait_until(lambda: len(free_in(tmp_path)) == 2, 10)
            assert take(pool) == number
    finally:
        pool.stop()


def test_the_thread_ends_in_the_middle_of_its_work(tmp_path: Path) -> None:
    """It waits for a quieter time, which does not come."""

    class BusyDisk(LogDisk):
        def write(self, fd: int, buffers: Sequence[memoryview], offset: int) -> None:
            super().write(fd, buffers, offset)
            pool.written()

    pool = SegmentPool(tmp_path, 1 << 24, 2, BusyDisk())
    pool.start()
    wait_until(lambda: free_in(tmp_path) != [], 10)
    wait_until(lambda: list(tmp_path.glob("*.part")) != [], 10)
    pool.stop()
    assert "segments" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("kind", [Kind.NAME, Kind.GROW, Kind.WRITE, Kind.SYNC])
def test_a_segment_that_cannot_be_made_leaves_nothing_and_is_tried_again(
    kind: Kind, tmp_path: Path
) -> None:
    platter = Platter(tmp_path)
    pool = a_pool(tmp_path, disk=NotingLogDisk(platter))
    platter.fail_next(kind)
    with pytest.raises(OSError, match="Input/output error"):
        pool.fill_up()
    assert list(tmp_path.iterdir()) == []
    pool.fill_up()
    assert len(free_in(tmp_path)) == 1


def test_without_room_for_a_segment_none_is_made_and_none_taken(tmp_path: Path) -> None:
    class FullDisk(LogDisk):
        def reserve(self, fd: int, offset: int, size: int) -> None:
            raise full()

    pool = a_pool(tmp_path, disk=FullDisk())
    with pytest.raises(OSError, match="No space left"):
        pool.fill_up()
    with pytest.raises(OSError, match="No space left"):
        pool.take()
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- taking


def test_segments_are_numbered_in_the_order_in_which_they_are_taken(tmp_path: Path) -> None:
    pool = a_pool(tmp_path, ready=2)
    pool.fill_up()
    assert [take(pool) for _ in range(3)] == [1, 2, 3]
    assert segment_numbers(tmp_path) == [1, 2, 3]
    assert free_in(tmp_path) == []


def test_a_segment_that_is_not_ready_is_made_at_once(tmp_path: Path) -> None:
    assert take(a_pool(tmp_path)) == 1
    assert (tmp_path / segment_name(1)).stat().st_size == SEGMENT_BYTES


def test_what_is_written_into_it_is_durable_when_the_write_returns(tmp_path: Path) -> None:
    pool = a_pool(tmp_path)
    _, fd = pool.take()
    flags = Path(f"/proc/self/fdinfo/{fd}").read_text().split("flags:")[1].split()[0]
    os.close(fd)
    assert int(flags, 8) & os.O_DSYNC


def test_its_name_is_durable_before_anything_is_written_into_it(tmp_path: Path) -> None:
    platter = Platter(tmp_path)
    pool = a_pool(tmp_path, disk=NotingLogDisk(platter))
    pool.fill_up()
    begin = len(platter)
    pool.take()
    assert [operation.kind for operation in platter.operations[begin:]] == [
        Kind.NAME,
        Kind.SYNC_FOLDER,
        Kind.OPEN,
    ]


def test_a_name_that_did_not_become_durable_is_not_used(tmp_path: Path) -> None:
    platter = Platter(tmp_path)
    pool = a_pool(tmp_path, disk=NotingLogDisk(platter))
    platter.fail_next(Kind.SYNC_FOLDER)
    with pytest.raises(OSError, match=str(broken().strerror)):
        pool.take()
    assert take(pool) == 2


def test_numbers_go_on_where_the_pool_before_ended(tmp_path: Path) -> None:
    pool = a_pool(tmp_path, ready=3)
    pool.fill_up()
    take(pool)
    take(pool)
    assert take(a_pool(tmp_path)) == 3


# ---------------------------------------------------------------- releasing, using again, trimming


def test_a_released_segment_is_used_again_as_it_is_under_a_new_number(tmp_path: Path) -> None:
    pool = a_pool(tmp_path)
    number, fd = pool.take()
    os.close(fd)
    take(pool)
    path = tmp_path / segment_name(number)
    path.write_bytes(b"\xa5" * SEGMENT_BYTES)
    inode = path.stat().st_ino
    release_segment(tmp_path, number, LogDisk())
    assert segment_numbers(tmp_path) == [2]
    assert take(pool) == 3
    again = tmp_path / segment_name(3)
    assert again.stat().st_ino == inode
    assert again.read_bytes() == b"\xa5" * SEGMENT_BYTES


def test_segments_that_were_released_are_enough_and_none_is_made(tmp_path: Path) -> None:
    pool = a_pool(tmp_path, ready=2)
    for number in (take(pool), take(pool)):
        release_segment(tmp_path, number, LogDisk())
    before = free_in(tmp_path)
    pool.fill_up()
    assert free_in(tmp_path) == before


def test_a_release_is_durable_when_it_returns(tmp_path: Path) -> None:
    platter = Platter(tmp_path)
    disk = NotingLogDisk(platter)
    take(a_pool(tmp_path, disk=disk))
    release_segment(tmp_path, 1, disk)
    kinds = [operation.kind for operation in platter.operations]
    assert kinds[-2:] == [Kind.NAME, Kind.SYNC_FOLDER]


def test_trimming_gives_the_rest_of_a_segment_back_and_keeps_the_begin(tmp_path: Path) -> None:
    take(a_pool(tmp_path))
    path = tmp_path / segment_name(1)
    path.write_bytes(b"\xa5" * SEGMENT_BYTES)
    trim_segment(path, BLOCK_BYTES, LogDisk())
    assert path.read_bytes() == b"\xa5" * BLOCK_BYTES


def test_a_segment_that_cannot_be_trimmed_stays_as_it_is(tmp_path: Path) -> None:
    trim_segment(tmp_path / "missing.segment", 0, LogDisk())
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- what a start finds


def test_half_made_segments_and_those_of_another_size_are_removed_at_start(
    tmp_path: Path,
) -> None:
    for name, size in {
        "0123.part": SEGMENT_BYTES,
        "free-1.segment": BLOCK_BYTES,
        "free-2.segment": SEGMENT_BYTES,
        segment_name(7): BLOCK_BYTES,
    }.items():
        (tmp_path / name).write_bytes(bytes(size))
    a_pool(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [segment_name(7), "free-2.segment"]


def test_a_released_segment_that_had_been_trimmed_is_not_used_again(tmp_path: Path) -> None:
    """Writes behind its end would not be of the fast kind."""
    pool = a_pool(tmp_path)
    take(pool)
    trim_segment(tmp_path / segment_name(1), BLOCK_BYTES, LogDisk())
    release_segment(tmp_path, 1, LogDisk())
    number = take(pool)
    assert (tmp_path / segment_name(number)).stat().st_size == SEGMENT_BYTES


def test_the_folder_of_a_new_log_is_durable_in_those_above_it(tmp_path: Path) -> None:
    platter = Platter(tmp_path)
    a_pool(tmp_path / "data" / "log" / "0", disk=NotingLogDisk(platter))
    synced = [o.path for o in platter.operations if o.kind is Kind.SYNC_FOLDER]
    assert synced == [tmp_path, tmp_path / "data", tmp_path / "data" / "log"]


def test_a_folder_that_a_predecessor_made_is_synced_all_the_same(tmp_path: Path) -> None:
    """It may have died before the folder was durable."""
    (tmp_path / "log" / "0").mkdir(parents=True)
    platter = Platter(tmp_path)
    a_pool(tmp_path / "log" / "0", disk=NotingLogDisk(platter))
    synced = [o.path for o in platter.operations if o.kind is Kind.SYNC_FOLDER]
    assert synced == [tmp_path, tmp_path / "log"]
