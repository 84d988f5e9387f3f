"""What we propose is what pynetdicom and our own acceptor read, and answers are read as meant."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.errors import ProtocolBroken
from dicom_node.harness.pdu import item
from dicom_node.protocol.acceptance import (
    Acceptance,
    associate_request,
    rejection_of,
    release_request,
    user_abort,
)
from dicom_node.protocol.pdu import (
    APPLICATION_CONTEXT,
    AssociateRequest,
    ContextAnswer,
    Proposal,
    ProposedContext,
    Rejection,
    associate_accept,
    associate_accept_items,
    associate_reject,
)
from tests.unit.protocol.test_pdu import proposals, titles, uids
from tests.unit.receive import witness

PDU_HEAD = 6
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def request_of(
    contexts: list[ProposedContext],
    calling: str = "NODE",
    called: str = "ARCHIVE",
    scp_of: list[str] | None = None,
) -> bytes:
    return associate_request(
        contexts,
        calling_ae_title=calling,
        called_ae_title=called,
        maximum_length=131072,
        implementation_class_uid="1.2.3",
        implementation_version_name="NODE_1",
        scp_of=scp_of or [],
    )


@settings(deadline=None)
@given(
    proposed=proposals,
    calling=titles,
    called=titles,
    scp_of=st.lists(uids, max_size=3, unique=True),
)
def test_what_we_propose_is_read_by_us_and_by_pynetdicom(
    proposed: dict[int, tuple[str, list[str]]], calling: str, called: str, scp_of: list[str]
) -> None:
    contexts = [
        ProposedContext(number, uid, tuple(syntaxes))
        for number, (uid, syntaxes) in proposed.items()
    ]
    encoded = request_of(contexts, calling, called, scp_of)
    request = AssociateRequest.parse(encoded[PDU_HEAD:])
    proposal = Proposal.parse(request.items)
    assert (request.calling_ae_title, request.called_ae_title) == (calling, called)
    assert list(proposal.contexts) == contexts
    assert proposal.application_context == APPLICATION_CONTEXT
    assert proposal.maximum_length == 131072
    assert proposal.implementation == "NODE_1"
    assert dict(proposal.roles) == dict.fromkeys(scp_of, (0, 1))
    theirs = witness.read_associate_rq(encoded)
    assert theirs.titles == (called, calling)
    assert theirs.contexts == proposed


def test_an_answer_has_the_contexts_that_were_accepted_the_length_and_the_roles() -> None:
    request = AssociateRequest.parse(request_of([ProposedContext(1, CT, (EXPLICIT,))])[PDU_HEAD:])
    answers = [
        ContextAnswer(1, 0, EXPLICIT),
        ContextAnswer(3, 3, EXPLICIT),
        ContextAnswer(5, 4, EXPLICIT),
    ]
    items = associate_accept_items(answers, {CT: (1, 0)}, 16384, "1.2.3", "X")
    acceptance = Acceptance.parse(associate_accept(request, items)[PDU_HEAD:])
    assert acceptance == Acceptance({1: EXPLICIT}, 16384, {CT: (1, 0)})


def test_without_a_maximum_length_there_is_no_limit() -> None:
    assert Acceptance.parse(bytes(68)).maximum_length == 0


def test_of_a_refused_context_nothing_else_is_looked_at() -> None:
    """PS3.8 9.3.3.2: its transfer syntax is not significant, and some leave it out."""
    assert Acceptance.parse(bytes(68) + item(0x21, bytes([1, 0, 3, 0]))).transfer_syntaxes == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        bytes(67),
        bytes(68) + b"\x21",
        bytes(68) + item(0x21, b"\1\0"),
        bytes(68) + item(0x21, bytes([1, 0, 0, 0])),
        bytes(68) + item(0x21, bytes([1, 0, 0, 0]) + item(0x40, b"1.2", length=99)),
        bytes(68) + item(0x50, item(0x54, b"\0\xff1.2")),
    ],
)
def test_what_is_no_answer_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(ProtocolBroken):
        Acceptance.parse(body)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_no_answer(body: bytes) -> None:
    try:
        Acceptance.parse(bytes(68) + body)
    except ProtocolBroken:
        return


def test_a_rejection_is_read() -> None:
    rejection = Rejection(2, 3, 1)
    assert rejection_of(associate_reject(rejection)[PDU_HEAD:]) == rejection
    with pytest.raises(ProtocolBroken):
        rejection_of(b"\0\1")


def test_the_short_pdus_are_as_the_standard_has_them() -> None:
    assert release_request() == bytes.fromhex("05000000000400000000")
    assert user_abort() == bytes.fromhex("07000000000400000000")
