"""PDUs and command sets as bytes, right or wrong; `answers.py` reads what comes back.

Nothing is checked here: any field may hold anything, and every length may lie. Integers of PDUs are
big endian (PS3.8 9.3.1), those of command sets little endian (PS3.7 6.3.1).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum, IntFlag
from typing import NamedTuple

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
IMPLEMENTATION_CLASS_UID = "1.2.826.0.1.3680043.10.1714.2"

NO_DATA_SET = 0x0101
DATA_SET = 0x0001


class PduType(IntEnum):
    """PS3.8 9.3.1."""

    A_ASSOCIATE_RQ = 0x01
    A_ASSOCIATE_AC = 0x02
    A_ASSOCIATE_RJ = 0x03
    P_DATA_TF = 0x04
    A_RELEASE_RQ = 0x05
    A_RELEASE_RP = 0x06
    A_ABORT = 0x07


class PdvHeader(IntFlag):
    """The message control header of a PDV (PS3.8 E.2)."""

    DATA = 0x00
    COMMAND = 0x01
    LAST = 0x02


class Context(NamedTuple):
    """A presentation context as it is proposed (PS3.8 9.3.2.2)."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: Sequence[str] = (EXPLICIT_VR_LITTLE_ENDIAN,)


def pdu(kind: int, body: bytes = b"", *, length: int | None = None) -> bytes:
    """Return a PDU; `length` is what its header says instead of the truth."""
    return struct.pack(">BxL", kind, len(body) if length is None else length) + body


def item(kind: int, body: bytes, *, length: int | None = None) -> bytes:
    """Return an item or sub-item of an association request (PS3.8 9.3.2)."""
    return struct.pack(">BxH", kind, len(body) if length is None else length) + body


def maximum_length(pdu_bytes_max: int) -> bytes:
    """Return the user item that says how long a P-DATA-TF we take; 0 is any (PS3.8 D.1)."""
    return item(0x51, struct.pack(">L", pdu_bytes_max))


def context_item(context: Context) -> bytes:
    """Return a presentation context item with its abstract and transfer syntaxes."""
    syntaxes = item(0x30, context.abstract_syntax.encode())
    syntaxes += b"".join(item(0x40, syntax.encode()) for syntax in context.transfer_syntaxes)
    return item(0x20, struct.pack(">Bxxx", context.context_id) + syntaxes)


def associate_rq(
    contexts: Iterable[Context] = (Context(1, VERIFICATION),),
    *,
    calling: str | bytes = "SCANNER",
    called: str | bytes = "ANY-SCP",
    pdu_bytes_max: int | None = 16384,
    user_items: Iterable[bytes] | None = (item(0x52, IMPLEMENTATION_CLASS_UID.encode()),),
    application_context: str | None = APPLICATION_CONTEXT,
    protocol_version: int = 1,
    length: int | None = None,
) -> bytes:
    """Return an A-ASSOCIATE-RQ (PS3.8 9.3.2).

    Parameters
    ----------
    contexts : iterable of Context
        In this order, whatever their IDs.
    calling, called : str or bytes
        Padded with spaces or cut to 16 bytes.
    pdu_bytes_max : int, optional
        The *Maximum Length* user item; None leaves it out.
    user_items : iterable of bytes, optional
        Further user items (see `item`); None leaves out the whole *User Information*.
    application_context : str, optional
        None leaves the item out.
    length : int, optional
        What the PDU's header says instead of the truth.
    """
    body = struct.pack(">HH", protocol_version, 0) + _title(called) + _title(calling) + bytes(32)
    if application_context is not None:
        body += item(0x10, application_context.encode())
    body += b"".join(context_item(context) for context in contexts)
    if user_items is not None:
        limit = () if pdu_bytes_max is None else (maximum_length(pdu_bytes_max),)
        body += item(0x50, b"".join([*limit, *user_items]))
    return pdu(PduType.A_ASSOCIATE_RQ, body, length=length)


def pdv(context_id: int, header: int, fragment: bytes, *, length: int | None = None) -> bytes:
    """Return a presentation data value item (PS3.8 9.3.5.1)."""
    whole = len(fragment) + 2 if length is None else length
    return struct.pack(">LBB", whole, context_id, header) + fragment


def p_data(*pdvs: bytes, length: int | None = None) -> bytes:
    """Return a P-DATA-TF of PDVs, or of anything else."""
    return pdu(PduType.P_DATA_TF, b"".join(pdvs), length=length)


def fragments(
    context_id: int, message: bytes, fragment_bytes_max: int, *, command: bool = False
) -> Iterator[bytes]:
    """Yield a command or a data set as PDVs, the last one marked; nothing becomes one PDV."""
    kind = PdvHeader.COMMAND if command else PdvHeader.DATA
    starts = range(0, len(message), fragment_bytes_max) or range(1)
    for start in starts:
        last = PdvHeader.LAST if start == starts[-1] else PdvHeader(0)
        yield pdv(context_id, kind | last, message[start : start + fragment_bytes_max])


def release_rq() -> bytes:
    """Return an A-RELEASE-RQ (PS3.8 9.3.6)."""
    return pdu(PduType.A_RELEASE_RQ, bytes(4))


def abort(source: int = 0, reason: int = 0) -> bytes:
    """Return an A-ABORT (PS3.8 9.3.8); source 0 is the service user, 2 the service provider."""
    return pdu(PduType.A_ABORT, struct.pack("xxBB", source, reason))


def us(value: int) -> bytes:
    """Return a US value of a command set."""
    return struct.pack("<H", value)


def ui(uid: str, padding: bytes = b"\0") -> bytes:
    """Return a UI value; one of odd length gets the padding, NUL by PS3.5 9.1."""
    return uid.encode() + padding * (len(uid) % 2)


def command_set(elements: Iterable[tuple[int, bytes]], *, group_length: int | None = None) -> bytes:
    """Return a command set of (element of group 0000, value), in the given order (PS3.7 6.3.1)."""
    body = b"".join(
        struct.pack("<HHL", 0, element, len(value)) + value for element, value in elements
    )
    whole = len(body) if group_length is None else group_length
    return struct.pack("<HHLL", 0, 0, 4, whole) + body


def c_store_rq(
    sop_class_uid: str | bytes,
    sop_instance_uid: str | bytes,
    *,
    message_id: int = 1,
    data_set_type: int = DATA_SET,
) -> bytes:
    """Return a C-STORE-RQ (PS3.7 9.3.1.1); UIDs given as bytes are taken as they are."""
    return command_set(
        [
            (0x0002, _as_ui(sop_class_uid)),
            (0x0100, us(0x0001)),
            (0x0110, us(message_id)),
            (0x0700, us(0)),
            (0x0800, us(data_set_type)),
            (0x1000, _as_ui(sop_instance_uid)),
        ]
    )


def c_echo_rq(*, message_id: int = 1) -> bytes:
    """Return a C-ECHO-RQ (PS3.7 9.3.5.1)."""
    return command_set(
        [
            (0x0002, ui(VERIFICATION)),
            (0x0100, us(0x0030)),
            (0x0110, us(message_id)),
            (0x0800, us(NO_DATA_SET)),
        ]
    )


def _title(title: str | bytes) -> bytes:
    encoded = title.encode() if isinstance(title, str) else title
    return encoded.ljust(16)[:16]


def _as_ui(uid: str | bytes) -> bytes:
    return ui(uid) if isinstance(uid, str) else uid
