"""How many may come, how much they may send, and how long they may be silent."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from dicom_node.config.settings import Peer
from dicom_node.harness.answers import Aborted, Accepted, Answer, Closed, Rejected
from dicom_node.harness.pdu import (
    VERIFICATION,
    Context,
    associate_rq,
    c_echo_rq,
    c_store_rq,
    fragments,
    p_data,
    pdv,
)
from dicom_node.harness.peer import ScriptedPeer
from dicom_node.model import Event
from tests.door import Door
from tests.factories import CT_SERIES, STUDY, make_instance
from tests.node_process import wait_until
from tests.unit.receive.data_sets import EXPLICIT, encoded

CT = "1.2.840.10008.5.1.4.1.1.2"
CONTEXTS = [Context(1, VERIFICATION), Context(3, CT, [EXPLICIT])]
LOCAL_LIMIT_EXCEEDED = Rejected(2, 3, 2)  # transient: it may try again (PS3.8 9.3.4)
SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
MIB = 1 << 20
SHORT_S = 0.3

PEERS = {
    "scanner": Peer(ae_title="SCANNER", may_send=True),
    "ct2": Peer(ae_title="CT2", may_send=True),
}


def connected(door: Door, **fields: str) -> tuple[ScriptedPeer, Answer]:
    """Return a peer that asked for an association, and the answer."""
    peer = ScriptedPeer("127.0.0.1", door.port).connect()
    return peer, peer.associate(CONTEXTS, called="DICOM_NODE", **fields)


def noted(door: Door, name: str) -> list[Event]:
    """Wait for an event of this name, which comes behind the answer, and return all of them."""
    wait_until(lambda: bool(door.catch_up().events.named(name)), 5.0, name)
    return door.ledger.events.named(name)


# ------------------------------------------------------------ how many


def test_beyond_associations_max_the_next_is_rejected_until_one_ends(tmp_path: Path) -> None:
    with Door(tmp_path, associations_max=2) as door:
        first, answer = connected(door)
        second, _ = connected(door)
        third, rejected = connected(door)
        assert isinstance(answer, Accepted)
        assert rejected == LOCAL_LIMIT_EXCEEDED
        [event] = noted(door, "REJECTED")
        assert "receive.associations_max" in event.reason
        first.release()
        fourth, accepted = connected(door)
        assert isinstance(accepted, Accepted)
        for peer in (first, second, third, fourth):
            peer.close()


def test_beyond_associations_per_peer_max_others_are_still_let_in(tmp_path: Path) -> None:
    with Door(tmp_path, peers=PEERS, associations_per_peer_max=2) as door:
        peers = [connected(door)[0] for _ in range(2)]
        third, rejected = connected(door)
        other, accepted = connected(door, calling="CT2")
        assert rejected == LOCAL_LIMIT_EXCEEDED
        assert isinstance(accepted, Accepted)
        [event] = noted(door, "REJECTED")
        assert "receive.associations_per_peer_max" in event.reason
        assert event.subject == "SCANNER"
        for peer in (*peers, third, other):
            peer.close()


def test_an_association_that_was_lost_makes_room(tmp_path: Path) -> None:
    with Door(tmp_path, associations_max=1) as door:
        first, _ = connected(door)
        first.reset()
        wait_until(lambda: isinstance(_asked(door), Accepted), 5.0, "room")


def _asked(door: Door) -> Answer:
    peer, answer = connected(door)
    peer.close()
    return answer


def test_beyond_connections_max_the_next_is_closed_at_once(tmp_path: Path) -> None:
    with Door(tmp_path, connections_max=2) as door:
        silent = ScriptedPeer("127.0.0.1", door.port).connect()
        first, answer = connected(door)
        assert isinstance(answer, Accepted)
        with ScriptedPeer("127.0.0.1", door.port) as third:
            assert isinstance(third.receive(), Closed)
        [event] = noted(door, "REJECTED")
        assert "receive.connections_max" in event.reason
        assert event.subject == "127.0.0.1"
        silent.close()
        wait_until(lambda: isinstance(_asked(door), Accepted), 5.0, "room")
        first.close()


# ------------------------------------------------------------ how much


@pytest.mark.parametrize("size", [MIB, 6 * MIB], ids=["in memory", "in a file"])
def test_an_instance_beyond_instance_bytes_max_is_refused_and_the_next_one_taken(
    size: int, tmp_path: Path
) -> None:
    pixels: dict[str, Any] = {"Rows": size // 512, "Columns": 256, "PixelData": bytes(size)}
    large = encoded(make_instance(number=1, **pixels), EXPLICIT)
    small = encoded(make_instance(number=2), EXPLICIT)
    with Door(tmp_path, instance_bytes_max=len(large) - 1) as door:
        peer, _ = connected(door)
        assert peer.store(3, CT, f"{CT_SERIES}.1", large) == OUT_OF_RESOURCES
        assert peer.store(3, CT, f"{CT_SERIES}.2", small) == SUCCESS
        peer.release()
        ledger = door.catch_up()
        [instance] = ledger.studies.instances(STUDY)
        assert instance.sop_instance_uid == f"{CT_SERIES}.2"
        [event] = ledger.events.named("REFUSED")
        assert "receive.instance_bytes_max" in event.reason
        assert list(door.store.incoming.iterdir()) == []


def test_an_instance_of_just_instance_bytes_max_is_taken(tmp_path: Path) -> None:
    data_set = encoded(make_instance(), EXPLICIT)
    with Door(tmp_path, instance_bytes_max=len(data_set)) as door:
        peer, _ = connected(door)
        assert peer.store(3, CT, f"{CT_SERIES}.1", data_set) == SUCCESS
        peer.release()


# ------------------------------------------------------------ how long


def say_nothing(peer: ScriptedPeer) -> None:
    pass


def say_half(peer: ScriptedPeer) -> None:
    peer.send(associate_rq(CONTEXTS, called="DICOM_NODE")[:-1])


@pytest.mark.parametrize(
    ("act", "words"), [(say_nothing, "anything"), (say_half, "an association request")]
)
def test_who_asks_for_no_association_is_closed(
    act: Callable[[ScriptedPeer], None], words: str, tmp_path: Path
) -> None:
    with (
        Door(tmp_path, negotiation_timeout_s=SHORT_S) as door,
        ScriptedPeer("127.0.0.1", door.port) as peer,
    ):
        began = time.monotonic()
        act(peer)
        assert isinstance(peer.receive(), Closed)
        assert time.monotonic() - began >= SHORT_S
        [event] = noted(door, "TIMED_OUT")
        assert f"did not send {words} within receive.negotiation_timeout_s" in event.reason


def test_a_request_that_trickles_in_is_not_waited_for_longer(tmp_path: Path) -> None:
    with (
        Door(tmp_path, negotiation_timeout_s=SHORT_S, read_timeout_s=30) as door,
        ScriptedPeer("127.0.0.1", door.port) as peer,
    ):
        began = time.monotonic()
        for byte in associate_rq(CONTEXTS, called="DICOM_NODE"):
            peer.flood([bytes([byte])])
            try:
                answer = peer.receive(0.02)
            except TimeoutError:
                continue
            break
        assert isinstance(answer, Closed)
        assert time.monotonic() - began < 10 * SHORT_S


HALVES = {
    "within a PDU": p_data(pdv(1, 0x03, c_echo_rq()))[:-1],
    "within a command": p_data(pdv(1, 0x01, c_echo_rq()[:10])),
    "before its data set": p_data(pdv(3, 0x03, c_store_rq(CT, "1.2.3"))),
    "within a data set": p_data(pdv(3, 0x03, c_store_rq(CT, "1.2.3")))
    + p_data(pdv(3, 0x00, bytes(4000))),
}


@pytest.mark.parametrize("name", HALVES)
def test_who_stops_in_the_middle_is_aborted(name: str, tmp_path: Path) -> None:
    with Door(tmp_path, read_timeout_s=SHORT_S) as door:
        peer, _ = connected(door)
        peer.send(HALVES[name])
        assert isinstance(peer.receive(), Aborted)
        [event] = noted(door, "TIMED_OUT")
        assert "receive.read_timeout_s" in event.reason
        assert list(door.store.incoming.iterdir()) == []
        peer.close()


def test_who_is_slow_but_never_stops_is_waited_for(tmp_path: Path) -> None:
    data_set = encoded(make_instance(), EXPLICIT)
    with Door(tmp_path, read_timeout_s=SHORT_S, idle_timeout_s=SHORT_S) as door:
        peer, _ = connected(door)
        began = time.monotonic()
        peer.send(p_data(pdv(3, 0x03, c_store_rq(CT, f"{CT_SERIES}.1"))))
        for fragment in fragments(3, data_set, len(data_set) // 12):
            peer.send(p_data(fragment))
            time.sleep(SHORT_S / 6)  # the peer's pace is what is tested
        assert peer.receive_status() == SUCCESS
        assert time.monotonic() - began > 1.5 * SHORT_S
        peer.close()


def test_an_association_on_which_nothing_happens_is_aborted(tmp_path: Path) -> None:
    with Door(tmp_path, idle_timeout_s=SHORT_S, read_timeout_s=30) as door:
        peer, _ = connected(door)
        assert peer.echo() == SUCCESS
        assert isinstance(peer.receive(), Aborted)
        [event] = noted(door, "TIMED_OUT")
        assert "receive.idle_timeout_s" in event.reason
        peer.close()


def test_who_does_not_read_his_answers_is_aborted(tmp_path: Path) -> None:
    with Door(tmp_path, read_timeout_s=SHORT_S) as door:
        peer = ScriptedPeer("127.0.0.1", door.port, timeout_s=SHORT_S / 2).connect()
        peer.associate(CONTEXTS, called="DICOM_NODE")
        echoes = b"".join(p_data(one) for one in fragments(1, c_echo_rq(), 1000, command=True))
        sent_bytes = peer.flood(repeat(echoes * 1000, 1000))
        assert sent_bytes < 1000 * len(echoes * 1000)
        [event] = noted(door, "TIMED_OUT")
        # we stop reading when our answers pile up: he may be stuck between two messages or in one
        assert re.search("read no answer|stopped within a message", event.reason)
        assert "receive.read_timeout_s" in event.reason
        peer.close()


def test_after_the_last_word_a_peer_that_does_not_close_is_closed(tmp_path: Path) -> None:
    with Door(tmp_path, connections_max=1, idle_timeout_s=SHORT_S) as door:
        peer, _ = connected(door)
        peer.release()
        began = time.monotonic()
        assert isinstance(peer.receive(), Closed)
        assert time.monotonic() - began < 5.0
        assert isinstance(_asked(door), Accepted)
        assert door.catch_up().events.named("TIMED_OUT") == []
        peer.close()


def test_a_silent_crowd_does_not_keep_others_waiting(tmp_path: Path) -> None:
    with Door(tmp_path) as door:
        crowd = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(200)]
        began = time.monotonic()
        peer, _ = connected(door)
        assert peer.echo() == SUCCESS
        assert time.monotonic() - began < 2.0
        for one in crowd:
            one.close()
        peer.close()
