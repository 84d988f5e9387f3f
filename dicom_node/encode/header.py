"""What every result has in common: equipment, identity, times; and its bytes."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from typing import Any

from highdicom import ContributingEquipment
from pydicom.dataset import Dataset

from dicom_node.encode import codes, identity
from dicom_node.encode.codes import long_string
from dicom_node.finding import Finding
from dicom_node.model import Result

MANUFACTURER = "dicom_node"

_EQUIPMENT = {
    "manufacturer_model_name": "ManufacturerModelName",
    "software_versions": "SoftwareVersions",
    "device_serial_number": "DeviceSerialNumber",
    "institution_name": "InstitutionName",
    "institutional_department_name": "InstitutionalDepartmentName",
    "institution_address": "InstitutionAddress",
    "station_name": "StationName",
}
"""What is said of a scanner, by highdicom's arguments."""


@dataclass(frozen=True)
class Stamp:
    """What of a job and its node goes into the objects; nothing else varies."""

    created_at: float
    """Seconds since the epoch; every date and time of the objects."""
    node_name: str
    """The node's AE title; its Station Name and Device Serial Number."""
    software_version: str
    job_key: str
    """Names the input and the engine of the job: another content of the sources, another key."""
    predecessors: tuple[Result, ...] = ()
    """Reports of the same engine on earlier revisions of the series, the oldest first."""


def common_arguments(
    finding: Finding, reference: Dataset, stamp: Stamp, kind: str
) -> dict[str, Any]:
    """Return the arguments that highdicom's SEG and SR share."""
    engine = finding.engine
    series = (engine, reference.SeriesInstanceUID, kind, finding.time_point)
    which = "" if finding.time_point is None else f", {finding.time_point.short}"
    described = long_string(f"{engine.name} {kind} {engine.version}", 64 - len(which)) + which
    return {
        "series_instance_uid": identity.series_uid(*series),
        "series_number": identity.series_number(*series),
        "series_description": described,
        "sop_instance_uid": identity.instance_uid(finding, kind, stamp.job_key),
        "instance_number": len(stamp.predecessors) + 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MANUFACTURER,
        "device_serial_number": long_string(stamp.node_name),
        "software_versions": [
            long_string(f"{MANUFACTURER} {stamp.software_version}"),
            long_string(f"{engine.name} {engine.version}"),
        ],
        "content_qualification": "RESEARCH",
    }


def patient_arguments(reference: Dataset) -> dict[str, Any]:
    """Return the arguments of highdicom's base class that say whose an object is."""
    return {
        "study_instance_uid": reference.StudyInstanceUID,
        "patient_id": reference.PatientID,
        "patient_name": reference.PatientName,
        "patient_birth_date": reference.PatientBirthDate,
        "patient_sex": reference.PatientSex,
        "accession_number": reference.AccessionNumber,
        "study_id": reference.StudyID,
        "study_date": reference.StudyDate,
        "study_time": reference.StudyTime,
        "referring_physician_name": reference.ReferringPhysicianName,
        "specific_character_set": reference.SpecificCharacterSet,
    }


def contributing_equipment(reference: Dataset) -> list[ContributingEquipment]:
    """Return the scanner and the library that highdicom names in its objects (PS3.3 C.12.1.1.5).

    As `ContributingEquipment.for_image_acquisition` does, which takes 2 ms to find out in its
    tables that the source is an image.
    """
    library = ContributingEquipment.for_highdicom()
    if not reference.get("Manufacturer"):
        return [library]
    try:
        scanner = ContributingEquipment(
            manufacturer=reference.Manufacturer,
            purpose_of_reference=codes.concept(codes.ACQUISITION_EQUIPMENT),
            contribution_datetime=reference.get("AcquisitionDateTime"),
            contribution_description="Acquisition equipment of the source image(s)",
            **{argument: reference.get(keyword) for argument, keyword in _EQUIPMENT.items()},
        )
    except (TypeError, ValueError):  # what the source says breaks its VR
        return [library]
    return [scanner, library]


def finish(dataset: Dataset, patient_name: Any, reference: Dataset, stamp: Stamp) -> None:
    """Replace what highdicom took from the clock, and set what it was not shown.

    The Patient's Name is withheld from highdicom, which prints the names it doubts.

    Times are in the zone of the source, if it tells one, else in UTC. (0008,0201) *Timezone Offset
    From UTC* holds for the copied Study Time as well, so it is never made up (PS3.3 C.12.1.1.8).
    """
    # A new element: highdicom shares the one that is there with the reference, for the next object.
    dataset.add_new("PatientName", "PN", deepcopy(patient_name))
    dataset.StationName = stamp.node_name
    moment = moment_of(stamp, reference)
    if _zone_of(reference) is not None:
        dataset.TimezoneOffsetFromUTC = f"{moment:%z}"
    content = "PresentationCreation" if dataset.Modality == "PR" else "Content"
    for what in ("InstanceCreation", content):
        setattr(dataset, f"{what}Date", f"{moment:%Y%m%d}")
        setattr(dataset, f"{what}Time", f"{moment:%H%M%S.%f}")
    if stamp.predecessors and dataset.Modality == "SR":
        dataset.PredecessorDocumentsSequence = [_reference(stamp.predecessors[-1])]
    # highdicom names itself last, as the library that made the object.
    equipment = dataset.ContributingEquipmentSequence[-1]
    equipment.ContributionDateTime = f"{moment:%Y%m%d%H%M%S.%f%z}"


def moment_of(stamp: Stamp, reference: Dataset) -> datetime:
    """Return when a result was made, in the zone of its source; in `UTC` if it tells none."""
    moment = datetime.fromtimestamp(stamp.created_at, UTC)
    zone = _zone_of(reference)
    return moment if zone is None else moment.astimezone(zone)


def part10(dataset: Dataset) -> bytes:
    """Return the whole Part 10 file of a finished data set (PS3.10 7)."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _reference(report: Result) -> Dataset:
    """Return a report as (0040,A360) Predecessor Documents Sequence names it (PS3.3 C.17.2)."""
    document = Dataset()
    document.ReferencedSOPClassUID = report.sop_class_uid
    document.ReferencedSOPInstanceUID = report.sop_instance_uid
    series = Dataset()
    series.SeriesInstanceUID = report.series_instance_uid
    series.ReferencedSOPSequence = [document]
    study = Dataset()
    study.StudyInstanceUID = report.study_instance_uid
    study.ReferencedSeriesSequence = [series]
    return study


def _zone_of(reference: Dataset) -> timezone | None:
    """Return the zone of a Timezone Offset From UTC, &ZZXX; None where there is none."""
    offset = str(reference.get("TimezoneOffsetFromUTC", ""))
    if len(offset) != 5 or offset[0] not in "+-" or not offset[1:].isdigit():
        return None
    minutes = int(offset[1:3]) * 60 + int(offset[3:])
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
