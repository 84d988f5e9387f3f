"""Pictures of results for people: the source image with the SEG over it, or with the SR's words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

_SIDE = 768
_OPACITY = 0.45
_COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167))
"""Okabe and Ito's colours: told apart by colour-blind readers too."""

_SHOWN = frozenset({"Finding", "Presence", "Imaging Series Quality"})


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
    grey = grey_of(sources[fullest])
    rgb = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    for number, mask in by_source[fullest]:
        colour = np.array(_COLOURS[(number - 1) % len(_COLOURS)], dtype=np.float32)
        rgb[mask] = (1 - _OPACITY) * rgb[mask] + _OPACITY * colour
    picture = _fitted(Image.fromarray(rgb.astype(np.uint8)))
    labels = [
        (segment.SegmentLabel, _COLOURS[(int(segment.SegmentNumber) - 1) % len(_COLOURS)])
        for segment in seg.SegmentSequence
    ]
    return _captioned(picture, labels)


def picture_of_sr(report: Dataset, sources: Mapping[str, Path]) -> Image.Image:
    """Return the first source image that the report refers to, with the report's rows under it."""
    uids = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in _content(report)
        if item.ValueType == "IMAGE"
    ]
    [first, *_] = [uid for uid in uids if uid in sources]
    picture = _fitted(Image.fromarray(grey_of(sources[first])).convert("RGB"))
    return _captioned(picture, [(row, (255, 255, 255)) for row in rows_of_sr(report)])


def rows_of_sr(report: Dataset) -> list[str]:
    """Return what the measurement groups of a TID 1500 report say, a line for each value."""
    rows = []
    for item in _content(_measurements(report)):
        name = _name(item)
        if item.ValueType == "NUM":
            value = item.MeasuredValueSequence[0]
            unit = value.MeasurementUnitsCodeSequence[0].CodeValue
            rows.append(f"{name}: {value.NumericValue} {'' if unit == '1' else unit}".rstrip())
        elif item.ValueType == "CODE" and name in _SHOWN:
            rows.append(f"{name}: {item.ConceptCodeSequence[0].CodeMeaning}")
    return rows


def grey_of(path: Path) -> NDArray[np.uint8]:
    """Return an image as a radiologist sees it: modality and VOI LUT applied, 0 is black."""
    dataset = pydicom.dcmread(path, force=True)
    shown = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    low, high = float(shown.min()), float(shown.max())
    scaled = (shown - low) / max(high - low, 1e-6)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        scaled = 1 - scaled
    return np.asarray(255 * scaled, dtype=np.uint8)


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


def _fitted(picture: Image.Image) -> Image.Image:
    scale = _SIDE / max(picture.size)
    size = (round(picture.width * scale), round(picture.height * scale))
    return picture.resize(size, Image.Resampling.BILINEAR)


def _captioned(picture: Image.Image, lines: list[tuple[str, tuple[int, int, int]]]) -> Image.Image:
    font = ImageFont.load_default(size=18)
    height = 26 * len(lines) + 12
    whole = Image.new("RGB", (picture.width, picture.height + height))
    whole.paste(picture)
    draw = ImageDraw.Draw(whole)
    for i, (text, colour) in enumerate(lines):
        draw.text((12, picture.height + 6 + 26 * i), text, font=font, fill=colour)
    return whole
