"""kill -9 of the whole node at every boundary: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pydicom
import pytest

from dicom_node.harness.archive import Archive
from dicom_node.harness.scanner import Answer, send
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import JobState
from tests.node_process import NodeProcess

RECEIVE = (
    ("store.written", 1),
    ("store.synced", 2),
    ("store.renamed", 3),
    ("store.saved", 1),
    ("receive.recorded", 2),
    ("receive.answering", 3),
)
AFTERWARDS = (
    ("assemble.completed", 1),
    ("route.decided", 1),
    ("route.recorded", 2),
    ("infer.started", 1),
    ("infer.inferred", 1),
    ("encode.encoded", 2),
    ("encode.saved", 1),
    ("infer.recorded", 1),
    ("deliver.sending", 1),
    ("deliver.answered", 1),
    ("deliver.answered", 2),
    ("deliver.noted", 1),
)
RESULTS = 4  # SEG and SR of the CT, two SR of the X-ray


@pytest.fixture
def load(data_dir: Path) -> list[Path]:
    """Twelve slices through the lungs, and one X-ray: two studies."""
    slices = sorted((data_dir / "ct-chest-lctsc-011").glob("*.dcm"))[18:30]
    return [*slices, data_dir / "xray" / "dx-nih-00000001_000.dcm"]


@pytest.mark.parametrize(("boundary", "nth"), RECEIVE)
def test_killed_while_receiving(
    boundary: str, nth: int, load: list[Path], tmp_path: Path, free_port: int
) -> None:
    with Archive(tmp_path / "archive") as archive:
        node = _node(tmp_path, free_port, archive).start(kill_at=boundary, nth=nth)
        answers = send(load, "127.0.0.1", free_port, called="DICOM_NODE", timeout_s=10)
        node.wait_killed()
        acknowledged = [answer.file for answer in answers if answer.status == 0]
        assert len(acknowledged) == nth - 1
        node.start()
        assert_kept(node, acknowledged)
        # a scanner sends again what was not acknowledged
        rest = [answer.file for answer in answers if answer.status != 0]
        assert_all_stored(send(rest, "127.0.0.1", free_port, called="DICOM_NODE"))
        assert_kept(node, load)
        assert_finished(node, archive)


@pytest.mark.parametrize(("boundary", "nth"), AFTERWARDS)
def test_killed_after_the_studies_came(
    boundary: str, nth: int, load: list[Path], tmp_path: Path, free_port: int
) -> None:
    with Archive(tmp_path / "archive") as archive:
        node = _node(tmp_path, free_port, archive).start(kill_at=boundary, nth=nth)
        assert_all_stored(send(load, "127.0.0.1", free_port, called="DICOM_NODE"))
        node.wait_killed()
        node.start()
        assert_kept(node, load)
        assert_finished(node, archive)


def test_killed_between_the_answers_to_the_sender(
    load: list[Path], tmp_path: Path, free_port: int
) -> None:
    with Archive(tmp_path / "archive") as archive:
        node = _node(tmp_path, free_port, archive).start()

        def kill_after_five(answered: int) -> None:
            if answered == 5:
                node.kill()

        answers = send(
            load,
            "127.0.0.1",
            free_port,
            called="DICOM_NODE",
            pause=kill_after_five,
            timeout_s=10,
        )
        acknowledged = [answer.file for answer in answers if answer.status == 0]
        assert len(acknowledged) == 5
        node.start()
        assert_kept(node, acknowledged)
        rest = [answer.file for answer in answers if answer.status != 0]
        assert_all_stored(send(rest, "127.0.0.1", free_port, called="DICOM_NODE"))
        assert_finished(node, archive)


def _node(tmp_path: Path, port: int, archive: Archive) -> NodeProcess:
    peer = {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive.port}
    scanner = {"ae_title": "SCANNER", "may_send": True}
    return NodeProcess(tmp_path / "node", port, peers={"archive": peer, "scanner": scanner})


def assert_all_stored(answers: list[Answer]) -> None:
    assert [answer.status for answer in answers] == [0] * len(answers)


def assert_kept(node: NodeProcess, files: list[Path]) -> None:
    """Each file has its row, and the bytes of its data set lie where the row says."""
    ledger = node.ledger()
    for file in files:
        uid, data_set = sent_bytes(file)
        study = ledger.studies.study_of_instance(uid)
        assert study is not None, f"{file.name} was acknowledged and is not in the ledger"
        [row] = [i for i in ledger.studies.instances(study) if i.sop_instance_uid == uid]
        assert row.digest == hashlib.sha256(data_set).hexdigest()
        stored = (node.data / row.path).read_bytes()
        assert stored.endswith(data_set)
        assert len(stored) == row.size_bytes
    ledger.close()


def assert_finished(node: NodeProcess, archive: Archive) -> None:
    """All work ends; the archive has every result once, byte for byte as the store has it."""
    node.wait_done(studies=2)
    ledger = node.ledger()
    try:
        done = ledger.jobs.in_states(JobState.DONE)
        assert sorted(job.engine_name for job in done) == [
            "ct_lungs",
            "cxr_pneumonia",
            "cxr_quality",
        ]
        results = [result for job in done for result in ledger.jobs.results(job.job_id)]
        assert len(results) == RESULTS
        received = {r.sop_instance_uid: r for r in archive.received()}
        assert received.keys() == {result.sop_instance_uid for result in results}
        assert archive.conflicts() == ()
        for result in results:
            _, data_set = sent_bytes(node.data / result.path)
            assert received[result.sop_instance_uid].digest == hashlib.sha256(data_set).hexdigest()
        assert_nothing_left_over(node, ledger)
    finally:
        ledger.close()
    assert node.stop() == 0


def assert_nothing_left_over(node: NodeProcess, ledger: Ledger) -> None:
    assert list((node.data / "incoming").iterdir()) == []
    assert [event.reason for event in ledger.events.named("STAGE_FAILED")] == []


def sent_bytes(file: Path) -> tuple[str, bytes]:
    """Return a Part 10 file's SOP Instance UID and its data set, by the length in its File Meta."""
    meta = pydicom.filereader.read_file_meta_info(file)
    start = 132 + 12 + meta.FileMetaInformationGroupLength
    return str(meta.MediaStorageSOPInstanceUID), file.read_bytes()[start:]
