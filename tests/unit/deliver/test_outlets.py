"""Hours, limits, priority and the breaker, on the queue of a simulated archive."""

from __future__ import annotations

from calendar import timegm
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dicom_node.config.settings import Peer
from dicom_node.lifecycle import BreakerState
from dicom_node.model import Priority
from tests.fault.lying import Character, Node, SimulatedArchive, Site, World

NOON = float(timegm((2026, 7, 1, 12, 0, 0)))
HOUR_S = 3600.0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    with capture_logs():
        yield site
    site.close()


@pytest.fixture
def world() -> World:
    return World(NOON)


def a_node(site: Site, world: World, character: Character, **peer: Any) -> Node:
    archive = SimulatedArchive("archive1", world, site.ledger, character)
    peers = {"archive1": Peer(ae_title="ARCHIVE", host="archive.example", port=104, **peer)}
    return Node(site, world, {"archive1": archive}, peers, jitter=0)


def stored(node: Node) -> list[str]:
    """Return what came to the archive, in its order."""
    return list(node.archives["archive1"].stores)


def test_outside_of_its_hours_a_destination_gets_what_is_stat_alone(
    site: Site, world: World
) -> None:
    node = a_node(site, world, Character(), hours=("22:00-06:00",), proof="status")
    site.results("archive1", 2, NOON, Priority.HIGH)
    [stat] = site.results("archive1", 1, NOON, Priority.STAT, first=9)
    node.turn("archive1")
    assert stored(node) == [stat.sop_instance_uid]
    world.go_to(NOON + 9 * HOUR_S + 3599)
    node.turn("archive1")
    assert len(stored(node)) == 1
    world.go_to(NOON + 10 * HOUR_S)
    node.turn("archive1")
    assert len(stored(node)) == 3


def test_the_most_urgent_goes_first(site: Site, world: World) -> None:
    node = a_node(site, world, Character(), proof="status")
    [low] = site.results("archive1", 1, NOON, Priority.LOW, first=1)
    [routine] = site.results("archive1", 1, NOON, Priority.ROUTINE, first=2)
    [stat] = site.results("archive1", 1, NOON, Priority.STAT, first=3)
    node.turn("archive1")
    wanted = [stat, routine, low]
    assert stored(node) == [result.sop_instance_uid for result in wanted]


def test_limits_let_out_so_many_and_the_rest_later(site: Site, world: World) -> None:
    node = a_node(site, world, Character(), instances_per_minute=6, proof="status")
    site.results("archive1", 5, NOON)
    node.turn("archive1")
    assert len(stored(node)) == 1
    world.go_to(NOON + 30)
    node.turn("archive1")
    assert len(stored(node)) == 2  # one at once after a pause, and no more
    for second in range(31, 91):
        world.go_to(NOON + second)
        node.turn("archive1")
    assert len(stored(node)) == 5


def test_three_failures_in_a_row_open_the_breaker_and_one_probe_closes_it(
    site: Site, world: World
) -> None:
    node = a_node(site, world, Character(restarts=((0.0, 1000.0),)), proof="status")
    archive = node.archives["archive1"]
    site.results("archive1", 1, NOON)
    while not site.ledger.breakers.all_open():
        node.turn("archive1")
        world.go_to(world.now + 1)
    [breaker] = site.ledger.breakers.all_open()
    assert (breaker.failures, archive.probes) == (3, 0)
    assert breaker.reason == "archive1 cannot be reached"
    attempts = node.of("archive1")[0].delivery.attempt
    probed_at = []
    while world.now < NOON + 1000:
        before = archive.probes
        node.turn("archive1")
        if archive.probes > before:
            assert archive.probes == before + 1
            probed_at.append(world.now)
        world.go_to(world.now + 1)
    assert node.of("archive1")[0].delivery.attempt == attempts
    waits_s = [after - before for before, after in pairwise(probed_at)]
    assert waits_s == [40, 80, 160, 300, 300]
    world.go_to(world.now + 300)
    node.turn("archive1")
    assert len(stored(node)) == 1
    closed = site.ledger.breakers.get("archive1")
    assert closed is not None
    assert closed.state is BreakerState.CLOSED
    assert [e.event for e in site.ledger.events.of("archive1")][:: len(probed_at) + 1] == [
        "OPENED",
        "ANSWERED",
    ]


def test_the_operator_has_a_destination_probed_at_once(site: Site, world: World) -> None:
    node = a_node(site, world, Character(restarts=((0.0, 100.0),)), proof="status")
    site.results("archive1", 1, NOON)
    while not site.ledger.breakers.all_open():
        node.turn("archive1")
        world.go_to(world.now + 1)
    world.go_to(NOON + 100)
    assert site.ledger.breakers.hurry(world.now, "archive2") == 0
    assert site.ledger.breakers.hurry(world.now, "archive1") == 1
    node.turn("archive1")
    assert len(stored(node)) == 1


def test_a_breaker_that_is_open_is_open_after_a_restart(site: Site, world: World) -> None:
    node = a_node(site, world, Character(restarts=((0.0, 1e6),)), proof="status")
    site.results("archive1", 1, NOON)
    while not site.ledger.breakers.all_open():
        node.turn("archive1")
        world.go_to(world.now + 1)
    attempts = node.of("archive1")[0].delivery.attempt
    again = Node(site, world, node.archives, {"archive1": node.peers["archive1"]})
    again.turn("archive1")
    assert again.of("archive1")[0].delivery.attempt == attempts


def test_what_it_says_that_it_has_already_counts_as_sent(site: Site, world: World) -> None:
    node = a_node(site, world, Character(duplicates=True, commits="at once"))
    site.results("archive1", 1, NOON)
    node.turn("archive1")
    [parcel] = node.of("archive1")
    assert parcel.delivery.reason == "it commits to keep it"
    accepted = site.ledger.events.of(str(parcel.delivery.delivery_id))[1]
    assert (accepted.event, accepted.reason) == (
        "ACCEPTED",
        "it says that it has it already (0x0111)",
    )
