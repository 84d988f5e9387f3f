"""Pneumonia on chest X-rays of children, from PneumoniaMNIST.

The set's test images come from another time than the rest, and are otherwise exposed; a network
that has seen nothing else takes that for disease. So brightness, contrast and gamma are changed
widely in training, and validation asks about images changed in the same way: it would be at 0.99
from the first epochs on if they were not, and would choose blindly.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engines.recipes.augment import Augmentation
from engines.recipes.book.making import ask_labels, draw_labels, one_of_two
from engines.recipes.fitting import Method
from engines.recipes.loaders import load
from engines.recipes.networks import textbook_cnn
from engines.recipes.preparation import Preparation
from engines.recipes.recipe import Recipe, Settings
from engines.recipes.samples import Samples

_FILE = "pneumoniamnist_28.npz"


def _load(directory: Path, preparation: Preparation) -> Samples:
    file = directory / _FILE
    samples = load("medmnist", file if file.is_file() else directory)
    return replace(samples, targets=one_of_two(samples.targets), labels=("normal", *samples.labels))


def _build(dropout: float, widths: tuple[int, ...]) -> object:
    return textbook_cnn((28, 28), 2, widths=widths, dropout=dropout, last="softmax")


RECIPE = Recipe(
    name="cxr_pneumonia",
    told="pneumonia on a chest X-ray, 28 x 28 pixels (PneumoniaMNIST)",
    load=_load,
    build=_build,
    settings=Settings(
        Method(
            epochs=12, batch=64, learning_rate=2e-3, weight_decay=5e-4, smoothing=0.05, patience=6
        ),
        Augmentation(
            rotate_degrees=12,
            scale=0.15,
            shift=0.08,
            mirror=True,
            gamma=0.4,
            contrast=0.3,
            brightness=0.15,
            noise=0.04,
            blur=0.6,
        ),
        {"dropout": 0.3, "widths": (16, 32, 64)},
    ),
    outputs=("normal", "pneumonia"),
    exclusive=True,
    draw=draw_labels,
    ask=ask_labels,
    validate=draw_labels,
    specificity=0.98,
    grid={"dropout": ("0.2", "0.4"), "learning_rate": ("0.001", "0.003")},
    tells=(
        "Validation chooses the epoch by images that are changed as in training.",
        "The network was settled before any figure of test was seen, the kind of calibration and "
        "the rule for the threshold after: the AUC is blind, the other figures not quite.",
    ),
    limits=(
        "Trained on children of 1 to 5 years at 28 x 28 pixels; not validated for adults.",
        "A low probability does not exclude pneumonia.",
        "Probabilities hold where three of four children have it, as in the set; elsewhere they "
        "are too high, and only the threshold counts.",
        "No region is shown: the network looks at the whole image.",
        "Nobody says which images of the set are of one child; the official split is taken as is.",
    ),
)
