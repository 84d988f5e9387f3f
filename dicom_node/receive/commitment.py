"""Storage Commitment Push Model SCP (PS3.4 Annex J).

A request is in the ledger before it is answered. What we commit to is decided from the ledger, once
all that was acknowledged before is in it, and reported at once on the same association. Most
requestors have released that by then, as they may (PS3.4 J.3.2.1.2): the request stays PENDING in
the ledger, and is reported on an association of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import structlog
from pydicom.dataset import Dataset

from dicom_node.clock import Clock
from dicom_node.data_sets import decode, items_of, text_of
from dicom_node.errors import DicomNodeError
from dicom_node.ledger.ledger import Ledger
from dicom_node.model import Commitment, CommitmentOutcome, Instance, ReferencedInstance
from dicom_node.protocol.command import CommandField, Element
from dicom_node.receive.refusal import (
    INVALID_ARGUMENT_VALUE,
    RequestRefused,
    answering,
    check_command,
)
from dicom_node.receive.service import DimseStatus, EventReport, ServiceReply, ServiceRequest
from dicom_node.scu.commitment import (
    REQUEST_STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    STORAGE_COMMITMENT_PUSH_MODEL,
    event_type_id,
    is_acknowledged,
    report_of,
)
from dicom_node.uid import is_uid

log = structlog.get_logger()

Later = Callable[[Callable[[], None]], object]
"""Has something done soon, on a thread that may wait for the ledger."""

_AT_ONCE_S = 60.0
"""So long the report may take on the association of its request."""
_NOT_CAUGHT_UP_S = 5.0
"""So much later it is decided when the ledger is behind: that must have got about by then."""


def do_now(task: Callable[[], None]) -> None:
    """Do it here: for those who have no other thread."""
    task()


class CommitmentService:
    """A service for the Storage Commitment Push Model.

    Parameters
    ----------
    caught_up : callable
        Waits a short while until all that was acknowledged before is in the ledger; says if it is.
    is_held : callable
        Whether the bytes of an instance can be found.
    later : callable
        Where the answer to a report is noted: it comes on the loop's thread, which must not wait.
    """

    def __init__(
        self,
        ledger: Ledger,
        caught_up: Callable[[], bool],
        is_held: Callable[[Instance], bool],
        clock: Clock,
        later: Later = do_now,
    ) -> None:
        self._ledger = ledger
        self._caught_up = caught_up
        self._is_held = is_held
        self._clock = clock
        self._later = later

    def __call__(self, request: ServiceRequest) -> Iterator[ServiceReply | EventReport]:
        return answering(request, self._answer(request))

    def _answer(self, request: ServiceRequest) -> Iterator[ServiceReply | EventReport]:
        check_command(request, CommandField.N_ACTION)
        if request.command.sop_instance_uid != STORAGE_COMMITMENT_INSTANCE:
            raise RequestRefused(
                "the SOP Instance is not the well-known one",
                status=DimseStatus.NO_SUCH_SOP_INSTANCE,
            )
        if request.command.number(Element.ACTION_TYPE_ID) != REQUEST_STORAGE_COMMITMENT:
            raise RequestRefused("the Action Type ID is not 1", status=DimseStatus.NO_SUCH_ACTION)
        transaction_uid, references = read_request(
            decode(request.data_set, request.transfer_syntax_uid)
        )
        now = self._clock()
        commitment = self._ledger.commitments.request(
            transaction_uid, request.calling_ae_title, references, now + _AT_ONCE_S, now
        )
        log.info(
            "commitment_requested",
            association_id=request.association_id,
            calling_ae_title=request.calling_ae_title,
            transaction_uid=transaction_uid,
            instances=len(references),
        )
        yield ServiceReply(DimseStatus.SUCCESS)
        try:
            report = self._report(commitment, request)
        except (DicomNodeError, OSError):
            # the request is answered and in the ledger: from there it is taken again
            log.exception("commitment_postponed", transaction_uid=transaction_uid)
            return
        if report is not None:
            yield report

    def _report(self, commitment: Commitment, request: ServiceRequest) -> EventReport | None:
        """Return the report, unless it is too early to decide or the requestor has gone."""
        if not self._caught_up():
            why = "what was acknowledged before is not all in the ledger yet"
            now = self._clock()
            self._ledger.commitments.not_acknowledged_at_once(
                commitment, why, now, now + _NOT_CAUGHT_UP_S
            )
            return None
        outcome = self._ledger.commitments.outcome(commitment, self._is_held)
        if request.cancelled():
            self._note(commitment, outcome, None)
            return None
        return EventReport(
            STORAGE_COMMITMENT_PUSH_MODEL,
            STORAGE_COMMITMENT_INSTANCE,
            event_type_id(outcome),
            report_of(commitment.transaction_uid, outcome, request.transfer_syntax_uid),
            answered=lambda status: self._answered(commitment, outcome, status),
        )

    def _answered(
        self, commitment: Commitment, outcome: CommitmentOutcome, status: int | None
    ) -> None:
        def note() -> None:
            try:
                self._note(commitment, outcome, status)
            except DicomNodeError:
                # it is reported once more, on an association of ours
                log.exception("commitment_postponed", transaction_uid=commitment.transaction_uid)

        self._later(note)

    def _note(self, commitment: Commitment, outcome: CommitmentOutcome, status: int | None) -> None:
        commitments, now = self._ledger.commitments, self._clock()
        if is_acknowledged(status):
            why = f"{outcome.in_words}; acknowledged on the association of the request"
            commitments.acknowledged_at_once(commitment, why, now)
        elif status is None:
            why = f"{outcome.in_words}; the association of the request ended before the report"
            commitments.not_acknowledged_at_once(commitment, why, now)
        else:
            why = f"{outcome.in_words}; the report was answered 0x{status:04X}"
            commitments.not_acknowledged_at_once(commitment, why, now)


def read_request(action_information: Dataset) -> tuple[str, list[ReferencedInstance]]:
    """Return the Transaction UID of a request, and the instances that it names.

    Raises
    ------
    RequestRefused
        If there is no Transaction UID, no instance, or a reference without UIDs
        (PS3.4 Table J.3-1: all of type 1).
    """
    transaction_uid = text_of(action_information, "TransactionUID") or ""
    if not is_uid(transaction_uid):
        raise _invalid("Transaction UID", "TransactionUID")
    items = items_of(action_information, "ReferencedSOPSequence")
    if not items:
        raise _invalid("Referenced SOP Sequence", "ReferencedSOPSequence")
    references = []
    for item in items:
        sop_class_uid = text_of(item, "ReferencedSOPClassUID") or ""
        sop_instance_uid = text_of(item, "ReferencedSOPInstanceUID") or ""
        if not (is_uid(sop_class_uid) and is_uid(sop_instance_uid)):
            raise _invalid("UID of a Referenced SOP Instance", "ReferencedSOPSequence")
        references.append(ReferencedInstance(sop_class_uid, sop_instance_uid))
    return transaction_uid, references


def _invalid(name: str, keyword: str) -> RequestRefused:
    return RequestRefused(
        f"the {name} is missing or invalid", status=INVALID_ARGUMENT_VALUE, keyword=keyword
    )
