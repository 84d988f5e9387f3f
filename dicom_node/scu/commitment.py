"""The data sets of storage commitment: its request and its report, and what answers them."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from dicom_node.data_sets import decode, encode, items_of, text_of
from dicom_node.errors import StudyUnusable
from dicom_node.model import CommitmentOutcome, ReferencedInstance
from dicom_node.uid import is_uid

STORAGE_COMMITMENT_PUSH_MODEL = "1.2.840.10008.1.20.1"
STORAGE_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
"""The one SOP Instance of the SOP Class, well known (PS3.4 J.3.5)."""

ALL_COMMITTED = 1
FAILURES_EXIST = 2

REQUEST_STORAGE_COMMITMENT = 1
"""The only (0000,1008) Action Type ID (PS3.4 Table J.3-1)."""

_COMMITTED = 0
_PROCESSING_FAILURE = 0x0110
_UNDECIDED = frozenset({_PROCESSING_FAILURE, 0x0122, 0x0131, 0x0213})
"""Failure Reasons that do not say that an instance is not there (PS3.3 C.14.1.1): the peer failed,
commits to nothing of this SOP Class, has seen the Transaction UID before, or is full."""

_WARNINGS = frozenset({0x0001, 0x0107, 0x0116})  # PS3.7 C.4


def event_type_id(outcome: CommitmentOutcome) -> int:
    """Return the (0000,1002) Event Type ID (PS3.4 Table J.3-2)."""
    return FAILURES_EXIST if outcome.failed else ALL_COMMITTED


def request_of(
    transaction_uid: str, references: Sequence[ReferencedInstance], transfer_syntax_uid: str
) -> bytes:
    """Return the encoded action information of a request."""
    request = Dataset()
    request.TransactionUID = transaction_uid
    request.ReferencedSOPSequence = [_reference(one) for one in references]
    return encode(request, transfer_syntax_uid)


def report_of(transaction_uid: str, outcome: CommitmentOutcome, transfer_syntax_uid: str) -> bytes:
    """Return the encoded event information: every instance that was asked for is in it once."""
    report = Dataset()
    report.TransactionUID = transaction_uid
    if outcome.committed:
        report.ReferencedSOPSequence = [_reference(one) for one in outcome.committed]
    if outcome.failed:
        report.FailedSOPSequence = [_reference(one) for one, _ in outcome.failed]
        for item, (_, failure_reason) in zip(report.FailedSOPSequence, outcome.failed, strict=True):
            item.FailureReason = failure_reason
    return encode(report, transfer_syntax_uid)


def is_acknowledged(status: int | None) -> bool:
    """Return whether the answer to an N-EVENT-REPORT says that it arrived."""
    return status is not None and (status == 0 or status in _WARNINGS or status >> 12 == 0xB)


def _reference(reference: ReferencedInstance) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    return item


def read_report(event_information: bytes, transfer_syntax_uid: str) -> tuple[str, dict[str, int]]:
    """Return what the result of a request for commitment says.

    Returns
    -------
    (str, dict of str to int)
        The Transaction UID; by SOP Instance UID 0 where the peer commits, a Failure Reason where
        the instance is not there, or is another. What the peer could not decide is left out: it is
        asked again.

    Raises
    ------
    StudyUnusable
        If it cannot be read, or has no Transaction UID.
    """
    report = decode(event_information, transfer_syntax_uid)
    transaction_uid = text_of(report, "TransactionUID") or ""
    if not is_uid(transaction_uid):
        raise StudyUnusable("the Transaction UID is missing or invalid")
    answers: dict[str, int] = {}
    for item in items_of(report, "ReferencedSOPSequence") or ():
        answers[text_of(item, "ReferencedSOPInstanceUID") or ""] = _COMMITTED
    for item in items_of(report, "FailedSOPSequence") or ():
        reason = text_of(item, "FailureReason") or ""
        number = int(reason) if reason.isascii() and reason.isdigit() else _PROCESSING_FAILURE
        # in both sequences: what was not committed for sure was not committed
        answers[text_of(item, "ReferencedSOPInstanceUID") or ""] = number or _PROCESSING_FAILURE
    return transaction_uid, {
        uid: answer for uid, answer in answers.items() if uid and answer not in _UNDECIDED
    }
