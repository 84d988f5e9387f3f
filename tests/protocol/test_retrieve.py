"""C-GET and C-MOVE as SCU against the harness's archives: what comes is what was stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
import xxhash
from pydicom.uid import ExplicitVRBigEndian
from pynetdicom import AllStoragePresentationContexts

from dicom_node.errors import InstanceRefused, PeerRefused, PeerUnreachable, StoreFull
from dicom_node.harness import faults, query_faults, scanner
from dicom_node.harness.archive import Archive
from dicom_node.harness.query_archive import QueryArchive
from dicom_node.scu.address import Address
from dicom_node.scu.contents import Contents, contents_of
from dicom_node.scu.counting import count_at_sender
from dicom_node.scu.part10 import Part10File
from dicom_node.scu.retrieve import ReceivedInstance, RetrieveOutcome, get, move
from tests.factories import (
    CT_SERIES,
    MR_SERIES,
    STUDY,
    make_ct_series,
    make_instance,
    make_mr_series,
    write_series,
)
from tests.node_process import NodeProcess

HOST = "127.0.0.1"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
PENDING = 0xFF00
CANCELLED = 0xFE00
SUB_OPERATIONS_FAILED = 0xB000

MakeArchive = Callable[..., QueryArchive]
DataSets = dict[tuple[str, str, str], bytes]
"""By SOP Class, SOP Instance and Transfer Syntax UID."""


class Taker:
    """Takes what comes and answers Success, or what it is told."""

    def __init__(self, answers: dict[int, int | Exception] | None = None) -> None:
        self.taken: list[ReceivedInstance] = []
        self._answers = answers or {}

    def __call__(self, instance: ReceivedInstance) -> int:
        self.taken.append(instance)
        answer = self._answers.get(len(self.taken), 0x0000)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def data_sets(self) -> DataSets:
        return {
            (one.sop_class_uid, one.sop_instance_uid, one.transfer_syntax_uid): one.data_set
            for one in self.taken
        }


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A study of two series, with five and three instances."""
    return [
        *write_series(make_ct_series(5), tmp_path / "ct"),
        *write_series(make_mr_series(3), tmp_path / "mr"),
    ]


@pytest.fixture
def destination(tmp_path: Path) -> Iterator[Archive]:
    with Archive(tmp_path / "destination") as running:
        yield running


@pytest.fixture
def archives(tmp_path: Path, files: list[Path], destination: Archive) -> Iterator[MakeArchive]:
    """Return a function that starts an archive of a class, with files in it."""
    started: list[QueryArchive] = []

    def start(
        kind: type[QueryArchive] = QueryArchive, holding: list[Path] = files, **options: Any
    ) -> QueryArchive:
        destinations = {"DICOM_NODE": (HOST, destination.port)}
        archive = kind(tmp_path / f"a{len(started)}", destinations=destinations, **options)
        started.append(archive)
        archive.start()
        assert all(answer.status == 0 for answer in scanner.send(holding, HOST, archive.port))
        return archive

    yield start
    for archive in started:
        archive.stop()


def address(archive: Archive, timeout_s: float = 10.0) -> Address:
    return Address(HOST, archive.port, "ARCHIVE", "DICOM_NODE", timeout_s)


def data_sets_of(files: list[Path]) -> DataSets:
    opened = [Part10File.read(file) for file in files]
    return {
        (one.context[0], one.sop_instance_uid, one.context[1]): one.data_set()
        for one in opened
        if one.context is not None
    }


def study_of(file: Path) -> str:
    return str(pydicom.dcmread(file, stop_before_pixels=True).StudyInstanceUID)


# ---------------------------------------------------------------- what comes is what was stored


def test_a_real_study_is_the_same_after_c_get_and_after_c_move(
    archives: MakeArchive, destination: Archive, data_dir: Path
) -> None:
    real = sorted((data_dir / "ct-chest-lctsc-011").glob("*.dcm"))
    archive = archives(holding=real)
    take = Taker()
    outcome = get(address(archive), study_of(real[0]), take)
    assert outcome.is_whole
    assert (outcome.completed, outcome.taken, outcome.status) == (49, 49, 0x0000)
    assert take.data_sets == data_sets_of(real)

    outcome = move(address(archive), study_of(real[0]), "DICOM_NODE")
    assert outcome.is_whole
    assert (outcome.completed, outcome.taken) == (49, None)
    assert data_sets_of([one.path for one in destination.received()]) == data_sets_of(real)


def test_every_transfer_syntax_passes_untouched(archives: MakeArchive, data_dir: Path) -> None:
    samples = sorted((data_dir / "transfer-syntaxes").glob("*.dcm"))
    assert len(samples) == 13
    for holding in without_repeats(samples):
        archive, take = archives(holding=holding), Taker()
        for study_instance_uid in sorted({study_of(sample) for sample in holding}):
            assert get(address(archive), study_instance_uid, take).is_whole
        assert take.data_sets == data_sets_of(holding)


def without_repeats(files: list[Path]) -> list[list[Path]]:
    """Return the files in heaps; none has a SOP Instance UID twice."""
    heaps: list[dict[str, Path]] = []
    for file in files:
        uid = Part10File.read(file).sop_instance_uid
        heap = next((heap for heap in heaps if uid not in heap), None)
        if heap is None:
            heaps.append(heap := {})
        heap[uid] = file
    return [list(heap.values()) for heap in heaps]


def test_big_endian_passes_untouched(archives: MakeArchive, tmp_path: Path) -> None:
    swapped = make_instance()
    swapped.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    file = tmp_path / "big-endian.dcm"
    pydicom.dcmwrite(file, swapped, implicit_vr=False, little_endian=False)
    take = Taker()
    assert get(address(archives(holding=[file])), STUDY, take).is_whole
    assert [one.transfer_syntax_uid for one in take.taken] == [str(ExplicitVRBigEndian)]
    assert take.data_sets == data_sets_of([file])


def test_one_series_comes_alone(
    archives: MakeArchive, destination: Archive, files: list[Path]
) -> None:
    archive, take = archives(), Taker()
    assert get(address(archive), STUDY, take, series_instance_uid=CT_SERIES).completed == 5
    assert take.data_sets == data_sets_of(files[:5])
    outcome = move(address(archive), STUDY, "DICOM_NODE", series_instance_uid=MR_SERIES)
    assert outcome.completed == 3
    assert data_sets_of([one.path for one in destination.received()]) == data_sets_of(files[5:])


def test_a_study_of_more_sop_classes_than_fit_compressed_comes_whole(
    archives: MakeArchive, tmp_path: Path
) -> None:
    sop_classes = [str(one.abstract_syntax) for one in AllStoragePresentationContexts[:40]]
    many = [make_instance(number=number, SOPClassUID=uid) for number, uid in enumerate(sop_classes)]
    archive, take = archives(holding=write_series(many, tmp_path / "many")), Taker()
    assert set(contents_of(address(archive), STUDY).sop_class_uids) == set(sop_classes)
    assert get(address(archive), STUDY, take).is_whole
    assert {one.sop_class_uid for one in take.taken} == set(sop_classes)


def test_the_sop_classes_of_one_series_are_asked_for_instance_by_instance(
    archives: MakeArchive,
) -> None:
    contents = contents_of(address(archives()), STUDY, CT_SERIES)
    assert contents == Contents((CT_IMAGE_STORAGE,), ("1.2.840.10008.1.2.1",))


def test_pending_responses_tell_how_far_it_is(archives: MakeArchive) -> None:
    told: list[RetrieveOutcome] = []
    get(address(archives()), STUDY, Taker(), progress=told.append)
    assert [(one.completed, one.remaining, one.taken) for one in told] == [
        (done, 8 - done, done) for done in range(1, 8)
    ]
    assert {one.status for one in told} == {PENDING}


def test_a_study_that_the_archive_does_not_have_is_none(archives: MakeArchive) -> None:
    take = Taker()
    assert get(address(archives()), "1.2.3", take) == RetrieveOutcome(status=0, taken=0)
    assert take.taken == []


def test_what_is_moved_to_our_node_comes_in_like_anything_else(
    archives: MakeArchive, files: list[Path], tmp_path: Path, free_port: int
) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules: []\n")
    node = NodeProcess(
        tmp_path / "node",
        free_port,
        node={"rules_file": str(rules)},
        peers={"archive": {"ae_title": "ARCHIVE", "may_send": True}},
    ).start()
    archive = archives()
    archive.destinations["DICOM_NODE"] = (HOST, free_port)
    assert move(address(archive), STUDY, "DICOM_NODE").completed == len(files)
    # and the node tells so itself, asked as any sender is
    own = Address(HOST, free_port, "DICOM_NODE", "ARCHIVE")
    count = count_at_sender(own, STUDY)
    assert (count.series_count, count.instance_count, count.is_consistent) == (2, 8, True)
    ledger = node.ledger()
    held = {
        one.sop_instance_uid: one.digest
        for series in (CT_SERIES, MR_SERIES)
        for one in ledger.studies.instances(STUDY, series)
    }
    ledger.close()
    assert held == {
        uid: xxhash.xxh3_128_hexdigest(data_set)
        for (_, uid, _), data_set in data_sets_of(files).items()
    }
    assert node.stop() == 0


# ---------------------------------------------------------------- what fails, and what cancels


def test_a_sub_operation_that_fails_there_stops_nothing(
    archives: MakeArchive, destination: Archive, files: list[Path]
) -> None:
    archive = archives(query_faults.PartialQueryArchive, every=3)
    failed = tuple(uid for _, uid, _ in data_sets_of([files[2], files[5]]))
    take = Taker()
    for outcome in (
        get(address(archive), STUDY, take),
        move(address(archive), STUDY, "DICOM_NODE"),
    ):
        assert (outcome.completed, outcome.failed, outcome.remaining) == (6, 2, 0)
        assert outcome.status == SUB_OPERATIONS_FAILED
        assert outcome.failed_sop_instance_uids == failed
        assert not outcome.is_whole
    assert len(take.taken) == len(destination.received()) == 6


def test_an_instance_that_we_refuse_stops_nothing(archives: MakeArchive) -> None:
    take = Taker(
        {
            2: InstanceRefused("no", status=0xA900),
            4: StoreFull("full"),
            5: 0xC000,
            6: 0xB000,  # a warning: it is kept
        }
    )
    outcome = get(address(archives()), STUDY, take)
    assert (outcome.completed, outcome.failed, outcome.warnings) == (4, 3, 1)
    assert (outcome.taken, outcome.status) == (5, SUB_OPERATIONS_FAILED)
    assert len(outcome.failed_sop_instance_uids) == 3


def test_an_error_of_our_own_aborts_the_association(archives: MakeArchive) -> None:
    with pytest.raises(ZeroDivisionError):
        get(address(archives()), STUDY, Taker({3: ZeroDivisionError()}))


def test_a_destination_that_takes_nothing_is_a_refusal(
    archives: MakeArchive, tmp_path: Path
) -> None:
    with faults.FailingArchive(tmp_path / "failing") as failing:
        archive = archives()
        archive.destinations["DICOM_NODE"] = (HOST, failing.port)
        with pytest.raises(PeerRefused, match="0xA702 to a C-MOVE") as refused:
            move(address(archive), STUDY, "DICOM_NODE")
    assert refused.value.retryable


def test_an_unknown_destination_says_what_is_to_be_done(archives: MakeArchive) -> None:
    with pytest.raises(PeerRefused, match="0xA801 to a C-MOVE") as refused:
        move(address(archives()), STUDY, "NOWHERE")
    assert not refused.value.retryable
    assert "AE title of the destination" in refused.value.hint


def test_a_cancelled_c_get_says_what_is_left(archives: MakeArchive) -> None:
    archive = archives(query_faults.SlowQueryArchive, after=3)
    assert isinstance(archive, query_faults.SlowQueryArchive)
    assert sum_of(cancelled_after_three(archive, Taker())) == 8


def test_a_cancelled_c_move_says_what_is_left(archives: MakeArchive) -> None:
    archive = archives(query_faults.SlowQueryArchive, after=3)
    assert isinstance(archive, query_faults.SlowQueryArchive)
    assert sum_of(cancelled_after_three(archive, None)) == 8


def cancelled_after_three(
    archive: query_faults.SlowQueryArchive, take: Taker | None
) -> RetrieveOutcome:
    cancelled = archive.asked.is_set
    if take is None:
        outcome = move(address(archive), STUDY, "DICOM_NODE", cancelled=cancelled)
    else:
        contents = Contents((CT_IMAGE_STORAGE,))
        outcome = get(address(archive), STUDY, take, contents=contents, cancelled=cancelled)
    assert outcome.status == CANCELLED
    assert (outcome.completed, outcome.failed) == (3, 0)
    return outcome


def sum_of(outcome: RetrieveOutcome) -> int:
    return outcome.completed + outcome.failed + outcome.warnings + outcome.remaining


def test_a_peer_that_counts_more_than_came_is_not_believed(archives: MakeArchive) -> None:
    outcome = get(address(archives(query_faults.MiscountingQueryArchive, more=2)), STUDY, Taker())
    assert (outcome.completed, outcome.taken, outcome.status) == (10, 8, 0x0000)
    assert not outcome.is_whole


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize(
    "kind", [query_faults.SilentQueryArchive, query_faults.AbortingQueryArchive]
)
def test_what_came_before_a_peer_was_lost_was_taken(
    archives: MakeArchive, kind: type[QueryArchive], after: int
) -> None:
    archive, take = archives(kind, after=after), Taker()
    with pytest.raises(PeerUnreachable):
        get(address(archive, 1), STUDY, take, contents=Contents((CT_IMAGE_STORAGE,)))
    assert len(take.taken) == after
    with pytest.raises(PeerUnreachable):
        move(address(archive, 1), STUDY, "DICOM_NODE")


@pytest.mark.parametrize(
    ("status", "retryable"), [(0xA701, True), (0xA702, True), (0xA900, False), (0xC000, False)]
)
def test_a_failure_is_an_error_with_its_status(
    archives: MakeArchive, status: int, retryable: bool
) -> None:
    archive = archives(query_faults.RefusingQueryArchive, status=status)
    with pytest.raises(PeerRefused) as of_get:
        get(address(archive), STUDY, Taker(), contents=Contents((CT_IMAGE_STORAGE,)))
    with pytest.raises(PeerRefused) as of_move:
        move(address(archive), STUDY, "DICOM_NODE")
    for refused in (of_get.value, of_move.value):
        assert (refused.status, refused.retryable) == (status, retryable)


def test_a_peer_without_the_service_refuses_it(destination: Archive) -> None:
    with pytest.raises(PeerRefused, match="accepts no Study Root Query/Retrieve"):
        get(address(destination), STUDY, Taker(), contents=Contents((CT_IMAGE_STORAGE,)))
    with pytest.raises(PeerRefused, match="accepts no Study Root Query/Retrieve"):
        move(address(destination), STUDY, "DICOM_NODE")
