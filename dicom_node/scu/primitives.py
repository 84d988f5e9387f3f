"""DIMSE messages as pynetdicom's primitives, to bytes and back (PS3.7 9 and 10).

C-STORE and C-ECHO do without: a primitive costs a millisecond, half of it for its command set.
"""

from __future__ import annotations

from pynetdicom import dimse_messages
from pynetdicom.dimse_primitives import C_CANCEL, DimsePrimitiveType, DimseServiceType
from pynetdicom.dsutils import encode
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.errors import ProtocolBroken
from dicom_node.protocol.pdu import COMMAND, LAST
from dicom_node.scu.messages import Message


def to_bytes(primitive: DimsePrimitiveType) -> tuple[bytes, bytes]:
    """Return the command set and the data set of a request or a response; either may be empty."""
    name = type(primitive).__name__
    is_request = isinstance(primitive, C_CANCEL) or primitive.MessageIDBeingRespondedTo is None
    message = getattr(dimse_messages, f"{name}_{'RQ' if is_request else 'RSP'}")()
    message.primitive_to_message(primitive)
    command = encode(message.command_set, True, True)
    return command or b"", message.data_set.getvalue() if message.data_set is not None else b""


def from_message(message: Message) -> DimseServiceType:
    """Return what the peer sent; ProtocolBroken if it is no DIMSE message."""
    fragments = P_DATA()
    values = fragments.presentation_data_value_list
    values.append((message.context_id, bytes([COMMAND | LAST]) + message.encoded_command))
    if message.data_set is not None:
        values.append((message.context_id, bytes([LAST]) + message.data_set))
    decoded = dimse_messages.DIMSEMessage()
    try:
        decoded.decode_msg(fragments)
        primitive = decoded.message_to_primitive()
    except Exception as error:  # pynetdicom raises anything on a value that it does not like
        raise ProtocolBroken(f"a message that cannot be read: {type(error).__name__}") from error
    if isinstance(primitive, C_CANCEL):
        raise ProtocolBroken("a C-CANCEL of a request that nobody made")
    return primitive
