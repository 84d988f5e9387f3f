"""Functional groups: what must be in the shared item, or in each frame's (PS3.3 C.7.6.16).

Items that differ in their values only have the same attributes; so a Segmentation of ten thousand
frames has a few forms, and one item of each is judged by the tables.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.datadict import tag_for_keyword

from dicom_node.gate.attributes import conditional, missing_in_item
from dicom_node.gate.file import ResultFile, dataset_of
from dicom_node.uid import LABELMAP_SEGMENTATION_STORAGE

_LABELMAP = LABELMAP_SEGMENTATION_STORAGE
_PLACED = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
_SEQUENCE = "PerFrameFunctionalGroupsSequence"


def broken_groups(file: ResultFile, sop_class_uid: str) -> Iterator[str]:
    """Yield what is missing of frames; nothing of objects that have no frames."""
    dataset = file.dataset
    if "SharedFunctionalGroupsSequence" not in dataset:
        return
    if file.items is None:
        yield f"{_SEQUENCE} is missing (type 1)"
        return
    needed = {"FrameContentSequence"}
    if "FrameOfReferenceUID" in dataset:
        needed |= set(_PLACED)
    if "SegmentSequence" in dataset and sop_class_uid != _LABELMAP:
        needed.add("SegmentIdentificationSequence")
    shared = dataset.SharedFunctionalGroupsSequence[0]
    needed -= {keyword for keyword in needed if shared.get(keyword)}
    for alike in file.alike:
        where = f"{_SEQUENCE}[{int(alike.numbers[0]) + 1}]."
        for keyword in sorted(needed):
            if tag_for_keyword(keyword) not in alike.tags:
                yield f"{where}{keyword} is missing (type 1)"
        item = dataset_of(file.data, *alike.first)
        yield from missing_in_item(item, sop_class_uid, _SEQUENCE)
        yield from conditional(item, where)
