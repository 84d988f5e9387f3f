"""Finding to Segmentation: BINARY, Explicit VR Little Endian (PS3.3 A.51)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.encode import codes, identity
from dicom_node.encode.header import MANUFACTURER, Stamp, common_arguments
from dicom_node.encode.sources import name_sources
from dicom_node.errors import InvariantBroken
from dicom_node.finding import EngineIdentity, Finding, Segment
from dicom_node.uid import derived_uid

Mask = NDArray[np.uint8] | NDArray[np.bool_]


def drawn_segments(finding: Finding, sources: Sequence[Dataset]) -> tuple[Segment, ...]:
    """Return the segments that have voxels, by number: those that a SEG describes.

    In the SEG they are numbered anew from 1 (PS3.3 C.8.20.2 wants numbers without gaps).

    Raises
    ------
    InvariantBroken
        If the mask does not lie on the grid of its sources, or has voxels of a segment that the
        finding does not describe.
    """
    mask = finding.mask
    if mask is None or mask.dtype != (np.bool_ if mask.ndim == 4 else np.uint8):
        raise InvariantBroken(f"a segmentation has a mask of {getattr(mask, 'dtype', None)}")
    for source in sources:
        expected = (len(sources), source.get("Rows"), source.get("Columns"))
        if mask.shape[-3:] != expected or mask.ndim not in (3, 4):
            raise InvariantBroken(f"the mask is {mask.shape}, its sources {expected}")
    counts = _counts(mask)
    known = {segment.segment_number for segment in finding.segments}
    unknown = set(np.flatnonzero(counts).tolist()) - known - {0}
    if unknown:
        raise InvariantBroken(f"the mask has voxels of undescribed segments {sorted(unknown)}")
    if mask.ndim == 4 and known != set(range(1, len(mask) + 1)):
        raise InvariantBroken(f"{len(mask)} overlapping maps for the segments {sorted(known)}")
    ordered = sorted(finding.segments, key=lambda segment: segment.segment_number)
    return tuple(segment for segment in ordered if counts[segment.segment_number])


def _counts(mask: Mask) -> NDArray[np.int64]:
    """Return how many voxels each segment number has."""
    counts = np.zeros(256, np.int64)
    if mask.ndim == 4:
        counts[1 : len(mask) + 1] = [np.count_nonzero(one) for one in mask]
        return counts
    for plane in mask:  # bincount makes a copy of 8 bytes a voxel
        counts += np.bincount(plane.ravel(), minlength=256)
    return counts


def make_seg(
    finding: Finding, drawn: Sequence[Segment], copies: Sequence[Dataset], stamp: Stamp
) -> Dataset:
    """Return the Segmentation of a finding whose mask is not empty.

    Parameters
    ----------
    finding : Finding
        With a mask.
    drawn : sequence of Segment
        From `drawn_segments`, at least one.
    copies : sequence of Dataset
        Of the source headers, from `copies_of`, in the order of the mask's slices.
    stamp : Stamp
        The job's time and the node.

    Returns
    -------
    Dataset
        As highdicom made it, times and Patient's Name not yet set.
    """
    reference = copies[0]
    dataset: Dataset = Segmentation(
        source_images=list(copies),
        pixel_array=_pixels(finding.mask, drawn),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _description(number, segment, finding.engine, reference.SeriesInstanceUID)
            for number, segment in enumerate(drawn, start=1)
        ],
        content_label=codes.code_string(finding.engine.name),
        content_description=codes.long_string(finding.engine.title),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **common_arguments(finding, reference, stamp, "SEG"),
    )
    dataset.ContentCreatorName = f"{MANUFACTURER}^"  # type 2; no person made it
    if "ImagePositionPatient" not in reference:
        # Without a plane orientation it is type 2C (PS3.3 C.7.6.1).
        dataset.PatientOrientation = reference.get("PatientOrientation")
    if "SpacingBetweenSlices" not in reference:
        _forget_spacing(dataset)
    _fix_dimension_organization(dataset)
    name_sources(dataset, copies)
    return dataset


def _pixels(mask: Mask | None, drawn: Sequence[Segment]) -> Mask:
    """Return the drawn segments, numbered anew; one map each, last axis, only if any overlap."""
    if mask is None:
        raise InvariantBroken("segments are drawn, but there is no mask")
    numbers = [segment.segment_number for segment in drawn]
    if mask.ndim == 3:
        renumbered = np.zeros(256, np.uint8)
        renumbered[numbers] = range(1, len(drawn) + 1)
        return renumbered[mask]
    rows = [number - 1 for number in numbers]
    labels = np.zeros(mask.shape[1:], np.uint8)
    for index, plane in enumerate(labels):
        maps = mask[rows, index]
        if np.count_nonzero(maps) != np.count_nonzero(maps.any(axis=0)):
            return np.moveaxis(mask[rows], 0, -1)
        for number, one in enumerate(maps, start=1):
            plane[one] = number
    return labels


def tracking_id(segment: Segment, engine: EngineIdentity) -> str:
    """Return the Tracking ID of a segment, the same in SEG and SR."""
    return f"{segment.label} ({engine.name})"


def segment_tracking_uid(segment: Segment, engine: EngineIdentity, source_series_uid: str) -> str:
    """Return the Tracking UID of a segment, the same in SEG and SR."""
    return identity.tracking_uid(
        engine, source_series_uid, "segment", str(segment.segment_number), segment.label
    )


def _description(
    number: int, segment: Segment, engine: EngineIdentity, source_series_uid: str
) -> SegmentDescription:
    description = SegmentDescription(
        segment_number=number,
        segment_label=codes.long_string(segment.label),
        segmented_property_category=codes.concept(segment.category),
        segmented_property_type=codes.concept(segment.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=codes.long_string(engine.name),
            family=codes.ARTIFICIAL_INTELLIGENCE,
            version=codes.long_string(engine.version),
        ),
        tracking_id=tracking_id(segment, engine),
        tracking_uid=segment_tracking_uid(segment, engine, source_series_uid),
        display_color=codes.display_colour(segment.segment_number),
    )
    if segment.modifier is not None:
        description.SegmentedPropertyTypeCodeSequence[
            0
        ].SegmentedPropertyTypeModifierCodeSequence = [codes.concept(segment.modifier)]
    if engine.limits:
        description.SegmentDescription = " ".join(engine.limits)[:1024]  # VR ST
    return description


def _forget_spacing(dataset: Dataset) -> None:
    """Remove the spacing of 1 mm that highdicom gives to a single slice."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for measures in shared.get("PixelMeasuresSequence", ()):
        if "SpacingBetweenSlices" in measures:
            del measures.SpacingBetweenSlices


def _fix_dimension_organization(dataset: Dataset) -> None:
    """Replace the random Dimension Organization UID that highdicom makes."""
    uid = derived_uid("dimensions", dataset.SOPInstanceUID)
    for item in [*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence]:
        item.DimensionOrganizationUID = uid
