"""Results of storage commitment that we asked for, on associations of the archive (PS3.4 J.3.3.1).

A result is in the ledger before it is acknowledged; what follows from it is decided by the deliver
stage. It counts for deliveries to the destination that sends it and for the transaction that was
asked for, and for no others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import structlog

from dicom_node.clock import Clock
from dicom_node.errors import StudyUnusable
from dicom_node.ledger.ledger import Ledger
from dicom_node.protocol.command import CommandField, Element
from dicom_node.receive.refusal import (
    INVALID_ARGUMENT_VALUE,
    RequestRefused,
    answering,
    check_command,
)
from dicom_node.receive.service import DimseStatus, EventReport, ServiceReply, ServiceRequest
from dicom_node.scu.commitment import (
    ALL_COMMITTED,
    FAILURES_EXIST,
    STORAGE_COMMITMENT_INSTANCE,
    read_report,
)

log = structlog.get_logger()


class CommitmentResults:
    """A service for the N-EVENT-REPORT of the Storage Commitment Push Model.

    Parameters
    ----------
    destinations : mapping of str to collection of str
        The names of those who may report, by their AE titles.
    """

    def __init__(
        self, ledger: Ledger, destinations: Mapping[str, Collection[str]], clock: Clock
    ) -> None:
        self._ledger = ledger
        self._destinations = destinations
        self._clock = clock

    def __call__(self, request: ServiceRequest) -> Iterator[ServiceReply | EventReport]:
        return answering(request, self._answer(request))

    def _answer(self, request: ServiceRequest) -> Iterator[ServiceReply]:
        check_command(request, CommandField.N_EVENT_REPORT)
        if request.command.sop_instance_uid != STORAGE_COMMITMENT_INSTANCE:
            raise RequestRefused(
                "the SOP Instance is not the well-known one",
                status=DimseStatus.NO_SUCH_SOP_INSTANCE,
            )
        event_type_id = request.command.number(Element.EVENT_TYPE_ID)
        if event_type_id not in (ALL_COMMITTED, FAILURES_EXIST):
            raise RequestRefused(
                "the Event Type ID is neither 1 nor 2", status=DimseStatus.NO_SUCH_EVENT_TYPE
            )
        try:
            transaction_uid, answers = read_report(request.data_set, request.transfer_syntax_uid)
        except StudyUnusable as error:
            raise RequestRefused(error.message, status=INVALID_ARGUMENT_VALUE) from error
        names = self._destinations.get(request.calling_ae_title, ())
        counted = self._ledger.proofs.answered(transaction_uid, names, answers, self._clock())
        log.info(
            "commitment_result",
            association_id=request.association_id,
            calling_ae_title=request.calling_ae_title,
            transaction_uid=transaction_uid,
            instances=len(answers),
            counted=counted,
        )
        # One that counts for nothing was asked for again, or answered before: no need to repeat it.
        yield ServiceReply(DimseStatus.SUCCESS)
