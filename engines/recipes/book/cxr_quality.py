"""Technical faults of a chest X-ray, simulated on images of NIH ChestX-ray14, and its real view."""

from __future__ import annotations

from engines.recipes import xray_faults
from engines.recipes.augment import Augmentation
from engines.recipes.book.views import views
from engines.recipes.faults import batches_of
from engines.recipes.fitting import Method
from engines.recipes.networks import textbook_cnn
from engines.recipes.recipe import Recipe, Settings


def _build(dropout: float, widths: tuple[int, ...]) -> object:
    return textbook_cnn((64, 64), 6, widths=widths, dropout=dropout)


_DRAW, _ASK = batches_of(xray_faults.with_faults)

RECIPE = Recipe(
    name="cxr_quality",
    told="technical faults of a chest X-ray, 64 x 64 pixels (NIH ChestX-ray14)",
    load=views,
    build=_build,
    settings=Settings(
        Method(
            epochs=9,
            steps=30,
            batch=64,
            learning_rate=2e-3,
            weight_decay=2e-4,
            patience=8,
            balance=0.5,
        ),
        Augmentation(
            rotate_degrees=8,
            scale=0.12,
            shift=0.06,
            mirror=True,
            gamma=0.3,
            contrast=0.15,
            noise=0.01,
            blur=0.4,
        ),
        {"dropout": 0.2, "widths": (8, 24, 48, 96)},
    ),
    outputs=(*xray_faults.FAULTS, "AP view"),
    draw=_DRAW,
    ask=_ASK,
    copies=3,
    judged=len(xray_faults.FAULTS),
    grid={"dropout": ("0.1", "0.3"), "learning_rate": ("0.001", "0.003")},
    tells=(
        "The five faults are simulated anew on each image each time it is seen "
        "(engines/recipes/xray_faults.py); the view is the one of the data set's table.",
        "Patients, not images, are split: in the split that this excerpt came with, eight were in "
        "two parts.",
        "The network was settled before any figure of test was seen, the rule for `limited` after.",
    ),
    limits=(
        "It sees 64 x 64 pixels: fine blur, fine noise, positioning and inspiration are out of "
        "its reach.",
        "The view is a note and no more: of the seven real images of this repository's tests, all "
        "of them PA and without a fault above 0.01, it takes one for AP.",
        "The faults it learnt were simulated. It knows frontal chests only.",
    ),
)
