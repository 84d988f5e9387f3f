"""The same instance again, other bytes under its UIDs, and one study from several at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dicom_node.harness.scanner import send
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import StudyState
from dicom_node.model import Instance
from dicom_node.receive.policy import Identity
from dicom_node.store.record import digest_of
from tests.door import Door
from tests.factories import STUDY, make_ct_series, make_instance, write, write_series
from tests.node_process import node_without_engines, wait_until
from tests.unit.ledger.rows import study_of

SUCCESS = 0x0000
CANNOT_UNDERSTAND = 0xC000


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return write(make_instance(), tmp_path / "sent" / "first.dcm")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Return the same instance with another content."""
    return write(make_instance(SeriesDescription="corrected"), tmp_path / "sent" / "other.dcm")


def sent_to(port: int, *files: Path) -> list[int | None]:
    """Send each in an association of its own; return the statuses."""
    answers = [send([file], "127.0.0.1", port, called="DICOM_NODE") for file in files]
    return [answer.status for [answer] in answers]


def events_of(ledger: Ledger, *names: str) -> list[str]:
    return [event.event for name in names for event in ledger.events.named(name)]


def data_set_of(door: Door, instance: Instance) -> bytes:
    """Return what follows the File Meta Information, by its group length (PS3.10 7.1)."""
    return data_set_in(door.store.file(instance.path).read_bytes())


def data_set_in(part10: bytes) -> bytes:
    assert part10[128:140] == b"DICM\2\0\0\0UL\4\0"
    return part10[144 + int.from_bytes(part10[140:144], "little") :]


def complete(ledger: Ledger) -> None:
    [evidence] = ledger.studies.receiving()
    assert ledger.studies.completed(evidence, "quiet", 2000.0)


# ------------------------------------------------------------ repeats


def test_the_same_again_is_success_and_one_row(tmp_path: Path, first: Path) -> None:
    with Door(tmp_path) as door:
        assert sent_to(door.port, first, first, first) == [SUCCESS] * 3
        ledger = door.catch_up()
        [instance] = ledger.studies.instances(STUDY)
        assert data_set_of(door, instance) == data_set_in(first.read_bytes())
        assert events_of(ledger, "REPEATED") == ["REPEATED"] * 2


def test_the_same_again_does_not_reopen_a_complete_study(tmp_path: Path, first: Path) -> None:
    with Door(tmp_path) as door:
        sent_to(door.port, first)
        complete(door.catch_up())
        sent_to(door.port, first)
        study = study_of(door.catch_up(), STUDY)
        assert (study.state, study.revision) == (StudyState.COMPLETE, 1)


def test_the_same_again_in_one_association_is_a_repeat(tmp_path: Path, first: Path) -> None:
    with Door(tmp_path) as door:
        answers = send([first] * 5, "127.0.0.1", door.port, called="DICOM_NODE")
        assert [answer.status for answer in answers] == [SUCCESS] * 5
        ledger = door.catch_up()
        assert len(ledger.studies.instances(STUDY)) == 1
        assert events_of(ledger, "REPEATED") == ["REPEATED"] * 4


# ------------------------------------------------------------ other bytes


def test_other_bytes_replace_the_row_and_open_a_revision(
    tmp_path: Path, first: Path, other: Path
) -> None:
    with Door(tmp_path) as door:
        assert sent_to(door.port, first) == [SUCCESS]
        [before] = door.catch_up().studies.instances(STUDY)
        complete(door.ledger)
        assert sent_to(door.port, other) == [SUCCESS]
        ledger = door.catch_up()
        [after] = ledger.studies.instances(STUDY)
        assert after.digest == digest_of(data_set_in(other.read_bytes())).hex()
        assert data_set_of(door, after) == data_set_in(other.read_bytes())
        assert data_set_of(door, before) == data_set_in(first.read_bytes())  # it is still there
        study = study_of(ledger, STUDY)
        assert (study.state, study.revision) == (StudyState.RECEIVING, 2)
        [event] = ledger.events.named("REPLACED")
        assert before.path in event.reason


def test_where_the_first_is_kept_other_bytes_are_taken_and_set_aside(
    tmp_path: Path, first: Path, other: Path
) -> None:
    with Door(tmp_path, same_uid_other_bytes="keep") as door:
        assert sent_to(door.port, first, other) == [SUCCESS] * 2
        ledger = door.catch_up()
        [instance] = ledger.studies.instances(STUDY)
        assert data_set_of(door, instance) == data_set_in(first.read_bytes())
        assert study_of(ledger, STUDY).revision == 1
        [event] = ledger.events.named("KEPT_FIRST")
        assert event.subject == instance.sop_instance_uid


def known_digest(ledger: Ledger) -> Callable[[Identity], str | None]:
    def look(identity: Identity) -> str | None:
        known = ledger.studies.instance(
            identity.study_instance_uid, identity.series_instance_uid, identity.sop_instance_uid
        )
        return None if known is None else known.digest

    return look


@pytest.mark.parametrize("ledger_is_behind", [True, False])
def test_where_it_is_refused_the_sender_is_told(
    ledger_is_behind: bool, tmp_path: Path, first: Path, other: Path
) -> None:
    with Door(tmp_path, same_uid_other_bytes="refuse", known_digest=known_digest) as door:
        assert sent_to(door.port, first) == [SUCCESS]
        if not ledger_is_behind:
            door.catch_up()
        assert sent_to(door.port, other, first) == [CANNOT_UNDERSTAND, SUCCESS]
        ledger = door.catch_up()
        [instance] = ledger.studies.instances(STUDY)
        assert data_set_of(door, instance) == data_set_in(first.read_bytes())
        assert events_of(ledger, "REFUSED", "REPEATED") == ["REFUSED", "REPEATED"]
        [event] = ledger.events.named("REFUSED")
        assert "another data set is kept" in event.reason


def test_a_whole_node_refuses_other_bytes_also_after_a_restart(
    tmp_path: Path, first: Path, other: Path, free_port: int
) -> None:
    node = node_without_engines(tmp_path, free_port, receive={"same_uid_other_bytes": "refuse"})
    node.start()
    assert sent_to(free_port, first, other, first) == [SUCCESS, CANNOT_UNDERSTAND, SUCCESS]
    assert node.stop() == 0
    node.start()
    assert sent_to(free_port, other, first) == [CANNOT_UNDERSTAND, SUCCESS]
    ledger = node.ledger()
    wait_until(lambda: len(ledger.events.named("REPEATED")) == 2, 10, "two repeats")
    assert len(ledger.events.named("REFUSED")) == 2
    ledger.close()
    assert node.stop() == 0


# ------------------------------------------------------------ several at once


def at_once(port: int, batches: Sequence[Sequence[Path]]) -> list[int | None]:
    """Send each batch in an association of its own, all open before the first instance goes."""
    gate = threading.Barrier(len(batches))

    def transmit(files: Sequence[Path]) -> list[int | None]:
        answers = send(
            files,
            "127.0.0.1",
            port,
            called="DICOM_NODE",
            pause=lambda count: gate.wait(30) if count == 1 else None,
        )
        return [answer.status for answer in answers]

    with ThreadPoolExecutor(len(batches)) as pool:
        return [status for answers in pool.map(transmit, batches) for status in answers]


def test_one_study_from_four_associations_is_one_study(tmp_path: Path) -> None:
    files = write_series(make_ct_series(slices=24), tmp_path / "sent")
    with Door(tmp_path) as door:
        statuses = at_once(door.port, [files[begin::4] for begin in range(4)])
        assert statuses == [SUCCESS] * 24
        ledger = door.catch_up()
        instances = ledger.studies.instances(STUDY)
        assert len(instances) == 24
        assert len({instance.association_id for instance in instances}) == 4
        assert study_of(ledger, STUDY).revision == 1
        kept = {data_set_of(door, instance) for instance in instances}
        assert kept == {data_set_in(file.read_bytes()) for file in files}


def test_the_same_study_from_two_associations_at_once_is_stored_once(tmp_path: Path) -> None:
    files = write_series(make_ct_series(slices=10), tmp_path / "sent")
    with Door(tmp_path) as door:
        assert at_once(door.port, [files, files]) == [SUCCESS] * 20
        ledger = door.catch_up()
        assert len(ledger.studies.instances(STUDY)) == 10
        assert events_of(ledger, "REPEATED") == ["REPEATED"] * 10
