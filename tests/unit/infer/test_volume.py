"""A volume comes to the network in its axes, and the mask comes back to where the thing was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.errors import StudyUnusable
from dicom_node.geometry import Grid
from dicom_node.infer.blocks import VolumeInput
from dicom_node.infer.mask import exclusive_mask
from dicom_node.infer.volume import Placement, place, to_network
from tests.factories import AXIAL, CORONAL, SAGITTAL

CENTRE_MM = np.array([7.3, -4.1, 12.7])
RADIUS_MM = 21.0
PRONE = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
HEAD_DOWN = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
TURNED_10_DEGREES = (0.9848078, 0.1736482, 0.0, -0.1736482, 0.9848078, 0.0)
ISOTROPIC = VolumeInput(network_sees="whole", axes="LFA", spacing_mm=(2, 2, 2), pad=-1000)
SLICEWISE = VolumeInput(
    network_sees="slice", axes="HPL", spacing_mm=(None, 4, 4), size=(None, 32, 32), pad=-1000
)


def source_grid(
    orientation: Sequence[float], spacing: tuple[float, float, float], size: tuple[int, int, int]
) -> Grid:
    """Return a grid centred on the origin of the patient."""
    along_row, down_column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(along_row, down_column)
    affine = np.eye(4)
    affine[:3, :3] = np.array([normal, down_column, along_row]).T * spacing
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(size) - 1) / 2)
    return Grid(size, affine)


def positions_mm(grid: Grid) -> NDArray[np.float64]:
    indices = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
    return indices @ grid.affine[:3, :3].T + grid.affine[:3, 3]


def ball(grid: Grid) -> NDArray[np.float32]:
    """Return HU: 0 in the ball, -1000 outside, and the share of each in the voxels between."""
    total = np.zeros(grid.shape)
    offsets = (-0.25, 0.25)
    for a in offsets:
        for b in offsets:
            for c in offsets:
                shift = grid.affine[:3, :3] @ (a, b, c)
                distance = np.linalg.norm(positions_mm(grid) + shift - CENTRE_MM, axis=-1)
                total += distance < RADIUS_MM
    return (total / 8 * 1000 - 1000).astype(np.float32)


def network(values: NDArray[np.float32], kind: str) -> NDArray[Any]:
    inside = np.clip((values + 1000) / 1000, 0, 1)
    return (
        np.stack([1 - inside, inside]) if kind == "probabilities" else (inside > 0.5).astype("u1")
    )


def round_trip(grid: Grid, wanted: VolumeInput, kind: str) -> NDArray[np.uint8]:
    placement = place(grid, wanted)
    answer = network(to_network(list(ball(grid)), placement, -1000), kind)
    return to_source(answer, placement)


def to_source(answer: NDArray[Any], placement: Placement) -> NDArray[np.uint8]:
    """Return the mask of an answer that is there as a whole."""
    return exclusive_mask(iter(answer if answer.ndim == 3 else answer.swapaxes(0, 1)), placement)


@pytest.mark.parametrize("kind", ["probabilities", "labels"])
@pytest.mark.parametrize(
    ("orientation", "spacing", "size", "wanted"),
    [
        (AXIAL, (4.0, 1.6, 1.6), (20, 50, 55), ISOTROPIC),
        (PRONE, (4.0, 1.6, 1.6), (20, 50, 55), ISOTROPIC),
        (HEAD_DOWN, (2.0, 2.0, 2.0), (40, 46, 45), ISOTROPIC),
        (CORONAL, (3.0, 1.8, 2.2), (30, 45, 40), ISOTROPIC),
        (SAGITTAL, (2.4, 1.4, 1.4), (35, 60, 56), ISOTROPIC),
        (TURNED_10_DEGREES, (4.0, 1.6, 1.6), (20, 50, 55), ISOTROPIC),
        (AXIAL, (3.0, 1.0, 1.0), (27, 80, 80), SLICEWISE),
        (PRONE, (3.0, 0.7, 0.7), (27, 110, 121), SLICEWISE),
        (HEAD_DOWN, (3.0, 1.0, 1.0), (27, 81, 90), SLICEWISE),
    ],
)
def test_the_mask_lies_where_the_ball_was(
    orientation: Sequence[float],
    spacing: tuple[float, float, float],
    size: tuple[int, int, int],
    wanted: VolumeInput,
    kind: str,
) -> None:
    grid = source_grid(orientation, spacing, size)
    mask = round_trip(grid, wanted, kind)
    distance = np.linalg.norm(positions_mm(grid) - CENTRE_MM, axis=-1)
    expected = distance < RADIUS_MM
    overlap = 2 * np.sum(mask & expected) / (np.sum(mask) + np.sum(expected))
    assert overlap > (0.97 if wanted is ISOTROPIC else 0.94)
    found_mm = positions_mm(grid)[mask == 1].mean(axis=0)
    expected_mm = positions_mm(grid)[expected].mean(axis=0)
    voxel_mm = np.array(wanted.spacing_mm if wanted is ISOTROPIC else (4.0, 4.0, 3.0))
    # Labels have lost what a voxel on the rim knew of its share.
    tolerance = 0.05 if kind == "probabilities" else 0.08
    assert np.all(np.abs(found_mm - expected_mm) < tolerance * voxel_mm)


def test_a_flipped_series_gives_the_flipped_mask_to_the_voxel() -> None:
    upright = source_grid(AXIAL, (4.0, 1.6, 1.6), (20, 50, 55))
    prone = source_grid(PRONE, (4.0, 1.6, 1.6), (20, 50, 55))
    masks = [round_trip(grid, ISOTROPIC, "probabilities") for grid in (upright, prone)]
    assert masks[0].any()
    assert np.array_equal(masks[0], masks[1][:, ::-1, ::-1])


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL, PRONE, HEAD_DOWN])
@pytest.mark.parametrize("axes", ["HPL", "LFA", "RAF"])
def test_the_network_sees_the_axes_that_it_names(orientation: Sequence[float], axes: str) -> None:
    """A ramp along each axis of the patient must rise along the tensor's axis of that name."""
    grid = source_grid(orientation, (2.0, 1.0, 1.5), (10, 14, 12))
    placement = place(grid, VolumeInput(network_sees="whole", axes=axes))
    along = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "H": (2, 1), "F": (2, -1)}
    for axis, letter in enumerate(axes):
        component, sign = along[letter]
        ramp = (sign * positions_mm(grid)[..., component]).astype(np.float32)
        seen = to_network(list(ramp), placement, 0)
        assert np.all(np.diff(seen, axis=axis) > 0)


def test_the_whole_field_of_512_pixels_becomes_means_of_blocks() -> None:
    grid = source_grid(AXIAL, (3.0, 0.9765625, 0.9765625), (3, 512, 512))
    wanted = replace(SLICEWISE, spacing_mm=(None, 3.90625, 3.90625), size=(None, 128, 128))
    values = np.random.default_rng(4).normal(size=grid.shape).astype(np.float32)
    seen = to_network(list(values), place(grid, wanted), -1000)
    assert np.allclose(seen, values.reshape(3, 128, 4, 128, 4).mean(axis=(2, 4)), atol=1e-3)


def test_beyond_a_small_field_of_view_there_is_padding() -> None:
    grid = source_grid(AXIAL, (3.0, 1.0, 1.0), (3, 64, 64))
    seen = to_network(list(np.zeros(grid.shape, np.float32)), place(grid, SLICEWISE), -1000)
    assert seen.shape == (3, 32, 32)
    assert np.all(seen[:, 8:24, 8:24] == 0)
    assert np.all(seen[:, :8] == -1000)


def test_pixels_grow_until_a_large_field_of_view_fits() -> None:
    wanted = replace(SLICEWISE, grow_max=1.25)
    grid = source_grid(AXIAL, (3.0, 1.0, 1.0), (3, 150, 150))
    placement = place(grid, wanted)
    assert placement.spacing_mm == pytest.approx((3.0, 150 / 32, 150 / 32))
    with pytest.raises(StudyUnusable, match=r"field of view is 1\.41 times the network's"):
        place(source_grid(AXIAL, (3.0, 1.0, 1.0), (3, 180, 180)), wanted)


def test_sizes_are_multiples_of_what_the_network_can_halve() -> None:
    grid = source_grid(AXIAL, (2.0, 0.8, 0.8), (40, 100, 110))
    placement = place(grid, replace(ISOTROPIC, size_multiple=16))
    seen = to_network(list(ball(grid)), placement, -1000)
    assert seen.shape == (48, 48, 48)


def test_a_tie_between_labels_and_background_is_decided_by_the_larger_part() -> None:
    """Where the source is coarser than the network, a voxel gets what fills most of it."""
    grid = source_grid(AXIAL, (6.0, 2.0, 2.0), (2, 3, 3))
    placement: Placement = place(grid, replace(ISOTROPIC, axes="HPL"))
    labels = np.zeros((6, 3, 3), np.uint8)
    labels[0:2, 0, 0] = 5  # two thirds of the voxel
    labels[0, 1, 1] = 7  # one third
    labels[3:5, 2, 2], labels[5, 2, 2] = 1, 2
    mask = to_source(labels, placement)
    assert (mask[0, 0, 0], mask[0, 1, 1], mask[1, 2, 2]) == (5, 0, 1)


@pytest.mark.parametrize(
    ("changes", "orientation", "words"),
    [
        ({"slices_min": 50}, AXIAL, "40 slices, fewer than 50"),
        ({"slice_spacing_mm": (0.5, 1.5)}, AXIAL, "slice spacing is 2 mm, not 0.5 to 1.5"),
        ({"pixel_spacing_mm": (1.0, 2.0)}, AXIAL, "pixel spacing is 0.8 x 0.8 mm, not 1 to 2"),
        ({"extent_min_mm": (0, 120, 0)}, AXIAL, "80 mm along the axis F, less than 120"),
        ({"oblique_max_degrees": 5}, TURNED_10_DEGREES, "10 degrees off the axes of the body"),
        ({"network_sees": "slice", "axes": "HPL"}, CORONAL, "do not lie across the axis H"),
    ],
)
def test_what_an_engine_was_not_made_for_is_refused(
    changes: dict[str, Any], orientation: Sequence[float], words: str
) -> None:
    with pytest.raises(StudyUnusable) as refusal:
        place(
            source_grid(orientation, (2.0, 0.8, 0.8), (40, 100, 110)), replace(ISOTROPIC, **changes)
        )
    assert words in str(refusal.value)


def test_every_reason_against_a_volume_is_given(tmp_path: Path) -> None:
    wanted = replace(ISOTROPIC, slices_min=50, slice_spacing_mm=(0.5, 1.5))
    with pytest.raises(StudyUnusable, match="fewer than 50; slice spacing is 2 mm"):
        place(source_grid(AXIAL, (2.0, 0.8, 0.8), (40, 100, 110)), wanted)
