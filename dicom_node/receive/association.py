"""One association, from its request to its end: what the upper layer brings, and what is answered.

A C-STORE's data set goes straight into an `Arriving`; its answer is sent when the receive log says
that it is durable. C-ECHO is answered at once. Any other request is collected and handed to its
service. Everything here runs on the loop's thread.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Protocol

import structlog

from dicom_node.errors import InstanceRefused, ProtocolBroken, StoreFull
from dicom_node.ledger.arrivals import AssociationClosed, AssociationOpened, NotedEvent
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.receive.arriving import Arriving, file_meta_of
from dicom_node.receive.command import (
    RESPONSE,
    Command,
    CommandField,
    Element,
    encode,
    lo,
    response,
    store_response,
    ui,
    us,
)
from dicom_node.receive.contexts import AcceptedContext
from dicom_node.receive.doorway import Doorway
from dicom_node.receive.identity import IdentityReader
from dicom_node.receive.pdu import (
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
from dicom_node.receive.policy import (
    Caller,
    Identity,
    Refusal,
    Status,
    check_command,
    check_identity,
)
from dicom_node.receive.rows import InstanceTexts, closed_texts, event_texts, opened_texts
from dicom_node.receive.service import DimseStatus, EventReport, ServiceReply, ServiceRequest
from dicom_node.store.large import part10_path
from dicom_node.store.local import study_folder
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
        self._id = ""
        self._calling = ""
        self._called = ""
        self._is_open = False
        self._is_recorded = False
        self._contexts: dict[int, AcceptedContext] = {}
        self._maximum_length = 0
        self._reader = IdentityReader()
        self._context_id = 0
        self._command = b""
        self._request: Command | None = None
        self._arriving: Arriving | None = None
        self._refusal: InstanceRefused | StoreFull | None = None
        self._data = bytearray()
        self.unanswered = 0
        self._is_releasing = False
        self._message_id = 0
        self._reports: dict[int, Callable[[int | None], None]] = {}
        self._cancelled: set[int] = set()

    @property
    def is_in_message(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._command) or self._request is not None

    @property
    def is_open(self) -> bool:
        return self._is_open

    # ------------------------------------------------------------ begin and end

    def requested(self, request: AssociateRequest) -> bool:
        """Negotiate; see `User`."""
        self._calling, self._called = request.calling_ae_title, request.called_ae_title
        if not request.protocol_version & 1:
            words = "it speaks another protocol version"
            return self._reject(Refusal(PROTOCOL_VERSION_NOT_SUPPORTED, words))
        caller = self._line.caller(self._calling, self._called)
        refusal = self._doorway.admission.refusal(caller)
        if refusal is not None:  # before its items are read: a stranger may have sent thousands
            return self._reject(refusal)
        negotiated = self._doorway.negotiator.negotiate(request)
        if not negotiated.application_context_fits:
            words = "it proposes another application context"
            return self._reject(Refusal(APPLICATION_CONTEXT_NOT_SUPPORTED, words))
        full = self._doorway.enter(self._calling)
        if full is not None:
            return self._reject(Refusal(LOCAL_LIMIT_EXCEEDED, full))
        self._id = uuid.uuid4().hex
        self._is_open = True
        self._contexts = dict(negotiated.contexts)
        self._maximum_length = negotiated.maximum_length
        self._line.send(associate_accept(request, negotiated.items))
        log.info(
            "association_accepted",
            association_id=self._id,
            calling_ae_title=self._calling,
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
        self._is_releasing = True
        self._release_if_answered()

    def _release_if_answered(self) -> None:
        if self._is_releasing and not self.unanswered and self._is_open:
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
        if self._arriving is not None:
            self._arriving.drop()
            self._arriving = None
        if not self._is_open:
            return
        self._is_open = False
        self._doorway.leave(self._calling)
        if self._is_recorded:
            row = AssociationClosed(self._id, end, self._doorway.clock())
            self._append(RecordKind.ASSOCIATION_CLOSED, closed_texts(row))
        for answered in self._reports.values():
            answered(None)
        self._reports.clear()
        log.info("association_ended", association_id=self._id, end=end.value, reason=reason)

    def note(self, event: str, reason: str) -> None:
        """Leave an event about this association or connection."""
        subject = self._calling or self._line.address
        if self._doorway.notes.wanted(event, subject, reason):
            row = NotedEvent(self._doorway.clock(), "association", subject, event, reason)
            self._append(RecordKind.EVENT, event_texts(row))
        log.warning(
            "association_" + event.lower(),
            calling_ae_title=self._calling,
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
            self._take_data(fragment)
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
        if self._arriving is None:
            return None
        try:
            return self._arriving.room()
        except InstanceRefused as error:
            self._refuse_arriving(error)
            return None

    def took(self, context_id: int, is_last: bool, size: int) -> None:
        """See `User`; whoever asked for room has seen a fragment of this data set before."""
        del context_id
        if self._arriving is not None:
            self._arriving.took(size)
            self._watch_arriving(self._arriving)
        if is_last:
            self._end_message()

    def _begin_message(self, command: Command) -> None:
        field = command.field
        if field == CommandField.C_CANCEL:
            self._cancelled.add(command.number(Element.MESSAGE_ID_BEING_RESPONDED_TO))
            return
        self._request = command
        if field == CommandField.C_STORE:
            self._begin_store(command)
        if not command.has_data_set:
            self._end_message()

    def _take_data(self, fragment: memoryview) -> None:
        arriving = self._arriving
        if arriving is None:
            if self._refusal is None:
                self._data += fragment
                if len(self._data) > _REQUEST_BYTES_MAX:
                    raise ProtocolBroken(f"a data set of over {_REQUEST_BYTES_MAX} bytes")
            return
        try:
            arriving.write(fragment)
        except InstanceRefused as error:
            self._refuse_arriving(error)
        else:
            self._watch_arriving(arriving)

    def _watch_arriving(self, arriving: Arriving) -> None:
        if arriving.data_bytes > self._doorway.settings.instance_bytes_max:
            self._refuse_arriving(StoreFull("it is larger than receive.instance_bytes_max"))
        elif arriving.must_wait:
            self._line.hold(True)

    def _end_message(self) -> None:
        command, self._request = self._request, None
        if command is None:
            return
        if command.field == CommandField.C_STORE:
            self._end_store(command)
        elif command.field == CommandField.C_ECHO:
            self._answer(response(command, Status.SUCCESS))
        elif command.field & RESPONSE:
            self._take_response(command)
        else:
            self._serve(command, bytes(self._data))
        self._data.clear()

    def _answer(self, encoded: bytes, context_id: int | None = None) -> None:
        """Send a response without a data set, in PDUs that the peer takes (PS3.8 D.1)."""
        context_id = self._context_id if context_id is None else context_id
        if not self._maximum_length or len(encoded) + PDV_HEADER.size <= self._maximum_length:
            self._line.send(command_pdu(context_id, encoded))
            return
        for pdu in message_pdus(context_id, encoded, b"", self._maximum_length):
            self._line.send(pdu)

    # ------------------------------------------------------------ C-STORE

    def _begin_store(self, command: Command) -> None:
        context = self._contexts[self._context_id]
        sop_class_uid = command.text(Element.AFFECTED_SOP_CLASS_UID)
        sop_instance_uid = command.text(Element.AFFECTED_SOP_INSTANCE_UID)
        self._refusal = None
        try:
            check_command(Identity(sop_class_uid, sop_instance_uid, "", ""))
            if sop_class_uid != context.abstract_syntax or not context.is_storage:
                raise InstanceRefused(
                    "the command's SOP Class UID is not that of its presentation context",
                    status=Status.DATA_SET_DOES_NOT_MATCH,
                )
            if not command.has_data_set:
                raise InstanceRefused(
                    "the command announces no data set", status=Status.CANNOT_UNDERSTAND
                )
            self._doorway.require_room()
        except (InstanceRefused, StoreFull) as error:
            self._refusal = error
            return
        self._arriving = Arriving(
            self._doorway.pool,
            self._doorway.large_files,
            self._reader,
            file_meta_of(sop_class_uid, sop_instance_uid, context.transfer_syntax, self._calling),
            context.transfer_syntax,
            self._block_written,
        )

    def _block_written(self, arriving: Arriving, block: memoryview) -> None:
        """Called on the writer's thread."""

        def take_back() -> None:
            self._doorway.pool.give(block)
            arriving.blocks_under_way -= 1
            self._go_on_reading()

        self._doorway.call_soon(take_back)

    def _go_on_reading(self) -> None:
        waits = self._arriving is not None and self._arriving.must_wait
        if not waits and self.unanswered < _UNANSWERED_MAX:
            self._line.hold(False)

    def _refuse_arriving(self, error: InstanceRefused | StoreFull) -> None:
        if self._arriving is not None:
            self._arriving.drop()
            self._arriving = None
        self._refusal = error

    def _end_store(self, command: Command) -> None:
        arriving, self._arriving = self._arriving, None
        refusal, self._refusal = self._refusal, None
        if arriving is None or refusal is not None:
            self._answer_refused(command, self._context_id, refusal)
            return
        try:
            identity, digest = arriving.end()
            named = Identity(
                command.text(Element.AFFECTED_SOP_CLASS_UID),
                command.text(Element.AFFECTED_SOP_INSTANCE_UID),
                "",
                "",
            )
            check_identity(named, identity)
            self._doorway.refuse_conflict(identity, digest.hex())
        except (InstanceRefused, StoreFull) as error:
            arriving.drop()
            self._answer_refused(command, self._context_id, error)
            return
        self._record_opening()
        texts = InstanceTexts(
            identity.sop_instance_uid,
            identity.sop_class_uid,
            identity.study_instance_uid,
            identity.series_instance_uid,
            self._contexts[self._context_id].transfer_syntax,
            self._id,
            self._calling,
            self._doorway.clock(),
        )
        self.unanswered += 1
        if self.unanswered >= _UNANSWERED_MAX:
            self._line.hold(True)
        stored = _Stored(self, command, self._context_id, arriving)
        if arriving.large is None:
            self._doorway.append(
                Entry(
                    RecordKind.INSTANCE,
                    texts.texts(),
                    arriving.record(),
                    arriving.data_offset,
                    arriving.data_bytes,
                    digest,
                    stored.done,
                )
            )
        else:
            self._finish_file(stored, texts, digest.hex())

    def _finish_file(self, stored: _Stored, texts: InstanceTexts, digest: str) -> None:
        arriving = stored.arriving
        file = arriving.large
        if file is None:
            return
        folder = study_folder("instances", texts.study_instance_uid)
        path = part10_path(folder, texts.series_instance_uid, texts.sop_instance_uid, digest)
        with_file = texts.texts_with_file(path, arriving.file_bytes, digest)

        def recorded() -> None:
            if file.error is not None:
                stored.failed(file.error)
            else:
                self._doorway.append(Entry(RecordKind.INSTANCE_FILE, with_file, owner=stored.done))

        self._doorway.large_files.finish(file, path, lambda: self._doorway.call_soon(recorded))

    def answer_stored(self, command: Command, context_id: int, status: int) -> None:
        """Answer a C-STORE whose fate is known; the peer may be gone by now."""
        self.unanswered -= 1
        if self._is_open:
            self._doorway.checkpoint("receive.answering")
            self._answer(store_response(command, status), context_id)
            self._go_on_reading()
            self._release_if_answered()

    def _answer_refused(
        self, command: Command, context_id: int, error: InstanceRefused | StoreFull | None
    ) -> None:
        status = error.status if isinstance(error, InstanceRefused) else Status.OUT_OF_RESOURCES
        message = "it could not be kept" if error is None else error.message
        sop_instance_uid = command.text(Element.AFFECTED_SOP_INSTANCE_UID)
        self.note_refused(sop_instance_uid, status, message)
        comment: dict[int, bytes] = {Element.ERROR_COMMENT: lo(message)}
        self._answer(response(command, status, fields=comment), context_id)

    def note_refused(self, sop_instance_uid: str, status: int, message: str) -> None:
        log.warning(
            "instance_refused",
            association_id=self._id,
            sop_instance_uid=_shown(sop_instance_uid),
            status=f"0x{status:04X}",
            reason=message,
        )
        subject = _shown(sop_instance_uid)
        row = NotedEvent(self._doorway.clock(), "instance", subject, "REFUSED", message)
        self._append(RecordKind.EVENT, event_texts(row))

    def _record_opening(self) -> None:
        """Say in the log that the association is there, before the first thing that it carries."""
        if not self._is_recorded:
            self._is_recorded = True
            now = self._doorway.clock()
            row = AssociationOpened(self._id, self._calling, self._called, self._line.address, now)
            self._append(RecordKind.ASSOCIATION_OPENED, opened_texts(row))

    def _append(self, kind: RecordKind, texts: tuple[str, ...]) -> None:
        self._doorway.append(Entry(kind, texts))

    # ------------------------------------------------------------ services

    def _serve(self, command: Command, data_set: bytes) -> None:
        context = self._contexts[self._context_id]
        service = self._doorway.services.get(context.abstract_syntax)
        if service is None:
            status = DimseStatus.UNRECOGNIZED_OPERATION
            if context.is_storage:
                status = DimseStatus.SOP_CLASS_NOT_SUPPORTED
            self._answer(response(command, status))
            return
        context_id, message_id = self._context_id, command.message_id
        self._cancelled.discard(message_id)
        self._record_opening()
        self.unanswered += 1
        request = ServiceRequest(
            self._id,
            self._calling,
            context.abstract_syntax,
            context.transfer_syntax,
            command,
            data_set,
            lambda: not self._is_open or self._is_releasing or message_id in self._cancelled,
        )
        self._doorway.serve(
            service,
            request,
            lambda reply: self._reply(command, context_id, reply),
            self._served,
        )

    def _reply(self, command: Command, context_id: int, reply: ServiceReply | EventReport) -> None:
        if not self._is_open:
            if isinstance(reply, EventReport):
                reply.answered(None)
            return
        if isinstance(reply, EventReport):
            if self._is_releasing:  # the requestor waits for our release: it answers no more
                reply.answered(None)
            else:
                self._report(context_id, reply)
            return
        encoded = response(
            command, reply.status, has_data_set=bool(reply.data_set), fields=reply.fields
        )
        for pdu in message_pdus(context_id, encoded, reply.data_set, self._maximum_length):
            self._line.send(pdu)

    def _served(self) -> None:
        self.unanswered -= 1
        self._go_on_reading()
        self._release_if_answered()

    def _report(self, context_id: int, report: EventReport) -> None:
        """Send an N-EVENT-REPORT-RQ (PS3.7 10.1.1) on this association."""
        self._message_id = self._message_id % 0xFFFF + 1
        self._reports[self._message_id] = report.answered
        encoded = encode(
            {
                Element.AFFECTED_SOP_CLASS_UID: ui(report.sop_class_uid),
                Element.COMMAND_FIELD: us(CommandField.N_EVENT_REPORT),
                Element.MESSAGE_ID: us(self._message_id),
                Element.COMMAND_DATA_SET_TYPE: us(0x0001),
                Element.AFFECTED_SOP_INSTANCE_UID: ui(report.sop_instance_uid),
                Element.EVENT_TYPE_ID: us(report.event_type_id),
            }
        )
        for pdu in message_pdus(context_id, encoded, report.data_set, self._maximum_length):
            self._line.send(pdu)

    def _take_response(self, command: Command) -> None:
        message_id = command.number(Element.MESSAGE_ID_BEING_RESPONDED_TO)
        answered = self._reports.pop(message_id, None)
        if answered is not None:
            answered(command.number(Element.STATUS))


class _Stored:
    """An instance that waits for the disk."""

    __slots__ = ("_association", "_command", "_context_id", "arriving")

    def __init__(
        self, association: Association, command: Command, context_id: int, arriving: Arriving
    ) -> None:
        self._association = association
        self._command = command
        self._context_id = context_id
        self.arriving = arriving

    def done(self, entry: Entry) -> None:
        """Take what the log says, on the loop's thread."""
        self.arriving.free()
        if entry.error is not None:
            self.failed(entry.error)
        else:
            self._association.answer_stored(self._command, self._context_id, Status.SUCCESS)

    def failed(self, error: Exception) -> None:
        """Have the sender keep its copy."""
        message = "the disk is full or broken"
        uid = self._command.text(Element.AFFECTED_SOP_INSTANCE_UID)
        self._association.note_refused(uid, Status.OUT_OF_RESOURCES, message)
        log.error("instance_not_kept", error=type(error).__name__)
        self._association.answer_stored(self._command, self._context_id, Status.OUT_OF_RESOURCES)


def _shown(uid: str) -> str:
    """Return a UID that a stranger wrote as it may stand in a log or the ledger."""
    return "".join(c if 32 <= ord(c) < 127 else "?" for c in uid[:64]) or "(none)"
