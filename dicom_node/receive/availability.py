"""Instance Availability Notification SCP (PS3.4 Annex R): evidence of what a peer holds."""

from __future__ import annotations

from collections.abc import Iterator

import structlog
from pydicom.dataset import Dataset

from dicom_node.clock import Clock
from dicom_node.data_sets import decode, items_of, text_of
from dicom_node.ledger.ledger import Ledger
from dicom_node.model import (
    AnnouncedInstance,
    Announcement,
    AnnouncementKind,
    AnnouncementStatus,
)
from dicom_node.protocol.command import CommandField, Element, ui
from dicom_node.receive.mpps import created_uid, duplicate, required_uid
from dicom_node.receive.refusal import (
    MISSING_ATTRIBUTE_VALUE,
    RequestRefused,
    answering,
    check_command,
)
from dicom_node.receive.service import DimseStatus, EventReport, ServiceReply, ServiceRequest

log = structlog.get_logger()

INSTANCE_AVAILABILITY_NOTIFICATION = "1.2.840.10008.5.1.4.33"

_AVAILABILITIES = frozenset({"ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE"})  # PS3.3 C.4.23.1.1


class AvailabilityService:
    """A service for Instance Availability Notification."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def __call__(self, request: ServiceRequest) -> Iterator[ServiceReply | EventReport]:
        return answering(request, self._answer(request))

    def _answer(self, request: ServiceRequest) -> Iterator[ServiceReply]:
        check_command(request, CommandField.N_CREATE)
        source_uid = created_uid(request)
        notification = decode(request.data_set, request.transfer_syntax_uid)
        now = self._clock()
        announcement = Announcement(
            source_uid=source_uid,
            kind=AnnouncementKind.IAN,
            calling_ae_title=request.calling_ae_title,
            status=AnnouncementStatus.AVAILABLE,
            study_instance_uids=(required_uid(notification, "StudyInstanceUID"),),
            instances=tuple(_instances(notification)),
            announced_at=now,
            ended_at=now,
            updated_at=now,
        )
        if not self._ledger.evidence.announce(announcement):
            raise duplicate()
        log.info(
            "availability_notified",
            association_id=request.association_id,
            calling_ae_title=request.calling_ae_title,
            sop_instance_uid=source_uid,
            instances=len(announcement.instances),
        )
        yield ServiceReply(
            DimseStatus.SUCCESS, fields={Element.AFFECTED_SOP_INSTANCE_UID: ui(source_uid)}
        )


def _instances(notification: Dataset) -> Iterator[AnnouncedInstance]:
    for series in _required_items(notification, "ReferencedSeriesSequence"):
        series_instance_uid = required_uid(series, "SeriesInstanceUID")
        for item in _required_items(series, "ReferencedSOPSequence"):
            availability = text_of(item, "InstanceAvailability")
            if availability not in _AVAILABILITIES:
                raise RequestRefused(
                    "the Instance Availability is missing or unknown",
                    status=DimseStatus.INVALID_ATTRIBUTE_VALUE
                    if availability
                    else DimseStatus.MISSING_ATTRIBUTE,
                    keyword="InstanceAvailability",
                )
            yield AnnouncedInstance(
                series_instance_uid,
                required_uid(item, "ReferencedSOPInstanceUID"),
                required_uid(item, "ReferencedSOPClassUID"),
                availability,
            )


def _required_items(dataset: Dataset, keyword: str) -> list[Dataset]:
    items = items_of(dataset, keyword)
    if items:
        return items
    raise RequestRefused(
        f"{keyword} is missing or empty",
        status=DimseStatus.MISSING_ATTRIBUTE if items is None else MISSING_ATTRIBUTE_VALUE,
        keyword=keyword,
    )
