"""Whom we let in and what we take."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from dicom_node.config.settings import Config, NodeSettings, Peer, ReceiveSettings
from dicom_node.errors import InstanceRefused
from dicom_node.protocol.pdu import (
    CALLED_AE_TITLE_NOT_RECOGNIZED,
    CALLING_AE_TITLE_NOT_RECOGNIZED,
)
from dicom_node.receive.admission import PeerCertificate
from dicom_node.receive.policy import (
    Admission,
    Caller,
    Identity,
    Refusal,
    Status,
    check_command,
    check_identity,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
COMMAND = Identity(CT, "1.2.3.4", "", "")
DATA_SET = Identity(CT, "1.2.3.4", "1.2.3", "1.2.3.1")

SHA256 = "ab" * 32
CERTIFICATE = PeerCertificate(SHA256, ("ct1.hospital.example",), 4e9)
CT1 = {"ae_title": "CT1", "may_send": True}


def admission(*peers: dict[str, Any], **receive: Any) -> Admission:
    """Return who may come to NODE; the peers are called peer1, peer2 and so on."""
    return Admission(
        Config(
            node=NodeSettings(ae_title="NODE"),
            receive=ReceiveSettings(**receive),
            peers={
                f"peer{number}": Peer.model_validate(keys) for number, keys in enumerate(peers, 1)
            },
        )
    )


def caller(calling: str = "CT1", called: str = "NODE", **fields: Any) -> Caller:
    return Caller(calling, called, **({"address": "10.1.2.3"} | fields))


def refused(admission: Admission, caller: Caller) -> Refusal:
    refusal = admission.refusal(caller)
    assert refusal is not None
    return refusal


# ------------------------------------------------------------ AE titles


def test_who_is_not_listed_is_refused_by_default() -> None:
    refusal = refused(admission(), caller())
    assert refusal.rejection == CALLING_AE_TITLE_NOT_RECOGNIZED


@pytest.mark.parametrize(
    ("calling", "called", "receive"),
    [
        ("CT1", "NODE", {}),
        ("CT1", "ANY", {"require_called_ae_title": False}),
        ("ANYONE", "NODE", {"admit_unknown_calling_ae_titles": True}),
        (
            "ANYONE",
            "ANY",
            {"admit_unknown_calling_ae_titles": True, "require_called_ae_title": False},
        ),
    ],
)
def test_it_is_let_in(calling: str, called: str, receive: dict[str, bool]) -> None:
    assert admission(CT1, **receive).refusal(caller(calling, called)) is None


@pytest.mark.parametrize(
    ("calling", "called", "receive", "reason"),
    [
        ("CT3", "NODE", {}, "calling AE title CT3 is unknown"),
        ("CT3", "OTHER", {}, "calling AE title CT3 is unknown"),
        ("ct1", "NODE", {}, "calling AE title ct1 is unknown"),
        ("", "NODE", {}, "calling AE title (none) is unknown"),
        ("CT3", "ANY", {"require_called_ae_title": False}, "calling AE title CT3 is unknown"),
        ("CT1", "OTHER", {}, "it called OTHER, but this node is NODE"),
        (
            "CT3",
            "OTHER",
            {"admit_unknown_calling_ae_titles": True},
            "it called OTHER, but this node is NODE",
        ),
    ],
)
def test_it_is_refused_with_the_reason(
    calling: str, called: str, receive: dict[str, bool], reason: str
) -> None:
    refusal = refused(admission(CT1, **receive), caller(calling, called))
    assert refusal.reason.startswith(reason)
    called_it_wrongly = reason.startswith("it called")
    assert refusal.rejection == (
        CALLED_AE_TITLE_NOT_RECOGNIZED if called_it_wrongly else CALLING_AE_TITLE_NOT_RECOGNIZED
    )


def test_a_peer_that_may_not_send_is_unknown() -> None:
    archive = {"ae_title": "ARCHIVE", "host": "10.1.1.1", "port": 104}
    refusal = refused(admission(archive), caller("ARCHIVE"))
    assert "calling AE title ARCHIVE is unknown" in refusal.reason


def test_the_lines_in_the_reason_admit_an_unknown_peer() -> None:
    refusal = refused(admission(CT1), caller("CT3"))
    lines = re.findall(r"`([a-z_]+: [^`]+)`", refusal.reason)
    entry: dict[str, Any] = {}
    for line in lines:
        entry |= yaml.safe_load(line)
    assert admission(CT1, entry).refusal(caller("CT3")) is None


def test_the_line_in_the_reason_admits_who_calls_us_by_another_title() -> None:
    refusal = refused(admission(CT1), caller(called="OTHER"))
    [line] = re.findall(r"`receive\.([a-z_]+: [^`]+)`", refusal.reason)
    assert admission(CT1, **yaml.safe_load(line)).refusal(caller(called="OTHER")) is None


@pytest.mark.parametrize("title", ["\x1b[2J", "CT\n1", "\N{REPLACEMENT CHARACTER}CT"])
def test_what_a_stranger_writes_into_his_title_cannot_spoil_the_log(title: str) -> None:
    for refusal in (
        refused(admission(CT1), caller(title)),
        refused(admission(CT1), caller(called=title)),
    ):
        assert refusal.reason.isascii()
        assert refusal.reason.isprintable()


# ------------------------------------------------------------ addresses


@pytest.mark.parametrize(
    ("addresses", "address"),
    [
        ([], "10.1.2.3"),
        (["10.1.2.3"], "10.1.2.3"),
        (["10.1.2.3"], "::ffff:10.1.2.3"),  # as a socket that takes both families tells it
        (["::ffff:10.1.2.3"], "::ffff:10.1.2.3"),
        (["10.1.2.3/24"], "10.1.2.200"),
        (["10.1.0.0/16"], "10.1.2.3"),
        (["192.168.0.0/24", "10.1.0.0/16"], "10.1.2.3"),
        (["2001:db8::/32"], "2001:db8:1::5"),
        (["2001:db8::5"], "2001:DB8:0:0::5"),
        (["::/0", "0.0.0.0/0"], "10.1.2.3"),
    ],
)
def test_it_is_let_in_from_its_addresses(addresses: list[str], address: str) -> None:
    peer = {**CT1, "addresses": addresses}
    assert admission(peer).refusal(caller(address=address)) is None


@pytest.mark.parametrize(
    ("addresses", "address"),
    [
        (["10.1.2.3"], "10.1.2.4"),
        (["10.1.2.0/24"], "10.1.3.1"),
        (["10.1.2.0/24"], "::ffff:10.1.3.1"),
        (["::/0"], "10.1.2.3"),
        (["0.0.0.0/0"], "2001:db8::1"),
        (["2001:db8::/32"], "2001:db9::1"),
        (["10.1.2.3"], "no address"),
        (["10.1.2.3"], ""),
    ],
)
def test_it_is_refused_from_elsewhere(addresses: list[str], address: str) -> None:
    peer = {**CT1, "addresses": addresses}
    refusal = refused(admission(peer), caller(address=address))
    assert refusal.rejection == CALLING_AE_TITLE_NOT_RECOGNIZED
    assert "calling AE title CT1 came from" in refusal.reason


@pytest.mark.parametrize("address", ["10.9.9.9", "::ffff:10.9.9.9", "2001:db8::1"])
def test_the_line_in_the_reason_admits_the_address(address: str) -> None:
    peer = {**CT1, "addresses": ["10.1.2.3"]}
    refusal = refused(admission(peer), caller(address=address))
    match = re.search(r"add `([^`]+)` to `addresses:` of `peers: peer1:`", refusal.reason)
    assert match is not None
    wider = {**CT1, "addresses": ["10.1.2.3", match.group(1)]}
    assert admission(wider).refusal(caller(address=address)) is None


def test_an_unknown_peer_may_come_from_anywhere_where_all_are_admitted() -> None:
    anyone = admission({**CT1, "addresses": ["10.1.2.3"]}, admit_unknown_calling_ae_titles=True)
    assert anyone.refusal(caller("STRANGER", address="192.0.2.1")) is None
    assert anyone.refusal(caller("CT1", address="192.0.2.1")) is not None


# ------------------------------------------------------------ certificates


def test_a_bound_peer_is_let_in_with_its_certificate_only() -> None:
    bound = admission({**CT1, "certificate_sha256": SHA256})
    right = caller(over_tls=True, certificate=CERTIFICATE)
    assert bound.refusal(right) is None
    wrong = replace(CERTIFICATE, sha256="cd" * 32)
    for other in (
        caller(),
        caller(over_tls=True),
        caller(over_tls=True, certificate=wrong),
    ):
        refusal = refused(bound, other)
        assert refusal.rejection == CALLING_AE_TITLE_NOT_RECOGNIZED
        assert "is bound to a certificate" in refusal.reason


def test_a_bound_peer_must_come_from_its_addresses_too() -> None:
    bound = admission({**CT1, "certificate_sha256": SHA256, "addresses": ["10.1.2.3"]})
    here = caller(over_tls=True, certificate=CERTIFICATE)
    assert bound.refusal(here) is None
    refusal = refused(bound, replace(here, address="10.1.2.4"))
    assert "came from 10.1.2.4" in refusal.reason


# ------------------------------------------------------------ several entries with one title


def test_one_of_several_entries_with_its_title_is_enough() -> None:
    """While a scanner changes over to a new certificate, or stands in two networks."""
    two = admission(
        {**CT1, "addresses": ["10.1.2.3"]},
        {**CT1, "addresses": ["10.9.9.9"], "certificate_sha256": SHA256},
    )
    assert two.refusal(caller()) is None
    assert two.refusal(caller(address="10.9.9.9", over_tls=True, certificate=CERTIFICATE)) is None
    # an address of the one does not make up for the certificate of the other
    assert refused(two, caller(address="10.9.9.9")).reason.startswith("calling AE title CT1 came")


def test_of_several_entries_the_first_says_why() -> None:
    two = admission({**CT1, "addresses": ["10.0.0.1"]}, {**CT1, "addresses": ["10.0.0.2"]})
    assert "`peers: peer1:`" in refused(two, caller()).reason


# ------------------------------------------------------------ instances


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


@pytest.mark.parametrize("command", [{"sop_instance_uid": "1.2/3"}, {"sop_class_uid": ""}])
def test_a_command_is_refused_before_its_data_set_came(command: dict[str, str]) -> None:
    check_command(COMMAND)
    with pytest.raises(InstanceRefused) as caught:
        check_command(replace(COMMAND, **command))
    assert caught.value.status == Status.DATA_SET_DOES_NOT_MATCH


def test_the_statuses_are_those_of_the_standard() -> None:
    assert {status.name: int(status) for status in Status} == {
        "SUCCESS": 0x0000,
        "OUT_OF_RESOURCES": 0xA700,
        "DATA_SET_DOES_NOT_MATCH": 0xA900,
        "CANNOT_UNDERSTAND": 0xC000,
    }
