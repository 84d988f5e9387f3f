"""One association as its requestor, that loses no answer.

pynetdicom's `send_c_store` waits for its answer on a queue that the association's own loop reads
too, and now and then loses the race: an instance that was stored gets an empty status and the
association is aborted. Here the loop alone reads, and hands every answer over by message ID.
"""

from __future__ import annotations

import queue
import socket
import time
from collections.abc import Mapping, Sequence
from io import BytesIO
from types import TracebackType
from typing import Any, NamedTuple, Self

from pydicom.uid import UID
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import (
    C_CANCEL,
    C_ECHO,
    C_STORE,
    N_EVENT_REPORT,
    DimseServiceType,
)
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import AssociationSocket

from dicom_node.errors import PeerUnreachable
from dicom_node.scu.part10 import Part10File

LOOK_EVERY_S = 0.5
"""So long one look at what has arrived may take, before the next question is asked."""


class Arrived(NamedTuple):
    """A message of the peer: an answer, or a request of its own."""

    message: DimseServiceType
    context_id: int


class Requestor:
    """One association as its requestor: C-STORE, C-ECHO and N-EVENT-REPORT, one at a time.

    Operations with more than one answer are made of `send`, `receive`, `reply` and `cancel`;
    `Operation` does it.

    Leaving the `with` block releases the association, or aborts it if an exception passes.

    Parameters
    ----------
    contexts : sequence of (SOP Class UID, Transfer Syntax UID)
        What is proposed, each pair in a presentation context of its own; repeats are harmless.
    scp_of : sequence of str
        The SOP Classes among them whose SCP we are, by SCP/SCU Role Selection (PS3.7 D.3.3.4).

    Raises
    ------
    PeerUnreachable
        If there is no association: refused, rejected or not answered.
    """

    def __init__(
        self,
        host: str,
        port: int,
        contexts: Sequence[tuple[str, str]] = (),
        *,
        scp_of: Sequence[str] = (),
        calling: str = "SCANNER",
        called: str = "ANY-SCP",
        timeout_s: float = 30.0,
    ) -> None:
        self._timeout_s = timeout_s
        self._arrived: queue.Queue[Arrived | None] = queue.Queue()
        self._message_id = 0
        ae = _RequestorAE(calling)
        ae.acse_timeout = ae.dimse_timeout = ae.connection_timeout = timeout_s
        ae.network_timeout = None  # it would count the time of a long upload as silence
        proposed = [build_context(*pair) for pair in dict.fromkeys(contexts)]
        self._association = ae.associate(
            host,
            port,
            contexts=[build_context(Verification), *proposed],
            ae_title=called,
            max_pdu=131072,
            ext_neg=[build_role(uid, scp_role=True) for uid in scp_of],
            evt_handlers=[
                (evt.EVT_CONN_OPEN, send_at_once),
                (evt.EVT_CONN_CLOSE, lambda event: self._arrived.put(None)),
            ],
        )
        if not self._association.is_established:
            ae.close_socket()
            raise _no_association(self._association, called, f"{host} port {port}", calling)
        # The association's loop is the only reader of its queue, so no answer can be lost to it.
        self._association._serve_request = self._take  # type: ignore[method-assign,assignment]
        self._context_ids = {
            (str(context.abstract_syntax), str(context.transfer_syntax[0])): context.context_id
            for context in self._association.accepted_contexts
            if context.context_id is not None
        }

    def accepts(self, file: Part10File) -> bool:
        """Return whether the peer accepted the presentation context that this file needs."""
        return file.context in self._context_ids

    def accepts_context(self, context: tuple[str, str]) -> bool:
        """Return whether the peer accepted a SOP Class UID in a Transfer Syntax UID."""
        return context in self._context_ids

    @property
    def accepted(self) -> Mapping[tuple[str, str], int]:
        """The presentation context ID of each SOP Class UID and Transfer Syntax UID accepted."""
        return self._context_ids

    def store(
        self,
        file: Part10File,
        data_set: bytes | None = None,
        *,
        move_originator: tuple[str, int] | None = None,
    ) -> int | None:
        """Send one file; return the status of the answer, None if there is none.

        Parameters
        ----------
        data_set : bytes, optional
            Its bytes, for those who have read them already.
        move_originator : (str, int), optional
            AE title and message ID of the C-MOVE that this is a sub-operation of.
        """
        context_id = self._context_ids.get(file.context) if file.context else None
        if file.context is None or context_id is None:
            return None
        request = C_STORE()
        request.AffectedSOPClassUID = UID(file.context[0])
        request.AffectedSOPInstanceUID = UID(file.sop_instance_uid)
        request.Priority = 0
        request.DataSet = BytesIO(file.data_set() if data_set is None else data_set)
        if move_originator is not None:
            request.MoveOriginatorApplicationEntityTitle = move_originator[0]
            request.MoveOriginatorMessageID = move_originator[1]
        return self._exchange(request, context_id)

    def echo(self) -> int | None:
        """Send a C-ECHO; return the status of the answer, None if there is none."""
        request = C_ECHO()
        request.AffectedSOPClassUID = Verification
        ids = [number for (uid, _), number in self._context_ids.items() if uid == Verification]
        return self._exchange(request, ids[0]) if ids else None

    def refuses_as_scp(self, sop_class_uid: str) -> bool:
        """Return whether the peer denied us the SCP role; many say nothing, and play along."""
        role = self._association.acceptor.role_selection.get(UID(sop_class_uid))
        return role is not None and not role.scp_role

    def report_event(
        self,
        context: tuple[str, str],
        sop_instance_uid: str,
        event_type_id: int,
        event_information: bytes,
    ) -> int | None:
        """Send an N-EVENT-REPORT; return the status of the answer, None if there is none.

        Parameters
        ----------
        context : (SOP Class UID, Transfer Syntax UID)
            The SOP Class of the event, and how its information is encoded.
        """
        context_id = self._context_ids.get(context)
        if context_id is None:
            return None
        request = N_EVENT_REPORT()
        request.AffectedSOPClassUID = UID(context[0])
        request.AffectedSOPInstanceUID = UID(sop_instance_uid)
        request.EventTypeID = event_type_id
        request.EventInformation = BytesIO(event_information)
        return self._exchange(request, context_id)

    def send(self, request: DimseServiceType, context_id: int) -> int:
        """Send a request under a new message ID, and return that."""
        self._message_id = self._message_id % 65535 + 1
        request.MessageID = self._message_id
        self._association.dimse.send_msg(request, context_id)
        return self._message_id

    def receive(self, timeout_s: float) -> Arrived | None:
        """Return what the peer sent next; None if nothing came in time, or nothing will.

        What arrived before the connection closed is still returned, and `is_alive` says no then.
        """
        try:
            arrived = self._arrived.get(timeout=timeout_s)
            if arrived is None:
                # The connection closed; what came before it may still be on its way to us.
                self._association.join(self._timeout_s)
                self._take_the_rest()
                self._arrived.put(None)
                arrived = self._arrived.get_nowait()
        except queue.Empty:
            return None
        return arrived

    def reply(self, response: DimseServiceType, context_id: int) -> None:
        """Send the response to a request of the peer."""
        self._association.dimse.send_msg(response, context_id)

    def cancel(self, message_id: int, context_id: int) -> None:
        """Send C-CANCEL for a request that is under way (PS3.7 9.3.2.3)."""
        request = C_CANCEL()
        request.MessageIDBeingRespondedTo = message_id
        self._association.dimse.send_msg(request, context_id)

    def is_alive(self) -> bool:
        """Whether the association is still there."""
        return bool(self._association.is_established)

    def abort(self) -> None:
        """Send A-ABORT and wait until the connection is closed."""
        self._association.abort()
        self._association.join(self._timeout_s)

    def release(self) -> None:
        """Release the association and wait until the connection is closed."""
        self._association.release()
        self._association.join(self._timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.abort()
        else:
            self.release()

    def _take(self, message: DimseServiceType, context_id: int) -> None:
        self._arrived.put(Arrived(message, context_id))

    def _take_the_rest(self) -> None:
        """Take what the association's loop left in its queue when it ended."""
        while True:
            context_id, message = self._association.dimse.get_msg(block=False)
            if message is None or context_id is None:
                return
            self._take(message, context_id)

    def _exchange(self, request: DimseServiceType, context_id: int) -> int | None:
        if not self.is_alive():
            return None
        message_id = self.send(request, context_id)
        unsent = self._association.dul.to_provider_queue
        waiting = unsent.qsize()
        deadline = time.monotonic() + self._timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            arrived = self.receive(min(left_s, LOOK_EVERY_S))
            if arrived is None:
                # what is still on its way out, over a slow line, is no silence of the peer
                if not self.is_alive():
                    break
                if unsent.qsize() < waiting:
                    waiting = unsent.qsize()
                    deadline = time.monotonic() + self._timeout_s
            elif arrived.message.MessageIDBeingRespondedTo == message_id:
                return arrived.message.Status
        self.abort()
        return None


def _no_association(
    association: Association, called: str, where: str, calling: str
) -> PeerUnreachable:
    if association.is_rejected:
        return PeerUnreachable(
            f"{called} at {where} rejected the association",
            hint=f"have it admit the calling AE title {calling}, and be called {called}",
        )
    if association.acceptor.primitive is not None:
        return PeerUnreachable(
            f"{called} at {where} accepts nothing that was proposed",
            hint="have it accept the SOP Classes that are sent to it",
        )
    return PeerUnreachable(
        f"{called} at {where} cannot be reached", hint="check its host, its port and the network"
    )


def send_at_once(event: evt.Event) -> None:
    """Set TCP_NODELAY: pynetdicom does not, and Nagle then costs 40 ms a message."""
    transport = event.assoc.dul.socket
    if transport is not None and transport.socket is not None:
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class _RequestorAE(AE):
    """Closes the socket of a failed connection, which pynetdicom leaves to garbage collection."""

    def _create_socket(self, *args: Any, **kwargs: Any) -> AssociationSocket:
        transport = super()._create_socket(*args, **kwargs)
        self._socket = transport.socket
        return transport

    def close_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
