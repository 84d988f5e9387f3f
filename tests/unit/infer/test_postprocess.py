"""What is left of a mask: each rule on a picture, the order of the rules, and their cost."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.infer.blocks import Components, SegmentComponents
from dicom_node.infer.postprocess import Scale, cleaned
from tests.unit.infer.masks import drawn

CUBES = (1.0, 1.0, 1.0)
VOXEL_ML = 0.001
RING = "..... .111. .1.1. .111. ....."


def after(mask: NDArray[Any], *rules: Components, spacing_mm: Any = CUBES) -> NDArray[Any]:
    return cleaned(mask, rules, Scale(spacing_mm)).mask


def test_nothing_asked_nothing_changed_in_a_new_array() -> None:
    mask = drawn("1.2 .1.", "... 221")
    result = after(mask, Components(), Components())
    assert np.array_equal(result, mask)
    assert result is not mask


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        ("all", "11.11.1 11....."),
        ("largest", "11..... 11....."),
        (1, "11..... 11....."),
        (2, "11.11.. 11....."),
        (3, "11.11.1 11....."),
        (9, "11.11.1 11....."),
    ],
)
def test_so_many_components_are_kept(keep: Any, left: str) -> None:
    assert np.array_equal(after(drawn("11.11.1 11....."), Components(keep=keep)), drawn(left))


def test_of_equal_components_the_first_stays() -> None:
    assert np.array_equal(
        after(drawn("11.11", "....."), Components(keep="largest")), drawn("11...", ".....")
    )


@pytest.mark.parametrize(("connectivity", "left"), [(26, "11. ..1"), (6, "11. ...")])
def test_corners_join_at_26_and_not_at_6(connectivity: Any, left: str) -> None:
    rule = Components(keep="largest", connectivity=connectivity)
    assert np.array_equal(after(drawn("11. ..1"), rule), drawn(left))


def test_a_segments_neighbours_join_nothing() -> None:
    mask = drawn("11211 ..... 2....")
    rules = Components(keep="largest"), Components(keep="largest")
    assert np.array_equal(after(mask, *rules), drawn("112.. ..... ....."))


def test_small_components_go_even_the_largest() -> None:
    mask = drawn("111.11.1")
    for least, left in ((2, "111.11.."), (3, "111....."), (4, "........")):
        rule = Components(component_min_ml=least * VOXEL_ML)
        assert np.array_equal(after(mask, rule), drawn(left))


def test_a_segment_that_is_too_small_as_a_whole_is_noise_and_that_is_told() -> None:
    mask = drawn("11.2222")
    rule = Components(volume_min_ml=3 * VOXEL_ML)
    found = cleaned(mask, [rule, rule], Scale(CUBES))
    assert np.array_equal(found.mask, drawn("...2222"))
    assert found.noise == {1: pytest.approx(2 * VOXEL_ML)}


def test_the_smallest_volume_is_that_of_what_is_kept() -> None:
    mask = drawn("11.11.1")
    rule = Components(keep="largest", volume_min_ml=3 * VOXEL_ML)
    found = cleaned(mask, [rule], Scale(CUBES))
    assert not found.mask.any()
    assert found.noise == {1: pytest.approx(2 * VOXEL_ML)}


def test_volumes_are_in_millilitres_of_the_voxels_that_there_are() -> None:
    rule = Components(component_min_ml=0.02)
    assert not after(drawn("11"), rule, spacing_mm=(2.0, 2.0, 2.0)).any()
    assert after(drawn("11"), rule, spacing_mm=(5.0, 2.0, 1.0)).all()


@pytest.mark.parametrize(
    ("fill", "middle"), [("none", RING), ("slices", RING.replace("1.1", "111")), ("volume", RING)]
)
def test_a_tube_is_a_hole_in_its_slices_alone(fill: Any, middle: str) -> None:
    mask = drawn(RING, RING, RING)
    expected = drawn(middle, middle, middle)
    assert np.array_equal(after(mask, Components(fill_holes=fill)), expected)


def test_a_cavity_is_a_hole_of_the_volume() -> None:
    lid = RING.replace("1.1", "111")
    mask = drawn(lid, RING, lid)
    assert np.array_equal(after(mask, Components(fill_holes="volume")), drawn(lid, lid, lid))


def test_a_way_out_through_a_corner_is_none() -> None:
    """Where corners join what is there, they part what is not."""
    mask = drawn("..... .11.. .1.1. .111. .....")
    filled = drawn("..... .11.. .111. .111. .....")
    assert np.array_equal(after(mask, Components(fill_holes="slices")), filled)


def test_a_notch_at_the_rim_of_the_field_of_view_is_no_hole() -> None:
    mask = drawn("1.1 1.1 111")
    assert np.array_equal(after(mask, Components(fill_holes="slices")), mask)


def test_what_another_segment_holds_inside_a_hole_stays_its_own() -> None:
    mask = drawn("11111 1...1 1.2.1 1...1 11111")
    rules = Components(fill_holes="slices"), Components()
    assert np.array_equal(after(mask, *rules), drawn("11111 11111 11211 11111 11111"))


def test_of_two_shells_the_inner_one_gets_what_both_enclose() -> None:
    mask = drawn("1111111 1.....1 1.222.1 1.2.2.1 1.222.1 1.....1 1111111")
    filled = drawn("1111111 1111111 1122211 1122211 1122211 1111111 1111111")
    rule = Components(fill_holes="slices")
    assert np.array_equal(after(mask, rule, rule), filled)


def test_a_hole_that_a_removed_island_leaves_is_filled() -> None:
    mask = drawn("11111 1...1 1.1.1 1...1 11111")
    rule = Components(keep="largest", fill_holes="slices")
    assert after(mask, rule).all()


def test_a_segment_can_have_rules_of_its_own() -> None:
    common = Components(keep="largest", volume_min_ml=1.0)
    assert common.of(None) is common
    own = common.of(SegmentComponents(keep="all", volume_min_ml=0.0))
    assert own == Components()
    mask = drawn("1.1.2.2")
    assert np.array_equal(after(mask, Components(keep="largest"), own), drawn("1...2.2"))


def test_segments_that_overlap_are_treated_each_by_itself() -> None:
    one, two = drawn("11111 1...1 11111") > 0, drawn("11111 11111 11111") > 0
    mask = np.stack([one, two])
    hollow = Components(fill_holes="slices")
    small = Components(volume_min_ml=1.0)
    found = cleaned(mask, [hollow, small], Scale(CUBES))
    assert found.mask.dtype == np.bool_
    assert found.mask[0].all()
    assert not found.mask[1].any()
    assert found.noise == {2: pytest.approx(15 * VOXEL_ML)}
    assert np.array_equal(mask, np.stack([one, two])), "what was given is not changed"


def test_a_hundred_segments_take_little_more_memory_than_their_mask() -> None:
    at = np.mgrid[0:64, 0:160, 0:160]
    mask = (1 + at[0] // 32 + 2 * (at[1] // 20) + 16 * (at[2] // 20)).astype(np.uint8)
    mask[(at % 10 < 2).any(axis=0)] = 0
    rules = [Components(keep=3, fill_holes="volume", volume_min_ml=0.01)] * 128
    tracemalloc.start()
    cleaned(mask, rules, Scale(CUBES))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1.5 * mask.nbytes


# ---------------------------------------------------------------- smoothing


def test_smoothing_takes_a_spike_and_fills_a_dent() -> None:
    mask = np.zeros((9, 30, 30), np.uint8)
    mask[:, 10:20, 10:20] = 1
    straight = mask.copy()
    mask[4, 9, 15], mask[4, 19, 15] = 1, 0
    result = after(mask, Components(smooth_mm=1.5))
    assert result[4, 9, 15] == 0
    assert result[4, 19, 15] == 1
    assert np.array_equal(result[:, 12:18, :], straight[:, 12:18, :]), "flat faces stay"


def test_a_small_lesion_does_not_vanish_among_its_neighbours() -> None:
    mask = np.full((5, 20, 20), 2, np.uint8)
    mask[2, 10, 10] = 1
    result = after(mask, Components(smooth_mm=3), Components(smooth_mm=3))
    assert np.array_equal(result, mask)


def test_who_is_put_back_takes_the_last_voxel_of_nobody() -> None:
    mask = drawn("........ ..123... ........")
    rule = Components(smooth_mm=2)
    assert set(np.unique(after(mask, rule, rule, rule))) == {0, 1, 2, 3}


def test_a_segment_that_is_not_to_be_smoothed_keeps_every_voxel() -> None:
    mask = np.zeros((3, 20, 20), np.uint8)
    mask[:, 5:15, 5:15] = 1
    mask[1, 5:15, 10] = 2
    result = after(mask, Components(smooth_mm=3), Components())
    assert np.array_equal(result == 2, mask == 2)


def test_the_rim_of_the_field_of_view_cuts_nothing_off() -> None:
    mask = np.ones((6, 8, 8), np.uint8)
    assert after(mask, Components(smooth_mm=4)).all()


def test_smoothing_reaches_the_same_millimetres_along_every_axis() -> None:
    ball = np.linalg.norm(np.moveaxis(np.mgrid[-10:11, -10:11, -10:11], 0, -1), axis=-1) < 6
    rough = ball.astype(np.uint8)
    rough[10, 10, 16:19] = 1
    flat = rough.transpose(1, 2, 0)
    one = after(rough, Components(smooth_mm=2), spacing_mm=(1.0, 1.0, 1.0))
    other = after(flat, Components(smooth_mm=2), spacing_mm=(1.0, 1.0, 1.0))
    assert np.array_equal(one.transpose(1, 2, 0), other)
    sheet = np.zeros((3, 9, 9), np.uint8)
    sheet[1] = 1
    rule = Components(smooth_mm=2)
    assert np.array_equal(after(sheet, rule, spacing_mm=(50.0, 1.0, 1.0)), sheet)
    assert not np.array_equal(after(np.repeat(sheet, 3, axis=0), rule), np.repeat(sheet, 3, axis=0))
