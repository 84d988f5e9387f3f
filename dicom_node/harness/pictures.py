"""Pictures of results for people: the source image with the SEG over it, or with the SR's words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset

from dicom_node.pictures import (
    Layer,
    captioned,
    grey_of,
    picture_of,
    pixel_aspect,
    segment_colour,
)

_SIDE = 768
_SHOWN = frozenset({"Finding", "Presence", "Imaging Series Quality"})
_SIDES = frozenset({"Laterality", "Topographical modifier"})
"""What tells two findings of one name apart: the right of two lungs. It follows the finding."""


def picture_of_seg(seg: Dataset, sources: Mapping[str, Path]) -> Image.Image:
    """Return the source slice that carries most of the segments, each in its own colour.

    Parameters
    ----------
    seg : Dataset
        A Segmentation with its pixels.
    sources : mapping
        The files of the source instances by SOP Instance UID.
    """
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    by_source: dict[str, list[tuple[int, NDArray[np.bool_]]]] = defaultdict(list)
    for item, frame in zip(seg.PerFrameFunctionalGroupsSequence, frames, strict=True):
        [number] = [
            int(group.ReferencedSegmentNumber) for group in item.SegmentIdentificationSequence
        ]
        derivation = item.DerivationImageSequence[0].SourceImageSequence[0]
        by_source[derivation.ReferencedSOPInstanceUID].append((number, frame > 0))
    fullest = max(by_source, key=lambda uid: sum(int(mask.sum()) for _, mask in by_source[uid]))
    layers = [Layer(mask, segment_colour(number)) for number, mask in by_source[fullest]]
    labels = [
        (str(segment.SegmentLabel), segment_colour(int(segment.SegmentNumber)))
        for segment in seg.SegmentSequence
    ]
    return captioned(_shown(sources[fullest], layers), labels)


def picture_of_sr(report: Dataset, sources: Mapping[str, Path]) -> Image.Image:
    """Return the middle one of the report's source images, with the report's rows under it."""
    uids = [
        str(instance.ReferencedSOPInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    ]
    known = [uid for uid in uids if uid in sources]
    shown = _shown(sources[known[len(known) // 2]])
    return captioned(shown, [(row, None) for row in rows_of_sr(report)])


def rows_of_sr(report: Dataset) -> list[str]:
    """Return what the measurement groups of a TID 1500 report say, a line for each value."""
    rows: list[str] = []
    for item in _content(_measurements(report)):
        name = _name(item)
        if item.ValueType == "NUM":
            value = item.MeasuredValueSequence[0]
            unit = value.MeasurementUnitsCodeSequence[0].CodeValue
            rows.append(f"{name}: {value.NumericValue} {'' if unit == '1' else unit}".rstrip())
        elif item.ValueType == "CODE" and name in _SHOWN:
            rows.append(f"{name}: {item.ConceptCodeSequence[0].CodeMeaning}")
        elif item.ValueType == "CODE" and name in _SIDES and rows:
            rows[-1] += f", {item.ConceptCodeSequence[0].CodeMeaning.lower()}"
        elif item.ValueType == "TEXT" and name == "Time Point":
            rows.append(f"{name}: {item.TextValue}")
    return rows


def _shown(path: Path, layers: list[Layer] | None = None) -> Image.Image:
    image = pydicom.dcmread(path, force=True)
    return picture_of(grey_of(image), layers or [], pixel_aspect(image), _SIDE)


def _content(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from _content(child)


def _name(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeMeaning) if names else ""


def _measurements(report: Dataset) -> Dataset:
    [container] = [item for item in _content(report) if _name(item) == "Imaging Measurements"]
    return container
