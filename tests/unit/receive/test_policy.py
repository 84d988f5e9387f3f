"""Whom we let in and what we take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dicom_node.errors import InstanceRefused
from dicom_node.receive.policy import Identity, Status, check_identity, refusal_of_association

CT = "1.2.840.10008.5.1.4.1.1.2"
COMMAND = Identity(CT, "1.2.3.4", "", "")
DATA_SET = Identity(CT, "1.2.3.4", "1.2.3", "1.2.3.1")


@pytest.mark.parametrize(
    ("calling", "called", "admitted", "our_title"),
    [
        ("CT1", "NODE", {"CT1", "CT2"}, "NODE"),
        ("CT1", "ANY", {"CT1"}, None),
        ("ANYONE", "NODE", None, "NODE"),
        ("ANYONE", "ANY", None, None),
    ],
)
def test_it_is_let_in(
    calling: str, called: str, admitted: set[str] | None, our_title: str | None
) -> None:
    assert refusal_of_association(calling, called, admitted, our_title) is None


@pytest.mark.parametrize(
    ("calling", "called", "admitted", "our_title", "reason"),
    [
        ("CT3", "NODE", {"CT1"}, "NODE", "calling AE title CT3 is unknown"),
        ("CT3", "OTHER", {"CT1"}, "NODE", "calling AE title CT3 is unknown"),
        ("CT1", "NODE", set(), None, "calling AE title CT1 is unknown"),
        ("ct1", "NODE", {"CT1"}, "NODE", "calling AE title ct1 is unknown"),
        ("CT1", "OTHER", {"CT1"}, "NODE", "it called OTHER, but this node is NODE"),
        ("CT1", "OTHER", None, "NODE", "it called OTHER, but this node is NODE"),
    ],
)
def test_it_is_refused_with_the_reason(
    calling: str, called: str, admitted: set[str] | None, our_title: str | None, reason: str
) -> None:
    refusal = refusal_of_association(calling, called, admitted, our_title)
    assert refusal is not None
    assert refusal.startswith(reason)


def test_the_reason_says_which_line_would_admit_it() -> None:
    refusal = refusal_of_association("CT3", "NODE", {"CT1"}, "NODE")
    assert refusal is not None
    assert "`ae_title: CT3`" in refusal
    assert "`may_send: true`" in refusal


def test_an_instance_whose_uids_fit_is_taken() -> None:
    check_identity(COMMAND, DATA_SET)


@pytest.mark.parametrize(
    ("command", "data_set", "status", "reason"),
    [
        # the command, PS3.7 9.1.1.1
        ({"sop_instance_uid": ""}, {}, 0xA900, "the command's SOP Instance UID is no UID"),
        ({"sop_instance_uid": "None"}, {}, 0xA900, "the command's SOP Instance UID is no UID"),
        ({"sop_class_uid": "../.."}, {}, 0xA900, "the command's SOP Class UID is no UID"),
        # the data set
        ({}, {"sop_instance_uid": ""}, 0xC000, "the data set's SOP Instance UID is missing"),
        ({}, {"sop_class_uid": ""}, 0xC000, "the data set's SOP Class UID is missing"),
        ({}, {"study_instance_uid": ""}, 0xC000, "the data set's Study Instance UID is missing"),
        ({}, {"series_instance_uid": ""}, 0xC000, "the data set's Series Instance UID is missing"),
        ({}, {"study_instance_uid": "../../x"}, 0xC000, "Study Instance UID is no UID"),
        ({}, {"series_instance_uid": "1.2/../3"}, 0xC000, "Series Instance UID is no UID"),
        ({}, {"study_instance_uid": "1." * 40}, 0xC000, "Study Instance UID is no UID"),
        # both, PS3.4 B.2.3: data set does not match SOP Class
        ({"sop_instance_uid": "1.2.3.5"}, {}, 0xA900, "the SOP Instance UIDs of command and data"),
        ({"sop_class_uid": "1.2.3.5"}, {}, 0xA900, "the SOP Class UIDs of command and data"),
    ],
)
def test_an_instance_is_refused_with_its_status(
    command: dict[str, str], data_set: dict[str, str], status: int, reason: str
) -> None:
    with pytest.raises(InstanceRefused) as caught:
        check_identity(replace(COMMAND, **command), replace(DATA_SET, **data_set))
    assert caught.value.status == status
    assert reason in caught.value.message


def test_the_statuses_are_those_of_the_standard() -> None:
    assert {status.name: int(status) for status in Status} == {
        "SUCCESS": 0x0000,
        "OUT_OF_RESOURCES": 0xA700,
        "DATA_SET_DOES_NOT_MATCH": 0xA900,
        "CANNOT_UNDERSTAND": 0xC000,
    }
