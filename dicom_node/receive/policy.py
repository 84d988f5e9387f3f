"""Whom we let in and what we take: pure decisions, each with its reason."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address, ip_address, ip_network

from dicom_node.config.settings import Config, Peer
from dicom_node.errors import InstanceRefused
from dicom_node.protocol.pdu import (
    CALLED_AE_TITLE_NOT_RECOGNIZED,
    CALLING_AE_TITLE_NOT_RECOGNIZED,
    Rejection,
)
from dicom_node.receive.admission import PeerCertificate, refusal_of_certificate
from dicom_node.uid import is_uid


class Status(IntEnum):
    """C-STORE status codes (PS3.4 Table B.2-1)."""

    SUCCESS = 0x0000
    OUT_OF_RESOURCES = 0xA700
    DATA_SET_DOES_NOT_MATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000


@dataclass(frozen=True, slots=True)
class Identity:
    """The UIDs by which an instance is filed; empty where there is none."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True)
class Caller:
    """Who asks for an association, and how it came."""

    calling_ae_title: str
    called_ae_title: str
    address: str
    over_tls: bool = False
    certificate: PeerCertificate | None = None


@dataclass(frozen=True)
class Refusal:
    """What an A-ASSOCIATE-RJ says, and the reason in words."""

    rejection: Rejection
    reason: str


class Admission:
    """Who may have an association: deny by default.

    Parameters
    ----------
    config : Config
        Its peers that may send, and `receive`.
    """

    def __init__(self, config: Config) -> None:
        self._settings = config.receive
        self._our_title = config.node.ae_title
        self._peers: dict[str, list[tuple[str, Peer]]] = {}
        for name, peer in config.peers.items():
            if peer.may_send:
                self._peers.setdefault(peer.ae_title, []).append((name, peer))

    def refusal(self, caller: Caller) -> Refusal | None:
        """Return why an association is refused, None if it is not."""
        title = caller.calling_ae_title
        entries = self._peers.get(title, [])
        if not entries and not self._settings.admit_unknown_calling_ae_titles:
            return Refusal(
                CALLING_AE_TITLE_NOT_RECOGNIZED,
                f"calling AE title {_shown(title)} is unknown; to admit it, add under `peers:` an "
                f"entry with `ae_title: {_shown(title)}` and `may_send: true`",
            )
        if self._settings.require_called_ae_title and caller.called_ae_title != self._our_title:
            return Refusal(
                CALLED_AE_TITLE_NOT_RECOGNIZED,
                f"it called {_shown(caller.called_ae_title)}, but this node is {self._our_title}; "
                "have it call us so, or set `receive.require_called_ae_title: false`",
            )
        reasons = [self._refusal_by_entry(name, peer, caller) for name, peer in entries]
        if not reasons or None in reasons:
            return None
        return Refusal(CALLING_AE_TITLE_NOT_RECOGNIZED, str(reasons[0]))

    def _refusal_by_entry(self, name: str, peer: Peer, caller: Caller) -> str | None:
        if peer.addresses and not _is_among(caller.address, peer.addresses):
            address = _plain(caller.address)
            return (
                f"calling AE title {peer.ae_title} came from {address}; to admit it, add "
                f"`{address}` to `addresses:` of `peers: {name}:`"
            )
        return refusal_of_certificate(peer, caller.certificate, caller.over_tls)


def _is_among(address: str, ranges: Collection[str]) -> bool:
    try:
        known = {ip_address(address), ip_address(_plain(address))}
    except ValueError:
        return False
    networks = [ip_network(text) for text in ranges]
    return any(one in network for one in known for network in networks)


def _plain(address: str) -> str:
    """Return an IPv4 address that came through an IPv6 socket as people write it."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    if isinstance(known, IPv6Address) and known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return address


def _shown(title: str) -> str:
    """Return an AE title that a stranger wrote as it may stand in a log."""
    return "".join(c if 32 <= ord(c) < 127 else "?" for c in title) or "(none)"


def check_command(command: Identity) -> None:
    """Refuse a C-STORE-RQ whose UIDs are none: nothing could be filed under them.

    Parameters
    ----------
    command : Identity
        From the C-STORE-RQ, which carries no Study and no Series Instance UID.

    Raises
    ------
    InstanceRefused
        With the status that answers the C-STORE.
    """
    for name, value in (
        ("SOP Instance UID", command.sop_instance_uid),
        ("SOP Class UID", command.sop_class_uid),
    ):
        if not is_uid(value):
            raise InstanceRefused(
                f"the command's {name} is no UID", status=Status.DATA_SET_DOES_NOT_MATCH
            )


def check_identity(command: Identity, data_set: Identity) -> None:
    """Refuse an instance that could not be found again under its UIDs.

    Parameters
    ----------
    command : Identity
        From the C-STORE-RQ.
    data_set : Identity
        From the data set that came with it.

    Raises
    ------
    InstanceRefused
        With the status that answers the C-STORE.
    """
    check_command(command)
    for name, value in (
        ("SOP Instance UID", data_set.sop_instance_uid),
        ("SOP Class UID", data_set.sop_class_uid),
        ("Study Instance UID", data_set.study_instance_uid),
        ("Series Instance UID", data_set.series_instance_uid),
    ):
        if not is_uid(value):
            what = "is no UID" if value else "is missing"
            raise InstanceRefused(
                f"the data set's {name} {what}",
                status=Status.CANNOT_UNDERSTAND,
                hint="the sender must repair the instance",
            )
    if command.sop_instance_uid != data_set.sop_instance_uid:
        raise InstanceRefused(
            "the SOP Instance UIDs of command and data set differ",
            status=Status.DATA_SET_DOES_NOT_MATCH,
        )
    if command.sop_class_uid != data_set.sop_class_uid:
        raise InstanceRefused(
            "the SOP Class UIDs of command and data set differ",
            status=Status.DATA_SET_DOES_NOT_MATCH,
        )
