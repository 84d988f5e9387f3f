"""What a DIMSE service other than C-STORE and C-ECHO is, to the event loop.

The loop collects a request whole and hands it to a thread of the services' pool; the service
yields its replies there, and the loop sends them in order. A service may read and write the ledger,
which the loop never does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from dicom_node.protocol.command import Command


class DimseStatus(IntEnum):
    """Statuses of the services beside C-STORE (PS3.7 Annex C, PS3.4 C.4.1.1.4)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    DUPLICATE_SOP_INSTANCE = 0x0111
    NO_SUCH_SOP_INSTANCE = 0x0112
    NO_SUCH_EVENT_TYPE = 0x0113
    INVALID_ATTRIBUTE_VALUE = 0x0106
    MISSING_ATTRIBUTE = 0x0120
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NO_SUCH_ACTION = 0x0123
    UNRECOGNIZED_OPERATION = 0x0211
    MISTYPED_ARGUMENT = 0x0212
    OUT_OF_RESOURCES = 0xA700
    IDENTIFIER_DOES_NOT_MATCH = 0xA900
    UNABLE_TO_PROCESS = 0xC000
    CANCELLED = 0xFE00
    PENDING = 0xFF00


@dataclass(frozen=True)
class ServiceRequest:
    """A DIMSE request, whole."""

    association_id: str
    calling_ae_title: str
    sop_class_uid: str
    """The abstract syntax of its presentation context."""
    transfer_syntax_uid: str
    command: Command
    data_set: bytes
    """Empty where the command announces none."""
    cancelled: Callable[[], bool] = lambda: False
    """Whether the requestor sent C-CANCEL, or is gone: then a long answer may end early."""


@dataclass(frozen=True)
class ServiceReply:
    """One response to a request."""

    status: int
    data_set: bytes = b""
    """In the transfer syntax of the request; empty for none."""
    fields: Mapping[int, bytes] = field(default_factory=dict)
    """Further elements of the command set, of even length (see `command.ui`, `command.lo`)."""


@dataclass(frozen=True)
class EventReport:
    """An N-EVENT-REPORT that we send on the association of the request, after its response."""

    sop_class_uid: str
    sop_instance_uid: str
    event_type_id: int
    data_set: bytes
    answered: Callable[[int | None], None]
    """Told the status of the response, or None if none came; called once, on the loop's thread."""


Service = Callable[[ServiceRequest], Iterator[ServiceReply | EventReport]]
"""Answers one request; what it raises is answered 0x0110 and logged."""
