"""How a segment is described in a SEG, and how it is found again in the report."""

from __future__ import annotations

from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import SegmentDescription

from dicom_node.encode import codes, identity
from dicom_node.finding import EngineIdentity, Segment, TimePoint


def tracking_id(
    segment: Segment, engine: EngineIdentity, time_point: TimePoint | None = None
) -> str:
    """Return the Tracking ID of a segment, the same in SEG and SR."""
    which = "" if time_point is None else f", {time_point.short}"
    return f"{segment.label} ({engine.name}){which}"


def segment_tracking_uid(
    segment: Segment,
    engine: EngineIdentity,
    source_series_uid: str,
    time_point: TimePoint | None = None,
) -> str:
    """Return the Tracking UID of a segment, the same in SEG and SR.

    Each time point has its own: viewers take groups of one Tracking UID for one measurement, and
    OHIF would list the volumes of all time points together, without saying which is which.
    """
    which = [] if time_point is None else [time_point.key]
    return identity.tracking_uid(
        engine, source_series_uid, "segment", str(segment.segment_number), segment.label, *which
    )


def description(
    number: int,
    segment: Segment,
    engine: EngineIdentity,
    source_series_uid: str,
    time_point: TimePoint | None = None,
) -> SegmentDescription:
    """Return the item of a segment in the Segment Sequence (PS3.3 C.8.20.4)."""
    described = SegmentDescription(
        segment_number=number,
        segment_label=codes.long_string(segment.label),
        segmented_property_category=codes.concept(segment.category),
        segmented_property_type=codes.concept(segment.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=codes.long_string(engine.name),
            family=codes.concept(codes.ARTIFICIAL_INTELLIGENCE),
            version=codes.long_string(engine.version),
        ),
        tracking_id=tracking_id(segment, engine, time_point),
        tracking_uid=segment_tracking_uid(segment, engine, source_series_uid, time_point),
        display_color=codes.display_colour(segment.segment_number),
    )
    if segment.modifier is not None:
        described.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            codes.concept(segment.modifier)
        ]
    if engine.limits:
        described.SegmentDescription = " ".join(engine.limits)[:1024]  # VR ST
    return described
