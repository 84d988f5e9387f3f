"""Samples cannot exist half right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engines.recipes.errors import DataUnusable
from tests.unit.recipes.making import make_samples


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"images": np.zeros((3, 2, 2), np.float32)}, "images are float32"),
        ({"images": np.zeros((3, 2, 2, 1), np.uint8)}, "images are uint8"),
        ({"names": np.array(["one"])}, "3 images, but 1 of names"),
        ({"targets": np.zeros((3, 2), np.float32)}, r"targets are float32 \(3, 2\)"),
        ({"targets": np.zeros((3, 1), np.float64)}, "targets are float64"),
        ({"targets": np.zeros((3, 4, 4), np.uint8)}, "label maps are"),
        ({"targets": np.full((3, 2, 2), 7, np.uint8)}, "a label map holds 7"),
        ({"patients": np.array(["one", "", "two"])}, "nobody says whose image 1 is"),
        ({"split": np.array(["train", "test", "val"])}, "split holds other words"),
    ],
)
def test_what_does_not_fit_together_is_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(DataUnusable, match=told):
        replace(make_samples(["one", "two", "three"]), **changed)


def test_a_part_has_its_samples_and_no_others() -> None:
    samples = make_samples(["one", "two", "three"], split=["train", "test", "train"])
    assert samples.part("train").names.tolist() == ["image 0", "image 2"]
    assert samples.part("train").targets.tolist() == [[0], [0]]


def test_a_part_that_is_empty_or_was_never_made_is_refused() -> None:
    with pytest.raises(DataUnusable, match="no sample is for validation"):
        make_samples(["one"], split=["train"]).part("validation")
    with pytest.raises(DataUnusable, match="not split"):
        make_samples(["one"]).part("train")
