"""What the prover remembers of a destination, and what an error of ours does to what is due."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node.config.settings import Peer
from dicom_node.lifecycle import DeliveryState
from tests.fault.lying import Character, Node, SimulatedArchive, Site, World


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    with capture_logs():
        yield site
    site.close()


def a_node(site: Site, world: World, **character: object) -> Node:
    archive = SimulatedArchive(
        "archive1",
        world,
        site.ledger,
        Character(**character),  # type: ignore[arg-type]
    )
    peers = {"archive1": Peer(ae_title="ARCHIVE", host="archive.example", port=104)}
    return Node(site, world, {"archive1": archive}, peers, jitter=0)


def reasons(node: Node) -> list[str]:
    return [parcel.delivery.reason for parcel in node.of("archive1")]


def test_what_a_destination_does_not_offer_is_asked_for_again_after_an_hour(site: Site) -> None:
    world = World()
    node = a_node(site, world, answers_find=True)
    archive = node.archives["archive1"]
    site.results("archive1", 1, world.now)
    node.turn("archive1")
    archive.character = replace(archive.character, commits="at once")
    world.go_to(world.now + 3500)
    site.results("archive1", 1, world.now, first=2)
    node.turn("archive1")
    world.go_to(world.now + 200)
    site.results("archive1", 1, world.now, first=3)
    node.turn("archive1")
    assert reasons(node) == [*["it answers a C-FIND with it"] * 2, "it commits to keep it"]


def test_each_sending_is_asked_about_in_one_request(site: Site) -> None:
    world = World()
    node = a_node(site, world, commits="at once")
    site.results("archive1", 50, world.now)
    node.turn("archive1")
    assert {p.delivery.state for p in node.of("archive1")} == {DeliveryState.PROVEN}
    assert len({p.delivery.transaction_uid for p in node.of("archive1")}) == 1


def test_an_error_of_ours_postpones_what_is_due_and_says_so(site: Site) -> None:
    world = World()
    node = a_node(site, world, commits="never")
    site.results("archive1", 2, world.now)
    node.deliverer.turn("archive1")
    node.prover.broke("archive1", KeyError("Doe^Jane"))
    assert reasons(node) == ["our own error: KeyError; see the node's log"] * 2
    assert site.ledger.proofs.due("archive1", world.now, 9) == []
    assert {p.delivery.state for p in node.of("archive1")} == {DeliveryState.SENT}


def test_what_was_sent_to_a_destination_that_is_gone_is_unproven_in_the_end(site: Site) -> None:
    world = World()
    node = a_node(site, world, commits="never")
    site.results("archive1", 1, world.now)
    node.turn("archive1")
    elsewhere = Node(site, world, {"archive2": node.archives["archive1"]}, {})
    for _ in range(100):
        elsewhere.turn("archive1")
        due = elsewhere.next_due_at("archive1")
        if due is None:
            break
        world.go_to(due + 0.001)
    [parcel] = elsewhere.of("archive1")
    assert parcel.delivery.state is DeliveryState.UNPROVEN
    assert "no proof came within 24 h" in parcel.delivery.reason
