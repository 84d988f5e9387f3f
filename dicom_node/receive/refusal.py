"""Why a DIMSE request is refused, as the one error that its service answers."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

import structlog
from pydicom.datadict import tag_for_keyword

from dicom_node.errors import DicomNodeError, StorageError, StudyUnusable
from dicom_node.protocol.command import CommandField, Element, lo
from dicom_node.receive.service import DimseStatus, EventReport, ServiceReply, ServiceRequest

log = structlog.get_logger()

INVALID_ARGUMENT_VALUE = 0x0115
"""PS3.7 C.5.10."""
INVALID_SOP_INSTANCE = 0x0117
"""The UID broke the rules of its construction (PS3.7 C.5.12)."""
NO_SUCH_SOP_CLASS = 0x0118
"""PS3.7 C.5.13."""
MISSING_ATTRIBUTE_VALUE = 0x0121
"""PS3.7 C.5.15."""
RESOURCE_LIMITATION = 0x0213
"""PS3.7 C.5.20."""


class RequestRefused(DicomNodeError):
    """A request is not taken; `status` answers it, with the message as its Error Comment.

    Parameters
    ----------
    keyword : str
        The attribute that is to blame, if one is: it is named as (0000,0901) Offending Element.
    fields : mapping of int to bytes
        Further elements of the response.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        keyword: str = "",
        fields: Mapping[int, bytes] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.fields = {Element.ERROR_COMMENT: lo(message), **(fields or {})}
        tag = tag_for_keyword(keyword) if keyword else None
        if tag is not None:
            self.fields[Element.OFFENDING_ELEMENT] = struct.pack("<HH", tag >> 16, tag & 0xFFFF)

    @property
    def reply(self) -> ServiceReply:
        return ServiceReply(self.status, fields=self.fields)


def check_command(request: ServiceRequest, field: CommandField) -> None:
    """Refuse a request that is not what its presentation context is for (PS3.7 C.5)."""
    if request.command.field != field:
        raise RequestRefused(
            "this SOP Class has no such operation", status=DimseStatus.UNRECOGNIZED_OPERATION
        )
    if request.command.sop_class_uid != request.sop_class_uid:
        composite = field < CommandField.N_EVENT_REPORT
        raise RequestRefused(
            "the SOP Class is not that of the presentation context",
            status=DimseStatus.SOP_CLASS_NOT_SUPPORTED if composite else NO_SUCH_SOP_CLASS,
        )


def answering(
    request: ServiceRequest,
    replies: Iterator[ServiceReply | EventReport],
    *,
    unreadable: int = DimseStatus.PROCESSING_FAILURE,
    unavailable: int = RESOURCE_LIMITATION,
) -> Iterator[ServiceReply | EventReport]:
    """Yield the replies of a service, and what refuses the request as its last.

    Parameters
    ----------
    unreadable : int
        The status where the data set cannot be decoded.
    unavailable : int
        The status where the ledger or the store fails.
    """
    try:
        yield from replies
        return
    except RequestRefused as error:
        refusal = error
    except StudyUnusable as error:
        refusal = RequestRefused(error.message, status=unreadable)
    except StorageError:
        log.exception("service_failed", sop_class_uid=request.sop_class_uid)
        refusal = RequestRefused("out of order, try again later", status=unavailable)
    log.warning(
        "request_refused",
        association_id=request.association_id,
        calling_ae_title=request.calling_ae_title,
        sop_class_uid=request.sop_class_uid,
        status=f"0x{refusal.status:04X}",
        reason=refusal.message,
    )
    yield refusal.reply
