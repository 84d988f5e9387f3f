"""Storage commitment as SCU: the N-ACTION, and its result where that comes at once.

An archive may report on the association of the request, or on one that it opens itself, at any time
later (PS3.4 J.3.3.1). The latter comes to the receiver, as any other request of a peer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO

import structlog
from pydicom.uid import UID
from pynetdicom.dimse_primitives import N_ACTION, N_EVENT_REPORT

from dicom_node.errors import DicomNodeError, StorageError, StudyUnusable
from dicom_node.model import ReferencedInstance
from dicom_node.scu.address import Address
from dicom_node.scu.commitment import (
    REQUEST_STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    STORAGE_COMMITMENT_PUSH_MODEL,
    is_acknowledged,
    read_report,
    request_of,
)
from dicom_node.scu.operation import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, SUCCESS
from dicom_node.scu.requestor import LOOK_EVERY_S, Arrived, Requestor

log = structlog.get_logger()

_PROCESSING_FAILURE = 0x0110
_INVALID_ARGUMENT_VALUE = 0x0115
_RESOURCE_LIMITATION = 0x0213

TakeReport = Callable[[str, Mapping[str, int]], object]
"""Keeps a result durably: Transaction UID; 0 or Failure Reason by SOP Instance UID."""


def request_commitment(
    address: Address,
    transaction_uid: str,
    references: Sequence[ReferencedInstance],
    take: TakeReport,
    stay_s: float,
) -> None:
    """Ask a peer to commit to instances.

    Parameters
    ----------
    take : callable
        Keeps the result, if it comes on this association; it is acknowledged after that.
    stay_s : float
        How long the association stays for it. Peers that report on one of their own cost so much.

    Raises
    ------
    PeerUnreachable
        If there is no association, or it broke before the answer; the request may have arrived.
    PeerRefused
        If the peer answers with a failure, or offers no storage commitment.
    """
    contexts = [
        (STORAGE_COMMITMENT_PUSH_MODEL, syntax)
        for syntax in (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
    ]
    with address.associate(contexts) as requestor:
        offered = [context for context in contexts if requestor.accepts_context(context)]
        if not offered:
            raise address.unsupported("Storage Commitment Push Model")
        asking = _Asking(requestor, address, take)
        asking.ask(offered[0], transaction_uid, references)
        asking.stay(stay_s)


class _Asking:
    """One N-ACTION and what follows from it on its association."""

    def __init__(self, requestor: Requestor, address: Address, take: TakeReport) -> None:
        self._requestor = requestor
        self._address = address
        self._take = take
        self._syntaxes = {number: pair[1] for pair, number in requestor.accepted.items()}
        self._has_result = False

    def ask(
        self,
        context: tuple[str, str],
        transaction_uid: str,
        references: Sequence[ReferencedInstance],
    ) -> None:
        request = N_ACTION()
        request.RequestedSOPClassUID = UID(STORAGE_COMMITMENT_PUSH_MODEL)
        request.RequestedSOPInstanceUID = UID(STORAGE_COMMITMENT_INSTANCE)
        request.ActionTypeID = REQUEST_STORAGE_COMMITMENT
        request.ActionInformation = BytesIO(request_of(transaction_uid, references, context[1]))
        message_id = self._requestor.send(request, self._requestor.accepted[context])
        deadline = time.monotonic() + self._address.timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            arrived = self._next(left_s)
            if arrived is None:
                if self._requestor.is_alive():
                    continue
                break
            if arrived.message.MessageIDBeingRespondedTo == message_id:
                status = arrived.message.Status
                if status is None:
                    break
                if not is_acknowledged(status):
                    raise self._address.refused("request for storage commitment", status)
                return
        self._requestor.abort()
        raise self._address.unreachable()

    def stay(self, stay_s: float) -> None:
        """Wait a little for the result; the peer may also release or abort, as it likes."""
        deadline = time.monotonic() + stay_s
        while not self._has_result and (left_s := deadline - time.monotonic()) > 0:
            if self._next(left_s) is None and not self._requestor.is_alive():
                return

    def _next(self, left_s: float) -> Arrived | None:
        """Return the next answer; a report, which may come before it, is taken meanwhile."""
        arrived = self._requestor.receive(min(left_s, LOOK_EVERY_S))
        if arrived is None or arrived.message.MessageIDBeingRespondedTo is not None:
            return arrived
        if not isinstance(arrived.message, N_EVENT_REPORT):
            self._requestor.abort()  # nothing else may be asked of us here
            return None
        self._acknowledge(arrived.message, arrived.context_id)
        return arrived

    def _acknowledge(self, report: N_EVENT_REPORT, context_id: int) -> None:
        response = N_EVENT_REPORT()
        response.MessageIDBeingRespondedTo = report.MessageID
        response.AffectedSOPClassUID = report.AffectedSOPClassUID
        response.AffectedSOPInstanceUID = report.AffectedSOPInstanceUID
        response.EventTypeID = report.EventTypeID
        response.Status = self._status(report, self._syntaxes.get(context_id, ""))
        self._has_result = True
        self._requestor.reply(response, context_id)

    def _status(self, report: N_EVENT_REPORT, transfer_syntax_uid: str) -> int:
        information = report.EventInformation
        encoded = information.getvalue() if information is not None else b""
        try:
            self._take(*read_report(encoded, transfer_syntax_uid))
        except StudyUnusable as error:
            log.warning("commitment_result_unreadable", reason=error.message)
            return _INVALID_ARGUMENT_VALUE
        except StorageError:
            log.exception("commitment_result_lost")  # the peer reports again
            return _RESOURCE_LIMITATION
        except DicomNodeError:
            log.exception("commitment_result_lost")
            return _PROCESSING_FAILURE
        return SUCCESS
