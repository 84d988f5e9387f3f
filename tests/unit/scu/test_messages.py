"""Messages cut into PDUs and put together again, whatever the sizes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.errors import ProtocolBroken
from dicom_node.protocol.command import CommandField, Element, encode, us
from dicom_node.protocol.pdu import COMMAND, HEADER, LAST, PDV_HEADER
from dicom_node.scu.fragments import Fragments
from dicom_node.scu.messages import Assembly, Message
from tests.unit.receive import witness

NO_DATA = encode({Element.COMMAND_FIELD: us(CommandField.C_ECHO), 0x0800: us(0x0101)})
WITH_DATA = encode({Element.COMMAND_FIELD: us(CommandField.C_STORE), 0x0800: us(1)})


def pdus_of(parts: list[bytes], room: int, kind: int = 0) -> list[bytes]:
    """Return the PDUs that a message in parts is cut into."""
    fragments = Fragments(7, kind, room, sum(map(len, parts)))
    sent = b"".join(b"".join(fragments.of(memoryview(part))) for part in parts)
    pdus = []
    while sent:
        _, length = HEADER.unpack_from(sent)
        pdus.append(sent[: HEADER.size + length])
        sent = sent[HEADER.size + length :]
    return pdus


def pdv(control: int, fragment: bytes) -> bytes:
    return PDV_HEADER.pack(len(fragment) + 2, 7, control) + fragment


def taken(*bodies: bytes) -> list[Message]:
    assembly = Assembly()
    return [message for body in bodies for message in assembly.take(body)]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=5), st.integers(1, 50))
def test_a_message_in_parts_becomes_full_pdus_and_the_last_one_says_so(
    parts: list[bytes], room: int
) -> None:
    whole = b"".join(parts)
    read = [witness.read_p_data(pdu) for pdu in pdus_of(parts, room)]
    assert all(len(pdvs) == 1 for pdvs in read)
    pdvs = [one for pdvs in read for one in pdvs]
    assert b"".join(one.fragment for one in pdvs) == whole
    assert [len(one.fragment) for one in pdvs[:-1]] == [room] * (len(pdvs) - 1)
    assert [one.control for one in pdvs] == [0] * (len(pdvs) - 1) + [LAST]
    assert {one.context_id for one in pdvs} == {7}


def test_the_bytes_are_not_copied() -> None:
    data = bytearray(b"0123456789")
    buffers = Fragments(7, 0, 4, 10).of(memoryview(data))
    data[0:1] = b"X"
    assert b"".join(buffers[1::2]) == b"X123456789"


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=200), st.integers(1, 50))
def test_what_was_cut_is_put_together(data_set: bytes, room: int) -> None:
    bodies = [
        pdu[HEADER.size :]
        for pdu in (*pdus_of([WITH_DATA], room, COMMAND), *pdus_of([data_set], room))
    ]
    for together in (bodies, [b"".join(bodies)]):
        [message] = taken(*together)
        assert (message.context_id, message.data_set) == (7, data_set)
        assert (message.encoded_command, message.command.field) == (WITH_DATA, 1)


def test_messages_follow_each_other() -> None:
    command, data = pdv(COMMAND | LAST, WITH_DATA), pdv(LAST, b"data")
    echo = pdv(COMMAND | LAST, NO_DATA)
    assert [one.data_set for one in taken(echo + command, data, echo)] == [None, b"data", None]


@pytest.mark.parametrize(
    "body",
    [
        pdv(LAST, b"data"),
        pdv(COMMAND | LAST, WITH_DATA) + pdv(COMMAND | LAST, NO_DATA),
        pdv(COMMAND | LAST, b"nonsense"),
        pdv(COMMAND, bytes(1 << 16)) + pdv(COMMAND, b"more"),
        pdv(COMMAND, NO_DATA)[:-1],
        pdv(COMMAND, NO_DATA) + b"\0",
        PDV_HEADER.pack(1, 7, 3),
        PDV_HEADER.pack(0xFFFFFFFF, 7, 3),
    ],
)
def test_fragments_that_belong_to_nothing_break_the_protocol(body: bytes) -> None:
    with pytest.raises(ProtocolBroken):
        taken(body)
