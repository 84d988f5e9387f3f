"""The introductory classifier: is a chest X-ray an AP or a PA view? One layer of each kind."""

from __future__ import annotations

from pathlib import Path

from engines.recipes.augment import Augmentation
from engines.recipes.book.making import ask_labels, draw_labels
from engines.recipes.fitting import Method
from engines.recipes.loaders import load
from engines.recipes.loaders.nih import AP_VIEW
from engines.recipes.networks import introductory
from engines.recipes.preparation import Preparation
from engines.recipes.recipe import Recipe, Settings
from engines.recipes.samples import Samples

_FILE = "nih_chestxray14_1000_64.npz"
_FRACTIONS = (0.6, 0.2, 0.2)


def _load(directory: Path, preparation: Preparation) -> Samples:
    file = directory / _FILE
    where = file if file.is_file() else directory
    return load(
        "nih", where, preparation=preparation, labels=(AP_VIEW,), fractions=_FRACTIONS, seed=1
    )


def _build(channels: int) -> object:
    return introductory(channels=channels)


RECIPE = Recipe(
    name="intro",
    told="the introductory classifier: AP or PA view of a chest X-ray, 64 x 64 pixels",
    load=_load,
    build=_build,
    settings=Settings(
        Method(
            epochs=12, batch=32, learning_rate=1e-3, weight_decay=0.0, warm_up=0.05, balance=0.0
        ),
        Augmentation(shift=0.03, mirror=True, brightness=0.05),
        {"channels": 3},
    ),
    outputs=("AP view",),
    draw=draw_labels,
    ask=ask_labels,
    grid={"learning_rate": ("0.0003", "0.001", "0.003")},
    tells=("The three channels of the network see the same grey image.",),
    limits=(
        "An exercise: headers say which view it is, as a rule.",
        "It sees 64 x 64 pixels of frontal chests.",
    ),
)
