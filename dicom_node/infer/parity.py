"""Whether a network gives the answers that it should, wherever and in whatever it is computed.

Pure: arrays in, a verdict out. How the answers came about is no concern of this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import EngineError


class Meaning(StrEnum):
    """What the numbers of an output say."""

    LABELS = "labels"
    """One number a voxel: its class."""
    EXCLUSIVE = "exclusive"
    """One channel a class: the largest wins."""
    PROBABILITIES = "probabilities"
    """Channels for themselves, between 0 and 1: there is what reaches 0.5."""
    LOGITS = "logits"
    """The same before the sigmoid: there is what reaches 0."""
    NUMBERS = "numbers"
    """Of a regression: there are no classes."""


@dataclass(frozen=True)
class Limits:
    """How far answers may be from those that are stored with the engine."""

    tolerance: float
    """Largest difference of a number; of labels the largest share that differs."""
    dice_min: float | None = None
    flips_max: float | None = None


@dataclass(frozen=True)
class Difference:
    """How far the answers of a network are from those that are expected."""

    max_abs: float | None
    """Of any number; None of labels, which have no distance."""
    flips: float
    """The share of samples, or voxels, that get another class."""
    dice: float | None
    """Of the class that overlaps least with what is expected; None where there is no mask."""

    @property
    def number(self) -> float:
        """What the tolerance is held against: the distance, or of labels the share that differs."""
        return self.flips if self.max_abs is None else self.max_abs

    @property
    def in_words(self) -> str:
        """For people: what differs, and by how much."""
        told = [] if self.max_abs is None else [f"numbers differ by up to {self.max_abs:.2g}"]
        share = f"{self.flips * 100:.2g} % get another class"
        told.append(share if self.flips else "no class changes")
        if self.dice is not None:
            told.append(f"the worst overlap of a class is Dice {self.dice:.4f}")
        return ", ".join(told)


def compare(expected: NDArray[Any], answer: NDArray[Any], meaning: Meaning) -> Difference:
    """Return how far an answer is from the one that is expected.

    Parameters
    ----------
    expected, answer : numpy.ndarray, shape (samples, channels, ...)
        Of masks with the axes of the image after the channels.
    meaning : Meaning

    Raises
    ------
    EngineError
        If they have not the same shape.
    """
    if answer.shape != expected.shape:
        raise EngineError(f"the answer has shape {answer.shape}, not {expected.shape}")
    max_abs = None
    if meaning is not Meaning.LABELS:
        distance = np.abs(answer.astype(np.float64) - expected.astype(np.float64))
        # A number that is none (NaN) is further away than any.
        max_abs = float(np.nan_to_num(distance, nan=np.inf, posinf=np.inf).max(initial=0.0))
    wanted, given = _classes(expected, meaning), _classes(answer, meaning)
    flips = float(np.mean(np.any(wanted != given, axis=1))) if wanted.size else 0.0
    return Difference(max_abs, flips, _worst_dice(wanted, given, meaning))


def objection(difference: Difference, limits: Limits) -> str:
    """Return why a difference is too large; empty if it is not."""
    found = []
    of_numbers = difference.max_abs is not None
    measured = difference.number
    if not measured <= limits.tolerance:
        what = "numbers differ by up to" if of_numbers else "labels differ in a share of"
        found.append(f"{what} {measured:.3g}, more than {limits.tolerance:g}")
    if limits.flips_max is not None and difference.flips > limits.flips_max:
        shares = difference.flips * 100, limits.flips_max * 100
        found.append("{:.3g} % get another class, more than {:g} %".format(*shares))
    dice, dice_min = difference.dice, limits.dice_min
    if dice_min is not None and dice is not None and not dice >= dice_min:
        found.append(f"Dice of a class is {dice:.4f}, under {dice_min:g}")
    return "; ".join(found)


def worst(differences: Sequence[Difference]) -> Difference:
    """Return the largest of each kind, of one or more differences of the same output."""
    distances = [one.max_abs for one in differences if one.max_abs is not None]
    overlaps = [one.dice for one in differences if one.dice is not None]
    return Difference(
        max_abs=max(distances, default=None),
        flips=max(one.flips for one in differences),
        dice=min(overlaps, default=None),
    )


def _classes(values: NDArray[Any], meaning: Meaning) -> NDArray[Any]:
    """Return the classes, shape (samples, n, ...): n is 1 where one class excludes the others."""
    if meaning is Meaning.LABELS:
        return values
    if meaning is Meaning.NUMBERS:
        return np.zeros((len(values), 1))
    if meaning is Meaning.EXCLUSIVE:
        return np.expand_dims(values.argmax(axis=1), 1)
    there: NDArray[np.bool_] = values >= (0.5 if meaning is Meaning.PROBABILITIES else 0.0)
    return there


def _worst_dice(wanted: NDArray[Any], given: NDArray[Any], meaning: Meaning) -> float | None:
    """Return the least overlap of the classes that are in either; 1 if there is none in both."""
    if wanted.ndim < 4:
        return None  # classes of whole images have no overlap
    if meaning in (Meaning.LABELS, Meaning.EXCLUSIVE):
        labels = set(np.unique(wanted)) | set(np.unique(given))
        pairs = [(wanted == label, given == label) for label in sorted(labels - {0})]
    else:
        pairs = [(wanted[:, channel], given[:, channel]) for channel in range(wanted.shape[1])]
    found = [_dice(*pair) for pair in pairs]
    return min(found, default=1.0)


def _dice(one: NDArray[Any], other: NDArray[Any]) -> float:
    total = int(np.count_nonzero(one)) + int(np.count_nonzero(other))
    return 2 * int(np.count_nonzero(one & other)) / total if total else 1.0
