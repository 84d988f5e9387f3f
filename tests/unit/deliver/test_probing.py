"""What encodings a destination takes: asked at the start and each day, and remembered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import SegmentationStorage

from dicom_node.config.settings import Config, Peer
from dicom_node.deliver.probing import Prober
from dicom_node.deliver.refusals import named
from dicom_node.errors import PeerRefused, PeerUnreachable
from dicom_node.harness.archive import Archive
from dicom_node.ledger.ledger import Ledger
from dicom_node.uid import LABELMAP_SEGMENTATION_STORAGE
from tests.unit.ledger.rows import a_result

DAY_S = 86_400.0


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.migrate()
    yield ledger
    ledger.close()


def prober(ledger: Ledger, port: int, clock: list[float], *asking: str) -> Prober:
    peer = Peer(ae_title="ARCHIVE", host="127.0.0.1", port=port, may_send=True)
    web = Peer(ae_title="WEB", stow_url="http://127.0.0.1:1/studies")
    config = Config(peers={"archive": peer, "web": web})
    return Prober(config, ledger, lambda: clock[0], asking)


def accepting(ledger: Ledger, sop_class_uid: str = LABELMAP_SEGMENTATION_STORAGE) -> frozenset[str]:
    return ledger.acceptances.accepting(sop_class_uid)


def test_an_archive_that_takes_label_maps_is_remembered(ledger: Ledger, tmp_path: Path) -> None:
    with Archive(tmp_path / "archive") as archive:
        asking = prober(ledger, archive.port, [1000.0], "archive")
        assert asking.due() == ["archive"]
        asking.turn("archive")
        assert archive.received() == ()
    assert accepting(ledger) == {"archive"}
    assert accepting(ledger, SegmentationStorage) == {"archive"}
    assert ledger.acceptances.asked_at("archive", LABELMAP_SEGMENTATION_STORAGE) == 1000.0
    assert asking.due() == []


@pytest.mark.parametrize(
    ("refused", "label_maps", "fractions"),
    [
        ([LABELMAP_SEGMENTATION_STORAGE], set(), {"archive"}),
        ([LABELMAP_SEGMENTATION_STORAGE, SegmentationStorage], set(), set()),
    ],
    ids=["no label maps", "no Segmentation at all"],
)
def test_one_that_refuses_is_remembered_as_that(
    refused: list[str], label_maps: set[str], fractions: set[str], ledger: Ledger, tmp_path: Path
) -> None:
    with Archive(tmp_path / "archive", refused_sop_class_uids=refused) as archive:
        prober(ledger, archive.port, [1000.0], "archive").turn("archive")
    assert accepting(ledger) == label_maps
    assert accepting(ledger, SegmentationStorage) == fractions
    assert ledger.acceptances.asked_at("archive", LABELMAP_SEGMENTATION_STORAGE) == 1000.0


def test_it_is_asked_again_after_a_day_and_the_latest_answer_counts(
    ledger: Ledger, tmp_path: Path
) -> None:
    clock = [1000.0]
    for sop_class_uid in (LABELMAP_SEGMENTATION_STORAGE, SegmentationStorage):
        ledger.acceptances.note("archive", sop_class_uid, accepted=False, now=clock[0])
    with Archive(tmp_path / "archive") as archive:
        asking = prober(ledger, archive.port, clock, "archive")
        clock[0] += DAY_S - 1
        assert asking.due() == []
        clock[0] += 2
        assert asking.due() == ["archive"]
        asking.turn("archive")
        assert asking.due() == []
        assert accepting(ledger) == {"archive"}


def test_one_that_was_never_asked_for_all_that_is_asked_for_now_is_asked(
    ledger: Ledger, free_port: int
) -> None:
    ledger.acceptances.note("archive", LABELMAP_SEGMENTATION_STORAGE, accepted=True, now=1000.0)
    assert prober(ledger, free_port, [1001.0], "archive").due() == ["archive"]


def test_a_clock_that_was_set_back_does_not_silence_it(ledger: Ledger, free_port: int) -> None:
    for sop_class_uid in (LABELMAP_SEGMENTATION_STORAGE, SegmentationStorage):
        ledger.acceptances.note("archive", sop_class_uid, accepted=False, now=9e9)
    assert prober(ledger, free_port, [1000.0], "archive").due() == ["archive"]


def test_one_that_is_down_is_asked_further_and_further_apart_until_it_answers(
    ledger: Ledger, tmp_path: Path, free_port: int
) -> None:
    clock = [1000.0]
    asking = prober(ledger, free_port, clock, "archive")
    waits = []
    for _ in range(9):
        assert asking.due() == ["archive"]
        asking.turn("archive")
        assert asking.due() == []
        before = clock[0]
        while not asking.due():
            clock[0] += 0.5
        waits.append(clock[0] - before)
    assert waits[0] <= 5.5
    assert waits[:6] == sorted(waits[:6])
    assert 200 < waits[-1] <= 300.5
    assert ledger.acceptances.asked_at("archive", LABELMAP_SEGMENTATION_STORAGE) is None
    with Archive(tmp_path / "archive", port=free_port):
        asking.turn("archive")
    assert accepting(ledger) == {"archive"}
    assert asking.due() == []


def test_nobody_is_asked_whose_profile_does_not_want_to_know_or_who_negotiates_nothing(
    ledger: Ledger, free_port: int
) -> None:
    assert prober(ledger, free_port, [1000.0]).due() == []
    assert prober(ledger, free_port, [1000.0], "web").due() == []


def test_a_refused_sop_class_names_the_key_to_change() -> None:
    refused = PeerRefused("ARCHIVE accepts no such thing", status=0x0122, hint="old")
    label_map = a_result(sop_class_uid=LABELMAP_SEGMENTATION_STORAGE)
    assert "set labelmap: false" in named(refused, "pacs", label_map).hint
    assert "peers.pacs.results" in named(refused, "pacs", label_map).hint
    assert "peers.pacs.results" in named(refused, "pacs", a_result()).hint


def test_other_failures_keep_their_words() -> None:
    for error in (
        PeerRefused("no", status=0xC000, hint="look into its log"),
        PeerUnreachable("gone", hint="look"),
    ):
        assert named(error, "pacs", a_result()) is error
