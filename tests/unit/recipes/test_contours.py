"""Which pixels lie within a contour."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from dicom_node.encode.outlines import outlines_of
from engines.recipes.contours import filled, outline_of

SHAPE = (6, 8)


def rectangle(left: float, top: float, right: float, bottom: float) -> NDArray[np.float64]:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)


def test_a_pixel_is_within_if_its_centre_is() -> None:
    assert np.argwhere(filled([rectangle(0.6, 0.6, 2.4, 2.4)], SHAPE)).tolist() == [
        *([1, 1], [1, 2]),
        *([2, 1], [2, 2]),
    ]


def test_of_two_neighbours_one_gets_the_pixels_on_their_common_side() -> None:
    left, right = rectangle(1, 1, 4, 4), rectangle(4, 1, 6, 4)
    one, other = filled([left], SHAPE), filled([right], SHAPE)
    assert not (one & other).any()
    assert np.array_equal(one | other, filled([rectangle(1, 1, 6, 4)], SHAPE))


def test_a_polygon_within_another_is_a_hole() -> None:
    mask = filled([rectangle(-0.5, -0.5, 5.5, 5.5), rectangle(1.5, 1.5, 3.5, 3.5)], SHAPE)
    assert mask.sum() == 36 - 4
    assert not mask[2:4, 2:4].any()


def test_a_keyhole_encloses_what_the_two_polygons_would() -> None:
    outer, inner = rectangle(-0.5, -0.5, 5.5, 5.5), rectangle(1.5, 1.5, 3.5, 3.5)
    keyhole = np.concatenate([outer, outer[:1], inner[::-1], inner[-1:]])
    assert np.array_equal(filled([keyhole], SHAPE), filled([outer, inner], SHAPE))


@pytest.mark.parametrize("turn", [1, -1])
def test_which_way_round_and_where_it_begins_do_not_matter(turn: int) -> None:
    points = np.array([[0.2, 0.3], [6.7, 1.1], [4.4, 5.2], [3.1, 2.0]])
    turned = np.roll(points, 2, axis=0)[::turn]
    assert np.array_equal(filled([points], SHAPE), filled([turned], SHAPE))


def test_what_lies_beyond_the_image_is_cut_off() -> None:
    assert filled([rectangle(-9, -9, 20, 20)], SHAPE).all()
    assert not filled([rectangle(20, 20, 30, 30)], SHAPE).any()


def test_rounding_moves_no_pixel() -> None:
    noise = 1e-9 * np.array([[1, -1], [-1, 1], [1, 1], [-1, -1]])
    exact = rectangle(1, 1, 4, 4)
    assert np.array_equal(filled([exact + noise], SHAPE), filled([exact], SHAPE))


@settings(deadline=None)
@given(arrays(bool, SHAPE))
def test_the_outlines_of_a_mask_enclose_that_mask(mask: NDArray[np.bool_]) -> None:
    polygons = [outline[:-1] - 0.5 for outline in outlines_of(mask)]
    assert np.array_equal(filled(polygons, SHAPE), mask)


def test_the_area_is_that_of_the_shoelace_formula() -> None:
    random = np.random.default_rng(2)
    angles = np.sort(random.uniform(0, 2 * np.pi, 40))
    x, y = 200 + 150 * np.cos(angles), 200 + 120 * np.sin(angles)
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    assert filled([np.column_stack([x, y])], (400, 400)).sum() == pytest.approx(area, rel=0.002)


def test_an_outline_is_drawn_without_gaps() -> None:
    drawn = outline_of(np.array([[1, 1], [5, 1], [5, 4], [1, 4]]), SHAPE)
    assert drawn.sum() == 2 * 5 + 2 * 2
    assert outline_of(np.array([[3, 3]]), SHAPE).sum() == 1
