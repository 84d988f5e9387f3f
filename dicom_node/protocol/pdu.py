"""The PDUs of the upper layer as bytes and values (PS3.8 9.3).

Pure functions: bytes in, frozen values out, one error for whatever is no PDU. What only a requestor
writes and reads is in `acceptance`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from dicom_node.errors import ProtocolBroken

HEADER = struct.Struct(">BxL")
"""PDU type and length of what follows."""
PDV_HEADER = struct.Struct(">LBB")
"""Item length, presentation context ID, message control header (PS3.8 9.3.5.1, E.2)."""
P_DATA_HEADER = struct.Struct(">BxLLBB")
"""Of a P-DATA-TF PDU with one PDV."""

COMMAND = 0x01
LAST = 0x02

_ITEM = struct.Struct(">BxH")
_REQUEST = struct.Struct(">H2x16s16s32x")
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
PROTOCOL_VERSION = 1  # bit 0 stands for version 1


class PduType(IntEnum):
    ASSOCIATE_RQ = 0x01
    ASSOCIATE_AC = 0x02
    ASSOCIATE_RJ = 0x03
    DATA_TF = 0x04
    RELEASE_RQ = 0x05
    RELEASE_RP = 0x06
    ABORT = 0x07


class Item(IntEnum):
    """Types of the variable items and sub-items (PS3.8 9.3.2, PS3.7 D.3.3)."""

    APPLICATION_CONTEXT = 0x10
    PRESENTATION_CONTEXT_RQ = 0x20
    PRESENTATION_CONTEXT_AC = 0x21
    ABSTRACT_SYNTAX = 0x30
    TRANSFER_SYNTAX = 0x40
    USER_INFORMATION = 0x50
    MAXIMUM_LENGTH = 0x51
    IMPLEMENTATION_CLASS_UID = 0x52
    ROLE_SELECTION = 0x54
    IMPLEMENTATION_VERSION_NAME = 0x55


class AbortReason(IntEnum):
    """Reasons of an A-ABORT whose source is the service provider (PS3.8 9.3.8)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6


@dataclass(frozen=True)
class Rejection:
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    result: int
    source: int
    reason: int


CALLING_AE_TITLE_NOT_RECOGNIZED = Rejection(1, 1, 3)
CALLED_AE_TITLE_NOT_RECOGNIZED = Rejection(1, 1, 7)
APPLICATION_CONTEXT_NOT_SUPPORTED = Rejection(1, 1, 2)
PROTOCOL_VERSION_NOT_SUPPORTED = Rejection(1, 2, 2)
LOCAL_LIMIT_EXCEEDED = Rejection(2, 3, 2)


@dataclass(frozen=True)
class ProposedContext:
    """A presentation context that a requestor proposes (PS3.8 9.3.2.2)."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True)
class AssociateRequest:
    """An A-ASSOCIATE-RQ (PS3.8 9.3.2)."""

    protocol_version: int
    called_ae_title: str
    calling_ae_title: str
    items: bytes
    """The variable items as they came: `Proposal.parse` reads them."""
    titles: bytes
    """Both AE titles as they came; an answer repeats them."""

    @classmethod
    def parse(cls, body: bytes) -> AssociateRequest:
        """Return the request in the body of a PDU; ProtocolBroken if it is none."""
        if len(body) < _REQUEST.size:
            raise ProtocolBroken("an association request is too short")
        version, called, calling = _REQUEST.unpack_from(body)
        return cls(
            version, title_of(called), title_of(calling), body[_REQUEST.size :], called + calling
        )


@dataclass(frozen=True)
class Proposal:
    """What the variable items of an A-ASSOCIATE-RQ propose."""

    application_context: str
    contexts: tuple[ProposedContext, ...]
    maximum_length: int
    """The largest P-DATA-TF the requestor takes, without its header; 0 for no limit."""
    roles: Mapping[str, tuple[int, int]]
    """By SOP Class UID: whether it wants to be SCU, and SCP (PS3.7 D.3.3.4)."""
    implementation: str

    @classmethod
    def parse(cls, encoded: bytes) -> Proposal:
        """Return the proposal in the variable items; ProtocolBroken if they are none."""
        application_context = ""
        contexts: dict[int, ProposedContext] = {}
        user: dict[int, bytes] = {}
        roles: dict[str, tuple[int, int]] = {}
        for kind, value in items_of(encoded):
            if kind == Item.APPLICATION_CONTEXT:
                application_context = uid_of(value)
            elif kind == Item.PRESENTATION_CONTEXT_RQ:
                context = _proposed_context(value)
                if context.context_id in contexts:
                    raise ProtocolBroken("a presentation context ID is proposed twice")
                contexts[context.context_id] = context
            elif kind == Item.USER_INFORMATION:
                for sub_kind, sub_value in items_of(value):
                    if sub_kind == Item.ROLE_SELECTION:
                        uid, scu, scp = role_of(sub_value)
                        roles[uid] = (scu, scp)
                    else:
                        user[sub_kind] = sub_value
        length = user.get(Item.MAXIMUM_LENGTH, bytes(4))
        if len(length) != 4:
            raise ProtocolBroken("a maximum length item is not 4 bytes long")
        name = user.get(Item.IMPLEMENTATION_VERSION_NAME, b"")
        return cls(
            application_context,
            tuple(contexts.values()),
            int.from_bytes(length, "big"),
            roles,
            name.decode("ascii", "replace").strip(),
        )


@dataclass(frozen=True)
class ContextAnswer:
    """The answer to one proposed presentation context (PS3.8 9.3.3.2)."""

    context_id: int
    result: int
    """0 acceptance, 3 abstract syntax not supported, 4 transfer syntaxes not supported."""
    transfer_syntax: str


def associate_accept_items(
    answers: Sequence[ContextAnswer],
    roles: Mapping[str, tuple[int, int]],
    maximum_length: int,
    implementation_class_uid: str,
    implementation_version_name: str,
) -> bytes:
    """Return the variable items of an A-ASSOCIATE-AC (PS3.8 9.3.3)."""
    user = [
        item(Item.MAXIMUM_LENGTH, maximum_length.to_bytes(4, "big")),
        item(Item.IMPLEMENTATION_CLASS_UID, implementation_class_uid.encode("ascii")),
    ]
    user += [role_item(uid, scu, scp) for uid, (scu, scp) in roles.items()]
    user.append(item(Item.IMPLEMENTATION_VERSION_NAME, implementation_version_name.encode("ascii")))
    items = [item(Item.APPLICATION_CONTEXT, APPLICATION_CONTEXT.encode("ascii"))]
    items += [
        item(
            Item.PRESENTATION_CONTEXT_AC,
            bytes([answer.context_id, 0, answer.result, 0])
            + item(Item.TRANSFER_SYNTAX, answer.transfer_syntax.encode("ascii")),
        )
        for answer in answers
    ]
    items.append(item(Item.USER_INFORMATION, b"".join(user)))
    return b"".join(items)


def associate_accept(request: AssociateRequest, items: bytes) -> bytes:
    """Return an A-ASSOCIATE-AC with these variable items."""
    body = PROTOCOL_VERSION.to_bytes(2, "big") + bytes(2) + request.titles + bytes(32) + items
    return HEADER.pack(PduType.ASSOCIATE_AC, len(body)) + body


def associate_reject(rejection: Rejection) -> bytes:
    """Return an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    body = bytes([0, rejection.result, rejection.source, rejection.reason])
    return HEADER.pack(PduType.ASSOCIATE_RJ, len(body)) + body


def release_response() -> bytes:
    """Return an A-RELEASE-RP (PS3.8 9.3.7)."""
    return HEADER.pack(PduType.RELEASE_RP, 4) + bytes(4)


def abort(reason: AbortReason) -> bytes:
    """Return an A-ABORT of the service provider (PS3.8 9.3.8)."""
    return HEADER.pack(PduType.ABORT, 4) + bytes([0, 0, 2, reason])


def command_pdu(context_id: int, command: bytes) -> bytes:
    """Return a P-DATA-TF with a whole command set."""
    header = P_DATA_HEADER.pack(
        PduType.DATA_TF, len(command) + 6, len(command) + 2, context_id, COMMAND | LAST
    )
    return header + command


def message_pdus(
    context_id: int, command: bytes, data_set: bytes, maximum_length: int
) -> Iterator[bytes]:
    """Yield the P-DATA-TF PDUs of a message, none longer than the peer takes.

    Parameters
    ----------
    maximum_length : int
        As the peer announced it; 0 for no limit.
    """
    room = max(2, maximum_length - 6) if maximum_length else 1 << 17
    for kind, value in ((COMMAND, command), (0, data_set)):
        for begin in range(0, len(value), room):
            piece = value[begin : begin + room]
            control = kind | (LAST if begin + room >= len(value) else 0)
            yield (
                P_DATA_HEADER.pack(
                    PduType.DATA_TF, len(piece) + 6, len(piece) + 2, context_id, control
                )
                + piece
            )


def item(kind: Item, value: bytes) -> bytes:
    """Return a variable item or sub-item."""
    return _ITEM.pack(kind, len(value)) + value


def items_of(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each item; ProtocolBroken where there is none."""
    at, end = 0, len(encoded)
    unpack = _ITEM.unpack_from
    while at < end:
        if at + 4 > end:
            raise ProtocolBroken("the items of an association end in the middle of one")
        kind, length = unpack(encoded, at)
        at += 4
        if length > end - at:
            raise ProtocolBroken("an item of an association is longer than what holds it")
        yield kind, encoded[at : at + length]
        at += length


def _proposed_context(value: bytes) -> ProposedContext:
    if len(value) < 4:
        raise ProtocolBroken("a presentation context item is too short")
    context_id = value[0]
    if not context_id & 1:
        raise ProtocolBroken("a presentation context ID is even")  # PS3.8 9.3.2.2
    abstract_syntax, transfer_syntaxes = "", []
    for kind, sub_value in items_of(value[4:]):
        if kind == Item.ABSTRACT_SYNTAX:
            abstract_syntax = uid_of(sub_value)
        elif kind == Item.TRANSFER_SYNTAX:
            transfer_syntaxes.append(uid_of(sub_value))
    return ProposedContext(context_id, abstract_syntax, tuple(transfer_syntaxes))


def role_item(uid: str, scu: int, scp: int) -> bytes:
    """Return a role selection sub-item (PS3.7 D.3.3.4)."""
    encoded = uid.encode("ascii")
    value = len(encoded).to_bytes(2, "big") + encoded + bytes([scu, scp])
    return item(Item.ROLE_SELECTION, value)


def role_of(value: bytes) -> tuple[str, int, int]:
    """Return SOP Class UID, SCU role and SCP role of a role selection item (PS3.7 D.3.3.4)."""
    length = int.from_bytes(value[:2], "big")
    if len(value) < 4 or len(value) != length + 4:
        raise ProtocolBroken("a role selection item has a wrong length")
    return uid_of(value[2 : 2 + length]), value[-2] & 1, value[-1] & 1


def uid_of(value: bytes) -> str:
    """Return a UID without its padding; what is not ASCII becomes a question mark."""
    return value.rstrip(b"\0 ").decode("ascii", "replace")


def title_of(value: bytes) -> str:
    """Return an AE title; what may not stand in one (PS3.5 6.2, AE) would spoil rows and logs."""
    title = value.strip(b"\0 ").decode("ascii", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in title)
