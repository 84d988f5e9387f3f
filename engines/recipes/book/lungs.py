"""Lungs on CT with a small U-Net: the shortest way to a SEG.

The one chest that comes with this repository is enough to show the way, not to train an engine
that anybody should use: `ct_lungs` is that.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from engines.recipes.augment import Augmentation
from engines.recipes.book.making import ask_masks, draw_masks
from engines.recipes.book.series import CHEST, drawn_slices_of
from engines.recipes.fitting import Method
from engines.recipes.networks import unet
from engines.recipes.preparation import Preparation
from engines.recipes.recipe import Recipe, Settings
from engines.recipes.samples import Samples
from engines.recipes.split import by_patient

_RANGE_HU = (-1000.0, 400.0)
_BLOCKS = ("train", "validation", "train", "test", "train")
_SPLIT_FROM = 5
"""Patients; fewer cannot be split."""


def _load(directory: Path, preparation: Preparation) -> Samples:
    samples = drawn_slices_of(directory, (CHEST,), preparation, "lungs")
    if len(np.unique(samples.patients)) >= _SPLIT_FROM:
        return by_patient(samples)
    # One patient: neighbouring slices are nearly the same, so at least they stay together.
    block = np.arange(len(samples)) * len(_BLOCKS) // len(samples)
    return replace(
        samples,
        split=np.array(_BLOCKS)[block],
        source="one chest CT, split by blocks of slices, not by patient",
    )


def _build(dropout: float, widths: tuple[int, ...]) -> object:
    return unet((128, 128), 2, value_range=_RANGE_HU, widths=widths, dropout=dropout)


RECIPE = Recipe(
    name="lungs",
    told="lungs on CT, a small U-Net to show the way (one chest)",
    load=_load,
    build=_build,
    settings=Settings(
        Method(epochs=20, steps=12, batch=8, learning_rate=3e-3, patience=8, dice=1.0, balance=0.0),
        Augmentation(
            value_range=_RANGE_HU,
            rotate_degrees=15,
            scale=0.2,
            shift=0.08,
            mirror=True,
            contrast=0.05,
            brightness=0.02,
            noise=0.02,
            darken_lung=0.7,
            hold=False,
        ),
        {"dropout": 0.1, "widths": (8, 16, 32, 48)},
    ),
    outputs=("background", "lungs"),
    exclusive=True,
    is_segmentation=True,
    draw=draw_masks,
    ask=ask_masks,
    shares_patients=True,
    ends=("image_hu", "probabilities"),
    grid={"dropout": ("0.0", "0.2"), "learning_rate": ("0.001", "0.003")},
    tells=(
        "Training changes geometry, density of the lung, and noise of each slice.",
        "Of one patient only: test slices are of the patient that it was trained on.",
    ),
    limits=(
        "A demonstration of the way, trained on one chest; `ct_lungs` is the engine to use.",
        "Pixels of 3.9 mm; fissures and small lesions at the pleura are not followed.",
    ),
)
