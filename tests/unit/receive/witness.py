"""PDUs, command sets and negotiations as pynetdicom makes and reads them: a witness for ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple

from pydicom.dataset import Dataset
from pynetdicom import dimse_messages, dimse_primitives
from pynetdicom.dsutils import decode, encode
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    P_DATA,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import PresentationContext, build_context

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
Contexts = Mapping[int, tuple[str, Sequence[str]]]
"""Abstract syntax and transfer syntaxes by presentation context ID."""


def contexts_of(proposed: Contexts) -> list[PresentationContext]:
    contexts = []
    for context_id, (abstract_syntax, transfer_syntaxes) in proposed.items():
        context = build_context(abstract_syntax, list(transfer_syntaxes))
        context.context_id = context_id
        contexts.append(context)
    return contexts


def associate_rq(
    proposed: Contexts,
    *,
    calling: str = "SCANNER",
    called: str = "DICOM_NODE",
    maximum_length: int = 16382,
    roles: Mapping[str, tuple[bool, bool]] | None = None,
    implementation: str | None = "WITNESS_1",
    further: Iterable[Any] = (),
) -> bytes:
    """Return an A-ASSOCIATE-RQ; `further` are user information primitives."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = APPLICATION_CONTEXT
    primitive.calling_ae_title, primitive.called_ae_title = calling, called
    primitive.presentation_context_definition_list = contexts_of(proposed)
    length = MaximumLengthNotification()
    length.maximum_length_received = maximum_length
    class_uid = ImplementationClassUIDNotification()
    class_uid.implementation_class_uid = "1.2.3.4"
    items: list[Any] = [length, class_uid]
    if implementation is not None:
        name = ImplementationVersionNameNotification()
        name.implementation_version_name = implementation
        items.append(name)
    for uid, (scu, scp) in (roles or {}).items():
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid, role.scu_role, role.scp_role = uid, scu, scp
        items.append(role)
    primitive.user_information = [*items, *further]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


class Proposed(NamedTuple):
    """What an A-ASSOCIATE-RQ says."""

    titles: tuple[str, str]
    """Called and calling."""
    contexts: dict[int, tuple[str, list[str]]]


def read_associate_rq(encoded: bytes) -> Proposed:
    pdu: Any = A_ASSOCIATE_RQ()
    pdu.decode(encoded)
    return Proposed(
        (pdu.called_ae_title.strip(), pdu.calling_ae_title.strip()),
        {
            item.presentation_context_id: (
                str(item.abstract_syntax),
                [str(syntax) for syntax in item.transfer_syntax],
            )
            for item in pdu.presentation_context
        },
    )


class Accepted(NamedTuple):
    """What an A-ASSOCIATE-AC says."""

    titles: tuple[str, str]
    """Called and calling."""
    application_context: str
    results: dict[int, int]
    transfer_syntaxes: dict[int, str]
    """Of the contexts that were accepted."""
    roles: dict[str, tuple[bool, bool]]
    maximum_length: int
    implementation: tuple[str, str]


def read_accept(encoded: bytes) -> Accepted:
    pdu: Any = A_ASSOCIATE_AC()
    pdu.decode(encoded)
    items = pdu.presentation_context
    user = pdu.user_information
    return Accepted(
        (pdu.called_ae_title.strip(), pdu.calling_ae_title.strip()),
        str(pdu.application_context_name),
        {item.presentation_context_id: item.result for item in items},
        {
            item.presentation_context_id: str(item.transfer_syntax)
            for item in items
            if item.result == 0
        },
        {
            str(uid): (bool(item.scu_role), bool(item.scp_role))
            for uid, item in user.role_selection.items()
        },
        user.maximum_length,
        (str(user.implementation_class_uid), user.implementation_version_name),
    )


class Pdv(NamedTuple):
    context_id: int
    control: int
    fragment: bytes


def read_p_data(encoded: bytes) -> list[Pdv]:
    """Return the presentation data values of a P-DATA-TF."""
    pdu: Any = P_DATA_TF()
    pdu.decode(encoded)
    return [
        Pdv(
            item.presentation_context_id,
            item.presentation_data_value[0],
            item.presentation_data_value[1:],
        )
        for item in pdu.presentation_data_value_items
    ]


def a_message(name: str, **fields: Any) -> bytes:
    """Return the encoded command set of a message, such as `C_STORE_RQ`."""
    primitive = getattr(dimse_primitives, name.removesuffix("_RQ").removesuffix("_RSP"))()
    for keyword, value in fields.items():
        setattr(primitive, keyword, value)
    message = getattr(dimse_messages, name)()
    message.primitive_to_message(primitive)
    encoded = encode(message.command_set, True, True)
    assert encoded is not None
    return bytes(encoded)


def read_message(command_set: bytes) -> tuple[str, Dataset]:
    """Return the name of a message and its command set; it must be one that pynetdicom takes."""
    primitive = P_DATA()
    primitive.presentation_data_value_list.append((1, b"\x03" + command_set))
    message = dimse_messages.DIMSEMessage()
    message.decode_msg(primitive)
    message.message_to_primitive()
    decoded = decode(BytesIO(command_set), True, True)
    assert len(command_set) == 12 + decoded.CommandGroupLength
    return type(message).__name__, decoded
