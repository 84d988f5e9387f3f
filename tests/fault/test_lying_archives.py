"""Archives that lie: whatever they answer, the ledger ends up with what they really have.

A thousand seeded runs on a simulated clock; every fault alone; and an archive that is down for a
weekend. `test_lying_archives_for_real.py` has the same over sockets.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
from structlog.testing import capture_logs

from dicom_node.config.settings import Peer
from dicom_node.ledger.deliveries import Parcel
from dicom_node.lifecycle import DeliveryState
from tests.fault.lying import (
    HOUR_S,
    OPEN,
    SEG,
    Character,
    Commits,
    Node,
    SimulatedArchive,
    Site,
    World,
)

RUNS, IN_ONE_TEST = 1000, 50
COMMITS: tuple[Commits, ...] = ("not offered", "breaks", "at once", "late", "partly", "never")
PROOFS: tuple[Literal["auto", "commitment", "read-back", "status"], ...] = (
    *("auto", "auto", "auto"),
    *("commitment", "read-back", "status"),
)


@pytest.fixture
def site() -> Iterator[Site]:
    """Return a ledger where a sync costs nothing: in memory, if the system has a folder there."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    site = Site(folder)
    with capture_logs():
        yield site
    site.close()
    shutil.rmtree(folder)


def a_peer(**changes: Any) -> Peer:
    return Peer(ae_title="ARCHIVE", host="archive.example", port=104, **changes)


def a_character(drawn: random.Random) -> Character:
    """Return an archive with one fault, two or three."""

    def sometimes(share: float) -> bool:
        return drawn.random() < share

    restarts = []
    at = 0.0
    for _ in range(drawn.choice((0, 0, 0, 1, 3))):
        at += drawn.uniform(0, 6 * HOUR_S)
        restarts.append((at, at + drawn.choice((5.0, 600.0, 2 * HOUR_S))))
        at = restarts[-1][1]
    return Character(
        drops=0.05 if sometimes(0.7) else 0.0,
        always_drops=0.1 if sometimes(0.2) else 0.0,
        aborts=0.2 if sometimes(0.3) else 0.0,
        commits=drawn.choice(COMMITS),
        answers_find=sometimes(0.6),
        damages=0.2 if sometimes(0.1) else 0.0,
        restarts=tuple(restarts),
        refuses=frozenset({SEG}) if sometimes(0.1) else frozenset(),
        slow_s=drawn.choice((0.0, 0.0, 0.5, 20.0)),
        full=(0.0, drawn.uniform(0, 5 * HOUR_S)) if sometimes(0.2) else None,
        warns=sometimes(0.2),
    )


def a_run(site: Site, seed: int) -> tuple[SimulatedArchive, Peer, list[Parcel]]:
    """Play one archive, one policy and, in every fifth run, a node that is killed now and then."""
    drawn = random.Random(seed)
    character, name, world = a_character(drawn), f"archive{seed + 1}", World()
    archive = SimulatedArchive(name, world, site.ledger, character, seed)
    # who may keep something else must be asked for it
    looks = "content" if character.damages or drawn.random() < 0.2 else "find"
    proof = drawn.choice(PROOFS)
    peer = a_peer(proof=proof, read_back=looks)
    kills = drawn.choice((0.0, 0.0, 0.0, 0.0, 0.1))
    node = Node(site, world, {name: archive}, {name: peer}, lambda: drawn.random() < kills)
    site.results(name, drawn.randint(1, 6), world.now)
    node.run()
    return archive, peer, node.of(name)


def assert_true(archive: SimulatedArchive, peer: Peer, parcels: list[Parcel]) -> None:
    """The ledger says what the archive has."""
    for delivery, result in ((parcel.delivery, parcel.result) for parcel in parcels):
        uid, state, reason = result.sop_instance_uid, delivery.state, delivery.reason
        assert state not in OPEN, f"{uid} stays {state}: {reason}"
        assert reason
        # the same object every time it was sent: nothing can be there twice
        assert archive.versions.get(uid, {result.digest}) == {result.digest}
        if state is DeliveryState.PROVEN:
            assert uid in archive.kept, f"{uid} is PROVEN ({reason}) and not there"
            by_content = peer.read_back == "content" and "unchanged" in reason
            if by_content or not archive.character.damages:
                assert archive.kept[uid] == result.digest
        elif "though it answered Success" in reason and not archive.character.damages:
            assert state is DeliveryState.DEAD
            assert uid not in archive.kept, f"{uid} is there: {reason}"
        elif state is DeliveryState.DEAD:
            assert any(words in reason for words in ("accepts no", "Success", "reached", "abort"))
        else:
            assert "answered Success" in reason


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, RUNS, IN_ONE_TEST))
def test_a_thousand_runs_end_with_what_the_archive_has(first: int, site: Site) -> None:
    ends: Counter[DeliveryState] = Counter()
    for seed in range(first, first + IN_ONE_TEST):
        archive, peer, parcels = a_run(site, seed)
        assert_true(archive, peer, parcels)
        ends.update(parcel.delivery.state for parcel in parcels)
    # fifty runs have something of each, or they would show little
    assert min(ends[state] for state in set(DeliveryState) - set(OPEN)) > 0


# ---------------------------------------------------------------- each fault alone


def alone(site: Site, number: int = 40, **faults: Any) -> tuple[SimulatedArchive, Node, World]:
    world = World()
    character = Character(**{"commits": "at once", **faults})
    archive = SimulatedArchive("archive1", world, site.ledger, character, seed=7)
    node = Node(site, world, {"archive1": archive}, {"archive1": a_peer()})
    site.results("archive1", number, world.now)
    return archive, node, world


def states(node: Node) -> Counter[str]:
    return Counter(str(parcel.delivery.state) for parcel in node.of("archive1"))


def test_what_is_dropped_is_sent_again_and_ends_up_there(site: Site) -> None:
    archive, node, _ = alone(site, drops=0.2)
    node.run()
    assert states(node) == {"PROVEN": 40}
    assert len(archive.kept) == 40
    again = {uid for uid, times in archive.stores.items() if times > 1}
    assert 2 < len(again) < 20
    assert {p.delivery.sop_instance_uid for p in node.of("archive1") if p.delivery.resends} == again


def test_what_is_never_kept_is_dead_and_says_how_often_it_was_sent(site: Site) -> None:
    archive, node, _ = alone(site, number=4, always_drops=1.0)
    node.run()
    assert states(node) == {"DEAD": 4}
    assert set(archive.stores.values()) == {4}
    [reason] = {parcel.delivery.reason for parcel in node.of("archive1")}
    assert reason == (
        "it does not commit to it (0x0112), though it answered Success 4 times; "
        "look into its log and its disk, then retry"
    )


def test_the_operators_retry_begins_to_count_anew(site: Site) -> None:
    archive, node, world = alone(site, number=1, always_drops=1.0)
    node.run()
    [parcel] = node.of("archive1")
    assert site.ledger.deliveries.retry(parcel.delivery.delivery_id, world.now)
    archive._never_kept = {parcel.delivery.sop_instance_uid: False}
    node.run()
    assert states(node) == {"PROVEN": 1}


def test_a_result_that_comes_late_is_waited_for(site: Site) -> None:
    _, node, _ = alone(site, commits="late")
    node.run()
    assert states(node) == {"PROVEN": 40}


def test_what_a_result_leaves_out_is_asked_for_again(site: Site) -> None:
    archive, node, _ = alone(site, commits="partly")
    node.run()
    assert states(node)["PROVEN"] > 30
    assert states(node).keys() <= {"PROVEN", "UNPROVEN"}  # some may be left out for a day
    asked = [
        sum(e.event == "ASKED" for e in site.ledger.events.of(str(p.delivery.delivery_id)))
        for p in node.of("archive1")
    ]
    assert max(asked) > min(asked) >= 1
    assert set(archive.stores.values()) == {1}


def test_a_commitment_that_comes_after_the_time_for_it_still_counts(site: Site) -> None:
    archive, node, _ = alone(site, number=1, commits="never")
    node.run()
    [parcel] = node.of("archive1")
    assert parcel.delivery.state is DeliveryState.UNPROVEN
    assert "no result of its storage commitment" in parcel.delivery.reason
    assert "may_send: true" in parcel.delivery.reason
    archive._report(parcel.delivery.transaction_uid, [parcel.result])
    node.turn("archive1")
    assert states(node) == {"PROVEN": 1}


def test_a_commitment_that_never_comes_is_asked_for_less_and_less_often(site: Site) -> None:
    _, node, _ = alone(site, number=1, commits="never")
    node.run()
    [parcel] = node.of("archive1")
    events = site.ledger.events.of(str(parcel.delivery.delivery_id))
    asked_at = [event.at for event in events if event.event == "ASKED"]
    assert 5 < len(asked_at) < 12
    assert events[-1].event == "UNPROVEN"
    assert events[-1].at - asked_at[0] == pytest.approx(24 * HOUR_S, abs=5)


def test_where_no_commitment_comes_the_archive_is_asked_what_it_has(site: Site) -> None:
    archive, node, _ = alone(site, commits="never", answers_find=True, drops=0.2)
    node.run()
    assert states(node) == {"PROVEN": 40}
    assert len(archive.kept) == 40


@pytest.mark.parametrize(("answers_find", "end"), [(True, "PROVEN"), (False, "UNPROVEN")])
def test_an_archive_that_breaks_at_what_it_does_not_know_is_sent_to_all_the_same(
    answers_find: bool, end: str, site: Site
) -> None:
    archive, node, _ = alone(site, number=2, commits="breaks", answers_find=answers_find)
    node.run()
    assert states(node) == {end: 2}
    assert site.ledger.breakers.get("archive1") is None
    assert archive.probes == 0


def test_an_archive_that_offers_no_proof_leaves_everything_unproven(site: Site) -> None:
    _, node, _ = alone(site, number=2, commits="not offered")
    node.run()
    assert states(node) == {"UNPROVEN": 2}
    reasons = {parcel.delivery.reason for parcel in node.of("archive1")}
    assert reasons == {
        "it answered Success and offers no proof, neither storage commitment nor what "
        "`read_back` asks for; its last words: archive1 accepts no C-FIND"
    }


def test_what_comes_back_changed_is_not_proven(site: Site) -> None:
    world = World()
    character = Character(answers_find=True, damages=1.0)
    archive = SimulatedArchive("archive1", world, site.ledger, character)
    peer = a_peer(proof="read-back", read_back="content")
    node = Node(site, world, {"archive1": archive}, {"archive1": peer})
    site.results("archive1", 3, world.now)
    node.run()
    assert states(node) == {"DEAD": 3}
    assert all("changed" in parcel.delivery.reason for parcel in node.of("archive1"))


def test_what_is_not_given_back_is_unproven_and_not_sent_again(site: Site) -> None:
    world = World()
    character = Character(answers_find=True, withholds=True)
    archive = SimulatedArchive("archive1", world, site.ledger, character)
    peer = a_peer(proof="read-back", read_back="content")
    node = Node(site, world, {"archive1": archive}, {"archive1": peer})
    site.results("archive1", 2, world.now)
    node.run()
    assert states(node) == {"UNPROVEN": 2}
    assert set(archive.stores.values()) == {1}
    assert all("does not give it back" in p.delivery.reason for p in node.of("archive1"))


def test_a_file_of_ours_that_is_lost_holds_up_no_other(site: Site) -> None:
    world = World()
    archive = SimulatedArchive("archive1", world, site.ledger, Character(answers_find=True))
    peer = a_peer(proof="read-back", read_back="content")
    node = Node(site, world, {"archive1": archive}, {"archive1": peer})
    lost, *_ = site.results("archive1", 3, world.now)
    node.lost_files = frozenset({lost.digest})
    node.turn("archive1")
    assert states(node) == {"PROVEN": 2, "UNPROVEN": 1}
    reasons = {p.delivery.reason for p in node.of("archive1") if p.delivery.state == "UNPROVEN"}
    assert reasons == {"our file cannot be read"}


def test_an_archive_that_is_full_gets_everything_when_it_has_room(site: Site) -> None:
    archive, node, world = alone(site, number=10, full=(0.0, 5 * HOUR_S))
    node.run()
    assert states(node) == {"PROVEN": 10}
    assert len(archive.kept) == 10
    assert world.now - 1_000_000.0 < 6.5 * HOUR_S


def test_what_an_archive_loses_when_it_restarts_is_sent_again(site: Site) -> None:
    archive, node, _ = alone(site, commits="late", restarts=((0.5, 60.0),), slow_s=0.01)
    node.run()
    assert set(states(node)) == {"PROVEN"}
    assert len(archive.kept) == 40


# ---------------------------------------------------------------- the weekend


@pytest.mark.slow
def test_an_archive_that_is_down_for_a_weekend_gets_each_of_5000_once(site: Site) -> None:
    world, down_s = World(), 60 * HOUR_S
    down = Character(commits="at once", restarts=((0.0, down_s),))
    monday = SimulatedArchive("archive1", world, site.ledger, down)
    other = SimulatedArchive("archive2", world, site.ledger, Character(commits="at once"))
    node = Node(
        site,
        world,
        {"archive1": monday, "archive2": other},
        {"archive1": a_peer(), "archive2": a_peer()},
    )
    begun_at = world.now
    site.results("archive1", 5000, begun_at)
    site.results("archive2", 50, begun_at)
    for name in ("archive1", "archive2"):
        node.turn(name)
    # nobody waited for the one that is down
    assert {p.delivery.state for p in node.of("archive2")} == {DeliveryState.PROVEN}
    assert world.now == begun_at
    # and it costs the queue nothing: probes alone
    while world.now < begun_at + down_s - 400:
        node.turn("archive1")
        due = node.next_due_at("archive1")
        assert due is not None
        world.go_to(due)
    attempts = [parcel.delivery.attempt for parcel in node.of("archive1")]
    assert sum(attempts) <= 3 * 64
    [breaker] = site.ledger.breakers.all_open()
    assert breaker.destination == "archive1"
    assert 60 * 60 / 5 < monday.probes < 60 * 60 / 5 * 1.4
    node.run()
    assert states(node) == {"PROVEN": 5000}
    assert Counter(monday.stores.values()) == {1: 5000}
    assert len(monday.kept) == 5000
    # found within five minutes
    assert world.now - begun_at - down_s <= 300
    assert site.ledger.breakers.all_open() == []


@pytest.mark.slow
def test_what_waited_for_days_behind_an_open_breaker_is_dead_and_says_why(site: Site) -> None:
    _, node, world = alone(site, number=3, restarts=((0.0, 1000 * HOUR_S),))
    node.run()
    assert states(node) == {"DEAD": 3}
    assert {p.delivery.reason for p in node.of("archive1")} == {"archive1 cannot be reached"}
    assert 72 * HOUR_S < world.now - 1_000_000.0 < 73 * HOUR_S


def test_an_archive_that_answers_only_the_probe_is_left_alone_for_longer_and_longer(
    site: Site,
) -> None:
    _, node, world = alone(site, number=1, aborts=1.0, commits="not offered")
    for _ in range(200):
        node.turn("archive1")
        due = node.next_due_at("archive1")
        if due is None:
            break
        world.go_to(due + 0.001)
    events = site.ledger.events.of("archive1")
    opened_at = [event.at for event in events if event.event == "OPENED"]
    waits_s = [after - before for before, after in pairwise(opened_at)]
    assert waits_s[0] < 60
    assert max(waits_s) > 200
