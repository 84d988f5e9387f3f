"""kill -9 of the whole node at every boundary: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pydicom
import pytest
import yaml

from dicom_node.errors import PeerUnreachable
from dicom_node.harness.archive import Archive
from dicom_node.harness.lying_archive import Deed, LyingArchive
from dicom_node.harness.scanner import Answer, send
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryState, JobState
from dicom_node.store.local import LocalStore
from dicom_node.store.record import digest_of
from tests.node_process import NodeProcess, wait_until

pytestmark = pytest.mark.slow  # each node is started twice

RECEIVE = (
    ("segment.filled", 1, 0),
    ("segment.renamed", 1, 0),
    ("segment.taken", 1, 0),
    ("log.writing", 2, None),
    ("log.written", 3, None),
    ("receive.answering", 3, 2),
    ("ingest.recorded", 1, None),
)
"""Boundary, its passing, and how many answers must have been sent before; None where that is open,
since several records may share a write."""
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
    ("prove.asking", 1),
    ("prove.answered", 1),
    ("prove.asked", 1),
    ("prove.noted", 1),
)
FORWARDING = (
    ("route.recorded", 2),
    ("forward.sending", 1),
    ("forward.answered", 1),
    ("forward.noted", 1),
    ("prove.asking", 1),
    ("prove.answered", 1),
    ("prove.asked", 1),
    ("prove.noted", 1),
)
RESULTS = 4  # SEG and SR of the CT, two SR of the X-ray


@pytest.fixture
def load(data_dir: Path) -> list[Path]:
    """Twelve slices through the lungs, and one X-ray: two studies."""
    slices = sorted((data_dir / "ct-chest-lctsc-011").glob("*.dcm"))[18:30]
    return [*slices, data_dir / "xray" / "dx-nih-00000001_000.dcm"]


@pytest.mark.parametrize(("boundary", "nth", "answered"), RECEIVE)
def test_killed_while_receiving(
    boundary: str,
    nth: int,
    answered: int | None,
    load: list[Path],
    tmp_path: Path,
    free_port: int,
) -> None:
    with Archive(tmp_path / "archive") as archive:
        node = _node(tmp_path, free_port, archive)
        node.start(kill_at=boundary, nth=nth, until_it_listens=False)
        answers = _send_while_it_runs(node, load)
        node.wait_killed()
        acknowledged = [answer.file for answer in answers if answer.status == 0]
        assert answered is None or len(acknowledged) == answered
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
    with LyingArchive(tmp_path / "archive") as archive:  # an honest one: it commits
        node = _node(tmp_path, free_port, archive).start(kill_at=boundary, nth=nth)
        assert_all_stored(send(load, "127.0.0.1", free_port, called="DICOM_NODE"))
        node.wait_killed()
        node.start()
        assert_kept(node, load)
        assert_finished(node, archive)
        assert_proven(node)


@pytest.mark.parametrize(("boundary", "nth"), FORWARDING)
def test_killed_while_it_forwards_or_asks_for_what_it_forwarded(
    boundary: str, nth: int, load: list[Path], tmp_path: Path, free_port: int
) -> None:
    """Every original is there and proven, and what was thrown away at first was sent again."""

    def script(number: int) -> Deed:
        return Deed.DROP if number in (1, 5) else Deed.KEEP

    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump({"rules": [{"name": "all", "when": {}, "forward": "archive"}]}))
    with LyingArchive(tmp_path / "archive", script=script) as archive:
        node = _node(tmp_path, free_port, archive, node={"rules_file": str(rules)})
        node.start(kill_at=boundary, nth=nth)
        assert_all_stored(send(load, "127.0.0.1", free_port, called="DICOM_NODE"))
        node.wait_killed()
        ledger = node.ledger()
        held = {received.sop_instance_uid for received in archive.received()}
        counts = ledger.forwards.instance_counts().get("archive", {})
        assert counts.get(DeliveryState.PROVEN, 0) <= len(held)
        ledger.close()
        node.start()
        ledger = node.ledger()

        def all_proven() -> bool:
            counts = ledger.forwards.instance_counts().get("archive", {})
            return counts == {DeliveryState.PROVEN: len(load)}

        wait_until(all_proven, 60.0, "the proof of every original")
        assert ledger.forwards.counts() == {DeliveryState.PROVEN: 2}
        assert {r.sop_instance_uid: r.digest for r in archive.received()} == {
            uid: hashlib.sha256(data_set).hexdigest() for uid, data_set in map(sent_bytes, load)
        }
        assert archive.conflicts() == ()
        assert_nothing_left_over(node, ledger)
        ledger.close()
        assert node.stop() == 0


@pytest.mark.parametrize("boundary", ["prove.asking", "prove.asked"])
def test_killed_while_it_asks_an_archive_that_has_nothing(
    boundary: str, load: list[Path], tmp_path: Path, free_port: int
) -> None:
    """Nothing is proven that is not: what was thrown away at first is sent again, and is there."""

    def script(number: int) -> Deed:
        return Deed.DROP if number < RESULTS else Deed.KEEP

    with LyingArchive(tmp_path / "archive", script=script) as archive:
        node = _node(tmp_path, free_port, archive).start(kill_at=boundary)
        assert_all_stored(send(load, "127.0.0.1", free_port, called="DICOM_NODE"))
        node.wait_killed()
        ledger = node.ledger()
        held = {received.sop_instance_uid for received in archive.received()}
        proven = ledger.deliveries.in_states(DeliveryState.PROVEN)
        assert {parcel.result.sop_instance_uid for parcel in proven} <= held
        ledger.close()
        node.start()
        assert_finished(node, archive)
        assert_proven(node)


@pytest.mark.parametrize(
    ("boundary", "sent", "twice"),
    [
        ("store.saved", [], []),
        ("deliver.answered", ["SEG"], ["SEG"]),
        ("deliver.noted", ["SEG"], []),
    ],
    ids=["saved", "sent", "noted"],
)
def test_killed_between_seg_and_sr(
    boundary: str,
    sent: list[str],
    twice: list[str],
    load: list[Path],
    tmp_path: Path,
    free_port: int,
) -> None:
    """Each comes once; what nobody knows to have arrived comes again, the same bytes."""
    with Archive(tmp_path / "archive") as archive:

        def modalities(*, again: bool = False) -> list[str]:
            received = [one for one in archive.received() if one.count > 1 or not again]
            return sorted(pydicom.dcmread(one.path).Modality for one in received)

        node = _node(tmp_path, free_port, archive).start(kill_at=boundary)
        assert_all_stored(send(load[:-1], "127.0.0.1", free_port, called="DICOM_NODE"))
        node.wait_killed()
        assert modalities() == sent
        written = {file: file.read_bytes() for file in (node.data / "results").rglob("*.dcm")}
        assert len(written) == (1 if boundary == "store.saved" else 2)
        node.start()
        node.wait_done(studies=1)
        assert modalities() == ["SEG", "SR"]
        assert modalities(again=True) == twice
        assert archive.conflicts() == ()
        assert all(file.read_bytes() == before for file, before in written.items())
        assert len(list((node.data / "results").rglob("*.dcm"))) == 2
        assert node.stop() == 0


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


def _send_while_it_runs(node: NodeProcess, load: list[Path]) -> list[Answer]:
    """Send as soon as the node listens; it may die before it has let anybody in."""
    answers = [Answer(file, None) for file in load]

    def sent() -> bool:
        nonlocal answers
        try:
            answers = send(load, "127.0.0.1", node.port, called="DICOM_NODE", timeout_s=10)
        except PeerUnreachable:
            return not node.is_running()
        return True

    wait_until(sent, 30.0, "a connection")
    return answers


def _node(tmp_path: Path, port: int, archive: Archive, **sections: Any) -> NodeProcess:
    peer = {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive.port}
    scanner = {"ae_title": "SCANNER", "may_send": True}
    # a crash between a request for commitment and its answer costs one such wait
    deliver = {"retry_first_s": 0.2, "retry_longest_s": 1, "timeout_s": 5, "proof_wait_s": 3}
    peers = {"archive": peer, "scanner": scanner}
    return NodeProcess(tmp_path / "node", port, peers=peers, deliver=deliver, **sections)


def assert_all_stored(answers: list[Answer]) -> None:
    assert [answer.status for answer in answers] == [0] * len(answers)


def assert_kept(node: NodeProcess, files: list[Path]) -> None:
    """Each file has its row, and the bytes of its data set lie where the row says."""
    ledger = node.ledger()
    for file in files:
        uid, data_set = sent_bytes(file)
        wait_until(  # rows follow behind the answers
            lambda uid=uid: ledger.studies.study_of_instance(uid) is not None,  # type: ignore[misc]
            10.0,
            f"the row of {file.name}, which was acknowledged,",
        )
        study = ledger.studies.study_of_instance(uid)
        assert study is not None
        [row] = [i for i in ledger.studies.instances(study) if i.sop_instance_uid == uid]
        assert row.digest == digest_of(data_set).hex()
        stored = LocalStore(node.data).file(row.path).read_bytes()
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
        results = [result for job in done for result in ledger.results.of_job(job.job_id)]
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


def assert_proven(node: NodeProcess) -> None:
    """The archive commits to every result, or answers a C-FIND with it where no answer came."""
    ledger = node.ledger()
    parcels = ledger.deliveries.in_states(*DeliveryState)
    assert [parcel.delivery.state for parcel in parcels] == [DeliveryState.PROVEN] * RESULTS
    reasons = {parcel.delivery.reason for parcel in parcels}
    assert reasons <= {"it commits to keep it", "it answers a C-FIND with it"}
    ledger.close()


def assert_nothing_left_over(node: NodeProcess, ledger: Ledger) -> None:
    assert list((node.data / "incoming").iterdir()) == []
    assert [event.reason for event in ledger.events.named("STAGE_FAILED")] == []


def sent_bytes(file: Path) -> tuple[str, bytes]:
    """Return a Part 10 file's SOP Instance UID and its data set, by the length in its File Meta."""
    meta = pydicom.filereader.read_file_meta_info(file)
    start = 132 + 12 + meta.FileMetaInformationGroupLength
    return str(meta.MediaStorageSOPInstanceUID), file.read_bytes()[start:]
