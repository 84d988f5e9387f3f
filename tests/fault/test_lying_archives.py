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
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
from structlog.testing import capture_logs

from dicom_node.config.settings import Peer
from dicom_node.lifecycle import DeliveryState
from dicom_node.model import Event, Forward, Priority
from tests.fault.lying import (
    HOUR_S,
    OPEN,
    SEG,
    Character,
    Commits,
    Ending,
    Node,
    SimulatedArchive,
    Site,
    World,
)
from tests.unit.route.made import key_of

RUNS, IN_ONE_TEST = 1000, 50
COMMITS: tuple[Commits, ...] = ("not offered", "breaks", "at once", "late", "partly", "never")
PROOFS: tuple[Literal["auto", "commitment", "read-back", "status"], ...] = (
    *("auto", "auto", "auto"),
    *("commitment", "read-back", "status"),
)

WORST_FIRST = (DeliveryState.DEAD, DeliveryState.UNPROVEN, DeliveryState.PROVEN)


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


@dataclass
class Run:
    """One archive, one policy, and what became of what was sent to it."""

    archive: SimulatedArchive
    peer: Peer
    node: Node

    @property
    def results(self) -> list[Ending]:
        return [
            Ending(r.sop_instance_uid, r.digest, d.state, d.reason, d.resends)
            for d, r in ((one.delivery, one.result) for one in self.node.of(self.archive.name))
        ]

    @property
    def originals(self) -> list[Ending]:
        return self.node.endings(self.archive.name)


def a_run(site: Site, seed: int) -> Run:
    """Play one archive, one policy and, in every fifth run, a node that is killed now and then.

    It gets results and originals, the latter as they came or as copies; some come while the first
    are on their way.
    """
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
    number, profile = drawn.choice((1, 3, 9, 9, 70)), drawn.choice(("", "", "copies"))
    site.originals(name, number, world.now, profile)
    if drawn.random() < 0.3:
        after_s = drawn.uniform(0, 8 * HOUR_S)
        come_at, first = world.now + after_s, number + 1
        world.at(come_at, lambda: void(site.originals(name, 3, come_at, profile, first)))
    node.run()
    return Run(archive, peer, node)


def void(_: object) -> None:
    """Return nothing, as what happens in a world does."""


def assert_true(run: Run) -> None:
    """The ledger says what the archive has."""
    for one in run.results + run.originals:
        assert_is_so(one, run.archive, run.peer)
    # as a result, so a forward: what is true of all its instances is true of it
    for forward in run.node.forwards(run.archive.name):
        states = {one.state for one in run.originals}
        worst = next(state for state in WORST_FIRST if state in states | {DeliveryState.PROVEN})
        assert forward.state is worst, forward.reason
        assert forward.reason
    counts: Counter[DeliveryState] = Counter(one.state for one in run.originals)
    assert run.node.ledger.forwards.instance_counts().get(run.archive.name, {}) == counts


def assert_is_so(one: Ending, archive: SimulatedArchive, peer: Peer) -> None:
    uid, state, reason = one.sop_instance_uid, one.state, one.reason
    assert state not in OPEN, f"{uid} stays {state}: {reason}"
    assert reason
    # the same object every time it was sent: nothing can be there twice
    assert archive.versions.get(uid, {one.digest}) == {one.digest}
    if state is DeliveryState.PROVEN:
        assert uid in archive.kept, f"{uid} is PROVEN ({reason}) and not there"
        by_content = peer.read_back == "content" and "unchanged" in reason
        if by_content or not archive.character.damages:
            assert archive.kept[uid] == one.digest
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
    ends: dict[str, Counter[DeliveryState]] = {"results": Counter(), "originals": Counter()}
    for seed in range(first, first + IN_ONE_TEST):
        run = a_run(site, seed)
        assert_true(run)
        ends["results"].update(one.state for one in run.results)
        ends["originals"].update(one.state for one in run.originals)
    # fifty runs have something of each, or they would show little
    for what, found in ends.items():
        assert min(found[state] for state in set(DeliveryState) - set(OPEN)) > 0, what


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


# ---------------------------------------------------------------- originals


def forwarding(
    site: Site, number: int = 40, profile: str = "", *, peer: Peer | None = None, **faults: Any
) -> tuple[SimulatedArchive, Node, World]:
    world = World()
    character = Character(**{"commits": "at once", **faults})
    archive = SimulatedArchive("archive1", world, site.ledger, character, seed=7)
    node = Node(site, world, {"archive1": archive}, {"archive1": peer or a_peer()})
    site.originals("archive1", number, world.now, profile)
    return archive, node, world


def ends(node: Node) -> Counter[str]:
    return Counter(str(one.state) for one in node.endings("archive1"))


def events(node: Node, event: str) -> list[Event]:
    return [e for e in node.ledger.events.named(event) if e.subject_kind == "consignment"]


def test_what_went_together_is_asked_for_and_proven_together(site: Site) -> None:
    archive, node, _ = forwarding(site, number=150)
    node.run()
    [forward] = node.forwards("archive1")
    assert (forward.state, forward.reason) == ("PROVEN", "150 instances: it commits to keep it")
    assert ends(node) == {"PROVEN": 150}
    assert set(archive.stores.values()) == {1}
    assert len(events(node, "PROVEN")) == 3  # rows for 64, 64 and 22 instances, not for each
    requests = {event.reason for event in events(node, "ASKED")}
    assert len(requests) == 1


def test_only_what_is_missing_is_sent_again(site: Site) -> None:
    archive, node, _ = forwarding(site, number=100, drops=0.1)
    node.run()
    assert ends(node) == {"PROVEN": 100}
    assert len(archive.kept) == 100
    again = {uid for uid, times in archive.stores.items() if times > 1}
    assert 3 < len(again) < 30
    assert {one.sop_instance_uid for one in node.endings("archive1") if one.resends} == again
    [forward] = node.forwards("archive1")
    moves = [event.event for event in site.ledger.events.of(str(forward.forward_id))]
    assert "MISSED" in moves
    assert forward.state is DeliveryState.PROVEN


def test_what_is_missing_waits_as_long_as_a_result_would(site: Site) -> None:
    archive, node, world = forwarding(site, number=1, always_drops=1.0)
    begun_at = world.now
    node.run()
    [one] = node.endings("archive1")
    assert one.state is DeliveryState.DEAD
    assert one.reason == (
        "it does not commit to it (0x0112), though it answered Success 4 times; "
        "look into its log and its disk, then retry"
    )
    assert archive.stores == {one.sop_instance_uid: 4}
    assert 20 + 40 + 80 > world.now - begun_at > (20 + 40 + 80) * 0.8


def test_a_forward_with_something_that_is_never_kept_is_dead_and_the_rest_is_proven(
    site: Site,
) -> None:
    _, node, world = forwarding(site, number=40, always_drops=0.1)
    node.run()
    found = ends(node)
    assert found.keys() == {"PROVEN", "DEAD"}
    [forward] = node.forwards("archive1")
    assert forward.state is DeliveryState.DEAD
    dead = found["DEAD"]
    assert forward.reason.startswith(f"{40 - dead} of 40 instances sent, {dead} refused: it does")
    assert len(site.ledger.events.named("NOT_FORWARDED")) == dead
    # and goes alone when a person says so
    stores = sum(node.archives["archive1"].stores.values())
    node.archives["archive1"]._never_kept.clear()
    node.archives["archive1"].character = Character(commits="at once")
    assert site.ledger.forwards.retry(forward.forward_id, world.now)
    node.run()
    assert ends(node) == {"PROVEN": 40}
    assert sum(node.archives["archive1"].stores.values()) == stores + dead


def test_a_copy_is_asked_for_by_the_uids_that_it_went_under(site: Site) -> None:
    archive, node, _ = forwarding(site, number=5, profile="copies", drops=0.3)
    node.run()
    assert ends(node) == {"PROVEN": 5}
    assert all(uid.endswith(".9") for uid in archive.kept)
    assert len(archive.kept) == 5


def test_an_answer_in_part_settles_that_part_and_the_rest_goes_on(site: Site) -> None:
    archive, node, _ = forwarding(site, number=100, commits="partly")
    node.run()
    assert ends(node)["PROVEN"] > 80
    assert ends(node).keys() <= {"PROVEN", "UNPROVEN"}
    assert set(archive.stores.values()) == {1}


def test_a_late_answer_makes_an_unproven_forward_proven(site: Site) -> None:
    archive, node, _ = forwarding(site, number=70, commits="never")
    node.run()
    [forward] = node.forwards("archive1")
    assert forward.state is DeliveryState.UNPROVEN
    assert "no result of its storage commitment" in forward.reason
    [asked] = {event.reason.split()[-1] for event in events(node, "ASKED")[-2:]}
    uids = {one.sop_instance_uid: 0 for one in node.endings("archive1")}
    assert site.ledger.proofs.answered(asked, ["archive1"], uids, node.world.now) == 70
    node.turn("archive1")
    [forward] = node.forwards("archive1")
    assert forward.state is DeliveryState.PROVEN
    assert ends(node) == {"PROVEN": 70}
    assert len(archive.kept) == 0  # it has not written them: its word counts


def test_an_archive_that_offers_no_proof_leaves_a_forward_unproven(site: Site) -> None:
    _, node, _ = forwarding(site, number=70, commits="not offered")
    node.run()
    [forward] = node.forwards("archive1")
    assert forward.state is DeliveryState.UNPROVEN
    assert forward.reason.startswith("70 of 70 instances: it answered Success and offers no proof")


def test_originals_that_come_back_changed_are_not_proven(site: Site) -> None:
    peer = a_peer(proof="read-back", read_back="content")
    _, node, _ = forwarding(site, number=20, peer=peer, answers_find=True, damages=0.5)
    node.run()
    assert ends(node)["PROVEN"] > 0
    archive = node.archives["archive1"]
    for one in node.endings("archive1"):
        if one.state is DeliveryState.PROVEN:
            assert archive.kept[one.sop_instance_uid] == one.digest
        else:
            assert "it gave it back changed, though it answered Success 4 times" in one.reason


def test_an_archive_that_has_an_original_already_takes_it(site: Site) -> None:
    _, node, _ = forwarding(site, number=3, duplicates=True)
    node.run()
    assert ends(node) == {"PROVEN": 3}


def test_an_archive_that_goes_while_it_is_looked_into_proves_no_more_than_it_showed(
    site: Site,
) -> None:
    peer = a_peer(proof="read-back", read_back="content")
    archive, node, world = forwarding(site, number=10, peer=peer, answers_find=True, slow_s=1.0)
    # eleven answers to take ten, one to find, four to give back: then it is gone for a minute
    archive.down = [(world.now + 16.5, world.now + 76.0)]
    node.turn("archive1")
    assert ends(node) == {"PROVEN": 4, "SENT": 6}
    node.run()
    assert ends(node) == {"PROVEN": 10}


def test_what_comes_again_with_other_bytes_is_sent_and_proven_again(site: Site) -> None:
    archive, node, world = forwarding(site, number=3)
    node.run()
    [uid] = [one.sop_instance_uid for one in node.endings("archive1")][:1]
    was = {one.sop_instance_uid: one.digest for one in node.endings("archive1")}
    [study] = {forward.study_instance_uid for forward in node.forwards("archive1")}
    [held] = site.ledger.studies.instances(study, sop_instance_uids=[uid])
    other = replace(held, digest="other", path="other.dcm")
    site.ledger.studies.instance_stored(other)
    planned = Forward("archive1", "", Priority.ROUTINE, "all", (key_of(other),))
    site.ledger.routing.forward_at_once(study, [planned], world.now)
    node.run()
    assert ends(node) == {"PROVEN": 3}
    assert archive.stores[uid] == 2
    assert archive.kept == {**was, uid: "other"}


def test_what_is_proven_goes_again_as_a_whole_if_a_person_says_so(site: Site) -> None:
    archive, node, world = forwarding(site, number=70)
    node.run()
    [forward] = node.forwards("archive1")
    assert site.ledger.forwards.retry(forward.forward_id, world.now)
    node.run()
    assert Counter(archive.stores.values()) == {2: 70}
    assert ends(node) == {"PROVEN": 70}


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
