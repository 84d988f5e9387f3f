"""Slices become a grid by their positions alone, and what makes no grid is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dicom_node.errors import StudyUnusable
from dicom_node.geometry import Grid, Plane, are_directions, arrange, match_axes
from tests.factories import AXIAL, CORONAL, SAGITTAL

OBLIQUE = (0.9659258, 0.0, 0.258819, 0.0, 1.0, 0.0)


def planes(
    offsets: Sequence[float],
    orientation: Sequence[float] = AXIAL,
    *,
    tilt_degrees: float = 0.0,
    spacing: tuple[float, float] = (0.7, 0.9),
) -> list[Plane]:
    """Return planes at these offsets along their normal, written without the code under test."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.array(
        [
            row[1] * column[2] - row[2] * column[1],
            row[2] * column[0] - row[0] * column[2],
            row[0] * column[1] - row[1] * column[0],
        ]
    )
    way = normal + np.tan(np.radians(tilt_degrees)) * column
    first = np.array([-100.0, 20.0, 7.0])
    directions: Any = tuple(orientation)
    return [Plane(tuple(first + offset * way), directions, 4, 6, spacing) for offset in offsets]


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL, OBLIQUE])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (3, 2, 1, 0)])
def test_slices_are_ordered_along_the_normal(
    orientation: Sequence[float], order: tuple[int, ...]
) -> None:
    sorted_planes = planes([0.0, 2.5, 5.0, 7.5], orientation)
    shuffled = [sorted_planes[index] for index in order]
    arrangement = arrange(shuffled)
    found = [shuffled[same[0]] for same in arrangement.positions]
    assert found == sorted_planes
    assert arrangement.grid.shape == (4, 4, 6)
    assert arrangement.grid.spacing_mm == pytest.approx((2.5, 0.7, 0.9))
    assert arrangement.grid.voxel_ml == pytest.approx(2.5 * 0.7 * 0.9 / 1000)


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL, OBLIQUE])
def test_the_affine_is_that_of_the_standard(orientation: Sequence[float]) -> None:
    stack = planes([0.0, 2.5, 5.0, 7.5], orientation)
    affine = arrange(stack).grid.affine
    for slice_index, row_index, column_index in [(0, 0, 0), (3, 0, 0), (1, 3, 0), (2, 1, 5)]:
        # PS3.3 C.7.6.2.1.1: i is the column with X the way along a row, j the row with Y.
        expected = (
            np.array(stack[slice_index].position_mm)
            + np.array(orientation[:3]) * 0.9 * column_index
            + np.array(orientation[3:]) * 0.7 * row_index
        )
        found = affine @ (slice_index, row_index, column_index, 1)
        assert found[:3] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("offsets", "words"),
    [
        ([0, 2, 4, 8, 10], "slices missing between 11.0 and 15.0 mm"),
        ([0, 2, 8, 10, 12], "slices missing between 9.0 and 15.0 mm"),
        ([0, 2, 4, 8, 10, 12, 16], "between 11.0 and 15.0 mm, between 19.0 and 23.0 mm"),
        (
            [0, 1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 15],
            "and 1 more along the normal; the spacing is 1.00 mm",
        ),
        ([0, 2, 4, 6.1, 8], "not equally spaced: 1.90 to 2.10 mm"),
        ([0, 4.2, 8.4, 9.5, 16.9], "not equally spaced: 1.10 to 7.40 mm"),
        ([0], "one slice position only"),
        ([0, 0.004], "one slice position only"),
        ([], "no image"),
    ],
)
def test_an_irregular_stack_is_refused_by_name(offsets: list[float], words: str) -> None:
    with pytest.raises(StudyUnusable) as refusal:
        arrange(planes(offsets))
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    "offsets",
    [
        [0, 2, 4, 6],
        [0, 2.019, 4, 6],  # within 1 % of the mean
        [0, 0.0625, 0.125, 0.188, 0.25],  # rounded to micrometres
    ],
)
def test_rounding_is_forgiven(offsets: list[float]) -> None:
    assert arrange(planes(offsets)).grid.shape[0] == len(offsets)


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE, SAGITTAL])
def test_a_tilted_gantry_is_refused_with_its_angle(orientation: Sequence[float]) -> None:
    with pytest.raises(StudyUnusable, match=r"gantry tilt or shear: .* 18\.5 degrees"):
        arrange(planes([0, 5, 10, 15], orientation, tilt_degrees=-18.5))
    arrange(planes([0, 5, 10, 15], orientation, tilt_degrees=0.05))


def test_a_slice_beside_the_others_is_refused() -> None:
    stack = planes([0, 2, 4, 6])
    x, y, z = stack[2].position_mm
    stack[2] = replace(stack[2], position_mm=(x + 3.0, y, z))
    with pytest.raises(StudyUnusable, match=r"a slice lies 3\.0 mm beside the others"):
        arrange(stack)


@pytest.mark.parametrize(
    "other",
    [
        replace(planes([6])[0], orientation=CORONAL),
        replace(planes([6])[0], rows=8),
        replace(planes([6])[0], pixel_spacing_mm=(0.7, 1.0)),
    ],
)
def test_a_mixed_series_is_refused(other: Plane) -> None:
    with pytest.raises(StudyUnusable, match="2 orientations or matrices in one series: 3 axial, 4"):
        arrange([other, *planes([0, 2, 4])])


def test_planes_at_one_position_stand_together() -> None:
    stack = planes([0, 2, 2.003, 4])
    assert arrange(stack).positions == ((0,), (1, 2), (3,))


def grid(*columns: tuple[float, float, float]) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = np.array(columns).T
    return Grid((3, 4, 5), affine)


USUAL = grid((0, 0, 2), (0, 1, 0), (1, 0, 0))
CORONAL_GRID = grid((0, -3, 0), (0, 0, -1), (1, 0, 0))
PRONE = grid((0, 0, 2), (0, -1, 0), (-1, 0, 0))


@pytest.mark.parametrize(
    ("given", "directions", "axes", "flipped"),
    [
        (USUAL, "HPL", (0, 1, 2), (False, False, False)),
        (USUAL, "LFA", (2, 0, 1), (False, True, True)),
        (PRONE, "HPL", (0, 1, 2), (False, True, True)),
        (CORONAL_GRID, "HPL", (1, 0, 2), (True, True, False)),
        (CORONAL_GRID, "LFA", (2, 1, 0), (False, False, False)),
    ],
)
def test_axes_are_matched_to_directions(
    given: Grid, directions: str, axes: tuple[int, ...], flipped: tuple[bool, ...]
) -> None:
    match = match_axes(given, directions)
    assert (match.axes, match.flipped) == (axes, flipped)
    assert match.degrees == pytest.approx(0)


def test_an_oblique_series_tells_its_angle() -> None:
    match = match_axes(arrange(planes([0, 2, 4], OBLIQUE)).grid, "HPL")
    assert match.axes == (0, 1, 2)
    assert match.degrees == pytest.approx(15.0, abs=1e-3)


@pytest.mark.parametrize(
    ("letters", "answer"),
    [("HPL", True), ("LFA", True), ("RAF", True), ("HPP", False), ("HFL", False), ("XYZ", False),
     ("HP", False), ("hpl", False)],
)  # fmt: skip
def test_three_letters_name_three_axes(letters: str, answer: bool) -> None:
    assert are_directions(letters) is answer
