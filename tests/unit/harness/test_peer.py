"""What the scripted peer builds and reads, held against pynetdicom as an independent witness."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import pytest
from pydicom.uid import UID
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ, C_STORE_RSP, DIMSEMessage
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.pdu import (
    A_ABORT_RQ,
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RJ,
    A_ASSOCIATE_RQ,
    A_RELEASE_RP,
    A_RELEASE_RQ,
    P_DATA_TF,
)
from pynetdicom.pdu_primitives import (
    A_ABORT,
    A_ASSOCIATE,
    A_RELEASE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.harness.answers import (
    Aborted,
    Accepted,
    Answer,
    Data,
    Pdv,
    Rejected,
    Released,
    ReleaseRequested,
    Unknown,
    decode,
    parse_command_set,
)
from dicom_node.harness.pdu import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    NO_DATA_SET,
    VERIFICATION,
    Context,
    PduType,
    abort,
    associate_rq,
    c_echo_rq,
    c_store_rq,
    command_set,
    fragments,
    p_data,
    pdu,
    pdv,
    release_rq,
    ui,
    us,
)

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"


def answer_to(encoded: bytes) -> Answer:
    return decode(encoded[0], encoded[6:])


def message_of(*pdvs: bytes) -> tuple[DIMSEMessage, C_STORE | C_ECHO]:
    """Return what pynetdicom reads in PDVs, each in a PDU of its own."""
    message = DIMSEMessage()
    for one in pdvs:
        whole = P_DATA_TF()
        whole.decode(p_data(one))
        message.decode_msg(whole.to_primitive())
    primitive = message.message_to_primitive()
    assert isinstance(primitive, C_STORE | C_ECHO)
    return message, primitive


def in_pieces(command: bytes) -> Iterator[bytes]:
    return fragments(1, command, 10, command=True)


# ------------------------------------------------------------ building


def test_an_association_request_reads_as_it_was_meant() -> None:
    syntaxes = [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN]
    request = A_ASSOCIATE_RQ()
    request.decode(
        associate_rq(
            [Context(1, VERIFICATION), Context(3, CT_IMAGE_STORAGE, syntaxes)],
            calling="CT1",
            called="DICOM_NODE",
            pdu_bytes_max=32768,
        )
    )
    meant = request.to_primitive()
    assert (meant.calling_ae_title, meant.called_ae_title) == ("CT1", "DICOM_NODE")
    assert meant.application_context_name == UID("1.2.840.10008.3.1.1.1")
    assert meant.maximum_length_received == 32768
    assert request.protocol_version == 1
    assert [
        (context.context_id, context.abstract_syntax, context.transfer_syntax)
        for context in meant.presentation_context_definition_list
    ] == [(1, VERIFICATION, syntaxes[:1]), (3, CT_IMAGE_STORAGE, syntaxes)]


def test_an_association_request_can_lack_what_every_one_has() -> None:
    request = A_ASSOCIATE_RQ()
    request.decode(associate_rq([], user_items=None, application_context=None, protocol_version=0))
    assert request.protocol_version == 0
    assert request.variable_items == []


def test_fragments_read_as_the_same_data_set_however_they_are_cut() -> None:
    data_set = bytes(range(200))
    for size in (1, 7, 199, 200, 201):
        whole = P_DATA_TF()
        whole.decode(p_data(*fragments(5, data_set, size)))
        items = whole.presentation_data_value_items
        values = [item.presentation_data_value or b"" for item in items]
        assert b"".join(value[1:] for value in values) == data_set
        assert [item.context_id for item in items] == [5] * len(items)
        headers = [value[0] for value in values]
        assert headers == [0] * (len(items) - 1) + [2]


def test_an_empty_data_set_is_one_empty_last_fragment() -> None:
    assert list(fragments(1, b"", 10)) == [pdv(1, 2, b"")]


def test_release_and_abort_are_those_of_the_standard() -> None:
    assert release_rq() == A_RELEASE_RQ().encode()
    request = A_ABORT_RQ()
    request.decode(abort(2, 6))
    assert (request.source, request.reason_diagnostic) == (2, 6)


def test_a_c_store_request_reads_as_it_was_meant() -> None:
    message, request = message_of(*in_pieces(c_store_rq(CT_IMAGE_STORAGE, "1.2.3", message_id=7)))
    assert isinstance(message, C_STORE_RQ)
    assert isinstance(request, C_STORE)
    assert request.AffectedSOPClassUID == CT_IMAGE_STORAGE
    assert request.AffectedSOPInstanceUID == "1.2.3"
    assert (request.MessageID, request.Priority) == (7, 0)
    assert message.command_set.CommandDataSetType == 1


def test_a_data_set_after_its_command_reads_as_it_was_meant() -> None:
    command = in_pieces(c_store_rq(CT_IMAGE_STORAGE, "1.2.3"))
    _, request = message_of(*command, *fragments(1, b"data", 3))
    assert isinstance(request, C_STORE)
    assert isinstance(request.DataSet, BytesIO)
    assert request.DataSet.getvalue() == b"data"


def test_a_c_echo_request_reads_as_it_was_meant() -> None:
    message, request = message_of(*in_pieces(c_echo_rq(message_id=65535)))
    assert isinstance(message, C_ECHO_RQ)
    assert request.AffectedSOPClassUID == VERIFICATION
    assert request.MessageID == 65535
    assert message.command_set.CommandDataSetType == NO_DATA_SET


def test_the_group_length_counts_what_follows() -> None:
    encoded = c_store_rq(CT_IMAGE_STORAGE, "1.2.3")
    assert int.from_bytes(encoded[8:12], "little") == len(encoded) - 12


@pytest.mark.parametrize(
    ("built", "wanted"),
    [
        (pdu(9, b"ab", length=0xFFFFFFFF), b"\x09\0\xff\xff\xff\xffab"),
        (pdv(3, 1, b"ab", length=9), b"\0\0\0\x09\x03\x01ab"),
        (p_data(b"ab", length=1), b"\x04\0\0\0\0\x01ab"),
        (ui("1.2"), b"1.2\0"),
        (ui("1.2", b" "), b"1.2 "),
        (ui("1.2", b""), b"1.2"),
        (c_store_rq(b"odd", "1.2")[20:23], b"odd"),
        (command_set([], group_length=5), bytes(4) + b"\x04\0\0\0\x05\0\0\0"),
        (associate_rq(called="A" * 20)[10:26], b"A" * 16),
        (associate_rq(calling=b"\xff\0")[26:42], b"\xff\0" + b" " * 14),
    ],
)
def test_every_field_is_the_callers(built: bytes, wanted: bytes) -> None:
    assert built == wanted


# ------------------------------------------------------------ reading


def test_an_acceptance_is_read_with_its_contexts() -> None:
    accepted, refused = build_context(VERIFICATION), PresentationContext()
    accepted.context_id, accepted.result = 1, 0
    refused.context_id, refused.result = 3, 3
    refused.transfer_syntax = [EXPLICIT_VR_LITTLE_ENDIAN]
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID("1.2.840.10008.3.1.1.1")
    primitive.calling_ae_title, primitive.called_ae_title = "CT1", "DICOM_NODE"
    primitive.result, primitive.result_source = 0, 1
    primitive.presentation_context_definition_results_list = [accepted, refused]
    limit, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    limit.maximum_length_received = 131072
    implementation.implementation_class_uid = UID("1.2.3")
    primitive.user_information = [limit, implementation]
    answer = A_ASSOCIATE_AC()
    answer.from_primitive(primitive)
    read = answer_to(answer.encode())
    assert isinstance(read, Accepted)
    assert (read.calling, read.called) == ("CT1", "DICOM_NODE")
    assert read.contexts == {1: accepted.transfer_syntax[0]}
    assert read.refused == {3: 3}
    assert read.pdu_bytes_max == 131072
    assert (0x52, b"1.2.3") in read.user_items


def test_a_rejection_is_read_with_its_reason() -> None:
    primitive = A_ASSOCIATE()
    primitive.result, primitive.result_source, primitive.diagnostic = 2, 3, 1
    answer = A_ASSOCIATE_RJ()
    answer.from_primitive(primitive)
    assert answer_to(answer.encode()) == Rejected(2, 3, 1)


def test_the_ends_of_an_association_are_read() -> None:
    reply = A_RELEASE()
    reply.result = "affirmative"
    released = A_RELEASE_RP()
    released.from_primitive(reply)
    assert answer_to(released.encode()) == Released()
    assert answer_to(A_RELEASE_RQ().encode()) == ReleaseRequested()
    aborting = A_ABORT()
    aborting.abort_source = 0
    aborted = A_ABORT_RQ()
    aborted.from_primitive(aborting)
    assert answer_to(aborted.encode()) == Aborted(0, 0)


def test_a_response_is_read_with_its_status() -> None:
    primitive = C_STORE()
    primitive.MessageIDBeingRespondedTo = 7
    primitive.AffectedSOPClassUID = UID(CT_IMAGE_STORAGE)
    primitive.AffectedSOPInstanceUID = UID("1.2.3")
    primitive.Status = 0xA700
    message = C_STORE_RSP()
    message.primitive_to_message(primitive)
    encoded = b""
    for part in message.encode_msg(1, 32):
        whole = P_DATA_TF()
        whole.from_primitive(part)
        read = answer_to(whole.encode())
        assert isinstance(read, Data)
        encoded += b"".join(pdv.fragment for pdv in read.pdvs)
    values = parse_command_set(encoded)
    assert values[0x0900] == us(0xA700)
    assert values[0x0120] == us(7)
    assert values[0x1000] == b"1.2.3\0"


def test_what_we_build_is_what_we_read() -> None:
    assert decode(PduType.P_DATA_TF, p_data(pdv(1, 3, b"ab"), pdv(5, 2, b""))[6:]) == Data(
        14, (Pdv(1, 3, b"ab"), Pdv(5, 2, b""))
    )
    assert parse_command_set(command_set([(0x0110, us(258))])) == {
        0x0000: b"\x0a\0\0\0",
        0x0110: b"\x02\x01",
    }


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (PduType.A_ASSOCIATE_AC, b""),
        (PduType.A_ASSOCIATE_AC, bytes(68) + b"\x21\0\0\xff\0"),
        (PduType.A_ASSOCIATE_RJ, b"\0\0"),
        (PduType.P_DATA_TF, b"\0\0\0\x09\x01\x03ab"),
        (PduType.P_DATA_TF, b"\0\0\0\x01\x01\x03"),
        (PduType.A_ABORT, b""),
        (0x09, b"ab"),
    ],
)
def test_a_broken_answer_is_kept_as_it_is(kind: int, body: bytes) -> None:
    assert decode(kind, body) == Unknown(kind, body)


@pytest.mark.parametrize("encoded", [b"\0", b"\x08" + bytes(7), bytes(4) + b"\x01\0\0\0"])
def test_a_broken_command_set_is_none(encoded: bytes) -> None:
    with pytest.raises(ValueError, match="no command set"):
        parse_command_set(encoded)
