"""Both ends of a TLS connection in one thread, and files of the node's to change meanwhile."""

from __future__ import annotations

import shutil
import socket
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from dicom_node.config.settings import TlsSettings
from dicom_node.receive.admission import PeerCertificate
from dicom_node.receive.tls import (
    TlsDoor,
    begin_handshake,
    handshake_failure_in_words,
    peer_certificate,
)
from tests.certificates import Certificates, Holder

IN_2026 = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
TLS_1_2 = ssl.TLSVersion.TLSv1_2
TLS_1_3 = ssl.TLSVersion.TLSv1_3


class HandClock:
    """A clock that the test sets."""

    def __init__(self, now: float = IN_2026) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class Shaken:
    """Both ends of a connection after the handshake, and what each end said of it."""

    node: ssl.SSLSocket
    peer: ssl.SSLSocket
    node_error: OSError | None = None
    peer_error: OSError | None = None

    @property
    def words(self) -> str:
        assert self.node_error is not None, "the node took it"
        return handshake_failure_in_words(self.node_error)

    @property
    def certificate(self) -> PeerCertificate | None:
        assert self.node_error is None, self.words
        return peer_certificate(self.node)


@dataclass
class Line:
    """Connects pairs of sockets, and closes them at the end."""

    opened: list[socket.socket] = field(default_factory=list)

    def close(self) -> None:
        for end in self.opened:
            end.close()

    def pair(self) -> tuple[socket.socket, socket.socket]:
        ends = socket.socketpair()
        for end in ends:
            end.setblocking(False)
        self.opened += ends
        return ends

    def shake(
        self, node: ssl.SSLContext, peer: ssl.SSLContext, session: ssl.SSLSession | None = None
    ) -> Shaken:
        mine, theirs = self.pair()
        shaken = Shaken(
            begin_handshake(node, mine),
            peer.wrap_socket(theirs, do_handshake_on_connect=False, session=session),
        )
        self.opened += [shaken.node, shaken.peer]
        for _ in range(10):  # flights; TLS 1.2 needs the most, four
            shaken.peer_error = shaken.peer_error or _step(shaken.peer)
            shaken.node_error = shaken.node_error or _step(shaken.node)
        return shaken

    def shake_with_bytes(self, node: ssl.SSLContext, sent: bytes) -> OSError:
        """Return what the node's end says when a peer sends this and closes."""
        mine, theirs = self.pair()
        wrapped = begin_handshake(node, mine)
        self.opened.append(wrapped)
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        error = _step(wrapped)
        assert error is not None
        return error


def _step(end: ssl.SSLSocket) -> OSError | None:
    try:
        end.do_handshake()
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return None
    except OSError as error:
        return error
    return None


def settings(certificates: Certificates, **changes: object) -> TlsSettings:
    values = {
        "port": 2762,
        "certificate": certificates.node.certificate,
        "key": certificates.node.key,
        "authorities": certificates.authority.certificate,
        "revocation_list": certificates.revocation_list,
    }
    return TlsSettings.model_validate({**values, **changes})


def node(certificates: Certificates, **changes: object) -> ssl.SSLContext:
    return TlsDoor(settings(certificates, **changes), HandClock()).context()


def peer(
    trusting: Path,
    holder: Holder | None = None,
    *,
    maximum: ssl.TLSVersion = TLS_1_3,
    suites: str = "",
) -> ssl.SSLContext:
    """Return a peer's own context, as Python's `ssl` makes it by itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.maximum_version = maximum
    if suites:
        context.set_ciphers(suites)
    context.load_verify_locations(trusting)
    if holder is not None:
        context.load_cert_chain(holder.certificate, holder.key)
    return context


class Door:
    """A `TlsDoor` on copies of its files, with a clock in hand."""

    def __init__(self, certificates: Certificates, folder: Path, **changes: object) -> None:
        self._originals = certificates
        self.folder = folder
        folder.mkdir(exist_ok=True)
        given = settings(certificates, **changes)
        copies = {
            key: Path(shutil.copy(file, folder / f"{key}.pem"))
            for key in ("certificate", "key", "authorities", "revocation_list")
            if (file := getattr(given, key)) is not None
        }
        self.settings = given.model_copy(update=copies)
        self.clock = HandClock()
        self.events: list[tuple[str, str]] = []
        self.tls = TlsDoor(
            self.settings, self.clock, lambda name, reason: self.events.append((name, reason))
        )

    def replace(self, key: str, file: Path) -> None:
        """Put a copy of `file` in the place of a file, by a rename."""
        copy = self.folder / "incoming.pem"
        shutil.copy(file, copy)
        copy.replace(self.folder / f"{key}.pem")

    def look(self) -> ssl.SSLContext:
        """Return the context that the next connection gets, one second later."""
        self.clock.now += 1
        return self.tls.context()

    def names(self) -> list[str]:
        return [name for name, _ in self.events]
