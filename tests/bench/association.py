"""An association as its requestor: one blocking socket, PDUs built ahead, nothing between.

pynetdicom would cost more than most receivers that are measured here, and would hide them.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

from dicom_node.harness.answers import Accepted, decode, parse_command_set
from dicom_node.harness.pdu import (
    VERIFICATION,
    Context,
    PdvHeader,
    associate_rq,
    c_echo_rq,
    p_data,
    pdv,
    release_rq,
)

HOST = "127.0.0.1"
CALLING = "SCANNER"
PDU_BYTES_MAX = 131072
"""What we take, and the longest that we send; DCMTK takes no more."""
TIMEOUT_S = 60
_LAST_OF_COMMAND = PdvHeader.COMMAND | PdvHeader.LAST
_HEADER = struct.Struct(">BxL")
_P_DATA = 0x04
_RELEASED = 0x06


class PeerFailed(Exception):
    """The receiver did what a receiver must not do; the text says what."""


@dataclass(frozen=True)
class Credentials:
    """What the requestor of a TLS connection shows, and whom it trusts; PEM files."""

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True)
class Response:
    """What a C-STORE-RSP or a C-ECHO-RSP says."""

    message_id: int
    status: int


class Association:
    """Connects, negotiates, and is open once made; leaving the `with` block releases it.

    Parameters
    ----------
    request : bytes
        The A-ASSOCIATE-RQ, from `request_for`.
    nodelay : bool
        TCP_NODELAY; off is how Debian's DCMTK sends.
    credentials : Credentials, optional
        Speaks TLS.
    """

    def __init__(
        self,
        port: int,
        request: bytes,
        *,
        nodelay: bool = True,
        credentials: Credentials | None = None,
    ) -> None:
        plain = connect(port, nodelay)
        try:
            self._socket = _client_context(credentials).wrap_socket(plain) if credentials else plain
            self._unread = bytearray()
            self._socket.sendall(request)
            kind, body = self._pdu()
            answer = decode(kind, body)
            if not isinstance(answer, Accepted):
                raise PeerFailed(f"answers the association request with {answer}")
        except BaseException:
            plain.close()
            raise
        self.contexts = answer.contexts
        """Transfer syntax by the ID of each presentation context that is accepted."""
        self.pdu_bytes_max = min(answer.pdu_bytes_max or PDU_BYTES_MAX, PDU_BYTES_MAX)

    def send(self, pieces: Sequence[memoryview]) -> None:
        """Send the pieces, in one call of the system where it takes them all."""
        if isinstance(self._socket, ssl.SSLSocket):
            for piece in pieces:
                self._socket.sendall(piece)
            return
        left = list(pieces)
        while left:
            sent = self._socket.sendmsg(left)
            while left and sent >= len(left[0]):
                sent -= len(left.pop(0))
            if left:
                left[0] = left[0][sent:]

    def send_each(self, pieces: Iterable[memoryview]) -> None:
        """Send each piece in a call of its own, as most senders do with each PDU."""
        for piece in pieces:
            self._socket.sendall(piece)

    def response(self) -> Response:
        """Wait for the response to what was sent last."""
        command = b""
        while True:
            kind, body = self._pdu()
            if kind != _P_DATA:
                raise PeerFailed(f"answers a request with {decode(kind, body)}")
            at = 0
            while at < len(body):
                length, _, header = struct.unpack_from(">LBB", body, at)
                command += body[at + 6 : at + 4 + length]
                at += 4 + length
                if header & PdvHeader.LAST:
                    values = parse_command_set(command)
                    number, status = (struct.unpack("<H", values[e])[0] for e in (0x0120, 0x0900))
                    return Response(number, status)

    def echo(self, message_id: int = 1) -> None:
        """Send a C-ECHO and wait for its response."""
        context_id = next(iter(self.contexts))
        command = pdv(context_id, _LAST_OF_COMMAND, c_echo_rq(message_id=message_id))
        self._socket.sendall(p_data(command))
        if self.response() != Response(message_id, 0):
            raise PeerFailed("does not answer a C-ECHO with success")

    def release(self) -> None:
        """Release the association and close the connection."""
        try:
            self._socket.sendall(release_rq())
            kind, body = self._pdu()
            if kind != _RELEASED:
                raise PeerFailed(f"answers a release with {decode(kind, body)}")
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection without a word."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.release()
        else:
            self.close()

    def _pdu(self) -> tuple[int, bytes]:
        kind, length = _HEADER.unpack(self._take(_HEADER.size))
        return kind, self._take(length)

    def _take(self, count: int) -> bytes:
        while len(self._unread) < count:
            received = self._socket.recv(65536)
            if not received:
                raise PeerFailed("closes the connection")
            self._unread += received
        taken = bytes(self._unread[:count])
        del self._unread[:count]
        return taken


def connect(port: int, nodelay: bool = True) -> socket.socket:
    """Return a connected, blocking socket whose calls fail after `TIMEOUT_S`."""
    connection = socket.create_connection((HOST, port), timeout=TIMEOUT_S)
    # A timeout of Python's makes each send a poll and a partial write; the kernel's does not.
    connection.settimeout(None)
    limit = struct.pack("ll", TIMEOUT_S, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(nodelay))
    return connection


def request_for(called: str, contexts: Sequence[tuple[str, Sequence[str]]]) -> bytes:
    """Return an A-ASSOCIATE-RQ that proposes (abstract syntax, transfer syntaxes), IDs from 1."""
    proposed = [Context(2 * i + 1, *context) for i, context in enumerate(contexts)]
    return associate_rq(proposed, calling=CALLING, called=called, pdu_bytes_max=PDU_BYTES_MAX)


def echo_request(called: str) -> bytes:
    """Return an A-ASSOCIATE-RQ for C-ECHO alone."""
    return request_for(called, [(VERIFICATION, ["1.2.840.10008.1.2"])])


@lru_cache(maxsize=8)
def _client_context(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # hospitals call each other by address
    context.load_verify_locations(credentials.authority)
    context.load_cert_chain(credentials.certificate, credentials.key)
    return context
