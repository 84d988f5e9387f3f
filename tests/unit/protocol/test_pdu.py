"""PDUs are what pynetdicom makes and reads, and what is none is said to be none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import pdu_primitives
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_RJ, A_RELEASE_RP

from dicom_node.errors import ProtocolBroken
from dicom_node.harness.pdu import Context as HandMade
from dicom_node.harness.pdu import associate_rq, context_item, item
from dicom_node.protocol.pdu import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    CALLED_AE_TITLE_NOT_RECOGNIZED,
    CALLING_AE_TITLE_NOT_RECOGNIZED,
    LOCAL_LIMIT_EXCEEDED,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    AbortReason,
    AssociateRequest,
    ContextAnswer,
    Proposal,
    ProposedContext,
    Rejection,
    abort,
    associate_accept,
    associate_accept_items,
    associate_reject,
    command_pdu,
    message_pdus,
    release_response,
)
from tests.unit.receive import witness

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
PDU_HEAD = 6
UNKNOWN = "\N{REPLACEMENT CHARACTER}"

uids = st.lists(st.integers(0, 10**9), min_size=2, max_size=6).map(
    lambda arcs: ".".join(map(str, [1, *arcs]))
)
titles = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\\"),
    min_size=1,
    max_size=16,
)
proposals = st.dictionaries(
    st.integers(0, 127).map(lambda number: 2 * number + 1),
    st.tuples(uids, st.lists(uids, min_size=1, max_size=4, unique=True)),
    min_size=1,
    max_size=10,
)


def parsed(encoded: bytes) -> tuple[AssociateRequest, Proposal]:
    request = AssociateRequest.parse(encoded[PDU_HEAD:])
    return request, Proposal.parse(request.items)


# ------------------------------------------------------------ A-ASSOCIATE-RQ


@given(
    proposed=proposals,
    calling=titles,
    called=titles,
    maximum_length=st.integers(0, 2**32 - 1),
    roles=st.dictionaries(
        uids, st.sampled_from([(True, False), (False, True), (True, True)]), max_size=4
    ),
    implementation=st.none() | titles,
)
def test_what_pynetdicom_asks_for_is_read(
    proposed: dict[int, tuple[str, list[str]]],
    calling: str,
    called: str,
    maximum_length: int,
    roles: dict[str, tuple[bool, bool]],
    implementation: str | None,
) -> None:
    request, proposal = parsed(
        witness.associate_rq(
            proposed,
            calling=calling,
            called=called,
            maximum_length=maximum_length,
            roles=roles,
            implementation=implementation,
        )
    )
    assert (request.calling_ae_title, request.called_ae_title) == (calling, called)
    assert request.protocol_version == 1
    assert proposal.application_context == witness.APPLICATION_CONTEXT
    assert {c.context_id: c for c in proposal.contexts} == {
        number: ProposedContext(number, abstract_syntax, tuple(transfer_syntaxes))
        for number, (abstract_syntax, transfer_syntaxes) in proposed.items()
    }
    assert proposal.maximum_length == maximum_length
    assert dict(proposal.roles) == roles
    assert proposal.implementation == (implementation or "")


def further_items() -> list[Any]:
    """Return every other kind of user information that PS3.7 Annex D has."""
    window = pdu_primitives.AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = 5
    window.maximum_number_operations_performed = 5
    extended = pdu_primitives.SOPClassExtendedNegotiation()
    extended.sop_class_uid = CT
    extended.service_class_application_information = b"\1\1\1"
    common = pdu_primitives.SOPClassCommonExtendedNegotiation()
    common.sop_class_uid, common.service_class_uid = CT, "1.2.840.10008.4.2"
    common.related_general_sop_class_identification = ["1.2.3", "1.2.4"]
    user = pdu_primitives.UserIdentityNegotiation()
    user.user_identity_type = 2
    user.primary_field, user.secondary_field = b"user", b"password"
    return [window, extended, common, user]


def test_user_information_that_we_do_not_know_is_passed_over() -> None:
    proposed = {1: (CT, [EXPLICIT])}
    plain = parsed(witness.associate_rq(proposed))
    full = parsed(witness.associate_rq(proposed, further=further_items()))
    assert full[1] == plain[1]


def test_without_a_maximum_length_there_is_no_limit() -> None:
    assert parsed(associate_rq(pdu_bytes_max=None))[1].maximum_length == 0  # PS3.8 D.1.1
    assert parsed(associate_rq(user_items=None))[1].maximum_length == 0


@pytest.mark.parametrize(
    ("sent", "title"),
    [
        (b"SCANNER         ", "SCANNER"),
        (b"   SCANNER      ", "SCANNER"),  # PS3.8 9.3.2: leading and trailing spaces mean nothing
        (b"SCANNER\0\0\0\0\0\0\0\0\0", "SCANNER"),
        (b"CT ROOM 1       ", "CT ROOM 1"),
        (b"                ", ""),
        (b"\xc4CT             ", f"{UNKNOWN}CT"),
        (b"\x1b[2J CT\x1fX\0Y\x7f    ", f"{UNKNOWN}[2J CT{UNKNOWN}X{UNKNOWN}Y{UNKNOWN}"),
    ],
)
def test_an_ae_title_is_read_without_its_padding_and_answered_as_it_came(
    sent: bytes, title: str
) -> None:
    request, _ = parsed(associate_rq(calling=sent, called=sent))
    assert (request.calling_ae_title, request.called_ae_title) == (title, title)
    answer = associate_accept(request, b"")
    assert answer[PDU_HEAD + 4 :][:32] == sent + sent  # PS3.8 Table 9-17


REQUEST = associate_rq([HandMade(1, CT)], called="DICOM_NODE")[PDU_HEAD:]
FIXED_BYTES = 68


@pytest.mark.parametrize("size", [0, 1, FIXED_BYTES - 1])
def test_a_request_that_is_too_short_is_none(size: int) -> None:
    with pytest.raises(ProtocolBroken, match="too short"):
        AssociateRequest.parse(REQUEST[:size])


def test_a_request_cut_anywhere_is_one_with_fewer_items_or_none() -> None:
    whole = Proposal.parse(REQUEST[FIXED_BYTES:])
    cut = []
    for size in range(FIXED_BYTES, len(REQUEST)):
        try:
            cut.append(Proposal.parse(REQUEST[FIXED_BYTES:size]))
        except ProtocolBroken:
            continue
    assert len(cut) == 3  # before each of its items: application context, context, user information
    assert whole not in cut


BROKEN_ITEMS = {
    "an item longer than the request": item(0x10, b"1.2", length=0xFFFF),
    "half an item's head": b"\x10\0\0",
    "an even presentation context ID": context_item(HandMade(2, CT)),
    "a presentation context ID twice": context_item(HandMade(1, CT)) * 2,
    "a presentation context of 3 bytes": item(0x20, bytes(3)),
    "a syntax longer than its context": item(0x20, b"\1\0\0\0" + item(0x30, b"1.2", length=9)),
    "a user item longer than the user information": item(0x50, item(0x51, b"", length=4)),
    "a maximum length of three bytes": item(0x50, item(0x51, bytes(3))),
    "a maximum length of five bytes": item(0x50, item(0x51, bytes(5))),
    "a role selection of one byte": item(0x50, item(0x54, b"\0")),
    "a role selection without roles": item(0x50, item(0x54, b"\0\x031.2")),
    "a role selection with a byte too many": item(0x50, item(0x54, b"\0\x031.2\1\0\0")),
}


@pytest.mark.parametrize("encoded", BROKEN_ITEMS.values(), ids=BROKEN_ITEMS.keys())
def test_items_that_do_not_fit_are_no_proposal(encoded: bytes) -> None:
    with pytest.raises(ProtocolBroken):
        Proposal.parse(encoded)


# ------------------------------------------------------------ A-ASSOCIATE-AC


@given(
    answers=st.dictionaries(
        st.integers(0, 127).map(lambda number: 2 * number + 1),
        st.tuples(st.sampled_from([0, 1, 2, 3, 4]), uids),
        max_size=10,
    ),
    roles=st.dictionaries(uids, st.tuples(st.integers(0, 1), st.integers(0, 1)), max_size=4),
    maximum_length=st.integers(0, 2**32 - 1),
    calling=titles,
    called=titles,
)
def test_pynetdicom_reads_what_we_accept(
    answers: dict[int, tuple[int, str]],
    roles: dict[str, tuple[int, int]],
    maximum_length: int,
    calling: str,
    called: str,
) -> None:
    request, _ = parsed(associate_rq(calling=calling, called=called))
    items = associate_accept_items(
        [ContextAnswer(number, result, uid) for number, (result, uid) in answers.items()],
        roles,
        maximum_length,
        "1.2.3.4",
        "DICOM_NODE_9",
    )
    read = witness.read_accept(associate_accept(request, items))
    assert read == witness.Accepted(
        titles=(called, calling),
        application_context=witness.APPLICATION_CONTEXT,
        results={number: result for number, (result, _) in answers.items()},
        transfer_syntaxes={number: uid for number, (result, uid) in answers.items() if result == 0},
        roles={uid: (bool(scu), bool(scp)) for uid, (scu, scp) in roles.items()},
        maximum_length=maximum_length,
        implementation=("1.2.3.4", "DICOM_NODE_9"),
    )


# ------------------------------------------------------------ short PDUs


REJECTIONS = {
    CALLING_AE_TITLE_NOT_RECOGNIZED: (
        "Rejected Permanent",
        "Service User",
        "Calling AE title not recognised",
    ),
    CALLED_AE_TITLE_NOT_RECOGNIZED: (
        "Rejected Permanent",
        "Service User",
        "Called AE title not recognised",
    ),
    APPLICATION_CONTEXT_NOT_SUPPORTED: (
        "Rejected Permanent",
        "Service User",
        "Application context name not supported",
    ),
    PROTOCOL_VERSION_NOT_SUPPORTED: (
        "Rejected Permanent",
        "Service Provider (ACSE)",
        "Protocol version not supported",
    ),
    LOCAL_LIMIT_EXCEEDED: (
        "Rejected Transient",
        "Service Provider (Presentation)",
        "Local limit exceeded",
    ),
}


@pytest.mark.parametrize("rejection", REJECTIONS)
def test_pynetdicom_reads_a_rejection_in_the_words_of_the_standard(rejection: Rejection) -> None:
    pdu = A_ASSOCIATE_RJ()
    pdu.decode(associate_reject(rejection))
    primitive = pdu.to_primitive()
    told = (primitive.result_str, primitive.source_str, primitive.reason_str)
    assert told == REJECTIONS[rejection]


ABORTS = {
    AbortReason.NOT_SPECIFIED: "No reason given",
    AbortReason.UNRECOGNIZED_PDU: "Unrecognised PDU",
    AbortReason.UNEXPECTED_PDU: "Unexpected PDU",
    AbortReason.UNRECOGNIZED_PARAMETER: "Unrecognised PDU parameter",
    AbortReason.UNEXPECTED_PARAMETER: "Unexpected PDU parameter",
    AbortReason.INVALID_PARAMETER: "Invalid PDU parameter value",
}


@pytest.mark.parametrize("reason", AbortReason)
def test_pynetdicom_reads_an_abort_in_the_words_of_the_standard(reason: AbortReason) -> None:
    pdu = A_ABORT_RQ()
    pdu.decode(abort(reason))
    assert (pdu.source_str, pdu.reason_str) == ("DUL service-provider", ABORTS[reason])


def test_pynetdicom_reads_a_release_response() -> None:
    encoded = release_response()
    pdu = A_RELEASE_RP()
    pdu.decode(encoded)
    assert pdu.encode() == encoded


# ------------------------------------------------------------ P-DATA-TF


def test_pynetdicom_reads_a_command_in_one_pdu() -> None:
    assert witness.read_p_data(command_pdu(255, b"command")) == [(255, 0x03, b"command")]


@given(
    command=st.binary(min_size=1, max_size=300),
    data_set=st.binary(max_size=2000),
    maximum_length=st.just(0) | st.integers(8, 500),
)
def test_pynetdicom_puts_a_message_together_again_and_no_pdu_is_too_long(
    command: bytes, data_set: bytes, maximum_length: int
) -> None:
    pdus = list(message_pdus(3, command, data_set, maximum_length))
    pdvs = [pdv for encoded in pdus for pdv in witness.read_p_data(encoded)]
    if maximum_length:
        assert max(map(len, pdus)) - PDU_HEAD <= maximum_length
    assert {pdv.context_id for pdv in pdvs} == {3}
    assert b"".join(pdv.fragment for pdv in pdvs if pdv.control & 1) == command
    assert b"".join(pdv.fragment for pdv in pdvs if not pdv.control & 1) == data_set
    commands = [pdv.control for pdv in pdvs if pdv.control & 1]
    data = [pdv.control for pdv in pdvs if not pdv.control & 1]
    assert [pdv.control for pdv in pdvs] == commands + data
    assert commands == [0x01] * (len(commands) - 1) + [0x03]
    assert data == [0x00] * (len(data) - 1) + [0x02] * bool(data)


@pytest.mark.parametrize("maximum_length", range(1, 8))
def test_a_peer_that_takes_less_than_a_head_still_gets_the_message(maximum_length: int) -> None:
    pdus = list(message_pdus(1, b"command", b"", maximum_length))
    fragments = [pdv.fragment for encoded in pdus for pdv in witness.read_p_data(encoded)]
    assert b"".join(fragments) == b"command"
