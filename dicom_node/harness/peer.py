"""A scripted DICOM peer: a requestor on a blocking socket that sends what no honest one sends.

It negotiates nothing by itself, keeps no state and never reads ahead of its script: every byte that
goes out, and every moment of silence, is the caller's. `pdu.py` builds the bytes and `answers.py`
reads the answers; none of them knows pynetdicom, whose mistakes they must be able to find.

    with ScriptedPeer("127.0.0.1", 11112) as peer:
        peer.associate([Context(1, VERIFICATION)], called="DICOM_NODE")
        peer.send(pdu(0x09))  # there is no such type
        assert isinstance(peer.receive(), Aborted)
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

from dicom_node.errors import PeerUnreachable
from dicom_node.harness.answers import Answer, Closed, Data, decode, parse_command_set
from dicom_node.harness.pdu import (
    VERIFICATION,
    Context,
    PdvHeader,
    abort,
    associate_rq,
    c_echo_rq,
    c_store_rq,
    fragments,
    p_data,
    release_rq,
)

_HEADER = struct.Struct(">BxL")
_RECEIVE_BYTES = 65536
_STATUS = 0x0900

FRAGMENT_BYTES_MAX = 16372
"""A PDV of so many bytes fills a P-DATA-TF of 16 KB, which every acceptor takes."""


class ScriptedPeer:
    """One connection to an acceptor; a context manager that connects and closes.

    Parameters
    ----------
    host, port : str, int
        The acceptor.
    timeout_s : float
        How long to wait for the connection, for room to send, and for each answer.
    source : str, optional
        The address to connect from, where the machine has several: all of 127.0.0.0/8 on Linux.
    receive_buffer_bytes : int, optional
        How much may lie unread at our end; a little makes a peer that is slow to read.
    """

    def __init__(
        self,
        host: str,
        port: int,
        timeout_s: float = 5.0,
        *,
        source: str | None = None,
        receive_buffer_bytes: int | None = None,
    ) -> None:
        self._address = (host, port)
        self._source = None if source is None else (source, 0)
        self._timeout_s = timeout_s
        self._receive_buffer_bytes = receive_buffer_bytes
        self._socket: socket.socket | None = None
        self._received = bytearray()

    # ------------------------------------------------------------ the connection

    def connect(self) -> Self:
        """Connect; PeerUnreachable or TimeoutError if that fails."""
        with _translated("cannot be connected to"), ExitStack() as stack:
            family, kind, *_ = socket.getaddrinfo(*self._address, type=socket.SOCK_STREAM)[0]
            connecting = stack.enter_context(socket.socket(family, kind))
            connecting.settimeout(self._timeout_s)
            # each send is a packet of its own
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._receive_buffer_bytes is not None:
                # before there is a window: one that shrinks makes the system drop what comes
                size = self._receive_buffer_bytes
                connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
            if self._source is not None:
                connecting.bind(self._source)
            connecting.connect(self._address)
            stack.pop_all()
        self._socket = connecting
        return self

    def half_close(self) -> None:
        """Send FIN and go on reading."""
        with _translated("closed the connection"):
            self._open.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close by RST: what has not been sent is dropped, and the acceptor's next read fails."""
        self._open.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close; by FIN, or by RST if an answer lies unread (RFC 1122 4.2.2.13)."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ------------------------------------------------------------ sending

    def send(self, data: bytes, *, piece_bytes: int | None = None) -> None:
        """Send bytes, each `piece_bytes` of them by a call of their own.

        Raises
        ------
        PeerUnreachable
            If the acceptor closed the connection.
        TimeoutError
            If it has stopped reading.
        """
        size = len(data) if piece_bytes is None else piece_bytes
        with _translated("closed the connection"):
            for start in range(0, len(data), size or 1):
                self._open.sendall(data[start : start + size])

    def flood(self, pieces: Iterable[bytes]) -> int:
        """Send until the acceptor takes no more, or the pieces are used up; return the bytes."""
        sent = 0
        for piece in pieces:
            try:
                self.send(piece)
            except (PeerUnreachable, TimeoutError):
                break
            sent += len(piece)
        return sent

    def send_message(
        self,
        context_id: int,
        command: bytes,
        data_set: bytes | None = None,
        *,
        fragment_bytes_max: int = FRAGMENT_BYTES_MAX,
    ) -> None:
        """Send a command and its data set, each PDV in a P-DATA-TF of its own."""
        for fragment in fragments(context_id, command, fragment_bytes_max, command=True):
            self.send(p_data(fragment))
        if data_set is not None:
            for fragment in fragments(context_id, data_set, fragment_bytes_max):
                self.send(p_data(fragment))

    def associate(
        self, contexts: Iterable[Context] = (Context(1, VERIFICATION),), **fields: Any
    ) -> Answer:
        """Send an association request (see `pdu.associate_rq`) and return the answer."""
        self.send(associate_rq(contexts, **fields))
        return self.receive()

    def echo(self, context_id: int = 1) -> int:
        """Send a C-ECHO and return its status."""
        self.send_message(context_id, c_echo_rq())
        return self.receive_status()

    def store(
        self, context_id: int, sop_class_uid: str, sop_instance_uid: str, data_set: bytes
    ) -> int:
        """Send a C-STORE and return its status."""
        self.send_message(context_id, c_store_rq(sop_class_uid, sop_instance_uid), data_set)
        return self.receive_status()

    def release(self) -> Answer:
        """Send A-RELEASE-RQ and return the answer."""
        self.send(release_rq())
        return self.receive()

    def abort(self) -> None:
        """Send A-ABORT as the service user and close."""
        self.send(abort())
        self.close()

    # ------------------------------------------------------------ receiving

    def receive(self, timeout_s: float | None = None) -> Answer:
        """Return the next PDU, or `Closed`.

        Raises
        ------
        TimeoutError
            If neither comes; what came so far is kept for the next call.
        """
        deadline = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        closed = self._fill(_HEADER.size, deadline)
        if closed is not None:
            return closed
        kind, length = _HEADER.unpack_from(self._received)
        closed = self._fill(_HEADER.size + length, deadline)
        if closed is not None:
            return closed
        body = bytes(self._received[_HEADER.size : _HEADER.size + length])
        del self._received[: _HEADER.size + length]
        return decode(kind, body)

    def receive_response(self) -> dict[int, bytes]:
        """Return the next command set, by element number of group 0000.

        Raises
        ------
        PeerUnreachable
            If something else comes, or the command set is broken.
        """
        encoded = bytearray()
        while True:
            answer = self.receive()
            if not isinstance(answer, Data):
                raise PeerUnreachable(f"instead of a response came {answer}")
            for pdv in answer.pdvs:
                encoded += pdv.fragment
                if pdv.header == PdvHeader.COMMAND | PdvHeader.LAST:
                    try:
                        return parse_command_set(bytes(encoded))
                    except ValueError as error:
                        raise PeerUnreachable("the response is no command set") from error

    def receive_status(self) -> int:
        """Return (0000,0900) *Status* of the next response; PeerUnreachable if there is none."""
        value = self.receive_response().get(_STATUS, b"")
        if len(value) != 2:
            raise PeerUnreachable("the response has no status")
        return int.from_bytes(value, "little")

    def read_until_closed(self, timeout_s: float) -> list[Answer]:
        """Return all that comes until the acceptor closes, which it must; `Closed` is the last.

        Raises
        ------
        TimeoutError
            If the connection is still open after `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        answers: list[Answer] = []
        while not (answers and isinstance(answers[-1], Closed)):
            answers.append(self.receive(deadline - time.monotonic()))
        return answers

    @property
    def _open(self) -> socket.socket:
        if self._socket is None:
            raise PeerUnreachable("the connection is not open")
        return self._socket

    def _fill(self, wanted: int, deadline: float) -> Closed | None:
        """Read until so many bytes are here; return the end of the connection if it comes first."""
        while len(self._received) < wanted:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("the acceptor neither answers nor closes")
            self._open.settimeout(left_s)
            try:
                piece = self._open.recv(_RECEIVE_BYTES)
            except ConnectionResetError:
                return Closed(reset=True)
            finally:
                self._open.settimeout(self._timeout_s)
            if not piece:
                return Closed(reset=False)
            self._received += piece
        return None


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise  # the acceptor is there and does not read
    except OSError as error:
        raise PeerUnreachable(f"the acceptor {what}: {error.strerror}") from error
