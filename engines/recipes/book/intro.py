"""The introductory classifier: is a chest X-ray an AP or a PA view? One layer of each kind."""

from __future__ import annotations

from engines.recipes.augment import Augmentation
from engines.recipes.book.making import ask_labels, draw_labels
from engines.recipes.book.views import views
from engines.recipes.fitting import Method
from engines.recipes.networks import introductory
from engines.recipes.recipe import Recipe, Settings


def _build(channels: int) -> object:
    return introductory(channels=channels)


RECIPE = Recipe(
    name="intro",
    told="the introductory classifier: AP or PA view of a chest X-ray, 64 x 64 pixels",
    load=views,
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
