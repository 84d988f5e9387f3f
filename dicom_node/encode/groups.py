"""One Measurement Group for each thing that a finding says (PS3.16 TID 1410, 1411, 1501).

A thing that was looked for and not found has a group as well, with Presence = Absent: a report
never says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_node.encode import codes, identity
from dicom_node.encode.content import (
    CONTAINS,
    HAS_CONCEPT_MODIFIER,
    HAS_OBSERVATION_CONTEXT,
    code_item,
    container,
    image_item,
    number_item,
    reference_item,
    text_item,
    uid_item,
)
from dicom_node.encode.segments import segment_tracking_uid, tracking_id
from dicom_node.finding import (
    Classification,
    Code,
    EngineIdentity,
    Finding,
    FindingKind,
    Measurement,
    Quality,
    Segment,
    TimePoint,
    Value,
)

_GROUP = Code("125007", "DCM", "Measurement Group")
_TRACKING_ID = Code("112039", "DCM", "Tracking Identifier")
_TRACKING_UID = Code("112040", "DCM", "Tracking Unique Identifier")
_FINDING = Code("121071", "DCM", "Finding")
_FINDING_SITE = Code("363698007", "SCT", "Finding Site")
_LATERALITY = Code("272741003", "SCT", "Laterality")
_MODIFIER = Code("106233006", "SCT", "Topographical modifier")
_ALGORITHM_NAME = Code("111001", "DCM", "Algorithm Name")
_ALGORITHM_VERSION = Code("111003", "DCM", "Algorithm Version")
_ALGORITHM_PARAMETERS = Code("111002", "DCM", "Algorithm Parameters")
_TIME_POINT = Code("C2348792", "UMLS", "Time Point")
_TIME_POINT_ID = Code("126070", "DCM", "Subject Time Point Identifier")
_DERIVATION = Code("121401", "DCM", "Derivation")
_REFERENCED_SEGMENT = Code("121191", "DCM", "Referenced Segment")
_REFERENCED_FRAME = Code("121214", "DCM", "Referenced Segmentation Frame")
_SOURCE_SERIES = Code("121232", "DCM", "Source Series for Segmentation")
_SOURCE_IMAGE = Code("121233", "DCM", "Source Image for Segmentation")
_SOURCE_OF_MEASUREMENT = Code("121112", "DCM", "Source of Measurement")
_LATERALITIES = frozenset({"7771000", "24028007", "51440002", "66459002"})  # CID 244, SCT

_REGION, _VOLUME, _OTHER = "1410", "1411", "1501"
"""The templates: a planar region, a volume, and what has no region."""


def measurement_groups(
    finding: Finding, drawn: Sequence[Segment], copies: Sequence[Dataset], seg: Dataset | None
) -> list[bytes]:
    """Return the measurement groups, in the order in which the finding names things.

    Parameters
    ----------
    finding : Finding
        Of any kind.
    drawn : sequence of Segment
        Those that have voxels, in the order in which a SEG describes them.
    copies : sequence of Dataset
        Of the source headers.
    seg : Dataset or None
        The Segmentation of the same finding; None where its tree has none: then a segment that was
        found is told with its measurements, and refers to no region.
    """
    reference = copies[0]
    said_of = _Whose(finding.engine, str(reference.SeriesInstanceUID), finding.time_point)
    if finding.kind is FindingKind.SEGMENTATION:
        numbers = {segment.segment_number: number for number, segment in enumerate(drawn, start=1)}
        return [
            _absent_segment(segment, said_of)
            if segment.segment_number not in numbers
            else _told_segment(segment, said_of)
            if seg is None
            else _segment(segment, numbers[segment.segment_number], seg, said_of, reference)
            for segment in finding.segments
        ]
    by_uid = {str(copy.SOPInstanceUID): copy for copy in copies}
    subjects = {
        said.sop_instance_uid: _Subject(said_of, by_uid.get(said.sop_instance_uid))
        for said in finding.statements
    }
    return [
        *(_classification(one, subjects[one.sop_instance_uid]) for one in finding.classifications),
        *(_quality(one, subjects[one.sop_instance_uid]) for one in finding.qualities),
        *(_value(one, subjects[one.sop_instance_uid]) for one in finding.values),
    ]


def comment(text: str) -> bytes:
    """Return a comment, in words."""
    return text_item(CONTAINS, codes.COMMENT, text)


@dataclass(frozen=True)
class _Whose:
    """Who says something, of which series, and of which of its time points."""

    engine: EngineIdentity
    series_uid: str
    time_point: TimePoint | None

    def context(self) -> tuple[bytes, ...]:
        """Return which time point a group is of (PS3.16 TID 1502).

        Without (126073, DCM, Time Point Order), which has a place there: PixelMed's validator takes
        every number of a group for a measurement.
        """
        if self.time_point is None:
            return ()
        return (
            text_item(HAS_OBSERVATION_CONTEXT, _TIME_POINT, self.time_point.in_words),
            text_item(HAS_OBSERVATION_CONTEXT, _TIME_POINT_ID, self.time_point.key),
        )


def _algorithm(engine: EngineIdentity, *parameters: str) -> tuple[bytes, ...]:
    """Return what made a group (PS3.16 TID 4019).

    Its family stands in the SEG only: readers that know an older TID 4019 take it for a finding.
    """
    all_parameters = (
        f"model sha256 {engine.model_digest}",
        f"runtime {engine.runtime}",
        *parameters,
    )
    return (
        text_item(HAS_CONCEPT_MODIFIER, _ALGORITHM_NAME, engine.name),
        text_item(HAS_CONCEPT_MODIFIER, _ALGORITHM_VERSION, engine.version),
        *(text_item(HAS_CONCEPT_MODIFIER, _ALGORITHM_PARAMETERS, one) for one in all_parameters),
    )


def _tracked(identifier: str, uid: str) -> tuple[bytes, bytes]:
    return (
        text_item(HAS_OBSERVATION_CONTEXT, _TRACKING_ID, identifier),
        uid_item(HAS_OBSERVATION_CONTEXT, _TRACKING_UID, uid),
    )


def _segment(
    segment: Segment, number: int, seg: Dataset, said_of: _Whose, reference: Dataset
) -> bytes:
    named = _named_segment(segment, said_of)
    measured = segment.measurements
    seg_uids = str(seg.SOPClassUID), str(seg.SOPInstanceUID)
    if "ImagePositionPatient" not in reference:
        # A projection has areas, not volumes. Each segment of it is one frame, but of a label map,
        # where one frame has all; frame or segment, never both (PS3.3 10.3, type 1C).
        drawn = (
            reference_item(*seg_uids, segment_number=number)
            if seg.SegmentationType == "LABELMAP"
            else reference_item(*seg_uids, frame_number=number)
        )
        source = reference_item(str(reference.SOPClassUID), str(reference.SOPInstanceUID))
        return container(
            _GROUP,
            *named,
            *_numbers([one for one in measured if not _is_volume(one)]),
            image_item(_REFERENCED_FRAME, drawn),
            image_item(_SOURCE_IMAGE, source),
            template=_REGION,
        )
    return container(
        _GROUP,
        *named,
        *_numbers(measured),
        image_item(_REFERENCED_SEGMENT, reference_item(*seg_uids, segment_number=number)),
        uid_item(CONTAINS, _SOURCE_SERIES, str(reference.SeriesInstanceUID)),
        template=_VOLUME,
    )


def _is_volume(measurement: Measurement) -> bool:
    concept = measurement.concept
    return concept is not None and (concept.value, concept.scheme) == ("118565006", "SCT")


def _numbers(measurements: Sequence[Measurement]) -> Iterator[bytes]:
    """Yield measurements as TID 1419 has them; those without a code are for rules alone."""
    for one in measurements:
        if one.concept is not None:
            derivation = (
                []
                if one.derivation is None
                else [code_item(HAS_CONCEPT_MODIFIER, _DERIVATION, one.derivation)]
            )
            yield number_item(CONTAINS, one.concept, round(one.value, 3), one.unit, *derivation)


def _absent_segment(segment: Segment, said_of: _Whose) -> bytes:
    return container(
        _GROUP,
        *_named_segment(segment, said_of),
        code_item(CONTAINS, codes.PRESENCE, codes.ABSENT),
        template=_OTHER,
    )


def _told_segment(segment: Segment, said_of: _Whose) -> bytes:
    """Return the group of a segment that was found and is drawn nowhere in its tree."""
    return container(
        _GROUP,
        *_named_segment(segment, said_of),
        *_numbers(segment.measurements),
        code_item(CONTAINS, codes.PRESENCE, codes.PRESENT),
        template=_OTHER,
    )


def _named_segment(segment: Segment, said_of: _Whose) -> tuple[bytes, ...]:
    engine, time_point = said_of.engine, said_of.time_point
    return (
        *_tracked(
            tracking_id(segment, engine, time_point),
            segment_tracking_uid(segment, engine, said_of.series_uid, time_point),
        ),
        *said_of.context(),
        code_item(CONTAINS, _FINDING, segment.type),
        *_site(segment.type, segment.modifier),
        *_algorithm(engine),
    )


def _site(anatomy: Code, modifier: Code | None) -> tuple[bytes, ...]:
    """Return where a segment is, if its type alone does not tell: the left of two lungs."""
    if modifier is None:
        return ()
    role = _LATERALITY if modifier.value in _LATERALITIES else _MODIFIER
    modified = code_item(HAS_CONCEPT_MODIFIER, role, modifier)
    return (code_item(HAS_CONCEPT_MODIFIER, _FINDING_SITE, anatomy, modified),)


@dataclass(frozen=True)
class _Subject:
    """What is spoken of: an image, or the series as a whole."""

    whose: _Whose
    image: Dataset | None

    @property
    def engine(self) -> EngineIdentity:
        return self.whose.engine

    def tracked(self, label: str, *what: str) -> tuple[bytes, ...]:
        """Return how a group about it is found again in later reports, and its time point."""
        time_point = self.whose.time_point
        image_uid = "" if self.image is None else str(self.image.SOPInstanceUID)
        which = [] if time_point is None else [time_point.key]
        uid = identity.tracking_uid(self.engine, self.whose.series_uid, image_uid, *what, *which)
        named = "" if time_point is None else f", {time_point.short}"
        tracked = _tracked(f"{label} ({self.engine.name}){named}", uid)
        return (*tracked, *self.whose.context())

    def named(self) -> tuple[bytes, ...]:
        """Return the image; of a whole series none is singled out, all are the evidence."""
        if self.image is None:
            return ()
        reference = reference_item(str(self.image.SOPClassUID), str(self.image.SOPInstanceUID))
        return (image_item(_SOURCE_OF_MEASUREMENT, reference),)


def _classification(said: Classification, subject: _Subject) -> bytes:
    presence = codes.PRESENT if said.present else codes.ABSENT
    return container(
        _GROUP,
        *subject.tracked(said.label, said.code.scheme, said.code.value, said.label),
        code_item(CONTAINS, _FINDING, said.code),
        *_algorithm(subject.engine, f"threshold {said.threshold:g}"),
        number_item(CONTAINS, codes.PROBABILITY, round(said.probability, 4), codes.NO_UNITS),
        code_item(CONTAINS, codes.PRESENCE, presence),
        *subject.named(),
        template=_OTHER,
    )


def _value(said: Value, subject: _Subject) -> bytes:
    return container(
        _GROUP,
        *subject.tracked(said.label, "value", said.code.scheme, said.code.value, said.label),
        code_item(CONTAINS, _FINDING, said.code),
        *_algorithm(subject.engine),
        number_item(CONTAINS, said.code, round(said.value, 4), said.unit),
        *subject.named(),
        template=_OTHER,
    )


def _quality(said: Quality, subject: _Subject) -> bytes:
    found = [f"{fault.name} ({fault.probability:.2f})" for fault in said.faults if fault.found]
    return container(
        _GROUP,
        *subject.tracked("Image quality", "quality"),
        code_item(CONTAINS, _FINDING, codes.QUALITY_ASSESSMENT),
        *_algorithm(subject.engine),
        code_item(CONTAINS, codes.SERIES_QUALITY, codes.GRADES[said.grade]),
        *subject.named(),
        *(comment(text) for text in (*found, *said.notes)),
        template=_OTHER,
    )
