"""Command sets are what pynetdicom makes and reads, and what is none is said to be none."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.tag import Tag

from dicom_node.errors import ProtocolBroken
from dicom_node.protocol.command import (
    NO_DATA_SET,
    RESPONSE,
    Command,
    CommandField,
    Element,
    encode,
    lo,
    response,
    store_request,
    store_response,
    ui,
    us,
)
from tests.unit.receive import witness

CT = "1.2.840.10008.5.1.4.1.1.2"  # of odd length: padded
MR = "1.2.840.10008.5.1.4.1.1.4.12"  # of even length
STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"

uids = st.lists(st.integers(0, 10**9), min_size=2, max_size=5).map(
    lambda arcs: ".".join(map(str, [1, *arcs]))
)


def a_data_set() -> BytesIO:
    return BytesIO(b"data")


REQUESTS: dict[str, dict[str, Any]] = {
    "C_STORE_RQ": {
        "AffectedSOPClassUID": CT,
        "AffectedSOPInstanceUID": "1.2.3.4",
        "Priority": 2,
        "DataSet": a_data_set(),
        "MoveOriginatorApplicationEntityTitle": "MOVER",
        "MoveOriginatorMessageID": 3,
    },
    "C_ECHO_RQ": {"AffectedSOPClassUID": "1.2.840.10008.1.1"},
    "C_FIND_RQ": {"AffectedSOPClassUID": STUDY_ROOT, "Priority": 1, "Identifier": a_data_set()},
    "C_GET_RQ": {"AffectedSOPClassUID": STUDY_ROOT, "Priority": 1, "Identifier": a_data_set()},
    "C_MOVE_RQ": {
        "AffectedSOPClassUID": STUDY_ROOT,
        "Priority": 1,
        "Identifier": a_data_set(),
        "MoveDestination": "ARCHIVE",
    },
    "N_EVENT_REPORT_RQ": {
        "AffectedSOPClassUID": "1.2.840.10008.1.20.1",
        "AffectedSOPInstanceUID": "1.2.840.10008.1.20.1.1",
        "EventTypeID": 2,
        "EventInformation": a_data_set(),
    },
    "N_GET_RQ": {
        "RequestedSOPClassUID": CT,
        "RequestedSOPInstanceUID": "1.2.3",
        "AttributeIdentifierList": [Tag(0x00100010), Tag(0x00100020)],
    },
    "N_SET_RQ": {
        "RequestedSOPClassUID": "1.2.840.10008.3.1.2.3.3",
        "RequestedSOPInstanceUID": "1.2.3.4.5",
        "ModificationList": a_data_set(),
    },
    "N_ACTION_RQ": {
        "RequestedSOPClassUID": "1.2.840.10008.1.20.1",
        "RequestedSOPInstanceUID": "1.2.840.10008.1.20.1.1",
        "ActionTypeID": 1,
        "ActionInformation": a_data_set(),
    },
    "N_CREATE_RQ": {
        "AffectedSOPClassUID": "1.2.840.10008.3.1.2.3.3",
        "AffectedSOPInstanceUID": "1.2.3.4.5",
        "AttributeList": a_data_set(),
    },
    "N_DELETE_RQ": {"RequestedSOPClassUID": CT, "RequestedSOPInstanceUID": "1.2.3"},
}
ELEMENTS = {
    "AffectedSOPClassUID": Element.AFFECTED_SOP_CLASS_UID,
    "AffectedSOPInstanceUID": Element.AFFECTED_SOP_INSTANCE_UID,
    "RequestedSOPClassUID": Element.REQUESTED_SOP_CLASS_UID,
    "RequestedSOPInstanceUID": Element.REQUESTED_SOP_INSTANCE_UID,
    "MoveDestination": Element.MOVE_DESTINATION,
    "Priority": Element.PRIORITY,
    "EventTypeID": Element.EVENT_TYPE_ID,
    "ActionTypeID": Element.ACTION_TYPE_ID,
}


def a_request(name: str) -> Command:
    return Command.parse(witness.a_message(name, MessageID=258, **REQUESTS[name]))


# ------------------------------------------------------------ what they send


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_of_pynetdicom_is_read(name: str) -> None:
    command = a_request(name)
    assert command.field == CommandField[name.removesuffix("_RQ")]
    assert command.message_id == 258
    has_data_set = any(isinstance(value, BytesIO) for value in REQUESTS[name].values())
    assert command.has_data_set is has_data_set
    known = {keyword: REQUESTS[name][keyword] for keyword in ELEMENTS if keyword in REQUESTS[name]}
    for keyword, value in known.items():
        element = ELEMENTS[keyword]
        read = command.number(element) if isinstance(value, int) else command.text(element)
        assert read == value, keyword
    classes = [value for keyword, value in known.items() if keyword.endswith("SOPClassUID")]
    assert [command.sop_class_uid] == classes
    instances = [value for keyword, value in known.items() if keyword.endswith("SOPInstanceUID")]
    assert command.sop_instance_uid == next(iter(instances), "")


def test_a_cancel_of_pynetdicom_is_read() -> None:
    command = Command.parse(witness.a_message("C_CANCEL_RQ", MessageIDBeingRespondedTo=7))
    assert command.field == CommandField.C_CANCEL
    assert command.number(Element.MESSAGE_ID_BEING_RESPONDED_TO) == 7
    assert not command.has_data_set


def test_a_response_of_pynetdicom_is_read() -> None:
    command = Command.parse(
        witness.a_message(
            "N_EVENT_REPORT_RSP",
            MessageIDBeingRespondedTo=9,
            AffectedSOPClassUID="1.2.840.10008.1.20.1",
            AffectedSOPInstanceUID="1.2.840.10008.1.20.1.1",
            EventTypeID=1,
            Status=0x0110,
        )
    )
    assert command.field == CommandField.N_EVENT_REPORT | RESPONSE
    assert command.number(Element.MESSAGE_ID_BEING_RESPONDED_TO) == 9
    assert command.number(Element.STATUS) == 0x0110


def test_what_is_not_there_is_read_as_nothing() -> None:
    command = a_request("C_ECHO_RQ")
    assert command.number(Element.STATUS) == 0
    assert command.text(Element.AFFECTED_SOP_INSTANCE_UID) == ""
    assert command.sop_instance_uid == ""


@pytest.mark.parametrize("padding", [b"\0", b" ", b"\0\0", b"  "])
def test_a_uid_is_read_without_its_padding(padding: bytes) -> None:
    command = Command({Element.AFFECTED_SOP_CLASS_UID: CT.encode() + padding})
    assert command.sop_class_uid == CT


def test_what_is_no_ascii_becomes_a_question_mark() -> None:
    command = Command({Element.AFFECTED_SOP_INSTANCE_UID: b"1.2\xff3"})
    assert command.sop_instance_uid == "1.2\N{REPLACEMENT CHARACTER}3"


# ------------------------------------------------------------ what we answer


@pytest.mark.parametrize("name", [name for name in REQUESTS if name != "N_EVENT_REPORT_RQ"])
@pytest.mark.parametrize("status", [0x0000, 0x0110, 0xA700, 0xFF00])
def test_pynetdicom_reads_our_response(name: str, status: int) -> None:
    request = a_request(name)
    read, decoded = witness.read_message(response(request, status))
    assert read == name.removesuffix("RQ") + "RSP"
    assert decoded.Status == status
    assert decoded.MessageIDBeingRespondedTo == 258
    assert decoded.CommandDataSetType == NO_DATA_SET
    assert decoded.AffectedSOPClassUID == request.sop_class_uid
    assert decoded.get("AffectedSOPInstanceUID", "") == request.sop_instance_uid


def test_a_response_says_that_a_data_set_follows() -> None:
    encoded = response(a_request("C_FIND_RQ"), 0xFF00, has_data_set=True)
    _, decoded = witness.read_message(encoded)
    assert decoded.CommandDataSetType != NO_DATA_SET
    assert Command.parse(encoded).has_data_set


def test_further_elements_stand_in_the_response_in_their_order() -> None:
    fields: dict[int, bytes] = {
        Element.ERROR_COMMENT: lo("no room"),
        Element.ERROR_ID: us(7),
        Element.AFFECTED_SOP_INSTANCE_UID: ui("1.2.9"),
    }
    encoded = response(a_request("C_STORE_RQ"), 0xA700, fields=fields)
    _, decoded = witness.read_message(encoded)
    assert decoded.ErrorComment == "no room"
    assert decoded.AffectedSOPInstanceUID == "1.2.9"
    assert list(Command.parse(encoded)) == sorted(Command.parse(encoded))  # PS3.7 6.3.1


def test_pynetdicom_reads_an_event_report_of_ours() -> None:
    encoded = encode(
        {
            Element.AFFECTED_SOP_CLASS_UID: ui("1.2.840.10008.1.20.1"),
            Element.COMMAND_FIELD: us(CommandField.N_EVENT_REPORT),
            Element.MESSAGE_ID: us(5),
            Element.COMMAND_DATA_SET_TYPE: us(1),
            Element.AFFECTED_SOP_INSTANCE_UID: ui("1.2.840.10008.1.20.1.1"),
            Element.EVENT_TYPE_ID: us(2),
        }
    )
    name, decoded = witness.read_message(encoded)
    assert name == "N_EVENT_REPORT_RQ"
    assert (decoded.EventTypeID, decoded.MessageID) == (2, 5)
    assert Command.parse(encoded).sop_instance_uid == "1.2.840.10008.1.20.1.1"


@given(
    sop_class=uids,
    sop_instance=uids,
    message_id=st.integers(0, 0xFFFF),
    status=st.integers(0, 0xFFFF),
    padded=st.booleans(),
)
def test_the_quick_answer_to_a_store_is_the_usual_one(
    sop_class: str, sop_instance: str, message_id: int, status: int, padded: bool
) -> None:
    values = (ui(sop_class), ui(sop_instance)) if padded else (sop_class.encode(), b"")
    request = Command(
        {
            Element.AFFECTED_SOP_CLASS_UID: values[0],
            Element.COMMAND_FIELD: us(CommandField.C_STORE),
            Element.MESSAGE_ID: us(message_id),
            Element.AFFECTED_SOP_INSTANCE_UID: values[1],
        }
    )
    assert store_response(request, status) == response(request, status)


@given(uids, uids, st.integers(1, 0xFFFF))
def test_the_quick_request_is_the_request(sop_class: str, instance: str, number: int) -> None:
    assert store_request(ui(sop_class), ui(instance), number) == encode(
        {
            Element.AFFECTED_SOP_CLASS_UID: ui(sop_class),
            Element.COMMAND_FIELD: us(CommandField.C_STORE),
            Element.MESSAGE_ID: us(number),
            Element.PRIORITY: us(0),
            Element.COMMAND_DATA_SET_TYPE: us(0x0001),
            Element.AFFECTED_SOP_INSTANCE_UID: ui(instance),
        }
    )


def test_a_uid_of_odd_length_is_answered_with_its_padding() -> None:
    """A requestor may have forgotten it; PS3.5 9.1 has even lengths only."""
    request = a_request("C_STORE_RQ")
    request[Element.AFFECTED_SOP_CLASS_UID] = CT.encode()
    request[Element.AFFECTED_SOP_INSTANCE_UID] = b"1.2.3"
    for encoded in (response(request, 0), store_response(request, 0)):
        values = Command.parse(encoded)
        assert values[Element.AFFECTED_SOP_CLASS_UID] == CT.encode() + b"\0" * (len(CT) % 2)
        assert values[Element.AFFECTED_SOP_INSTANCE_UID] == b"1.2.3\0"


@pytest.mark.parametrize(("uid", "value"), [("1.2.3", b"1.2.3\0"), ("1.23", b"1.23"), ("", b"")])
def test_a_uid_is_padded_to_even_length(uid: str, value: bytes) -> None:
    assert ui(uid) == value


def test_a_comment_is_cut_to_what_its_vr_takes() -> None:
    assert lo("x" * 100) == b"x" * 64  # PS3.5 6.2, LO
    assert lo("odd") == b"odd "
    assert lo("Größe") == b"Gr??e "


# ------------------------------------------------------------ what is none


def element(number: int, value: bytes = b"", *, group: int = 0, length: int | None = None) -> bytes:
    return struct.pack("<HHL", group, number, len(value) if length is None else length) + value


FIELD = element(Element.COMMAND_FIELD, us(1))
NO_COMMAND = {
    "nothing": b"",
    "half an element": FIELD[:7],
    "half a value": FIELD[:-1],
    "no Command Field": element(Element.MESSAGE_ID, us(1)),
    "a Command Field without value": element(Element.COMMAND_FIELD),
    "a Command Field of 4 bytes": element(Element.COMMAND_FIELD, bytes(4)),
    "another group": FIELD + element(0x0010, b"x", group=0x0010),
    "a length past the end": FIELD + element(Element.MESSAGE_ID, us(1), length=3),
    "undefined length": FIELD + element(Element.MESSAGE_ID, us(1), length=0xFFFFFFFF),
    "Explicit VR": b"\0\0\0\1US\2\0\1\0",
}


@pytest.mark.parametrize("encoded", NO_COMMAND.values(), ids=NO_COMMAND.keys())
def test_what_is_no_command_set_is_refused(encoded: bytes) -> None:
    with pytest.raises(ProtocolBroken):
        Command.parse(encoded)


def test_a_command_set_cut_anywhere_is_none_or_has_fewer_elements() -> None:
    whole = witness.a_message("C_STORE_RQ", MessageID=1, **REQUESTS["C_STORE_RQ"])
    expected = Command.parse(whole)
    for size in range(len(whole)):
        try:
            cut = Command.parse(whole[:size])
        except ProtocolBroken:
            continue
        assert cut.items() < expected.items()
