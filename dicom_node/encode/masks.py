"""The masks of a Segmentation that we made, read back from its frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from dicom_node.errors import StudyUnusable
from dicom_node.headers import Part10, reading
from dicom_node.multiframe import frame_number_of


def read_masks(file: Part10) -> dict[str, dict[str, NDArray[np.uint8]]]:
    """Return what a SEG has drawn, by segment label and source.

    A source is named by its SOP Instance UID; a frame of it by that and its number: "1.2.3/4".

    Returns
    -------
    dict of dict of numpy.ndarray, uint8
        Each slice with eight pixels a byte, the last byte filled up with zeros.

    Raises
    ------
    StudyUnusable
        If it is broken, or not BINARY (PS3.3 C.8.20.2.3).
    """
    with reading("a Segmentation of ours"):
        with file.open("rb") as opened:
            dataset = pydicom.dcmread(opened)
        kind = str(dataset.SegmentationType)
        if kind != "BINARY":
            raise StudyUnusable(f"masks of a {kind} segmentation are not compared")
        labels = {int(one.SegmentNumber): str(one.SegmentLabel) for one in dataset.SegmentSequence}
        pixels = int(dataset.Rows) * int(dataset.Columns)
        masks: dict[str, dict[str, NDArray[np.uint8]]] = {}
        for index, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            [identified] = groups.SegmentIdentificationSequence
            label = labels[int(identified.ReferencedSegmentNumber)]
            frame = _frame(dataset.PixelData, index * pixels, pixels)
            masks.setdefault(label, {})[_source(groups)] = frame
        return masks


def _source(groups: Any) -> str:
    [derivation] = groups.DerivationImageSequence
    [source] = derivation.SourceImageSequence
    uid = str(source.ReferencedSOPInstanceUID)
    number = frame_number_of(source)
    return uid if number is None else f"{uid}/{number}"


def _frame(packed: bytes, first: int, pixels: int) -> NDArray[np.uint8]:
    """Return the bits of one frame; frames follow one another bit by bit (PS3.5 8.1.1)."""
    start, end = first // 8, -(-(first + pixels) // 8)
    part = np.frombuffer(packed[start:end], np.uint8)
    if first % 8 == 0 and pixels % 8 == 0:
        return part
    bits = np.unpackbits(part, bitorder="little")[first % 8 :][:pixels]
    return np.packbits(bits, bitorder="little")
