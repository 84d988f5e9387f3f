"""Peers that lie, stall, flood and vanish, against one whole node.

Every case runs inside of `node.case(...)`, which names the event that the case must leave in the
ledger. When it ends, a C-ECHO is answered at once, no thread, descriptor or half instance is left,
the log has no traceback and nobody's name, and the ledger has that one row about it and no other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from dicom_node.errors import PeerUnreachable
from dicom_node.harness.answers import Aborted, Accepted, Closed, Data, Rejected, Released
from dicom_node.harness.pdu import (
    NO_DATA_SET,
    VERIFICATION,
    Context,
    PduType,
    abort,
    associate_rq,
    c_echo_rq,
    c_store_rq,
    command_set,
    item,
    p_data,
    pdu,
    pdv,
    release_rq,
    ui,
    us,
)
from dicom_node.harness.peer import ScriptedPeer
from tests.protocol.attacks import (
    ABORTED,
    AE_TITLE,
    AT_ONCE_S,
    BROKEN,
    COMMAND,
    CONTEXTS,
    CT_ID,
    CT_IMAGE,
    ECHO_ID,
    FOUR_GIB,
    LAST,
    LOST,
    MIB,
    REFUSED,
    REFUSED_ID,
    REJECTED,
    SECONDARY_CAPTURE,
    STORE_ID,
    SUCCESS,
    TIMED_OUT,
    WHOLE_COMMAND,
    Vanish,
    aborted,
    client_hello,
    data_set,
    event_of,
    gone,
    new_instance,
    new_uid,
    noise,
    rows,
    store_rq,
)
from tests.protocol.hostile import (
    ASSOCIATIONS_MAX,
    CONNECTIONS_MAX,
    IDLE_TIMEOUT_S,
    LINGER_S,
    NEGOTIATION_TIMEOUT_S,
    READ_TIMEOUT_S,
    Case,
    NodeUnderFire,
)

# ------------------------------------------------------------ at the door

NO_REQUEST = {
    "random bytes": noise(1),
    "a hundred thousand random bytes": noise(2, 100_000),
    "an HTTP request": b"GET / HTTP/1.1\r\nHost: node\r\n\r\n",
    "a TLS ClientHello": client_hello(),
    "an unknown PDU": pdu(0x09),
    "data": p_data(pdv(STORE_ID, LAST, b"ab")),
    "a release": release_rq(),
    "an acceptance": pdu(PduType.A_ASSOCIATE_AC, bytes(68)),
    "a request of 4 GiB": associate_rq(CONTEXTS, called=AE_TITLE, length=FOUR_GIB),
    "a request of 10 bytes": pdu(PduType.A_ASSOCIATE_RQ, bytes(10)),
    "a request that ends inside of an item": pdu(
        PduType.A_ASSOCIATE_RQ, associate_rq(CONTEXTS, called=AE_TITLE)[6:-10]
    ),
    "a request with an item of 64 KB in it": pdu(
        PduType.A_ASSOCIATE_RQ,
        associate_rq([], called=AE_TITLE)[6:74] + item(0x10, b"1.2", length=0xFFFF),
    ),
}


@rows(NO_REQUEST)
def test_what_is_no_association_request_is_aborted_at_once(node: NodeUnderFire, row: bytes) -> None:
    with node.case(BROKEN) as case:
        peer = case.connect()
        peer.flood([row])
        aborted(peer)


REJECTED_REQUESTS = {
    "from an unknown peer": (associate_rq(CONTEXTS, called=AE_TITLE, calling="X"), (1, 1, 3)),
    "for another AE title": (associate_rq(CONTEXTS, called="OTHER"), (1, 1, 7)),
    "with a calling AE title of zeros": (
        associate_rq(CONTEXTS, called=AE_TITLE, calling=bytes(16)),
        (1, 1, 3),
    ),
    "with a calling AE title that is no ASCII": (
        associate_rq(CONTEXTS, called=AE_TITLE, calling=b"\xff\x1b[2J\n\\"),
        (1, 1, 3),
    ),
    "with protocol version 0": (
        associate_rq(CONTEXTS, called=AE_TITLE, protocol_version=0),
        (1, 2, 2),
    ),
    "with a foreign application context": (
        associate_rq(CONTEXTS, called=AE_TITLE, application_context="1.2.3"),
        (1, 1, 2),
    ),
}


@rows(REJECTED_REQUESTS)
def test_a_request_is_rejected_with_its_reason(
    node: NodeUnderFire, row: tuple[bytes, tuple[int, int, int]]
) -> None:
    request, reason = row
    with node.case(REJECTED) as case:
        peer = case.connect()
        peer.send(request)
        assert peer.receive(AT_ONCE_S) == Rejected(*reason)


ODD_REQUESTS = {
    "no presentation context": associate_rq([], called=AE_TITLE),
    "200 presentation contexts": associate_rq(
        [Context(context_id, VERIFICATION) for context_id in range(1, 201)], called=AE_TITLE
    ),
    "a presentation context ID twice": associate_rq(
        [Context(1, VERIFICATION), Context(1, CT_IMAGE)], called=AE_TITLE
    ),
    "an even presentation context ID": associate_rq([Context(2, VERIFICATION)], called=AE_TITLE),
    "a presentation context without abstract syntax": associate_rq(
        [Context(1, "")], called=AE_TITLE
    ),
    "a presentation context without transfer syntax": associate_rq(
        [Context(1, VERIFICATION, [])], called=AE_TITLE
    ),
    "no application context": associate_rq(CONTEXTS, called=AE_TITLE, application_context=None),
    "no user information": associate_rq(CONTEXTS, called=AE_TITLE, user_items=None),
    "no maximum length": associate_rq(CONTEXTS, called=AE_TITLE, pdu_bytes_max=None),
    "a maximum length of 1": associate_rq(CONTEXTS, called=AE_TITLE, pdu_bytes_max=1),
    "a maximum length of three bytes": associate_rq(
        CONTEXTS, called=AE_TITLE, pdu_bytes_max=None, user_items=[item(0x51, b"\0\x40\0")]
    ),
}


@rows(ODD_REQUESTS)
def test_an_odd_request_is_answered_somehow_and_noted_as_it_was_answered(
    node: NodeUnderFire, row: bytes
) -> None:
    with node.case() as case:
        peer = case.connect()
        peer.send(row)
        answer = peer.receive(AT_ONCE_S)
        assert isinstance(answer, Accepted | Rejected | Aborted), answer
        case.events = event_of(answer)
        if isinstance(answer, Accepted):
            if ECHO_ID in answer.contexts and b"\x51\0\0\x04\0\0\0\x01" not in row:
                assert peer.echo(ECHO_ID) == SUCCESS
            assert peer.release() == Released()


def test_128_presentation_contexts_are_all_accepted(node: NodeUnderFire) -> None:
    contexts = [Context(context_id, VERIFICATION) for context_id in range(1, 256, 2)]
    with node.case() as case:
        peer = case.connect()
        answer = peer.associate(contexts, called=AE_TITLE)
        assert isinstance(answer, Accepted)
        assert len(answer.contexts) == 128
        assert peer.echo(255) == SUCCESS
        assert peer.release() == Released()


@pytest.mark.parametrize("pdu_bytes_max", [0, 16, 64])
def test_answers_are_no_longer_than_the_requestor_takes(
    node: NodeUnderFire, pdu_bytes_max: int
) -> None:
    with node.case() as case:
        peer = case.associate(pdu_bytes_max=pdu_bytes_max)
        peer.send_message(ECHO_ID, c_echo_rq())
        headers: list[int] = []
        while not headers or not headers[-1] & LAST:
            answer = peer.receive()
            assert isinstance(answer, Data), answer
            assert not pdu_bytes_max or answer.length <= pdu_bytes_max
            headers += [part.header for part in answer.pdvs]
        uid, sent = new_instance()
        assert peer.store(STORE_ID, SECONDARY_CAPTURE, uid, sent) == SUCCESS
        assert peer.release() == Released()
    node.wait_kept(uid, sent)


def test_an_abort_instead_of_a_request_is_an_abort(node: NodeUnderFire) -> None:
    with node.case(ABORTED) as case:
        peer = case.connect()
        peer.send(abort())
        assert isinstance(peer.receive(AT_ONCE_S), Closed)  # PS3.8 9.2.3, AA-2


# ------------------------------------------------------------ silence


def test_who_says_nothing_is_sent_away(node: NodeUnderFire) -> None:
    with node.case(TIMED_OUT) as case:
        gone(case.connect(), NEGOTIATION_TIMEOUT_S + AT_ONCE_S)


def test_who_falls_silent_inside_of_his_request_is_sent_away(node: NodeUnderFire) -> None:
    sizes = [1, 5, 6, 100]
    with node.case(*[TIMED_OUT] * len(sizes)) as case:
        peers = [case.connect() for _ in sizes]
        for peer, size in zip(peers, sizes, strict=True):
            peer.send(associate_rq(CONTEXTS, called=AE_TITLE)[:size])
        for peer in peers:
            gone(peer, NEGOTIATION_TIMEOUT_S + AT_ONCE_S)


def test_who_drips_his_request_byte_by_byte_is_sent_away(node: NodeUnderFire) -> None:
    request = associate_rq(CONTEXTS, called=AE_TITLE)
    with node.case(TIMED_OUT) as case:
        peer = case.connect()
        began = time.monotonic()
        for byte in request:
            try:
                peer.send(bytes([byte]))
                assert isinstance(peer.receive(0.2), Aborted | Closed)
                break
            except TimeoutError:
                continue
            except PeerUnreachable:
                break
        assert time.monotonic() - began < NEGOTIATION_TIMEOUT_S + AT_ONCE_S


def test_who_stalls_inside_of_a_data_pdu_is_aborted(node: NodeUnderFire) -> None:
    sizes = {new_uid(): size for size in (3, 6, 11, 500)}
    with node.case(*[TIMED_OUT] * len(sizes)) as case:
        peers = [case.associate() for _ in sizes]
        for peer, (uid, size) in zip(peers, sizes.items(), strict=True):
            peer.send(store_rq(uid) + p_data(pdv(STORE_ID, LAST, bytes(1000)))[:size])
        for peer in peers:
            aborted(peer, READ_TIMEOUT_S + AT_ONCE_S)
    assert not any(node.is_kept(uid) for uid in sizes)


def test_who_stalls_between_the_pdus_of_an_instance_is_aborted(node: NodeUnderFire) -> None:
    uid, sent = new_instance()
    with node.case(TIMED_OUT) as case:
        peer = case.associate()
        peer.send(store_rq(uid) + p_data(pdv(STORE_ID, 0, sent)))
        aborted(peer, max(READ_TIMEOUT_S, IDLE_TIMEOUT_S) + AT_ONCE_S)
    assert not node.is_kept(uid)


def test_an_idle_association_is_aborted(node: NodeUnderFire) -> None:
    with node.case(TIMED_OUT) as case:
        peer = case.associate()
        assert peer.echo(ECHO_ID) == SUCCESS
        began = time.monotonic()
        aborted(peer, IDLE_TIMEOUT_S + AT_ONCE_S)
        assert time.monotonic() - began > IDLE_TIMEOUT_S / 2


def test_after_the_end_the_node_closes_even_if_the_peer_does_not(node: NodeUnderFire) -> None:
    with node.case(BROKEN, REJECTED) as case:
        released, broken, rejected = case.associate(), case.associate(), case.connect()
        assert released.release() == Released()
        broken.send(pdu(0x09))
        assert isinstance(rejected.associate(CONTEXTS, called="OTHER"), Rejected)
        for peer in (released, broken, rejected):
            peer.read_until_closed(LINGER_S + AT_ONCE_S)


def test_after_the_peers_abort_the_node_closes_at_once(node: NodeUnderFire) -> None:
    with node.case(ABORTED) as case:
        peer = case.associate()
        peer.send(abort())
        assert isinstance(peer.receive(AT_ONCE_S), Closed)  # PS3.8 9.2.3, AA-3


# ------------------------------------------------------------ inside of an association

BREACHES = {
    "a PDV longer than its PDU": p_data(pdv(STORE_ID, WHOLE_COMMAND, b"ab", length=100)),
    "a PDV of length 0": p_data(pdv(STORE_ID, WHOLE_COMMAND, b"", length=0)),
    "a PDV of length 1": p_data(pdv(STORE_ID, WHOLE_COMMAND, b"", length=1)),
    "a PDV of 4 GiB": p_data(pdv(STORE_ID, WHOLE_COMMAND, b"ab", length=FOUR_GIB)),
    "a P-DATA-TF too short for a PDV": p_data(b"\0\0\0"),
    "a P-DATA-TF with half a PDV at its end": p_data(
        pdv(STORE_ID, COMMAND, c_echo_rq()[:20]), b"\0\0\0"
    ),
    "a refused presentation context": p_data(
        pdv(REFUSED_ID, WHOLE_COMMAND, c_store_rq("1.2.826.0.1.3680043.10.1714.8", "1.2.3"))
    ),
    "a presentation context that was not proposed": p_data(pdv(99, WHOLE_COMMAND, c_echo_rq())),
    "an even presentation context ID": p_data(pdv(2, WHOLE_COMMAND, c_echo_rq())),
    "the presentation context ID 0": p_data(pdv(0, WHOLE_COMMAND, c_echo_rq())),
    "data before a command": p_data(pdv(STORE_ID, LAST, data_set("1.2.3"))),
    "a second command before the data are complete": store_rq("1.2.3")
    + p_data(pdv(STORE_ID, 0, data_set("1.2.3")))
    + store_rq("1.2.4"),
    "a second command instead of data": store_rq("1.2.3") + store_rq("1.2.4"),
    "data of another presentation context than the command's": store_rq("1.2.3")
    + p_data(pdv(CT_ID, LAST, data_set("1.2.3"))),
    "a command in two presentation contexts": p_data(pdv(STORE_ID, COMMAND, c_echo_rq()[:20]))
    + p_data(pdv(ECHO_ID, WHOLE_COMMAND, c_echo_rq()[20:])),
    "a command of random bytes": p_data(pdv(STORE_ID, WHOLE_COMMAND, noise(3))),
    "a command that ends inside of a value": p_data(pdv(ECHO_ID, WHOLE_COMMAND, c_echo_rq()[:-1])),
    "a command without a Command Field": p_data(
        pdv(ECHO_ID, WHOLE_COMMAND, command_set([(0x0110, us(1))]))
    ),
    "an empty command": p_data(pdv(ECHO_ID, WHOLE_COMMAND, b"")),
    "a second association request": associate_rq(CONTEXTS, called=AE_TITLE),
    "an acceptance": pdu(PduType.A_ASSOCIATE_AC, bytes(68)),
    "a rejection": pdu(PduType.A_ASSOCIATE_RJ, b"\0\1\1\1"),
    "a release response that nobody asked for": pdu(PduType.A_RELEASE_RP, bytes(4)),
    "an unknown PDU": pdu(0x09),
    "an unknown PDU of 4 GiB": pdu(0x09, length=FOUR_GIB),
    "a release of 4 GiB": pdu(PduType.A_RELEASE_RQ, length=FOUR_GIB),
    "random bytes": noise(4),
}


@rows(BREACHES)
def test_what_breaks_the_protocol_is_aborted_at_once(node: NodeUnderFire, row: bytes) -> None:
    with node.case(BROKEN) as case:
        peer = case.associate()
        peer.send(row)
        aborted(peer)
    assert not node.is_kept("1.2.3")


@pytest.mark.parametrize("too_much", [1, 0xFFFFFFFF])
def test_a_pdu_longer_than_announced_is_aborted_before_it_is_read(
    node: NodeUnderFire, too_much: int
) -> None:
    with node.case(BROKEN) as case:
        peer = case.connect()
        accepted = peer.associate(CONTEXTS, called=AE_TITLE)
        assert isinstance(accepted, Accepted)
        assert accepted.pdu_bytes_max
        length = min(FOUR_GIB, accepted.pdu_bytes_max + too_much)
        head = p_data(pdv(STORE_ID, 0, b"", length=length - 4), length=length)
        assert stays_small(node, peer, head, bytes(65536))


def test_a_command_without_end_is_aborted_before_it_fills_the_memory(node: NodeUnderFire) -> None:
    with node.case(BROKEN) as case:
        peer = case.associate()
        assert stays_small(node, peer, b"", p_data(pdv(STORE_ID, COMMAND, bytes(16000))))


def stays_small(node: NodeUnderFire, peer: ScriptedPeer, head: bytes, piece: bytes) -> bool:
    """Send 16 MiB after `head`; return whether the node ended it without taking them in."""
    before = node.memory_bytes()
    grown: list[int] = []

    def pieces() -> Iterator[bytes]:
        yield head
        for _ in range(16 * MIB // len(piece)):
            grown.append(node.memory_bytes() - before)
            yield piece

    peer.flood(pieces())
    gone(peer)
    grown.append(node.memory_bytes() - before)
    return max(grown) < 4 * MIB


def test_who_reads_no_answers_is_not_read_from_for_ever(node: NodeUnderFire) -> None:
    with node.case() as case:
        case.some_of = frozenset({LOST, TIMED_OUT})
        peer = case.connect(timeout_s=2.0, receive_buffer_bytes=4096)
        assert isinstance(peer.associate(CONTEXTS, called=AE_TITLE), Accepted)
        before = node.memory_bytes()
        echoes = p_data(pdv(ECHO_ID, WHOLE_COMMAND, c_echo_rq())) * 1000
        peer.flood(echoes for _ in range(24 * MIB // len(echoes)))
        assert node.memory_bytes() - before < 8 * MIB


def test_a_command_that_nobody_knows_is_refused_or_aborted(node: NodeUnderFire) -> None:
    unknown = command_set(
        [(0x0002, ui(VERIFICATION)), (0x0100, us(0x0777)), (0x0110, us(1)), (0x0800, us(0x0101))]
    )
    with node.case() as case:
        peer = case.associate()
        peer.send_message(ECHO_ID, unknown)
        end_as_it_likes(case, peer)


def test_an_echo_in_the_context_of_an_image_is_answered_or_aborted(node: NodeUnderFire) -> None:
    with node.case() as case:
        peer = case.associate()
        peer.send_message(CT_ID, c_echo_rq())
        end_as_it_likes(case, peer, SUCCESS)


def test_a_store_in_the_context_of_an_echo_is_refused_or_aborted(node: NodeUnderFire) -> None:
    uid, sent = new_instance()
    with node.case() as case:
        peer = case.associate()
        peer.send_message(ECHO_ID, c_store_rq(SECONDARY_CAPTURE, uid), sent)
        end_as_it_likes(case, peer)
    assert not node.is_kept(uid)


def test_a_store_that_announces_no_data_set_is_refused_or_aborted(node: NodeUnderFire) -> None:
    with node.case() as case:
        peer = case.associate()
        peer.send(store_rq(new_uid(), data_set_type=NO_DATA_SET))
        end_as_it_likes(case, peer)


def end_as_it_likes(case: Case, peer: ScriptedPeer, *fine: int) -> None:
    """Take a failure (or a status that is fine) and release, or an A-ABORT; expect what fits."""
    try:
        status = peer.receive_status()
    except PeerUnreachable:  # an A-ABORT instead
        case.events = (BROKEN,)
        return
    assert status in fine or 0xA000 <= status < 0xD000 or 0x0100 <= status < 0x0300
    case.maybe = frozenset({REFUSED})
    assert peer.release() == Released()


def test_a_release_inside_of_a_data_set_keeps_nothing(node: NodeUnderFire) -> None:
    uid, sent = new_instance()
    with node.case() as case:
        peer = case.associate()
        peer.send(store_rq(uid) + p_data(pdv(STORE_ID, 0, sent)) + release_rq())
        answer = peer.receive(AT_ONCE_S)
        assert isinstance(answer, Released | Aborted), answer
        case.events = event_of(answer)
    assert not node.is_kept(uid)


def test_an_idle_association_that_is_reset_is_lost(node: NodeUnderFire) -> None:
    with node.case(LOST) as case:
        case.associate().reset()


# ------------------------------------------------------------ crowds


def test_a_thousand_silent_connections_hinder_nobody(node: NodeUnderFire) -> None:
    uid, sent = new_instance()
    with node.case() as case:
        case.some_of = frozenset({LOST, TIMED_OUT})
        threads = node.threads()
        for _ in range(1000):
            case.connect()
        began = time.monotonic()
        honest = case.associate()
        assert honest.echo(ECHO_ID) == SUCCESS
        assert honest.store(STORE_ID, SECONDARY_CAPTURE, uid, sent) == SUCCESS
        assert honest.release() == Released()
        assert time.monotonic() - began < AT_ONCE_S
        assert node.threads() <= threads
    node.wait_kept(uid, sent)


def test_a_store_beside_200_silent_connections_is_served_at_once(node: NodeUnderFire) -> None:
    uid, sent = new_instance()
    with node.case() as case:
        case.some_of = frozenset({LOST, TIMED_OUT})
        for _ in range(200):
            case.connect()
        began = time.monotonic()
        honest = case.associate()
        assert honest.store(STORE_ID, SECONDARY_CAPTURE, uid, sent) == SUCCESS
        taken_s = time.monotonic() - began
        assert honest.release() == Released()
        print(f"a store beside 200 silent connections: {1000 * taken_s:.1f} ms")
        assert taken_s < AT_ONCE_S
    node.wait_kept(uid, sent)


def test_one_connection_too_many_is_closed_and_hinders_nobody_later(node: NodeUnderFire) -> None:
    with node.case() as case:
        case.some_of = frozenset({REJECTED, LOST, TIMED_OUT})
        for _ in range(CONNECTIONS_MAX):
            case.connect()
        assert isinstance(case.connect().receive(AT_ONCE_S), Closed)


def test_one_association_too_many_may_try_again_later(node: NodeUnderFire) -> None:
    with node.case(REJECTED) as case:
        peers = [case.associate() for _ in range(ASSOCIATIONS_MAX)]
        local_limit_exceeded = Rejected(2, 3, 2)
        assert case.connect().associate(CONTEXTS, called=AE_TITLE) == local_limit_exceeded
        assert peers.pop().release() == Released()
        peers.append(case.associate())
        for peer in peers:
            assert peer.echo(ECHO_ID) == SUCCESS
            assert peer.release() == Released()


@pytest.mark.parametrize("leave", [ScriptedPeer.close, ScriptedPeer.reset], ids=["FIN", "RST"])
def test_a_port_scan_leaves_no_trace_but_a_row(node: NodeUnderFire, leave: Vanish) -> None:
    with node.case() as case:
        case.some_of = frozenset({LOST})
        peers = [case.connect() for _ in range(100)]
        for peer in peers:
            leave(peer)


def test_a_load_balancer_may_connect_and_leave_again_and_again(node: NodeUnderFire) -> None:
    with node.case() as case:
        case.some_of = frozenset({LOST})
        for _ in range(20):
            case.connect().close()


def test_a_load_balancer_may_echo_again_and_again(node: NodeUnderFire) -> None:
    with node.case() as case:
        for _ in range(20):
            peer = case.connect()
            assert isinstance(peer.associate(called=AE_TITLE), Accepted)
            assert peer.echo() == SUCCESS
            assert peer.release() == Released()
            peer.close()
