"""Finding to Segmentation, in one of its three encodings (PS3.3 A.51).

Theory of operation: highdicom makes a Segmentation of one frame on the first source, with every
argument, so header, segments, dimensions and equipment are its own. What grows with slices and
segments is written beside it: the references to the sources, an item a frame, the frames. The
result equals what highdicom makes of the whole mask, in a fraction of its time and memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import product

import imagecodecs
import numpy as np
from highdicom.seg import (
    Segmentation,
    SegmentationFractionalTypeValues,
    SegmentationTypeValues,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from dicom_node.encode import codes
from dicom_node.encode.content import reference_item
from dicom_node.encode.drafts import Draft, Pieces
from dicom_node.encode.drawing import Drawing
from dicom_node.encode.explicit import item, sequence, text
from dicom_node.encode.frame_items import FrameItems
from dicom_node.encode.frames import Frame, PackedFrames, encapsulated
from dicom_node.encode.header import MANUFACTURER, Stamp, common_arguments
from dicom_node.encode.planes import Planes, planes_of
from dicom_node.encode.runs import frame_of_labels, framed
from dicom_node.encode.segments import description
from dicom_node.encode.sources import reference_of
from dicom_node.errors import InvariantBroken
from dicom_node.finding import Finding
from dicom_node.uid import derived_uid

_FRACTION_MAX = 255


class SegEncoding(StrEnum):
    """How a Segmentation holds its voxels (PS3.3 C.8.20.2.3)."""

    BINARY = "BINARY"
    """A bit a voxel, a frame for each segment and slice: every viewer reads it."""
    LABELMAP = "LABELMAP"
    """A label a voxel, run-length encoded: a hundredth of the bytes, for those that know it."""
    FRACTIONAL = "FRACTIONAL"
    """A probability a voxel and segment, run-length encoded; few viewers show it."""


def encoding_for(drawing: Drawing, wanted: SegEncoding) -> SegEncoding:
    """Return the wanted encoding, or BINARY where segments overlap: a label map cannot."""
    if wanted is SegEncoding.LABELMAP and drawing.overlaps:
        return SegEncoding.BINARY
    return wanted


def make_seg(
    finding: Finding,
    drawing: Drawing,
    copies: Sequence[Dataset],
    stamp: Stamp,
    encoding: SegEncoding = SegEncoding.BINARY,
    kind: str = "SEG",
) -> Draft:
    """Return the Segmentation of a finding whose mask is not empty.

    Parameters
    ----------
    finding : Finding
        With a mask.
    drawing : Drawing
        Of the finding, with at least one segment. Its mask must stay as it is for as long as the
        pieces of the draft are in use.
    copies : sequence of Dataset
        Of the source headers, from `copies_of`, in the order of the mask's slices.
    stamp : Stamp
        The job's time and the node.
    encoding : SegEncoding
        From `encoding_for`.
    kind : str
        From which its identity follows, another for each encoding.

    Returns
    -------
    Draft
        Times and Patient's Name not yet set.
    """
    planes = planes_of(copies)
    frames, pixels = _FRAMES[encoding](finding, drawing, planes)
    dataset = _stub(finding, drawing, copies[0], stamp, encoding, kind)
    dataset.NumberOfFrames = len(frames)
    by_segment = encoding is not SegEncoding.LABELMAP
    if by_segment:
        dataset.SegmentsOverlap = _overlap(finding, drawing, encoding)
    several = by_segment and len(drawing.segments) > 1
    if not several and planes.are_regular(sorted({plane for _, plane in frames})):
        dataset.DimensionOrganizationType = "3D"
    items = FrameItems(planes, frames, by_segment=by_segment, tells_segment=several)
    written: dict[str, Pieces] = {
        **_references(copies),
        "PerFrameFunctionalGroupsSequence": items,
        "PixelData": pixels,
    }
    for keyword in written:
        del dataset[keyword]
    return Draft(dataset, written)


def _binary(finding: Finding, drawing: Drawing, planes: Planes) -> tuple[list[Frame], Pieces]:
    frames = _frames_of(drawing.present, planes)
    return frames, PackedFrames(drawing, frames)


def _labelmap(finding: Finding, drawing: Drawing, planes: Planes) -> tuple[list[Frame], Pieces]:
    drawn = set(np.flatnonzero(drawing.present.any(axis=0)).tolist())
    frames = [(0, plane) for plane in planes.order if plane in drawn]
    return frames, encapsulated([frame_of_labels(drawing.labels(plane)) for _, plane in frames])


def _fractional(finding: Finding, drawing: Drawing, planes: Planes) -> tuple[list[Frame], Pieces]:
    if finding.probabilities is None:
        frames = _frames_of(drawing.present, planes)
        return frames, encapsulated([_full(drawing, *frame) for frame in frames])
    maps = _probabilities(finding, drawing)
    frames = _frames_of(drawn_or_probable(finding, drawing), planes)
    return frames, encapsulated([_packed(maps[segment][plane]) for segment, plane in frames])


def drawn_or_probable(finding: Finding, drawing: Drawing) -> NDArray[np.bool_]:
    """Return where each segment has voxels or any probability, (segments, slices).

    A hole that was filled, or a low threshold, draws where the network says zero.
    """
    if finding.probabilities is None:
        return drawing.present
    maps = _probabilities(finding, drawing)
    probable = np.array([[plane.any() for plane in one] for one in maps], np.bool_)
    either: NDArray[np.bool_] = drawing.present | probable
    return either


_FRAMES = {
    SegEncoding.BINARY: _binary,
    SegEncoding.LABELMAP: _labelmap,
    SegEncoding.FRACTIONAL: _fractional,
}


def _frames_of(present: NDArray[np.bool_], planes: Planes) -> list[Frame]:
    """Return the frames that are not empty: segment by segment, along the normal."""
    segments = range(len(present))
    return [(one, plane) for one, plane in product(segments, planes.order) if present[one, plane]]


def _full(drawing: Drawing, segment: int, plane: int) -> bytes:
    """Return a frame of a mask that is certain of itself."""
    shape = drawing.mask.shape[-2:]
    voxels = np.empty(shape[0] * shape[1], np.bool_)
    drawing.voxels(segment, plane, voxels)
    return frame_of_labels(voxels.reshape(shape) * np.uint8(_FRACTION_MAX))


def _packed(plane: NDArray[np.uint8]) -> bytes:
    """Return a frame whose neighbours differ, with literal runs: each row by itself."""
    return framed(bytes(imagecodecs.packbits_encode(np.ascontiguousarray(plane), axis=-1)))


def _probabilities(finding: Finding, drawing: Drawing) -> list[NDArray[np.uint8]]:
    maps = finding.probabilities
    shape = (len(finding.segments), *drawing.mask.shape[-3:])
    if maps is None or maps.shape != shape or maps.dtype != np.uint8:
        raise InvariantBroken(f"probabilities are no {shape} of uint8")
    numbers = sorted(segment.segment_number for segment in finding.segments)
    return [maps[numbers.index(segment.segment_number)] for segment in drawing.segments]


def _overlap(finding: Finding, drawing: Drawing, encoding: SegEncoding) -> str:
    """Return Segments Overlap; of probabilities of several nobody can say (PS3.3 C.8.20.2)."""
    if encoding is SegEncoding.FRACTIONAL and finding.probabilities is not None:
        return "UNDEFINED" if len(drawing.segments) > 1 else "NO"
    return "YES" if drawing.overlaps else "NO"


def _stub(
    finding: Finding,
    drawing: Drawing,
    reference: Dataset,
    stamp: Stamp,
    encoding: SegEncoding,
    kind: str,
) -> Dataset:
    """Return a Segmentation of one frame: all that does not depend on the mask."""
    engine = finding.engine
    one_voxel = np.zeros((1, reference.Rows, reference.Columns), np.uint8)
    one_voxel[0, 0, 0] = 1
    is_known = finding.probabilities is not None
    fractions = SegmentationFractionalTypeValues
    is_binary = encoding is SegEncoding.BINARY
    dataset: Dataset = Segmentation(
        source_images=[reference],
        pixel_array=one_voxel,
        segmentation_type=SegmentationTypeValues(encoding.value),
        segment_descriptions=[
            description(number, segment, engine, reference.SeriesInstanceUID, finding.time_point)
            for number, segment in enumerate(drawing.segments, start=1)
        ],
        fractional_type=fractions.PROBABILITY if is_known else fractions.OCCUPANCY,
        max_fractional_value=_FRACTION_MAX,
        content_label=codes.code_string(engine.name),
        content_description=codes.long_string(_described(finding)),
        transfer_syntax_uid=ExplicitVRLittleEndian if is_binary else RLELossless,
        **common_arguments(finding, reference, stamp, kind),
    )
    dataset.ContentCreatorName = f"{MANUFACTURER}^"  # type 2; no person made it
    if "ImagePositionPatient" not in reference:
        # Without a plane orientation it is type 2C (PS3.3 C.7.6.1).
        dataset.PatientOrientation = reference.get("PatientOrientation")
    if "SpacingBetweenSlices" not in reference:
        _forget_spacing(dataset)
    _fix_dimension_organization(dataset)
    return dataset


def _described(finding: Finding) -> str:
    """Return what a SEG is, in words: which time point it is of before all else."""
    which = [] if finding.time_point is None else [finding.time_point.in_words]
    return ": ".join([*which, finding.engine.title])


def _references(copies: Sequence[Dataset]) -> dict[str, Pieces]:
    """Return the elements that name every source, each instance once."""
    named = {one.sop_instance_uid: one.sop_class_uid for one in map(reference_of, copies)}
    references = [reference_item(sop_class_uid, uid) for uid, sop_class_uid in named.items()]
    series = item(
        sequence("ReferencedInstanceSequence", *references),
        text("SeriesInstanceUID", str(copies[0].SeriesInstanceUID)),
    )
    return {
        "ReferencedSeriesSequence": (sequence("ReferencedSeriesSequence", series),),
        "SourceImageSequence": (sequence("SourceImageSequence", *references),),
    }


def _forget_spacing(dataset: Dataset) -> None:
    """Remove the spacing of 1 mm that highdicom gives to a single slice."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for measures in shared.get("PixelMeasuresSequence", ()):
        if "SpacingBetweenSlices" in measures:
            del measures.SpacingBetweenSlices


def _fix_dimension_organization(dataset: Dataset) -> None:
    """Replace the random Dimension Organization UID that highdicom makes."""
    uid = derived_uid("dimensions", dataset.SOPInstanceUID)
    for item_ in [*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence]:
        item_.DimensionOrganizationUID = uid
