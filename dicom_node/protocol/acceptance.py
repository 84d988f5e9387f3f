"""What a requestor proposes for an association, and what it hears (PS3.8 9.3.2 to 9.3.4, 9.3.8)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dicom_node.errors import ProtocolBroken
from dicom_node.protocol.pdu import (
    APPLICATION_CONTEXT,
    HEADER,
    PROTOCOL_VERSION,
    Item,
    PduType,
    ProposedContext,
    Rejection,
    item,
    items_of,
    role_item,
    role_of,
    uid_of,
)

_AE_TITLE_BYTES = 16
_FIXED_BYTES = 68
"""Protocol version and AE titles, and what is reserved beside them."""
_ACCEPTANCE = 0


def associate_request(
    contexts: Sequence[ProposedContext],
    *,
    calling_ae_title: str,
    called_ae_title: str,
    maximum_length: int,
    implementation_class_uid: str,
    implementation_version_name: str,
    scp_of: Collection[str] = (),
) -> bytes:
    """Return an A-ASSOCIATE-RQ (PS3.8 9.3.2).

    Parameters
    ----------
    maximum_length : int
        Of a P-DATA-TF that we take.
    scp_of : collection of str
        The SOP Classes whose SCP we want to be, and not the SCU (PS3.7 D.3.3.4).
    """
    user = [
        item(Item.MAXIMUM_LENGTH, maximum_length.to_bytes(4, "big")),
        item(Item.IMPLEMENTATION_CLASS_UID, implementation_class_uid.encode("ascii")),
        *(role_item(uid, 0, 1) for uid in scp_of),
        item(Item.IMPLEMENTATION_VERSION_NAME, implementation_version_name.encode("ascii")),
    ]
    body = b"".join(
        (
            PROTOCOL_VERSION.to_bytes(2, "big") + bytes(2),
            _padded(called_ae_title) + _padded(calling_ae_title) + bytes(32),
            item(Item.APPLICATION_CONTEXT, APPLICATION_CONTEXT.encode("ascii")),
            *(_proposed(context) for context in contexts),
            item(Item.USER_INFORMATION, b"".join(user)),
        )
    )
    return HEADER.pack(PduType.ASSOCIATE_RQ, len(body)) + body


@dataclass(frozen=True)
class Acceptance:
    """An A-ASSOCIATE-AC (PS3.8 9.3.3)."""

    transfer_syntaxes: Mapping[int, str]
    """By the ID of each presentation context that is accepted."""
    maximum_length: int
    """The longest P-DATA-TF that the peer takes, without its header; 0 for no limit."""
    roles: Mapping[str, tuple[int, int]]
    """By SOP Class UID: whether we may be SCU, and SCP; most peers say nothing."""

    @classmethod
    def parse(cls, body: bytes) -> Acceptance:
        """Return the answer in the body of a PDU; ProtocolBroken if it is none."""
        if len(body) < _FIXED_BYTES:
            raise ProtocolBroken("the answer to an association request is too short")
        accepted: dict[int, str] = {}
        roles: dict[str, tuple[int, int]] = {}
        maximum_length = 0
        for kind, value in items_of(body[_FIXED_BYTES:]):
            if kind == Item.PRESENTATION_CONTEXT_AC:
                if len(value) < 4:
                    raise ProtocolBroken("a presentation context item is too short")
                if value[2] == _ACCEPTANCE:
                    accepted[value[0]] = _transfer_syntax(value[4:])
            elif kind == Item.USER_INFORMATION:
                for sub_kind, sub_value in items_of(value):
                    if sub_kind == Item.MAXIMUM_LENGTH:
                        maximum_length = int.from_bytes(sub_value, "big")
                    elif sub_kind == Item.ROLE_SELECTION:
                        uid, scu, scp = role_of(sub_value)
                        roles[uid] = (scu, scp)
        return cls(accepted, maximum_length, roles)


def rejection_of(body: bytes) -> Rejection:
    """Return what an A-ASSOCIATE-RJ says; ProtocolBroken if it is none."""
    if len(body) != 4:
        raise ProtocolBroken("a rejection has a wrong length")
    return Rejection(body[1], body[2], body[3])


def release_request() -> bytes:
    """Return an A-RELEASE-RQ (PS3.8 9.3.6)."""
    return HEADER.pack(PduType.RELEASE_RQ, 4) + bytes(4)


def user_abort() -> bytes:
    """Return an A-ABORT of the service user (PS3.8 9.3.8)."""
    return HEADER.pack(PduType.ABORT, 4) + bytes(4)


def _proposed(context: ProposedContext) -> bytes:
    syntaxes = item(Item.ABSTRACT_SYNTAX, context.abstract_syntax.encode("ascii"))
    for transfer_syntax in context.transfer_syntaxes:
        syntaxes += item(Item.TRANSFER_SYNTAX, transfer_syntax.encode("ascii"))
    return item(Item.PRESENTATION_CONTEXT_RQ, bytes([context.context_id, 0, 0, 0]) + syntaxes)


def _transfer_syntax(encoded: bytes) -> str:
    for kind, value in items_of(encoded):
        if kind == Item.TRANSFER_SYNTAX:
            return uid_of(value)
    raise ProtocolBroken("a presentation context is accepted without a transfer syntax")


def _padded(ae_title: str) -> bytes:
    return ae_title.encode("ascii", "replace")[:_AE_TITLE_BYTES].ljust(_AE_TITLE_BYTES)
