"""Secondary Capture: the overlay and the words are in the pixels, the rest is in the header."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node.encode.capture import make_captures
from tests.factories import make_ct_series, make_xray
from tests.unit.encode.findings import classification, headers_of, quality, segmentation
from tests.unit.encode.materials import content_of, material_of, written

CT = make_ct_series(6)
CT_HEADERS = headers_of(CT)
LUNGS = material_of(segmentation(CT_HEADERS), CT)
XRAYS = [make_xray(number=1), make_xray(number=2)]


def test_a_capture_is_a_colour_picture_of_a_key_slice() -> None:
    [made] = make_captures(LUNGS)
    capture = written(made, LUNGS)
    [index] = LUNGS.key_slices.indices
    assert capture.SOPClassUID == SecondaryCaptureImageStorage
    assert (capture.BurnedInAnnotation, capture.ConversionType) == ("YES", "WSD")
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == CT[index].SOPInstanceUID
    pixels = capture.pixel_array
    assert pixels.shape == (capture.Rows, capture.Columns, 3)
    colours = {tuple(colour) for colour in pixels.reshape(-1, 3).tolist()}
    assert {(31, 119, 180), (255, 127, 14)} <= colours  # the outlines of both lungs


def test_the_patient_stands_in_the_header_and_not_in_the_pixels() -> None:
    [made] = make_captures(LUNGS)
    assert written(made, LUNGS).PatientName == "Synthetic^Patient"
    others = make_ct_series(6, PatientName="Other^Name", PatientID="X")
    [other] = make_captures(material_of(segmentation(headers_of(others)), others))
    assert other.PixelData == made.PixelData


def test_the_disclaimer_is_whatever_was_configured_and_makes_another_instance() -> None:
    [first] = make_captures(LUNGS)
    other = material_of(segmentation(CT_HEADERS), CT, disclaimer="ONLY FOR RESEARCH")
    [second] = make_captures(other)
    banner = slice(0, 40)
    assert (written(first, LUNGS).pixel_array != written(second, other).pixel_array)[banner].any()
    np.testing.assert_array_equal(
        written(first, LUNGS).pixel_array[60:], written(second, other).pixel_array[60:]
    )
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID


@pytest.mark.parametrize("make", [classification, quality])
def test_each_image_that_matters_has_a_capture_of_its_own(make: object) -> None:
    finding = make(headers_of(XRAYS))  # type: ignore[operator]
    material = material_of(finding, XRAYS)
    captures = make_captures(material)
    assert [one.InstanceNumber for one in captures] == [1, 2]
    assert len({one.SOPInstanceUID for one in captures}) == 2
    assert len({one.SeriesInstanceUID for one in captures}) == 1


def test_the_same_material_gives_the_same_bytes() -> None:
    again = material_of(segmentation(CT_HEADERS), CT)
    assert [content_of(one, LUNGS) for one in make_captures(LUNGS)] == [
        content_of(one, again) for one in make_captures(again)
    ]


def test_a_capture_of_an_image_that_was_compressed_with_loss_says_so() -> None:
    lossy = make_ct_series(
        3, LossyImageCompression="01", LossyImageCompressionRatio=[9.5],
        LossyImageCompressionMethod=["ISO_10918_1"],
    )  # fmt: skip
    material = material_of(segmentation(headers_of(lossy)), lossy)
    [made] = make_captures(material)
    assert made.LossyImageCompression == "01"
    assert made.LossyImageCompressionRatio == 9.5
