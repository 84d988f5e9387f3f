"""One connection that we open: bytes out from wherever they lie, bytes in, no endless wait.

The socket does not block. While something is sent, what comes in is looked at, so that a peer which
gives up in the middle is heard at once; and it is silence only if the peer neither takes nor sends
anything. What lies in the system's send queue is not with the peer yet: as long as that queue gets
shorter, the line is slow and the peer is not silent.
"""

from __future__ import annotations

import fcntl
import select
import socket
import ssl
import struct
import termios
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from dicom_node.scu.fragments import Buffer
from dicom_node.scu.tls import ClientTls

_BUFFERS_MAX = 1024
"""IOV_MAX of Linux (sendmsg(2))."""
_RECEIVE_BYTES = 1 << 18


class Silent(Exception):
    """The peer took and sent nothing for as long as it may."""


class Closed(Exception):
    """The peer closed the connection."""


class Connection:
    """A TCP connection, with TLS or without; for one thread.

    Parameters
    ----------
    host, port : str, int
    timeout_s : float
        How long connecting, the TLS handshake, and each silence may last.
    tls : ClientTls, optional
        Whom we trust, and what we show.

    Raises
    ------
    OSError
        If there is no connection.
    TlsFailed
        If the TLS handshake fails, or our files for it cannot be used.
    """

    def __init__(
        self, host: str, port: int, timeout_s: float, tls: ClientTls | None = None
    ) -> None:
        self._timeout_s = timeout_s
        context = None if tls is None else tls.context()
        connected = socket.create_connection((host, port), timeout_s)
        try:
            # Nagle's algorithm would wait 40 ms for the acknowledgement of each command.
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None and context is not None:
                connected = tls.shake_hands(context, connected, host)
            connected.setblocking(False)
        except BaseException:
            connected.close()
            raise
        self.heard_at = time.monotonic()
        """When the peer last sent anything."""
        self._socket = connected
        self._host = host
        self._tls = tls  # None from the first byte on: what fails later is no handshake
        self._reading = _poll(connected, select.POLLIN)
        self._writing = _poll(connected, select.POLLIN | select.POLLOUT)

    @property
    def is_plain(self) -> bool:
        """Whether bytes leave as they are: then the kernel may fetch them by itself."""
        return not isinstance(self._socket, ssl.SSLSocket)

    def unsent_bytes(self) -> int:
        """Return how much the peer's system has not acknowledged yet (tcp(7), SIOCOUTQ)."""
        answer = fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4))
        return int(struct.unpack("i", answer)[0])

    def send(self, buffers: Sequence[Buffer], on_input: Callable[[], None]) -> None:
        """Send buffers one after the other, in as few system calls as the system lets us.

        Parameters
        ----------
        on_input : callable
            Called where something can be read before everything is sent; may raise to stop.

        Raises
        ------
        Silent, OSError
            The connection is of no use any more.
        """
        if isinstance(self._socket, ssl.SSLSocket):
            for buffer in _joined(buffers):
                self._send_encrypted(self._socket, buffer, on_input)
            return
        at, rest = 0, list(buffers)
        while at < len(rest):
            try:
                sent = self._socket.sendmsg(rest[at : at + _BUFFERS_MAX])
            except BlockingIOError:
                self._wait_to_send(on_input)
                continue
            while at < len(rest) and sent >= len(rest[at]):
                sent -= len(rest[at])
                at += 1
            if sent:
                rest[at] = memoryview(rest[at])[sent:]

    def receive(self, timeout_s: float) -> bytes | None:
        """Return what came; None if nothing did in time.

        Raises
        ------
        Closed, OSError
            Nothing more will come.
        TlsFailed
            As the constructor: in TLS 1.3 a peer refuses our certificate only now.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                wait_s = deadline - time.monotonic()
                if wait_s <= 0 or not self._reading.poll(wait_s * 1000):
                    return None
                continue
            except ssl.SSLWantWriteError:
                wait_s = deadline - time.monotonic()
                if wait_s <= 0 or not self._writing.poll(wait_s * 1000):
                    return None
                continue
            except ssl.SSLEOFError:
                data = b""
            except ssl.SSLError as error:
                if self._tls is None:
                    raise
                raise self._tls.failed(error, self._host) from error
            if not data:
                raise Closed
            self._tls = None
            self.heard_at = time.monotonic()
            return data

    def end_sending(self) -> None:
        """Tell the peer that nothing more comes; what it sends can still be read."""
        socket.socket.shutdown(self._socket, socket.SHUT_WR)  # that of TLS would end reading, too

    def interrupt(self) -> None:
        """Let everything that uses the connection fail; for any thread."""
        with suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()

    def _wait_to_send(self, on_input: Callable[[], None]) -> None:
        """Wait until the system takes more, which it does as the peer's system takes some."""
        deadline, unsent = time.monotonic() + self._timeout_s, self.unsent_bytes()
        while True:
            ready = self._writing.poll(max(0.0, deadline - time.monotonic()) * 1000)
            events = ready[0][1] if ready else 0
            if events & ~select.POLLOUT:
                on_input()
            if events & select.POLLOUT:
                return
            if events:
                continue
            left = self.unsent_bytes()
            if left >= unsent:
                raise Silent
            deadline, unsent = time.monotonic() + self._timeout_s, left

    def _send_encrypted(
        self, connected: ssl.SSLSocket, buffer: Buffer, on_input: Callable[[], None]
    ) -> None:
        rest = memoryview(buffer)
        while rest:
            try:
                rest = rest[connected.send(rest) :]
            except ssl.SSLWantWriteError:
                self._wait_to_send(on_input)
            except ssl.SSLWantReadError:
                if not self._reading.poll(self._timeout_s * 1000):
                    raise Silent from None
                on_input()


def _poll(connected: socket.socket, events: int) -> select.poll:
    poll = select.poll()
    poll.register(connected, events)
    return poll


def _joined(buffers: Sequence[Buffer]) -> list[bytes]:
    """Join heads with what follows them: each buffer would become a TLS record of its own."""
    joined: list[bytes] = []
    heads: list[Buffer] = []
    size = 0
    for buffer in buffers:
        heads.append(buffer)
        size += len(buffer)
        if size >= _RECEIVE_BYTES:
            joined.append(b"".join(heads))
            heads, size = [], 0
    return [*joined, b"".join(heads)] if heads else joined
