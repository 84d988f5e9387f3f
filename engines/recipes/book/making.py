"""How batches are made of samples: the kinds that more than one recipe needs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.recipes.augment import Augmentation, augmented
from engines.recipes.recipe import Batch

Images = NDArray[np.float32]
Random = np.random.Generator


def draw_labels(images: Images, targets: NDArray[Any], how: Augmentation, random: Random) -> Batch:
    """Change images; their labels stay."""
    return augmented(images, how, random)[0], targets


def ask_labels(images: Images, targets: NDArray[Any], how: Augmentation, random: Random) -> Batch:
    """Leave images as they are."""
    return images, targets


def draw_masks(images: Images, targets: NDArray[Any], how: Augmentation, random: Random) -> Batch:
    """Change images, and their label maps with them."""
    changed, masks = augmented(images, how, random, targets)
    return changed, np.asarray(masks, np.float32)


def ask_masks(images: Images, targets: NDArray[Any], how: Augmentation, random: Random) -> Batch:
    """Leave images and label maps as they are."""
    return images, targets.astype(np.float32)


def one_of_two(targets: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a column of labels as two: absent and present."""
    return np.concatenate([1 - targets, targets], axis=1)
