"""The Segmentation: the mask in patient space, the segments' descriptions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from dicom_node.encode.results import encode
from tests.factories import AXIAL, CORONAL, SAGITTAL, make_ct_series, make_xray
from tests.unit.encode.findings import (
    STAMP,
    blobs,
    headers_of,
    overlapping,
    read,
    segmentation,
    unpacked,
    unpacked_maps,
)

OBLIQUE = (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)
PRONE = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)


@pytest.mark.parametrize(
    ("arguments", "spacing_mm"),
    [
        ({"orientation": AXIAL}, 2.0),
        ({"orientation": CORONAL}, 2.0),
        ({"orientation": SAGITTAL}, 2.0),
        ({"orientation": PRONE}, 2.0),
        ({"orientation": OBLIQUE, "spacing_mm": (2.5, 0.5, 0.75)}, 2.5),
        ({"SpacingBetweenSlices": 7.0}, 2.0),
        ({"slices": 1}, None),
        ({"pixels": np.zeros((5, 61, 47), np.int16)}, 2.0),
        ({"SliceThickness": None}, 2.0),
    ],
    ids=[
        "axial",
        "coronal",
        "sagittal",
        "prone",
        "oblique, pixels not square",
        "spacing wrong in the source",
        "one slice",
        "frames that end inside a byte",
        "no slice thickness",
    ],
)
def test_the_mask_comes_back_voxel_for_voxel_at_its_place(
    arguments: dict[str, Any], spacing_mm: float | None
) -> None:
    sources = headers_of(make_ct_series(**({"slices": 5} | arguments)))
    seg = read(encode(segmentation(sources), sources, STAMP)[0])

    np.testing.assert_array_equal(unpacked(seg, sources), blobs(sources))
    shared = seg.SharedFunctionalGroupsSequence[0]
    assert shared.PixelMeasuresSequence[0].get("SpacingBetweenSlices") == spacing_mm
    assert shared.PixelMeasuresSequence[0].PixelSpacing == sources[0].PixelSpacing
    orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    assert orientation == sources[0].ImageOrientationPatient
    assert seg.FrameOfReferenceUID == sources[0].FrameOfReferenceUID
    assert seg.SegmentationType == "BINARY"


@pytest.mark.parametrize("reverse", [False, True])
def test_slices_that_are_missing_or_reversed_stay_at_their_places(reverse: bool) -> None:
    sources = headers_of(make_ct_series(7))
    del sources[3]
    sources = sources[::-1] if reverse else sources
    seg = read(encode(segmentation(sources), sources, STAMP)[0])

    np.testing.assert_array_equal(unpacked(seg, sources), blobs(sources))
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert "SpacingBetweenSlices" not in measures


def test_orientations_that_differ_in_the_last_digit_are_one() -> None:
    instances = make_ct_series(3)
    instances[1].ImageOrientationPatient = [1.0, 0.0000001, 0.0, 0.0, 1.0, 0.0]
    sources = headers_of(instances)
    seg = read(encode(segmentation(sources), sources, STAMP)[0])
    np.testing.assert_array_equal(unpacked(seg, sources), blobs(sources))


def test_a_segment_without_voxels_is_left_out_and_the_rest_is_numbered_anew() -> None:
    sources = headers_of(make_ct_series(4))
    mask = np.where(blobs(sources) == 2, 2, 0).astype(np.uint8)
    seg = read(encode(segmentation(sources, mask), sources, STAMP)[0])

    assert [(item.SegmentNumber, item.SegmentLabel) for item in seg.SegmentSequence] == [
        (1, "Left lung")
    ]
    np.testing.assert_array_equal(unpacked(seg, sources), mask // 2)
    whole = read(encode(segmentation(sources), sources, STAMP)[0])
    colours = [item.RecommendedDisplayCIELabValue for item in whole.SegmentSequence]
    assert seg.SegmentSequence[0].RecommendedDisplayCIELabValue == colours[1]
    assert colours[0] != colours[1]


def test_segments_that_overlap_come_back_each_whole() -> None:
    sources = headers_of(make_ct_series(4))
    finding = overlapping(sources)
    seg = read(encode(finding, sources, STAMP)[0])
    np.testing.assert_array_equal(unpacked_maps(seg, sources), finding.mask)
    assert seg.SegmentsOverlap == "YES"
    assert [item.SegmentLabel for item in seg.SegmentSequence] == ["Lung", "Lobe"]


def test_maps_that_do_not_overlap_are_said_not_to() -> None:
    sources = headers_of(make_ct_series(4))
    maps = np.stack([blobs(sources) == 1, blobs(sources) == 2])
    seg = read(encode(overlapping(sources, maps), sources, STAMP)[0])
    np.testing.assert_array_equal(unpacked_maps(seg, sources), maps)
    assert seg.SegmentsOverlap == "NO"


def test_a_map_without_voxels_is_left_out_and_the_rest_is_numbered_anew() -> None:
    sources = headers_of(make_ct_series(4))
    maps = np.stack([np.zeros_like(blobs(sources), np.bool_), blobs(sources) > 0])
    seg = read(encode(overlapping(sources, maps), sources, STAMP)[0])
    np.testing.assert_array_equal(unpacked_maps(seg, sources), maps[1:])
    assert [(i.SegmentNumber, i.SegmentLabel) for i in seg.SegmentSequence] == [(1, "Lobe")]


def _seg() -> FileDataset:
    sources = headers_of(make_ct_series(3))
    return read(encode(segmentation(sources), sources, STAMP)[0])


def test_a_segment_says_what_it_is_and_who_drew_it() -> None:
    item = _seg().SegmentSequence[0]

    def code(sequence: Any) -> tuple[str, str]:
        return sequence[0].CodeValue, sequence[0].CodingSchemeDesignator

    assert code(item.SegmentedPropertyCategoryCodeSequence) == ("123037004", "SCT")
    assert code(item.SegmentedPropertyTypeCodeSequence) == ("39607008", "SCT")
    modifier = item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence
    assert code(modifier) == ("24028007", "SCT")
    assert item.SegmentAlgorithmType == "AUTOMATIC"
    assert item.SegmentAlgorithmName == "ct-lungs"
    algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
    assert code(algorithm.AlgorithmFamilyCodeSequence) == ("123110", "DCM")
    assert algorithm.AlgorithmVersion == "1.0.0"
    assert item.SegmentDescription == "Trained on adults. Not for children."


def test_an_x_ray_without_frame_of_reference_has_a_seg_of_its_one_frame_a_segment() -> None:
    sources = headers_of([make_xray(PixelSpacing=[0.0, 0.0])])
    seg, report = (read(result) for result in encode(segmentation(sources), sources, STAMP))

    np.testing.assert_array_equal(unpacked(seg, sources), blobs(sources))
    assert "FrameOfReferenceUID" not in seg
    assert "PixelMeasuresSequence" not in seg.SharedFunctionalGroupsSequence[0]
    assert seg.PatientOrientation == ["L", "F"]
    assert "Referenced Segmentation Frame" in str(report)
    assert "118565006" not in str(report), "a projection has no volume"
