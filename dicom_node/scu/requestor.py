"""One association as its requestor, that loses no answer.

pynetdicom's `send_c_store` waits for its answer on a queue that the association's own loop reads
too, and now and then loses the race: an instance that was stored gets an empty status and the
association is aborted. Here nobody but the caller reads, and an answer counts by its message ID.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from types import TracebackType
from typing import NamedTuple, Self

from pydicom.uid import UID
from pynetdicom.dimse_primitives import (
    C_CANCEL,
    N_EVENT_REPORT,
    DimsePrimitiveType,
    DimseServiceType,
)

from dicom_node.errors import PeerUnreachable, ProtocolBroken
from dicom_node.protocol.command import (
    NO_DATA_SET,
    CommandField,
    Element,
    ui,
    us,
)
from dicom_node.protocol.pdu import Rejection
from dicom_node.scu.association import Association, Ended
from dicom_node.scu.connection import Connection
from dicom_node.scu.content import Content
from dicom_node.scu.exchange import LOOK_EVERY_S as LOOK_EVERY_S
from dicom_node.scu.exchange import Exchange
from dicom_node.scu.negotiation import VERIFICATION, accepted_of, proposed, rejected, request_of
from dicom_node.scu.part10 import Part10File
from dicom_node.scu.primitives import from_message, to_bytes
from dicom_node.scu.tls import ClientTls, TlsFailed

_HAS_DATA_SET = 0x0001


class Arrived(NamedTuple):
    """A message of the peer: an answer, or a request of its own."""

    message: DimseServiceType
    context_id: int


class Requestor:
    """One association as its requestor: C-STORE, C-ECHO and N-EVENT-REPORT, one at a time.

    Operations with more than one answer are made of `send`, `receive`, `reply` and `cancel`;
    `Operation` does it. For one thread.

    Leaving the `with` block releases the association, or aborts it if an exception passes.

    Parameters
    ----------
    contexts : sequence of (SOP Class UID, Transfer Syntax UID)
        What is proposed, each pair in a presentation context of its own; repeats are harmless, and
        `negotiation.CONTEXTS_MAX` different ones fit.
    scp_of : sequence of str
        The SOP Classes among them whose SCP we are, by SCP/SCU Role Selection (PS3.7 D.3.3.4).
    tls : ClientTls, optional
        How the peer is spoken to by TLS.

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
        tls: ClientTls | None = None,
    ) -> None:
        offered = proposed(contexts)
        request = request_of(offered, calling, called, scp_of)
        who = f"{called} at {host} port {port}"
        try:
            connection = Connection(host, port, timeout_s, tls)
            self._association = Association(connection, timeout_s)
            answer = self._association.negotiate(request)
        except TlsFailed as error:
            raise PeerUnreachable(f"{who} {error.what}", hint=error.hint) from error
        except Ended as error:
            raise PeerUnreachable(
                f"{who} {self._association.ending}", hint="look into its log"
            ) from error
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that cannot be a name
            raise PeerUnreachable(
                f"{who} cannot be reached", hint="check its host, its port and the network"
            ) from error
        if isinstance(answer, Rejection):
            raise rejected(answer, who, calling, called)
        self._exchange = Exchange(self._association, timeout_s)
        self._roles = answer.roles
        self._context_ids = accepted_of(offered, answer)
        if not self._context_ids:
            self._association.release()
            raise PeerUnreachable(
                f"{who} accepts nothing that was proposed",
                hint="have it accept the SOP Classes that are sent to it",
            )

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

    @property
    def can_map(self) -> bool:
        """Whether data sets are sent from mapped files."""
        return self._association.can_map

    @property
    def heard_at(self) -> float:
        """When the peer last sent anything, be it a part of a message (monotonic clock)."""
        return self._association.heard_at

    @property
    def ending(self) -> str:
        """What ended the association, to follow the name of the peer; empty while it is there."""
        return self._association.ending

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
            What is sent instead of the file's own.
        move_originator : (str, int), optional
            AE title and message ID of the C-MOVE that this is a sub-operation of.

        Raises
        ------
        StorageError
            If the file cannot be read; the association ends by that if some of it was sent.
        """
        if file.context is None or file.context not in self._context_ids:
            return None
        content = Content.of(file.data_set_part() if data_set is None else data_set)
        return self.store_content(
            file.context, file.sop_instance_uid, content, move_originator=move_originator
        )

    def store_content(
        self,
        context: tuple[str, str],
        sop_instance_uid: str,
        content: Content,
        *,
        move_originator: tuple[str, int] | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> int | None:
        """Send one instance by a presentation context that was accepted; as `store`.

        Parameters
        ----------
        meanwhile : callable, optional
            Is called while the peer is busy with the instance, to have the next one at hand; not in
            a sub-operation of a C-MOVE.
        """
        context_id, sop_class, sop_instance = (
            self._context_ids[context],
            ui(context[0]),
            ui(sop_instance_uid),
        )
        if move_originator is None:
            more = () if meanwhile is None else (meanwhile,)
            return self._exchange.store(context_id, sop_class, sop_instance, content, *more)
        ae_title = move_originator[0].encode("ascii", "replace")
        elements: dict[int, bytes] = {
            Element.AFFECTED_SOP_CLASS_UID: sop_class,
            Element.COMMAND_FIELD: us(CommandField.C_STORE),
            Element.PRIORITY: us(0),
            Element.COMMAND_DATA_SET_TYPE: us(_HAS_DATA_SET),
            Element.AFFECTED_SOP_INSTANCE_UID: sop_instance,
            Element.MOVE_ORIGINATOR_AE_TITLE: ae_title + b" " * (len(ae_title) % 2),
            Element.MOVE_ORIGINATOR_MESSAGE_ID: us(move_originator[1]),
        }
        return self._exchange.ask(context_id, elements, content)

    def echo(self) -> int | None:
        """Send a C-ECHO; return the status of the answer, None if there is none."""
        ids = [number for (uid, _), number in self._context_ids.items() if uid == VERIFICATION]
        if not ids:
            return None
        elements: dict[int, bytes] = {
            Element.AFFECTED_SOP_CLASS_UID: ui(VERIFICATION),
            Element.COMMAND_FIELD: us(CommandField.C_ECHO),
            Element.COMMAND_DATA_SET_TYPE: us(NO_DATA_SET),
        }
        return self._exchange.ask(ids[0], elements)

    def refuses_as_scp(self, sop_class_uid: str) -> bool:
        """Return whether the peer denied us the SCP role; many say nothing, and play along."""
        role = self._roles.get(sop_class_uid)
        return role is not None and not role[1]

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
        message_id = self.send(request, context_id)
        return self._exchange.status_of(message_id, CommandField.N_EVENT_REPORT)

    def send(self, request: DimseServiceType, context_id: int) -> int:
        """Send a request under a new message ID, and return that."""
        request.MessageID = self._exchange.next_message_id()
        self._send(request, context_id)
        return request.MessageID

    def receive(self, timeout_s: float) -> Arrived | None:
        """Return what the peer sent next; None if nothing came in time, or nothing will.

        What arrived before the connection closed is still returned, and `is_alive` says no then.
        """
        requests = self._exchange.requests
        message = requests.popleft() if requests else self._association.receive(timeout_s)
        if message is None:
            return None
        try:
            return Arrived(from_message(message), message.context_id)
        except ProtocolBroken as error:
            self._association.fail(f"broke the protocol: {error.message}")
            return None

    def reply(self, response: DimseServiceType, context_id: int) -> None:
        """Send the response to a request of the peer."""
        self._send(response, context_id)

    def cancel(self, message_id: int, context_id: int) -> None:
        """Send C-CANCEL for a request that is under way (PS3.7 9.3.2.3)."""
        request = C_CANCEL()
        request.MessageIDBeingRespondedTo = message_id
        self._send(request, context_id)

    def is_alive(self) -> bool:
        """Whether the association is still there."""
        return self._association.is_established

    def abort(self) -> None:
        """Send A-ABORT and close the connection."""
        self._association.abort()

    def interrupt(self) -> None:
        """End what is under way; the one call that another thread may make."""
        self._association.interrupt()

    def release(self) -> None:
        """Release the association and close the connection."""
        self._association.release()

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

    def _send(self, primitive: DimsePrimitiveType, context_id: int) -> None:
        """Send a message; if the association ends by that, `is_alive` says so."""
        command, data_set = to_bytes(primitive)
        views = [memoryview(data_set)] if data_set else []
        try:
            self._association.send(context_id, command, views, len(data_set))
        except Ended:
            return
