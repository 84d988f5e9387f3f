"""The harness against itself, and against DCMTK as a witness; associations on loopback."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from pynetdicom.dsutils import split_dataset

from dicom_node.errors import PeerUnreachable
from dicom_node.harness import faults, scanner
from dicom_node.harness.archive import Archive
from dicom_node.scu.address import Address
from dicom_node.scu.find import Level, find

HOST = "127.0.0.1"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
OUT_OF_RESOURCES = 0xA700

RequireProgram = Callable[[str], Path]


@pytest.fixture
def slices(data_dir: Path) -> list[Path]:
    return sorted((data_dir / "ct-chest-lctsc-011").glob("*.dcm"))[:5]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive(tmp_path / "archive") as running:
        yield running


def statuses(answers: list[scanner.Answer]) -> list[int | None]:
    return [answer.status for answer in answers]


def data_set_of(file: Path) -> bytes:
    _, offset = split_dataset(file)
    return file.read_bytes()[offset:]


# ------------------------------------------------------------ scanner and archive


def test_the_archive_keeps_the_data_set_as_it_was_sent(
    slices: list[Path], archive: Archive
) -> None:
    answers = scanner.send(slices, HOST, archive.port, calling="CT1")
    assert answers == [(file, 0x0000) for file in slices]
    assert len(archive.received()) == len(slices)
    for file, received in zip(slices, archive.received(), strict=True):
        assert data_set_of(received.path) == data_set_of(file)
        assert received.digest == hashlib.sha256(data_set_of(file)).hexdigest()
        header = pydicom.dcmread(received.path, stop_before_pixels=True)
        assert received.path.relative_to(archive.folder) == Path(
            header.StudyInstanceUID, header.SeriesInstanceUID, f"{header.SOPInstanceUID}.dcm"
        )
        assert received.transfer_syntax_uid == header.file_meta.TransferSyntaxUID
        assert (received.calling_ae_title, received.count) == ("CT1", 1)


def test_every_transfer_syntax_is_taken_unchanged(data_dir: Path, tmp_path: Path) -> None:
    files = sorted((data_dir / "transfer-syntaxes").glob("*.dcm"))
    assert len(files) == 13
    for file in files:
        # Some share a SOP Instance UID, so each goes to an archive of its own.
        with Archive(tmp_path / file.stem) as archive:
            assert statuses(scanner.send([file], HOST, archive.port)) == [0x0000], file.name
        (received,) = archive.received()
        assert file.stem == f"CTImage_{received.transfer_syntax_uid}"
        assert data_set_of(received.path) == data_set_of(file)


def test_a_broken_file_goes_out_as_it_is(data_dir: Path, archive: Archive) -> None:
    file = data_dir / "malformed" / "emri_small_jpeg_2k_lossless_too_short.dcm"
    assert statuses(scanner.send([file], HOST, archive.port)) == [0x0000]
    assert data_set_of(archive.received()[0].path) == data_set_of(file)


def test_a_bare_data_set_arrives_whole(data_dir: Path, archive: Archive) -> None:
    file = data_dir / "xray" / "cr-chest-fuji-mono1-implicit-noheader"
    assert statuses(scanner.send([file], HOST, archive.port)) == [0x0000]
    assert data_set_of(archive.received()[0].path) == file.read_bytes()


def test_what_cannot_be_sent_has_no_status_and_stops_nothing(
    slices: list[Path], archive: Archive, tmp_path: Path
) -> None:
    nonsense = tmp_path / "nonsense"
    nonsense.write_bytes(b"no DICOM")
    assert statuses(scanner.send([slices[0], nonsense, slices[1]], HOST, archive.port)) == [
        0x0000,
        None,
        0x0000,
    ]


def test_a_repeat_is_counted_and_kept_once(slices: list[Path], archive: Archive) -> None:
    scanner.send([slices[0], slices[0]], HOST, archive.port)
    scanner.send([slices[0]], HOST, archive.port)
    assert [received.count for received in archive.received()] == [3]
    assert archive.conflicts() == ()


def test_the_same_uid_with_other_bytes_is_a_conflict_and_the_first_stays(
    slices: list[Path], archive: Archive, tmp_path: Path
) -> None:
    changed = tmp_path / "changed.dcm"
    changed.write_bytes(slices[0].read_bytes()[:-2] + b"\x01\x01")
    scanner.send([slices[0], changed], HOST, archive.port)
    (kept,) = archive.received()
    (conflict,) = archive.conflicts()
    assert kept.digest == conflict.digest_kept == hashlib.sha256(data_set_of(slices[0])).hexdigest()
    assert conflict.digest_sent == hashlib.sha256(data_set_of(changed)).hexdigest()
    assert data_set_of(kept.path) == data_set_of(slices[0])


def test_an_abort_after_two_leaves_two(slices: list[Path], archive: Archive) -> None:
    answers = scanner.send(slices, HOST, archive.port, abort_after=2)
    assert statuses(answers) == [0x0000, 0x0000, None, None, None]
    assert len(archive.received()) == 2


def test_pause_is_called_between_instances(slices: list[Path], archive: Archive) -> None:
    kept_at_pause: list[tuple[int, int]] = []
    scanner.send(
        slices[:3],
        HOST,
        archive.port,
        pause=lambda sent: kept_at_pause.append((sent, len(archive.received()))),
    )
    assert kept_at_pause == [(1, 1), (2, 2)]


def test_wait_for_returns_when_the_instances_are_there(
    slices: list[Path], archive: Archive
) -> None:
    sender = threading.Thread(target=scanner.send, args=(slices, HOST, archive.port))
    sender.start()
    assert archive.wait_for(len(slices))
    assert archive.wait_for(lambda received: any(item.count == 1 for item in received))
    sender.join()
    assert not archive.wait_for(len(slices) + 1, timeout_s=0.01)


def test_no_answer_is_lost_in_two_hundred_sends(data_dir: Path, archive: Archive) -> None:
    file = data_dir / "malformed" / "fo-dicom-GH1301.dcm"  # small, so that answers come fast
    answers = scanner.send([file] * 200, HOST, archive.port)
    assert statuses(answers) == [0x0000] * 200
    assert [received.count for received in archive.received()] == [200]


def test_echo_answers_success(archive: Archive) -> None:
    assert scanner.echo(HOST, archive.port) == 0x0000


def test_nobody_at_the_port_is_unreachable(free_port: int) -> None:
    with pytest.raises(PeerUnreachable, match="cannot be reached"):
        scanner.echo(HOST, free_port)


def test_an_archive_comes_back_on_its_port_and_no_thread_is_left(
    slices: list[Path], tmp_path: Path
) -> None:
    before = set(threading.enumerate())
    with Archive(tmp_path / "first") as first:
        scanner.send(slices[:1], HOST, first.port)
    with Archive(tmp_path / "second", port=first.port) as second:
        assert second.port == first.port
        assert statuses(scanner.send(slices[:1], HOST, second.port)) == [0x0000]
    assert set(threading.enumerate()) <= before


@contextmanager
def as_a_program(module: str, folder: Path) -> Iterator[int]:
    """Run an archive by its module; yield its port."""
    command = [sys.executable, "-m", f"dicom_node.harness.{module}", "--folder", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        announced = process.stdout.readline()
        assert announced.startswith("listening on ")
        yield int(announced.split()[-1])
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def test_the_archive_runs_as_a_program(slices: list[Path], tmp_path: Path) -> None:
    with as_a_program("archive", tmp_path) as port:
        answers = scanner.send(slices, HOST, port, called="ARCHIVE")
    assert statuses(answers) == [0x0000] * len(slices)
    assert len(list(tmp_path.rglob("*.dcm"))) == len(slices)


def test_the_archive_that_is_asked_runs_as_a_program(slices: list[Path], tmp_path: Path) -> None:
    with as_a_program("query_archive", tmp_path) as port:
        scanner.send(slices[:1], HOST, port, called="ARCHIVE")
        address = Address(HOST, port, called_ae_title="ARCHIVE", calling_ae_title="PACS")
        found = find(address, Level.STUDY, {"StudyInstanceUID": ""})
    uid = str(pydicom.dcmread(slices[0]).StudyInstanceUID)
    assert [one["StudyInstanceUID"] for one in found.matches] == [(uid,)]


# ------------------------------------------------------------ archives that misbehave


@pytest.mark.parametrize("reason", [(1, 1, 3), (2, 3, 2)])
def test_a_rejecting_archive_rejects(reason: tuple[int, int, int], tmp_path: Path) -> None:
    result, source, diagnostic = reason
    with (
        faults.RejectingArchive(
            tmp_path, result=result, source=source, diagnostic=diagnostic
        ) as archive,
        pytest.raises(PeerUnreachable, match="rejected"),
    ):
        scanner.echo(HOST, archive.port)


def test_a_failing_archive_fails_every_second_instance(slices: list[Path], tmp_path: Path) -> None:
    with faults.FailingArchive(tmp_path, every=2) as archive:
        answers = scanner.send(slices, HOST, archive.port)
    assert statuses(answers) == [0, OUT_OF_RESOURCES, 0, OUT_OF_RESOURCES, 0]
    assert len(archive.received()) == 3


def test_a_failing_archive_recovers_after_some_times(slices: list[Path], tmp_path: Path) -> None:
    with faults.FailingArchive(tmp_path, status=0xC000, times=2) as archive:
        answers = scanner.send(slices, HOST, archive.port)
    assert statuses(answers) == [0xC000, 0xC000, 0, 0, 0]


@pytest.mark.parametrize("kind", [faults.AbortingArchive, faults.ClosingArchive])
def test_a_breaking_archive_takes_two_and_then_breaks_each_time(
    kind: Callable[..., Archive], slices: list[Path], tmp_path: Path
) -> None:
    with kind(tmp_path, after=2) as archive:
        first = scanner.send(slices, HOST, archive.port)
        again = scanner.send(slices[2:], HOST, archive.port)
    assert statuses(first) == [0, 0, None, None, None]
    assert statuses(again) == [0, 0, None]
    assert len(archive.received()) == 4


@pytest.mark.parametrize("kind", [faults.AbortingArchive, faults.ClosingArchive])
def test_a_breaking_archive_can_keep_what_it_does_not_answer(
    kind: Callable[..., Archive], slices: list[Path], tmp_path: Path
) -> None:
    with kind(tmp_path, after=1, keeps_last=True, times=1) as archive:
        first = scanner.send(slices[:2], HOST, archive.port)
        again = scanner.send(slices[1:2], HOST, archive.port)
    assert statuses(first) == [0, None]
    assert statuses(again) == [0]
    assert [received.count for received in archive.received()] == [1, 2]


def test_a_slow_archive_answers_when_it_is_released(slices: list[Path], tmp_path: Path) -> None:
    answers: list[scanner.Answer] = []
    with faults.SlowArchive(tmp_path) as archive:
        sender = threading.Thread(
            target=lambda: answers.extend(scanner.send(slices, HOST, archive.port))
        )
        sender.start()
        assert archive.arrived.wait(30)
        assert archive.received() == ()
        archive.release()
        sender.join()
    assert statuses(answers) == [0] * len(slices)


def test_a_silent_archive_makes_the_sender_give_up(slices: list[Path], tmp_path: Path) -> None:
    with faults.SilentArchive(tmp_path) as archive:
        answers = scanner.send(slices, HOST, archive.port, timeout_s=0.5)
        assert archive.arrived.is_set()
    assert statuses(answers) == [None] * len(slices)
    assert archive.received() == ()


def test_a_deaf_archive_never_answers_the_request(tmp_path: Path) -> None:
    with faults.DeafArchive(tmp_path) as archive, pytest.raises(PeerUnreachable):
        scanner.echo(HOST, archive.port, timeout_s=0.5)


def test_a_narrow_archive_refuses_one_sop_class(
    slices: list[Path], data_dir: Path, tmp_path: Path
) -> None:
    files = [slices[0], data_dir / "xray" / "dx-nih-00000001_000.dcm"]
    with faults.NarrowArchive(tmp_path, refused_sop_class_uids=[CT_IMAGE_STORAGE]) as archive:
        assert statuses(scanner.send(files, HOST, archive.port)) == [None, 0x0000]


# ------------------------------------------------------------ DCMTK


def run_dcmtk(*command: object) -> subprocess.CompletedProcess[str]:
    # Debian's DCMTK leaves Nagle's algorithm on unless it is told not to.
    return subprocess.run(
        [str(part) for part in command],
        env=os.environ | {"TCP_NODELAY": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.witness
def test_dcmtk_echoes(archive: Archive, require_program: RequireProgram) -> None:
    result = run_dcmtk(require_program("echoscu"), HOST, archive.port)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.witness
def test_dcmtk_sends_and_the_archive_keeps_its_bytes(
    data_dir: Path, archive: Archive, require_program: RequireProgram
) -> None:
    file = data_dir / "transfer-syntaxes" / "CTImage_1.2.840.10008.1.2.dcm"
    result = run_dcmtk(require_program("storescu"), "-xi", HOST, archive.port, file)
    assert result.returncode == 0, result.stderr
    (received,) = archive.received()
    assert received.transfer_syntax_uid == "1.2.840.10008.1.2"
    assert pydicom.dcmread(received.path) == pydicom.dcmread(file)


@pytest.mark.witness
def test_dcmtk_hears_the_status_of_a_failing_archive(
    data_dir: Path, tmp_path: Path, require_program: RequireProgram
) -> None:
    file = data_dir / "transfer-syntaxes" / "CTImage_1.2.840.10008.1.2.dcm"
    with faults.FailingArchive(tmp_path) as archive:
        result = run_dcmtk(require_program("storescu"), "-v", "-xi", HOST, archive.port, file)
    assert "Refused: OutOfResources" in result.stdout + result.stderr


@pytest.mark.witness
def test_dcmtk_hears_a_rejection(tmp_path: Path, require_program: RequireProgram) -> None:
    with faults.RejectingArchive(tmp_path) as archive:
        result = run_dcmtk(require_program("echoscu"), HOST, archive.port)
    assert result.returncode != 0
    assert "Calling AE Title Not Recognized" in result.stdout + result.stderr


@pytest.mark.witness
def test_dcmtk_receives_what_the_scanner_sends(
    slices: list[Path], tmp_path: Path, free_port: int, require_program: RequireProgram
) -> None:
    command = [
        str(require_program("storescp")),
        *("+xa", "+B", "-od", str(tmp_path), str(free_port)),  # any syntax, bytes as they come
    ]
    with subprocess.Popen(command, env=os.environ | {"TCP_NODELAY": "1"}) as process:
        try:
            wait_until_it_listens(process, free_port)
            assert scanner.echo(HOST, free_port) == 0x0000
            assert statuses(scanner.send(slices, HOST, free_port)) == [0x0000] * len(slices)
        finally:
            process.terminate()
    by_uid = {pydicom.dcmread(file).SOPInstanceUID: file for file in tmp_path.iterdir()}
    for file in slices:
        arrived = by_uid[pydicom.dcmread(file).SOPInstanceUID]
        assert data_set_of(arrived) == data_set_of(file)


def wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(1000):
        try:
            socket.create_connection((HOST, port)).close()
            return
        except ConnectionRefusedError:
            pass
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail("storescp ended before it listened")
    pytest.fail("storescp does not listen")
