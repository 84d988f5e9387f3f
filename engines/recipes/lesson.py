"""What a recipe teaches, from samples: batches for training, questions for validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.recipes.metrics import auc, dice
from engines.recipes.recipe import Make, Recipe, Settings
from engines.recipes.samples import Samples

VALIDATION_SEED, TEST_SEED = 7, 8
"""Of what is simulated for them: the same questions, whatever the seed of training."""


@dataclass(frozen=True, eq=False)
class Questions:
    """Images that a network is asked about, the answers, and whose they are."""

    images: NDArray[np.float32]
    truth: NDArray[np.float32]
    """(n, outputs), or label maps (n, rows, columns)."""
    patients: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.images)

    def and_(self, others: Sequence[Questions]) -> Questions:
        """Return these questions and others, one after the other."""
        every = [self, *others]
        return Questions(
            np.concatenate([each.images for each in every]),
            np.concatenate([each.truth for each in every]),
            np.concatenate([each.patients for each in every]),
        )


class RecipeLesson:
    """The lesson of a recipe.

    Parameters
    ----------
    recipe : Recipe
    settings : Settings
    train, validation : Samples
    """

    def __init__(
        self, recipe: Recipe, settings: Settings, train: Samples, validation: Samples
    ) -> None:
        self._recipe, self._settings, self._train = recipe, settings, train
        make = recipe.validate or recipe.ask
        self.validation = questions(recipe, settings, validation, make, VALIDATION_SEED)

    def draw(
        self, chosen: NDArray[np.intp], random: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return a batch; see `fitting.Lesson`."""
        images, targets = self._train.images[chosen], self._train.targets[chosen]
        images, truth = self._recipe.draw(images, targets, self._settings.augmentation, random)
        return _seen(images, self._settings), truth

    def score(self, model: Any) -> float:
        """Return the mean over outputs of the AUC, or of the Dice overlap of what is drawn."""
        asked = self.validation
        answers = answered(model, asked.images, self._settings)
        return score(self._recipe, answers, asked.truth)

    def shares(self) -> NDArray[np.float64]:
        """Return how often each output is present in what training draws."""
        chosen = np.arange(len(self._train))
        random = np.random.default_rng(VALIDATION_SEED)
        _, truth = self.draw(chosen, random)
        if self._recipe.is_segmentation:
            counts = np.bincount(
                truth.astype(np.int64).ravel(), minlength=len(self._recipe.outputs)
            )
            return np.asarray(counts / counts.sum())
        return np.asarray(np.nanmean(truth, axis=0, dtype=np.float64))


def questions(
    recipe: Recipe, settings: Settings, samples: Samples, make: Make, seed: int
) -> Questions:
    """Return what a network is asked about samples; the same each time."""
    random = np.random.default_rng(seed)
    asked = [
        make(samples.images, samples.targets, settings.augmentation, random)
        for _ in range(recipe.copies)
    ]
    return Questions(
        np.concatenate([images for images, _ in asked]),
        np.concatenate([truth for _, truth in asked]),
        np.tile(samples.patients, recipe.copies),
    )


def answered(model: Any, images: NDArray[np.float32], settings: Settings) -> NDArray[np.float32]:
    """Return what a model answers, (n, outputs) or (n, rows, columns, labels)."""
    given = np.repeat(images, model.input.shape[-1], axis=-1)
    answers: NDArray[np.float32] = np.asarray(
        model.predict(given, batch_size=settings.method.batch, verbose=0)
    )
    return answers


def score(recipe: Recipe, answers: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Return one figure for all outputs; those of which nothing is known are left out."""
    if recipe.is_segmentation:
        drawn = answers.argmax(axis=-1)
        each = [dice(drawn, truth, label) for label in range(1, len(recipe.outputs))]
    else:
        judged = range(recipe.judged or len(recipe.outputs))
        each = [auc(answers[:, output], truth[:, output]) for output in judged]
    return float(np.nanmean(each))


def _seen(images: NDArray[np.float32], settings: Settings) -> NDArray[np.float32]:
    return np.repeat(images, int(settings.network.get("channels", 1)), axis=-1)
