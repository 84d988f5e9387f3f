"""Resampling moves nothing: averages are exact, ramps stay ramps, flips commute."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.infer.resample import axis_weights, resample


def test_whole_blocks_are_averaged_exactly() -> None:
    image = np.random.default_rng(1).normal(size=(512, 512)).astype(np.float32)
    weights = axis_weights(512, 0.9765625, 128, 3.90625)
    expected = image.reshape(128, 4, 128, 4).mean(axis=(1, 3))
    shrunk = resample(resample(image, weights, 0), weights, 1)
    assert np.allclose(shrunk, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("size_in", "spacing_in", "size_out", "spacing_out"),
    [
        (100, 1.0, 37, 2.5),
        (512, 0.7, 128, 3.90625),
        (60, 3.0, 256, 1.0),
        (128, 3.90625, 512, 0.9765625),
        (77, 1.3, 50, 2.002),
        (10, 1.0, 10, 1.0),
    ],
)
def test_a_ramp_in_millimetres_stays_that_ramp(
    size_in: int, spacing_in: float, size_out: int, spacing_out: float
) -> None:
    def centres_mm(size: int, spacing: float) -> np.ndarray:
        return (np.arange(size) + 0.5 - size / 2) * spacing

    weights = axis_weights(size_in, spacing_in, size_out, spacing_out)
    found = weights @ centres_mm(size_in, spacing_in).astype(np.float32)
    expected = centres_mm(size_out, spacing_out)
    reach = (size_in * spacing_in - max(spacing_in, spacing_out)) / 2
    inside = np.abs(expected) <= reach
    assert inside.sum() > 5
    wrong = found[inside] - expected[inside]
    # Pixels are areas of one value: a mean over parts of them wavers about the ramp, unshifted.
    assert np.abs(wrong).max() < 0.06 * spacing_out
    assert abs(wrong.mean()) < 1e-3 * spacing_out


def test_what_lies_outside_the_field_of_view_has_no_weight() -> None:
    sums: NDArray[np.float64] = axis_weights(100, 1.0, 140, 1.0).sum(axis=1)
    assert np.allclose(sums[:20], 0)
    assert np.allclose(sums[20:120], 1)
    assert np.allclose(sums[120:], 0)
    half: NDArray[np.float64] = axis_weights(3, 1.0, 2, 2.0).sum(axis=1)
    assert np.allclose(half, 0.75)


@pytest.mark.parametrize(("size_out", "spacing_out"), [(31, 3.3), (256, 0.4), (101, 1.0)])
def test_a_flip_before_is_a_flip_after(size_out: int, spacing_out: float) -> None:
    values = np.random.default_rng(2).normal(size=101).astype(np.float32)
    weights = axis_weights(101, 1.0, size_out, spacing_out)
    assert np.allclose((weights @ values)[::-1], weights @ values[::-1], atol=1e-5)


def test_any_axis_can_be_resampled_and_none_changes_nothing() -> None:
    values = np.random.default_rng(3).normal(size=(4, 6, 8)).astype(np.float32)
    weights = axis_weights(6, 1.0, 3, 2.0)
    found = resample(values, weights, 1)
    assert np.allclose(found, (values[:, ::2] + values[:, 1::2]) / 2, atol=1e-6)
    assert resample(values, None, 1) is values


def test_a_single_pixel_can_be_enlarged() -> None:
    assert np.allclose(axis_weights(1, 4.0, 4, 1.0).toarray(), 1.0)
