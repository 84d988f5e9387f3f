"""Levels become the numbers that a network was trained on."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_node.errors import StudyUnusable
from dicom_node.infer.blocks import Level, Percentile, Scale
from dicom_node.infer.intensity import clipped, scaled

RAMP = np.arange(101, dtype=np.float32)


@pytest.mark.parametrize(
    ("low", "high", "to", "clip", "first", "middle", "last"),
    [
        (0.0, 100.0, (0, 1), True, 0, 0.5, 1),
        (Percentile(10), Percentile(90), (0, 255), True, 0, 127.5, 255),
        (Percentile(10), Percentile(90), (0, 80), False, -10, 40, 90),
        (0.0, Percentile(50), (0, 1), False, 0, 1, 2),
        (0.0, 100.0, (1, -1), True, 1, 0, -1),
    ],
)
def test_two_levels_become_two_numbers(
    low: Level,
    high: Level,
    to: tuple[float, float],
    clip: bool,
    first: float,
    middle: float,
    last: float,
) -> None:
    found = scaled(RAMP, Scale(low=low, high=high, to=to, clip=clip))
    assert found.dtype == np.float32
    assert found[[0, 50, 100]] == pytest.approx([first, middle, last], abs=1e-4)


def test_without_a_scale_or_limits_nothing_changes() -> None:
    assert scaled(RAMP, None) is RAMP
    assert clipped(RAMP, None) is RAMP
    assert clipped(RAMP, (10, 20)).min() == 10


def test_an_image_without_contrast_is_refused() -> None:
    flat = np.full((4, 4), 7, np.float32)
    with pytest.raises(StudyUnusable, match="no contrast: the pixels lie at 7"):
        scaled(flat, Scale(low=Percentile(1), high=Percentile(99)))
