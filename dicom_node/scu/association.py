"""The upper layer of a requestor: an association, its messages, and why it ended (PS3.8).

One thread, no queue: whoever waits for a message reads it from the socket. States of PS3.8 Table
9-1 are passed within calls: Sta4 and Sta5 while it is made, Sta6 from then on, Sta7 in `release`.
Sta13 is `abort`, in which nothing is read but the end.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

from dicom_node.errors import ProtocolBroken, StorageError
from dicom_node.protocol.acceptance import (
    Acceptance,
    rejection_of,
    release_request,
    user_abort,
)
from dicom_node.protocol.pdu import (
    COMMAND,
    HEADER,
    AbortReason,
    PduType,
    Rejection,
    abort,
    release_response,
)
from dicom_node.scu.connection import Closed, Connection, Silent
from dicom_node.scu.fragments import Fragments
from dicom_node.scu.messages import Assembly, Message

MAXIMUM_LENGTH = 131072
"""Of a P-DATA-TF that we take, and the longest that we send; DCMTK takes no more."""

_PDV_HEAD_BYTES = 6
_CONTROL_PDU_BYTES_MAX = 1 << 20
_SEND_BYTES = 1 << 22
_PDU_TYPES = frozenset(PduType)
_CLOSING_S = 1.0
"""How long an abort waits for the peer to close: it has to read the A-ABORT first."""


class Ended(Exception):
    """The association has ended; `Association.ending` says how."""


class Association:
    """An association, made by `negotiate`.

    Parameters
    ----------
    connection : Connection
    timeout_s : float
        How long the peer may take to accept and to release, and how long it may be silent.
    """

    def __init__(self, connection: Connection, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._unread = bytearray()
        self._messages: deque[Message] = deque()
        self._assembly = Assembly()
        self._is_open = True
        self._is_made = False
        self._is_whole = True
        self._room = MAXIMUM_LENGTH - _PDV_HEAD_BYTES
        self._is_releasing = False
        self.ending = ""
        """What the peer did, or did not, that ended the association; empty while there is one."""

    # ------------------------------------------------------------ its begin

    def negotiate(self, request: bytes) -> Acceptance | Rejection:
        """Send an A-ASSOCIATE-RQ and return the answer; without acceptance the connection closes.

        Raises
        ------
        Ended
            If there is none.
        TlsFailed
            If that is because the peer refuses our certificate, which TLS 1.3 tells no sooner.
        """
        try:
            kind, body = self._answer_to(request)
            if kind == PduType.ASSOCIATE_AC:
                acceptance = Acceptance.parse(body)
                if acceptance.maximum_length:
                    self._room = max(1, min(acceptance.maximum_length, MAXIMUM_LENGTH) - 6)
                self._is_made = True
                self._take(b"")  # more may have come with it
                return acceptance
            if kind == PduType.ASSOCIATE_RJ:
                rejection = rejection_of(body)
                self._end("rejected the association")
                return rejection
            if kind == PduType.ABORT:
                self._end("aborted the association instead of an answer")
                raise Ended
            raise ProtocolBroken("another PDU than an answer", AbortReason.UNEXPECTED_PDU)
        except ProtocolBroken as error:
            raise self._broken(error) from error
        except (Closed, Silent, OSError) as error:
            raise self._lost(error) from error
        finally:
            if self._is_open and not self._is_made:
                self._end("did not become an association")

    def _answer_to(self, request: bytes) -> tuple[int, bytes]:
        deadline = time.monotonic() + self._timeout_s  # what ARTIM is for an acceptor
        self._connection.send([request], lambda: None)
        while (pdu := self._next_pdu()) is None:
            data = self._connection.receive(max(0.0, deadline - time.monotonic()))
            if data is None:
                self._end(f"did not answer the association request within {self._timeout_s:g} s")
                raise Ended
            self._unread += data
        return pdu

    # ------------------------------------------------------------ its messages

    @property
    def is_established(self) -> bool:
        return self._is_open

    @property
    def can_map(self) -> bool:
        """Whether data sets can be sent from mapped files."""
        return self._connection.is_plain

    @property
    def heard_at(self) -> float:
        """When the peer last sent anything (monotonic clock)."""
        return self._connection.heard_at

    def unsent_bytes(self) -> int:
        """Return how much of what was sent has not reached the peer's system yet."""
        return self._connection.unsent_bytes() if self._is_open else 0

    def send(
        self, context_id: int, command: bytes, views: Iterable[memoryview] = (), size_bytes: int = 0
    ) -> None:
        """Send a message.

        Parameters
        ----------
        views : iterable of memoryview
            The data set. Some megabytes are held at a time. Without any view there is none.
        size_bytes : int
            Of all views together.

        Raises
        ------
        Ended
            If the association ended before the message was out.
        StorageError
            If the views come to an early end; the association ends by that, too.
        """
        if not self._is_open:
            raise Ended
        buffers = Fragments(context_id, COMMAND, self._room, len(command)).of(memoryview(command))
        fragments = Fragments(context_id, 0, self._room, size_bytes)
        self._is_whole = False
        try:
            pending = 0
            for view in views:
                buffers += fragments.of(view)
                pending += len(view)
                del view  # the last reference: what it is a view of may be unmapped
                if pending >= _SEND_BYTES:
                    self._connection.send(buffers, self._take_input)
                    buffers.clear()
                    pending = 0
            if buffers:
                self._connection.send(buffers, self._take_input)
        except StorageError:
            self._end("was left in the middle of a data set")
            raise
        except (Closed, Silent, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.EFAULT:
                self._end("was left in the middle of a data set")
                raise StorageError(
                    "a file of ours became shorter, or could not be read, while it was sent",
                    hint="look at the disk of node.data_dir, then retry",
                ) from error
            raise self._lost(error) from error
        self._is_whole = True

    def receive(self, timeout_s: float) -> Message | None:
        """Return the next message; None if none came in time, or none will.

        What came before the end of the association is still returned.
        """
        deadline = time.monotonic() + timeout_s
        while not self._messages and self._is_open:
            try:
                data = self._connection.receive(max(0.0, deadline - time.monotonic()))
                if data is None:
                    break
                self._take(data)
            except (Closed, OSError) as error:
                self._lost(error)
        return self._messages.popleft() if self._messages else None

    # ------------------------------------------------------------ its end

    def release(self) -> None:
        """Release the association; whatever the peer does, the connection is closed then."""
        if not self._is_open:
            return
        self._is_releasing = True
        deadline = time.monotonic() + self._timeout_s
        try:
            self._connection.send([release_request()], self._take_input)
            while self._is_open:
                data = self._connection.receive(max(0.0, deadline - time.monotonic()))
                if data is None:
                    self.abort()
                    return
                self._take(data)
        except (Ended, Closed, Silent, OSError):
            self._end("closed the connection")

    def abort(self) -> None:
        """Send A-ABORT, and wait a moment for the peer to close."""
        if self._is_open:
            self._abort(user_abort(), "was aborted by us")

    def interrupt(self) -> None:
        """End what is under way, for another thread: the connection is closed."""
        self._connection.interrupt()

    def fail(self, what: str) -> None:
        """Abort, since the peer did something that ends the association."""
        if self._is_open:
            self._abort(user_abort(), what)

    def _abort(self, pdu: bytes, what: str) -> None:
        self._is_open = False
        self.ending = self.ending or what
        with suppress(Closed, Silent, OSError):
            # behind half a message it would be taken for a part of that
            if self._is_whole and not self._connection.unsent_bytes():
                self._connection.send([pdu], lambda: None)
                self._connection.end_sending()
                deadline = time.monotonic() + _CLOSING_S
                while self._connection.receive(max(0.0, deadline - time.monotonic())) is not None:
                    pass
        self._connection.close()

    def _end(self, what: str) -> None:
        self._is_open = False
        self.ending = self.ending or what
        self._connection.close()

    def _lost(self, error: Exception) -> Ended:
        """End the association of a broken connection; perhaps the peer said before why."""
        if self._is_open:
            with suppress(Closed, OSError):
                while self._is_open and (data := self._connection.receive(0.0)) is not None:
                    self._take(data)
        if isinstance(error, Silent):
            self._end(f"took nothing for {self._timeout_s:g} s")
        elif isinstance(error, Closed | ConnectionError):
            self._end("closed the connection")
        else:
            self._end(f"is cut off: {getattr(error, 'strerror', None) or error}")
        return Ended()

    def _broken(self, error: ProtocolBroken) -> Ended:
        self._abort(abort(AbortReason(error.reason)), f"broke the protocol: {error.message}")
        return Ended()

    # ------------------------------------------------------------ what comes in

    def _take_input(self) -> None:
        """Take what comes while we send: most likely the peer gives up."""
        data = self._connection.receive(0.0)
        if data is not None:
            self._take(data)
        if not self._is_open:
            raise Ended

    def _take(self, data: bytes) -> None:
        self._unread += data
        try:
            while self._is_open and (pdu := self._next_pdu()) is not None:
                self._take_pdu(*pdu)
        except ProtocolBroken as error:
            self._broken(error)

    def _next_pdu(self) -> tuple[int, bytes] | None:
        if len(self._unread) < HEADER.size:
            return None
        kind, length = HEADER.unpack_from(self._unread)
        if kind not in _PDU_TYPES:
            raise ProtocolBroken(f"a PDU of type 0x{kind:02X}", AbortReason.UNRECOGNIZED_PDU)
        longest = MAXIMUM_LENGTH if kind == PduType.DATA_TF else _CONTROL_PDU_BYTES_MAX
        if length > longest:
            raise ProtocolBroken(
                f"a PDU of type 0x{kind:02X} with {length} bytes", AbortReason.INVALID_PARAMETER
            )
        end = HEADER.size + length
        if len(self._unread) < end:
            return None
        body = bytes(self._unread[HEADER.size : end])
        del self._unread[:end]
        return kind, body

    def _take_pdu(self, kind: int, body: bytes) -> None:
        if kind == PduType.DATA_TF:
            self._messages.extend(self._assembly.take(body))
        elif kind == PduType.ABORT:
            self._end("aborted the association")
        elif kind == PduType.RELEASE_RP and self._is_releasing:
            self._end("released the association")
        elif kind == PduType.RELEASE_RQ:
            if self._is_whole:  # behind half a message it would be taken for a part of that
                with suppress(Silent, OSError):
                    self._connection.send([release_response()], lambda: None)
            if not self._is_releasing:  # else both did at once: our answer is on its way
                self._end("released the association")
        else:
            raise ProtocolBroken(
                f"a PDU of type 0x{kind:02X} at the wrong time", AbortReason.UNEXPECTED_PDU
            )
