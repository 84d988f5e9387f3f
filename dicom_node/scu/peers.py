"""The addresses of the configured peers, for DIMSE and for DICOMweb."""

from __future__ import annotations

from dicom_node.config.settings import Config, Peer
from dicom_node.errors import InvariantBroken
from dicom_node.scu.address import Address
from dicom_node.scu.tls import ClientTls
from dicom_node.scu.web import WebAddress


def address_of(peer: Peer, config: Config) -> Address:
    """Return the address of a peer that can receive."""
    if peer.host is None or peer.port is None:
        raise InvariantBroken(f"{peer.ae_title} has no address")
    return Address(
        peer.host,
        peer.port,
        peer.ae_title,
        config.node.ae_title,
        config.deliver.timeout_s,
        associations=peer.associations,
        tls=client_tls_of(peer, config),
    )


def client_tls_of(peer: Peer, config: Config) -> ClientTls | None:
    """Return how a peer is spoken to by TLS; None if it is not."""
    own, shared = peer.tls, config.tls
    if own is None:
        return None
    name = next((name for name, one in config.peers.items() if one is peer), "NAME")
    authorities = own.authorities or shared.authorities
    if authorities is None:
        raise InvariantBroken(f"peers.{name}.tls has no authorities")
    from_shared = set() if own.authorities else {"authorities"}
    if own.certificate is None and shared.certificate is not None:
        from_shared |= {"certificate", "key"}
    return ClientTls(
        section=f"peers.{name}.tls",
        authorities=authorities,
        certificate=own.certificate or shared.certificate,
        key=own.key or shared.key,
        name=own.name,
        minimum_version=shared.minimum_version,
        shared=frozenset(from_shared),
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
