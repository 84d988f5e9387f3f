"""The upper layer protocol of an acceptor, without a socket (PS3.8 9.2, 9.3).

Bytes go in as they come, in pieces of any size; what they mean goes to the `User` at once. Nothing
is copied but heads that came in two pieces: a fragment of a data set is a view of the caller's
buffer. States are those of PS3.8 Table 9-1 that an acceptor can be in while it reads.

    AWAITING_REQUEST  Sta2   transport connection open, no A-ASSOCIATE-RQ yet
    ESTABLISHED       Sta6   data transfer
    RELEASING         Sta8   A-RELEASE-RQ received, the answer not yet sent
    ENDED             Sta13  nothing more is read; the peer should close

Sta3 is passed within a call, since the user decides at once.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol

from dicom_node.errors import ProtocolBroken
from dicom_node.protocol.pdu import (
    COMMAND,
    HEADER,
    LAST,
    PDV_HEADER,
    AbortReason,
    AssociateRequest,
    PduType,
)

_ASSOCIATE_BYTES_MAX = 1 << 20
"""128 contexts with every transfer syntax of the standard are a quarter of it."""
_SHORT_PDU_BYTES = 4
_HEAD_BYTES = 6
"""Both a PDU's and a PDV's head."""


class State(Enum):
    AWAITING_REQUEST = auto()
    ESTABLISHED = auto()
    RELEASING = auto()
    ENDED = auto()


class User(Protocol):
    """Whom the upper layer tells."""

    def requested(self, request: AssociateRequest) -> bool:
        """Answer an A-ASSOCIATE-RQ; return whether it was accepted."""

    def fragment(
        self, context_id: int, is_command: bool, is_last: bool, fragment: memoryview
    ) -> None:
        """Take a fragment of a message; valid only during the call."""

    def room(self) -> memoryview | None:
        """Return where the next bytes of a data set belong, None if it takes only fragments."""

    def took(self, context_id: int, is_last: bool, size: int) -> None:
        """Take note that so many bytes lie in the room."""

    def release_requested(self) -> None:
        """The peer wants to end the association."""

    def aborted(self) -> None:
        """The peer has ended the association."""


class UpperLayer:
    """What one connection has read so far.

    Parameters
    ----------
    user : User
    pdu_bytes_max : int
        The maximum length that we announce: a longer P-DATA-TF is refused before it is read.
    """

    def __init__(self, user: User, pdu_bytes_max: int) -> None:
        self._user = user
        self._pdu_bytes_max = pdu_bytes_max
        self.state = State.AWAITING_REQUEST
        self._head = b""
        self._body: bytearray | None = None
        self._body_type = 0
        self._body_bytes = 0
        self._pdu_left = 0
        self._pdv_left = 0
        self._in_pdv = False
        self._context_id = 0
        self._control = 0

    @property
    def is_between_pdus(self) -> bool:
        """Whether no PDU has begun and not ended."""
        return not (self._head or self._pdu_left or self._in_pdv or self._body is not None)

    def end(self) -> None:
        """Read nothing more."""
        self.state = State.ENDED

    def room(self) -> memoryview | None:
        """Return where the next bytes of the connection belong, None if that is nowhere yet.

        Whoever reads them to there, rather than into a buffer to `feed` from, says so by `took`.
        """
        if not self._in_pdv or self._control & COMMAND or self.state is State.ENDED:
            return None
        room = self._user.room()
        return None if room is None else room[: self._pdv_left]

    def took(self, size: int) -> None:
        """Take note that so many bytes lie where `room` said."""
        self._pdv_left -= size
        self._in_pdv = self._pdv_left > 0
        is_last = not self._in_pdv and bool(self._control & LAST)
        self._user.took(self._context_id, is_last, size)

    def feed(self, data: memoryview) -> None:
        """Take what came.

        Raises
        ------
        ProtocolBroken
            If it is not what PS3.8 allows now; the association can only be aborted.
        """
        at, end = 0, len(data)
        while at < end:
            if self.state is State.ENDED:
                return
            if self._in_pdv:
                at = self._read_fragment(data, at, end)
            elif self._body is not None:
                at = self._read_body(data, at, end)
            elif self._head or end - at < _HEAD_BYTES:
                piece = bytes(data[at : at + _HEAD_BYTES - len(self._head)])
                self._head += piece
                at += len(piece)
                if len(self._head) == _HEAD_BYTES:
                    head, self._head = self._head, b""
                    self._take_head(head, 0)
            else:
                self._take_head(data, at)
                at += _HEAD_BYTES

    def _take_head(self, data: bytes | memoryview, at: int) -> None:
        if self._pdu_left:
            self._begin_pdv(*PDV_HEADER.unpack_from(data, at))
        else:
            self._begin_pdu(*HEADER.unpack_from(data, at))

    def _begin_pdv(self, length: int, context_id: int, control: int) -> None:
        if length < 2 or length + 4 > self._pdu_left:
            raise ProtocolBroken("a presentation data value does not fit its PDU")
        self._pdu_left -= length + 4
        if 0 < self._pdu_left < _HEAD_BYTES:
            raise ProtocolBroken("a PDU has bytes behind its last presentation data value")
        self._pdv_left = length - 2
        self._context_id = context_id
        self._control = control
        if self._pdv_left:
            self._in_pdv = True
        else:
            self._tell(memoryview(b""), is_last=bool(control & LAST))

    def _read_fragment(self, data: memoryview, at: int, end: int) -> int:
        size = min(self._pdv_left, end - at)
        self._pdv_left -= size
        self._in_pdv = self._pdv_left > 0
        is_last = not self._in_pdv and bool(self._control & LAST)
        self._tell(data[at : at + size], is_last=is_last)
        return at + size

    def _tell(self, fragment: memoryview, *, is_last: bool) -> None:
        self._user.fragment(self._context_id, bool(self._control & COMMAND), is_last, fragment)

    def _begin_pdu(self, kind: int, length: int) -> None:
        if kind == PduType.DATA_TF:
            if self.state is not State.ESTABLISHED:
                raise ProtocolBroken("data before an association", AbortReason.UNEXPECTED_PDU)
            if length > self._pdu_bytes_max:
                raise ProtocolBroken(
                    f"a P-DATA-TF of {length} bytes; {self._pdu_bytes_max} were announced",
                    AbortReason.INVALID_PARAMETER,
                )
            if length < _HEAD_BYTES:
                raise ProtocolBroken("a P-DATA-TF without a presentation data value")
            self._pdu_left = length
            return
        if kind not in set(PduType):
            raise ProtocolBroken(
                f"a PDU of type 0x{kind:02X}: no DICOM", AbortReason.UNRECOGNIZED_PDU
            )
        longest = _ASSOCIATE_BYTES_MAX if kind == PduType.ASSOCIATE_RQ else _SHORT_PDU_BYTES
        if length > longest:
            raise ProtocolBroken(f"a PDU of type 0x{kind:02X} with {length} bytes")
        self._refuse_unexpected(kind)
        self._body_type = kind
        self._body_bytes = length
        self._body = bytearray()
        if not length:
            self._end_body(b"")

    def _refuse_unexpected(self, kind: int) -> None:
        expected = {
            State.AWAITING_REQUEST: (PduType.ASSOCIATE_RQ, PduType.ABORT),
            State.ESTABLISHED: (PduType.RELEASE_RQ, PduType.ABORT),
            State.RELEASING: (PduType.ABORT,),
        }[self.state]
        if kind not in expected:
            raise ProtocolBroken(
                f"a PDU of type 0x{kind:02X} at the wrong time", AbortReason.UNEXPECTED_PDU
            )

    def _read_body(self, data: memoryview, at: int, end: int) -> int:
        assembled = self._body or bytearray()
        size = min(self._body_bytes - len(assembled), end - at)
        assembled += data[at : at + size]
        self._body = assembled
        if len(assembled) == self._body_bytes:
            self._end_body(bytes(assembled))
        return at + size

    def _end_body(self, body: bytes) -> None:
        self._body = None
        if self._body_type == PduType.ASSOCIATE_RQ:
            accepted = self._user.requested(AssociateRequest.parse(body))
            self.state = State.ESTABLISHED if accepted else State.ENDED
        elif self._body_type == PduType.RELEASE_RQ:
            self.state = State.RELEASING
            self._user.release_requested()
        else:
            self.state = State.ENDED
            self._user.aborted()
