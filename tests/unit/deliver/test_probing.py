"""Whether a destination takes label maps: asked once a day, remembered, never in the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
    return Prober(Config(peers={"archive": peer}), ledger, lambda: clock[0], asking)


def accepting(ledger: Ledger) -> frozenset[str]:
    return ledger.acceptances.accepting(LABELMAP_SEGMENTATION_STORAGE)


def test_an_archive_that_takes_label_maps_is_remembered(ledger: Ledger, tmp_path: Path) -> None:
    with Archive(tmp_path / "archive") as archive:
        prober(ledger, archive.port, [1000.0], "archive").turn("archive")
        assert archive.received() == ()
    assert accepting(ledger) == {"archive"}
    assert ledger.acceptances.asked_at("archive", LABELMAP_SEGMENTATION_STORAGE) == 1000.0


def test_it_is_asked_again_after_a_day_and_the_latest_answer_counts(
    ledger: Ledger, tmp_path: Path, free_port: int
) -> None:
    clock = [1000.0]
    ledger.acceptances.note("archive", LABELMAP_SEGMENTATION_STORAGE, accepted=False, now=clock[0])
    with Archive(tmp_path / "archive") as archive:
        asking = prober(ledger, archive.port, clock, "archive")
        clock[0] += DAY_S - 1
        asking.turn("archive")
        assert accepting(ledger) == frozenset()
        clock[0] += 2
        asking.turn("archive")
        assert accepting(ledger) == {"archive"}


def test_one_that_cannot_be_reached_is_asked_later(ledger: Ledger, free_port: int) -> None:
    prober(ledger, free_port, [1000.0], "archive").turn("archive")
    assert ledger.acceptances.asked_at("archive", LABELMAP_SEGMENTATION_STORAGE) is None


def test_nobody_is_asked_whose_profile_does_not_want_to_know(
    ledger: Ledger, tmp_path: Path
) -> None:
    with Archive(tmp_path / "archive") as archive:
        prober(ledger, archive.port, [1000.0]).turn("archive")
    assert accepting(ledger) == frozenset()


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
