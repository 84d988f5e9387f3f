"""One C-FIND, C-MOVE or C-GET: its request, each of its answers, and its end.

The peer may be silent for as long as its address says, counted from the last thing that it sent:
an answer, a request of its own, which is how a C-GET gets its instances, or a part of one. What the
caller does between two answers is not its silence. After a C-CANCEL the peer has that long once to
come to an end, whatever it sends in the meantime.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dimse_primitives import C_FIND, C_GET, C_MOVE

from dicom_node.data_sets import encode
from dicom_node.scu.address import Address
from dicom_node.scu.requestor import LOOK_EVERY_S, Arrived, Requestor

EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"

SUCCESS = 0x0000
CANCELLED = 0xFE00
PENDING = frozenset({0xFF00, 0xFF01})
"""0xFF01: the peer neither matches nor returns some of the keys (PS3.4 C.4.1.1.4)."""

_NAMES = {C_FIND: "C-FIND", C_MOVE: "C-MOVE", C_GET: "C-GET"}


def never() -> bool:
    """Return False: the operation that nobody cancels."""
    return False


def contexts_of(sop_class_uid: str) -> list[tuple[str, str]]:
    """Return what is to be proposed for a service whose data sets are identifiers."""
    return [
        (sop_class_uid, EXPLICIT_VR_LITTLE_ENDIAN),
        (sop_class_uid, IMPLICIT_VR_LITTLE_ENDIAN),
    ]


@dataclass(frozen=True)
class Answer:
    """One response; counts of sub-operations are None where it has none."""

    status: int
    identifier: bytes | None
    completed: int | None = None
    failed: int | None = None
    warnings: int | None = None
    remaining: int | None = None

    @property
    def is_pending(self) -> bool:
        return self.status in PENDING


class Operation:
    """A request and what follows from it.

    Parameters
    ----------
    requestor : Requestor
        The association; `contexts_of(sop_class_uid)` were proposed on it.
    address : Address
        Of its peer, for the errors, and for how long it may be silent.
    request : C_FIND, C_MOVE or C_GET
        Without identifier.
    identifier : Dataset
        What is asked for.
    cancelled : callable
        Asked between two messages, and twice a second while there are none.
    on_request : callable, optional
        Takes and answers what the peer requests of us meanwhile.

    Raises
    ------
    PeerRefused
        If the peer accepted neither presentation context.
    """

    def __init__(
        self,
        requestor: Requestor,
        address: Address,
        request: C_FIND | C_GET | C_MOVE,
        sop_class_uid: str,
        identifier: Dataset,
        *,
        cancelled: Callable[[], bool] = never,
        on_request: Callable[[Arrived], None] | None = None,
    ) -> None:
        offered = [one for one in contexts_of(sop_class_uid) if requestor.accepts_context(one)]
        if not offered:
            raise address.unsupported(UID(sop_class_uid).name)
        self.name = _NAMES[type(request)]
        self.transfer_syntax_uid = offered[0][1]
        self.is_cancelled = False
        self._requestor = requestor
        self._address = address
        self._context_id = requestor.accepted[offered[0]]
        self._is_wanted_no_more = cancelled
        self._on_request = on_request
        request.AffectedSOPClassUID = UID(sop_class_uid)
        request.Priority = 0
        request.Identifier = BytesIO(encode(identifier, self.transfer_syntax_uid))
        self._message_id = requestor.send(request, self._context_id)
        self._deadline = time.monotonic() + address.timeout_s

    def answers(self) -> Iterator[Answer]:
        """Yield each answer; the last one is not pending.

        A cancelled operation may end without that: the association is aborted then.

        Raises
        ------
        PeerUnreachable
            If the association broke, or the peer was silent for too long.
        """
        while True:
            if not self.is_cancelled and self._is_wanted_no_more():
                self.cancel()
            left_s = self._left_s()
            arrived = self._requestor.receive(min(left_s, LOOK_EVERY_S)) if left_s > 0 else None
            if arrived is None:
                if left_s > 0 and self._requestor.is_alive():
                    continue
                self._requestor.abort()
                if self.is_cancelled:
                    return
                raise self._address.unreachable()
            answer = self._answer(arrived)
            if answer is not None:
                yield answer
                if not answer.is_pending:
                    return
            if not self.is_cancelled:
                self._deadline = time.monotonic() + self._address.timeout_s

    def _left_s(self) -> float:
        """Return how long the peer may still be silent; a large instance takes its time."""
        deadline = self._deadline
        if not self.is_cancelled:
            deadline = max(deadline, self._requestor.heard_at + self._address.timeout_s)
        return deadline - time.monotonic()

    def cancel(self) -> None:
        """Ask the peer to stop; answers that were on their way still come."""
        self.is_cancelled = True
        self._requestor.cancel(self._message_id, self._context_id)
        self._deadline = time.monotonic() + self._address.timeout_s

    def _answer(self, arrived: Arrived) -> Answer | None:
        """Return the answer to our request; None for anything else, which is dealt with."""
        message = arrived.message
        if message.MessageIDBeingRespondedTo is None:
            if self._on_request is not None:
                self._on_request(arrived)
            return None
        if message.MessageIDBeingRespondedTo != self._message_id:
            return None
        if not isinstance(message, C_FIND | C_GET | C_MOVE) or message.Status is None:
            self._requestor.abort()
            raise self._address.unreachable()
        identifier = message.Identifier.getvalue() if message.Identifier is not None else None
        if isinstance(message, C_FIND):
            return Answer(message.Status, identifier)
        return Answer(
            message.Status,
            identifier,
            completed=message.NumberOfCompletedSuboperations,
            failed=message.NumberOfFailedSuboperations,
            warnings=message.NumberOfWarningSuboperations,
            remaining=message.NumberOfRemainingSuboperations,
        )
