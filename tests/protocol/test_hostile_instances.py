"""Instances that lie, are cut, or whose senders vanish, against one whole node.

What every case must leave behind, and what not, stands at the head of `test_hostile.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dicom_node.harness.answers import Accepted, Released
from dicom_node.harness.pdu import (
    associate_rq,
    c_store_rq,
    fragments,
    p_data,
    pdv,
    release_rq,
)
from dicom_node.harness.peer import ScriptedPeer
from tests.protocol.attacks import (
    ABORTED,
    AE_TITLE,
    CANNOT_UNDERSTAND,
    COMMAND,
    CONTEXTS,
    CT_IMAGE,
    DOES_NOT_MATCH,
    ECHO_ID,
    ESCAPE,
    LAST,
    LOST,
    MIB,
    OUT_OF_RESOURCES,
    REFUSALS,
    REFUSED,
    SECONDARY_CAPTURE,
    STORE_ID,
    SUCCESS,
    WHOLE_COMMAND,
    Vanish,
    data_set,
    gone,
    new_instance,
    new_uid,
    noise,
    rows,
    store_rq,
)
from tests.protocol.hostile import NodeUnderFire

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


def test_a_hundred_stores_may_be_sent_before_the_first_answer_is_read(node: NodeUnderFire) -> None:
    instances = dict(new_instance(pixel_bytes=50_000) for _ in range(100))
    with node.case() as case:
        peer = case.associate()
        for uid, sent in instances.items():
            peer.send_message(STORE_ID, c_store_rq(SECONDARY_CAPTURE, uid), sent)
        assert {peer.receive_status() for _ in instances} == {SUCCESS}
        assert peer.release() == Released()
    for uid, sent in instances.items():
        node.wait_kept(uid, sent)


# ------------------------------------------------------------ gone in the middle


def half_a_store(peer: ScriptedPeer, uid: str) -> None:
    sent = data_set(uid, pixel_bytes=100_000)
    peer.send(store_rq(uid) + p_data(pdv(STORE_ID, 0, sent[:50_000])))


def abort_inside_of_a_pdu(peer: ScriptedPeer) -> None:
    peer.send(p_data(pdv(STORE_ID, 0, bytes(9), length=19_996), length=20_000))
    peer.abort()


def reset_inside_of_a_pdu(peer: ScriptedPeer) -> None:
    peer.send(p_data(pdv(STORE_ID, 0, bytes(9), length=19_996), length=20_000))
    peer.reset()


def half_close(peer: ScriptedPeer) -> None:
    peer.half_close()
    gone(peer)


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
