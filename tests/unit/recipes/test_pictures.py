"""Pictures for the card: there, legible, and the same every time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines.recipes.calibration import reliability
from engines.recipes.errors import DataUnusable
from engines.recipes.pictures import (
    confusion_matrix,
    examples,
    learning_curves,
    reliability_diagram,
    roc_curves,
    segmented_examples,
)

pytest.importorskip("matplotlib")

RANDOM = np.random.default_rng(0)
TRUTH = np.arange(200) % 2
SCORES = np.clip(TRUTH * 0.3 + RANDOM.random(200) * 0.7, 0, 1)
SLICES = RANDOM.normal(0, 40, (7, 32, 32, 3)).astype(np.float32)
MASKS = np.zeros((7, 32, 32), np.uint8)
MASKS[:6, 8:20, 8:20] = 1

DRAWN: dict[str, Callable[[Path], None]] = {
    "curves": lambda file: learning_curves(
        {
            "loss": [3, 2, 1],
            "val_loss": [3, 2.5, 2],
            "auc": [0.5, 0.6, 0.7],
            "learning_rate": [1] * 3,
        },
        file,
    ),
    "roc": lambda file: roc_curves(
        {"ill": (SCORES, TRUTH), "never": (SCORES, np.zeros(200))}, file
    ),
    "reliability": lambda file: reliability_diagram({"before": reliability(SCORES, TRUTH)}, file),
    "confusion": lambda file: confusion_matrix(np.array([[9, 1], [0, 0]]), ["no", "yes"], file),
    "examples": lambda file: examples(np.abs(SLICES), [f"said {i}" for i in range(7)], file),
    "segmented": lambda file: segmented_examples(
        SLICES, MASKS, np.roll(MASKS, 3, axis=2), [str(i) for i in range(7)], file
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_a_png_that_shows_something_and_stays_the_same(
    name: str, tmp_path: Path
) -> None:
    once, again = tmp_path / "once.png", tmp_path / "again.png"
    DRAWN[name](once)
    DRAWN[name](again)
    assert once.read_bytes() == again.read_bytes()
    with Image.open(once) as picture:
        assert picture.format == "PNG"
        assert not picture.info.get("Software")
        pixels = np.asarray(picture.convert("RGB"))
    assert min(pixels.shape[:2]) > 150
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


def test_the_outlines_of_truth_and_answer_lie_where_the_masks_do(tmp_path: Path) -> None:
    file = tmp_path / "segmented.png"
    segmented_examples(SLICES[:1], MASKS[:1], np.roll(MASKS[:1], 8, axis=2), ["one"], file)
    pixels = np.asarray(Image.open(file).convert("RGB")).astype(int)
    green = np.argwhere((pixels[..., 1] > 180) & (pixels[..., 0] < 120))
    red = np.argwhere((pixels[..., 0] > 220) & (pixels[..., 1] < 130))
    assert len(green) > 100
    assert len(red) > 100
    # the same height, and to the right by 8 of 12 pixels
    height, width = np.ptp(green, axis=0)
    assert np.ptp(red, axis=0)[0] == pytest.approx(height, abs=3)
    down, across = red.max(axis=0) - green.max(axis=0)
    assert across == pytest.approx(width * 8 / 12, rel=0.1)
    assert abs(down) < 3


def test_images_and_titles_must_belong_together(tmp_path: Path) -> None:
    with pytest.raises(DataUnusable, match="7 images and 1 titles"):
        examples(SLICES, ["one"], tmp_path / "picture.png")
