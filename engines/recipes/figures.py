"""What the card says of a network: thresholds that validation chose, and what test made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.recipes.calibration import expected_calibration_error
from engines.recipes.lesson import Questions
from engines.recipes.metrics import (
    Interval,
    Operating,
    auc,
    auc_interval,
    dice_interval,
    operating_at,
    sensitivity_threshold,
    specificity_threshold,
    youden_threshold,
)
from engines.recipes.recipe import Recipe

_LIMITED_SENSITIVITY, _LIMITED_SPECIFICITY, _NON_DIAGNOSTIC_SPECIFICITY = 0.95, 0.98, 0.995
_ROUNDING = 1e-3
"""Thresholds are written with three digits."""


@dataclass(frozen=True)
class Thresholds:
    """Of one output."""

    present: float
    """The smallest that spares as many as the recipe wants; without that Youden's, the one with the
    largest sum of sensitivity and specificity."""
    limited: float
    """The largest that finds 95 % of a fault, at most 0.5; but never one that spares less than 98 %
    of the rest: an alarm at every second image is one that nobody heeds."""
    non_diagnostic: float
    """The smallest that leaves 99.5 % of the rest alone, at least 0.5."""


@dataclass(frozen=True)
class Row:
    """What test says of one output, or of one label of a segmentation."""

    name: str
    figure: Interval
    """AUC, or Dice."""
    at: Operating | None = None
    calibration_error: float = float("nan")
    calibration_error_before: float = float("nan")
    by_patient: tuple[tuple[str, float], ...] = ()
    """AUC of each, where there are too few for an interval."""

    @property
    def in_words(self) -> str:
        """The figure with its interval; of one patient, or two, there is none."""
        alone = np.isnan(self.figure.low) or self.by_patient
        return f"{self.figure.value:.3f}" if alone else str(self.figure)


@dataclass(frozen=True)
class Figures:
    """What the card says."""

    thresholds: tuple[Thresholds, ...]
    rows: tuple[Row, ...]
    untouched: int = 0
    """Of test images without a fault: how many there are."""
    false_alarms: int = 0
    """In how many of them some fault reaches its `limited`."""


def thresholds_of(
    recipe: Recipe, answers: NDArray[np.float32], truth: NDArray[np.float32]
) -> tuple[Thresholds, ...]:
    """Return the thresholds of each output, chosen on validation; none of a segmentation."""
    if recipe.is_segmentation:
        return ()
    return tuple(
        _thresholds(answers[:, output], truth[:, output], recipe.specificity)
        for output in range(len(recipe.outputs))
    )


def figures_of(
    recipe: Recipe,
    thresholds: tuple[Thresholds, ...],
    answers: NDArray[np.float32],
    test: Questions,
    uncalibrated: NDArray[np.float32],
) -> Figures:
    """Return what test says.

    Parameters
    ----------
    recipe : Recipe
    thresholds : tuple of Thresholds
    answers : numpy.ndarray
        Probabilities of the questions of test, (n, outputs) or (n, rows, columns, labels).
    test : Questions
    uncalibrated : numpy.ndarray
        The same before calibration.
    """
    if recipe.is_segmentation:
        drawn = answers.argmax(axis=-1)
        rows = tuple(
            Row(name, dice_interval(drawn, test.truth, test.patients, label))
            for label, name in enumerate(recipe.outputs)
            if label
        )
        return Figures((), rows)
    rows = tuple(
        Row(
            name,
            auc_interval(answers[:, output], test.truth[:, output], test.patients),
            operating_at(answers[:, output], test.truth[:, output], thresholds[output].present),
            expected_calibration_error(answers[:, output], test.truth[:, output]),
            expected_calibration_error(uncalibrated[:, output], test.truth[:, output]),
            _by_patient(answers[:, output], test, output) if recipe.leave_one_out else (),
        )
        for output, name in enumerate(recipe.outputs)
    )
    if not recipe.judged:
        return Figures(thresholds, rows)
    clean = ~(test.truth[:, : recipe.judged] >= 0.5).any(axis=1)
    limits = np.array([each.limited for each in thresholds[: recipe.judged]])
    alarms = (answers[clean, : recipe.judged] >= limits).any(axis=1)
    return Figures(thresholds, rows, int(clean.sum()), int(alarms.sum()))


def _by_patient(
    answers: NDArray[Any], test: Questions, output: int
) -> tuple[tuple[str, float], ...]:
    each = {str(name): test.patients == name for name in np.unique(test.patients)}
    return tuple((name, auc(answers[of], test.truth[of, output])) for name, of in each.items())


def _thresholds(answers: NDArray[Any], truth: NDArray[Any], specificity: float) -> Thresholds:
    finds = sensitivity_threshold(answers, truth, _LIMITED_SENSITIVITY)
    limited = max(min(finds, 0.5), specificity_threshold(answers, truth, _LIMITED_SPECIFICITY))
    spares = specificity_threshold(answers, truth, _NON_DIAGNOSTIC_SPECIFICITY)
    non_diagnostic = max(spares, limited, 0.5)
    present = youden_threshold(answers, truth)
    if specificity:
        present = specificity_threshold(answers, truth, specificity)
    return Thresholds(
        *(
            float(np.clip(np.round(each, 3), _ROUNDING, 1 - _ROUNDING))
            for each in (present, limited, non_diagnostic)
        )
    )
