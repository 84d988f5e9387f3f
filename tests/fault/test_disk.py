"""The disk fails, is full, or loses its power: nothing that was acknowledged is lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from dicom_node.config.settings import Config, Peer
from dicom_node.errors import StorageError, StoreFull
from dicom_node.harness.archive import Archive
from dicom_node.harness.scanner import send
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryState
from dicom_node.model import Event
from dicom_node.store.disk import LogDisk
from dicom_node.store.local import LocalStore
from tests.door import Door
from tests.factories import STUDY, make_ct_series, make_instance, write, write_series
from tests.node_process import wait_until
from tests.unit.deliver.delivering import deliverer_of
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock
from tests.unit.store.disks import PowerCutDisk

NAME = "instances/c1/1.2.3/1.2.3.1/1.2.3.1.1.dcm"
PIECES = [b"preamble", b"data set " * 100]
CONTENT = b"".join(PIECES)
OPERATIONS = 13
"""Two writes, a sync, four folders made and synced, a rename, and the sync of its folder."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder for the store that was there before, and is safe itself."""
    root = tmp_path / "store"
    (root / "incoming").mkdir(parents=True)
    return root


def named(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


# ---------------------------------------------------------------- the n-th operation fails


def test_a_save_is_so_many_operations(root: Path) -> None:
    disk = PowerCutDisk(root)
    LocalStore(root, disk).save(NAME, PIECES)
    assert disk.operations == OPERATIONS


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("n", range(1, OPERATIONS + 1))
def test_whichever_operation_fails_nothing_half_done_is_left(
    n: int, number: int, root: Path
) -> None:
    disk = PowerCutDisk(root, fail_at=n, error_number=number)
    store = LocalStore(root, disk)
    with pytest.raises(StorageError) as caught:
        store.save(NAME, PIECES)
    assert isinstance(caught.value, StoreFull) is (number == errno.ENOSPC)
    assert list((root / "incoming").iterdir()) == []
    if disk.renamed_at:  # only the sync of the name itself failed: the bytes are safe
        assert disk.at_worst() == {root / NAME: CONTENT}
    else:
        assert named(root) == set()


@pytest.mark.parametrize("n", range(1, OPERATIONS + 1))
def test_what_is_saved_after_a_failure_is_as_safe_as_ever(n: int, root: Path) -> None:
    disk = PowerCutDisk(root, fail_at=n, error_number=errno.EIO)
    store = LocalStore(root, disk)
    with pytest.raises(StorageError):
        store.save(NAME, PIECES)
    assert store.save(NAME, PIECES) == len(CONTENT)
    assert disk.after_power_cut() == {root / NAME: CONTENT}


# ---------------------------------------------------------------- the power fails


def test_whatever_save_returned_for_survives_a_power_cut(root: Path) -> None:
    disk = PowerCutDisk(root)
    store = LocalStore(root, disk)
    saved: dict[Path, bytes] = {}
    names = ["a/1", "a/2", "a/b/c/3", "a/b/4", "5", "a/1", "d/b/6"]
    for number, name in enumerate(names):
        store.save(name, [b"content ", str(number).encode()])
        saved[root / name] = b"content %d" % number
        assert disk.after_power_cut() == saved


def test_what_a_new_process_saves_into_old_folders_survives_too(root: Path) -> None:
    """Its predecessor may have died between making a folder and syncing the one above it."""
    disk = PowerCutDisk(root, fail_at=5, error_number=errno.EIO)  # instances/ made, root not synced
    with pytest.raises(StorageError):
        LocalStore(root, disk).save(NAME, PIECES)
    assert (root / "instances").is_dir()
    LocalStore(root, disk).save(NAME, PIECES)
    assert disk.after_power_cut() == {root / NAME: CONTENT}


def test_a_store_whose_own_folder_is_new_survives_too(tmp_path: Path) -> None:
    """On the first start, nobody else makes the entry of node.data_dir durable."""
    root = tmp_path / "var" / "dicom-node"
    disk = PowerCutDisk(tmp_path)
    LocalStore(root, disk).save("a/1", PIECES)
    assert disk.after_power_cut() == {root / "a" / "1": CONTENT}


@pytest.mark.parametrize("n", range(1, OPERATIONS + 1))
def test_a_power_cut_at_any_operation_leaves_no_name_without_its_bytes(n: int, root: Path) -> None:
    class PowerCut(BaseException):
        pass

    class CutDisk(PowerCutDisk):
        def _count(self) -> None:
            if self.operations == n:
                raise PowerCut
            super()._count()

    disk = CutDisk(root)
    try:
        LocalStore(root, disk).save(NAME, PIECES)
    except PowerCut:
        for seen in (disk.after_power_cut(), disk.at_worst()):
            final = {path: data for path, data in seen.items() if path.suffix == ".dcm"}
            assert final in ({}, {root / NAME: CONTENT})
    else:
        assert disk.after_power_cut() == {root / NAME: CONTENT}


# ---------------------------------------------------------------- at the door


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = rows.new_ledger(tmp_path)
    yield ledger
    ledger.close()


class FailingLogDisk(LogDisk):
    """Fails one write of a record."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._segments: set[int] = set()

    def open_segment(self, path: Path) -> int:
        fd = super().open_segment(path)
        self._segments.add(fd)
        return fd

    def write(self, fd: int, buffers: Sequence[memoryview], offset: int) -> None:
        if fd in self._segments and self._number:
            number, self._number = self._number, 0
            raise OSError(number, os.strerror(number))
        super().write(fd, buffers, offset)


def sent_to(port: int, files: list[Path]) -> list[int | None]:
    answers = send(files, "127.0.0.1", port, called="DICOM_NODE")
    return [answer.status for answer in answers]


def refusals(door: Door) -> list[Event]:
    """Return the refusals once there are any: their records follow behind the answers."""
    wait_until(lambda: bool(door.catch_up().events.named("REFUSED")), what="a refusal")
    return door.ledger.events.named("REFUSED")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_the_sender_is_told_to_keep_its_copy_and_the_next_one_is_taken(
    number: int, tmp_path: Path
) -> None:
    """The record that fails is that of the association's begin and of its first instance."""
    files = write_series(make_ct_series(2), tmp_path / "sent")
    with Door(tmp_path, disk=FailingLogDisk(number)) as door:
        statuses = sent_to(door.port, files)
        assert statuses[1] == 0x0000
        ledger = door.catch_up()
        first, second = make_ct_series(2)
        kept = rows.uids(ledger.studies.instances(STUDY))
        assert second.SOPInstanceUID in kept
        if statuses[0] == 0x0000:
            assert first.SOPInstanceUID in kept
        else:
            assert statuses[0] == 0xA700
            [refused] = refusals(door)
            assert refused.subject == first.SOPInstanceUID
            assert str(first.PatientID) not in refused.reason
        assert sent_to(door.port, files[:1]) == [0x0000]  # the sender tries again
        assert len(door.catch_up().studies.instances(STUDY)) == 2


def test_below_the_reserve_nothing_is_taken(tmp_path: Path) -> None:
    file = write(make_instance(), tmp_path / "sent" / "1.dcm")
    with Door(tmp_path, free_bytes_min=1 << 60) as door:
        assert sent_to(door.port, [file]) == [0xA700]
        [refused] = refusals(door)
        assert door.ledger.studies.instances(STUDY) == []
    assert refused.reason == "less than receive.free_bytes_min is free"


@pytest.fixture
def full_ledger_disk() -> Iterator[Callable[[], None]]:
    """Return a function from whose call on no SQLite database of this process grows any more."""

    def allow_no_page_more(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # SQLite keeps to what is there already

    def fill() -> None:
        event.listen(Engine, "connect", allow_no_page_more)

    yield fill
    if event.contains(Engine, "connect", allow_no_page_more):
        event.remove(Engine, "connect", allow_no_page_more)


def test_a_full_disk_under_the_ledger_loses_nothing_either(
    tmp_path: Path, full_ledger_disk: Callable[[], None]
) -> None:
    rows.new_ledger(tmp_path).close()
    full_ledger_disk()
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    taken: list[str] = []

    def store(number: int) -> None:
        instance = rows.an_instance(number)
        ledger.studies.instance_stored(instance)
        taken.append(instance.sop_instance_uid)

    with pytest.raises(StoreFull):
        list(map(store, range(1000)))
    assert sorted(rows.uids(ledger.studies.instances(rows.STUDY))) == sorted(taken)
    ledger.close()


# ---------------------------------------------------------------- on the way out


def test_a_result_that_is_gone_from_the_disk_does_not_hold_up_the_others(
    tmp_path: Path, ledger: Ledger
) -> None:
    """Nor is the destination blamed for it."""
    store = LocalStore(tmp_path / "data")
    results = []
    for number in (1, 2):
        dataset = make_instance(number=number)
        write(dataset, store.path(f"results/{number}.dcm"))
        results.append(
            rows.a_result(
                number,
                sop_instance_uid=str(dataset.SOPInstanceUID),
                sop_class_uid=str(dataset.SOPClassUID),
            )
        )
    rows.finished(ledger, *results, now=400.0)
    store.path("results/1.dcm").unlink()
    with Archive(tmp_path / "archive") as archive:
        peer = Peer(ae_title="ARCHIVE", host="127.0.0.1", port=archive.port)
        clock = HandClock(500.0)
        deliverer = deliverer_of(Config(peers={"archive": peer}), ledger, store, clock)
        for _ in range(3):
            try:
                deliverer.turn("archive")
            except OSError as error:  # what the node's lane does with an error of ours
                deliverer.broke("archive", error)
            clock.now += 4000.0
        received = [one.sop_instance_uid for one in archive.received()]
    assert received == [results[1].sop_instance_uid]
    assert rows.delivery_of(ledger, 1).state in {DeliveryState.PENDING, DeliveryState.DEAD}
    assert "ended the association" not in rows.delivery_of(ledger, 1).reason
    assert rows.delivery_of(ledger, 2).state is DeliveryState.SENT
