"""Finding to Grayscale Softcopy Presentation State: outlines and words over the source (A.33.1).

Viewers have shown presentation states since long before they showed Segmentations. A state speaks
for a whole stack: outlines of each segment on each slice, in a layer a segment, so that a viewer
can switch it off; names and statements in layers of text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage
from pydicom.valuerep import DS

from dicom_node.encode import codes
from dicom_node.encode.header import MANUFACTURER
from dicom_node.encode.key_slices import segments_on
from dicom_node.encode.material import Material, statements_on
from dicom_node.encode.outlines import outlines_of
from dicom_node.encode.segments import segment_tracking_uid, tracking_id
from dicom_node.encode.shell import Shell, images_by_series, reference_to, references_to
from dicom_node.finding import FindingKind

_POINTS_MAX = 8191
"""What fits into (0070,0022) *Graphic Data*: the length of an FL is 16 bits (PS3.5 7.1.2)."""

_NAMES = "NAMES"
_TEXT = "TEXT"


def make_states(material: Material) -> list[Dataset]:
    """Return the presentation states of a finding; times not yet set.

    One for the whole series; two where some images are MONOCHROME1 and some MONOCHROME2, because a
    state has one Presentation LUT; none for colour, which has no grey to be presented.

    References
    ----------
    PS3.3 A.33.1, C.10.5 (Graphic Annotation), C.11.10; PS3.4 N.2.1
    """
    by_photometric: dict[str, list[int]] = {}
    for index, source in enumerate(material.sources):
        photometric = str(source.get("PhotometricInterpretation", "MONOCHROME2"))
        if int(source.get("SamplesPerPixel", 1)) == 1:
            by_photometric.setdefault(photometric, []).append(index)
    return [
        _state(material, indices, photometric, number)
        for number, (photometric, indices) in enumerate(sorted(by_photometric.items()), start=1)
    ]


def _state(material: Material, indices: Sequence[int], photometric: str, number: int) -> Dataset:
    finding, sources = material.finding, [material.sources[index] for index in indices]
    state = Shell(
        material,
        "PR",
        GrayscaleSoftcopyPresentationStateStorage,
        "PR",
        material.disclaimer,
        number=number,
    )
    state.ContentLabel = codes.code_string(finding.engine.name)
    state.ContentDescription = codes.long_string(finding.engine.title)
    state.ContentCreatorName = f"{MANUFACTURER}^"
    state.ReferencedSeriesSequence = images_by_series(sources)
    state.DisplayedAreaSelectionSequence = _displayed_areas(sources)
    _set_modality_lut(state, sources)
    windows = _windows(sources)
    if windows:
        state.SoftcopyVOILUTSequence = windows
    state.PresentationLUTShape = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
    state.GraphicAnnotationSequence = [
        *(item for index in indices for item in _outlined(material, index)),
        *(item for index in indices for item in _said(material, index)),
        _signed(material),
    ]
    used = {str(item.GraphicLayer) for item in state.GraphicAnnotationSequence}
    state.GraphicLayerSequence = [
        layer for layer in _layers(material) if layer.GraphicLayer in used
    ]
    for order, layer in enumerate(state.GraphicLayerSequence, start=1):
        layer.GraphicLayerOrder = order
    return state


# ------------------------------------------------------------ graphics


def _layer_of(segment_number: int) -> str:
    return f"SEGMENT {segment_number}"


def _layers(material: Material) -> Iterator[Dataset]:
    for segment in material.drawn:
        layer = Dataset()
        layer.GraphicLayer = _layer_of(segment.segment_number)
        layer.GraphicLayerDescription = codes.long_string(segment.label)
        colour = codes.display_colour(segment.segment_number)
        layer.GraphicLayerRecommendedDisplayCIELabValue = list(colour.value)
        yield layer
    for name, description in ((_NAMES, "Names of the segments"), (_TEXT, "What was found")):
        layer = Dataset()
        layer.GraphicLayer = name
        layer.GraphicLayerDescription = description
        yield layer


def _outlined(material: Material, index: int) -> Iterator[Dataset]:
    """Yield an annotation for each segment on a slice, and one with their names."""
    finding, reference = material.finding, material.reference
    by_number = {segment.segment_number: segment for segment in finding.segments}
    names = []
    for number, mask in segments_on(finding, index):
        segment, outlines = by_number[number], outlines_of(mask)
        annotation = _annotation(_layer_of(number), material.sources[index])
        annotation.GraphicObjectSequence = [
            _polyline(part) for outline in outlines for part in _parts(outline)
        ]
        for graphic in annotation.GraphicObjectSequence:
            graphic.TrackingID = tracking_id(segment, finding.engine, finding.time_point)
            graphic.TrackingUID = segment_tracking_uid(
                segment, finding.engine, reference.SeriesInstanceUID, finding.time_point
            )
        yield annotation
        names.append(_anchored(segment.label, max(outlines, key=len)[0]))
    if names:
        annotation = _annotation(_NAMES, material.sources[index])
        annotation.TextObjectSequence = names
        yield annotation


def _said(material: Material, index: int) -> Iterator[Dataset]:
    """Yield what is said of one image alone."""
    finding, uid = material.finding, material.finding.sop_instance_uids[index]
    if finding.kind is FindingKind.SEGMENTATION or not any(
        one.sop_instance_uid == uid for one in finding.statements
    ):
        return
    annotation = _annotation(_TEXT, material.sources[index])
    lines = [text for text, _ in statements_on(finding, uid)]
    annotation.TextObjectSequence = [_boxed(lines, (0.02, 0.02, 0.98, 0.3))]
    yield annotation


def _signed(material: Material) -> Dataset:
    """Return what stands on every image: who says so, what it is not for, and on the whole what."""
    finding = material.finding
    lines = [material.disclaimer, material.engine_line, *finding.warnings]
    if not any(one.sop_instance_uid for one in finding.statements):
        lines += [text for text, _ in statements_on(finding, "")]
    annotation = Dataset()
    annotation.GraphicLayer = _TEXT
    annotation.TextObjectSequence = [_boxed(lines, (0.02, 0.7, 0.98, 0.98))]
    return annotation


def _annotation(layer: str, source: Dataset) -> Dataset:
    annotation = Dataset()
    annotation.ReferencedImageSequence = [reference_to(source)]
    annotation.GraphicLayer = layer
    return annotation


def _parts(outline: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return an outline in parts that can be written, each beginning where the last one ends."""
    step = _POINTS_MAX - 1
    return [outline[first : first + _POINTS_MAX] for first in range(0, len(outline) - 1, step)]


def _polyline(points: NDArray[np.float32]) -> Dataset:
    graphic = Dataset()
    graphic.GraphicAnnotationUnits = "PIXEL"
    graphic.GraphicDimensions = 2
    graphic.NumberOfGraphicPoints = len(points)
    graphic.GraphicData = points.ravel().tolist()
    graphic.GraphicType = "POLYLINE"
    graphic.GraphicFilled = "N"
    return graphic


def _anchored(text: str, point: NDArray[np.float32]) -> Dataset:
    words = Dataset()
    words.AnchorPointAnnotationUnits = "PIXEL"
    words.UnformattedTextValue = text[:1024]
    words.AnchorPoint = point.tolist()
    words.AnchorPointVisibility = "N"
    return words


def _boxed(lines: Iterable[str], box: tuple[float, float, float, float]) -> Dataset:
    words = Dataset()
    words.BoundingBoxAnnotationUnits = "DISPLAY"
    words.UnformattedTextValue = "\r\n".join(lines)[:1024]
    words.BoundingBoxTopLeftHandCorner = list(box[:2])
    words.BoundingBoxBottomRightHandCorner = list(box[2:])
    words.BoundingBoxTextHorizontalJustification = "LEFT"
    return words


# ------------------------------------------------------------ how the source is shown


def _displayed_areas(sources: Sequence[Dataset]) -> list[Dataset]:
    """Return that each image is shown in whole, fitted, in its proportions."""
    by_shape: dict[tuple[int, int, tuple[float, ...]], list[Dataset]] = {}
    for source in sources:
        spacing = tuple(float(mm) for mm in source.get("PixelSpacing") or ())
        if not all(mm > 0 for mm in spacing):
            spacing = ()
        by_shape.setdefault((source.Rows, source.Columns, spacing), []).append(source)
    areas = []
    for (rows, columns, spacing), members in by_shape.items():
        area = Dataset()
        if len(by_shape) > 1:
            area.ReferencedImageSequence = references_to(members)
        area.DisplayedAreaTopLeftHandCorner = [1, 1]
        area.DisplayedAreaBottomRightHandCorner = [columns, rows]
        area.PresentationSizeMode = "SCALE TO FIT"
        if spacing:
            area.PresentationPixelSpacing = [DS(mm, auto_format=True) for mm in spacing]
        else:
            area.PresentationPixelAspectRatio = [1, 1]
        areas.append(area)
    return areas


def _set_modality_lut(state: Dataset, sources: Sequence[Dataset]) -> None:
    """Repeat the rescale of the source: a state replaces it, and has one for all images.

    Where it differs from image to image (PET) the state has none; then it has no window either.
    """
    if not _rescaled_alike(sources):
        return
    first = sources[0]
    if first.get("ModalityLUTSequence"):
        state.ModalityLUTSequence = deepcopy(first.ModalityLUTSequence)
    elif "RescaleSlope" in first and "RescaleIntercept" in first:
        state.RescaleSlope = first.RescaleSlope
        state.RescaleIntercept = first.RescaleIntercept
        usual = "HU" if first.get("Modality") == "CT" else "US"
        state.RescaleType = first.get("RescaleType") or usual


def _rescaled_alike(sources: Sequence[Dataset]) -> bool:
    keywords = ("RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence")
    first = [sources[0].get(keyword) for keyword in keywords]
    return all([source.get(keyword) for keyword in keywords] == first for source in sources)


def _windows(sources: Sequence[Dataset]) -> list[Dataset]:
    """Return the first window of each image, once for all images that share it."""
    if not _rescaled_alike(sources):
        return []
    by_window: dict[tuple[str, str, str], list[Dataset]] = {}
    for source in sources:
        centre, width = (_first(source.get(f"Window{what}")) for what in ("Center", "Width"))
        if centre and width:
            function = str(source.get("VOILUTFunction") or "")
            by_window.setdefault((centre, width, function), []).append(source)
    windows = []
    for (centre, width, function), members in by_window.items():
        window = Dataset()
        if len(members) < len(sources):
            window.ReferencedImageSequence = references_to(members)
        window.WindowCenter, window.WindowWidth = centre, width
        if function:
            window.VOILUTFunction = function
        windows.append(window)
    return windows


def _first(value: object) -> str:
    if isinstance(value, MultiValue | list | tuple):
        value = value[0] if value else None
    return "" if value is None else str(value)
