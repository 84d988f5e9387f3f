"""Presentation states: the outlines are the mask's, and the image is shown as its source says."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage

from dicom_node.encode.presentation import make_states
from dicom_node.encode.segments import segment_tracking_uid
from tests.factories import make_ct_series, make_xray
from tests.unit.encode.findings import (
    classification,
    headers_of,
    of_series,
    overlapping,
    quality,
    segmentation,
)
from tests.unit.encode.materials import content_of, material_of, written
from tests.unit.encode.test_outlines import filled

CT = make_ct_series(6, WindowCenter=-600, WindowWidth=1500)
HEADERS = headers_of(CT)
LUNGS = material_of(segmentation(HEADERS), CT)


def state_of(material: object) -> Dataset:
    [made] = make_states(material)  # type: ignore[arg-type]
    return written(made, material)  # type: ignore[arg-type]


def drawn_in(state: Dataset, uid: str, layer: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels inside of the polylines of one layer on one image."""
    outlines = [
        np.array(graphic.GraphicData, np.float32).reshape(-1, 2)
        for item in state.GraphicAnnotationSequence
        if item.GraphicLayer == layer
        and item.ReferencedImageSequence[0].ReferencedSOPInstanceUID == uid
        for graphic in item.GraphicObjectSequence
    ]
    return filled(outlines, shape)


def texts_on(state: Dataset, uid: str | None) -> str:
    """Return all words on an image; `None`: those on every image."""
    return "\n".join(
        text.UnformattedTextValue
        for item in state.GraphicAnnotationSequence
        for text in item.get("TextObjectSequence", ())
        if uid is None
        or uid in [one.ReferencedSOPInstanceUID for one in item.get("ReferencedImageSequence", ())]
        if (uid is None) == ("ReferencedImageSequence" not in item)
    )


def test_each_slice_has_the_outlines_of_its_segments() -> None:
    state, mask = state_of(LUNGS), LUNGS.finding.mask
    assert mask is not None
    for index, header in enumerate(HEADERS):
        for number in (1, 2):
            inside = drawn_in(state, header.SOPInstanceUID, f"SEGMENT {number}", (64, 64))
            np.testing.assert_array_equal(inside, mask[index] == number)


def test_segments_that_overlap_are_drawn_in_whole() -> None:
    material = material_of(overlapping(HEADERS), CT)
    state, maps = state_of(material), material.finding.mask
    assert maps is not None
    inside = drawn_in(state, HEADERS[2].SOPInstanceUID, "SEGMENT 1", (64, 64))
    np.testing.assert_array_equal(inside, maps[0, 2])


def test_a_segment_is_a_layer_with_its_name_colour_and_tracking_uid() -> None:
    state = state_of(LUNGS)
    layers = {layer.GraphicLayer: layer for layer in state.GraphicLayerSequence}
    assert set(layers) == {"SEGMENT 1", "SEGMENT 2", "NAMES", "TEXT"}
    assert layers["SEGMENT 2"].GraphicLayerDescription == "Left lung"
    assert len(layers["SEGMENT 2"].GraphicLayerRecommendedDisplayCIELabValue) == 3
    graphic = state.GraphicAnnotationSequence[0].GraphicObjectSequence[0]
    segment = LUNGS.finding.segments[0]
    assert graphic.TrackingUID == segment_tracking_uid(
        segment, LUNGS.finding.engine, HEADERS[0].SeriesInstanceUID
    )
    assert "Left lung" in texts_on(state, HEADERS[0].SOPInstanceUID)


def test_every_image_tells_engine_version_and_what_it_is_not_for() -> None:
    words = texts_on(state_of(LUNGS), None)
    assert "ct-lungs 1.0.0 on dicom_node 0.1.0" in words
    assert "NOT FOR DIAGNOSTIC USE" in words
    assert "Two slices are missing." in words


def test_statements_stand_on_the_images_that_they_speak_of() -> None:
    xrays = [make_xray(number=1), make_xray(number=2)]
    state = state_of(material_of(quality(headers_of(xrays)), xrays))
    assert "Image quality: limited; Rotated (0.91)" in texts_on(state, xrays[1].SOPInstanceUID)
    whole = state_of(material_of(of_series(classification(HEADERS)), CT))
    assert "Pneumonia: present (probability 0.93" in texts_on(whole, None)


def test_the_stack_is_shown_with_the_windows_and_the_rescale_of_its_source() -> None:
    state = state_of(LUNGS)
    [series] = state.ReferencedSeriesSequence
    assert len(series.ReferencedImageSequence) == 6
    [window] = state.SoftcopyVOILUTSequence
    assert (window.WindowCenter, window.WindowWidth) == (-600, 1500)
    assert "ReferencedImageSequence" not in window
    assert (state.RescaleSlope, state.RescaleIntercept, state.RescaleType) == (1, 0, "HU")
    assert state.PresentationLUTShape == "IDENTITY"


def test_windows_that_differ_are_told_image_by_image() -> None:
    slices = make_ct_series(3, WindowCenter=40, WindowWidth=400)
    slices[2].WindowCenter = 80
    state = state_of(material_of(segmentation(headers_of(slices)), slices))
    told = [
        (window.WindowCenter, len(window.ReferencedImageSequence))
        for window in state.SoftcopyVOILUTSequence
    ]
    assert told == [(40, 2), (80, 1)]


def test_a_rescale_that_differs_from_slice_to_slice_is_not_made_one() -> None:
    slices = make_ct_series(3, WindowCenter=40, WindowWidth=400)
    slices[1].RescaleSlope = 2.0
    state = state_of(material_of(segmentation(headers_of(slices)), slices))
    assert "RescaleSlope" not in state
    assert "SoftcopyVOILUTSequence" not in state


def test_monochrome1_is_shown_inverse_and_apart_from_monochrome2() -> None:
    xrays = [make_xray(number=1), make_xray(number=2, PhotometricInterpretation="MONOCHROME1")]
    states = make_states(material_of(classification(headers_of(xrays)), xrays))
    assert [one.PresentationLUTShape for one in states] == ["INVERSE", "IDENTITY"]
    assert len({one.SOPInstanceUID for one in states}) == 2


def test_colour_has_no_grey_to_be_presented() -> None:
    xray = make_xray(SamplesPerPixel=3, PhotometricInterpretation="RGB")
    assert make_states(material_of(classification(headers_of([xray])), [xray])) == []


def test_pixels_that_are_not_square_are_shown_in_their_shape() -> None:
    slices = make_ct_series(2, spacing_mm=(2.0, 1.5, 0.5))
    [area] = state_of(material_of(segmentation(headers_of(slices)), slices)).get(
        "DisplayedAreaSelectionSequence"
    )
    assert area.PresentationPixelSpacing == [1.5, 0.5]
    assert area.DisplayedAreaBottomRightHandCorner == [64, 64]


def test_an_outline_longer_than_an_element_is_written_in_parts() -> None:
    comb = np.zeros((1, 512, 512), np.uint8)
    comb[0, 0] = 1
    comb[0, :, ::2] = 1  # 256 teeth
    comb[0, 5:505:4, 1::4] = 1  # that are jagged
    slices = make_ct_series(pixels=np.zeros((1, 512, 512), np.int16))
    finding = segmentation(headers_of(slices), comb)
    state = state_of(material_of(finding, slices))
    [item, *_] = state.GraphicAnnotationSequence
    lengths = [graphic.NumberOfGraphicPoints for graphic in item.GraphicObjectSequence]
    assert len(lengths) > 1
    assert max(lengths) <= 8191
    inside = drawn_in(state, slices[0].SOPInstanceUID, "SEGMENT 1", (512, 512))
    np.testing.assert_array_equal(inside, comb[0] == 1)


@pytest.mark.parametrize("make", [segmentation, classification])
def test_the_same_material_gives_the_same_bytes(make: object) -> None:
    first, second = (
        material_of(make(headers_of(CT)), CT)  # type: ignore[operator]
        for _ in range(2)
    )
    assert [content_of(one, first) for one in make_states(first)] == [
        content_of(one, second) for one in make_states(second)
    ]


def test_frames_of_one_instance_are_named_by_their_numbers() -> None:
    frames = make_ct_series(4)
    headers = headers_of(frames)
    instance_uid = str(headers[0].SOPInstanceUID)
    for number, header in enumerate(headers, start=1):
        header.SOPClassUID, header.SOPInstanceUID = EnhancedCTImageStorage, instance_uid
        header.ReferencedFrameNumber = number
    finding = segmentation(headers)
    state = state_of(material_of(finding, frames, headers))
    [series] = state.ReferencedSeriesSequence
    [image] = series.ReferencedImageSequence
    assert image.ReferencedSOPClassUID == EnhancedCTImageStorage
    assert image.ReferencedSOPInstanceUID == instance_uid
    assert image.ReferencedFrameNumber == [1, 2, 3, 4]
    outlined = [
        item.ReferencedImageSequence[0].ReferencedFrameNumber
        for item in state.GraphicAnnotationSequence
        if item.GraphicLayer == "SEGMENT 2"
    ]
    assert outlined == [1, 2, 3, 4]
