"""Technical faults of an axial CT, simulated on slices of a chest and an abdomen."""

from __future__ import annotations

from pathlib import Path

from engines.recipes import ct_faults
from engines.recipes.augment import Augmentation
from engines.recipes.book.series import ABDOMEN, CHEST, slices_of
from engines.recipes.faults import batches_of
from engines.recipes.fitting import Method
from engines.recipes.networks import textbook_cnn
from engines.recipes.preparation import Preparation
from engines.recipes.recipe import Recipe, Settings
from engines.recipes.samples import Samples

_RANGE_HU = (-1024.0, 1476.0)


def _load(directory: Path, preparation: Preparation) -> Samples:
    return slices_of(directory, (ABDOMEN, CHEST), preparation)


def _build(dropout: float, widths: tuple[int, ...]) -> object:
    return textbook_cnn(
        (128, 128), len(ct_faults.FAULTS), value_range=_RANGE_HU, widths=widths, dropout=dropout
    )


_DRAW, _ASK = batches_of(ct_faults.with_faults)

RECIPE = Recipe(
    name="ct_quality",
    told="technical faults of an axial CT, 128 x 128 pixels (chest and abdomen)",
    load=_load,
    build=_build,
    settings=Settings(
        Method(
            epochs=20,
            steps=24,
            batch=32,
            learning_rate=2e-3,
            weight_decay=2e-4,
            patience=6,
            balance=0.5,
        ),
        Augmentation(
            value_range=_RANGE_HU,
            rotate_degrees=12,
            scale=0.2,
            shift=0.08,
            mirror=True,
            contrast=0.02,
            brightness=0.006,
            noise=0.005,
            blur=0.5,
            darken_lung=0.6,
            hold=False,
        ),
        {"dropout": 0.2, "widths": (6, 12, 24, 48, 64)},
    ),
    outputs=ct_faults.FAULTS,
    judged=len(ct_faults.FAULTS),
    draw=_DRAW,
    ask=_ASK,
    copies=6,
    leave_one_out=True,
    ends=("image_hu", "probabilities"),
    grid={"dropout": ("0.1", "0.3"), "learning_rate": ("0.001", "0.003")},
    tells=(
        "The four faults are simulated anew on each slice each time it is seen "
        "(engines/recipes/ct_faults.py).",
        "Widths, epochs and the rule for `limited` were settled after figures had been seen.",
    ),
    limits=(
        "Two patients: the figures say that it carries over from a chest to an abdomen and back, "
        "and no more.",
        "The noise of a low dose is what it misses most: one image in nine.",
        "It sees pixels of 3.9 mm: faint noise and small motion are out of its reach.",
        "The faults it learnt were simulated.",
    ),
)
