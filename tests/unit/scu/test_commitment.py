"""What the result of a request for storage commitment says."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.data_sets import decode, encode
from dicom_node.errors import StudyUnusable
from dicom_node.model import CommitmentOutcome, ReferencedInstance
from dicom_node.scu.commitment import read_report, report_of, request_of

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"
TRANSACTION = "2.25.77"


def an_item(uid: str, **others: Any) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = SEG
    item.ReferencedSOPInstanceUID = uid
    for keyword, value in others.items():
        setattr(item, keyword, value)
    return item


def a_report(**attributes: Any) -> bytes:
    report = Dataset()
    for keyword, value in ({"TransactionUID": TRANSACTION} | attributes).items():
        setattr(report, keyword, value)
    return encode(report, EXPLICIT)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_what_we_report_ourselves_reads_back(syntax: str) -> None:
    kept, lost = ReferencedInstance(SEG, "2.25.1"), ReferencedInstance(SEG, "2.25.2")
    encoded = report_of(TRANSACTION, CommitmentOutcome((kept,), ((lost, 0x0112),)), syntax)
    assert read_report(encoded, syntax) == (TRANSACTION, {"2.25.1": 0, "2.25.2": 0x0112})


@pytest.mark.parametrize("reason", [0x0110, 0x0122, 0x0131, 0x0213])
def test_a_failure_that_says_nothing_of_the_instance_is_no_answer(reason: int) -> None:
    failed = [an_item("2.25.1", FailureReason=reason), an_item("2.25.2", FailureReason=0x0119)]
    assert read_report(a_report(FailedSOPSequence=failed), EXPLICIT)[1] == {"2.25.2": 0x0119}


def test_what_is_both_committed_and_failed_is_not_committed() -> None:
    both = {
        "ReferencedSOPSequence": [an_item("2.25.1")],
        "FailedSOPSequence": [an_item("2.25.1", FailureReason=0x0112)],
    }
    assert read_report(a_report(**both), EXPLICIT)[1] == {"2.25.1": 0x0112}


def test_a_failure_without_its_reason_is_no_answer_and_never_a_success() -> None:
    failed = [an_item("2.25.1"), an_item("2.25.2", FailureReason=0)]
    assert read_report(a_report(FailedSOPSequence=failed), EXPLICIT)[1] == {}


def test_an_empty_result_has_no_answers() -> None:
    assert read_report(a_report(), EXPLICIT) == (TRANSACTION, {})


@pytest.mark.parametrize("encoded", [b"", b"\x08\x00", a_report(TransactionUID="nonsense")])
def test_a_result_of_no_transaction_cannot_be_read(encoded: bytes) -> None:
    with pytest.raises(StudyUnusable):
        read_report(encoded, EXPLICIT)


def test_a_request_names_each_instance_with_its_sop_class() -> None:
    wanted = [ReferencedInstance(SEG, "2.25.1"), ReferencedInstance(SEG, "2.25.2")]
    request = decode(request_of(TRANSACTION, wanted, IMPLICIT), IMPLICIT)
    assert request.TransactionUID == TRANSACTION
    assert [
        (i.ReferencedSOPClassUID, i.ReferencedSOPInstanceUID) for i in request.ReferencedSOPSequence
    ] == [(SEG, "2.25.1"), (SEG, "2.25.2")]
