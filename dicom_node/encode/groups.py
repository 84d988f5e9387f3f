"""One Measurement Group for each thing that a finding says (PS3.16 TID 1410, 1411, 1501).

A thing that was looked for and not found has a group as well, with Presence = Absent: a report
never says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from highdicom import sr
from pydicom.dataset import Dataset

from dicom_node.encode import codes, identity
from dicom_node.encode.seg import segment_tracking_uid, tracking_id
from dicom_node.finding import (
    Classification,
    Code,
    EngineIdentity,
    Finding,
    FindingKind,
    Measurement,
    Quality,
    Segment,
    Value,
)

_LATERALITIES = {"7771000", "24028007", "51440002", "66459002"}  # CID 244, SCT


def measurement_groups(
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


def algorithm(engine: EngineIdentity, *parameters: str) -> sr.AlgorithmIdentification:
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


def comment(text: str) -> sr.TextContentItem:
    """Return a comment, in words."""
    return sr.TextContentItem(
        name=codes.COMMENT,
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
        del frame[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
        flat = [one for one in measurements if one.name != codes.VOLUME]
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
                name=codes.concept(one.concept),
                value=round(one.value, 3),
                unit=codes.concept(one.unit),
                derivation=None if one.derivation is None else codes.concept(one.derivation),
            )


def _absent_segment(segment: Segment, engine: EngineIdentity, reference: Dataset) -> Any:
    return sr.MeasurementsAndQualitativeEvaluations(
        qualitative_evaluations=[sr.QualitativeEvaluation(codes.PRESENCE, codes.ABSENT)],
        **_segment_arguments(segment, engine, reference),
    )


def _segment_arguments(
    segment: Segment, engine: EngineIdentity, reference: Dataset
) -> dict[str, Any]:
    return {
        "tracking_identifier": sr.TrackingIdentifier(
            uid=segment_tracking_uid(segment, engine, reference.SeriesInstanceUID),
            identifier=tracking_id(segment, engine),
        ),
        "finding_type": codes.concept(segment.type),
        "finding_sites": _site(segment.type, segment.modifier),
        "algorithm_id": algorithm(engine),
    }


def _site(anatomy: Code, modifier: Code | None) -> list[sr.FindingSite] | None:
    """Return where a segment is, if its type alone does not tell: the left of two lungs."""
    if modifier is None:
        return None
    role = "laterality" if modifier.value in _LATERALITIES else "topographical_modifier"
    site = sr.FindingSite(
        anatomic_location=codes.concept(anatomy), **{role: codes.concept(modifier)}
    )
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
        finding_type=codes.concept(said.code),
        algorithm_id=algorithm(subject.engine, f"threshold {said.threshold:g}"),
        measurements=[
            sr.Measurement(
                name=codes.PROBABILITY, value=round(said.probability, 4), unit=codes.NO_UNITS
            )
        ],
        qualitative_evaluations=[
            sr.QualitativeEvaluation(
                codes.PRESENCE, codes.PRESENT if said.present else codes.ABSENT
            )
        ],
        **subject.named(said.label, said.code.scheme, said.code.value, said.label),
    )


def _value(said: Value, subject: _Subject) -> Any:
    return sr.MeasurementsAndQualitativeEvaluations(
        finding_type=codes.concept(said.code),
        algorithm_id=algorithm(subject.engine),
        measurements=[
            sr.Measurement(
                name=codes.concept(said.code),
                value=round(said.value, 4),
                unit=codes.concept(said.unit),
            )
        ],
        **subject.named(said.label, "value", said.code.scheme, said.code.value, said.label),
    )


def _quality(said: Quality, subject: _Subject) -> Any:
    group = sr.MeasurementsAndQualitativeEvaluations(
        finding_type=codes.QUALITY_ASSESSMENT,
        algorithm_id=algorithm(subject.engine),
        qualitative_evaluations=[
            sr.QualitativeEvaluation(codes.SERIES_QUALITY, codes.GRADES[said.grade])
        ],
        **subject.named("Image quality", "quality"),
    )
    found = [f"{fault.name} ({fault.probability:.2f})" for fault in said.faults if fault.found]
    group[0].ContentSequence.extend([comment(text) for text in (*found, *said.notes)])
    return group
