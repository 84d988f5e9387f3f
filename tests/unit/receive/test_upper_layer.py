"""Bytes in any pieces make the same calls, and what PS3.8 does not allow now breaks off at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.errors import ProtocolBroken
from dicom_node.harness.pdu import (
    VERIFICATION,
    Context,
    PduType,
    abort,
    associate_rq,
    c_echo_rq,
    c_store_rq,
    fragments,
    p_data,
    pdu,
    pdv,
    release_rq,
)
from dicom_node.protocol.pdu import AbortReason, AssociateRequest
from dicom_node.receive.upper_layer import State, UpperLayer

CT = "1.2.840.10008.5.1.4.1.1.2"
PDU_BYTES_MAX = 16384
REQUEST = associate_rq([Context(1, VERIFICATION), Context(3, CT)], called="DICOM_NODE")
DATA_SET = bytes(range(256)) * 20


class Call(NamedTuple):
    """What the upper layer told; fragments of one message that follow each other are one call."""

    name: str
    context_id: int = 0
    is_command: bool = False
    is_last: bool = False
    data: bytes = b""


class Recorder:
    """A user that notes what it is told.

    Parameters
    ----------
    room_bytes : int
        How much room it has for a data set at a time; 0 takes fragments only.
    """

    def __init__(self, *, accepts: bool = True, room_bytes: int = 0) -> None:
        self.calls: list[Call] = []
        self.requests: list[AssociateRequest] = []
        self._accepts = accepts
        self._room = memoryview(bytearray(room_bytes))
        self._has_begun = False

    def requested(self, request: AssociateRequest) -> bool:
        self.requests.append(request)
        self.calls.append(Call("requested", data=request.items))
        return self._accepts

    def fragment(
        self, context_id: int, is_command: bool, is_last: bool, fragment: memoryview
    ) -> None:
        self._note(context_id, is_command, is_last, bytes(fragment))

    def room(self) -> memoryview | None:
        return self._room if self._room and self._has_begun else None

    def took(self, context_id: int, is_last: bool, size: int) -> None:
        self._note(context_id, False, is_last, bytes(self._room[:size]))

    def release_requested(self) -> None:
        self.calls.append(Call("release_requested"))

    def aborted(self) -> None:
        self.calls.append(Call("aborted"))

    def _note(self, context_id: int, is_command: bool, is_last: bool, data: bytes) -> None:
        self._has_begun = not is_command and not is_last
        last = self.calls[-1] if self.calls else Call("")
        if last[:4] == ("fragment", context_id, is_command, False):
            self.calls.pop()
            data = last.data + data
        self.calls.append(Call("fragment", context_id, is_command, is_last, data))


class Outcome(NamedTuple):
    calls: list[Call]
    broken: tuple[str, int] | None
    """Message and reason, if it broke off."""
    state: State | None
    """Of one that did not break off."""


def outcome(
    pieces: Iterable[bytes], recorder: Recorder | None = None, *, established: bool = False
) -> Outcome:
    """Feed pieces as a connection does: to where they belong if that is known, else by `feed`."""
    recorder = recorder or Recorder()
    upper = UpperLayer(recorder, PDU_BYTES_MAX)
    if established:
        upper.feed(memoryview(REQUEST))
        recorder.calls.clear()
    try:
        for piece in pieces:
            rest = memoryview(piece)
            room = upper.room()
            if room is not None:
                size = min(len(room), len(rest))
                room[:size] = rest[:size]
                upper.took(size)
                rest = rest[size:]
            upper.feed(rest)
    except ProtocolBroken as error:
        return Outcome(recorder.calls, (error.message, error.reason), None)
    return Outcome(recorder.calls, None, upper.state)


def split(data: bytes, places: Iterable[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[begin:end] for begin, end in pairwise(bounds)]


def message(context_id: int, command: bytes, data_set: bytes, fragment_bytes: int) -> bytes:
    pdvs = [
        *fragments(context_id, command, fragment_bytes, command=True),
        *(fragments(context_id, data_set, fragment_bytes) if data_set else ()),
    ]
    return b"".join(p_data(one) for one in pdvs)


STORE = message(3, c_store_rq(CT, "1.2.3"), DATA_SET, 700)
ECHO = message(1, c_echo_rq(), b"", 700)
MANY_IN_ONE = p_data(
    *fragments(3, c_store_rq(CT, "1.2.3"), 50, command=True), *fragments(3, DATA_SET, 900)
)
WITH_EMPTY_FRAGMENTS = p_data(
    pdv(1, 0x01, b""), *fragments(1, c_echo_rq(), 30, command=True)
) + p_data(pdv(3, 0x00, b""), pdv(3, 0x00, b"ab"), pdv(3, 0x02, b""))

CONVERSATIONS = {
    "an echo": REQUEST + ECHO + release_rq(),
    "two stores": REQUEST + STORE + STORE + release_rq(),
    "many values in a PDU": REQUEST + MANY_IN_ONE + ECHO + release_rq(),
    "empty fragments": REQUEST + WITH_EMPTY_FRAGMENTS + release_rq(),
    "an abort": REQUEST + STORE[:2000] + pdu(PduType.A_ABORT, b"\0\0\0\0"),
    "an abort behind a store": REQUEST + STORE + abort(),
    "an abort instead of a request": abort(2, 1),
    "words behind the end": REQUEST + abort() + STORE,
    "a request twice": REQUEST + REQUEST,
    "data first": STORE + REQUEST,
    "a PDU of no type": REQUEST + ECHO + pdu(0x09, b"abcd") + ECHO,
    "a long PDU": REQUEST + p_data(pdv(3, 0, bytes(PDU_BYTES_MAX - 5))),
    "a value longer than its PDU": REQUEST + p_data(pdv(3, 0, b"abcd", length=7)),
    "bytes behind the last value": REQUEST + p_data(pdv(3, 0, b"abcd"), b"xyz"),
    "a release, then data": REQUEST + release_rq() + STORE,
}
REFUSED_CONVERSATION = REQUEST + STORE + release_rq()


# ------------------------------------------------------------ any pieces


def test_a_conversation_is_told_as_it_was_held() -> None:
    told = outcome([CONVERSATIONS["two stores"]])
    command, data = c_store_rq(CT, "1.2.3"), DATA_SET
    store = [
        Call("fragment", 3, is_command=True, is_last=True, data=command),
        Call("fragment", 3, is_command=False, is_last=True, data=data),
    ]
    assert told.calls[0] == Call("requested", data=REQUEST[74:])
    assert told.calls[1:] == [*store, *store, Call("release_requested")]
    assert told.state is State.RELEASING


def test_the_request_is_told_with_its_titles() -> None:
    recorder = Recorder()
    outcome([REQUEST], recorder)
    [request] = recorder.requests
    assert (request.calling_ae_title, request.called_ae_title) == ("SCANNER", "DICOM_NODE")


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("room_bytes", [0, 100, 1 << 16])
def test_byte_by_byte_makes_the_same_calls(name: str, room_bytes: int) -> None:
    whole = CONVERSATIONS[name]
    pieces = [whole[at : at + 1] for at in range(len(whole))]
    assert outcome(pieces, Recorder(room_bytes=room_bytes)) == outcome([whole])


@given(
    name=st.sampled_from(sorted(CONVERSATIONS)),
    places=st.lists(st.integers(0, 1 << 20), max_size=12),
    room_bytes=st.sampled_from([0, 1, 333, 1 << 16]),
)
def test_any_split_makes_the_same_calls(name: str, places: Sequence[int], room_bytes: int) -> None:
    whole = CONVERSATIONS[name]
    pieces = split(whole, places)
    assert outcome(pieces, Recorder(room_bytes=room_bytes)) == outcome([whole])


@given(place=st.integers(0, len(REFUSED_CONVERSATION)))
def test_nothing_is_told_behind_a_refused_request(place: int) -> None:
    pieces = split(REFUSED_CONVERSATION, [place])
    told = outcome(pieces, Recorder(accepts=False))
    assert [call.name for call in told.calls] == ["requested"]
    assert told.state is State.ENDED


def test_nothing_is_read_behind_the_end() -> None:
    recorder = Recorder(room_bytes=100)
    upper = UpperLayer(recorder, PDU_BYTES_MAX)
    upper.feed(memoryview(REQUEST + STORE[:1000]))
    assert upper.room() is not None
    upper.end()
    assert upper.room() is None
    calls = list(recorder.calls)
    upper.feed(memoryview(b"anything"))
    assert recorder.calls == calls


@pytest.mark.parametrize("name", ["two stores", "many values in a PDU", "empty fragments"])
def test_it_is_between_pdus_exactly_there(name: str) -> None:
    whole = CONVERSATIONS[name]
    bounds, at = {0}, 0
    while at < len(whole):
        at += 6 + int.from_bytes(whole[at + 2 : at + 6], "big")
        bounds.add(at)
    upper = UpperLayer(Recorder(), PDU_BYTES_MAX)
    between = set()
    for at in range(len(whole) + 1):
        if upper.is_between_pdus:
            between.add(at)
        upper.feed(memoryview(whole[at : at + 1]))
    assert between == bounds


def test_a_fragment_is_a_view_of_what_came() -> None:
    class Keeper(Recorder):
        kept: memoryview

        def fragment(
            self, context_id: int, is_command: bool, is_last: bool, fragment: memoryview
        ) -> None:
            self.kept = fragment

    keeper = Keeper()
    upper = UpperLayer(keeper, PDU_BYTES_MAX)
    upper.feed(memoryview(REQUEST))
    came = bytearray(p_data(pdv(3, 0x02, b"data")))
    upper.feed(memoryview(came))
    came[-4:] = b"DATA"
    assert bytes(keeper.kept) == b"DATA"


# ------------------------------------------------------------ what is allowed, PS3.8 Table 9-10

BODIES = {
    PduType.A_ASSOCIATE_RQ: REQUEST,
    PduType.A_ASSOCIATE_AC: pdu(PduType.A_ASSOCIATE_AC, bytes(4)),
    PduType.A_ASSOCIATE_RJ: pdu(PduType.A_ASSOCIATE_RJ, bytes(4)),
    PduType.P_DATA_TF: ECHO,
    PduType.A_RELEASE_RQ: release_rq(),
    PduType.A_RELEASE_RP: pdu(PduType.A_RELEASE_RP, bytes(4)),
    PduType.A_ABORT: abort(),
}
BEFORE = {
    State.AWAITING_REQUEST: b"",
    State.ESTABLISHED: REQUEST,
    State.RELEASING: REQUEST + release_rq(),
}
ALLOWED = {
    (State.AWAITING_REQUEST, PduType.A_ASSOCIATE_RQ),
    (State.ESTABLISHED, PduType.P_DATA_TF),
    (State.ESTABLISHED, PduType.A_RELEASE_RQ),
    *[(state, PduType.A_ABORT) for state in BEFORE],
}


@pytest.mark.parametrize("state", BEFORE)
@pytest.mark.parametrize("kind", PduType)
def test_a_pdu_is_taken_only_in_its_states(state: State, kind: PduType) -> None:
    told = outcome([BEFORE[state], BODIES[kind]])
    if (state, kind) in ALLOWED:
        assert told.broken is None
    else:
        assert told.broken is not None
        assert told.broken[1] == AbortReason.UNEXPECTED_PDU


@pytest.mark.parametrize("state", BEFORE)
@pytest.mark.parametrize("kind", [0x00, 0x08, 0x16, 0x47, 0xFF])
def test_a_pdu_of_no_known_type_is_said_to_be_unrecognized(state: State, kind: int) -> None:
    told = outcome([BEFORE[state], pdu(kind, b"abcd")])
    assert told.broken is not None
    assert told.broken[1] == AbortReason.UNRECOGNIZED_PDU
    assert f"0x{kind:02X}" in told.broken[0]


# ------------------------------------------------------------ lengths that lie


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (pdu(PduType.A_ASSOCIATE_RQ, length=(1 << 20) + 1), "0x01 with 1048577 bytes"),
        (pdu(PduType.A_ASSOCIATE_RQ, length=0xFFFFFFFF), "0x01 with 4294967295 bytes"),
        (pdu(PduType.A_ABORT, length=5), "0x07 with 5 bytes"),
    ],
)
def test_a_length_that_is_too_large_is_refused_with_its_head(head: bytes, words: str) -> None:
    told = outcome([head])
    assert told.broken is not None
    assert words in told.broken[0]


def test_the_longest_pdu_that_we_announce_is_taken_and_no_longer() -> None:
    longest = p_data(pdv(3, 0x02, bytes(PDU_BYTES_MAX - 6)))
    assert outcome([longest], established=True).broken is None
    longer = p_data(pdv(3, 0x02, bytes(PDU_BYTES_MAX - 5)))
    told = outcome([longer[:6]], established=True)
    assert told.broken is not None
    assert told.broken[1] == AbortReason.INVALID_PARAMETER


@pytest.mark.parametrize("size", range(6))
def test_a_data_pdu_without_a_value_is_refused(size: int) -> None:
    told = outcome([p_data(bytes(size))], established=True)
    assert told.broken is not None


@pytest.mark.parametrize("length", [0, 1, 6, 0xFFFFFFFF])
def test_a_value_that_does_not_fill_its_pdu_is_refused(length: int) -> None:
    told = outcome([p_data(pdv(3, 0x02, b"abc", length=length))], established=True)
    assert told.broken is not None


@pytest.mark.parametrize("kind", [PduType.A_RELEASE_RQ, PduType.A_ABORT])
@pytest.mark.parametrize("size", range(5))
def test_a_short_pdu_may_be_shorter(kind: PduType, size: int) -> None:
    """Its bytes are reserved, or say what we do not need."""
    told = outcome([pdu(kind, bytes(size))], established=True)
    assert told.broken is None
    assert told.calls == [Call("release_requested" if kind is PduType.A_RELEASE_RQ else "aborted")]
