"""The log's real disk: direct writes where they are taken, synced ones everywhere."""

from __future__ import annotations

import fcntl
import mmap
import os
from pathlib import Path

from dicom_node.store.disk import LogDisk
from dicom_node.store.record import BLOCK_BYTES


def test_a_segment_is_written_synced_and_whole(tmp_path: Path) -> None:
    disk = LogDisk()
    path = tmp_path / "1.segment"
    disk.close(disk.create(path, 4 * BLOCK_BYTES))
    with mmap.mmap(-1, 2 * BLOCK_BYTES) as memory:
        memory[:] = bytes(range(256)) * (2 * BLOCK_BYTES // 256)
        fd = disk.open_segment(path)
        assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DSYNC
        with memoryview(memory) as all_of_it, all_of_it[:BLOCK_BYTES] as first:
            disk.write(fd, [first, first], BLOCK_BYTES)
        disk.close(fd)
        content = path.read_bytes()
        assert content == bytes(BLOCK_BYTES) + memory[:BLOCK_BYTES] * 2 + bytes(BLOCK_BYTES)


def test_where_direct_writes_are_refused_the_page_cache_takes_them_still_synced(
    tmp_path: Path,
) -> None:
    """Where there are any, a buffer that begins in the middle of a block is refused."""
    disk = LogDisk()
    path = tmp_path / "1.segment"
    disk.close(disk.create(path, BLOCK_BYTES))
    fd = disk.open_segment(path)
    disk.write(fd, [memoryview(bytearray(b"x" * (BLOCK_BYTES + 1)))[1:]], 0)
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    disk.close(fd)
    assert path.read_bytes() == b"x" * BLOCK_BYTES
    assert flags & os.O_DSYNC
