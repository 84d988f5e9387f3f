"""Two receivers on one port: both take associations, and one goes on while the other is dead."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicom_node.errors import PeerUnreachable
from dicom_node.harness.answers import Accepted, Closed
from dicom_node.harness.pdu import Context, associate_rq
from dicom_node.harness.peer import ScriptedPeer
from dicom_node.ledger.ledger import Ledger
from dicom_node.model import Instance
from tests.factories import CT_SERIES, STUDY, make_instance
from tests.node_process import node_without_engines, wait_until
from tests.unit.receive.data_sets import EXPLICIT, encoded

CT = "1.2.840.10008.5.1.4.1.1.2"
CONTEXTS = [Context(1, CT, [EXPLICIT])]
SUCCESS = 0x0000
CHILDREN = {"0": "receiver", "1": "receiver-1"}
"""By the name of the log that each writes."""
QUIET_S = 3600


class Pair:
    """A node with two receivers."""

    def __init__(self, folder: Path, port: int) -> None:
        self.node = node_without_engines(
            folder,
            port,
            receive={"receivers": 2},
            assemble={
                "quiet_after_release_s": QUIET_S,
                "quiet_otherwise_s": QUIET_S,
                "longest_wait_s": QUIET_S,
            },
        ).start()
        wait_until(lambda: self.node.log().count('"listening"') == 2, 30, "the second receiver")
        self.ledger: Ledger = self.node.ledger()
        self.sent = 0

    def associate(self, timeout_s: float = 5.0) -> ScriptedPeer:
        peer = ScriptedPeer("127.0.0.1", self.node.port, timeout_s).connect()
        assert isinstance(peer.associate(CONTEXTS, called="DICOM_NODE"), Accepted)
        return peer

    def store(self, peer: ScriptedPeer) -> str:
        """Store another instance; return its SOP Instance UID."""
        self.sent += 1
        data_set = encoded(make_instance(number=self.sent), EXPLICIT)
        uid = f"{CT_SERIES}.{self.sent}"
        assert peer.store(1, CT, uid, data_set) == SUCCESS
        return uid

    def instance(self, uid: str) -> Instance:
        """Wait for the row of an instance that was acknowledged."""
        instances = self.ledger.studies.instances
        wait_until(lambda: any(i.sop_instance_uid == uid for i in instances(STUDY)), 30, "the row")
        [instance] = [i for i in instances(STUDY) if i.sop_instance_uid == uid]
        return instance

    def log_of(self, peer: ScriptedPeer) -> str:
        """Return the name of the log of the receiver that serves a peer."""
        return self.instance(self.store(peer)).path.split("/")[1]

    def pid(self, log: str) -> int:
        return self.node.child_pid(CHILDREN[log])

    @contextmanager
    def only(self, log: str) -> Iterator[None]:
        """Let only the receiver of this log run."""
        [other] = [self.pid(name) for name in CHILDREN if name != log]
        os.kill(other, signal.SIGSTOP)
        wait_until(lambda: _is_stopped(other), 10, "the stop")
        try:
            yield
        finally:
            os.kill(other, signal.SIGCONT)

    def associate_with(self, log: str) -> ScriptedPeer:
        """Return a peer of the receiver of this log.

        Who connects while the other one is stopped may have woken that one, and waits.
        """
        waiting: list[ScriptedPeer] = []
        with self.only(log):
            while True:
                peer = ScriptedPeer("127.0.0.1", self.node.port).connect()
                peer.send(associate_rq(CONTEXTS, called="DICOM_NODE"))
                try:
                    answer = peer.receive(1.0)
                except TimeoutError:
                    waiting.append(peer)
                    assert len(waiting) < 20
                    continue
                assert isinstance(answer, Accepted)
                break
        for one in waiting:
            one.close()
        return peer

    def kill(self, log: str) -> None:
        os.kill(self.pid(log), signal.SIGKILL)

    def restarts(self) -> list[str]:
        return [event.reason for event in self.ledger.events.named("RESTARTED")]

    def stop(self) -> int:
        self.ledger.close()
        return self.node.stop()


def _is_stopped(pid: int) -> bool:
    """Return whether no thread of a process runs any more: a signal takes its time."""
    states = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(state.rpartition(")")[2].split()[0] == "T" for state in states)


@pytest.fixture
def pair(tmp_path: Path, free_port: int) -> Iterator[Pair]:
    pair = Pair(tmp_path, free_port)
    yield pair
    assert pair.stop() == 0


def test_both_take_associations_of_one_study(pair: Pair) -> None:
    one, other = pair.associate_with("0"), pair.associate_with("1")
    assert (pair.log_of(one), pair.log_of(other)) == ("0", "1")
    assert pair.log_of(one) == "0"
    one.release()
    other.release()
    instances = pair.ledger.studies.instances(STUDY)
    assert len({instance.association_id for instance in instances}) == 2
    for instance in instances:
        place = pair.node.data / instance.path.split("@")[0]
        assert place.exists()
    study = pair.ledger.studies.get(STUDY)
    assert study is not None
    assert study.revision == 1


@pytest.mark.parametrize("dead", CHILDREN)
def test_one_goes_on_while_the_other_is_dead_and_the_dead_one_comes_back(
    dead: str, pair: Pair
) -> None:
    [alive] = [name for name in CHILDREN if name != dead]
    killed, going_on = pair.associate_with(dead), pair.associate_with(alive)
    before = [pair.store(killed) for _ in range(5)]
    pair.store(going_on)
    old_pid = pair.pid(dead)
    pair.kill(dead)
    assert isinstance(killed.receive(), Closed)
    during = [pair.store(going_on) for _ in range(5)]
    wait_until(lambda: pair.pid(dead) != old_pid, 30, "a new receiver")
    for uid in [*before, *during]:  # acknowledged means durable
        assert pair.instance(uid).path.startswith(f"log/{dead if uid in before else alive}/")
    wait_until(lambda: bool(pair.restarts()), 30, "the event")
    [reason] = pair.restarts()
    assert "1 associations were lost" in reason
    back = pair.associate_with(dead)
    assert pair.log_of(back) == dead
    assert pair.log_of(going_on) == alive  # still the same association
    back.release()
    going_on.release()
    killed.close()


def test_who_connects_while_both_are_dead_is_served_when_they_are_back(pair: Pair) -> None:
    for log in CHILDREN:
        pair.kill(log)
    peer = pair.associate(timeout_s=30.0)
    pair.instance(pair.store(peer))
    peer.release()
    wait_until(lambda: len(pair.restarts()) == 2, 30, "both restarts")


def test_what_is_under_way_when_it_dies_is_sent_again_and_kept_once(pair: Pair) -> None:
    """The sender has no answer, so it sends again; the log may have it already."""
    peer = pair.associate_with("0")
    pair.store(peer)
    pair.kill("0")
    sent = store_until_it_breaks(pair, peer)
    again = pair.associate(timeout_s=30.0)
    for number in range(1, sent + 1):
        data_set = encoded(make_instance(number=number), EXPLICIT)
        assert again.store(1, CT, f"{CT_SERIES}.{number}", data_set) == SUCCESS
    again.release()
    pair.instance(f"{CT_SERIES}.{sent}")
    assert len(pair.ledger.studies.instances(STUDY)) == sent
    peer.close()


def store_until_it_breaks(pair: Pair, peer: ScriptedPeer) -> int:
    """Return how many instances were sent on the pair, the one without an answer counted."""
    while True:
        try:
            pair.store(peer)
        except PeerUnreachable:
            return pair.sent


def test_a_node_with_two_receivers_stops_and_starts_again(pair: Pair) -> None:
    peers = [pair.associate_with("0"), pair.associate_with("1")]
    uids = [pair.store(peer) for peer in peers]
    pair.ledger.close()
    assert pair.node.stop() == 0
    pair.node.start()
    pair.ledger = pair.node.ledger()
    for uid, log in zip(uids, CHILDREN, strict=True):
        assert pair.instance(uid).path.startswith(f"log/{log}/")
    for peer in peers:
        peer.close()
