"""Outlines: filled again they give the mask, whatever it looks like."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from dicom_node.encode.outlines import outlines_of


def filled(outlines: list[NDArray[np.float32]], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return what lies inside of polygons by the even-odd rule, from their vertical edges."""
    inside = np.zeros(shape, np.bool_)
    for outline in outlines:
        for (column, row), (other, end) in pairwise(outline):
            if column == other:
                rows = slice(int(min(row, end)), int(max(row, end)))
                inside[rows, int(column) :] ^= True
    return inside


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_filled_again_they_give_the_mask(mask: NDArray[np.bool_]) -> None:
    outlines = outlines_of(mask)
    np.testing.assert_array_equal(filled(outlines, mask.shape), mask)
    for outline in outlines:
        np.testing.assert_array_equal(outline[0], outline[-1])
        steps = np.diff(outline, axis=0)
        assert (np.count_nonzero(steps, axis=1) == 1).all(), "an edge is not along the grid"
        turns = np.count_nonzero(steps[:-1], axis=0) + np.count_nonzero(steps[1:], axis=0)
        assert turns.sum() == 2 * (len(steps) - 1)


@given(st.integers(0, 5), st.integers(0, 5))
def test_a_pixel_is_a_square_around_it(row: int, column: int) -> None:
    mask = np.zeros((6, 6), np.bool_)
    mask[row, column] = True
    [outline] = outlines_of(mask)
    corners = [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]
    assert outline.tolist() == [[column + x, row + y] for x, y in corners]


@pytest.mark.parametrize(
    ("picture", "count", "points"),
    [
        ("##. ##. ...", 1, 5),
        ("#.. .#. ..#", 3, 15),
        ("### #.# ###", 2, 10),
        ("#.# ... #.#", 4, 20),
        ("##. .## ...", 1, 9),
    ],
    ids=["a block", "corners that touch", "a hole", "four", "a step"],
)
def test_each_part_and_each_hole_has_one_outline(picture: str, count: int, points: int) -> None:
    mask = np.array([[sign == "#" for sign in row] for row in picture.split()])
    outlines = outlines_of(mask)
    assert (len(outlines), sum(map(len, outlines))) == (count, points)


def test_an_empty_mask_has_none() -> None:
    assert outlines_of(np.zeros((4, 4), np.bool_)) == []
