"""Peers that lie, stall, flood and vanish, against one whole node.

Every case runs inside of `node.case(...)`, which names the event that the case must leave in the
ledger. When it ends, a C-ECHO is answered at once, no thread, descriptor or half instance is left,
the log has no traceback and nobody's name, and the ledger has that one row about it and no other.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

import pytest

from dicom_node.errors import PeerUnreachable
from dicom_node.harness.answers import Aborted, Accepted, Closed, Data, Rejected, Released
from dicom_node.harness.pdu import (
    NO_DATA_SET,
    VERIFICATION,
    Context,
    PduType,
    PdvHeader,
    abort,
    associate_rq,
    c_echo_rq,
    c_store_rq,
    command_set,
    fragments,
    item,
    p_data,
    pdu,
    pdv,
    release_rq,
    ui,
    us,
)
from dicom_node.harness.peer import ScriptedPeer
from tests.protocol.hostile import (
    ABORTED,
    AE_TITLE,
    ASSOCIATIONS_MAX,
    AT_ONCE_S,
    BROKEN,
    CONTEXTS,
    CT_ID,
    CT_IMAGE,
    ECHO_ID,
    IDLE_TIMEOUT_S,
    LOST,
    NEGOTIATION_TIMEOUT_S,
    READ_TIMEOUT_S,
    REFUSED,
    REFUSED_ID,
    REJECTED,
    SECONDARY_CAPTURE,
    STORE_ID,
    TIMED_OUT,
    Case,
    NodeUnderFire,
    aborted,
    data_set,
    event_of,
    gone,
    new_instance,
    new_uid,
)

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
REFUSALS = {DOES_NOT_MATCH, CANNOT_UNDERSTAND}

LAST = PdvHeader.LAST
COMMAND = PdvHeader.COMMAND
WHOLE_COMMAND = COMMAND | LAST
FOUR_GIB = 0xFFFFFFFF
MIB = 1 << 20
ESCAPE = "../../../escape"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeUnderFire]:
    running = NodeUnderFire(tmp_path_factory.mktemp("hostile"))
    running.start()
    yield running
    assert running.stop() == 0


def rows(table: Mapping[str, object]) -> pytest.MarkDecorator:
    """Return one test for each row of a table, called by the row's name."""
    return pytest.mark.parametrize("row", table.values(), ids=table.keys())


def noise(seed: int, size: int = 500) -> bytes:
    """Return random bytes that do not begin with the type of a PDU."""
    return b"\xd0" + random.Random(seed).randbytes(size)


def client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client = context.wrap_bio(incoming, outgoing, server_hostname="node")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def store_rq(uid: str, **fields: int) -> bytes:
    """Return the P-DATA-TF of a whole C-STORE-RQ."""
    return p_data(pdv(STORE_ID, WHOLE_COMMAND, c_store_rq(SECONDARY_CAPTURE, uid, **fields)))


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
        PduType.A_ASSOCIATE_RQ, associate_rq([])[6:74] + item(0x10, b"1.2", length=0xFFFF)
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
        gone(peer)


# ------------------------------------------------------------ silence


def test_who_says_nothing_is_sent_away(node: NodeUnderFire) -> None:
    with node.case(TIMED_OUT) as case:
        gone(case.connect(), NEGOTIATION_TIMEOUT_S + AT_ONCE_S)


@pytest.mark.parametrize("size", [1, 5, 6, 100])
def test_who_falls_silent_inside_of_his_request_is_sent_away(
    node: NodeUnderFire, size: int
) -> None:
    with node.case(TIMED_OUT) as case:
        peer = case.connect()
        peer.send(associate_rq(CONTEXTS, called=AE_TITLE)[:size])
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


@pytest.mark.parametrize("size", [3, 6, 11, 500])
def test_who_stalls_inside_of_a_data_pdu_is_aborted(node: NodeUnderFire, size: int) -> None:
    uid = new_uid()
    with node.case(TIMED_OUT) as case:
        peer = case.associate()
        peer.send(store_rq(uid))
        peer.send(p_data(pdv(STORE_ID, LAST, bytes(1000)))[:size])
        aborted(peer, READ_TIMEOUT_S + AT_ONCE_S)
    assert not node.is_kept(uid)


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


def test_after_an_abort_the_node_closes_even_if_the_peer_does_not(node: NodeUnderFire) -> None:
    with node.case(BROKEN) as case:
        peer = case.associate()
        peer.send(pdu(0x09))
        peer.read_until_closed(NEGOTIATION_TIMEOUT_S + AT_ONCE_S)


def test_after_a_rejection_the_node_closes_even_if_the_peer_does_not(node: NodeUnderFire) -> None:
    with node.case(REJECTED) as case:
        peer = case.connect()
        assert isinstance(peer.associate(CONTEXTS, called="OTHER"), Rejected)
        peer.read_until_closed(NEGOTIATION_TIMEOUT_S + AT_ONCE_S)


def test_after_a_release_the_node_closes_even_if_the_peer_does_not(node: NodeUnderFire) -> None:
    with node.case() as case:
        peer = case.associate()
        assert peer.release() == Released()
        peer.read_until_closed(NEGOTIATION_TIMEOUT_S + AT_ONCE_S)


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


# ------------------------------------------------------------ instances that are not what they say

Message = Callable[[str], tuple[bytes, bytes]]
"""The command and the data set for a SOP Instance UID."""


def store(
    uid: str | bytes, sent: bytes, sop_class_uid: str = SECONDARY_CAPTURE
) -> tuple[bytes, bytes]:
    return c_store_rq(sop_class_uid, uid), sent


def cut(sent: bytes, tag: bytes, beyond: int) -> bytes:
    """Return a data set that ends so many bytes after an element begins."""
    return sent[: sent.index(tag) + beyond]


SOP_INSTANCE_UID, STUDY_INSTANCE_UID = b"\x08\0\x18\0", b"\x20\0\x0d\0"
PIXEL_DATA = b"\xe0\x7f\x10\0"

NOT_KEPT: dict[str, tuple[Message, set[int]]] = {
    "no bytes at all": (lambda uid: store(uid, b""), {CANNOT_UNDERSTAND}),
    "random bytes": (lambda uid: store(uid, noise(5)), {CANNOT_UNDERSTAND}),
    "an end inside of the SOP Instance UID": (
        lambda uid: store(uid, cut(data_set(uid), SOP_INSTANCE_UID, 20)),
        {CANNOT_UNDERSTAND},
    ),
    "an end before the Study Instance UID": (
        lambda uid: store(uid, cut(data_set(uid), STUDY_INSTANCE_UID, 3)),
        {CANNOT_UNDERSTAND},
    ),
    "another SOP Instance UID than the command": (
        lambda uid: store(uid, data_set(new_uid())),
        REFUSALS,
    ),
    "another SOP Class than the command": (
        lambda uid: store(uid, data_set(uid, sop_class_uid=CT_IMAGE)),
        REFUSALS,
    ),
    "another SOP Class than the presentation context": (
        lambda uid: store(uid, data_set(uid, sop_class_uid=CT_IMAGE), CT_IMAGE),
        {DOES_NOT_MATCH, CANNOT_UNDERSTAND, 0x0122},
    ),
    "a path for a SOP Instance UID": (lambda _: store(ESCAPE, data_set(ESCAPE)), REFUSALS),
    "a path for the command's SOP Instance UID": (
        lambda uid: store(ESCAPE, data_set(uid)),
        REFUSALS,
    ),
    "a path for the data set's SOP Instance UID": (
        lambda uid: store(uid, data_set(ESCAPE)),
        REFUSALS,
    ),
    "a path for a Study Instance UID": (
        lambda uid: store(uid, data_set(uid, study_instance_uid=ESCAPE)),
        REFUSALS,
    ),
    "a path for a Series Instance UID": (
        lambda uid: store(uid, data_set(uid, series_instance_uid=ESCAPE)),
        REFUSALS,
    ),
    "a line break in a SOP Instance UID": (
        lambda uid: store(uid + "\n1", data_set(uid + "\n1")),
        REFUSALS,
    ),
    "a NUL inside of a SOP Instance UID": (
        lambda uid: store(uid + "\0.1", data_set(uid + "\0.1")),
        REFUSALS,
    ),
    "an empty SOP Instance UID": (lambda _: store(b"", data_set(b"")), REFUSALS),
    "a SOP Instance UID of 66 characters": (
        lambda _: store("1." + "2" * 64, data_set("1." + "2" * 64)),
        REFUSALS,
    ),
}


@rows(NOT_KEPT)
def test_an_instance_that_cannot_be_filed_is_refused(
    node: NodeUnderFire, row: tuple[Message, set[int]]
) -> None:
    message, statuses = row
    uid = new_uid()
    with node.case(REFUSED) as case:
        peer = case.associate()
        peer.send_message(STORE_ID, *message(uid))
        assert peer.receive_status() in statuses
        assert peer.echo(ECHO_ID) == SUCCESS
        assert peer.release() == Released()
    assert not node.is_kept(uid)
    assert [path for path in node.outermost.rglob("*") if "escape" in path.name] == []


KEPT: dict[str, Message] = {
    "UIDs padded with NUL": lambda uid: store(uid, data_set(uid)),
    "UIDs of odd length in the command": lambda uid: store(uid.encode(), data_set(uid)),
    "UIDs of odd length in the data set": lambda uid: store(uid, data_set(uid.encode())),
    "UIDs padded with a space in the command": lambda uid: store(
        uid.encode() + b" ", data_set(uid)
    ),
    "UIDs padded with a space in the data set": lambda uid: store(
        uid, data_set(uid.encode() + b" ")
    ),
    "an end inside of the pixel data": lambda uid: store(
        uid, cut(data_set(uid, pixel_bytes=1000), PIXEL_DATA, 700)
    ),
    "an end inside of the header of the pixel data": lambda uid: store(
        uid, cut(data_set(uid), PIXEL_DATA, 5)
    ),
    "six megabytes": lambda uid: store(uid, data_set(uid, pixel_bytes=6 * MIB)),
}


@rows(KEPT)
def test_an_instance_that_can_be_filed_is_kept_as_it_came(
    node: NodeUnderFire, row: Message
) -> None:
    uid = new_uid()
    command, sent = row(uid)
    with node.case() as case:
        peer = case.associate()
        peer.send_message(STORE_ID, command, sent)
        assert peer.receive_status() == SUCCESS
        assert peer.release() == Released()
    node.wait_kept(uid, sent)


# ------------------------------------------------------------ odd but right

Pdus = Callable[[bytes, bytes], bytes]
"""The bytes that carry a command and a data set."""


def pdus_of(command: bytes, sent: bytes, size: int, *, together: bool = False) -> bytes:
    """Return PDVs of `size` bytes, each in a P-DATA-TF of its own or a thousand in one."""
    pdvs = list(fragments(STORE_ID, command, size, command=True))
    pdvs += fragments(STORE_ID, sent, size)
    count = 1000 if together else 1
    return b"".join(p_data(*pdvs[at : at + count]) for at in range(0, len(pdvs), count))


CUTS: dict[str, Pdus] = {
    "PDVs of one byte": lambda command, sent: pdus_of(command, sent, 1),
    "PDVs of one byte, a thousand in a PDU": lambda command, sent: pdus_of(
        command, sent, 1, together=True
    ),
    "PDVs of seven bytes": lambda command, sent: pdus_of(command, sent, 7),
    "command and data set in one PDU": lambda command, sent: p_data(
        pdv(STORE_ID, WHOLE_COMMAND, command), pdv(STORE_ID, LAST, sent)
    ),
    "an empty PDV at the end": lambda command, sent: p_data(
        pdv(STORE_ID, COMMAND, command),
        pdv(STORE_ID, WHOLE_COMMAND, b""),
        pdv(STORE_ID, 0, sent),
        pdv(STORE_ID, LAST, b""),
    ),
    "empty PDVs in between": lambda command, sent: p_data(
        pdv(STORE_ID, COMMAND, b""),
        pdv(STORE_ID, WHOLE_COMMAND, command),
        pdv(STORE_ID, 0, b""),
        pdv(STORE_ID, LAST, sent),
    ),
}


@rows(CUTS)
def test_a_store_succeeds_however_it_is_cut(node: NodeUnderFire, row: Pdus) -> None:
    uid, sent = new_instance(pixel_bytes=2000)
    with node.case() as case:
        peer = case.associate()
        peer.send(row(c_store_rq(SECONDARY_CAPTURE, uid), sent))
        assert peer.receive_status() == SUCCESS
        assert peer.release() == Released()
    node.wait_kept(uid, sent)


def test_a_store_succeeds_with_every_byte_in_a_packet_of_its_own(node: NodeUnderFire) -> None:
    uid, sent = new_instance(pixel_bytes=500)
    with node.case() as case:
        peer = case.connect()
        peer.send(associate_rq(CONTEXTS, called=AE_TITLE), piece_bytes=1)
        assert isinstance(peer.receive(), Accepted)
        peer.send(store_rq(uid), piece_bytes=1)
        peer.send(p_data(pdv(STORE_ID, LAST, sent)), piece_bytes=1)
        assert peer.receive_status() == SUCCESS
        peer.send(release_rq(), piece_bytes=1)
        assert peer.receive() == Released()
    node.wait_kept(uid, sent)


def test_a_pdu_exactly_as_long_as_announced_is_taken(node: NodeUnderFire) -> None:
    with node.case() as case:
        peer = case.connect()
        accepted = peer.associate(CONTEXTS, called=AE_TITLE)
        assert isinstance(accepted, Accepted)
        assert accepted.pdu_bytes_max
        uid = new_uid()
        pixel_bytes = accepted.pdu_bytes_max - 6 - len(data_set(uid, pixel_bytes=8)) + 8
        sent = data_set(uid, pixel_bytes=pixel_bytes)
        assert len(sent) == accepted.pdu_bytes_max - 6
        peer.send(store_rq(uid) + p_data(pdv(STORE_ID, LAST, sent)))
        assert peer.receive_status() == SUCCESS
        assert peer.release() == Released()
    node.wait_kept(uid, sent)


def test_a_store_and_the_release_after_it_may_come_before_the_answer_is_read(
    node: NodeUnderFire,
) -> None:
    uid, sent = new_instance()
    with node.case() as case:
        peer = case.associate()
        peer.send(store_rq(uid) + p_data(pdv(STORE_ID, LAST, sent)) + release_rq())
        assert peer.receive_status() == SUCCESS
        assert peer.receive() == Released()
    node.wait_kept(uid, sent)


# ------------------------------------------------------------ gone in the middle


def half_a_store(peer: ScriptedPeer, uid: str) -> None:
    sent = data_set(uid, pixel_bytes=100_000)
    peer.send(store_rq(uid) + p_data(pdv(STORE_ID, 0, sent[:50_000])))


def abort_inside_of_a_pdu(peer: ScriptedPeer) -> None:
    peer.send(p_data(length=20_000))
    peer.abort()


def reset_inside_of_a_pdu(peer: ScriptedPeer) -> None:
    peer.send(p_data(pdv(STORE_ID, 0, bytes(9), length=19_996), length=20_000))
    peer.reset()


def half_close(peer: ScriptedPeer) -> None:
    peer.half_close()
    gone(peer)


Vanish = Callable[[ScriptedPeer], None]
VANISHINGS: dict[str, tuple[str, Vanish]] = {
    "by A-ABORT": (ABORTED, ScriptedPeer.abort),
    "by RST": (LOST, ScriptedPeer.reset),
    "by FIN": (LOST, ScriptedPeer.close),
    "by FIN, still listening": (LOST, half_close),
    # those ten bytes are data to the node, and then there is nothing more
    "by A-ABORT inside of a PDU": (LOST, abort_inside_of_a_pdu),
    "by RST inside of a PDU": (LOST, reset_inside_of_a_pdu),
}


@rows(VANISHINGS)
def test_who_vanishes_inside_of_an_instance_leaves_nothing(
    node: NodeUnderFire, row: tuple[str, Vanish]
) -> None:
    event, vanish = row
    uid = new_uid()
    with node.case(event) as case:
        peer = case.associate()
        half_a_store(peer, uid)
        vanish(peer)
    assert not node.is_kept(uid)


@pytest.mark.parametrize("vanish", [ScriptedPeer.close, ScriptedPeer.reset], ids=["FIN", "RST"])
def test_an_instance_whose_answer_nobody_reads_is_kept(node: NodeUnderFire, vanish: Vanish) -> None:
    uid, sent = new_instance()
    with node.case(LOST) as case:
        peer = case.associate()
        peer.send(store_rq(uid) + p_data(pdv(STORE_ID, LAST, sent)))
        node.wait_kept(uid, sent)
        vanish(peer)
    node.wait_kept(uid, sent)


def test_an_instance_is_kept_though_its_sender_closed_right_behind_it(node: NodeUnderFire) -> None:
    uid, sent = new_instance()
    with node.case(LOST) as case:
        peer = case.associate()
        peer.send(store_rq(uid) + p_data(pdv(STORE_ID, LAST, sent)))
        peer.close()
    node.wait_kept(uid, sent)


def test_an_instance_with_a_reset_right_behind_it_is_whole_or_not_there(
    node: NodeUnderFire,
) -> None:
    uid, sent = new_instance()
    with node.case(LOST) as case:
        peer = case.associate()
        peer.send(store_rq(uid) + p_data(pdv(STORE_ID, LAST, sent)))
        peer.reset()
    if node.is_kept(uid):
        node.wait_kept(uid, sent)


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


# ------------------------------------------------------------ the disk


def test_a_disk_that_is_full_in_the_middle_of_an_instance_is_said_to_the_sender(
    node: NodeUnderFire,
) -> None:
    lost, found = new_instance(pixel_bytes=6 * MIB), new_instance(pixel_bytes=6 * MIB)
    with node.case() as case:
        case.maybe = frozenset({REFUSED})  # the row may not find room either
        with node.full_disk(MIB):
            peer = case.associate()
            assert peer.store(STORE_ID, SECONDARY_CAPTURE, *lost) == OUT_OF_RESOURCES
        assert peer.store(STORE_ID, SECONDARY_CAPTURE, *found) == SUCCESS
        assert peer.release() == Released()
    assert not node.is_kept(lost[0])
    node.wait_kept(*found)
