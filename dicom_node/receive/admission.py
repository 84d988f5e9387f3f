"""Whether the certificate that a peer shows is the one that its AE title is bound to. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass

from dicom_node.config.settings import Peer

_NAMES_SHOWN = 4
_NAME_LENGTH_SHOWN = 64


@dataclass(frozen=True)
class PeerCertificate:
    """A certificate whose authority, dates and revocation have been checked already."""

    sha256: str
    """Of its DER form, 64 hexadecimal digits in lower case."""
    names: tuple[str, ...]
    """The common names of its subject and its DNS subjectAltNames."""
    not_after: float
    """In seconds since the epoch."""

    def __str__(self) -> str:
        shown = [_printable(name) for name in self.names[:_NAMES_SHOWN]]
        names = ", ".join(shown) if shown else "no name"
        return f"the certificate of {names} (SHA-256 {self.sha256})"


def refusal_of_certificate(
    peer: Peer, certificate: PeerCertificate | None, over_tls: bool
) -> str | None:
    """Return why a peer is not let in with this certificate, None if it is.

    Parameters
    ----------
    peer : Peer
        The entry that has the calling AE title. One without `certificate_sha256` and
        `certificate_name` comes in with any certificate and with none, over TLS or not.
    certificate : PeerCertificate, optional
        The one that the peer showed in the handshake.
    over_tls : bool
        Whether it came to the port of `tls.port`.
    """
    if not peer.is_bound:
        return None
    who = f"calling AE title {peer.ae_title} is bound to a certificate"
    if not over_tls:
        return (
            f"{who}, but it came without TLS; let it send to the port of `tls.port`, or remove "
            f"{_keys(peer)} from its entry under `peers:`"
        )
    if certificate is None:
        return (
            f"{who}, but it showed none; install the certificate at the peer, or remove "
            f"{_keys(peer)} from its entry under `peers:`"
        )
    admitting = _lines_that_admit(peer, certificate)
    if not admitting:
        return None
    return (
        f"{who}, and {certificate} is another; to admit it, set in its entry under `peers:` "
        + " and ".join(admitting)
    )


def _keys(peer: Peer) -> str:
    keys = ("certificate_sha256", "certificate_name")
    return " and ".join(f"`{key}`" for key in keys if getattr(peer, key) is not None)


def _lines_that_admit(peer: Peer, certificate: PeerCertificate) -> list[str]:
    """Return the lines of the peer's entry that would have to read otherwise, as they should."""
    by_fingerprint = f"`certificate_sha256: {certificate.sha256}`"
    lines = []
    if peer.certificate_sha256 not in (None, certificate.sha256):
        lines.append(by_fingerprint)
    if peer.certificate_name is None:
        return lines
    # Names of hosts do not tell upper from lower case (RFC 5280 7.2); wildcards match nothing.
    if peer.certificate_name.casefold() not in {name.casefold() for name in certificate.names}:
        usable = [name for name in certificate.names if _is_usable(name)]
        if not usable:
            return [f"{by_fingerprint} in place of `certificate_name`"]
        lines.append(f"`certificate_name: {json.dumps(usable[0])}`")  # YAML reads it as JSON does
    return lines


def _is_usable(name: str) -> bool:
    return name == _printable(name) and "*" not in name


def _printable(name: str) -> str:
    """Return a name as it may stand in a log: the peer wrote it, not we."""
    kept = "".join(character if character.isprintable() else "?" for character in name)
    return kept if len(kept) <= _NAME_LENGTH_SHOWN else kept[:_NAME_LENGTH_SHOWN] + "..."
