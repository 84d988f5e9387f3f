"""Forwarding to archives that misbehave: every original arrives, byte for byte, marked once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import JPEGLSLossless
from pynetdicom import AE
from structlog.testing import capture_logs

from dicom_node.coerce.profile import Profile
from dicom_node.harness.archive import Archive
from dicom_node.harness.faults import (
    AbortingArchive,
    ClosingArchive,
    FailingArchive,
    NarrowArchive,
    RejectingArchive,
    SilentArchive,
)
from dicom_node.harness.lying_archive import LyingArchive, Reports
from dicom_node.lifecycle import DeliveryState
from dicom_node.model import Priority
from dicom_node.receive.contexts import STORAGE_SOP_CLASSES
from tests.factories import make_instance, make_mr_series
from tests.unit.deliver.forwarding import Forwarding
from tests.unit.ledger.rows import SERIES, STUDY

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"

ForwardingTo = Callable[..., Forwarding]


@pytest.fixture
def forwarding_to(tmp_path: Path) -> Iterator[ForwardingTo]:
    """Return a function that makes a forwarder for the archive at a port."""
    made: list[Forwarding] = []

    def make(port: int, **how: Any) -> Forwarding:
        made.append(Forwarding(tmp_path, port, {"nothing": Profile("nothing")}, **how))
        return made[-1]

    with capture_logs():
        yield make
    for forwarding in made:
        forwarding.ledger.close()


def assert_arrived(archive: Archive, forwarding: Forwarding) -> None:
    assert {r.sop_instance_uid: r.digest for r in archive.received()} == forwarding.digests()
    assert archive.conflicts() == ()


def test_a_good_archive_gets_every_instance_once_byte_for_byte(
    forwarding_to: ForwardingTo, tmp_path: Path
) -> None:
    with Archive(tmp_path / "archive") as archive:
        forwarding = forwarding_to(archive.port)
        forwarding.add_some(150)  # more than go in one batch
        forwarding.choose()
        forwarding.run()
        assert (forwarding.state(), forwarding.progress) == (DeliveryState.SENT, (150, 0, 150))
        assert forwarding.task.reason == "150 of 150 instances sent"
        assert_arrived(archive, forwarding)
        assert {r.count for r in archive.received()} == {1}
        assert not forwarding.turn()


def test_a_more_urgent_forward_comes_between_two_batches(
    forwarding_to: ForwardingTo, tmp_path: Path
) -> None:
    with Archive(tmp_path / "archive") as archive:
        forwarding = forwarding_to(archive.port)
        forwarding.add_some(70)
        forwarding.choose(priority=Priority.LOW)
        forwarding.turn()
        assert len(archive.received()) == 64
        forwarding.choose(forwarding.instances[:1], Priority.STAT, "nothing")
        forwarding.turn()
        urgent, routine = forwarding.ledger.forwards.of_study(STUDY)
        assert (urgent.state, routine.state) == (DeliveryState.SENT, DeliveryState.PENDING)
        forwarding.run()
        assert_arrived(archive, forwarding)


def test_an_archive_that_is_down_gets_everything_when_it_is_up(
    forwarding_to: ForwardingTo, tmp_path: Path, free_port: int
) -> None:
    forwarding = forwarding_to(free_port)
    forwarding.add_some(3)
    forwarding.choose()
    forwarding.run()
    assert forwarding.state() is DeliveryState.PENDING
    assert "cannot be reached" in forwarding.task.reason
    forwarding.run()  # not due yet
    assert forwarding.task.attempt == 1
    with Archive(tmp_path / "archive", port=free_port) as archive:
        forwarding.wait_for_backoff()
        forwarding.run()
        assert forwarding.state() is DeliveryState.SENT
        assert_arrived(archive, forwarding)


@pytest.mark.parametrize("keeps_last", [False, True])
@pytest.mark.parametrize("kind", [AbortingArchive, ClosingArchive])
def test_an_association_that_breaks_in_the_middle_costs_an_attempt_and_no_instance(
    kind: type[AbortingArchive] | type[ClosingArchive],
    keeps_last: bool,
    forwarding_to: ForwardingTo,
    tmp_path: Path,
) -> None:
    with kind(tmp_path / "archive", after=2, keeps_last=keeps_last, times=1) as archive:
        forwarding = forwarding_to(archive.port)
        forwarding.add_some(5)
        forwarding.choose()
        forwarding.run()
        assert (forwarding.state(), forwarding.progress) == (DeliveryState.PENDING, (2, 0, 5))
        forwarding.wait_for_backoff()
        forwarding.run()
        assert (forwarding.state(), forwarding.progress) == (DeliveryState.SENT, (5, 0, 5))
        assert_arrived(archive, forwarding)
        repeated = [r.count for r in archive.received() if r.count > 1]
        assert repeated == ([2] if keeps_last else [])


def test_several_associations_share_a_study_and_each_answer_is_noted_once(
    forwarding_to: ForwardingTo, tmp_path: Path
) -> None:
    with FailingArchive(tmp_path / "archive", status=0xC000, every=50, times=2) as archive:
        forwarding = forwarding_to(archive.port, associations=3)
        forwarding.add_some(150)
        forwarding.choose()
        forwarding.run()
        assert (forwarding.state(), forwarding.progress) == (DeliveryState.DEAD, (148, 2, 150))
        assert len(forwarding.ledger.events.named("NOT_FORWARDED")) == 2
        assert forwarding.ledger.forwards.retry(forwarding.task.forward_id, forwarding.clock())
        forwarding.run()
        assert forwarding.progress == (150, 0, 150)
        assert_arrived(archive, forwarding)
        assert {r.count for r in archive.received()} == {1}


def test_one_of_several_associations_that_breaks_postpones_what_was_not_answered(
    forwarding_to: ForwardingTo, tmp_path: Path
) -> None:
    with AbortingArchive(tmp_path / "archive", after=2, times=1) as archive:
        forwarding = forwarding_to(archive.port, associations=3)
        forwarding.add_some(60)
        forwarding.choose()
        forwarding.run()
        assert (forwarding.state(), forwarding.progress) == (DeliveryState.PENDING, (59, 0, 60))
        assert "aborted the association" in forwarding.task.reason
        assert len(archive.received()) == 59
        forwarding.wait_for_backoff()
        forwarding.run()
        assert (forwarding.state(), forwarding.progress) == (DeliveryState.SENT, (60, 0, 60))
        assert_arrived(archive, forwarding)
        assert {r.count for r in archive.received()} == {1}


def test_an_archive_that_is_full_is_tried_again_with_the_rest_alone(
    forwarding_to: ForwardingTo, tmp_path: Path
) -> None:
    with FailingArchive(tmp_path / "archive", status=0xA700, every=2, times=2) as archive:
        forwarding = forwarding_to(archive.port)
        forwarding.add_some(5)
        forwarding.choose()
        forwarding.run()
        assert (forwarding.state(), forwarding.progress) == (DeliveryState.PENDING, (3, 0, 5))
        assert "0xA700" in forwarding.task.reason
        forwarding.wait_for_backoff()
        forwarding.run()
        assert forwarding.state() is DeliveryState.SENT
        assert {r.count for r in archive.received()} == {1}


def test_what_an_archive_cannot_understand_is_named_and_the_rest_is_sent(
    forwarding_to: ForwardingTo, tmp_path: Path
) -> None:
    with FailingArchive(tmp_path / "archive", status=0xC000, every=5, times=1) as archive:
        forwarding = forwarding_to(archive.port)
        forwarding.add_some(6)
        forwarding.choose()
        forwarding.run()
        assert (forwarding.state(), forwarding.progress) == (DeliveryState.DEAD, (5, 1, 6))
        assert forwarding.task.reason.startswith(
            "5 of 6 instances sent, 1 refused: ARCHIVE answered"
        )
        [told] = forwarding.ledger.events.named("NOT_FORWARDED")
        assert "answered 0xC000" in told.reason
        assert forwarding.ledger.forwards.retry(forwarding.task.forward_id, forwarding.clock())
        forwarding.run()
        assert forwarding.state() is DeliveryState.SENT
        assert_arrived(archive, forwarding)
        assert {r.count for r in archive.received()} == {1}


def test_a_sop_class_that_the_archive_does_not_accept_stays_and_the_others_go(
    forwarding_to: ForwardingTo, tmp_path: Path
) -> None:
    with NarrowArchive(tmp_path / "archive", refused_sop_class_uids=[CT_IMAGE_STORAGE]) as archive:
        forwarding = forwarding_to(archive.port)
        forwarding.add(make_instance())
        for dataset in make_mr_series(2):
            forwarding.add(dataset)
        forwarding.choose()
        forwarding.run()
        assert (forwarding.state(), forwarding.progress) == (DeliveryState.DEAD, (2, 1, 3))
        [told] = forwarding.ledger.events.named("NOT_FORWARDED")
        assert "accepts no CT Image Storage" in told.reason


@pytest.mark.parametrize("kind", [RejectingArchive, SilentArchive])
def test_an_archive_that_rejects_us_or_never_answers_is_tried_again(
    kind: type[RejectingArchive] | type[SilentArchive],
    forwarding_to: ForwardingTo,
    tmp_path: Path,
) -> None:
    with kind(tmp_path / "archive") as archive:
        forwarding = forwarding_to(archive.port)
        forwarding.add_some(2)
        forwarding.choose()
        forwarding.run()
        assert (forwarding.state(), forwarding.task.failures) == (DeliveryState.PENDING, 1)
        assert forwarding.progress == (0, 0, 2)


def test_more_that_is_chosen_after_the_end_is_sent_alone(
    forwarding_to: ForwardingTo, tmp_path: Path
) -> None:
    with Archive(tmp_path / "archive") as archive:
        forwarding = forwarding_to(archive.port)
        forwarding.add_some(2)
        forwarding.choose()
        forwarding.run()
        forwarding.add(make_instance(number=3))
        forwarding.choose()
        forwarding.run()
        assert (forwarding.state(), forwarding.progress) == (DeliveryState.SENT, (3, 0, 3))
        assert_arrived(archive, forwarding)
        assert {r.count for r in archive.received()} == {1}


class PlainArchive(LyingArchive):
    """One that takes and gives nothing that is compressed, and commits to nothing."""

    def offer(self, ae: AE) -> None:
        super().offer(ae)
        ae.remove_supported_context(CT_IMAGE_STORAGE)
        ae.add_supported_context(CT_IMAGE_STORAGE, [EXPLICIT], scu_role=True, scp_role=True)


@pytest.mark.parametrize("damaged", [False, True])
def test_what_went_decoded_is_proven_by_what_comes_back(
    damaged: bool, forwarding_to: ForwardingTo, tmp_path: Path
) -> None:
    with PlainArchive(
        tmp_path / "archive",
        reports=Reports.NOT_OFFERED,
        refused_sop_class_uids=STORAGE_SOP_CLASSES - {CT_IMAGE_STORAGE},
    ) as archive:
        peer = {"proof": "read-back", "read_back": "content"}
        forwarding = forwarding_to(archive.port, peer=peer)
        for number in (1, 2):
            dataset = make_instance(number=number, StudyInstanceUID=STUDY, SeriesInstanceUID=SERIES)
            dataset.compress(JPEGLSLossless, generate_instance_uid=False)
            forwarding.add(dataset)
        forwarding.choose()
        forwarding.run()
        [one, _] = archive.received()
        assert one.transfer_syntax_uid == EXPLICIT
        if damaged:
            kept = pydicom.dcmread(one.path)
            kept.PixelData = bytes(len(kept.PixelData))
            kept.save_as(one.path)
        forwarding.prover.turn("archive")
        if damaged:
            assert forwarding.state() is DeliveryState.PENDING
            assert "it gave it back changed" in forwarding.task.reason
            [again] = forwarding.ledger.forwards.unsent(forwarding.task.forward_id, 9)
            assert again.sop_instance_uid == one.sop_instance_uid
        else:
            assert forwarding.state() is DeliveryState.PROVEN
            assert forwarding.task.reason == "2 instances: it gave it back unchanged"
