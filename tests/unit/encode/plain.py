"""The results as highdicom alone makes them: what ours are held against, and measured beside.

No line of the code under test is called here but for what both share: identities, the copies of
the sources, the common header and its times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence, sr
from highdicom.color import CIELabColor
from highdicom.seg import (
    Segmentation,
    SegmentationFractionalTypeValues,
    SegmentationTypeValues,
    SegmentDescription,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from dicom_node.encode import identity
from dicom_node.encode.header import MANUFACTURER, Stamp, common_arguments, finish
from dicom_node.encode.sources import copies_of
from dicom_node.finding import (
    Classification,
    Code,
    EngineIdentity,
    Finding,
    FindingKind,
    Measurement,
    Quality,
    QualityGrade,
    Segment,
    Value,
)
from dicom_node.uid import derived_uid

Mask = NDArray[np.uint8] | NDArray[np.bool_]


def concept(code: Code) -> sr.CodedConcept:
    return sr.CodedConcept(code.value, code.scheme, code.meaning)


_COMMENT = sr.CodedConcept("121106", "DCM", "Comment")
_ENGLISH_US = sr.CodedConcept("en-US", "RFC5646", "English (United States)")
_QUALITATIVE_EVALUATIONS = sr.CodedConcept("C0034375", "UMLS", "Qualitative Evaluations")
_VOLUME = sr.CodedConcept("118565006", "SCT", "Volume")
_PROBABILITY = sr.CodedConcept("122157", "DCM", "Probability")
_NO_UNITS = sr.CodedConcept("1", "UCUM", "no units")
_PRESENCE = sr.CodedConcept("705057003", "SCT", "Presence")
_PRESENT = sr.CodedConcept("52101004", "SCT", "Present")
_ABSENT = sr.CodedConcept("272519000", "SCT", "Absent")
_QUALITY_ASSESSMENT = sr.CodedConcept("111050", "DCM", "Quality Assessment")
_SERIES_QUALITY = sr.CodedConcept("130550", "DCM", "Imaging Series Quality")
_GRADES = {
    QualityGrade.DIAGNOSTIC: sr.CodedConcept("RID12", "RADLEX", "Diagnostic quality"),
    QualityGrade.LIMITED: sr.CodedConcept("RID13", "RADLEX", "Limited quality"),
    QualityGrade.NON_DIAGNOSTIC: sr.CodedConcept("RID14", "RADLEX", "Non-diagnostic quality"),
}
_XR = sr.CodedConcept("43468-8", "LN", "XR unspecified body region")
_PROCEDURES = {
    "CT": sr.CodedConcept("25045-6", "LN", "CT unspecified body region"),
    "MR": sr.CodedConcept("25056-3", "LN", "MRI unspecified body region"),
    "NM": sr.CodedConcept("49118-3", "LN", "NM unspecified body region"),
    "PT": sr.CodedConcept("44136-0", "LN", "PET unspecified body region"),
    "CR": _XR,
    "DX": _XR,
}
_ANY_PROCEDURE = sr.CodedConcept("363679005", "SCT", "Imaging procedure")
_COLOURS = (
    (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189),
    (140, 86, 75), (227, 119, 194), (188, 189, 34), (23, 190, 207), (255, 221, 87),
    (174, 199, 232), (255, 187, 120), (152, 223, 138), (255, 152, 150), (197, 176, 213),
    (196, 156, 148), (247, 182, 210), (219, 219, 141), (158, 218, 229), (127, 127, 127),
)  # fmt: skip


def plain_results(
    finding: Finding,
    sources: Sequence[Dataset],
    stamp: Stamp,
    kind: SegmentationTypeValues = SegmentationTypeValues.BINARY,
    *,
    library: bool = False,
) -> dict[str, Dataset]:
    """Return SEG and SR, finished, by kind.

    Parameters
    ----------
    kind : highdicom.seg.SegmentationTypeValues
        LABELMAP and FRACTIONAL are run-length encoded.
    library : bool
        Let the image library list every source, not one: what highdicom's examples do.
    """
    copies = copies_of(sources)
    reference = copies[0]
    patient_name = reference.PatientName
    reference.PatientName = ""
    drawn = drawn_in(finding)
    variant = "" if kind is SegmentationTypeValues.BINARY else f" {kind.value}"
    seg = plain_seg(finding, drawn, copies, stamp, kind, f"SEG{variant}") if drawn else None
    listed = copies if library else [library_entry(reference)]
    variant = "" if seg is None else variant
    report = plain_sr(finding, drawn, copies, seg, stamp, listed, f"SR{variant}")
    results = {"SR": report} if seg is None else {"SEG": seg, "SR": report}
    for dataset in results.values():
        finish(dataset, patient_name, reference, stamp)
    return results


def file_of(dataset: Dataset) -> bytes:
    """Return the Part 10 file of a data set as pydicom writes it."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def drawn_in(finding: Finding) -> list[Segment]:
    mask = finding.mask
    if mask is None:
        return []
    ordered = sorted(finding.segments, key=lambda segment: segment.segment_number)
    maps = mask if mask.ndim == 4 else [mask == one.segment_number for one in ordered]
    return [one for one, voxels in zip(ordered, maps, strict=True) if np.any(voxels)]


def plain_seg(
    finding: Finding,
    drawn: Sequence[Segment],
    copies: Sequence[Dataset],
    stamp: Stamp,
    kind: SegmentationTypeValues,
    name: str,
) -> Dataset:
    reference = copies[0]
    pixels = _pixels(None if finding.mask is None else np.asarray(finding.mask), drawn)
    fractional_type = SegmentationFractionalTypeValues.OCCUPANCY
    if kind is SegmentationTypeValues.FRACTIONAL and finding.probabilities is not None:
        rows = [segment.segment_number - 1 for segment in drawn]
        pixels = np.moveaxis(np.asarray(finding.probabilities)[rows], 0, -1) / np.float32(255)
        fractional_type = SegmentationFractionalTypeValues.PROBABILITY
    is_binary = kind is SegmentationTypeValues.BINARY
    dataset: Dataset = Segmentation(
        source_images=list(copies),
        pixel_array=pixels,
        segmentation_type=kind,
        fractional_type=fractional_type,
        max_fractional_value=255,
        segment_descriptions=[
            _description(number, segment, finding.engine, reference.SeriesInstanceUID)
            for number, segment in enumerate(drawn, start=1)
        ],
        content_label=finding.engine.name.upper().replace("-", "_")[:16],
        content_description=finding.engine.title,
        transfer_syntax_uid=ExplicitVRLittleEndian if is_binary else RLELossless,
        **common_arguments(finding, reference, stamp, name),
    )
    dataset.ContentCreatorName = f"{MANUFACTURER}^"
    if "ImagePositionPatient" not in reference:
        dataset.PatientOrientation = reference.get("PatientOrientation")
    if "SpacingBetweenSlices" not in reference:
        for measures in dataset.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence", ()):
            if "SpacingBetweenSlices" in measures:
                del measures.SpacingBetweenSlices
    uid = derived_uid("dimensions", dataset.SOPInstanceUID)
    for item in [*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence]:
        item.DimensionOrganizationUID = uid
    return dataset


def _pixels(mask: Mask | None, drawn: Sequence[Segment]) -> Any:
    """Return labels, numbered anew; one map each, last axis, only if any overlap."""
    assert mask is not None
    maps = mask
    if mask.ndim == 3:
        numbers = [segment.segment_number for segment in drawn]
        renumbered = np.zeros(256, np.uint8)
        renumbered[numbers] = range(1, len(drawn) + 1)
        return renumbered[mask]
    maps = mask[[segment.segment_number - 1 for segment in drawn]]
    if maps.sum(axis=0).max() > 1:
        return np.moveaxis(maps, 0, -1)
    labels = np.zeros(maps.shape[1:], np.uint8)
    for number, one in enumerate(maps, start=1):
        labels[one] = number
    return labels


def _tracking(segment: Segment, engine: EngineIdentity, source_series_uid: str) -> tuple[str, str]:
    uid = identity.tracking_uid(
        engine, source_series_uid, "segment", str(segment.segment_number), segment.label
    )
    return f"{segment.label} ({engine.name})", uid


def _description(
    number: int, segment: Segment, engine: EngineIdentity, source_series_uid: str
) -> SegmentDescription:
    tracking_id, tracking_uid = _tracking(segment, engine, source_series_uid)
    description = SegmentDescription(
        segment_number=number,
        segment_label=segment.label,
        segmented_property_category=concept(segment.category),
        segmented_property_type=concept(segment.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=engine.name,
            family=concept(Code("123110", "DCM", "Artificial Intelligence")),
            version=engine.version,
        ),
        tracking_id=tracking_id,
        tracking_uid=tracking_uid,
        display_color=CIELabColor.from_rgb(*_COLOURS[(segment.segment_number - 1) % len(_COLOURS)]),
    )
    if segment.modifier is not None:
        description.SegmentedPropertyTypeCodeSequence[
            0
        ].SegmentedPropertyTypeModifierCodeSequence = [concept(segment.modifier)]
    if engine.limits:
        description.SegmentDescription = " ".join(engine.limits)[:1024]  # VR ST
    return description


_PROJECTION = {"CR", "DX", "IO", "MG", "PX", "RF", "RG", "XA"}
_CROSS_SECTION = {"CT", "MR", "PT"}


def plain_sr(
    finding: Finding,
    drawn: Sequence[Segment],
    copies: Sequence[Dataset],
    seg: Dataset | None,
    stamp: Stamp,
    listed: Sequence[Dataset],
    name: str,
) -> Dataset:
    reference = copies[0]
    report = sr.MeasurementReport(
        observation_context=_observer(finding, stamp),
        procedure_reported=_PROCEDURES.get(reference.get("Modality", ""), _ANY_PROCEDURE),
        imaging_measurements=_measurement_groups(finding, drawn, copies, seg),
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(
            _ENGLISH_US
        ),
        referenced_images=listed,
    )
    report[0].ContentSequence.append(_remarks(finding))
    dataset: Dataset = sr.Comprehensive3DSR(
        evidence=[*copies, *([] if seg is None else [seg])],
        content=report[0],
        is_complete=True,
        is_final=False,  # an algorithm's word is not the definitive one
        **common_arguments(finding, reference, stamp, name),
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
        name=_QUALITATIVE_EVALUATIONS,
        relationship_type=sr.RelationshipTypeValues.CONTAINS,
    )
    texts = (finding.summary, *finding.warnings, *finding.engine.limits, finding.engine.description)
    container.ContentSequence = sr.ContentSequence([_comment(text) for text in texts if text])
    return container


def library_entry(reference: Dataset) -> Dataset:
    """Return the source for the image library, with what its modality's descriptors need.

    highdicom fails on a projection without orientation and on a slice without thickness (TID 1603,
    1604). As modality OT the image is listed without those descriptors.
    """
    needed: tuple[str, ...] = ()
    if reference.get("Modality") in _PROJECTION:
        needed = ("PatientOrientation", "ImagerPixelSpacing")
    elif reference.get("Modality") in _CROSS_SECTION:
        needed = ("PixelSpacing", "SliceThickness", "ImagePositionPatient")
    if all(reference.get(keyword) for keyword in needed):
        return reference
    entry = deepcopy(reference)
    entry.Modality = "OT"
    return entry


_LATERALITIES = {"7771000", "24028007", "51440002", "66459002"}  # CID 244, SCT


def _measurement_groups(
    finding: Finding, drawn: Sequence[Segment], copies: Sequence[Dataset], seg: Dataset | None
) -> list[Any]:
    """Return highdicom's measurement groups, in the order in which the finding names things.

    Parameters
    ----------
    finding : Finding
        Of any kind.
    drawn : sequence of Segment
        Those that the SEG describes, in its order.
    copies : sequence of Dataset
        Of the source headers.
    seg : Dataset or None
        The Segmentation of the same finding; None where no segment has a voxel.
    """
    reference = copies[0]
    if finding.kind is FindingKind.SEGMENTATION:
        numbers = {segment.segment_number: number for number, segment in enumerate(drawn, start=1)}
        return [
            _absent_segment(segment, finding.engine, reference)
            if seg is None or segment.segment_number not in numbers
            else _segment(segment, numbers[segment.segment_number], seg, finding.engine, reference)
            for segment in finding.segments
        ]
    by_uid = {str(copy.SOPInstanceUID): copy for copy in copies}
    engine, series_uid = finding.engine, str(reference.SeriesInstanceUID)
    subjects = {
        said.sop_instance_uid: _Subject(engine, series_uid, by_uid.get(said.sop_instance_uid))
        for said in finding.statements
    }
    return [
        *(_classification(one, subjects[one.sop_instance_uid]) for one in finding.classifications),
        *(_quality(one, subjects[one.sop_instance_uid]) for one in finding.qualities),
        *(_value(one, subjects[one.sop_instance_uid]) for one in finding.values),
    ]


def _algorithm(engine: EngineIdentity, *parameters: str) -> sr.AlgorithmIdentification:
    """Return what made a group (PS3.16 TID 4019).

    Its family stands in the SEG only: readers that know an older TID 4019 take it for a finding.
    """
    return sr.AlgorithmIdentification(
        name=engine.name,
        version=engine.version,
        parameters=[
            f"model sha256 {engine.model_digest}",
            f"runtime {engine.runtime}",
            *parameters,
        ],
    )


def _comment(text: str) -> sr.TextContentItem:
    """Return a comment, in words."""
    return sr.TextContentItem(
        name=_COMMENT,
        value=text,
        relationship_type=sr.RelationshipTypeValues.CONTAINS,
    )


def _segment(
    segment: Segment, number: int, seg: Dataset, engine: EngineIdentity, reference: Dataset
) -> Any:
    common = _segment_arguments(segment, engine, reference)
    measurements = list(_numbers(segment.measurements))
    if "ImagePositionPatient" not in reference:
        # A projection has areas, not volumes; each segment of it is one frame.
        frame = sr.ReferencedSegmentationFrame(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            frame_number=number,
            segment_number=number,
            source_image=sr.SourceImageForSegmentation(
                referenced_sop_class_uid=reference.SOPClassUID,
                referenced_sop_instance_uid=reference.SOPInstanceUID,
            ),
        )
        # Frame or segment, never both (PS3.3 10.3, type 1C); highdicom writes both.
        if seg.SegmentationType == "LABELMAP":  # one frame has all segments
            del frame[0].ReferencedSOPSequence[0].ReferencedFrameNumber
        else:
            del frame[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
        flat = [one for one in measurements if one.name != _VOLUME]
        return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=frame, measurements=flat or None, **common
        )
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_segment=sr.ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=number,
            source_series=sr.SourceSeriesForSegmentation(reference.SeriesInstanceUID),
        ),
        measurements=measurements or None,
        **common,
    )


def _numbers(measurements: Sequence[Measurement]) -> Iterator[sr.Measurement]:
    """Yield measurements as TID 1419 has them; those without a code are for rules alone."""
    for one in measurements:
        if one.concept is not None:
            yield sr.Measurement(
                name=concept(one.concept),
                value=round(one.value, 3),
                unit=concept(one.unit),
                derivation=None if one.derivation is None else concept(one.derivation),
            )


def _absent_segment(segment: Segment, engine: EngineIdentity, reference: Dataset) -> Any:
    return sr.MeasurementsAndQualitativeEvaluations(
        qualitative_evaluations=[sr.QualitativeEvaluation(_PRESENCE, _ABSENT)],
        **_segment_arguments(segment, engine, reference),
    )


def _segment_arguments(
    segment: Segment, engine: EngineIdentity, reference: Dataset
) -> dict[str, Any]:
    return {
        "tracking_identifier": sr.TrackingIdentifier(
            uid=_tracking(segment, engine, reference.SeriesInstanceUID)[1],
            identifier=_tracking(segment, engine, reference.SeriesInstanceUID)[0],
        ),
        "finding_type": concept(segment.type),
        "finding_sites": _site(segment.type, segment.modifier),
        "algorithm_id": _algorithm(engine),
    }


def _site(anatomy: Code, modifier: Code | None) -> list[sr.FindingSite] | None:
    """Return where a segment is, if its type alone does not tell: the left of two lungs."""
    if modifier is None:
        return None
    role = "laterality" if modifier.value in _LATERALITIES else "topographical_modifier"
    site = sr.FindingSite(anatomic_location=concept(anatomy), **{role: concept(modifier)})
    return [site]


@dataclass(frozen=True)
class _Subject:
    """What is spoken of: an image, or the series as a whole."""

    engine: EngineIdentity
    series_uid: str
    image: Dataset | None

    def named(self, label: str, *what: str) -> dict[str, Any]:
        """Return the arguments that say of what a group speaks.

        Of a whole series no image is singled out: all of them are the report's evidence.
        """
        image_uid = "" if self.image is None else str(self.image.SOPInstanceUID)
        arguments: dict[str, Any] = {
            "tracking_identifier": sr.TrackingIdentifier(
                uid=identity.tracking_uid(self.engine, self.series_uid, image_uid, *what),
                identifier=f"{label} ({self.engine.name})",
            )
        }
        if self.image is not None:
            arguments["source_images"] = [
                sr.SourceImageForMeasurementGroup(
                    referenced_sop_class_uid=self.image.SOPClassUID,
                    referenced_sop_instance_uid=image_uid,
                )
            ]
        return arguments


def _classification(said: Classification, subject: _Subject) -> Any:
    return sr.MeasurementsAndQualitativeEvaluations(
        finding_type=concept(said.code),
        algorithm_id=_algorithm(subject.engine, f"threshold {said.threshold:g}"),
        measurements=[
            sr.Measurement(name=_PROBABILITY, value=round(said.probability, 4), unit=_NO_UNITS)
        ],
        qualitative_evaluations=[
            sr.QualitativeEvaluation(_PRESENCE, _PRESENT if said.present else _ABSENT)
        ],
        **subject.named(said.label, said.code.scheme, said.code.value, said.label),
    )


def _value(said: Value, subject: _Subject) -> Any:
    return sr.MeasurementsAndQualitativeEvaluations(
        finding_type=concept(said.code),
        algorithm_id=_algorithm(subject.engine),
        measurements=[
            sr.Measurement(
                name=concept(said.code),
                value=round(said.value, 4),
                unit=concept(said.unit),
            )
        ],
        **subject.named(said.label, "value", said.code.scheme, said.code.value, said.label),
    )


def _quality(said: Quality, subject: _Subject) -> Any:
    group = sr.MeasurementsAndQualitativeEvaluations(
        finding_type=_QUALITY_ASSESSMENT,
        algorithm_id=_algorithm(subject.engine),
        qualitative_evaluations=[sr.QualitativeEvaluation(_SERIES_QUALITY, _GRADES[said.grade])],
        **subject.named("Image quality", "quality"),
    )
    found = [f"{fault.name} ({fault.probability:.2f})" for fault in said.faults if fault.found]
    group[0].ContentSequence.extend([_comment(text) for text in (*found, *said.notes)])
    return group
