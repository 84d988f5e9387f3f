"""From samples to a network with its figures: train, choose, calibrate, and only then test.

Validation chooses the epoch, the settings of a search, the calibration and the thresholds. Test is
asked once, at the end, and chooses nothing. Where there are too few patients for that
(`leave_one_out`), each is asked about by a network that was trained without him, and the network
that is kept has seen all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from engines.recipes.backend import keras
from engines.recipes.calibration import Calibration, fit_platt, fit_temperature
from engines.recipes.errors import DataUnusable
from engines.recipes.figures import Figures, figures_of, thresholds_of
from engines.recipes.fitting import Epoch, balanced, fit
from engines.recipes.lesson import (
    TEST_SEED,
    VALIDATION_SEED,
    Questions,
    RecipeLesson,
    answered,
    questions,
)
from engines.recipes.networks import LOGITS
from engines.recipes.recipe import Recipe, Settings
from engines.recipes.samples import Samples
from engines.recipes.split import check_leaks

Tell = Callable[[str, int, int, str], None]
"""Is told what is being done, how many of how many steps are, and how well it goes."""
_SEARCH_SHARE = 3
"""A search trains each candidate for one of so many parts of the epochs."""


@dataclass(frozen=True)
class Tried:
    """One candidate of a search."""

    words: Mapping[str, str]
    score: float
    """Its best on validation."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A network, and how it stands."""

    model: Any
    settings: Settings
    epochs: tuple[Epoch, ...]
    tried: tuple[Tried, ...]
    calibrations: tuple[Calibration, ...]
    figures: Figures
    test: Questions
    answers: NDArray[np.float32]
    """What it said to the questions of test."""
    uncalibrated: NDArray[np.float32]
    """What it would have said without calibration."""


@dataclass(frozen=True, eq=False)
class _Asked:
    """Questions with the logits that a network gave for them; of segmentations probabilities."""

    questions: Questions
    said: NDArray[np.float32]


def train(
    recipe: Recipe,
    samples: Samples,
    settings: Settings,
    grid: Mapping[str, Sequence[str]],
    tell: Tell = lambda what, done, total, words: None,
) -> Trained:
    """Return a trained network with the figures of its test.

    Parameters
    ----------
    recipe : Recipe
    samples : Samples
        Split, unless the recipe leaves one patient out after the other.
    settings : Settings
    grid : mapping
        The values of each word that a search is to try; nothing is searched if it is empty.
    tell : callable

    Raises
    ------
    DataLeaks
        If a patient, or an image, is in two parts of the split.
    DataUnusable
        If a part is empty.
    """
    if grid and recipe.leave_one_out:
        raise DataUnusable(
            f"{recipe.name} has too few patients to search by validation",
            hint="leave out --search, or gather patients and a split",
        )
    if not recipe.leave_one_out and not recipe.shares_patients:
        check_leaks(samples)
    tried = _search(recipe, samples, settings, grid, tell)
    if tried:
        settings = settings.having(max(tried, key=lambda each: each.score).words)
    way = _leaving_one_out if recipe.leave_one_out else _by_split
    model, epochs, validation, test = way(recipe, samples, settings, tell)
    calibrations: tuple[Calibration, ...] = ()
    if not recipe.is_segmentation:
        calibrations = _calibrated(recipe, validation)
        _put_into(model, calibrations)
    checked = _probabilities(recipe, validation, calibrations)
    answers = _probabilities(recipe, test, calibrations)
    uncalibrated = _probabilities(recipe, test, tuple(Calibration() for _ in calibrations))
    figures = figures_of(
        recipe,
        thresholds_of(recipe, checked, validation.questions.truth),
        answers,
        test.questions,
        uncalibrated,
    )
    return Trained(
        model=model,
        settings=settings,
        epochs=tuple(epochs),
        tried=tried,
        calibrations=calibrations,
        figures=figures,
        test=test.questions,
        answers=answers,
        uncalibrated=uncalibrated,
    )


def _search(
    recipe: Recipe,
    samples: Samples,
    settings: Settings,
    grid: Mapping[str, Sequence[str]],
    tell: Tell,
) -> tuple[Tried, ...]:
    candidates = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    tried = []
    for words in candidates if grid else ():
        candidate = settings.having(words)
        epochs = max(candidate.method.epochs // _SEARCH_SHARE, 1)
        candidate = replace(candidate, method=replace(candidate.method, epochs=epochs))
        name = ", ".join(f"{word}={value}" for word, value in words.items())
        _, went, _ = _fitted(
            recipe, samples.part("train"), samples.part("validation"), candidate, name, tell
        )
        tried.append(Tried(words, max(epoch.score for epoch in went)))
    return tuple(tried)


def _by_split(
    recipe: Recipe, samples: Samples, settings: Settings, tell: Tell
) -> tuple[Any, list[Epoch], _Asked, _Asked]:
    train_, validation = samples.part("train"), samples.part("validation")
    model, epochs, lesson = _fitted(recipe, train_, validation, settings, "training", tell)
    test = questions(recipe, settings, samples.part("test"), recipe.ask, TEST_SEED)
    asked = (_Asked(each, _said(model, each, settings)) for each in (lesson.validation, test))
    return model, epochs, *asked


def _leaving_one_out(
    recipe: Recipe, samples: Samples, settings: Settings, tell: Tell
) -> tuple[Any, list[Epoch], _Asked, _Asked]:
    patients = list(np.unique(samples.patients))
    if len(patients) < 2:
        raise DataUnusable(
            "one patient only: nobody is left to ask about",
            hint="gather at least two, each in a folder of his own",
        )
    asked: dict[int, list[_Asked]] = {VALIDATION_SEED: [], TEST_SEED: []}
    curves = []
    for patient in patients:
        left = samples.take(samples.patients == patient)
        others = samples.take(samples.patients != patient)
        name = f"without {patient}"
        model, epochs, _ = _fitted(recipe, others, left, settings, name, tell, keep_best=False)
        curves.append(epochs)
        for seed, into in asked.items():
            about = questions(recipe, settings, left, recipe.ask, seed)
            into.append(_Asked(about, _said(model, about, settings)))
    model, _, _ = _fitted(
        recipe, samples, samples, settings, "with all patients", tell, keep_best=False
    )
    mean = [
        Epoch(float(np.mean([e.loss for e in each])), float(np.mean([e.score for e in each])))
        for each in zip(*curves, strict=True)
    ]
    validation, test = (
        _Asked(
            each[0].questions.and_([other.questions for other in each[1:]]),
            np.concatenate([one.said for one in each]),
        )
        for each in asked.values()
    )
    return model, mean, validation, test


def _fitted(
    recipe: Recipe,
    train_: Samples,
    validation: Samples,
    settings: Settings,
    name: str,
    tell: Tell,
    *,
    keep_best: bool = True,
) -> tuple[Any, list[Epoch], RecipeLesson]:
    keras.utils.set_random_seed(settings.method.seed)
    model = recipe.build(**settings.network)
    lesson = RecipeLesson(recipe, settings, train_, validation)
    weights = balanced(lesson.shares(), settings.method.balance, exclusive=recipe.exclusive)
    epochs = fit(
        model,
        lesson,
        len(train_),
        settings.method,
        weights,
        masks=recipe.is_segmentation,
        exclusive=recipe.exclusive,
        keep_best=keep_best,
        tell=lambda done, total, words: tell(name, done, total, words),
    )
    return model, epochs, lesson


def _said(model: Any, asked: Questions, settings: Settings) -> NDArray[np.float32]:
    """Return the logits for questions; of a segmentation its probabilities."""
    if len(model.output.shape) == 2:
        model = keras.Model(model.input, model.get_layer(LOGITS).output)
    return answered(model, asked.images, settings)


def _calibrated(recipe: Recipe, asked: _Asked) -> tuple[Calibration, ...]:
    said, truth = asked.said, asked.questions.truth
    if not recipe.exclusive:
        outputs = range(len(recipe.outputs))
        return tuple(fit_platt(said[:, output], truth[:, output]) for output in outputs)
    if len(recipe.outputs) == 2:  # one number says both: how far the second is above the first
        line = fit_platt(said[:, 1] - said[:, 0], truth[:, 1])
        return Calibration(line.scale), line
    one = fit_temperature(said, truth.argmax(axis=1))
    return tuple(one for _ in recipe.outputs)


def _probabilities(
    recipe: Recipe, asked: _Asked, calibrations: tuple[Calibration, ...]
) -> NDArray[np.float32]:
    if recipe.is_segmentation:
        return asked.said
    lines = np.stack(
        [line.scale * asked.said[:, at] + line.offset for at, line in enumerate(calibrations)],
        axis=1,
    )
    probabilities = softmax(lines, axis=1) if recipe.exclusive else expit(lines)
    return np.asarray(probabilities, np.float32)


def _put_into(model: Any, calibrations: tuple[Calibration, ...]) -> None:
    """Make the calibrations part of the last layer: they are lines on its answers."""
    layer = model.get_layer(LOGITS)
    kernel, bias = layer.get_weights()
    scales = np.array([line.scale for line in calibrations], np.float32)
    offsets = np.array([line.offset for line in calibrations], np.float32)
    layer.set_weights([kernel * scales, bias * scales + offsets])
