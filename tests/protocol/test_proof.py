"""Proof over sockets: commitment on both associations, C-FIND, C-GET, and peers that offer none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE

from dicom_node.config.settings import Config, DeliverSettings, Peer
from dicom_node.deliver.archive import Archive as Port
from dicom_node.deliver.deliverer import Deliverer
from dicom_node.deliver.dicom_archive import DicomArchive, dicom_archives
from dicom_node.deliver.outlets import Outlets
from dicom_node.deliver.prover import Prover
from dicom_node.errors import PeerRefused, PeerUnreachable, StorageError
from dicom_node.harness.archive import Archive
from dicom_node.harness.faults import RejectingArchive
from dicom_node.harness.lying_archive import Deed, LyingArchive, Reports
from dicom_node.harness.query_faults import RefusingQueryArchive
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryState
from dicom_node.model import Result
from dicom_node.receive.contexts import STORAGE_SOP_CLASSES
from dicom_node.receive.service import Service
from dicom_node.receive.services import standard_services
from dicom_node.scu.address import Address
from dicom_node.store.local import LocalStore
from dicom_node.uid import random_uid
from tests.door import Door
from tests.factories import make_instance, write
from tests.node_process import wait_until
from tests.unit.deliver.forwarding import own_files
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock

ONE_CLASS = STORAGE_SOP_CLASSES - {rows.CT_IMAGE_STORAGE}
"""pynetdicom takes a fifth of a second for an association where all are offered."""


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "data")


@pytest.fixture
def results(store: LocalStore) -> list[Result]:
    """Return three results that lie in the store."""
    made = []
    for number in (1, 2, 3):
        dataset = make_instance(number=number)
        path = f"results/{number}.dcm"
        write(dataset, store.path(path))
        made.append(
            rows.a_result(
                number,
                sop_instance_uid=str(dataset.SOPInstanceUID),
                sop_class_uid=str(dataset.SOPClassUID),
                study_instance_uid=str(dataset.StudyInstanceUID),
                series_instance_uid=str(dataset.SeriesInstanceUID),
                transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
                path=path,
            )
        )
    return made


Speak = Callable[[Archive], DicomArchive]


@pytest.fixture
def speak(store: LocalStore) -> Speak:
    """Return a function: how the deliver stage talks to an archive."""

    def speak(archive: Archive, stay_s: float = 5.0) -> DicomArchive:
        address = Address("127.0.0.1", archive.port, "ARCHIVE", "DICOM_NODE", 5.0)
        return DicomArchive(address, store, stay_s)

    return speak


def store_all(port: Port, results: list[Result]) -> None:
    assert list(port.store(results)) == ["stored"] * len(results)


# ---------------------------------------------------------------- the port on DIMSE


def test_what_an_archive_dropped_it_does_not_commit_to(
    speak: Speak, results: list[Result], tmp_path: Path
) -> None:
    def script(number: int) -> Deed:
        return Deed.DROP if number == 1 else Deed.KEEP

    with LyingArchive(tmp_path / "a", script=script, refused_sop_class_uids=ONE_CLASS) as archive:
        port = speak(archive)
        store_all(port, results)
        taken: list[Mapping[str, int]] = []
        port.commit("2.25.1", results, taken.append)
        one, two, three = (result.sop_instance_uid for result in results)
        assert taken == [{one: 0, two: 0x0112, three: 0}]
        assert port.find(results) == {one, three}
    assert archive.acknowledged == [0]


def test_a_result_that_we_cannot_keep_is_refused_so_that_it_comes_again(
    speak: Speak, results: list[Result], tmp_path: Path
) -> None:
    def fail(answers: Mapping[str, int]) -> None:
        raise StorageError("the ledger failed")

    with LyingArchive(tmp_path / "a", refused_sop_class_uids=ONE_CLASS) as archive:
        speak(archive).commit("2.25.1", results, fail)
    assert archive.acknowledged == [0x0213]


def test_an_archive_that_offers_nothing_of_it_says_so(
    speak: Speak, results: list[Result], tmp_path: Path
) -> None:
    with Archive(tmp_path / "a", refused_sop_class_uids=ONE_CLASS) as archive:
        port = speak(archive)
        asking: list[Callable[[], object]] = [
            lambda: port.commit("2.25.1", results, lambda answers: None),
            lambda: port.find(results),
            lambda: port.fetch(results[0]),
        ]
        for ask in asking:
            with pytest.raises(PeerRefused) as refused:
                ask()
            assert not refused.value.retryable


def test_an_archive_that_accepts_no_c_echo_is_there_all_the_same(
    speak: Speak, tmp_path: Path
) -> None:
    class Mute(Archive):
        def offer(self, ae: AE) -> None:
            ae.add_supported_context(rows.CT_IMAGE_STORAGE)

    with Mute(tmp_path / "a") as mute:
        speak(mute).echo()
    with Archive(tmp_path / "a", refused_sop_class_uids=STORAGE_SOP_CLASSES) as without_storage:
        speak(without_storage).echo()
    with RejectingArchive(tmp_path / "a") as rejecting, pytest.raises(PeerUnreachable):
        speak(rejecting).echo()


def test_an_archive_that_is_down_cannot_be_reached(
    store: LocalStore, results: list[Result], free_port: int
) -> None:
    port = DicomArchive(Address("127.0.0.1", free_port, "ARCHIVE", "DICOM_NODE", 2.0), store)
    asking: list[Callable[[], object]] = [
        port.echo,
        lambda: port.commit("2.25.1", results, lambda answers: None),
        lambda: port.find(results),
    ]
    for ask in asking:
        with pytest.raises(PeerUnreachable):
            ask()


def test_an_archive_that_is_not_ready_is_asked_again(
    speak: Speak, results: list[Result], tmp_path: Path
) -> None:
    with RefusingQueryArchive(tmp_path / "a", status=0xA700) as archive:
        with pytest.raises(PeerRefused) as refused:
            speak(archive).find(results)
        assert refused.value.retryable


def test_what_comes_back_is_compared_by_what_must_not_change(
    speak: Speak, store: LocalStore, results: list[Result], tmp_path: Path
) -> None:
    with LyingArchive(tmp_path / "a", refused_sop_class_uids=ONE_CLASS) as archive:
        port = speak(archive)
        store_all(port, results)
        one, two, three = results
        kept = {received.sop_instance_uid: received.path for received in archive.received()}
        is_same = own_files(store).is_same

        def comes_back_same(result: Result) -> bool | None:
            returned = port.fetch(result)
            assert returned is not None
            return is_same(result, returned)

        assert [comes_back_same(result) for result in results] == [True] * 3
        # the archive corrects whom the study is about: its right
        corrected = pydicom.dcmread(kept[one.sop_instance_uid])
        corrected.PatientID, corrected.InstitutionName = "OTHER", "A hospital"
        corrected.save_as(kept[one.sop_instance_uid])
        assert comes_back_same(one)
        # and one pixel: not its right
        damaged = pydicom.dcmread(kept[two.sop_instance_uid])
        damaged.PixelData = bytes([damaged.PixelData[0] ^ 1]) + damaged.PixelData[1:]
        damaged.save_as(kept[two.sop_instance_uid])
        assert comes_back_same(two) is False
        moved = pydicom.dcmread(kept[three.sop_instance_uid])
        moved.StudyInstanceUID = "1.2.3.999"
        moved.save_as(kept[three.sop_instance_uid])
        assert comes_back_same(three) is False


def test_an_instance_of_another_sop_class_is_not_the_result(
    speak: Speak, results: list[Result], tmp_path: Path
) -> None:
    with LyingArchive(tmp_path / "a", refused_sop_class_uids=ONE_CLASS) as archive:
        port = speak(archive)
        store_all(port, results)
        other = replace(results[0], sop_class_uid=rows.SEGMENTATION_STORAGE)
        assert port.find([other, results[1]]) == {results[1].sop_instance_uid}


# ---------------------------------------------------------------- the whole way


@pytest.fixture
def ledger(tmp_path: Path, results: list[Result]) -> Iterator[Ledger]:
    ledger = rows.new_ledger(tmp_path)
    rows.finished(ledger, *results, now=400.0)
    yield ledger
    ledger.close()


def states(ledger: Ledger) -> list[DeliveryState]:
    return [parcel.delivery.state for parcel in ledger.deliveries.of_job("job-1")]


@pytest.mark.parametrize("reports", [Reports.AT_ONCE, Reports.NOT_OFFERED])
def test_what_was_dropped_is_sent_again_and_proven(
    reports: Reports, ledger: Ledger, store: LocalStore, tmp_path: Path
) -> None:
    def script(number: int) -> Deed:
        return Deed.DROP if number == 1 else Deed.KEEP

    with LyingArchive(
        tmp_path / "a", script=script, reports=reports, refused_sop_class_uids=ONE_CLASS
    ) as archive:
        config = Config(
            deliver=DeliverSettings(timeout_s=5, proof_wait_s=60),
            peers={"archive": Peer(ae_title="ARCHIVE", host="127.0.0.1", port=archive.port)},
        )
        clock = HandClock(1000.0)
        archives = dicom_archives(config, store)
        outlets = Outlets(config, ledger, archives, clock)
        deliverer = Deliverer(config, ledger, archives, outlets, clock)
        is_same = own_files(store).is_same
        prover = Prover(config, ledger, archives, outlets, is_same, clock, random_uid)
        for _ in range(4):
            deliverer.turn("archive")
            prover.turn("archive")
            clock.now += 100
        assert states(ledger) == [DeliveryState.PROVEN] * 3
        assert len(archive.received()) == 3
        assert archive.conflicts() == ()


@pytest.mark.parametrize("may_send", [True, False])
def test_a_result_on_an_association_of_the_archive_counts_if_that_may_come_in(
    may_send: bool, results: list[Result], store: LocalStore, tmp_path: Path
) -> None:
    archive = LyingArchive(
        tmp_path / "a", reports=Reports.ON_ITS_OWN, refused_sop_class_uids=ONE_CLASS
    )
    with archive:
        peer = Peer(
            ae_title="ARCHIVE",
            host="127.0.0.1",
            port=archive.port,
            may_send=may_send,
            proof="commitment",
        )
        with Door(tmp_path, peers={"archive": peer}, services=_services) as door:
            archive.report_to = ("127.0.0.1", door.port)
            rows.open_association(door.ledger)
            rows.finished(door.ledger, *results, now=400.0)
            clock = HandClock(1000.0)
            archives = dicom_archives(door.config, store, stay_s=0.05)
            outlets = Outlets(door.config, door.ledger, archives, clock)
            parts = (door.config, door.ledger, archives, outlets)
            Deliverer(*parts, clock).turn("archive")
            prover = Prover(*parts, own_files(store).is_same, clock, random_uid)
            prover.turn("archive")
            wait_until(lambda: bool(archive.acknowledged), 30, "the report")
            clock.now += 1
            prover.turn("archive")
            if may_send:
                assert archive.acknowledged == [0]
                assert states(door.ledger) == [DeliveryState.PROVEN] * 3
            else:
                assert archive.acknowledged == [None]
                assert states(door.ledger) == [DeliveryState.SENT] * 3


def _services(ledger: Ledger, config: Config) -> Mapping[str, Service]:
    return standard_services(
        ledger,
        config,
        lambda: True,
        lambda instance: pydicom.Dataset(),
        lambda instance: True,
        lambda: 1000.0,
    )
