"""Requests with one answer each, on one association: an answer counts by its message ID."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

from dicom_node.protocol.command import (
    RESPONSE,
    CommandField,
    Element,
    encode,
    store_request,
    us,
)
from dicom_node.scu.association import Association, Ended
from dicom_node.scu.content import Content
from dicom_node.scu.messages import Message

LOOK_EVERY_S = 0.5
"""So long one look at what has arrived may take, before the next question is asked."""


def _nothing() -> None:
    """Do nothing while the peer is busy."""


class Exchange:
    """Numbers requests and waits for their answers.

    Parameters
    ----------
    association : Association
    timeout_s : float
        How long the peer may take for an answer.
    """

    def __init__(self, association: Association, timeout_s: float) -> None:
        self._association = association
        self._timeout_s = timeout_s
        self._message_id = 0
        self._requests = 0
        self.requests: deque[Message] = deque()
        """What the peer requested of us meanwhile."""

    def ask(
        self,
        context_id: int,
        elements: Mapping[int, bytes],
        content: Content | None = None,
    ) -> int | None:
        """Send a request; return the status of its answer."""
        message_id = self.next_message_id()
        command = encode({**elements, Element.MESSAGE_ID: us(message_id)})
        field = int.from_bytes(elements[Element.COMMAND_FIELD], "little")
        return self._status_after(context_id, message_id, command, field, content)

    def store(
        self,
        context_id: int,
        sop_class: bytes,
        sop_instance: bytes,
        content: Content,
        meanwhile: Callable[[], None] = _nothing,
    ) -> int | None:
        """Send a C-STORE-RQ; return the status of its answer.

        Parameters
        ----------
        sop_class, sop_instance : bytes
            UI values.
        meanwhile : callable
            Is called when all of the request is out, while the peer is busy with it.
        """
        message_id = self.next_message_id()
        command = store_request(sop_class, sop_instance, message_id)
        return self._status_after(
            context_id, message_id, command, CommandField.C_STORE, content, meanwhile
        )

    def _status_after(
        self,
        context_id: int,
        message_id: int,
        command: bytes,
        field: int,
        content: Content | None,
        meanwhile: Callable[[], None] = _nothing,
    ) -> int | None:
        try:
            if content is None:
                self._association.send(context_id, command)
            else:
                with content.opened(mapped=self._association.can_map) as views:
                    self._association.send(context_id, command, views, content.size_bytes)
        except Ended:
            return None
        meanwhile()
        return self.status_of(message_id, field)

    def status_of(self, message_id: int, field: int) -> int | None:
        """Wait for the answer to a message.

        The peer's time begins when it has everything: what is still on its way out, over a slow
        line, is no silence of its own.
        """
        unsent: int | None = None
        deadline = time.monotonic() + self._timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            message = self._association.receive(min(left_s, LOOK_EVERY_S))
            if message is None:
                if not self._association.is_established:
                    return None
                left = self._association.unsent_bytes()
                if unsent is not None and left < unsent:
                    deadline = time.monotonic() + self._timeout_s
                unsent = left
                continue
            if not message.command.field & RESPONSE:
                self.requests.append(message)  # a request of the peer, for `receive`
            elif self._answers(message, message_id):
                return self._status_in(message, field)
            elif not self._association.is_established:
                return None
        self._association.fail(f"gave no answer within {self._timeout_s:g} s")
        return None

    def _answers(self, message: Message, message_id: int) -> bool:
        """Return whether this is the answer; a second one to an earlier request is passed over."""
        answered = message.command.number(Element.MESSAGE_ID_BEING_RESPONDED_TO)
        if answered == message_id:
            return True
        if not 0 < answered <= min(self._requests, 0xFFFF):
            self._association.fail(f"answered message {answered}, which was never sent")
        return False

    def _status_in(self, message: Message, field: int) -> int | None:
        command = message.command
        if command.field != field | RESPONSE or len(command.get(Element.STATUS, b"")) != 2:
            self._association.fail("answered with something that is no answer to the request")
            return None
        return command.number(Element.STATUS)

    def next_message_id(self) -> int:
        self._message_id = self._message_id % 65535 + 1
        self._requests += 1
        return self._message_id
