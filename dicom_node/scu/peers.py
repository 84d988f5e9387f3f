"""The addresses of the configured peers, for DIMSE and for DICOMweb."""

from __future__ import annotations

from dicom_node.config.settings import Config, Peer
from dicom_node.errors import InvariantBroken
from dicom_node.scu.address import Address
from dicom_node.scu.web import WebAddress


def address_of(peer: Peer, config: Config) -> Address:
    """Return the address of a peer that can receive."""
    if peer.host is None or peer.port is None:
        raise InvariantBroken(f"{peer.ae_title} has no address")
    return Address(
        peer.host, peer.port, peer.ae_title, config.node.ae_title, config.deliver.timeout_s
    )


def web_address_of(peer: Peer, config: Config) -> WebAddress:
    """Return the address of a peer's DICOMweb server."""
    if peer.stow_url is None:
        raise InvariantBroken(f"{peer.ae_title} has no stow_url")
    return WebAddress(
        peer.stow_url,
        peer.ae_title,
        config.deliver.timeout_s,
        token_file=peer.stow_token_file,
        password_file=peer.stow_password_file,
        authorities=peer.stow_authorities,
    )
