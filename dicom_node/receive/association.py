"""One association, from its request to its end: what the upper layer brings, what is answered.

C-STORE is the matter of `Storing`, any other request, once it is collected, that of `Serving`;
C-ECHO is answered here. Everything runs on the loop's thread.
"""

from __future__ import annotations

import uuid
from typing import Protocol

import structlog

from dicom_node.errors import ProtocolBroken
from dicom_node.ledger.arrivals import AssociationClosed, AssociationOpened, NotedEvent
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.protocol.command import RESPONSE, Command, CommandField, response
from dicom_node.protocol.pdu import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    LOCAL_LIMIT_EXCEEDED,
    PDV_HEADER,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    AbortReason,
    AssociateRequest,
    associate_accept,
    associate_reject,
    command_pdu,
    message_pdus,
    release_response,
)
from dicom_node.receive.contexts import AcceptedContext
from dicom_node.receive.doorway import Doorway
from dicom_node.receive.policy import Caller, Refusal, Status
from dicom_node.receive.rows import closed_texts, event_texts, opened_texts
from dicom_node.receive.serving import Serving
from dicom_node.receive.storing import Storing
from dicom_node.store.receive_log import Entry
from dicom_node.store.record import RecordKind

log = structlog.get_logger()

_COMMAND_BYTES_MAX = 1 << 16
_REQUEST_BYTES_MAX = 1 << 24
"""Of a service's data set: a commitment of 100,000 instances is 13 MB."""
_UNANSWERED_MAX = 4
"""Who sends on without waiting for answers is not read from beyond so many."""


class Line(Protocol):
    """The connection, to its association."""

    address: str
    over_tls: bool

    def caller(self, calling_ae_title: str, called_ae_title: str) -> Caller:
        """Return who calls."""

    def send(self, data: bytes) -> None:
        """Send, now or as soon as the peer reads."""

    def hold(self, wanted: bool) -> None:
        """Stop reading, or go on."""

    def close(self) -> None:
        """Close at once."""

    def finish(self) -> None:
        """Send what is to be sent, then wait a little for the peer to close."""


class Association:
    """The user of one upper layer."""

    def __init__(self, doorway: Doorway, line: Line) -> None:
        self._doorway = doorway
        self._line = line
        self._storing = Storing(doorway, self)
        self._serving = Serving(doorway, self)
        self.association_id = ""
        self.calling_ae_title = ""
        self._called = ""
        self.is_open = False
        self.is_releasing = False
        self._is_recorded = False
        self._contexts: dict[int, AcceptedContext] = {}
        self._maximum_length = 0
        self._context_id = 0
        self._command = b""
        self._request: Command | None = None
        self._data = bytearray()
        self.unanswered = 0

    @property
    def is_in_message(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._command) or self._request is not None

    # ------------------------------------------------------------ begin and end

    def requested(self, request: AssociateRequest) -> bool:
        """Negotiate; see `User`."""
        self.calling_ae_title, self._called = request.calling_ae_title, request.called_ae_title
        if not request.protocol_version & 1:
            words = "it speaks another protocol version"
            return self._reject(Refusal(PROTOCOL_VERSION_NOT_SUPPORTED, words))
        caller = self._line.caller(self.calling_ae_title, self._called)
        refusal = self._doorway.admission.refusal(caller)
        if refusal is not None:  # before its items are read: a stranger may have sent thousands
            return self._reject(refusal)
        negotiated = self._doorway.negotiator.negotiate(request)
        if not negotiated.application_context_fits:
            words = "it proposes another application context"
            return self._reject(Refusal(APPLICATION_CONTEXT_NOT_SUPPORTED, words))
        full = self._doorway.enter(self.calling_ae_title)
        if full is not None:
            return self._reject(Refusal(LOCAL_LIMIT_EXCEEDED, full))
        self.association_id = uuid.uuid4().hex
        self.is_open = True
        self._contexts = dict(negotiated.contexts)
        self._maximum_length = negotiated.maximum_length
        self._line.send(associate_accept(request, negotiated.items))
        log.info(
            "association_accepted",
            association_id=self.association_id,
            calling_ae_title=self.calling_ae_title,
            address=self._line.address,
        )
        return True

    def _reject(self, refusal: Refusal) -> bool:
        self._line.send(associate_reject(refusal.rejection))
        self.note("REJECTED", refusal.reason)
        self._line.finish()
        return False

    def release_requested(self) -> None:
        """See `User`; the answers to what was sent before go out first."""
        if self.is_in_message:
            raise ProtocolBroken("a release in the middle of a message", AbortReason.UNEXPECTED_PDU)
        self.is_releasing = True
        self._release_if_answered()

    def _release_if_answered(self) -> None:
        if self.is_releasing and not self.unanswered and self.is_open:
            self._line.send(release_response())
            self.end(AssociationEnd.RELEASED)
            self._line.finish()

    def aborted(self) -> None:
        """See `User`."""
        self.end(AssociationEnd.ABORTED, "ABORTED", "the peer aborted")
        self._line.close()

    def end(self, end: AssociationEnd, event: str = "", reason: str = "") -> None:
        """Note the end, once, and let go of what had not come to its end."""
        if event:
            self.note(event, reason)
        self._storing.drop()
        if not self.is_open:
            return
        self.is_open = False
        self._doorway.leave(self.calling_ae_title)
        if self._is_recorded:
            row = AssociationClosed(self.association_id, end, self._doorway.clock())
            self._append(RecordKind.ASSOCIATION_CLOSED, closed_texts(row))
        self._serving.end()
        log.info(
            "association_ended", association_id=self.association_id, end=end.value, reason=reason
        )

    def note(self, event: str, reason: str) -> None:
        """Leave an event about this association or connection."""
        subject = self.calling_ae_title or self._line.address
        if self._doorway.notes.wanted(event, subject, reason):
            row = NotedEvent(self._doorway.clock(), "association", subject, event, reason)
            self._append(RecordKind.EVENT, event_texts(row))
        log.warning(
            "association_" + event.lower(),
            calling_ae_title=self.calling_ae_title,
            address=self._line.address,
            reason=reason,
        )

    # ------------------------------------------------------------ messages

    def fragment(
        self, context_id: int, is_command: bool, is_last: bool, fragment: memoryview
    ) -> None:
        """See `User` (PS3.7 6.3, PS3.8 Annex E)."""
        if not is_command:
            if self._request is None or context_id != self._context_id:
                raise ProtocolBroken("a data set without its command")
            self._take_data(self._request, fragment)
            if is_last:
                self._end_message()
            return
        if self._request is not None:
            raise ProtocolBroken("a command before the data set had ended")
        if context_id not in self._contexts:
            raise ProtocolBroken(f"presentation context {context_id} was not accepted")
        if self._command and context_id != self._context_id:
            raise ProtocolBroken("a command in two presentation contexts")
        self._context_id = context_id
        self._command += fragment
        if len(self._command) > _COMMAND_BYTES_MAX:
            raise ProtocolBroken(f"a command set of over {_COMMAND_BYTES_MAX} bytes")
        if is_last:
            command, self._command = Command.parse(self._command), b""
            self._begin_message(command)

    def room(self) -> memoryview | None:
        """See `User`."""
        return self._storing.room()

    def took(self, context_id: int, is_last: bool, size: int) -> None:
        """See `User`; whoever asked for room has seen a fragment of this data set before."""
        del context_id
        self._storing.took(size)
        if is_last:
            self._end_message()

    def _begin_message(self, command: Command) -> None:
        if command.field == CommandField.C_CANCEL:
            self._serving.cancel(command)
            return
        self._request = command
        if command.field == CommandField.C_STORE:
            self._storing.begin(command, self._contexts[self._context_id])
        if not command.has_data_set:
            self._end_message()

    def _take_data(self, request: Command, fragment: memoryview) -> None:
        if request.field == CommandField.C_STORE:
            self._storing.write(fragment)
            return
        self._data += fragment
        if len(self._data) > _REQUEST_BYTES_MAX:
            raise ProtocolBroken(f"a data set of over {_REQUEST_BYTES_MAX} bytes")

    def _end_message(self) -> None:
        command, self._request = self._request, None
        if command is None:
            return
        context_id, context = self._context_id, self._contexts[self._context_id]
        if command.field == CommandField.C_STORE:
            self._storing.end(command, context_id, context)
        elif command.field == CommandField.C_ECHO:
            self.answer(response(command, Status.SUCCESS), context_id)
        elif command.field & RESPONSE:
            self._serving.take_response(command)
        else:
            self._serving.serve(command, bytes(self._data), context_id, context)
        self._data.clear()

    # ------------------------------------------------------------ Owner

    def answer(self, encoded: bytes, context_id: int) -> None:
        """See `Owner`; in PDUs that the peer takes (PS3.8 D.1)."""
        if not self._maximum_length or len(encoded) + PDV_HEADER.size <= self._maximum_length:
            self._line.send(command_pdu(context_id, encoded))
        else:
            self.send_message(context_id, encoded, b"")

    def send_message(self, context_id: int, encoded: bytes, data_set: bytes) -> None:
        """See `Owner`."""
        for pdu in message_pdus(context_id, encoded, data_set, self._maximum_length):
            self._line.send(pdu)

    def hold(self) -> None:
        """See `Owner`."""
        self._line.hold(True)

    def go_on(self) -> None:
        """See `Owner`."""
        if not self._storing.must_wait and self.unanswered < _UNANSWERED_MAX:
            self._line.hold(False)

    def owes_an_answer(self) -> None:
        """See `Owner`; who sends on without waiting is not read from any more."""
        self.unanswered += 1
        if self.unanswered >= _UNANSWERED_MAX:
            self._line.hold(True)

    def has_answered(self) -> None:
        """See `Owner`; the peer may be gone by now."""
        self.unanswered -= 1
        if self.is_open:
            self.go_on()
            self._release_if_answered()

    def record_opening(self) -> None:
        """See `Owner`."""
        if not self._is_recorded:
            self._is_recorded = True
            row = AssociationOpened(
                self.association_id,
                self.calling_ae_title,
                self._called,
                self._line.address,
                self._doorway.clock(),
            )
            self._append(RecordKind.ASSOCIATION_OPENED, opened_texts(row))

    def _append(self, kind: RecordKind, texts: tuple[str, ...]) -> None:
        self._doorway.append(Entry(kind, texts))
