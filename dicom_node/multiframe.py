"""The frames of an enhanced multi-frame image, each as if it were an instance by itself.

An enhanced CT or MR (PS3.3 A.38, A.36) holds a whole stack: what all frames share stands in one
place, what differs in an item for each frame, both folded into functional groups. Here they are
unfolded: a frame gets a header of its own in which (0020,0032) *Image Position (Patient)* and the
others stand where a single-frame image has them, and (0008,1160) *Referenced Frame Number* says
which frame of its instance it is. So nothing behind it has to know two kinds of images, and only
who refers to a source (encode) and who reads its pixels (infer) has to ask for the number.
"""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_node.errors import StudyUnusable
from dicom_node.headers import reading, tag_of, value_at

SHARED = "SharedFunctionalGroupsSequence"
PER_FRAME = "PerFrameFunctionalGroupsSequence"

_SHARED, _PER_FRAME = tag_of(SHARED), tag_of(PER_FRAME)
_NUMBER_OF_FRAMES = tag_of("NumberOfFrames")
_FOLDED = frozenset({SHARED, PER_FRAME, "NumberOfFrames", "DimensionIndexSequence"})
_NOT_OF_THE_FRAME = frozenset(
    {"ReferencedImageSequence", "DerivationImageSequence", "RealWorldValueMappingSequence"}
)
"""Macros that speak of other images, or of a mapping with a unit of its own."""
_FRAME_TYPES = frozenset({"CTImageFrameTypeSequence", "MRImageFrameTypeSequence"})
_NUMBER = "ReferencedFrameNumber"


def is_multiframe(header: Dataset) -> bool:
    """Return whether an image has several frames, or is of a kind that may have."""
    return (
        value_at(header, _NUMBER_OF_FRAMES) not in (None, "", 1)
        or _SHARED in header
        or _PER_FRAME in header
    )


def frame_number_of(header: Dataset) -> int | None:
    """Return the Frame Number of a frame's header; None for a single-frame instance."""
    number = header.get(_NUMBER)
    return None if number is None else int(number)


def frames_of(header: Dataset) -> list[Dataset]:
    """Return a header for each frame of an enhanced multi-frame image, in their order.

    Elements are shared with `header`, not copied: treat all of them as read-only.

    Raises
    ------
    StudyUnusable
        If the frames are not described one by one: a cine loop has no places (PS3.3 C.7.6.16).
    """
    uid = header.get("SOPInstanceUID", "")
    described = header.get(PER_FRAME) or ()
    if not described:
        raise StudyUnusable(
            f"instance {uid}: a multi-frame object that does not describe its frames",
            hint="only enhanced multi-frame images say where each frame lies",
        )
    with reading(f"the functional groups of instance {uid}"):
        count = int(header.NumberOfFrames)
        if len(described) != count:
            raise StudyUnusable(
                f"instance {uid}: {len(described)} frames are described, but it says it has {count}"
            )
        common = Dataset({e.tag: e for e in header if e.keyword not in _FOLDED})
        for shared in header.get(SHARED) or ():
            _unfold(shared, common)
        return [_frame(common, groups, header, n) for n, groups in enumerate(described, 1)]


def _frame(common: Dataset, groups: Dataset, header: Dataset, number: int) -> Dataset:
    frame = Dataset({e.tag: e for e in common})
    _unfold(groups, frame)
    frame.add_new(_NUMBER, "IS", number)
    if hasattr(header, "file_meta"):
        frame.file_meta = header.file_meta
    return frame


def _unfold(groups: Dataset, into: Dataset) -> None:
    """Add what the macros of a frame say to its header; those of several items say no one thing."""
    for macro in groups:
        if macro.VR != "SQ" or macro.tag.is_private or macro.keyword in _NOT_OF_THE_FRAME:
            continue
        items: Sequence = macro.value
        if len(items) != 1:
            continue
        for element in items[0]:
            if not element.tag.is_private:
                into[element.tag] = element
        if macro.keyword in _FRAME_TYPES and "FrameType" in items[0]:
            # a new element: the one that is there is shared with the other frames
            into.add_new("ImageType", "CS", items[0].FrameType)
