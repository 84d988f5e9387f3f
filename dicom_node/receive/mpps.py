"""Modality Performed Procedure Step SCP (PS3.4 F.7): evidence of what a modality makes.

Kept are UIDs and the status; whom the step is about is not.
"""

from __future__ import annotations

from collections.abc import Iterator

import structlog
from pydicom.dataset import Dataset

from dicom_node.clock import Clock
from dicom_node.data_sets import all_items_of, decode, items_of, text_of
from dicom_node.ledger.evidence import StepUpdate
from dicom_node.ledger.ledger import Ledger
from dicom_node.model import (
    AnnouncedInstance,
    Announcement,
    AnnouncementKind,
    AnnouncementStatus,
)
from dicom_node.protocol.command import CommandField, Element, ui, us
from dicom_node.receive.refusal import (
    INVALID_SOP_INSTANCE,
    MISSING_ATTRIBUTE_VALUE,
    RequestRefused,
    answering,
    check_command,
)
from dicom_node.receive.service import DimseStatus, EventReport, ServiceReply, ServiceRequest
from dicom_node.uid import derived_uid, is_uid

log = structlog.get_logger()

MODALITY_PERFORMED_PROCEDURE_STEP = "1.2.840.10008.3.1.2.3.3"

NO_LONGER_UPDATED = 0xA506
"""(0000,0903) Error ID: the step has ended (PS3.4 Table F.7.2-2)."""

_STATUSES = {
    status.value: status
    for status in (
        AnnouncementStatus.IN_PROGRESS,
        AnnouncementStatus.COMPLETED,
        AnnouncementStatus.DISCONTINUED,
    )
}
_IMAGES = ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence")


class ProcedureStepService:
    """A service for Modality Performed Procedure Step."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def __call__(self, request: ServiceRequest) -> Iterator[ServiceReply | EventReport]:
        return answering(request, self._answer(request))

    def _answer(self, request: ServiceRequest) -> Iterator[ServiceReply]:
        if request.command.field == CommandField.N_SET:
            check_command(request, CommandField.N_SET)
            yield self._set(request)
        else:
            check_command(request, CommandField.N_CREATE)
            yield self._create(request)

    def _create(self, request: ServiceRequest) -> ServiceReply:
        source_uid = created_uid(request)
        step = decode(request.data_set, request.transfer_syntax_uid)
        status = _status(step)
        if status is None:
            raise RequestRefused(
                "Performed Procedure Step Status is missing",
                status=DimseStatus.MISSING_ATTRIBUTE,
                keyword="PerformedProcedureStepStatus",
            )
        if status is not AnnouncementStatus.IN_PROGRESS:
            raise RequestRefused(
                "a new Performed Procedure Step must be IN PROGRESS",
                status=DimseStatus.INVALID_ATTRIBUTE_VALUE,
                keyword="PerformedProcedureStepStatus",
            )
        now = self._clock()
        announcement = Announcement(
            source_uid=source_uid,
            kind=AnnouncementKind.MPPS,
            calling_ae_title=request.calling_ae_title,
            status=status,
            study_instance_uids=_studies(step),
            instances=tuple(performed(step) or ()),
            announced_at=now,
            ended_at=None,
            updated_at=now,
        )
        if not self._ledger.evidence.announce(announcement):
            raise duplicate()
        _log(request, source_uid, status)
        return ServiceReply(
            DimseStatus.SUCCESS, fields={Element.AFFECTED_SOP_INSTANCE_UID: ui(source_uid)}
        )

    def _set(self, request: ServiceRequest) -> ServiceReply:
        source_uid = request.command.sop_instance_uid
        changes = decode(request.data_set, request.transfer_syntax_uid)
        status, instances = _status(changes), performed(changes)
        update = StepUpdate.UNKNOWN
        if is_uid(source_uid):
            update = self._ledger.evidence.update_step(source_uid, status, instances, self._clock())
        if update is StepUpdate.UNKNOWN:
            raise RequestRefused(
                "there is no such Performed Procedure Step",
                status=DimseStatus.NO_SUCH_SOP_INSTANCE,
            )
        if update is StepUpdate.ENDED:
            raise RequestRefused(
                "Performed Procedure Step Object may no longer be updated",
                status=DimseStatus.PROCESSING_FAILURE,
                fields={Element.ERROR_ID: us(NO_LONGER_UPDATED)},
            )
        _log(request, source_uid, status)
        return ServiceReply(DimseStatus.SUCCESS)


def created_uid(request: ServiceRequest) -> str:
    """Return the UID of the SOP Instance to create: the requestor's, else one of ours.

    References
    ----------
    PS3.7 10.1.5.1.4 (Affected SOP Instance UID)
    """
    uid = request.command.sop_instance_uid
    if not uid:
        message_id = str(request.command.message_id)
        return derived_uid(request.sop_class_uid, request.association_id, message_id)
    if not is_uid(uid):
        raise RequestRefused("the SOP Instance UID is none", status=INVALID_SOP_INSTANCE)
    return uid


def duplicate() -> RequestRefused:
    return RequestRefused(
        "there is such a SOP Instance already", status=DimseStatus.DUPLICATE_SOP_INSTANCE
    )


def required_uid(dataset: Dataset, keyword: str) -> str:
    """Return the UID in a type 1 attribute.

    Raises
    ------
    RequestRefused
        If it is missing, empty or no UID.
    """
    uid = text_of(dataset, keyword)
    if uid is None:
        status: int = DimseStatus.MISSING_ATTRIBUTE
    elif not uid:
        status = MISSING_ATTRIBUTE_VALUE
    elif not is_uid(uid):
        status = DimseStatus.INVALID_ATTRIBUTE_VALUE
    else:
        return uid
    raise RequestRefused(f"{keyword} is missing or invalid", status=status, keyword=keyword)


def performed(step: Dataset) -> list[AnnouncedInstance] | None:
    """Return the instances of a step by its Performed Series Sequence; None if it has none.

    References without UIDs are left out: a modality names some of its instances late.
    """
    series = items_of(step, "PerformedSeriesSequence")
    if series is None:
        return None
    found = []
    for one in series:
        series_instance_uid = text_of(one, "SeriesInstanceUID") or ""
        for keyword in _IMAGES:
            for item in all_items_of([one], keyword):
                sop_instance_uid = text_of(item, "ReferencedSOPInstanceUID") or ""
                sop_class_uid = text_of(item, "ReferencedSOPClassUID") or ""
                if all(map(is_uid, (series_instance_uid, sop_instance_uid, sop_class_uid))):
                    found.append(
                        AnnouncedInstance(series_instance_uid, sop_instance_uid, sop_class_uid)
                    )
    return found


def _studies(step: Dataset) -> tuple[str, ...]:
    """Return the studies of a step: one for each requested procedure that it serves."""
    keyword = "ScheduledStepAttributesSequence"
    items = items_of(step, keyword)
    if not items:
        raise RequestRefused(
            f"{keyword} is missing or empty",
            status=DimseStatus.MISSING_ATTRIBUTE if items is None else MISSING_ATTRIBUTE_VALUE,
            keyword=keyword,
        )
    return tuple(dict.fromkeys(required_uid(item, "StudyInstanceUID") for item in items))


def _status(dataset: Dataset) -> AnnouncementStatus | None:
    """Return the (0040,0252) Performed Procedure Step Status; None if it is missing."""
    keyword = "PerformedProcedureStepStatus"
    text = text_of(dataset, keyword)
    if text is None:
        return None
    if text not in _STATUSES:
        raise RequestRefused(
            "the Performed Procedure Step Status is none",
            status=DimseStatus.INVALID_ATTRIBUTE_VALUE if text else MISSING_ATTRIBUTE_VALUE,
            keyword=keyword,
        )
    return _STATUSES[text]


def _log(request: ServiceRequest, source_uid: str, status: AnnouncementStatus | None) -> None:
    log.info(
        "procedure_step",
        association_id=request.association_id,
        calling_ae_title=request.calling_ae_title,
        sop_instance_uid=source_uid,
        status=status,
    )
