"""What goes wrong with a chest X-ray before anybody looks at it, simulated on one that went well.

After each fault the image is brought to its percentiles again, as the node will do: what that
undoes is no fault that a network could see.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from engines.recipes.faults import Image, some_of

FAULTS = ("inverted", "rotated", "blurred", "noisy", "badly exposed")
_CLEAN, _SEVERAL = 0.3, 0.15
"""The shares of images without a fault, and of those with two."""
_LEVELS = (0.5, 99.5)
"""Percentiles that become 0 and 255, as in the manifest."""


def with_faults(image: Image, random: np.random.Generator) -> tuple[Image, NDArray[np.float32]]:
    """Return an image of (rows, columns), 0 to 255, with some faults or none, and which it has."""
    image, has = some_of(_SIMULATIONS, _APPLIED, _CLEAN, _SEVERAL, image, random)
    return rescaled(image), has


def rescaled(image: Image) -> Image:
    """Return an image with two of its percentiles at 0 and 255, held there."""
    low, high = np.percentile(image, _LEVELS)
    stretched: Image = np.clip((image - low) * 255 / max(high - low, 1e-3), 0, 255)
    return stretched.astype(np.float32)


def inverted(image: Image, random: np.random.Generator) -> Image:
    """MONOCHROME1 read as MONOCHROME2: bone is dark."""
    return 255 - image


def rotated(image: Image, random: np.random.Generator) -> Image:
    """A cassette put in sideways or upside down."""
    return np.rot90(image, int(random.integers(1, 4))).copy()


def blurred(image: Image, random: np.random.Generator) -> Image:
    """The patient moved, or breathed: blurred all over, or along one line."""
    sigma = random.uniform(1.2, 3.0)
    if random.random() < 0.5:
        return gaussian_filter(image, sigma)
    along = (sigma * 1.5, sigma * 0.5)
    return gaussian_filter(image, along if random.random() < 0.5 else along[::-1])


def noisy(image: Image, random: np.random.Generator) -> Image:
    """Too little dose: what is dark in the film had most photons, what is bright fewest."""
    sd = random.uniform(14, 50)
    quanta = sd * (0.6 + 0.8 * image / 255)
    return (image + random.normal(0, 1, image.shape) * quanta).astype(np.float32)


def badly_exposed(image: Image, random: np.random.Generator) -> Image:
    """Burnt out on one side of the range, or flat between a marker and the collimator's edge."""
    kind = random.integers(3)
    if kind == 0:
        high = np.percentile(image, random.uniform(35, 60))
        return np.minimum(image, high)
    if kind == 1:
        low = np.percentile(image, random.uniform(40, 65))
        return np.maximum(image, low)
    level = random.uniform(60, 195)
    flat = level + (image - 128) * random.uniform(0.08, 0.3)
    rows, columns = image.shape
    edge = max(rows // 24, 1)
    flat[: int(random.integers(edge, 3 * edge))] = 0.0
    top = int(random.integers(edge, rows // 2))
    left = int(random.integers(0, columns - 3 * edge))
    flat[top : top + 3 * edge, left : left + 3 * edge] = 255.0
    return flat.astype(np.float32)


_SIMULATIONS = (inverted, rotated, blurred, noisy, badly_exposed)
_APPLIED = [
    FAULTS.index(name) for name in ("blurred", "noisy", "badly exposed", "inverted", "rotated")
]
"""In the order in which they happen: noise is not blurred by a patient who moves."""
