"""DICOM over TLS: the SSL context of the moment, and what a handshake tells us (PS3.15 B.12).

Theory of operation: the files of `tls:` may be replaced while the node runs. `TlsDoor.context`
looks at them, at most once a second, and takes a new set up for the connections that come next;
those that are open keep what they have. A set that cannot be used changes nothing and is told of
once, and only when the next look finds the same: between the new certificate and the new key that a
script copies one after the other, nothing is wrong. One thread uses a door; no call of it waits for
a peer.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dicom_node.certificates import Loaded, Validity, files_of, load
from dicom_node.clock import Clock
from dicom_node.config.settings import TlsSettings
from dicom_node.errors import ConfigError
from dicom_node.receive.admission import PeerCertificate

TLS_RELOADED = "TLS_RELOADED"
TLS_RELOAD_FAILED = "TLS_RELOAD_FAILED"
TLS_EXPIRING = "TLS_EXPIRING"
TLS_EXPIRED = "TLS_EXPIRED"

_LOOK_EVERY_S = 1.0
_DAY_S = 86400.0
_LAST_PART_OF_LIFE = 0.25
_ENDING = {
    "certificate": ("certificate of", "peers refuse the node"),
    "authorities": ("authority", "the peers that it certified are refused"),
    "revocation_list": ("revocation list of", "every peer of that authority is refused"),
}

OnEvent = Callable[[str, str], None]
"""Told the name of an event and its reason."""

_Signature = tuple[tuple[int, int, int] | None, ...]


class TlsDoor:
    """The SSL context for accepted connections, kept up to date with its files.

    Parameters
    ----------
    settings : TlsSettings
        With a port, a certificate and a key.
    clock : Clock
    on_event : callable
        Told TLS_RELOADED, TLS_RELOAD_FAILED, TLS_EXPIRING and TLS_EXPIRED.

    Raises
    ------
    ConfigError
        If the files cannot be used, with every mistake in them.
    """

    def __init__(
        self, settings: TlsSettings, clock: Clock, on_event: OnEvent = lambda name, reason: None
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._on_event = on_event
        self._files = tuple(files_of(settings).values())
        self._taken = self._doubted = self._refused = _signature(self._files)
        self._loaded: Loaded = load(settings)
        self._looked_at = clock()
        self._told: dict[tuple[str, Validity], float] = {}

    def context(self) -> ssl.SSLContext:
        """Return the context for the next connection."""
        now = self._clock()
        if not self._looked_at <= now < self._looked_at + _LOOK_EVERY_S:
            self._looked_at = now
            self._look()
        return self._loaded.context

    def check_expiry(self, now: float) -> None:
        """Tell of what has ended or will soon, of each thing once a day.

        Soon is within `tls.warn_days`, and for what lives shorter (a revocation list of a week) in
        the last quarter of its life.
        """
        for validity in self._loaded.validities:
            name = _expiry_event(validity, now, self._settings.warn_days)
            if name is None or now < self._told.get((name, validity), -_DAY_S) + _DAY_S:
                continue
            self._told[name, validity] = now
            self._on_event(name, expiry_in_words(validity, now))

    def _look(self) -> None:
        signature = _signature(self._files)
        if signature in (self._taken, self._refused):
            return
        try:
            loaded = load(self._settings)
        except ConfigError as error:
            if signature == self._doubted:
                self._refused = signature
                found = "; ".join(f"{m.key}: {m.file} {m.message}" for m in error.mistakes)
                self._on_event(
                    TLS_RELOAD_FAILED, f"{found}; the node goes on with what it had loaded before"
                )
            self._doubted = signature
            return
        self._loaded = loaded
        self._taken = self._doubted = self._refused = signature
        self._told = {told: at for told, at in self._told.items() if told[1] in loaded.validities}
        self._on_event(TLS_RELOADED, f"read again: {', '.join(map(str, self._files))}")


def _signature(files: tuple[Path, ...]) -> _Signature:
    """Return what changes when a file is written, replaced or linked elsewhere."""
    found: list[tuple[int, int, int] | None] = []
    for file in files:
        try:
            status = os.stat(file)
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)


# ------------------------------------------------------------ what ends when


def expired(settings: TlsSettings, now: float) -> list[tuple[str, str]]:
    """Return what has ended, as (key, reason); ConfigError as for `load`.

    An authority that has ended does no harm beside one that has not.
    """
    validities = load(settings).validities
    trusting = any(v.ends_at > now for v in validities if v.key == "authorities")
    return [
        (validity.key, expiry_in_words(validity, now))
        for validity in validities
        if validity.ends_at <= now and not (trusting and validity.key == "authorities")
    ]


def _expiry_event(validity: Validity, now: float, warn_days: int) -> str | None:
    left_s = validity.ends_at - now
    if left_s <= 0:
        return TLS_EXPIRED
    life_s = validity.ends_at - validity.starts_at
    soon_s = min(warn_days * _DAY_S, life_s * _LAST_PART_OF_LIFE)
    return TLS_EXPIRING if left_s <= soon_s else None


def expiry_in_words(validity: Validity, now: float) -> str:
    """Return when something ends or ended, what then happens, and who must do what."""
    what, consequence = _ENDING[validity.key]
    left_s = validity.ends_at - now
    day = datetime.fromtimestamp(validity.ends_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if left_s > 0:
        when = f"ends on {day}, in {left_s / _DAY_S:.0f} days; then {consequence}"
    else:
        when = f"ended on {day}; {consequence}"
    return (
        f"the {what} {validity.name} in {validity.file} (tls.{validity.key}) {when}; put a new one "
        "into the file, it is taken up without a restart"
    )


# ------------------------------------------------------------ what a handshake tells


def begin_handshake(context: ssl.SSLContext, accepted: socket.socket) -> ssl.SSLSocket:
    """Return the socket on which `do_handshake` is to be called; it takes the place of `accepted`.

    Raises
    ------
    OSError
        If the peer has reset the connection already; `accepted` is closed then. `wrap_socket` would
        raise as well, but keep the descriptor open until the garbage is collected.
    """
    try:
        accepted.getpeername()
        return context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
    except OSError:
        accepted.close()
        raise


def peer_certificate(ssl_object: ssl.SSLSocket | ssl.SSLObject) -> PeerCertificate | None:
    """Return the certificate that the peer showed in the handshake, None if it showed none."""
    der = ssl_object.getpeercert(binary_form=True)
    decoded: dict[str, Any] | None = ssl_object.getpeercert()
    if not der or not decoded:
        return None
    subject = [pair for rdn in decoded.get("subject", ()) for pair in rdn]
    names = [value for kind, value in subject if kind == "commonName"]
    names += [value for kind, value in decoded.get("subjectAltName", ()) if kind == "DNS"]
    return PeerCertificate(
        hashlib.sha256(der).hexdigest(),
        tuple(dict.fromkeys(names)),
        float(ssl.cert_time_to_seconds(decoded["notAfter"])),
    )


_UNKNOWN_AUTHORITY = (
    "its certificate is from an authority that the node does not know; to admit it, append that "
    "authority's certificate (PEM) to the file of `tls.authorities`"
)
_WEAK = (
    "its certificate, or one above it, has a key that is too short or a signature that is too "
    "weak; whoever runs the peer must have another one issued"
)
_BY_VERIFY_CODE = {  # X509_V_ERR_*, openssl/x509_vfy.h
    2: _UNKNOWN_AUTHORITY,
    3: "`tls.revocation_list` has no list of the authority that issued its certificate; append "
    "that authority's list (PEM) to the file",
    9: "its certificate is not valid yet; compare the clocks of the peer and of this machine",
    10: "its certificate has expired; whoever runs the peer must install a new one there",
    11: "the revocation list of its authority is not valid yet; compare the clocks, or fetch the "
    "list again into `tls.revocation_list`",
    12: "the revocation list of its authority is out of date, so nobody of that authority is let "
    "in; fetch the new list into `tls.revocation_list`",
    18: "it signed its certificate itself; to admit it, append that certificate (PEM) to the file "
    "of `tls.authorities`",
    19: _UNKNOWN_AUTHORITY,
    20: _UNKNOWN_AUTHORITY,
    21: _UNKNOWN_AUTHORITY,
    23: "its certificate was revoked by its authority; whoever runs the peer must install a new "
    "one there",
    26: "its certificate is not made for TLS clients (extended key usage without clientAuth); "
    "whoever runs the peer must have another one issued",
    66: _WEAK,
    67: _WEAK,
    68: _WEAK,
}
_NOT_TLS = (
    "it did not speak TLS on the TLS port; switch TLS on at the peer, or let it send to the port "
    "of `receive.port`"
)
_TOO_OLD = "it offers only TLS versions that are older than `tls.minimum_version`; update the peer"
_BY_REASON = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no certificate; install one at the peer, or "
    "set `tls.require_client_certificate: false`",
    "UNSUPPORTED_PROTOCOL": _TOO_OLD,
    "VERSION_TOO_LOW": _TOO_OLD,
    "NO_SHARED_CIPHER": "it offers none of the cipher suites that the node takes (ECDHE with "
    "AES-GCM; PS3.15 B.12), or none for the node's kind of key (RSA or EC); update the peer",
    "WRONG_VERSION_NUMBER": _NOT_TLS,
    "HTTP_REQUEST": _NOT_TLS,
    "HTTPS_PROXY_REQUEST": _NOT_TLS,
}
_DISTRUST = ("UNKNOWN_CA", "CERTIFICATE", "ACCESS_DENIED")


def is_gone(error: OSError) -> bool:
    """Return whether the peer closed during the handshake; else it was refused, by us or by itself.

    What was reset before it is wrapped gives an SSLError with ENOTCONN, if the peer had sent
    something (ssl.py, SSLSocket._create).
    """
    refused = isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError)
    return not refused or error.errno == errno.ENOTCONN


def handshake_failure_in_words(error: OSError) -> str:
    """Return why a TLS handshake came to nothing, and who must do what.

    Parameters
    ----------
    error : ssl.SSLError or another OSError
        As `begin_handshake` or `do_handshake` raised it.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _BY_VERIFY_CODE.get(
            error.verify_code, f"its certificate is not accepted: {error.verify_message}"
        )
    reason = getattr(error, "reason", None) or ""
    if is_gone(error):
        return (
            "it closed the connection in the middle of the TLS handshake; a peer that does not "
            "trust the node's certificate may do so, and so do port scanners and health checks"
        )
    if "_ALERT_" in reason:
        if any(word in reason for word in _DISTRUST):
            return (
                f"it refuses the node's certificate ({_alert(reason)}); let the peer trust the "
                "authority that issued `tls.certificate`, or renew that certificate"
            )
        return f"it ended the TLS handshake ({_alert(reason)}); look into the log of the peer"
    return _BY_REASON.get(reason, f"the TLS handshake failed: {reason or error}")


def _alert(reason: str) -> str:
    return "alert " + reason.partition("_ALERT_")[2].replace("_", " ").lower()
