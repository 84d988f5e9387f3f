"""Finding to Comprehensive 3D SR, root template TID 1500 Measurement Report (PS3.3 A.35.13)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

from highdicom import sr
from pydicom.dataset import Dataset

from dicom_node.encode import codes, identity
from dicom_node.encode.groups import comment, measurement_groups
from dicom_node.encode.header import MANUFACTURER, Stamp, common_arguments
from dicom_node.finding import Finding, Segment
from dicom_node.multiframe import frame_number_of

_PROJECTION = {"CR", "DX", "IO", "MG", "PX", "RF", "RG", "XA"}
_CROSS_SECTION = {"CT", "MR", "PT"}


def make_sr(
    finding: Finding,
    drawn: Sequence[Segment],
    copies: Sequence[Dataset],
    seg: Dataset | None,
    stamp: Stamp,
) -> Dataset:
    """Return the report of a finding.

    All source instances, and the SEG if there is one, are listed as evidence; the image library
    has one entry, because 18 content items an image are most of the cost of a report.

    Parameters
    ----------
    finding : Finding
        Of any kind.
    drawn : sequence of Segment
        Those that the SEG describes, in its order.
    copies : sequence of Dataset
        Of the source instances, from `instances_of`.
    seg : Dataset or None
        The Segmentation of the same finding.
    stamp : Stamp
        The job's time and the node.

    Returns
    -------
    Dataset
        As highdicom made it, times and Patient's Name not yet set.
    """
    reference = copies[0]
    report = sr.MeasurementReport(
        observation_context=_observer(finding, stamp),
        procedure_reported=codes.procedure_reported(reference.get("Modality", "")),
        imaging_measurements=measurement_groups(finding, drawn, copies, seg),
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(
            codes.ENGLISH_US
        ),
        referenced_images=[_library_entry(reference)],
    )
    report[0].ContentSequence.append(_remarks(finding))
    dataset: Dataset = sr.Comprehensive3DSR(
        evidence=[*copies, *([] if seg is None else [seg])],
        content=report[0],
        is_complete=True,
        is_final=False,  # an algorithm's word is not the definitive one
        **common_arguments(finding, reference, stamp, "SR"),
    )
    return dataset


def _observer(finding: Finding, stamp: Stamp) -> sr.ObservationContext:
    engine = finding.engine
    return sr.ObservationContext(
        observer_device_context=sr.ObserverContext(
            observer_type=sr.CodedConcept("121007", "DCM", "Device"),
            observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
                uid=identity.device_uid(engine, stamp.node_name),
                name=engine.title,
                manufacturer_name=MANUFACTURER,
                model_name=engine.name,
                serial_number=stamp.node_name,
            ),
        )
    )


def _remarks(finding: Finding) -> sr.ContainerContentItem:
    """Return the summary, the warnings and the engine's limits, in words.

    They stand in TID 1500 rows 12 and 14, the one place of the template that takes free text.
    """
    container = sr.ContainerContentItem(
        name=codes.QUALITATIVE_EVALUATIONS,
        relationship_type=sr.RelationshipTypeValues.CONTAINS,
    )
    texts = (finding.summary, *finding.warnings, *finding.engine.limits, finding.engine.description)
    container.ContentSequence = sr.ContentSequence([comment(text) for text in texts if text])
    return container


def _library_entry(reference: Dataset) -> Dataset:
    """Return the source for the image library, with what its modality's descriptors need.

    highdicom fails on a projection without orientation and on a slice without thickness (TID 1603,
    1604), and would say of a multi-frame image what is true of its first frame only. As modality
    OT the image is listed without those descriptors.
    """
    needed: tuple[str, ...] = ()
    if reference.get("Modality") in _PROJECTION:
        needed = ("PatientOrientation", "ImagerPixelSpacing")
    elif reference.get("Modality") in _CROSS_SECTION:
        needed = ("PixelSpacing", "SliceThickness", "ImagePositionPatient")
    if all(reference.get(keyword) for keyword in needed) and frame_number_of(reference) is None:
        return reference
    entry = deepcopy(reference)
    entry.Modality = "OT"
    return entry
