"""The services of one association beside C-STORE and C-ECHO: requests to threads, replies back.

Everything here runs on the loop's thread; `Doorway.serve` runs the service on another.
"""

from __future__ import annotations

from collections.abc import Callable

from dicom_node.protocol.command import (
    Command,
    CommandField,
    Element,
    encode,
    response,
    ui,
    us,
)
from dicom_node.receive.contexts import AcceptedContext
from dicom_node.receive.doorway import Doorway
from dicom_node.receive.owner import Owner
from dicom_node.receive.service import DimseStatus, EventReport, ServiceReply, ServiceRequest


class Serving:
    """Has requests answered, and sends reports of our own."""

    def __init__(self, doorway: Doorway, owner: Owner) -> None:
        self._doorway = doorway
        self._owner = owner
        self._message_id = 0
        self._reports: dict[int, Callable[[int | None], None]] = {}
        self._cancelled: set[int] = set()

    def serve(
        self, command: Command, data_set: bytes, context_id: int, context: AcceptedContext
    ) -> None:
        """Take a request, whole."""
        service = self._doorway.services.get(context.abstract_syntax)
        if service is None:
            status = DimseStatus.UNRECOGNIZED_OPERATION
            if context.is_storage:
                status = DimseStatus.SOP_CLASS_NOT_SUPPORTED
            self._owner.answer(response(command, status), context_id)
            return
        message_id = command.message_id
        self._cancelled.discard(message_id)
        self._owner.record_opening()
        self._owner.owes_an_answer()
        request = ServiceRequest(
            self._owner.association_id,
            self._owner.calling_ae_title,
            context.abstract_syntax,
            context.transfer_syntax,
            command,
            data_set,
            lambda: (
                not self._owner.is_open or self._owner.is_releasing or message_id in self._cancelled
            ),
        )
        self._doorway.serve(
            service,
            request,
            lambda reply: self._reply(command, context_id, reply),
            self._owner.has_answered,
        )

    def cancel(self, command: Command) -> None:
        """Take a C-CANCEL-RQ (PS3.7 9.3.2.3)."""
        self._cancelled.add(command.number(Element.MESSAGE_ID_BEING_RESPONDED_TO))

    def take_response(self, command: Command) -> None:
        """Take the answer to a report of ours."""
        message_id = command.number(Element.MESSAGE_ID_BEING_RESPONDED_TO)
        answered = self._reports.pop(message_id, None)
        if answered is not None:
            answered(command.number(Element.STATUS))

    def end(self) -> None:
        """No answer comes any more."""
        for answered in self._reports.values():
            answered(None)
        self._reports.clear()

    def _reply(self, command: Command, context_id: int, reply: ServiceReply | EventReport) -> None:
        if isinstance(reply, EventReport):
            if self._owner.is_open and not self._owner.is_releasing:
                self._report(context_id, reply)
            else:  # a requestor that waits for our release answers no more
                reply.answered(None)
        elif self._owner.is_open:
            encoded = response(
                command, reply.status, has_data_set=bool(reply.data_set), fields=reply.fields
            )
            self._owner.send_message(context_id, encoded, reply.data_set)

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
        self._owner.send_message(context_id, encoded, report.data_set)
