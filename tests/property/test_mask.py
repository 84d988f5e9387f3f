"""The quick way back to the source's grid gives the mask of the slow one, voxel by voxel."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dicom_node.finding import Code
from dicom_node.geometry import Grid
from dicom_node.infer.blocks import Model, SegmentLabel, VolumeInput
from dicom_node.infer.likelihoods import Likelihoods
from dicom_node.infer.mask import exclusive_mask, independent_masks
from dicom_node.infer.volume import Placement, place
from tests.unit.infer.way_back import mixed, to_source

AXES = st.sampled_from(["HPL", "FAR", "LFA", "PLH", "RHP"])
SPACING = st.sampled_from([0.5, 0.9, 1.0, 1.7, 4.0])
SIDE = st.integers(2, 12)


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]])  # axial, upright
    affine[:3, :3] *= [draw(SPACING) for _ in range(3)]
    grid = Grid((draw(SIDE), draw(SIDE), draw(SIDE)), affine)
    wanted = VolumeInput(
        network_sees="whole",
        axes=draw(AXES),
        spacing_mm=(draw(SPACING), draw(SPACING), draw(SPACING)),
        size_multiple=draw(st.sampled_from([1, 4])),
    )
    return place(grid, wanted)


def network_shape(placement: Placement) -> tuple[int, ...]:
    sides = [
        size if weights is None else weights.shape[1]
        for size, weights in zip(placement.shape, placement.backward, strict=True)
    ]
    return tuple(sides[axis] for axis in placement.match.axes)


def blobs(shape: tuple[int, ...], channels: int, seed: int) -> NDArray[np.float32]:
    """Return channels that are smooth in places and noise in others."""
    random = np.random.default_rng(seed)
    coarse = random.normal(size=(channels, *(-(-side // 3) for side in shape)))
    smooth = coarse.repeat(3, 1).repeat(3, 2).repeat(3, 3)
    parts = tuple(slice(0, side) for side in shape)
    noise = random.normal(size=(channels, *shape)) * (random.random(shape) < 0.3)
    return (smooth[(slice(None), *parts)] + noise).astype(np.float32)


@settings(max_examples=80, deadline=None)
@given(placements(), st.integers(1, 5), st.integers(0, 9))
def test_the_largest_channel_wins_everywhere(
    placement: Placement, channels: int, seed: int
) -> None:
    answer = blobs(network_shape(placement), channels, seed)
    mask = exclusive_mask(iter(answer.swapaxes(0, 1)), placement)
    expected = to_source(answer, placement)
    assert_equal_but_for_ties(mask, expected, mixed(answer, placement))


@settings(max_examples=60, deadline=None)
@given(placements(), st.integers(0, 9))
def test_the_label_that_fills_most_wins_everywhere(placement: Placement, seed: int) -> None:
    labels = np.argmax(blobs(network_shape(placement), 4, seed), axis=0).astype(np.uint8)
    mask = exclusive_mask(iter(labels), placement)
    shares = mixed(np.stack([labels == label for label in range(4)]), placement)
    assert_equal_but_for_ties(mask, np.argmax(shares, axis=0), shares)


@settings(max_examples=60, deadline=None)
@given(placements(), st.integers(0, 9))
def test_each_independent_class_has_its_own_threshold(placement: Placement, seed: int) -> None:
    answer = blobs(network_shape(placement), 3, seed)
    thresholds = (0.0, 0.7, -0.4)
    masks = independent_masks(iter(answer.swapaxes(0, 1)), placement, thresholds)
    said = mixed(answer, placement)
    inside = mixed(np.ones((1, *network_shape(placement))), placement)[0] > 0.5
    for mask, channel, threshold in zip(masks, said, thresholds, strict=True):
        different = mask != ((channel >= threshold) & inside)
        assert (np.abs(channel[different] - threshold) < 1e-5).all()


@settings(max_examples=60, deadline=None)
@given(
    placements(),
    st.integers(0, 9),
    st.sampled_from(["exclusive", "independent"]),
    st.sampled_from(["logits", "probabilities"]),
)
def test_likelihoods_are_those_of_every_voxel(
    placement: Placement,
    seed: int,
    classes_are: Literal["exclusive", "independent"],
    gives: Literal["logits", "probabilities"],
) -> None:
    answer = blobs(network_shape(placement), 3, seed)
    model = Model(sha256="0" * 64, input="x", output="y", gives=gives, classes_are=classes_are)
    labels = [label(2), label(1)]
    likely = Likelihoods(model, labels, placement.shape)
    planes = iter(answer.swapaxes(0, 1))
    if classes_are == "exclusive":
        exclusive_mask(planes, placement, likely)
    else:
        independent_masks(planes, placement, [0.5] * 3, likely)
    said = mixed(answer, placement)
    if gives == "logits":
        sums = np.exp(said).sum(axis=0)
        said = np.exp(said) / sums if classes_are == "exclusive" else 1 / (1 + np.exp(-said))
    inside = mixed(np.ones((1, *network_shape(placement))), placement)[0] > 0.5
    first = 0 if classes_are == "exclusive" else 1
    expected = np.where(inside, np.clip(said[[2 - first, 1 - first]], 0, 1), 0)
    assert likely.values.shape == expected.shape
    assert np.abs(likely.values / 255 - expected).max() < 0.5 / 255 + 1e-5


def label(number: int) -> SegmentLabel:
    code = Code("39607008", "SCT", "Lung")
    return SegmentLabel(label=number, name=f"Class {number}", category=code, type=code)


def assert_equal_but_for_ties(
    mask: NDArray[np.uint8], expected: NDArray[Any], channels: NDArray[np.float64]
) -> None:
    at = np.nonzero(mask != expected)
    given_up = channels[(expected[at], *at)] - channels[(mask[at], *at)]
    assert (given_up < 1e-5).all()
