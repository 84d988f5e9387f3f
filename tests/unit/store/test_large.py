"""Large instances: streamed into files of their own, named only once they are durable."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from dicom_node.errors import StorageError, StoreFull
from dicom_node.store.disk import LogDisk
from dicom_node.store.large import LargeFile, LargeFileWriter, part10_path
from dicom_node.store.local import LocalStore
from dicom_node.store.record import BLOCK_BYTES
from tests.unit.store.log_disks import (
    Failure,
    Kind,
    NotingDisk,
    NotingLogDisk,
    Platter,
    broken,
    full,
)
from tests.unit.store.log_records import blocks_of_memory

NAME = "instances/ab/1.2/1.2.3.dcm"
PIECE_BYTES = 4 * BLOCK_BYTES


def content_of(size: int) -> bytes:
    return bytes(number * 7 % 251 for number in range(size))


def blocks_of(content: bytes) -> list[tuple[memoryview, int]]:
    """Return the content in blocks of memory, each with how much of it is used."""
    blocks = []
    for begin in range(0, len(content), PIECE_BYTES):
        piece = content[begin : begin + PIECE_BYTES]
        block = blocks_of_memory(PIECE_BYTES)
        block[: len(piece)] = piece
        blocks.append((block, len(piece)))
    return blocks


def write(file: LargeFile, content: bytes) -> None:
    for block, used in blocks_of(content):
        file.write([block], used)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def named(store: LocalStore) -> list[str]:
    files = [path for path in store.root.rglob("*") if path.is_file()]
    return sorted(str(path.relative_to(store.root)) for path in files)


# ---------------------------------------------------------------- one file


@pytest.mark.parametrize(
    "size", [1, BLOCK_BYTES, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES - 1, 20 * PIECE_BYTES]
)
def test_a_file_has_all_bytes_that_were_written_and_none_more(size: int, store: LocalStore) -> None:
    file = LargeFile(store, LogDisk())
    write(file, content_of(size))
    file.finish(NAME)
    assert store.path(NAME).read_bytes() == content_of(size)
    assert store.path(NAME).stat().st_blocks * 512 <= size + PIECE_BYTES
    assert named(store) == [NAME]


def test_blocks_that_gathered_go_out_with_one_write(store: LocalStore) -> None:
    class CountingDisk(LogDisk):
        writes = 0

        def write(self, fd: int, buffers: Sequence[memoryview], offset: int) -> None:
            self.writes += 1
            super().write(fd, buffers, offset)

    disk = CountingDisk()
    file = LargeFile(store, disk)
    content = content_of(4 * PIECE_BYTES + 100)
    blocks = blocks_of(content)
    file.write([block for block, _ in blocks[:2]], PIECE_BYTES)
    file.write([block for block, _ in blocks[2:]], blocks[-1][1])
    file.finish(NAME)
    assert store.path(NAME).read_bytes() == content
    assert disk.writes == 2


def test_more_than_was_reserved_is_reserved_as_it_comes(store: LocalStore) -> None:
    file = LargeFile(store, LogDisk(), reserve_bytes=2 * PIECE_BYTES)
    write(file, content_of(7 * PIECE_BYTES + 5))
    file.finish(NAME)
    assert store.path(NAME).read_bytes() == content_of(7 * PIECE_BYTES + 5)


def test_bytes_then_size_then_name_then_folder_become_durable(tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.mkdir()
    platter = Platter(root)
    file = LargeFile(LocalStore(root, NotingDisk(platter)), NotingLogDisk(platter))
    write(file, content_of(2 * PIECE_BYTES))
    begin = len(platter)
    file.finish("a/x.dcm")
    done = [(operation.kind, operation.path.name) for operation in platter.operations[begin:]]
    assert done == [
        (Kind.CUT, ""),
        (Kind.SYNC, ""),
        (Kind.CLOSE, ""),
        (Kind.MAKE_FOLDER, "a"),
        (Kind.SYNC_FOLDER, "store"),
        (Kind.NAME, "x.dcm"),
        (Kind.SYNC_FOLDER, "a"),
    ]


def test_what_is_dropped_leaves_nothing(store: LocalStore) -> None:
    file = LargeFile(store, LogDisk())
    write(file, content_of(2 * PIECE_BYTES))
    assert len(named(store)) == 1
    file.drop()
    assert named(store) == []
    LargeFile(store, LogDisk()).drop()  # nothing of it had come


@pytest.mark.parametrize("failure", [broken, full])
@pytest.mark.parametrize("kind", [Kind.NAME, Kind.GROW, Kind.WRITE, Kind.CUT, Kind.SYNC])
def test_a_disk_that_fails_is_told_of_and_leaves_nothing_after_the_drop(
    kind: Kind, failure: Failure, tmp_path: Path
) -> None:
    root = tmp_path / "store"
    root.mkdir()
    platter = Platter(root)
    store = LocalStore(root, NotingDisk(platter))
    file = LargeFile(store, NotingLogDisk(platter))
    platter.fail_next(kind, failure)
    with pytest.raises(StoreFull if failure is full else StorageError):
        _write_and_finish(file)
    file.drop()
    assert named(store) == []


def _write_and_finish(file: LargeFile) -> None:
    write(file, content_of(100))
    file.finish(NAME)


def test_a_drop_never_fails(store: LocalStore) -> None:
    """It runs on the thread that writes everybody's files."""

    class ClosesNothing(LogDisk):
        def close(self, fd: int) -> None:
            super().close(fd)
            raise broken()

    file = LargeFile(store, ClosesNothing())
    write(file, content_of(100))
    file.drop()
    assert named(store) == []


# ---------------------------------------------------------------- the thread


class Writer:
    """A writer with its thread, and a way to wait for what it does."""

    def __init__(self, store: LocalStore, disk: LogDisk | None = None) -> None:
        self.writer = LargeFileWriter(store, disk or LogDisk())
        self.given_back: list[memoryview] = []

    def write(self, file: LargeFile, content: bytes) -> None:
        for block, used in blocks_of(content):
            self.writer.write(file, block, used, partial(self.given_back.append, block))

    def finish(self, file: LargeFile, name: str) -> None:
        finished = threading.Event()
        self.writer.finish(file, name, finished.set)
        assert finished.wait(10)

    def __enter__(self) -> Writer:
        self.writer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.stop()


def test_several_files_are_written_in_turns(store: LocalStore) -> None:
    with Writer(store) as writer:
        files = [writer.writer.begin() for _ in range(3)]
        contents = [content_of(size) for size in (5 * PIECE_BYTES, 3 * PIECE_BYTES + 9, 100)]
        for file, content in zip(files, contents, strict=True):
            writer.write(file, content)
        for number, file in enumerate(files):
            writer.finish(file, f"{number}.dcm")
    assert [store.path(f"{number}.dcm").read_bytes() for number in range(3)] == contents
    assert len(writer.given_back) == 5 + 4 + 1


def test_every_block_is_given_back_though_the_disk_is_full(store: LocalStore) -> None:
    class FullDisk(LogDisk):
        def write(self, fd: int, buffers: Sequence[memoryview], offset: int) -> None:
            raise full()

    with Writer(store, FullDisk()) as writer:
        file = writer.writer.begin()
        writer.write(file, content_of(5 * PIECE_BYTES))
        writer.finish(file, NAME)
        assert len(writer.given_back) == 5
        assert isinstance(file.error, StoreFull)
        assert named(store) == []


def test_a_file_that_failed_does_not_keep_the_next_one_from_being_written(
    store: LocalStore,
) -> None:
    class FailsOnce(LogDisk):
        has_failed = False

        def write(self, fd: int, buffers: Sequence[memoryview], offset: int) -> None:
            if not self.has_failed:
                self.has_failed = True
                raise broken()
            super().write(fd, buffers, offset)

    with Writer(store, FailsOnce()) as writer:
        first, second = writer.writer.begin(), writer.writer.begin()
        for file in (first, second):
            writer.write(file, content_of(PIECE_BYTES))
        writer.finish(first, "first.dcm")
        writer.finish(second, "second.dcm")
    assert first.error is not None
    assert second.error is None
    assert named(store) == ["second.dcm"]


def test_a_file_that_is_dropped_between_its_blocks_leaves_nothing(store: LocalStore) -> None:
    with Writer(store) as writer:
        file = writer.writer.begin()
        writer.write(file, content_of(3 * PIECE_BYTES))
        writer.writer.drop(file)
    assert len(writer.given_back) == 3
    assert named(store) == []


# ---------------------------------------------------------------- names


def test_another_data_set_under_the_same_uids_has_another_name() -> None:
    one = part10_path("instances/ab/1.2", "1.2.3", "1.2.3.4", "0123456789abcdef" * 2)
    two = part10_path("instances/ab/1.2", "1.2.3", "1.2.3.4", "f123456789abcdef" * 2)
    assert one == "instances/ab/1.2/1.2.3/1.2.3.4.0123456789abcdef.dcm"
    assert one != two
