"""The store: names, checkpoints, leftovers, and the order of what it asks of the disk."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.errors import StorageError, StoreFull
from dicom_node.store.local import Disk, LocalStore
from tests.unit.store.disks import RecordingDisk


def files_in(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_a_file_lies_under_its_name_with_all_of_its_pieces(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    size = store.save("a/b/c.dcm", [b"one", memoryview(b"two"), b"", b"three"])
    assert store.path("a/b/c.dcm").read_bytes() == b"onetwothree"
    assert size == 11
    assert files_in(tmp_path) == {"a/b/c.dcm"}


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    assert LocalStore(tmp_path).save("empty", []) == 0
    assert (tmp_path / "empty").read_bytes() == b""


def test_saving_again_replaces_the_file_whole(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.save("a/x", [b"a long first content"])
    store.save("a/x", [b"short"])
    assert (tmp_path / "a" / "x").read_bytes() == b"short"


def test_bytes_then_name_then_folder_and_the_folders_above_before_the_name(
    tmp_path: Path,
) -> None:
    disk, passed = RecordingDisk(), list[str]()

    def checkpoint(name: str) -> None:
        passed.append(name)
        disk.operations.append(("checkpoint", name))

    root = tmp_path / "store"
    root.mkdir()
    LocalStore(root, disk, checkpoint).save("a/b/x", [b"one", b"two"])
    assert disk.operations == [
        ("write", ""),
        ("write", ""),
        ("checkpoint", "store.written"),
        ("sync", ""),
        ("checkpoint", "store.synced"),
        ("make_folder", "a"),
        ("sync_folder", "store"),
        ("make_folder", "b"),
        ("sync_folder", "a"),
        ("rename", "x"),
        ("checkpoint", "store.renamed"),
        ("sync_folder", "b"),
        ("checkpoint", "store.saved"),
    ]


def test_a_folder_that_is_known_to_be_durable_is_not_synced_again(tmp_path: Path) -> None:
    disk = RecordingDisk()
    store = LocalStore(tmp_path, disk)
    store.save("a/b/x", [b"x"])
    disk.operations.clear()
    store.save("a/b/y", [b"y"])
    assert disk.operations == [
        ("write", ""),
        ("sync", ""),
        ("rename", "y"),
        ("sync_folder", "b"),
    ]


def test_a_folder_that_another_process_made_is_synced_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    disk = RecordingDisk()
    LocalStore(tmp_path, disk).save("a/x", [b"x"])
    assert ("sync_folder", tmp_path.name) in disk.operations


def test_short_writes_are_continued(tmp_path: Path) -> None:
    class OneByteDisk(Disk):
        def write(self, fd: int, data: memoryview) -> int:
            return os.write(fd, data[:1])

    content = bytes(range(256))
    assert LocalStore(tmp_path, OneByteDisk()).save("x", [content]) == 256
    assert (tmp_path / "x").read_bytes() == content


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a/.."])
def test_a_name_that_leads_out_of_the_store_is_refused(name: str, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    with pytest.raises(StorageError, match="leads out of the store"):
        store.path(name)
    with pytest.raises(StorageError, match="leads out of the store"):
        store.save(name, [b"x"])
    assert files_in(tmp_path) == set()


def test_only_half_written_files_are_removed_at_start(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.save("a/x", [b"x"])
    for name in ("1.part", "2.part"):
        (tmp_path / "incoming" / name).write_bytes(b"half")
    assert LocalStore(tmp_path).remove_leftovers() == 2
    assert files_in(tmp_path) == {"a/x"}


@pytest.mark.parametrize("beat", ["store.written", "store.synced", "store.renamed"])
def test_an_exception_at_any_beat_leaves_no_half_written_file(beat: str, tmp_path: Path) -> None:
    def stop(name: str) -> None:
        if name == beat:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LocalStore(tmp_path, checkpoint=stop).save("a/x", [b"x"])
    assert list((tmp_path / "incoming").iterdir()) == []


def test_pieces_that_end_in_an_error_leave_nothing(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"one"
        raise ConnectionResetError(errno.ECONNRESET, "the sender is gone")

    with pytest.raises(StorageError):
        LocalStore(tmp_path).save("a/x", pieces())
    assert files_in(tmp_path) == set()


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EFBIG, StoreFull),
        (errno.EIO, StorageError),
        (errno.EROFS, StorageError),
        (errno.EACCES, StorageError),
    ],
)
def test_the_kind_of_error_says_whether_room_would_help(
    number: int, kind: type[StorageError], tmp_path: Path
) -> None:
    class BrokenDisk(Disk):
        def write(self, fd: int, data: memoryview) -> int:
            raise OSError(number, os.strerror(number))

    with pytest.raises(StorageError) as caught:
        LocalStore(tmp_path, BrokenDisk()).save("a/x", [b"x"])
    assert type(caught.value) is kind
    assert caught.value.retryable is (kind is StoreFull)
    assert caught.value.hint


def test_a_store_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        LocalStore(tmp_path / "file" / "store")


def test_whoever_comes_second_waits_until_the_folder_is_durable(tmp_path: Path) -> None:
    """Else it would answer for a file whose folder may not survive."""
    first_is_syncing, go_on, second_has_written = (threading.Event() for _ in range(3))
    order: list[str] = []

    class SlowDisk(Disk):
        def sync(self, fd: int) -> None:
            if threading.current_thread().name == "second":
                second_has_written.set()

        def sync_folder(self, folder: Path) -> None:
            if folder == tmp_path and not first_is_syncing.is_set():
                first_is_syncing.set()
                assert go_on.wait(10)
                order.append("folder synced")

        def rename(self, source: Path, target: Path) -> None:
            super().rename(source, target)
            order.append(f"{target.name} named")

    store = LocalStore(tmp_path, SlowDisk())
    first = threading.Thread(target=store.save, args=("a/one", [b"1"]), name="first")
    second = threading.Thread(target=store.save, args=("a/two", [b"2"]), name="second")
    first.start()
    assert first_is_syncing.wait(10)
    second.start()
    assert second_has_written.wait(10)
    second.join(0.05)  # time enough to overtake, if it could
    go_on.set()
    first.join(10)
    second.join(10)
    assert order[0] == "folder synced"
    assert sorted(order[1:]) == ["one named", "two named"]


def test_free_bytes_are_those_of_the_disk(tmp_path: Path) -> None:
    free = LocalStore(tmp_path).free_bytes()
    stat = os.statvfs(tmp_path)
    assert free == pytest.approx(stat.f_bavail * stat.f_frsize, rel=0.1)
