"""One connection: its socket, what waits to be sent, and how long it may be silent."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress

from dicom_node.errors import ProtocolBroken
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.protocol.pdu import AbortReason, abort
from dicom_node.receive.admission import PeerCertificate
from dicom_node.receive.association import Association
from dicom_node.receive.doorway import Doorway
from dicom_node.receive.policy import Caller
from dicom_node.receive.tls import (
    begin_handshake,
    handshake_failure_in_words,
    is_gone,
    peer_certificate,
)
from dicom_node.receive.upper_layer import State, UpperLayer

_LINGER_S = 2.0
"""How long we wait for the peer to close after the end (ARTIM, PS3.8 9.1.5)."""
_TLS_RECORD_BYTES = 1 << 14
_CLOSED = "the peer closed the connection without a release"
_ROOM_BYTES_MIN = 1 << 14
_BEHIND_ROOM_BYTES = 1 << 12
_STALL_SHORTEST_S = 0.03
_STALL_LONGEST_S = 0.3
"""A sender with Nagle's algorithm on waits within a message for our delayed acknowledgement, 40 ms
on Linux, 200 ms elsewhere. Who has done so once is acknowledged at once from then on, which the
system has to be told after each read, and which costs the others a quarter of our time."""
_UNSENT_BYTES_MAX = 1 << 16
"""Who does not read our answers is not listened to beyond that."""

_READ = select.EPOLLIN
_WRITE = select.EPOLLOUT
_GONE = select.EPOLLHUP | select.EPOLLERR


class Connection:
    """A connection of the loop; the `Line` of its association.

    Parameters
    ----------
    sock : socket
        Non-blocking; owned from now on.
    watch : callable
        Tells the loop (descriptor, epoll events).
    forget : callable
        Tells the loop that the descriptor is about to be closed.
    """

    def __init__(
        self,
        sock: socket.socket,
        address: str,
        doorway: Doorway,
        watch: Callable[[int, int], None],
        forget: Callable[[int], None],
    ) -> None:
        self._sock = sock
        self.fileno = sock.fileno()
        self.address = address
        self.over_tls = False
        self._tls: ssl.SSLSocket | None = None
        self._is_shaking_hands = False
        self._certificate: PeerCertificate | None = None
        self._doorway = doorway
        self._watch = watch
        self._forget = forget
        self._association = Association(doorway, self)
        self._upper = UpperLayer(self._association, doorway.settings.pdu_bytes_max)
        self._opened_at = self._progress_at = time.monotonic()
        self._ended_at: float | None = None
        self._unsent = bytearray()
        self._sent_at = 0.0
        self._is_held = False
        self._was_deaf = False
        self._scratch: memoryview | None = None
        self._events = _READ
        self._is_closed = False
        self._has_spoken = False
        self._acknowledges_at_once = False

    # ------------------------------------------------------------ Line

    def caller(self, calling_ae_title: str, called_ae_title: str) -> Caller:
        return Caller(
            calling_ae_title, called_ae_title, self.address, self.over_tls, self._certificate
        )

    def send(self, data: bytes) -> None:
        if self._is_closed:
            return
        if not self._unsent:
            sent = self._send_now(data)
            if sent == len(data):
                return
            data = data[sent:]
            self._sent_at = time.monotonic()
        self._unsent += data
        self._want()

    def hold(self, wanted: bool) -> None:
        if self._is_held != wanted:
            self._is_held = wanted
            self._progress_at = time.monotonic()
            self._want()

    def finish(self) -> None:
        self._upper.end()
        if self._ended_at is None:
            self._ended_at = time.monotonic()
        self._is_held = False
        self._want()

    # ------------------------------------------------------------ the loop's calls

    def ready(self, events: int, scratch: memoryview) -> None:
        """Read or write, as the socket is ready to."""
        self._scratch = scratch
        if self._is_shaking_hands:
            self._go_on_shaking()
            return
        if events & _WRITE:
            self._flush()
        if self._is_deaf and events & _GONE:
            self._lost("the connection broke")
        elif events & (_READ | _GONE) and not self._is_closed:
            self._read(scratch)

    def look_at_clock(self, now: float) -> None:
        """End what was silent for too long."""
        settings = self._doorway.settings
        if self._ended_at is not None:
            if now - self._ended_at > _LINGER_S:
                self.close()
        elif self._upper.state is State.AWAITING_REQUEST:
            if now - self._opened_at > settings.negotiation_timeout_s:
                what = "an association request" if self._has_spoken else "anything"
                self._association.note(
                    "TIMED_OUT",
                    f"it did not send {what} within receive.negotiation_timeout_s",
                )
                self.close()
        elif self._unsent and now - self._sent_at > settings.read_timeout_s:
            self._time_out("it read no answer for receive.read_timeout_s")
        elif self._is_deaf:
            return
        elif self._is_in_message:
            if now - self._progress_at > settings.read_timeout_s:
                self._time_out("it stopped within a message for receive.read_timeout_s")
        elif not self._association.unanswered and now - self._progress_at > settings.idle_timeout_s:
            self._time_out("it was silent for receive.idle_timeout_s")

    def end_now(self) -> None:
        """Abort: the receiver stops."""
        if self._association.is_open:
            self._association.end(AssociationEnd.ABORTED)
            self._send_now(abort(AbortReason.NOT_SPECIFIED))
        self.close()

    def turn_away(self, reason: str) -> None:
        """Close before the first word."""
        self._association.note("REJECTED", reason)
        self._sock.close()

    # ------------------------------------------------------------ TLS

    def shake_hands(self, context: ssl.SSLContext) -> bool:
        """Begin a TLS handshake, which goes on as the peer's words come; False: it is gone."""
        self.over_tls = True
        try:
            self._tls = begin_handshake(context, self._sock)
        except OSError as error:
            self._association.note("LOST", handshake_failure_in_words(error))
            return False
        self._sock = self._tls
        self._is_shaking_hands = True
        return True

    def _go_on_shaking(self) -> None:
        if self._tls is None:
            return
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._set_events(_READ)
        except ssl.SSLWantWriteError:
            self._set_events(_WRITE)
        except OSError as error:
            self._association.note(
                "LOST" if is_gone(error) else "REJECTED", handshake_failure_in_words(error)
            )
            self.close()
        else:
            self._is_shaking_hands = False
            self._certificate = peer_certificate(self._tls)
            self._set_events(_READ)

    # ------------------------------------------------------------ reading

    def _read(self, scratch: memoryview) -> None:
        """Read what is there, once: the loop comes again if there is more."""
        if self._is_deaf or self._is_closed:
            return
        if self._tls is not None:
            self._read_tls(self._tls, scratch)
            return
        room = self._upper.room()
        try:
            if room is not None and len(room) >= _ROOM_BYTES_MIN:
                count = self._read_into(room, scratch)
            else:
                room, count = None, self._sock.recv_into(scratch)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(_broken(error))
            return
        if count:
            self._take(room, scratch, count)
        else:
            self._lost(_CLOSED)

    def _read_tls(self, tls: ssl.SSLSocket, scratch: memoryview) -> None:
        """Read record by record, each of 16 KiB at most, as much as there is room for."""
        filled, lost = 0, ""
        while filled + _TLS_RECORD_BYTES <= len(scratch) and not lost:
            try:
                count = tls.recv_into(scratch[filled:])
            except ssl.SSLWantReadError:
                break
            except ssl.SSLWantWriteError:
                self._set_events(_READ | _WRITE)
                break
            except OSError as error:
                lost = _broken(error)
                break
            filled += count
            lost = "" if count else _CLOSED
        if filled:
            self._take(None, scratch, filled)
        if lost:
            self._lost(lost)
        elif tls.pending():
            self._read_on()

    def _read_on(self) -> None:
        """Look again soon: what OpenSSL has decrypted already does not make the socket readable."""
        scratch = self._scratch
        if scratch is not None:
            self._doorway.call_soon(lambda: self._read(scratch))

    def _read_into(self, room: memoryview, scratch: memoryview) -> int:
        """Read to where the bytes belong, and a little more: the head of the next PDU."""
        return self._sock.recvmsg_into([room, scratch[:_BEHIND_ROOM_BYTES]])[0]

    def _take(self, room: memoryview | None, scratch: memoryview, count: int) -> None:
        if self._ended_at is not None:
            return  # the peer may go on until it has read our last word
        self._has_spoken = True
        now = time.monotonic()
        if _STALL_SHORTEST_S < now - self._progress_at < _STALL_LONGEST_S and self._is_in_message:
            self._acknowledges_at_once = True
        self._progress_at = now
        try:
            if room is not None:
                direct = min(count, len(room))
                self._upper.took(direct)
                count -= direct
            if count:
                self._upper.feed(scratch[:count])
        except ProtocolBroken as error:
            self._break(error)
            return
        if self._acknowledges_at_once and self._is_in_message:
            with suppress(OSError):
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    @property
    def _is_deaf(self) -> bool:
        """Whether nothing is read now: the disk, a service or the peer has to catch up first."""
        return self._is_held or len(self._unsent) > _UNSENT_BYTES_MAX

    @property
    def _is_in_message(self) -> bool:
        return self._association.is_in_message or not self._upper.is_between_pdus

    def _break(self, error: ProtocolBroken) -> None:
        self.send(abort(AbortReason(error.reason)))
        if self._association.is_open:
            self._association.end(AssociationEnd.ABORTED, "BROKEN", error.message)
        else:
            self._association.note("BROKEN", error.message)
        self.finish()

    def _time_out(self, reason: str) -> None:
        self.send(abort(AbortReason.NOT_SPECIFIED))
        self._association.end(AssociationEnd.ABORTED, "TIMED_OUT", reason)
        self.finish()

    def _lost(self, reason: str) -> None:
        if self._is_closed:
            return
        if self._ended_at is None:
            if self._association.is_open:
                self._association.end(AssociationEnd.LOST, "LOST", reason)
            elif not self._has_spoken:
                self._association.note("LOST", "it connected and closed without a word")
            else:
                self._association.note("LOST", "it closed before it had asked for an association")
        self.close()

    # ------------------------------------------------------------ sending and closing

    def _send_now(self, data: bytes | bytearray) -> int:
        try:
            return self._sock.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError:
            return 0  # the next read tells how it was lost

    def _flush(self) -> None:
        if self._unsent:
            sent = self._send_now(self._unsent)
            del self._unsent[:sent]
            if sent:
                self._sent_at = time.monotonic()
        self._want()

    def _want(self) -> None:
        is_deaf = self._is_deaf
        if self._tls is not None and self._was_deaf and not is_deaf:
            self._read_on()
        self._was_deaf = is_deaf
        events = 0 if is_deaf else _READ
        self._set_events(events | _WRITE if self._unsent else events)

    def _set_events(self, events: int) -> None:
        if events != self._events and not self._is_closed:
            self._events = events
            self._watch(self.fileno, events)

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        if self._association.is_open:
            self._association.end(AssociationEnd.LOST, "LOST", "the connection was closed")
        self._forget(self.fileno)
        with suppress(OSError):
            self._sock.close()


def _broken(error: OSError) -> str:
    return f"the connection broke: {error.strerror or type(error).__name__}"
