"""Measuring a disk: what is repeated, for how long, and that nothing stays behind."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from dicom_node.errors import DicomNodeError, StorageError, StoreFull
from dicom_node.store.diskbench import (
    BUFFERED,
    BUFFERED_SYNCED,
    BYTES_MAX,
    DIRECT,
    DIRECT_SYNCED,
    GATHERED,
    RECORD_BYTES,
    DiskFigures,
    measure,
)
from tests.unit.store.bench_disks import ScriptedDisk

STEP_S = 0.02


def measured(folder: Path, disk: ScriptedDisk, step_s: float = STEP_S) -> DiskFigures:
    figures = measure(folder, step_s, disk.clock, disk.tell, disk)
    assert list(folder.iterdir()) == []
    return figures


def overwriting(method: str) -> str:
    return f"4 KB overwritten by {method}"


def test_the_real_disk_gives_every_figure_and_nothing_is_left_behind(tmp_path: Path) -> None:
    steps: list[str] = []
    descriptors = set(os.listdir("/proc/self/fd"))
    figures = measure(tmp_path, 0.001, time.perf_counter, steps.append)
    assert list(tmp_path.iterdir()) == []
    assert set(os.listdir("/proc/self/fd")) == descriptors
    latencies = (figures.unsynced, figures.direct, figures.direct_synced, figures.synced)
    for latency in filter(None, latencies):
        assert latency.count >= 1
        assert 0 < latency.p50_s <= latency.p99_s <= latency.max_s
    assert (figures.direct is None) == (figures.direct_synced is None)
    assert [(rate.what, rate.gathered) for rate in figures.records] == [
        (what, gathered) for what in RECORD_BYTES for gathered in GATHERED
    ]
    assert [rate.what for rate in figures.files] == list(RECORD_BYTES)
    rates = (*figures.records, *figures.files, figures.sequential_write, figures.sequential_read)
    for rate in rates:
        assert rate.pieces_per_s > 0
        assert rate.bytes_per_s == pytest.approx(rate.pieces_per_s * rate.piece_bytes)
    assert len(steps) == len(set(steps))


def test_each_measured_sync_is_one_and_what_is_not_synced_is_not(tmp_path: Path) -> None:
    disk = ScriptedDisk()
    figures = measured(tmp_path, disk)
    assert figures.direct is not None
    assert figures.direct_synced is not None
    # Each step ends with one sync that is not measured: the next begins on a quiet disk.
    for latency, write, syncs in (
        (figures.unsynced, "write", 1),
        (figures.direct, "write", 1),
        (figures.direct_synced, "synced write", 1),
        (figures.synced, "write", figures.synced.count + 1),
    ):
        step = overwriting(latency.method)
        assert latency.count > 10
        assert disk.done[step, write] == latency.count
        assert disk.done[step, "sync_data"] == syncs


def test_records_are_gathered_in_one_synced_write(tmp_path: Path) -> None:
    disk = ScriptedDisk()
    figures = measured(tmp_path, disk)
    assert figures.records_method == DIRECT_SYNCED
    for rate in figures.records:
        step = f"{rate.what} records, {rate.gathered} a write"
        assert disk.done[step, "write"] == disk.done[step, "sync_data"] == 0
        writes = disk.done[step, "synced write"]
        assert disk.bytes_written[step] == writes * rate.gathered * RECORD_BYTES[rate.what]
        once_s = 1 / rate.pieces_per_s * rate.gathered
        size = rate.gathered * RECORD_BYTES[rate.what]
        assert once_s == pytest.approx(
            disk.call_s + disk.direct_s + disk.sync_s + size / disk.bytes_per_s
        )


def test_without_o_direct_each_write_is_followed_by_a_sync(tmp_path: Path) -> None:
    disk = ScriptedDisk(takes_direct=False)
    figures = measured(tmp_path, disk)
    assert figures.direct is None
    assert figures.direct_synced is None
    assert figures.best_synced is figures.synced
    assert figures.records_method == BUFFERED_SYNCED
    for rate in figures.records:
        step = f"{rate.what} records, {rate.gathered} a write"
        assert disk.done[step, "sync_data"] == disk.done[step, "write"] > 0


def test_a_file_is_written_synced_renamed_and_its_folder_synced(tmp_path: Path) -> None:
    disk = ScriptedDisk()
    measured(tmp_path, disk)
    for what in RECORD_BYTES:
        counts = {disk.done[f"{what} files", name] for name in ("open", "write", "rename")}
        counts |= {disk.done[f"{what} files", name] for name in ("sync", "sync_folder")}
        assert len(counts) == 1
        assert counts.pop() > 1


def test_the_figures_are_what_the_disk_took(tmp_path: Path) -> None:
    figures = measured(tmp_path, ScriptedDisk(call_s=1e-6, direct_s=40e-6, sync_s=8e-3))
    block_s = 4096 / 1e9
    for latency, method, took_s in (
        (figures.unsynced, BUFFERED, 1e-6),
        (figures.direct, DIRECT, 41e-6 + block_s),
        (figures.direct_synced, DIRECT_SYNCED, 41e-6 + block_s + 8e-3),
        (figures.synced, BUFFERED_SYNCED, 2e-6 + 8e-3),
    ):
        assert latency is not None
        assert latency.method == method
        assert latency.p50_s == latency.max_s == pytest.approx(took_s)
    assert figures.sequential_read.bytes_per_s == pytest.approx(1e9, rel=0.01)


def test_one_slow_sync_shows_in_the_slowest_and_not_in_the_median(tmp_path: Path) -> None:
    class StallingDisk(ScriptedDisk):
        def sync_data(self, fd: int) -> None:
            super().sync_data(fd)
            if self.done[self.step, "sync_data"] == 3:
                self.now += 0.5

    figures = measured(tmp_path, StallingDisk(), step_s=1.0)
    assert figures.synced.max_s == pytest.approx(0.5, rel=0.01)
    assert figures.synced.p50_s == pytest.approx(figures.synced.p99_s)
    assert figures.synced.p99_s < 2e-3


@pytest.mark.parametrize("disk", [ScriptedDisk(), ScriptedDisk(sync_s=0.012, bytes_per_s=2e7)])
def test_a_slow_disk_takes_no_longer_than_a_fast_one(disk: ScriptedDisk, tmp_path: Path) -> None:
    figures = measured(tmp_path, disk, step_s=0.1)
    longest_s = max(size for size in RECORD_BYTES.values()) * max(GATHERED) / disk.bytes_per_s
    assert disk.now < 16 * 0.1 + 3 * longest_s
    assert figures.segment_bytes >= longest_s * disk.bytes_per_s


def test_no_more_is_occupied_than_was_asked_for(tmp_path: Path) -> None:
    class FillingDisk(ScriptedDisk):
        """Fast wherever its files grow."""

        def tell(self, step: str) -> None:
            super().tell(step)
            self.call_s = 1e-6 if "files" in step or "sequential" in step else 0.1

    disk = FillingDisk(direct_s=0, sync_s=0, bytes_per_s=1e12)
    figures = measured(tmp_path, disk, step_s=1.0)
    assert figures.segment_bytes == 128 * 1024**2
    files = max(disk.bytes_written[f"{what} files"] for what in RECORD_BYTES)
    assert files > 50e6
    assert figures.segment_bytes + files + max(RECORD_BYTES.values()) < BYTES_MAX


def test_a_disk_without_room_is_not_begun_with(tmp_path: Path) -> None:
    disk = ScriptedDisk(free=BYTES_MAX - 1)
    with pytest.raises(StoreFull, match=r"has 300 MB free; measuring needs 300 MB") as caught:
        measure(tmp_path, STEP_S, disk.clock, disk.tell, disk)
    assert "free space" in caught.value.hint
    assert disk.done.total() == 0


def test_a_folder_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    disk = ScriptedDisk()
    with pytest.raises(StorageError, match="cannot be measured: No such file or directory"):
        measure(tmp_path / "missing", STEP_S, disk.clock, disk.tell, disk)


@pytest.mark.parametrize("nth", [1, 2, 3, 20, 100, 700, 1500])
@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), StoreFull),
        (OSError(errno.EIO, os.strerror(errno.EIO)), StorageError),
    ],
)
def test_whatever_goes_wrong_whenever_nothing_is_left_behind(
    failure: BaseException, told: type[BaseException], nth: int, tmp_path: Path
) -> None:
    descriptors = set(os.listdir("/proc/self/fd"))
    disk = ScriptedDisk(fails_at=nth, failure=failure)
    with pytest.raises(told) as caught:
        measure(tmp_path, STEP_S, disk.clock, disk.tell, disk)
    assert disk.done.total() == nth
    assert list(tmp_path.iterdir()) == []
    assert set(os.listdir("/proc/self/fd")) == descriptors
    if isinstance(caught.value, DicomNodeError):
        assert caught.value.hint


def test_a_write_that_ends_early_is_a_full_disk(tmp_path: Path) -> None:
    class ShortDisk(ScriptedDisk):
        def write(self, fd, pieces, offset):  # type: ignore[no-untyped-def]
            return super().write(fd, pieces, offset) - 1

    disk = ShortDisk()
    with pytest.raises(StoreFull):
        measure(tmp_path, STEP_S, disk.clock, disk.tell, disk)
    assert list(tmp_path.iterdir()) == []
