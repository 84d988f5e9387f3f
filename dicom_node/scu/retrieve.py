"""C-MOVE and C-GET as SCU, in the Study Root information model (PS3.4 C.4.2, C.4.3 and C.6.2).

A C-MOVE makes the peer send to an AE title that it knows, over an association of its own: ours, if
the instances are to come in at our own SCP. A C-GET makes it send on the association that asked.
There the data sets are handed on as they came, not decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset
from pynetdicom.dimse_primitives import C_GET, C_MOVE, C_STORE

from dicom_node.data_sets import decode, texts_of
from dicom_node.errors import InstanceRefused, StoreFull, StudyUnusable
from dicom_node.scu.address import SOP_CLASS_NOT_SUPPORTED, Address
from dicom_node.scu.contents import Contents, contents_of
from dicom_node.scu.find import STUDY_ROOT_FIND
from dicom_node.scu.operation import CANCELLED, SUCCESS, Answer, Operation, contexts_of, never
from dicom_node.scu.requestor import Arrived, Requestor

STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"

SUB_OPERATIONS_FAILED = 0xB000
"""A warning: the rest came (PS3.4 C.4.2.1.5, C.4.3.1.4)."""
DESTINATION_UNKNOWN = 0xA801

_OUT_OF_RESOURCES = 0xA700
_CANNOT_UNDERSTAND = 0xC000
_FAILED_SOP_INSTANCE_UID_LIST = 0x00080058


@dataclass(frozen=True)
class ReceivedInstance:
    """An instance of a C-GET: its data set as the peer sent it, and what its command said."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: bytes
    """Encoded in `transfer_syntax_uid`, without File Meta."""


Take = Callable[[ReceivedInstance], int]
"""Keeps an instance and returns the status of its C-STORE response (PS3.4 B.2.3).

`InstanceRefused` and `StoreFull` become a status, too; any other error aborts the C-GET.
"""


@dataclass(frozen=True)
class RetrieveOutcome:
    """How far a retrieve is, and how it ended: sub-operations, as the peer counts them."""

    completed: int = 0
    failed: int = 0
    warnings: int = 0
    remaining: int = 0
    """Not begun; at the end more than 0 only where it was cancelled."""
    status: int = 0xFF00
    """Of the last response: 0x0000, 0xB000 if some sub-operations failed, 0xFE00 if cancelled."""
    failed_sop_instance_uids: tuple[str, ...] = ()
    taken: int | None = None
    """How many instances of a C-GET we took ourselves; None for a C-MOVE."""

    @property
    def is_whole(self) -> bool:
        """Whether everything came, as far as the peer knows and as we have counted ourselves."""
        sent = self.completed + self.warnings
        came = self.taken is None or self.taken >= sent
        return self.status == SUCCESS and not self.failed and not self.remaining and came


Progress = Callable[[RetrieveOutcome], object]
"""Told of every pending response."""


def move(
    address: Address,
    study_instance_uid: str,
    destination_ae_title: str,
    *,
    series_instance_uid: str | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = never,
) -> RetrieveOutcome:
    """Have a peer send a study, or one of its series, to an AE title.

    Pending responses are the peer's choice: without them, `address.timeout_s` has to be longer than
    the whole transfer takes.

    Parameters
    ----------
    destination_ae_title : str
        Ours, or another that the peer knows by host and port.
    progress, cancelled : callable
        Told of pending responses; asked whether to stop.

    Returns
    -------
    RetrieveOutcome
        Sub-operations that failed stop nothing, and are in it.

    Raises
    ------
    PeerUnreachable
        If there is no association, it broke, or the peer was silent for too long; what was sent
        until then stays where it is.
    PeerRefused
        If the peer answers with a failure, such as 0xA801 for an unknown destination.
    """
    with address.associate(_contexts_of(STUDY_ROOT_MOVE)) as requestor:
        request = C_MOVE()
        request.MoveDestination = destination_ae_title
        operation = Operation(
            requestor,
            address,
            request,
            STUDY_ROOT_MOVE,
            _identifier(study_instance_uid, series_instance_uid),
            cancelled=cancelled,
        )
        return _followed(operation, address, RetrieveOutcome(), progress)


def get(
    address: Address,
    study_instance_uid: str,
    take: Take,
    *,
    series_instance_uid: str | None = None,
    sop_instance_uid: str | None = None,
    contents: Contents | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = never,
) -> RetrieveOutcome:
    """Fetch a study, one of its series or instances, over the association that asks for it.

    Parameters
    ----------
    take : callable
        Gets each instance, one after the other, and returns the status that answers it.
    series_instance_uid, sop_instance_uid : str, optional
        The series; the instance in it.
    contents : Contents, optional
        What is to come; asked for by C-FIND if left out.
    progress, cancelled : callable
        Told of pending responses; asked whether to stop.

    Returns
    -------
    RetrieveOutcome
        Sub-operations that failed, there or here, stop nothing and are in it.

    Raises
    ------
    PeerUnreachable, PeerRefused
        As for `move`; what was taken until then was taken.
    """
    if contents is None:
        contents = contents_of(address, study_instance_uid, series_instance_uid)
    storage = contents.contexts()
    contexts = [*_contexts_of(STUDY_ROOT_GET), *storage]
    roles = list(dict.fromkeys(sop_class_uid for sop_class_uid, _ in storage))
    with address.associate(contexts, scp_of=roles) as requestor:
        taking = _Taking(requestor, take)
        operation = Operation(
            requestor,
            address,
            C_GET(),
            STUDY_ROOT_GET,
            _identifier(study_instance_uid, series_instance_uid, sop_instance_uid),
            cancelled=cancelled,
            on_request=taking,
        )
        outcome = _followed(operation, address, RetrieveOutcome(taken=0), progress, taking)
        return replace(outcome, taken=taking.count)


class _Taking:
    """Answers the C-STORE sub-operations of a C-GET, as the SCP that we are then."""

    def __init__(self, requestor: Requestor, take: Take) -> None:
        self._requestor = requestor
        self._take = take
        self._contexts = {number: pair for pair, number in requestor.accepted.items()}
        self.count = 0

    def __call__(self, arrived: Arrived) -> None:
        request, context_id = arrived
        if not isinstance(request, C_STORE) or context_id not in self._contexts:
            self._requestor.abort()  # nothing else may be asked of us here
            return
        sop_class_uid, transfer_syntax_uid = self._contexts[context_id]
        response = C_STORE()
        response.MessageIDBeingRespondedTo = request.MessageID
        response.AffectedSOPClassUID = request.AffectedSOPClassUID
        response.AffectedSOPInstanceUID = request.AffectedSOPInstanceUID
        response.Status = self._status(request, sop_class_uid, transfer_syntax_uid)
        self._requestor.reply(response, context_id)

    def _status(self, request: C_STORE, sop_class_uid: str, transfer_syntax_uid: str) -> int:
        if request.AffectedSOPClassUID != sop_class_uid:
            return SOP_CLASS_NOT_SUPPORTED
        if request.DataSet is None or not request.AffectedSOPInstanceUID:
            return _CANNOT_UNDERSTAND
        instance = ReceivedInstance(
            sop_class_uid,
            str(request.AffectedSOPInstanceUID),
            transfer_syntax_uid,
            request.DataSet.getvalue(),
        )
        try:
            status = self._take(instance)
        except InstanceRefused as refused:
            return refused.status
        except StoreFull:
            return _OUT_OF_RESOURCES
        self.count += status == SUCCESS or status >> 12 == 0xB
        return status


def _contexts_of(sop_class_uid: str) -> list[tuple[str, str]]:
    """Return what is to be proposed: FIND too, without which some peers refuse the others."""
    return [*contexts_of(sop_class_uid), *contexts_of(STUDY_ROOT_FIND)]


def _followed(
    operation: Operation,
    address: Address,
    outcome: RetrieveOutcome,
    progress: Progress | None,
    taking: _Taking | None = None,
) -> RetrieveOutcome:
    """Follow a retrieve to its end; what the last response leaves out, the one before it said."""
    for answer in operation.answers():
        outcome = _after(outcome, answer, taking)
        if answer.is_pending:
            if progress is not None:
                progress(outcome)
            continue
        if answer.status not in (SUCCESS, SUB_OPERATIONS_FAILED, CANCELLED):
            raise address.refused(operation.name, answer.status, _hint(answer.status))
        failed = _failed_uids(answer.identifier, operation.transfer_syntax_uid)
        return replace(outcome, failed_sop_instance_uids=failed)
    return replace(outcome, status=CANCELLED)


def _after(outcome: RetrieveOutcome, answer: Answer, taking: _Taking | None) -> RetrieveOutcome:
    counts = {
        name: getattr(answer, name)
        for name in ("completed", "failed", "warnings", "remaining")
        if getattr(answer, name) is not None
    }
    if answer.status in (SUCCESS, SUB_OPERATIONS_FAILED):
        counts.setdefault("remaining", 0)  # left out at the end, where there are none
    taken = taking.count if taking is not None else None
    return replace(outcome, status=answer.status, taken=taken, **counts)


def _failed_uids(identifier: bytes | None, transfer_syntax_uid: str) -> tuple[str, ...]:
    """Return (0008,0058) Failed SOP Instance UID List; none if it cannot be read."""
    try:
        said = decode(identifier or b"", transfer_syntax_uid)
        return tuple(uid for uid in texts_of(said, _FAILED_SOP_INSTANCE_UID_LIST) if uid)
    except StudyUnusable:
        return ()  # the counts say that there are some


def _hint(status: int) -> str:
    if status == DESTINATION_UNKNOWN:
        return "have it know the AE title of the destination, with host and port"
    return "look into its log"


def _identifier(
    study_instance_uid: str,
    series_instance_uid: str | None,
    sop_instance_uid: str | None = None,
) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = study_instance_uid
    if series_instance_uid is not None:
        identifier.QueryRetrieveLevel = "SERIES"
        identifier.SeriesInstanceUID = series_instance_uid
    if sop_instance_uid is not None:
        identifier.QueryRetrieveLevel = "IMAGE"
        identifier.SOPInstanceUID = sop_instance_uid
    return identifier
