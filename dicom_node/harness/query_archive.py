"""An archive that is asked, too: C-FIND, C-MOVE and C-GET on what it holds.

What it got by C-STORE it can be asked for, at every level, in the information models Study Root and
Patient Root. Data sets go out byte for byte as they came in. Every answer is made here and not by
pynetdicom, so that `query_faults.py` can make each of them wrong in its own way.

As a program: `python -m dicom_node.harness.query_archive`, with what `archive.py` takes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_FIND, C_GET, C_MOVE, C_STORE, DimseServiceType
from pynetdicom.dsutils import decode, encode

from dicom_node.errors import PeerUnreachable, StudyUnusable
from dicom_node.harness.archive import SUCCESS, Archive, Received, main
from dicom_node.harness.query_matching import UNIQUE_KEYS, Held, matches_of
from dicom_node.headers import read_header
from dicom_node.scu.part10 import Part10File
from dicom_node.scu.requestor import Requestor

PENDING = 0xFF00
CANCELLED = 0xFE00
SUB_OPERATIONS_FAILED = 0xB000
ALL_FAILED = 0xA702
DESTINATION_UNKNOWN = 0xA801
IDENTIFIER_DOES_NOT_MATCH = 0xA900

QUERY_RETRIEVE = tuple(f"1.2.840.10008.5.1.4.1.2.{root}.{n}" for root in (1, 2) for n in (1, 2, 3))
"""FIND, MOVE and GET of Patient Root and Study Root."""

PLAIN_TRANSFER_SYNTAXES = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"]

Send = Callable[[Received], int | None]
"""Sends one instance; returns the status of its C-STORE response, None if there is none."""


@dataclass(frozen=True)
class Inquiry:
    """A C-FIND, C-MOVE or C-GET that is being answered."""

    association: Association
    request: C_FIND | C_GET | C_MOVE
    context_id: int
    transfer_syntax_uid: UID
    identifier: Dataset

    @property
    def is_cancelled(self) -> bool:
        """Whether the C-CANCEL is here."""
        return self.request.MessageID in self.association.dimse.cancel_req

    @property
    def is_over(self) -> bool:
        """Whether nobody listens any more."""
        return self.is_cancelled or not self.association.dul.is_alive()


@dataclass(frozen=True)
class Counts:
    """The sub-operations of a retrieve, as a response tells them."""

    remaining: int
    completed: int = 0
    failed: int = 0
    warnings: int = 0
    failed_sop_instance_uids: tuple[str, ...] = field(default=())

    def after(self, sop_instance_uid: str, status: int | None) -> Counts:
        """Return the counts after one more sub-operation."""
        left = replace(self, remaining=self.remaining - 1)
        if status == SUCCESS:
            return replace(left, completed=self.completed + 1)
        if status is not None and status >> 12 == 0xB:
            return replace(left, warnings=self.warnings + 1)
        uids = (*self.failed_sop_instance_uids, sop_instance_uid)
        return replace(left, failed=self.failed + 1, failed_sop_instance_uids=uids)


class QueryArchive(Archive):
    """An `Archive` that answers C-FIND, C-MOVE and C-GET.

    Parameters
    ----------
    destinations : mapping of AE title to (host, port)
        To whom a C-MOVE may send; others are answered with 0xA801.
    tells_counts : bool
        Whether C-FIND returns Number of Study Related Instances and its like. DCMTK's dcmqrscp does
        not.
    """

    def __init__(
        self,
        folder: Path,
        *,
        destinations: Mapping[str, tuple[str, int]] | None = None,
        tells_counts: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(folder, **options)
        self.destinations = dict(destinations or {})
        self._tells_counts = tells_counts
        self._headers: dict[str, Held] = {}

    # ------------------------------------------------------------ what faults override

    def refusal(self, inquiry: Inquiry) -> int | None:
        """Return the status of a failure that is all the answer; None to answer."""
        return None

    def before_answer(self, inquiry: Inquiry, answered: int) -> None:
        """A pending response, or a sub-operation, is about to go out after so many others."""

    def matches(self, inquiry: Inquiry) -> Iterator[Dataset]:
        """Yield the answers to a C-FIND."""
        return matches_of(
            [held for _, held in self._held()],
            inquiry.identifier,
            self.ae_title,
            tells_counts=self._tells_counts,
        )

    def sub_operation(self, received: Received, number: int, send: Send) -> int | None:
        """Do a C-MOVE's or C-GET's sub-operation, the `number`-th from 1; return its status."""
        return send(received)

    def told(self, counts: Counts) -> Counts:
        """Return what a response says of the sub-operations."""
        return counts

    def encoded(self, inquiry: Inquiry, identifier: Dataset) -> bytes:
        """Return the identifier of a response as it goes out."""
        syntax = inquiry.transfer_syntax_uid
        return encode(identifier, syntax.is_implicit_VR, syntax.is_little_endian) or b""

    # ------------------------------------------------------------ the services

    storage_roles: ClassVar[Mapping[str, bool]] = {"scu_role": True, "scp_role": True}
    """A C-GET makes us the SCU of what it gets."""

    def offer(self, ae: AE) -> None:
        super().offer(ae)
        for sop_class_uid in QUERY_RETRIEVE:
            ae.add_supported_context(sop_class_uid, PLAIN_TRANSFER_SYNTAXES)

    def on_accepted(self, event: evt.Event) -> None:
        serve = event.assoc._serve_request
        event.assoc._serve_request = partial(  # type: ignore[method-assign]
            self._serve, event.assoc, serve
        )

    def _serve(
        self,
        association: Association,
        serve: Callable[[DimseServiceType, int], None],
        message: DimseServiceType,
        context_id: int,
    ) -> None:
        if not isinstance(message, C_FIND | C_GET | C_MOVE) or message.Identifier is None:
            serve(message, context_id)
            return
        [syntax] = association._accepted_cx[context_id].transfer_syntax
        identifier = decode(message.Identifier, syntax.is_implicit_VR, syntax.is_little_endian)
        inquiry = Inquiry(association, message, context_id, syntax, identifier)
        status = self.refusal(inquiry)
        if status is None and str(identifier.get("QueryRetrieveLevel")) not in UNIQUE_KEYS:
            status = IDENTIFIER_DOES_NOT_MATCH
        if status is not None:
            self._respond(inquiry, status)
        elif isinstance(message, C_FIND):
            self._find(inquiry)
        elif isinstance(message, C_GET):
            self._retrieve(inquiry, partial(self._send_here, inquiry))
        else:
            self._move(inquiry, message)
        association.dimse.cancel_req.clear()

    def _find(self, inquiry: Inquiry) -> None:
        for answered, match in enumerate(self.matches(inquiry)):
            self.before_answer(inquiry, answered)
            if inquiry.is_over:
                self._respond(inquiry, CANCELLED)
                return
            self._respond(inquiry, PENDING, match)
        self._respond(inquiry, SUCCESS)

    def _move(self, inquiry: Inquiry, request: C_MOVE) -> None:
        destination = str(request.MoveDestination).strip()
        if destination not in self.destinations:
            self._respond(inquiry, DESTINATION_UNKNOWN)
            return
        host, port = self.destinations[destination]
        contexts = [
            (received.sop_class_uid, received.transfer_syntax_uid)
            for received in self._selected(inquiry)
        ]
        try:
            with Requestor(
                host, port, contexts, calling=self.ae_title, called=destination
            ) as requestor:
                originator = str(inquiry.association.requestor.ae_title), request.MessageID or 0
                self._retrieve(
                    inquiry,
                    lambda received: requestor.store(
                        Part10File.read(received.path), move_originator=originator
                    ),
                )
        except PeerUnreachable:
            self._respond(inquiry, ALL_FAILED)

    def _retrieve(self, inquiry: Inquiry, send: Send) -> None:
        """Do every sub-operation; those that fail stop nothing."""
        selected = self._selected(inquiry)
        counts = Counts(len(selected))
        for number, received in enumerate(selected, 1):
            self.before_answer(inquiry, number - 1)
            if inquiry.is_over:
                self._respond(inquiry, CANCELLED, counts=counts)
                return
            status = self.sub_operation(received, number, send)
            counts = counts.after(received.sop_instance_uid, status)
            if counts.remaining:
                self._respond(inquiry, PENDING, counts=counts)
        done = counts.completed + counts.warnings
        status = SUCCESS if not counts.failed else SUB_OPERATIONS_FAILED if done else ALL_FAILED
        self._respond(inquiry, status, counts=counts)

    def _send_here(self, inquiry: Inquiry, received: Received) -> int | None:
        """Send an instance on the association that asked for it (PS3.4 C.4.3.3)."""
        association = inquiry.association
        wanted = received.sop_class_uid, received.transfer_syntax_uid
        for context in association.accepted_contexts:
            if (context.abstract_syntax, context.transfer_syntax[0]) == wanted and context.as_scu:
                break
        else:
            return None
        request = C_STORE()
        request.MessageID = 1
        request.AffectedSOPClassUID = UID(received.sop_class_uid)
        request.AffectedSOPInstanceUID = UID(received.sop_instance_uid)
        request.Priority = 0
        request.DataSet = BytesIO(Part10File.read(received.path).data_set())
        association.dimse.send_msg(request, context.context_id or 0)
        _, response = association.dimse.get_msg(block=True)
        return response.Status if isinstance(response, C_STORE) else None

    def _respond(
        self,
        inquiry: Inquiry,
        status: int,
        match: Dataset | None = None,
        *,
        counts: Counts | None = None,
    ) -> None:
        request = inquiry.request
        response = type(request)()
        response.MessageIDBeingRespondedTo = request.MessageID
        response.AffectedSOPClassUID = request.AffectedSOPClassUID
        response.Status = status
        if counts is not None and not isinstance(response, C_FIND):
            told = self.told(counts)
            if status in (PENDING, CANCELLED):
                response.NumberOfRemainingSuboperations = told.remaining
            elif told.failed:
                match = Dataset()
                match.FailedSOPInstanceUIDList = list(told.failed_sop_instance_uids)
            response.NumberOfCompletedSuboperations = told.completed
            response.NumberOfFailedSuboperations = told.failed
            response.NumberOfWarningSuboperations = told.warnings
        if match is not None:
            response.Identifier = BytesIO(self.encoded(inquiry, match))
        inquiry.association.dimse.send_msg(response, inquiry.context_id)

    # ------------------------------------------------------------ what it holds

    def _held(self) -> list[tuple[Received, Held]]:
        held = []
        for received in self.received():
            uid = received.sop_instance_uid
            if uid not in self._headers:
                self._headers[uid] = Held(_header(received.path), received.transfer_syntax_uid)
            held.append((received, self._headers[uid]))
        return held

    def _selected(self, inquiry: Inquiry) -> Sequence[Received]:
        return [received for received, held in self._held() if held.is_named_by(inquiry.identifier)]


def _header(path: Path) -> Dataset:
    try:
        return read_header(path)
    except StudyUnusable:
        return Dataset()  # a broken data set is kept, and is found by no key


if __name__ == "__main__":
    sys.exit(main(kind=QueryArchive))
