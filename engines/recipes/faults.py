"""Images with simulated faults: which ones an image gets, and batches of such images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.recipes.augment import Augmentation, augmented
from engines.recipes.recipe import Batch, Make

Image = NDArray[np.float32]
Simulate = Callable[[Image, np.random.Generator], Image]
"""Returns an image of (rows, columns) that went wrong in one way."""
WithFaults = Callable[[Image, np.random.Generator], tuple[Image, NDArray[np.float32]]]
"""Returns an image with some faults or none, and which of them it has."""


def some_of(
    simulations: Sequence[Simulate],
    order: Sequence[int],
    clean: float,
    several: float,
    image: Image,
    random: np.random.Generator,
) -> tuple[Image, NDArray[np.float32]]:
    """Return an image with no fault, one, or two.

    Parameters
    ----------
    simulations : sequence of callable
        Of each fault.
    order : sequence of int
        In which they happen, where an image has two.
    clean, several : float
        The shares of images without a fault, and of those with two.
    """
    has = np.zeros(len(simulations), np.float32)
    which = random.random()
    count = 0 if which < clean else 2 if which > 1 - several else 1
    for fault in sorted(random.choice(len(simulations), count, replace=False), key=order.index):
        has[fault] = 1.0
        image = simulations[fault](image, random)
    return image, has


def batches_of(with_faults: WithFaults) -> tuple[Make, Make]:
    """Return how batches are drawn in training, and asked: the faults, then the labels they had."""

    def draw(
        images: Image, targets: NDArray[Any], how: Augmentation, random: np.random.Generator
    ) -> Batch:
        return ask(augmented(images, how, random)[0], targets, how, random)

    def ask(
        images: Image, targets: NDArray[Any], how: Augmentation, random: np.random.Generator
    ) -> Batch:
        made = [with_faults(image[..., 0], random) for image in images]
        faults = np.stack([has for _, has in made])
        return np.stack([image for image, _ in made])[..., None], np.hstack([faults, targets])

    return draw, ask
