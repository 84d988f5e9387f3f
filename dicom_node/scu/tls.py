"""TLS towards a peer that we ask: whom we trust, what we show, and who must do what if it fails.

The files are read anew for each association, which takes a millisecond: what is renewed on disk is
taken up by the next one.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from dicom_node.certificates import Loaded, load_for_requesting
from dicom_node.errors import ConfigError


class TlsFailed(Exception):
    """There is no TLS with the peer; `what` it did, in words, and the `hint` for the operator."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


@dataclass(frozen=True)
class ClientTls:
    """How a peer is spoken to; `section` is its place in node.yaml, such as `peers.archive.tls`."""

    section: str
    authorities: Path
    certificate: Path | None = None
    key: Path | None = None
    name: str | None = None
    """That the peer's certificate must be for; None for its host."""
    minimum_version: str = "1.2"
    shared: frozenset[str] = frozenset()
    """Which of the files are those of the section `tls`."""

    def key_name(self, key: str) -> str:
        """Return the key of node.yaml that says which file it is."""
        return f"tls.{key}" if key in self.shared else f"{self.section}.{key}"

    def load(self) -> Loaded:
        """Read the files; ConfigError with every mistake in them."""
        files = {"authorities": self.authorities}
        if self.certificate is not None and self.key is not None:
            files |= {"certificate": self.certificate, "key": self.key}
        names = {key: self.key_name(key) for key in files}
        return load_for_requesting(files, names, self.minimum_version)

    def context(self) -> ssl.SSLContext:
        """Return a context for one connection; TlsFailed if the files cannot be used."""
        try:
            return self.load().context
        except ConfigError as error:
            found = "; ".join(f"{m.key}: {m.file} {m.message}" for m in error.mistakes)
            raise TlsFailed(
                "cannot be spoken to by TLS: our files for it cannot be used",
                f"{found}; `dicom-node check` looks at them",
            ) from error

    def shake_hands(
        self, context: ssl.SSLContext, connected: socket.socket, host: str
    ) -> ssl.SSLSocket:
        """Return the connection after its TLS handshake; TlsFailed if that comes to nothing."""
        encrypted = connected
        try:
            # else a connection that is reset already would stay open until the garbage is collected
            connected.getpeername()
            encrypted = context.wrap_socket(
                connected, server_hostname=self.name or host, do_handshake_on_connect=False
            )
            encrypted.do_handshake()
            return encrypted
        except TimeoutError as error:
            encrypted.close()
            raise TlsFailed(
                "did not end the TLS handshake in time",
                f"if it speaks no TLS on this port, set `{self.section}: false`, or give the port "
                "on which it does",
            ) from error
        except (OSError, ValueError) as error:  # ValueError: a name that cannot be one
            encrypted.close()
            raise self.failed(error, host) from error

    def failed(self, error: Exception, host: str) -> TlsFailed:
        """Return why there is no TLS.

        In TLS 1.3 a peer refuses our certificate after the handshake: then this is what the first
        read raises.
        """
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._distrusted(error, host)
        reason = str(getattr(error, "reason", None) or "")
        if "_ALERT_" in reason:
            return self._refused(reason.partition("_ALERT_")[2].replace("_", " ").lower())
        if reason in _NOT_TLS or isinstance(error, ssl.SSLEOFError | ConnectionError):
            return TlsFailed(
                "ended the TLS handshake as one that speaks no TLS",
                f"set `{self.section}: false`, or give the port on which it speaks TLS; if it "
                "does on this one, look into its log",
            )
        return TlsFailed(f"could not be spoken to by TLS: {reason or error}", "look into its log")

    def _distrusted(self, error: ssl.SSLCertVerificationError, host: str) -> TlsFailed:
        name = self.name or host
        if error.verify_code in _OTHER_NAME:
            return TlsFailed(
                f"shows a certificate that is not for {name}",
                "make sure that host and port are those of the right machine; then set "
                f"`{self.section}.name` to a name that stands in its certificate (openssl s_client "
                f"-connect {host}:PORT shows it), or have one issued for {name}",
            )
        if error.verify_code in _UNKNOWN_AUTHORITY:
            return TlsFailed(
                "shows a certificate from an authority that we do not know",
                "append that authority's certificate (PEM) to the file of "
                f"`{self.key_name('authorities')}`: {self.authorities}",
            )
        what, hint = _BY_VERIFY_CODE.get(
            error.verify_code,
            (f"is not accepted: {error.verify_message}", _NEW_ONE),
        )
        return TlsFailed(f"shows a certificate that {what}", hint)

    def _refused(self, alert: str) -> TlsFailed:
        if "version" in alert:
            return TlsFailed(
                f"speaks no TLS version from {self.minimum_version} on (alert {alert})",
                "update the peer",
            )
        if alert == "handshake failure" or "insufficient" in alert:
            return TlsFailed(
                f"and we have no cipher suite in common, or it wants a certificate (alert {alert})",
                f"update the peer, or set `{self.section}.certificate` and `key`",
            )
        if self.certificate is None and ("certificate" in alert or "ca" in alert.split()):
            return TlsFailed(
                f"wants a certificate from us (alert {alert})",
                f"set `{self.key_name('certificate')}` and `{self.key_name('key')}`",
            )
        return TlsFailed(
            f"refuses our certificate (alert {alert})",
            "let it trust the authority that issued "
            f"`{self.key_name('certificate')}`, or renew that certificate",
        )


_OTHER_NAME = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, IP_ADDRESS_MISMATCH
_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})
_NEW_ONE = "whoever runs the peer must install a new one there"
_CLOCKS = "compare the clocks of the peer and of this machine"
_WEAK = ("has, or has above it, a key that is too short or a signature that is too weak", _NEW_ONE)
_BY_VERIFY_CODE = {  # X509_V_ERR_*, openssl/x509_vfy.h
    9: ("is not valid yet", _CLOCKS),
    10: ("has expired", _NEW_ONE),
    26: ("is not made for TLS servers (extended key usage without serverAuth)", _NEW_ONE),
    66: _WEAK,
    67: _WEAK,
    68: _WEAK,
}
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})
