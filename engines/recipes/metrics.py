"""How good a network is, with the doubt that so many patients leave.

Intervals come from drawing patients with replacement (percentile bootstrap): images of one patient
are no independent witnesses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from engines.recipes.errors import DataUnusable


@dataclass(frozen=True)
class Interval:
    """A figure, and between which it would lie with other patients of the same kind."""

    value: float
    low: float
    high: float
    """NaN, as `low`, where there is one patient only and nothing can be drawn."""
    level: float = 0.95

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Operating:
    """What a threshold makes of probabilities; a share is NaN where there is nothing to share."""

    threshold: float
    """From here on it is said to be present."""
    sensitivity: float
    specificity: float
    positive_predictive_value: float
    negative_predictive_value: float


def auc(scores: NDArray[Any], truth: NDArray[Any]) -> float:
    """Return the area under the ROC curve: how often a present one is given the larger score.

    Parameters
    ----------
    scores : numpy.ndarray, shape (n,)
        In any unit; larger speaks for presence.
    truth : numpy.ndarray, shape (n,)
        Present from 0.5; NaN where nobody knows, which is left out.

    Returns
    -------
    float
        NaN where all are present or none is. Equal scores count half.
    """
    scores, present = _known(scores, truth)
    positives = int(present.sum())
    negatives = len(present) - positives
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[present].sum() - positives * (positives + 1) / 2) / positives / negatives)


def auc_interval(
    scores: NDArray[Any],
    truth: NDArray[Any],
    patients: NDArray[Any],
    *,
    repeats: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return `auc` with its interval.

    Parameters
    ----------
    patients : numpy.ndarray, shape (n,)
    repeats : int
        How often patients are drawn; draws in which all are present, or none, do not count.
    level : float
        The share of draws between the ends.
    seed : int
    """
    known = ~np.isnan(np.asarray(truth, np.float64))
    scores, present = _known(scores, truth)
    _, place = np.unique(scores, return_inverse=True)

    def weighted(weights: NDArray[np.float64]) -> float:
        positive = np.bincount(place, weights * present)
        negative = np.bincount(place, weights * ~present)
        below = np.cumsum(negative) - negative
        pairs = positive.sum() * negative.sum()
        return float(positive @ (below + negative / 2) / pairs) if pairs else float("nan")

    value = auc(scores, present)
    return _interval(value, weighted, np.asarray(patients)[known], repeats, level, seed)


def dice(prediction: NDArray[Any], truth: NDArray[Any], label: int = 1) -> float:
    """Return the Dice overlap of one label of two label maps; NaN where neither has it."""
    drawn, true = prediction == label, truth == label
    both = int(drawn.sum()) + int(true.sum())
    return 2 * int((drawn & true).sum()) / both if both else float("nan")


def dice_interval(
    prediction: NDArray[Any],
    truth: NDArray[Any],
    patients: NDArray[Any],
    label: int = 1,
    *,
    repeats: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the mean over patients of `dice`, all images of a patient taken together.

    Parameters
    ----------
    prediction, truth : numpy.ndarray, shape (n, rows, columns)
        Label maps.
    patients : numpy.ndarray, shape (n,)
        Those of whom neither has the label are left out.
    """
    each = np.array(
        [
            dice(prediction[patients == one], truth[patients == one], label)
            for one in set_of(patients)
        ]
    )
    each = each[~np.isnan(each)]
    if not len(each):
        return Interval(float("nan"), float("nan"), float("nan"), level)

    def weighted(weights: NDArray[np.float64]) -> float:
        return float(weights @ each / weights.sum())

    mean = float(each.mean())
    return _interval(mean, weighted, np.arange(len(each)), repeats, level, seed)


def operating_at(scores: NDArray[Any], truth: NDArray[Any], threshold: float) -> Operating:
    """Return what a threshold makes of scores."""
    scores, present = _known(scores, truth)
    said = scores >= threshold
    (true_negative, false_positive), (false_negative, true_positive) = confusion(said, present, 2)
    return Operating(
        threshold=float(threshold),
        sensitivity=_share(true_positive, false_negative),
        specificity=_share(true_negative, false_positive),
        positive_predictive_value=_share(true_positive, false_positive),
        negative_predictive_value=_share(true_negative, false_negative),
    )


def youden_threshold(scores: NDArray[Any], truth: NDArray[Any]) -> float:
    """Return the threshold with the largest sum of sensitivity and specificity.

    To be chosen on validation: on test data it would make the figures of these too good.

    Raises
    ------
    DataUnusable
        If all are present or none is.
    """
    thresholds, sensitivities, specificities = roc(scores, truth)
    return float(thresholds[np.argmax(sensitivities + specificities)])


def sensitivity_threshold(scores: NDArray[Any], truth: NDArray[Any], least: float) -> float:
    """Return the largest threshold with at least a given sensitivity; see `youden_threshold`."""
    thresholds, sensitivities, _ = roc(scores, truth)
    return float(thresholds[sensitivities >= least].max())


def specificity_threshold(scores: NDArray[Any], truth: NDArray[Any], least: float) -> float:
    """Return the smallest threshold with at least a given specificity; 1 if none has it."""
    thresholds, _, specificities = roc(scores, truth)
    spares = thresholds[specificities >= least]
    return float(spares.min()) if len(spares) else 1.0


def roc(
    scores: NDArray[Any], truth: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return every threshold that makes a difference, with its sensitivity and specificity.

    Returns
    -------
    thresholds : numpy.ndarray
        Ascending, in the middle between neighbouring scores; with the first all are present.
    sensitivities, specificities : numpy.ndarray

    Raises
    ------
    DataUnusable
        If all are present or none is.
    """
    scores, present = _known(scores, truth)
    levels, place = np.unique(scores, return_inverse=True)
    positive = np.bincount(place, present, len(levels))
    negative = np.bincount(place, ~present, len(levels))
    if not positive.sum() or not negative.sum():
        raise DataUnusable(
            "no threshold can be chosen: the truth is the same everywhere",
            hint="gather samples of both kinds for validation",
        )
    middles = levels.copy()
    middles[1:] = (levels[1:] + levels[:-1]) / 2
    middles[1:] = np.where(middles[1:] > levels[:-1], middles[1:], levels[1:])
    below = np.cumsum(negative) - negative
    from_here = positive.sum() - (np.cumsum(positive) - positive)
    return middles, from_here / positive.sum(), below / negative.sum()


def confusion(prediction: NDArray[Any], truth: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Return how often each class (row) was given each class (column)."""
    pairs = truth.astype(np.int64).ravel() * classes + prediction.astype(np.int64).ravel()
    counts: NDArray[np.int64] = np.bincount(pairs, minlength=classes * classes)
    return counts.reshape(classes, classes)


def set_of(patients: NDArray[Any]) -> list[Any]:
    """Return each patient once, in order."""
    return list(np.unique(patients))


def _known(
    scores: NDArray[Any], truth: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    truth = np.asarray(truth, np.float64)
    known = ~np.isnan(truth)
    return np.asarray(scores, np.float64)[known], truth[known] >= 0.5


def _share(those: int, others: int) -> float:
    total = int(those) + int(others)
    return int(those) / total if total else float("nan")


def _interval(
    value: float,
    figure: Callable[[NDArray[np.float64]], float],
    patients: NDArray[Any],
    repeats: int,
    level: float,
    seed: int,
) -> Interval:
    names, place = np.unique(patients, return_inverse=True)
    if len(names) < 2:
        return Interval(value, float("nan"), float("nan"), level)
    drawn = np.array([figure(counts[place]) for counts in _draws(len(names), repeats, seed)])
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return Interval(value, float("nan"), float("nan"), level)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), level)


def _draws(count: int, repeats: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each of so many is drawn."""
    random = np.random.default_rng(seed)
    for _ in range(repeats):
        yield np.bincount(random.integers(count, size=count), minlength=count).astype(np.float64)
