"""The pictures that a card shows: how training went, and what the network says of test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.recipes import pictures
from engines.recipes.calibration import reliability
from engines.recipes.metrics import confusion
from engines.recipes.recipe import Recipe
from engines.recipes.training import Trained

_SHOWN = 12
_NONE = "none"


def draw(recipe: Recipe, trained: Trained, folder: Path) -> dict[str, str]:
    """Draw the pictures of a card into a folder; return the caption of each by its file name."""
    drawn = {"curves.png": "loss in training, and score on validation, epoch by epoch"}
    history = {
        "loss": [epoch.loss for epoch in trained.epochs],
        "val_score": [epoch.score for epoch in trained.epochs],
    }
    pictures.learning_curves(history, folder / "curves.png")
    if recipe.is_segmentation:
        drawn["examples.png"] = "slices of test: the truth in green, the network in red"
        _draw_masks(trained, folder / "examples.png")
        return drawn
    truth = trained.test.truth
    first = 1 if recipe.exclusive and len(recipe.outputs) == 2 else 0
    names = dict(enumerate(recipe.outputs)) if not first else {1: recipe.outputs[1]}
    pictures.roc_curves(
        {name: (trained.answers[:, at], truth[:, at]) for at, name in names.items()},
        folder / "roc.png",
    )
    drawn["roc.png"] = "ROC curves on test"
    columns = list(names)
    pictures.reliability_diagram(
        {
            "before": reliability(
                trained.uncalibrated[:, columns].ravel(), truth[:, columns].ravel()
            ),
            "after": reliability(trained.answers[:, columns].ravel(), truth[:, columns].ravel()),
        },
        folder / "reliability.png",
    )
    drawn["reliability.png"] = "what was said against what was so, before and after calibration"
    said, true, labels = _classes(recipe, trained)
    pictures.confusion_matrix(confusion(said, true, len(labels)), labels, folder / "confusion.png")
    drawn["confusion.png"] = "images of test with one fault, or none, at `limited`"
    if not recipe.judged:
        drawn["confusion.png"] = "test at the threshold that validation chose"
    chosen = np.linspace(0, len(said) - 1, _SHOWN).round().astype(int)
    alone = _alone(recipe, trained)[chosen]
    titles = [f"{labels[true[at]]}\nsaid: {labels[said[at]]}" for at in chosen]
    pictures.examples(trained.test.images[alone], titles, folder / "examples.png")
    drawn["examples.png"] = "images of test: what is so, and what the network says"
    return drawn


def _alone(recipe: Recipe, trained: Trained) -> NDArray[np.intp]:
    """Return the questions with one answer: of faults those with one or none."""
    if not recipe.judged:
        return np.arange(len(trained.test))
    return np.flatnonzero((trained.test.truth[:, : recipe.judged] >= 0.5).sum(axis=1) <= 1)


def _classes(recipe: Recipe, trained: Trained) -> tuple[NDArray[Any], NDArray[Any], list[str]]:
    """Return what was said of each question with one answer, what is so, and their names."""
    at = _alone(recipe, trained)
    answers, truth = trained.answers[at], trained.test.truth[at]
    thresholds = trained.figures.thresholds
    if recipe.judged:
        limits = np.array([each.limited for each in thresholds[: recipe.judged]])
        over = answers[:, : recipe.judged] - limits
        said = np.where((over >= 0).any(axis=1), over.argmax(axis=1) + 1, 0)
        faults = truth[:, : recipe.judged] >= 0.5
        true = np.where(faults.any(axis=1), faults.argmax(axis=1) + 1, 0)
        return said, true, [_NONE, *recipe.outputs[: recipe.judged]]
    last = len(recipe.outputs) - 1
    said = (answers[:, last] >= thresholds[last].present).astype(int)
    true = (truth[:, last] >= 0.5).astype(int)
    absent = recipe.outputs[0] if last else f"no {recipe.outputs[0]}"
    return said, true, [absent, recipe.outputs[last]]


def _draw_masks(trained: Trained, file: Path) -> None:
    count = min(len(trained.test), _SHOWN)
    at = np.linspace(0, len(trained.test) - 1, count).round().astype(int)
    pictures.segmented_examples(
        trained.test.images[at],
        trained.test.truth[at].astype(np.uint8),
        trained.answers[at].argmax(axis=-1).astype(np.uint8),
        [f"slice {index}" for index in at],
        file,
    )
