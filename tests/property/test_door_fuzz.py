"""Whatever comes: a value or ProtocolBroken, answers that can be read, and nothing left behind."""

from __future__ import annotations

import itertools
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.errors import ProtocolBroken
from dicom_node.harness.answers import Data, Unknown, parse_command_set
from dicom_node.harness.pdu import (
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
from dicom_node.ledger.arrivals import AssociationClosed, AssociationOpened
from dicom_node.model import Instance
from dicom_node.protocol.command import Command, Element
from dicom_node.protocol.pdu import AssociateRequest, Proposal
from dicom_node.receive.service import EventReport, ServiceReply, ServiceRequest
from tests.factories import CT_SERIES
from tests.unit.receive.conversation import (
    CT,
    REQUEST,
    STUDY_ROOT,
    Conversation,
    Hall,
    a_large_data_set,
    a_store,
    established,
    is_empty,
    message,
    pdus_in,
    pieces,
)

MIB = 1 << 20
BLOCKS_MAX = 6
"""Of 1 MB: four that gather, one that is being filled, and one more within a piece."""

# ------------------------------------------------------------ parsers

FIXED = REQUEST[6:74]
REQUEST_ITEMS = REQUEST[74:]


@st.composite
def nested_items(draw: st.DrawFn, depth: int = 2) -> bytes:
    """Items with lengths that mostly fit, in and behind each other."""
    made = b""
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from([0x10, 0x20, 0x21, 0x30, 0x40, 0x50, 0x51, 0x52, 0x54, 0x55]))
        if depth and draw(st.booleans()):
            head = draw(st.sampled_from([b"", b"\1\0\0\0", b"\2\0\0\0"]))
            body = head + draw(nested_items(depth=depth - 1))
        else:
            body = draw(st.binary(max_size=12))
        length = draw(st.none() | st.integers(0, 0xFFFF)) if draw(st.booleans()) else None
        made += item(kind, body, length=length)
    return made


def parsed(parse: Callable[[bytes], object], encoded: bytes) -> object:
    try:
        return parse(encoded)
    except ProtocolBroken:
        return None


@given(body=st.binary(max_size=300) | st.binary(max_size=100).map(lambda rest: FIXED + rest))
def test_any_bytes_are_an_association_request_or_none(body: bytes) -> None:
    request = parsed(AssociateRequest.parse, body)
    assert (request is None) == (len(body) < len(FIXED))


@given(items=st.binary(max_size=200) | nested_items())
def test_any_bytes_are_a_proposal_or_none(items: bytes) -> None:
    proposal = parsed(Proposal.parse, items)
    if isinstance(proposal, Proposal):
        assert all(context.context_id & 1 for context in proposal.contexts)
        assert len(proposal.contexts) <= 128


@given(
    encoded=st.binary(max_size=200)
    | st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=9)), max_size=8).map(
        command_set
    )
)
def test_any_bytes_are_a_command_or_none(encoded: bytes) -> None:
    command = parsed(Command.parse, encoded)
    if isinstance(command, Command):
        assert 0 <= command.field <= 0xFFFF
        assert 0 <= command.message_id <= 0xFFFF
        assert isinstance(command.sop_class_uid + command.sop_instance_uid, str)


# ------------------------------------------------------------ conversations


def find(request: ServiceRequest) -> Iterator[ServiceReply | EventReport]:
    """Answer with what was asked, and report it: a service that believes anything."""
    if not request.cancelled():
        yield ServiceReply(0xFF00, request.data_set[:1000] or b"ab")
    yield ServiceReply(0x0000)
    yield EventReport(STUDY_ROOT, "1.2.3", 1, b"report", lambda status: None)


A_COMMAND = [
    (Element.AFFECTED_SOP_CLASS_UID, ui(STUDY_ROOT)),
    (Element.COMMAND_FIELD, us(0x0020)),
    (Element.MESSAGE_ID, us(7)),
    (Element.PRIORITY, us(0)),
    (Element.COMMAND_DATA_SET_TYPE, us(1)),
]
FIND = message(5, command_set(A_COMMAND), b"identifier")
CANCEL = message(5, command_set([(0x0100, us(0x0FFF)), (0x0120, us(7)), (0x0800, us(0x0101))]))
REPORT_ANSWER = message(
    5, command_set([(0x0100, us(0x8100)), (0x0120, us(1)), (0x0800, us(0x0101))])
)
SMALL: dict[str, Any] = {"Rows": 4, "Columns": 4, "PixelData": bytes(32)}
CONVERSATION = b"".join(
    [
        REQUEST,
        message(1, c_echo_rq()),
        a_store(1, **SMALL),
        FIND + CANCEL + FIND + REPORT_ANSWER,
        p_data(pdv(3, 0x01, c_store_rq(CT, f"{CT_SERIES}.2")[:40]))
        + p_data(pdv(3, 0x03, c_store_rq(CT, f"{CT_SERIES}.2")[40:])),
        p_data(pdv(3, 0x00, b"\x08\0\x16\0UI"), pdv(3, 0x02, b"\x02\x001.")),
        a_store(3, StudyInstanceUID="", **SMALL),
        a_store(4, **SMALL),
        release_rq(),
    ]
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def hold(folder: Path, pieces: list[bytes]) -> Conversation:
    """Hold a conversation to its end, and look whether anything is amiss."""
    hall = Hall(folder / "store", services={STUDY_ROOT: find}, associations_max=1)
    talk = Conversation(hall)
    for piece in pieces:
        talk.feed(piece)
        assert hall.pool.out <= BLOCKS_MAX
    talk.close()
    assert is_empty(hall)
    answers = talk.answers()
    assert not any(isinstance(answer, Unknown) for answer in answers)
    assert_commands_can_be_read([a for a in answers if isinstance(a, Data)])
    opened, closed = hall.rows(AssociationOpened), hall.rows(AssociationClosed)
    assert [row.association_id for row in opened] == [row.association_id for row in closed]
    assert {row.association_id for row in hall.rows(Instance)} <= {
        row.association_id for row in opened
    }
    established(hall)  # the one place is free again
    return talk


def assert_commands_can_be_read(answers: list[Data]) -> None:
    encoded = b""
    for answer in answers:
        for one in answer.pdvs:
            if one.header & 1:
                encoded += one.fragment
            if one.header & 3 == 3:
                parse_command_set(encoded)
                encoded = b""
    assert not encoded


def test_the_conversation_itself_comes_to_its_end(folder: Path) -> None:
    talk = hold(folder, [CONVERSATION])
    assert talk.broken is None
    assert len(talk.hall.rows(Instance)) == 2


@given(data=st.binary(max_size=400), size=st.integers(1, 400))
def test_any_bytes_end_in_calls_or_in_an_abort(data: bytes, size: int, folder: Path) -> None:
    hold(folder, list(pieces(data, size)))


@given(data=st.binary(max_size=400), size=st.integers(1, 400))
def test_any_bytes_behind_a_request_end_in_calls_or_in_an_abort(
    data: bytes, size: int, folder: Path
) -> None:
    hold(folder, [REQUEST, *pieces(data, size)])


@given(
    pdvs=st.lists(
        st.tuples(
            st.sampled_from([0, 1, 3, 5, 7, 255]),
            st.integers(0, 3) | st.integers(0, 255),
            st.sampled_from([b"", b"ab", c_echo_rq(), c_store_rq(CT, "1.2.3")])
            | st.binary(max_size=60),
            st.none() | st.integers(0, 100),
        ),
        max_size=12,
    )
)
def test_any_fragments_end_in_calls_or_in_an_abort(
    pdvs: list[tuple[int, int, bytes, int | None]], folder: Path
) -> None:
    made = [
        p_data(pdv(context_id, header, fragment, length=length))
        for context_id, header, fragment, length in pdvs
    ]
    hold(folder, [REQUEST, *made])


@given(
    elements=st.lists(
        st.tuples(
            st.sampled_from(list(Element)),
            st.sampled_from([b"", us(0x0001), us(0x0020), us(0x0FFF), us(0x8100), ui(CT)])
            | st.binary(max_size=20),
        ),
        max_size=10,
    ),
    field=st.integers(0, 0xFFFF),
    context_id=st.sampled_from([1, 3, 5]),
    data_set=st.none() | st.binary(max_size=40),
)
def test_any_command_ends_in_an_answer_or_in_an_abort(
    elements: list[tuple[int, bytes]],
    field: int,
    context_id: int,
    data_set: bytes | None,
    folder: Path,
) -> None:
    command = command_set([*elements, (Element.COMMAND_FIELD, us(field))])
    hold(folder, [REQUEST, message(context_id, command, data_set), message(1, c_echo_rq())])


Mutation = tuple[str, int, int, bytes]
mutations = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "double", "insert", "overwrite", "end"]),
        st.integers(0, len(CONVERSATION)),
        st.integers(0, 60),
        st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\1\0", b"\x04\0"])
        | st.binary(min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=4,
)


def mutated(data: bytes, changes: list[Mutation]) -> bytes:
    for kind, at, size, value in changes:
        at = at % (len(data) + 1)
        if kind == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ (1 << size % 8)]) + data[at + 1 :]
        elif kind == "cut":
            data = data[:at] + data[at + size :]
        elif kind == "double":
            data = data[: at + size] + data[at:]
        elif kind == "insert":
            data = data[:at] + value + data[at:]
        elif kind == "overwrite":
            data = data[:at] + value + data[at + len(value) :]
        elif kind == "end":
            data = data[:at]
    return data


@settings(max_examples=400)
@given(changes=mutations, size=st.sampled_from([1, 7, 100, 1000, 1 << 20]))
def test_any_change_of_a_conversation_ends_in_calls_or_in_an_abort(
    changes: list[Mutation], size: int, folder: Path
) -> None:
    hold(folder, list(pieces(mutated(CONVERSATION, changes), size)))


@settings(max_examples=100)
@given(places=st.lists(st.integers(0, len(CONVERSATION)), max_size=10))
def test_any_pieces_of_a_conversation_get_the_same_answers(places: list[int], folder: Path) -> None:
    """In any order: it does not wait for answers. A cancel or a release would cut some short."""
    honest = CONVERSATION.replace(CANCEL, b"").removesuffix(release_rq())
    bounds = [0, *sorted(place % len(honest) for place in places), len(honest)]
    split = [honest[begin:end] for begin, end in itertools.pairwise(bounds)]
    whole = hold(folder, [honest, release_rq()])
    assert sent_by(hold(folder, [*split, release_rq()])) == sent_by(whole)


def sent_by(talk: Conversation) -> list[str]:
    return sorted(map(repr, pdus_in(bytes(talk.line.sent))))


# ------------------------------------------------------------ memory


@dataclass(frozen=True)
class Endless:
    """What a peer sends, again and again."""

    head: bytes
    piece: bytes
    sent_bytes: int = 60 * MIB
    memory_bytes_max: int = MIB
    """Beside the blocks that data sets gather in."""


def store_command(uid: str) -> bytes:
    return p_data(pdv(3, 0x03, c_store_rq(CT, uid)))


ECHO_WITH_DATA = p_data(
    pdv(1, 0x03, command_set([(0x0100, us(0x30)), (0x0110, us(1)), (0x0800, us(1))]))
)
DATA = p_data(pdv(3, 0x00, bytes(100_000)))
ENDLESS = {
    # one copy while it gathers, one whole, one of its items
    "a request": Endless(pdu(1, length=1 << 20), bytes(4096), memory_bytes_max=4 * MIB),
    "a command": Endless(REQUEST, p_data(pdv(1, 0x01, bytes(4000)))),
    "empty fragments of a command": Endless(REQUEST, p_data(*[pdv(1, 0x01, b"")] * 100), MIB),
    "data for a C-ECHO": Endless(  # 16 MB of a request are taken, in an array that grows
        REQUEST + ECHO_WITH_DATA, p_data(pdv(1, 0x00, bytes(100_000))), memory_bytes_max=40 * MIB
    ),
    "data of a refused instance": Endless(REQUEST + store_command("no UID"), DATA),
    "data without UIDs": Endless(  # which are looked for in the first four blocks, once
        REQUEST + store_command("1.2.3"),
        p_data(pdv(3, 0x00, b"\xff" * 100_000)),
        memory_bytes_max=12 * MIB,
    ),
    "data of a large instance": Endless(
        REQUEST
        + store_command(f"{CT_SERIES}.1")
        + p_data(pdv(3, 0x00, a_large_data_set(120 * MIB)[:20_000])),
        DATA,
    ),
    "cancels": Endless(REQUEST, CANCEL, MIB),
    "echoes": Endless(REQUEST, message(1, c_echo_rq()), MIB),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_never_ends_does_not_fill_the_memory(name: str, tmp_path: Path) -> None:
    endless = ENDLESS[name]
    hall = Hall(tmp_path, services={STUDY_ROOT: find})
    talk = Conversation(hall)
    sent_bytes = 0
    tracemalloc.start()
    try:
        talk.feed(endless.head)
        while not talk.is_over and sent_bytes < endless.sent_bytes:
            talk.feed(endless.piece)
            sent_bytes += len(endless.piece)
            talk.line.sent.clear()
            assert hall.pool.out <= BLOCKS_MAX
        assert tracemalloc.get_traced_memory()[1] < endless.memory_bytes_max
    finally:
        tracemalloc.stop()
    talk.close()
    assert is_empty(hall)


def test_what_is_cancelled_without_having_been_asked_costs_little(tmp_path: Path) -> None:
    """It is remembered by its message ID, and there are only so many of them."""
    talk = established(Hall(tmp_path))
    tracemalloc.start()
    try:
        for number in range(0, 0x10000, 8):
            cancel = [(0x0100, us(0x0FFF)), (0x0120, us(number)), (0x0800, us(0x0101))]
            talk.feed(message(1, command_set(cancel)))
        assert tracemalloc.get_traced_memory()[0] < MIB
    finally:
        tracemalloc.stop()
