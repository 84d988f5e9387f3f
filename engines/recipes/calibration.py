"""Probabilities that mean what they say: fitted on validation, checked on test.

Both ways are a line on the logits, so they go into the last layer of a network, and they keep the
order of what it says: no AUC changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax, softmax

from engines.recipes.errors import DataUnusable

_SCALES = (1e-2, 1e2)
"""A line flatter or steeper than this says that there is nothing to calibrate."""


@dataclass(frozen=True)
class Calibration:
    """What is made of a logit: `scale * logit + offset`; the scale is positive."""

    scale: float = 1.0
    """One over the temperature."""
    offset: float = 0.0

    def __call__(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        """Return probabilities: sigmoid of (n,), softmax over the last axis of (n, classes)."""
        lines = self.scale * np.asarray(logits, np.float64) + self.offset
        probabilities: NDArray[np.float64] = (
            expit(lines) if lines.ndim == 1 else softmax(lines, axis=-1)
        )
        return probabilities


@dataclass(frozen=True, eq=False)
class Reliability:
    """What was said against what was so, by equal steps of probability; empty steps left out."""

    said: NDArray[np.float64]
    """Mean probability of each step."""
    was: NDArray[np.float64]
    """The share that was present."""
    count: NDArray[np.int64]


def fit_temperature(logits: NDArray[Any], truth: NDArray[Any]) -> Calibration:
    """Return the temperature with the least log loss (Guo et al., 2017).

    Parameters
    ----------
    logits : numpy.ndarray, shape (n,) or (n, classes)
        Before sigmoid or softmax, of the validation samples.
    truth : numpy.ndarray, shape (n,)
        Present from 0.5, NaN unknown and left out; or the index of the class.

    Raises
    ------
    DataUnusable
        If nothing is known, or all of it is the same.
    """
    logits, truth = _both(logits, truth)

    def loss(log_scale: float) -> float:
        return _log_loss(np.exp(log_scale) * logits, truth)

    found = minimize_scalar(loss, bounds=tuple(np.log(_SCALES)), method="bounded")
    return Calibration(scale=float(np.exp(found.x)))


def fit_platt(logits: NDArray[Any], truth: NDArray[Any]) -> Calibration:
    """Return scale and offset with the least log loss (Platt, 1999), the scale held positive.

    Parameters
    ----------
    logits : numpy.ndarray, shape (n,)
    truth : numpy.ndarray, shape (n,)
        As in `fit_temperature`. Targets are drawn in a little, as Platt has it, so that a perfect
        network on few samples does not become certain.
    """
    logits, truth = _both(logits, truth)
    present = truth >= 0.5
    positives, negatives = int(present.sum()), int((~present).sum())
    targets = np.where(present, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the loss with its slope."""
        scaled = np.exp(line[0]) * logits
        off = expit(scaled + line[1]) - targets
        slope = np.array([float(np.mean(off * scaled)), float(np.mean(off))])
        return _log_loss(scaled + line[1], targets), slope

    found = minimize(
        loss,
        np.zeros(2),
        jac=True,
        method="L-BFGS-B",
        bounds=[tuple(np.log(_SCALES)), (None, None)],
    )
    return Calibration(scale=float(np.exp(found.x[0])), offset=float(found.x[1]))


def reliability(probabilities: NDArray[Any], truth: NDArray[Any], bins: int = 15) -> Reliability:
    """Return what was said against what was so; see `fit_temperature` for `truth`."""
    truth = np.asarray(truth, np.float64)
    known = ~np.isnan(truth)
    said = np.asarray(probabilities, np.float64)[known]
    place = np.minimum((said * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    filled = count > 0
    return Reliability(
        said=np.bincount(place, said, bins)[filled] / count[filled],
        was=np.bincount(place, truth[known] >= 0.5, bins)[filled] / count[filled],
        count=count[filled],
    )


def expected_calibration_error(
    probabilities: NDArray[Any], truth: NDArray[Any], bins: int = 15
) -> float:
    """Return by how much probabilities are off the shares that were present, on average.

    Of several classes, hand in the largest probability, and whether that class was right.
    """
    steps = reliability(probabilities, truth, bins)
    return float(np.abs(steps.said - steps.was) @ steps.count / steps.count.sum())


def _both(
    logits: NDArray[Any], truth: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    truth = np.asarray(truth, np.float64)
    known = ~np.isnan(truth)
    truth = truth[known]
    if len(np.unique(truth)) < 2:
        raise DataUnusable(
            "probabilities cannot be calibrated: the truth is the same everywhere",
            hint="gather samples of both kinds for validation",
        )
    return np.asarray(logits, np.float64)[known], truth


def _log_loss(logits: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    if logits.ndim == 1:  # log(1 + e^z) - t z, without overflow
        return float(np.mean(np.logaddexp(0.0, logits) - truth * logits))
    chosen = log_softmax(logits, axis=-1)[np.arange(len(truth)), truth.astype(np.int64)]
    return float(-chosen.mean())
