"""What a network will see, of images, volumes and their masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_node.geometry import Grid
from dicom_node.infer.engine_folders import load_manifest
from engines.recipes.errors import DataUnusable
from engines.recipes.preparation import (
    Preparation,
    ct_slices,
    label_image_to_network,
    label_map_to_network,
    of_manifest,
    xray,
)

ENGINES = Path(__file__).parents[3] / "engines"


def grid(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Grid:
    """Return an axial grid whose axes run to the head, the back and the left."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm
    affine[3, 3] = 1
    return Grid(shape, affine)


def test_the_ready_made_ones_are_those_of_the_bundled_engines() -> None:
    assert ct_slices() == Preparation(
        *(of_manifest(load_manifest(ENGINES / "ct_lungs")).intensity,),
        volume=ct_slices().volume,
    )
    quality = of_manifest(load_manifest(ENGINES / "cxr_quality"))
    assert xray(64, pixels_min=quality.image.pixels_min if quality.image else 0) == quality


def test_a_voxel_gets_the_label_that_fills_most_of_it() -> None:
    mask = np.zeros((1, 4, 4), np.uint8)
    mask[0, :2, :2] = [[1, 1], [2, 0]]  # half, a quarter, a quarter
    mask[0, :2, 2:] = [[1, 2], [2, 2]]
    mask[0, 2:, :2] = [[0, 0], [0, 1]]
    mask[0, 2:, 2:] = [[1, 2], [0, 0]]
    placement = ct_slices(2, 2.0).placement(grid((2, 4, 4), (5.0, 1.0, 1.0)))
    twice = np.concatenate([mask, mask])
    assert label_map_to_network(twice, placement, 3)[0].tolist() == [[1, 2], [0, 0]]


def test_beyond_the_field_of_view_is_background() -> None:
    placement = ct_slices(6, 1.0).placement(grid((2, 4, 4), (5.0, 1.0, 1.0)))
    found = label_map_to_network(np.ones((2, 4, 4), np.uint8), placement, 2)
    assert found[0].sum() == 16
    assert found[0, 1:5, 1:5].all()


def test_a_mask_follows_its_image_through_flips() -> None:
    affine = grid((2, 4, 4), (5.0, 1.0, 1.0)).affine.copy()
    affine[:3, 2] *= -1  # columns to the right of the patient
    placement = ct_slices(4, 1.0).placement(Grid((2, 4, 4), affine))
    mask = np.zeros((2, 4, 4), np.uint8)
    mask[:, 0, 0] = 1
    values = ct_slices(4, 1.0).of_volume(mask.astype(np.float32), placement)
    assert np.array_equal(label_map_to_network(mask, placement, 2), values)
    assert values[0, 0, 3] == 1


def test_of_an_image_the_central_square_counts() -> None:
    mask = np.zeros((4, 8), np.uint8)
    mask[:2, :4] = 1
    assert label_image_to_network(mask, xray(2), 2).tolist() == [[1, 0], [0, 0]]


def test_a_preparation_is_of_images_or_of_slices() -> None:
    with pytest.raises(DataUnusable, match="of images or of volumes"):
        Preparation(xray(8).intensity)
    with pytest.raises(DataUnusable, match="sees a whole"):
        of_manifest(load_manifest(ENGINES / "mr_brain"))
    with pytest.raises(DataUnusable, match="sees single images"):
        xray(8).placement(grid((2, 4, 4), (5.0, 1.0, 1.0)))
    with pytest.raises(DataUnusable, match="sees volumes"):
        ct_slices().of_image(np.zeros((4, 4), np.float32))
