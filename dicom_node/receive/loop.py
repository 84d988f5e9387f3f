"""The event loop of a receiver: every connection on one thread, which never waits for a disk.

Theory of operation. One epoll watches the listening sockets, all connections and an eventfd by
which other threads wake the loop. A readable connection is read once, into a buffer that all share,
and what came is fed to its upper layer at once; nobody else can be starved, since the next turn
asks again. Silence costs nothing but a look at each connection's deadline a few times a second.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from dicom_node.receive.connection import Connection
from dicom_node.receive.doorway import Doorway
from dicom_node.receive.tls import TlsDoor

log = structlog.get_logger()

_SCRATCH_BYTES = 1 << 18
_ACCEPTED_A_TURN = 64
_TICK_LONGEST_S = 1.0
_TICKS_A_TIMEOUT = 4
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_ACCEPT_AGAIN_S = 0.5
_EXPIRY_EVERY_S = 60.0


@dataclass(frozen=True)
class Listener:
    """A socket that listens, and how its connections are to be shaken hands with."""

    socket: socket.socket
    tls: TlsDoor | None = None


class Loop:
    """Runs the connections of one receiver.

    Parameters
    ----------
    listeners : sequence of Listener
        Non-blocking sockets; the loop does not close them.
    """

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = {listener.socket.fileno(): listener for listener in listeners}
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._calls: deque[Callable[[], None]] = deque()
        self._connections: dict[int, Connection] = {}
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._stopping = False
        self._is_accepting = True
        self._accept_again_at = 0.0
        self._expiry_at = 0.0
        self._doorway: Doorway | None = None

    # ------------------------------------------------------------ from any thread

    def call_soon(self, call: Callable[[], None]) -> None:
        """Have the loop call something on its thread."""
        self._calls.append(call)
        with suppress(BlockingIOError, OSError):  # full means that the loop is awake already
            os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        self.call_soon(self._stop)

    # ------------------------------------------------------------ the loop

    def run(self, doorway: Doorway) -> None:
        """Serve until `stop`; what is open then is aborted."""
        self._doorway = doorway
        settings = doorway.settings
        shortest = min(
            settings.negotiation_timeout_s, settings.read_timeout_s, settings.idle_timeout_s
        )
        tick_s = min(_TICK_LONGEST_S, shortest / _TICKS_A_TIMEOUT)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._accept(True)
        next_tick = time.monotonic() + tick_s
        while not self._stopping:
            now = time.monotonic()
            if now >= next_tick:
                self._tick(now)
                next_tick = now + tick_s
            for fd, event in self._epoll.poll(max(0.0, next_tick - time.monotonic())):
                if fd == self._wake:
                    self._woken()
                elif fd in self._listeners:
                    self._take_callers(self._listeners[fd])
                else:
                    connection = self._connections.get(fd)
                    if connection is not None:
                        self._serve(connection, event)
        self._end_all()

    def close(self) -> None:
        """Let go of what other threads may have used until they ended."""
        os.close(self._wake)

    def _serve(self, connection: Connection, event: int) -> None:
        try:
            connection.ready(event, self._scratch)
        except Exception:
            # our mistake costs this connection, not the others; the sender keeps its copy
            log.exception("connection_failed", address=connection.address)
            connection.end_now()

    def _woken(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        for _ in range(len(self._calls)):
            self._calls.popleft()()
        if self._calls:
            os.eventfd_write(self._wake, 1)

    def _stop(self) -> None:
        self._stopping = True

    def _tick(self, now: float) -> None:
        for connection in list(self._connections.values()):
            connection.look_at_clock(now)
        if not self._is_accepting and now >= self._accept_again_at:
            self._accept(True)
        if now >= self._expiry_at and self._doorway is not None:
            self._expiry_at = now + _EXPIRY_EVERY_S
            for listener in self._listeners.values():
                if listener.tls is not None:
                    listener.tls.context()  # takes up new files, or tells what is wrong with them
                    listener.tls.check_expiry(self._doorway.clock())

    def _end_all(self) -> None:
        for connection in list(self._connections.values()):
            connection.end_now()
        for call in list(self._calls):  # the log's last answers: the rows are there already
            call()
        self._epoll.close()

    # ------------------------------------------------------------ connections

    def _accept(self, wanted: bool) -> None:
        """Listen to those who want to connect, or let them wait in the queue of the system."""
        self._is_accepting = wanted
        for fd in self._listeners:
            if wanted:
                # several receivers share the socket: one of them wakes, not all
                self._epoll.register(fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)
            else:
                self._epoll.unregister(fd)

    def _take_callers(self, listener: Listener) -> None:
        if self._doorway is None:
            return
        for _ in range(_ACCEPTED_A_TURN):
            try:
                accepted, address = listener.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    log.error("connections_wait", reason=error.strerror)
                    self._accept_again_at = time.monotonic() + _ACCEPT_AGAIN_S
                    self._accept(False)
                    return
                continue  # it was gone before we looked (accept(2))
            self._take_caller(listener, accepted, str(address[0]), self._doorway)

    def _take_caller(
        self, listener: Listener, accepted: socket.socket, address: str, doorway: Doorway
    ) -> None:
        accepted.setblocking(False)
        with suppress(OSError):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(accepted, address, doorway, self._watch, self._forget)
        if len(self._connections) >= doorway.settings.connections_max:
            connection.turn_away("too many connections are open (receive.connections_max)")
            return
        if listener.tls is not None and not connection.shake_hands(listener.tls.context()):
            return
        self._connections[connection.fileno] = connection
        self._epoll.register(connection.fileno, select.EPOLLIN)

    def _watch(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def _forget(self, fd: int) -> None:
        if self._connections.pop(fd, None) is not None:
            self._epoll.unregister(fd)
