"""The addresses of the configured peers."""

from __future__ import annotations

from dicom_node.config.settings import Config, Peer
from dicom_node.errors import InvariantBroken
from dicom_node.scu.address import Address


def address_of(peer: Peer, config: Config) -> Address:
    """Return the address of a peer that can receive."""
    if peer.host is None or peer.port is None:
        raise InvariantBroken(f"{peer.ae_title} has no address")
    return Address(
        peer.host, peer.port, peer.ae_title, config.node.ae_title, config.deliver.timeout_s
    )
