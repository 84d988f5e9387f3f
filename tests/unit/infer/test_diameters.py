"""Diameters are those that every pair of points gives, and shapes have those of the textbook."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from dicom_node.infer.diameters import axes_mm, longest_mm
from tests.unit.infer.masks import Bits, bits, components, drawn, longest, reaches

CUBES = (1.0, 1.0, 1.0)
SPACINGS = st.sampled_from([CUBES, (5.0, 0.7, 0.9), (0.8, 2.5, 0.5)])
MASKS = st.tuples(st.integers(1, 4), st.integers(1, 8), st.integers(1, 8)).flatmap(
    lambda shape: arrays(np.bool_, shape)
)


def test_nothing_is_nothing_long() -> None:
    empty = np.zeros((2, 3, 4), bool)
    assert longest_mm(empty, CUBES) == 0
    assert axes_mm(empty, CUBES) == (0, 0)


@pytest.mark.parametrize(
    ("spacing_mm", "length", "axes"),
    [(CUBES, 1.0, (1.0, 1.0)), ((5.0, 0.5, 0.7), 5.0, (0.7, 0.5))],
)
def test_a_voxel_is_as_long_as_its_longest_side(
    spacing_mm: tuple[float, float, float], length: float, axes: tuple[float, float]
) -> None:
    one = drawn("... .1. ...") > 0
    assert longest_mm(one, spacing_mm) == pytest.approx(length)
    assert axes_mm(one, spacing_mm) == pytest.approx(axes)


@pytest.mark.parametrize("row", ["1111", "1 1 1 1"])
def test_a_row_is_as_long_as_its_voxels_and_one_wide(row: str) -> None:
    assert axes_mm(drawn(row) > 0, CUBES) == pytest.approx((4.0, 1.0))
    assert longest_mm(drawn(row) > 0, CUBES) == pytest.approx(4.0)


def test_a_row_of_many_slices_or_rows_is_long() -> None:
    """Where points lie in one line there is no hull of their slice."""
    pole = np.zeros((3, 200, 3), bool)
    pole[1, :, 1] = True
    assert longest_mm(pole, CUBES) == pytest.approx(200.0)
    assert axes_mm(pole, CUBES) == pytest.approx((200.0, 1.0))
    assert longest_mm(np.ones((300, 1, 1), bool), (2.0, 1.0, 1.0)) == pytest.approx(600.0)


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90, 135])
def test_an_ellipse_has_its_two_axes(degrees: float) -> None:
    turn = np.deg2rad(degrees)
    row_mm, column_mm = 0.5, 0.8
    row, column = np.mgrid[-150:151, -150:151]
    y, x = row * row_mm, column * column_mm
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    found = ((along / 30) ** 2 + (across / 12) ** 2 <= 1)[np.newaxis]
    long_mm, short_mm = axes_mm(found, (5.0, row_mm, column_mm))
    assert long_mm == pytest.approx(60, abs=1.0)
    assert short_mm == pytest.approx(24, abs=1.6)


def test_the_short_axis_is_a_chord_across_the_long_one_and_no_shadow() -> None:
    """Two corners of a parallelogram lie far apart across, but not at one place along."""
    found = np.zeros((1, 80, 80), bool)
    for row in range(40):
        found[0, row + 20, row : row + 20] = True
    long_mm, short_mm = axes_mm(found, CUBES)
    assert long_mm == pytest.approx(longest(reaches(found[0], (1.0, 1.0))))
    assert short_mm == pytest.approx(chord(found[0]), abs=0.02)
    corners = reaches(found[0], (1.0, 1.0))
    assert short_mm < np.ptp(corners @ normal_of(corners)) - 1


def normal_of(points: NDArray[np.float64]) -> NDArray[np.float64]:
    outline = points[ConvexHull(points).vertices]
    _, (row, column) = max((np.linalg.norm(a - b), tuple(a - b)) for a in outline for b in outline)
    across: NDArray[np.float64] = np.array([-column, row]) / np.linalg.norm([row, column])
    return across


def chord(found: Bits) -> float:
    """Return the longest chord at right angles to the longest line, by cutting many times."""
    points = reaches(found, (1.0, 1.0))
    normal = normal_of(points)
    along = np.array([normal[1], -normal[0]])
    outline = points[ConvexHull(points).vertices]
    flat = np.stack([outline @ along, outline @ normal], axis=1)
    best = 0.0
    for at in np.linspace(flat[:, 0].min(), flat[:, 0].max(), 4001)[1:-1]:
        crossings = [
            a[1] + (at - a[0]) / (b[0] - a[0]) * (b[1] - a[1])
            for a, b in pairwise([*flat, flat[0]])
            if (a[0] - at) * (b[0] - at) <= 0 and a[0] != b[0]
        ]
        best = max(best, max(crossings) - min(crossings))
    return best


def test_a_line_between_two_lesions_is_no_diameter() -> None:
    found = drawn("11....11 ........", "........ ........", "........ ...111..") > 0
    assert longest_mm(found, CUBES) == pytest.approx(3.0)
    assert axes_mm(found, CUBES) == pytest.approx((3.0, 1.0))


def test_what_joins_at_corners_is_one_at_26_and_two_at_6() -> None:
    found = drawn("11.. ..11") > 0
    assert longest_mm(found, CUBES, 26) == pytest.approx(longest(reaches(found, CUBES)))
    assert longest_mm(found, CUBES, 6) == pytest.approx(2.0)


@settings(deadline=None)
@given(found=MASKS, spacing_mm=SPACINGS, connectivity=st.sampled_from([6, 26]))
def test_the_longest_is_that_of_every_pair_of_points_of_a_component(
    found: Bits, spacing_mm: tuple[float, float, float], connectivity: int
) -> None:
    parts = components(found, connectivity)
    expected = max(
        (longest(reaches(bits(part, found.shape), spacing_mm)) for part in parts), default=0.0
    )
    measured = longest_mm(found, spacing_mm, 6 if connectivity == 6 else 26)
    assert measured == pytest.approx(expected)


@settings(deadline=None)
@given(found=MASKS, spacing_mm=SPACINGS)
def test_the_long_axis_is_that_of_every_pair_of_points_of_a_region(
    found: Bits, spacing_mm: tuple[float, float, float]
) -> None:
    expected = 0.0
    for plane in found:
        for part in components(plane, 26):
            region = bits(part, plane.shape)
            expected = max(expected, longest(reaches(region, spacing_mm[1:])))
    long_mm, short_mm = axes_mm(found, spacing_mm)
    assert long_mm == pytest.approx(expected)
    assert 0 <= short_mm <= long_mm + 1e-9
    assert (short_mm > 0) == bool(found.any())
