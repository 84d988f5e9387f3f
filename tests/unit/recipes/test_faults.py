"""Simulated faults are what they are called, and what goes on around an image leaves it whole."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, laplace

from engines.recipes import ct_faults, xray_faults
from engines.recipes.augment import Augmentation, augmented, darkened_lung

Random = np.random.Generator


@pytest.fixture
def random() -> Random:
    return np.random.default_rng(5)


@pytest.fixture
def chest() -> NDArray[np.float32]:
    """Return something with the grey values of a chest X-ray."""
    random = np.random.default_rng(6)
    return xray_faults.rescaled(gaussian_filter(random.normal(0, 1, (64, 64)), 3).astype("f4"))


@pytest.fixture
def trunk() -> NDArray[np.float32]:
    """Return a body of 40 HU with two lungs and a spine, in air."""
    rows, columns = np.indices((128, 128)) - 63.5
    image = np.full((128, 128), -1000.0, np.float32)
    image[(rows / 38) ** 2 + (columns / 52) ** 2 < 1] = 40.0
    for side in (-22, 22):
        image[(rows / 22) ** 2 + ((columns - side) / 15) ** 2 < 1] = -850.0
    image[(rows - 24) ** 2 + columns**2 < 36] = 700.0
    return image


# ------------------------------------------------------------ X-rays


def test_half_inverted_half_turned_is_told_of_each(chest: NDArray[np.float32]) -> None:
    random = np.random.default_rng(0)
    has = np.stack([xray_faults.with_faults(chest, random)[1] for _ in range(400)])
    assert 0.25 < (has.sum(axis=1) == 0).mean() < 0.35
    assert 0.1 < (has.sum(axis=1) == 2).mean() < 0.2
    assert (has.mean(axis=0) > 0.1).all()


def test_an_image_without_fault_is_left_as_it_is(chest: NDArray[np.float32]) -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        image, has = xray_faults.with_faults(chest, random)
        if not has.any():
            np.testing.assert_allclose(image, chest, atol=0.5)


def test_faults_of_an_x_ray_are_what_they_are_called(
    chest: NDArray[np.float32], random: Random
) -> None:
    np.testing.assert_array_equal(xray_faults.inverted(chest, random), 255 - chest)
    turned = xray_faults.rotated(chest, random)
    assert any(np.array_equal(turned, np.rot90(chest, k)) for k in (1, 2, 3))
    edges = np.abs(laplace(chest)).mean()
    assert np.abs(laplace(xray_faults.blurred(chest, random))).mean() < edges
    assert np.abs(laplace(xray_faults.noisy(chest, random))).mean() > edges


def test_bad_exposure_survives_that_percentiles_are_stretched(
    chest: NDArray[np.float32], random: Random
) -> None:
    for _ in range(30):
        image = xray_faults.rescaled(xray_faults.badly_exposed(chest, random))
        saturated = ((image <= 0) | (image >= 255)).mean()
        assert saturated > 0.3 or image[8:].std() < 0.75 * chest.std()


# ------------------------------------------------------------ CT


def test_noise_adds_no_bias_and_more_in_the_body_than_in_air(
    trunk: NDArray[np.float32], random: Random
) -> None:
    added = np.stack([ct_faults.noisy(trunk, random) for _ in range(20)]) - trunk
    assert abs(added.mean()) < 3
    assert added[:, 60:68, 60:68].std() > 1.5 * added[:, :8, :8].std()


def test_motion_by_nothing_is_nothing_and_by_all_is_a_shift(trunk: NDArray[np.float32]) -> None:
    """The oracle is NumPy's roll: whoever is elsewhere at every angle is simply elsewhere."""

    class Still(np.random.Generator):
        """Draws a move of 3 pixels along the columns, made before the tube turned."""

        def __init__(self) -> None:
            super().__init__(np.random.PCG64(0))

        def uniform(self, low: float = 0.0, high: float = 1.0, size: None = None) -> float:  # type: ignore[override]
            return {(0.3, 0.7): -9.0, (2.5, 7): 3.0}.get((low, high), 0.0)

        def random(self, *_: object) -> float:  # type: ignore[override]
            return 0.0

    moved = ct_faults.motion(trunk, Still())
    np.testing.assert_allclose(moved, np.roll(trunk, 3, axis=1), atol=0.5)


def test_motion_keeps_the_mean_and_doubles_edges(
    trunk: NDArray[np.float32], random: Random
) -> None:
    for _ in range(10):
        moved = ct_faults.motion(trunk, random)
        assert moved.mean() == pytest.approx(trunk.mean(), abs=0.1)
        assert np.abs(moved - trunk).max() > 200


def test_a_cut_off_body_has_nothing_outside_and_a_bright_rim(
    trunk: NDArray[np.float32], random: Random
) -> None:
    for _ in range(10):
        cut = ct_faults.truncated(trunk, random)
        assert (cut == ct_faults.PAD_HU).mean() > 0.3
        assert ((cut == ct_faults.PAD_HU) & (trunk > -300)).sum() > 100
        assert cut.max() > trunk.max()


def test_wrong_values_are_not_those_of_the_slice(
    trunk: NDArray[np.float32], random: Random
) -> None:
    for _ in range(20):
        wrong = ct_faults.wrong_window(trunk, random)
        assert np.abs(wrong - trunk).max() > 100


def test_values_stay_what_a_ct_can_hold(trunk: NDArray[np.float32], random: Random) -> None:
    for _ in range(60):
        image, _ = ct_faults.with_faults(trunk, random)
        assert image.dtype == np.float32
        assert image.min() >= -1024
        assert image.max() <= 3071


# ------------------------------------------------------------ augmentation


EVERYTHING = Augmentation(
    rotate_degrees=20,
    scale=0.2,
    shift=0.1,
    mirror=True,
    gamma=0.4,
    contrast=0.3,
    brightness=0.2,
    noise=0.05,
    blur=1.0,
)


def test_no_augmentation_changes_nothing(chest: NDArray[np.float32], random: Random) -> None:
    images = np.stack([chest, chest])[..., None]
    np.testing.assert_array_equal(augmented(images, Augmentation(), random)[0], images)


def test_the_same_seed_changes_images_in_the_same_way(chest: NDArray[np.float32]) -> None:
    images = np.stack([chest] * 4)[..., None]
    first, again = (augmented(images, EVERYTHING, np.random.default_rng(3))[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert first.min() >= 0
    assert first.max() <= 255


def test_a_mask_goes_with_its_image(random: Random) -> None:
    drawn = np.zeros((8, 64, 64), np.uint8)
    drawn[:, 10:30, 20:55] = 1
    drawn[:, 40:50, 5:25] = 2
    how = Augmentation((0, 2), rotate_degrees=20, scale=0.2, shift=0.1, mirror=True, hold=False)
    images, masks = augmented(drawn[..., None].astype(np.float32), how, random, drawn)
    assert masks is not None
    assert masks.dtype == np.uint8
    assert set(np.unique(masks)) == {0, 1, 2}
    assert (masks != drawn).any(axis=(1, 2)).all()
    assert np.abs(images[..., 0] - masks).mean() < 0.05  # they differ along edges only


def test_geometry_is_that_of_the_oracle(random: Random) -> None:
    """A quarter turn is np.rot90's; the mirror is a flip."""
    image = np.random.default_rng(1).random((1, 16, 16, 1)).astype(np.float32)
    mirrored = [
        augmented(image, Augmentation(mirror=True, hold=False), np.random.default_rng(seed))[0]
        for seed in range(8)
    ]
    flips = [np.allclose(each, image[:, :, ::-1], atol=1e-5) for each in mirrored]
    same = [np.allclose(each, image, atol=1e-5) for each in mirrored]
    assert all(one != other for one, other in zip(flips, same, strict=True))
    assert any(flips)
    assert any(same)


def test_only_the_lung_is_darkened(trunk: NDArray[np.float32]) -> None:
    darker = darkened_lung(trunk, 0.5)
    np.testing.assert_array_equal(darker[trunk > -300], trunk[trunk > -300])
    np.testing.assert_allclose(darker[trunk == -850], -925)
    np.testing.assert_array_equal(darker[trunk == -1000], -1000)
