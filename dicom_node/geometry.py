"""Where the slices of a series lie, and the grid they make; millimetres, LPS.

Slices are ordered by the projection of their Image Position (Patient) on the normal of their
Image Orientation (Patient) (PS3.3 C.7.6.2.1.1), never by Instance Number or file name. What is
no regular grid is refused with the reason: a mask on a wrong grid would look right.

Directions of an axis are written with the letters of Patient Orientation (PS3.3 C.7.6.1.1.1):
L(eft), P(osterior) and H(ead) along the axes of LPS, R(ight), A(nterior) and F(eet) against them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StudyUnusable

SAME_POSITION_MM = 0.01
"""Slices nearer to each other than this lie at one position."""
SPACING_TOLERANCE = 0.01
ROUNDING_MM = 1e-3
"""Equal spacing: within 1 % of the mean, and what headers lose by rounding."""
TILT_MAX_DEGREES = 0.1
"""Between the normal and the way from slice to slice; 0.5 mm over a stack of 300 mm."""
COSINE_TOLERANCE = 1e-3

_DIRECTIONS = {
    "L": (1.0, 0.0, 0.0),
    "R": (-1.0, 0.0, 0.0),
    "P": (0.0, 1.0, 0.0),
    "A": (0.0, -1.0, 0.0),
    "H": (0.0, 0.0, 1.0),
    "F": (0.0, 0.0, -1.0),
}
_GAPS_SHOWN = 3


@dataclass(frozen=True)
class Plane:
    """One slice as its header places it (PS3.3 C.7.6.2)."""

    position_mm: tuple[float, float, float]
    """(0020,0032): the centre of the first pixel."""
    orientation: tuple[float, float, float, float, float, float]
    """(0020,0037): direction cosines along a row, then down a column."""
    rows: int
    columns: int
    pixel_spacing_mm: tuple[float, float]
    """(0028,0030): between rows, between columns."""

    @property
    def normal(self) -> NDArray[np.float64]:
        """The unit vector along a row crossed with the one down a column."""
        normal: NDArray[np.float64] = np.cross(self.orientation[:3], self.orientation[3:])
        return normal / np.linalg.norm(normal)

    @property
    def in_words(self) -> str:
        """What it is, for a message: axial, 512 x 512, 0.977 x 0.977 mm."""
        names = ("sagittal", "coronal", "axial")
        name = names[int(np.argmax(np.abs(self.normal)))]
        row_mm, column_mm = self.pixel_spacing_mm
        return f"{name}, {self.rows} x {self.columns}, {row_mm:.3g} x {column_mm:.3g} mm"


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular grid of voxels in the patient."""

    shape: tuple[int, int, int]
    """Slices, rows, columns."""
    affine: NDArray[np.float64]
    """4 x 4: (slice, row, column, 1) to LPS mm."""

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Between slices, between rows, between columns."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(lengths[0]), float(lengths[1]), float(lengths[2])

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing_mm)) / 1000.0

    @property
    def pixel_cm2(self) -> float:
        """The area of a pixel within its slice."""
        return float(np.prod(self.spacing_mm[1:])) / 100.0

    @property
    def units(self) -> NDArray[np.float64]:
        """3 x 3: the directions of the axes (slice, row, column) in its columns."""
        units: NDArray[np.float64] = self.affine[:3, :3] / np.array(self.spacing_mm)
        return units

    @property
    def centre_mm(self) -> NDArray[np.float64]:
        """The middle of the field of view."""
        middle = (np.array(self.shape) - 1) / 2
        centre: NDArray[np.float64] = self.affine[:3, :3] @ middle + self.affine[:3, 3]
        return centre


@dataclass(frozen=True, eq=False)
class Arrangement:
    """The planes of a series in order, and the grid they make."""

    positions: tuple[tuple[int, ...], ...]
    """For each slice, first along the normal, the indices of the planes that lie there."""
    grid: Grid


@dataclass(frozen=True)
class AxisMatch:
    """Which axis of a grid runs along which of three wanted directions."""

    axes: tuple[int, int, int]
    """For each wanted direction, the axis of the grid that is nearest to it."""
    flipped: tuple[bool, bool, bool]
    """For each wanted direction, whether that axis runs against it."""
    degrees: float
    """The largest angle between a wanted direction and its axis."""


def arrange(planes: Sequence[Plane]) -> Arrangement:
    """Return the order of the planes of one series, and their grid.

    Parameters
    ----------
    planes : sequence of Plane
        In any order; localizers are left out by the caller.

    Returns
    -------
    Arrangement
        Slices by ascending projection on the normal: feet to head for the usual axial series.

    Raises
    ------
    StudyUnusable
        If the planes are not alike, lie on fewer than two positions, are sheared (gantry tilt), or
        are not equally spaced; the message names the gap.

    References
    ----------
    PS3.3 C.7.6.2.1.1 (Image Position and Image Orientation)
    """
    _refuse_mixed(planes)
    first = planes[0]
    points = np.array([plane.position_mm for plane in planes], float)
    along = points @ first.normal
    positions = _positions(along)
    if len(positions) < 2:
        raise StudyUnusable(
            "one slice position only: no slice spacing can be measured",
            hint="send the whole series",
        )
    at = np.array([along[same[0]] for same in positions])
    corners = np.array([points[same[0]] for same in positions])
    _refuse_tilt(corners, first.normal)
    _refuse_unequal(at)

    step = (corners[-1] - corners[0]) / (len(corners) - 1)
    row_mm, column_mm = first.pixel_spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = np.array(first.orientation[3:]) * row_mm
    affine[:3, 2] = np.array(first.orientation[:3]) * column_mm
    affine[:3, 3] = corners[0]
    return Arrangement(positions, Grid((len(positions), first.rows, first.columns), affine))


def match_axes(grid: Grid, directions: str) -> AxisMatch:
    """Return how the axes of a grid run along three directions, such as "HPL".

    Parameters
    ----------
    grid : Grid
    directions : str
        Three letters: towards Head, Posterior, Left, for instance.
    """
    wanted = np.array([_DIRECTIONS[letter] for letter in directions])
    cosines = wanted @ grid.units
    best = max(
        permutations(range(3)), key=lambda axes: float(np.abs(cosines[range(3), axes]).sum())
    )
    chosen = cosines[range(3), best]
    degrees = float(np.degrees(np.arccos(np.clip(np.abs(chosen).min(), 0.0, 1.0))))
    return AxisMatch(
        axes=(best[0], best[1], best[2]),
        flipped=(bool(chosen[0] < 0), bool(chosen[1] < 0), bool(chosen[2] < 0)),
        degrees=degrees,
    )


def are_directions(letters: str) -> bool:
    """Return whether three letters name three directions at right angles to each other."""
    if len(letters) != 3 or not set(letters) <= set(_DIRECTIONS):
        return False
    return abs(float(np.linalg.det([_DIRECTIONS[letter] for letter in letters]))) == 1.0


def _refuse_mixed(planes: Sequence[Plane]) -> None:
    kinds: list[tuple[Plane, int]] = []
    for plane in planes:
        for index, (kind, count) in enumerate(kinds):
            if _alike(kind, plane):
                kinds[index] = (kind, count + 1)
                break
        else:
            kinds.append((plane, 1))
    if not kinds:
        raise StudyUnusable("no image in the series")
    if len(kinds) > 1:
        kinds.sort(key=lambda kind: -kind[1])
        words = "; ".join(f"{count} {kind.in_words}" for kind, count in kinds[:_GAPS_SHOWN])
        raise StudyUnusable(
            f"{len(kinds)} orientations or matrices in one series: {words}",
            hint="send each orientation as its own series",
        )


def _alike(one: Plane, other: Plane) -> bool:
    """Return whether two planes can lie in one stack; for so few numbers numpy takes longer."""
    cosines = zip(one.orientation, other.orientation, strict=True)
    spacings = zip(one.pixel_spacing_mm, other.pixel_spacing_mm, strict=True)
    return (
        (one.rows, one.columns) == (other.rows, other.columns)
        and all(abs(here - there) <= COSINE_TOLERANCE for here, there in cosines)
        and all(abs(here - there) <= 1e-3 * abs(there) for here, there in spacings)
    )


def _positions(along: NDArray[np.float64]) -> tuple[tuple[int, ...], ...]:
    groups: list[list[int]] = []
    for index in np.argsort(along, kind="stable"):
        if groups and along[index] - along[groups[-1][0]] < SAME_POSITION_MM:
            groups[-1].append(int(index))
        else:
            groups.append([int(index)])
    return tuple(tuple(group) for group in groups)


def _refuse_tilt(corners: NDArray[np.float64], normal: NDArray[np.float64]) -> None:
    way = corners[-1] - corners[0]
    cosine = float(way @ normal) / float(np.linalg.norm(way))
    degrees = float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
    if degrees > TILT_MAX_DEGREES:
        raise StudyUnusable(
            f"gantry tilt or shear: the way from slice to slice is {degrees:.1f} degrees off the "
            "slices' normal",
            hint="have the series reconstructed without tilt",
        )
    # The ends may lie straight above each other while a slice between them does not.
    sideways = corners - corners[0]
    sideways = sideways - np.outer(sideways @ normal, normal)
    sideways = sideways - np.outer(np.linspace(0.0, 1.0, len(corners)), sideways[-1])
    shift = float(np.linalg.norm(sideways, axis=1).max())
    if shift > 0.5:
        raise StudyUnusable(f"a slice lies {shift:.1f} mm beside the others")


def _refuse_unequal(at: NDArray[np.float64]) -> None:
    steps = np.diff(at)
    mean = float(steps.mean())
    if np.all(np.abs(steps - mean) <= SPACING_TOLERANCE * mean + ROUNDING_MM):
        return
    usual = float(np.median(steps[steps < 1.5 * steps.min()]))
    gaps = np.flatnonzero(steps > 1.5 * usual)
    # Steps that are whole multiples of the usual one are a regular stack with slices left out.
    multiples = steps / usual
    whole = np.all(np.abs(multiples - np.round(multiples)) <= 0.05)
    if len(gaps) and whole:
        words = ", ".join(
            f"between {at[gap]:.1f} and {at[gap + 1]:.1f} mm" for gap in gaps[:_GAPS_SHOWN]
        )
        more = f" and {len(gaps) - _GAPS_SHOWN} more" if len(gaps) > _GAPS_SHOWN else ""
        raise StudyUnusable(
            f"slices missing {words}{more} along the normal; the spacing is {usual:.2f} mm",
            hint="have the sender send the series again; the missing slices never arrived",
        )
    low, high = float(steps.min()), float(steps.max())
    raise StudyUnusable(
        f"slices are not equally spaced: {low:.2f} to {high:.2f} mm",
        hint="have the series reconstructed with one slice spacing",
    )
