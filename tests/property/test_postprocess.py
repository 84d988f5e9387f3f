"""Any mask, any rules: brute force agrees, twice is once, and nothing comes from nowhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from dicom_node.infer.blocks import Components
from dicom_node.infer.postprocess import Scale, cleaned
from tests.unit.infer.masks import bits, components

VOXEL_ML = 0.002
SPACING_MM = (2.0, 1.0, 1.0)
SEGMENTS = 3

MASKS = st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 7)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, SEGMENTS))
)
RULES = st.builds(
    Components,
    keep=st.sampled_from(["all", "largest", 2]),
    connectivity=st.sampled_from([6, 26]),
    component_min_ml=st.sampled_from([0.0, 2 * VOXEL_ML, 3 * VOXEL_ML]),
    volume_min_ml=st.sampled_from([0.0, 4 * VOXEL_ML]),
    fill_holes=st.sampled_from(["none", "slices", "volume"]),
)
SETS = st.lists(RULES, min_size=SEGMENTS, max_size=SEGMENTS)


def expected_alone(found: NDArray[np.bool_], rule: Components) -> NDArray[np.bool_]:
    """Return what should be left of a segment that has nothing around it."""
    parts = components(found, rule.connectivity)
    parts = [part for part in parts if len(part) * VOXEL_ML >= rule.component_min_ml]
    if rule.keep != "all":
        parts = parts[: 1 if rule.keep == "largest" else int(rule.keep)]
    left = bits(set().union(*parts), found.shape)
    if left.sum() * VOXEL_ML < rule.volume_min_ml:
        left[:] = False
    if rule.fill_holes == "volume":
        left = ndimage.binary_fill_holes(left)
    if rule.fill_holes == "slices":
        left = np.stack([ndimage.binary_fill_holes(plane) for plane in left])
    return left


@settings(deadline=None)
@given(mask=MASKS, rule=RULES)
def test_one_segment_is_what_brute_force_makes_of_it(
    mask: NDArray[np.uint8], rule: Components
) -> None:
    one = (mask == 1).astype(np.uint8)
    result = cleaned(one, [rule], Scale(SPACING_MM)).mask
    assert np.array_equal(result == 1, expected_alone(one == 1, rule))


@settings(deadline=None)
@given(mask=MASKS, rules=SETS)
def test_overlapping_maps_are_what_brute_force_makes_of_each(
    mask: NDArray[np.uint8], rules: list[Components]
) -> None:
    maps = np.stack([mask >= number for number in range(1, SEGMENTS + 1)])
    result = cleaned(maps, rules, Scale(SPACING_MM)).mask
    for one, before, rule in zip(result, maps, rules, strict=True):
        assert np.array_equal(one, expected_alone(before, rule))


@settings(deadline=None)
@given(mask=MASKS, rules=SETS)
def test_twice_is_once_and_only_background_is_filled(
    mask: NDArray[np.uint8], rules: list[Components]
) -> None:
    once = cleaned(mask, rules, Scale(SPACING_MM))
    twice = cleaned(once.mask, rules, Scale(SPACING_MM))
    assert np.array_equal(once.mask, twice.mask)
    assert not twice.noise
    for number, rule in enumerate(rules, 1):
        grown = (once.mask == number) & (mask != number)
        assert not grown.any() or rule.fill_holes != "none"
        left = once.mask[mask == number]
        assert set(left) - {0, number} <= set(_who_fills(rules)), "taken by another"


def _who_fills(rules: list[Components]) -> list[int]:
    return [number for number, rule in enumerate(rules, 1) if rule.fill_holes != "none"]


@settings(deadline=None)
@given(mask=MASKS, sigmas_mm=st.lists(st.sampled_from([0.0, 0.7, 2.0]), min_size=3, max_size=3))
def test_smoothing_is_the_vote_and_lets_nobody_vanish(
    mask: NDArray[np.uint8], sigmas_mm: list[float]
) -> None:
    rules = [Components(smooth_mm=sigma) for sigma in sigmas_mm]
    result = cleaned(mask, rules, Scale(SPACING_MM)).mask
    assert set(np.unique(result)) | {0} == set(np.unique(mask)) | {0}
    shares = np.stack([_share(mask == n, s) for n, s in enumerate(sigmas_mm, 1)])
    votes = np.concatenate([1 - shares.sum(axis=0, keepdims=True), shares])
    first, second = np.sort(votes, axis=0)[:-3:-1]
    vote = votes.argmax(axis=0)
    vanished = [n for n in np.unique(mask[mask > 0]) if not (vote == n).any()]
    clear = (first - second > 1e-5) & ~np.isin(mask, vanished)
    if not vanished:
        assert np.array_equal(result[clear], vote[clear])
    for number in vanished:
        assert np.array_equal(result[mask == number], mask[mask == number])
    for number, sigma in enumerate(sigmas_mm, 1):
        assert sigma or np.array_equal(result == number, mask == number)


def _share(found: NDArray[np.bool_], sigma_mm: float) -> NDArray[Any]:
    """Return the share of the neighbourhood, in double precision, by plain sums."""
    share = found.astype(float)
    for axis, mm in enumerate(SPACING_MM):
        reach = int(3 * sigma_mm / mm + 0.5)
        if not reach:
            continue
        steps = np.arange(-reach, reach + 1)
        weights = np.exp(-0.5 * (steps * mm / sigma_mm) ** 2)
        weights /= weights.sum()
        size = share.shape[axis]
        total = np.zeros_like(share)
        for step, weight in zip(steps, weights, strict=True):
            at = np.clip(np.arange(size) + step, 0, size - 1)
            total += weight * np.take(share, at, axis=axis)
        share = total
    return share
