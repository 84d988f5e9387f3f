"""Which images stand for a finding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dicom_node.encode.key_slices import KeySlices, areas_of, key_slices, segments_on
from dicom_node.finding import QualityGrade
from tests.factories import make_ct_series, make_xray
from tests.unit.encode.findings import (
    classification,
    headers_of,
    of_series,
    overlapping,
    quality,
    regression,
    segmentation,
)

CT = headers_of(make_ct_series(9))
XRAYS = headers_of([make_xray(number=number) for number in range(1, 7)])


def mask_of(**areas: dict[int, int]) -> NDArray[np.uint8]:
    """Return a mask with so many pixels of a segment (`one`, `two`) in a slice."""
    mask = np.zeros((9, 64, 64), np.uint8)
    for number, slices in enumerate(areas.values(), start=1):
        for index, count in slices.items():
            mask[index, number, :count] = number
    return mask


def test_one_slice_is_enough_where_all_segments_are_at_their_largest() -> None:
    mask = mask_of(one={2: 10, 3: 30}, two={3: 20, 5: 15})
    assert key_slices(segmentation(CT, mask)) == KeySlices((3,), carry=True)


def test_segments_that_lie_apart_have_a_slice_each() -> None:
    mask = mask_of(one={1: 10, 2: 30}, two={7: 20, 8: 40})
    assert key_slices(segmentation(CT, mask)) == KeySlices((2, 8), carry=True)


def test_a_mere_tip_of_a_segment_does_not_show_it() -> None:
    mask = mask_of(one={2: 40}, two={2: 3, 6: 30})
    assert key_slices(segmentation(CT, mask)).indices == (2, 6)


def test_no_more_slices_are_taken_than_asked_for() -> None:
    mask = mask_of(one={1: 30}, two={8: 40})
    assert len(key_slices(segmentation(CT, mask), count_max=1).indices) == 1


def test_without_any_voxel_the_middle_stands_for_what_was_looked_at() -> None:
    empty = segmentation(CT, np.zeros((9, 64, 64), np.uint8))
    assert key_slices(empty) == KeySlices((4,), carry=False)


def test_images_with_something_present_are_shown_and_those_without_are_not() -> None:
    finding = classification(XRAYS)
    some = tuple(
        replace(one, probability=0.9 if index in (1, 4) else 0.1)
        for index, one in enumerate(finding.classifications)
    )
    assert key_slices(replace(finding, classifications=some)) == KeySlices((1, 4), carry=True)
    assert not key_slices(classification(XRAYS, probability=0.1)).carry


def test_images_of_limited_quality_and_measured_ones_are_shown() -> None:
    assert key_slices(quality(XRAYS)).carry
    assert not key_slices(quality(XRAYS, QualityGrade.DIAGNOSTIC)).carry
    assert key_slices(regression(XRAYS)).indices == (0, 1, 2, 3)


def test_what_is_said_of_a_series_is_shown_on_its_middle() -> None:
    assert key_slices(of_series(classification(CT))) == KeySlices((4,), carry=False)


def test_areas_and_masks_are_the_same_for_both_kinds_of_masks() -> None:
    flat = segmentation(CT)
    assert flat.mask is not None
    maps = np.stack([flat.mask == 1, flat.mask == 2])
    deep = overlapping(CT, maps)
    np.testing.assert_array_equal(areas_of(flat), areas_of(deep))
    assert areas_of(flat)[3].tolist() == [(9 + 3 - 3) * (11 + 3 - 2), (23 + 3 - 20) * (47 - 30)]
    for one, other in zip(segments_on(flat, 3), segments_on(deep, 3), strict=True):
        assert one[0] == other[0]
        np.testing.assert_array_equal(one[1], other[1])
