"""The report of a storage commitment: what its N-EVENT-REPORT says, and what answers it."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_node.data_sets import encode
from dicom_node.model import CommitmentOutcome, ReferencedInstance

STORAGE_COMMITMENT_PUSH_MODEL = "1.2.840.10008.1.20.1"
STORAGE_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
"""The one SOP Instance of the SOP Class, well known (PS3.4 J.3.5)."""

ALL_COMMITTED = 1
FAILURES_EXIST = 2

_WARNINGS = frozenset({0x0001, 0x0107, 0x0116})  # PS3.7 C.4


def event_type_id(outcome: CommitmentOutcome) -> int:
    """Return the (0000,1002) Event Type ID (PS3.4 Table J.3-2)."""
    return FAILURES_EXIST if outcome.failed else ALL_COMMITTED


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
