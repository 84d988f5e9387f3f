"""Images as they might have been as well: turned, larger, darker, noisier, another day's.

Only training sees them. What changes an image's geometry changes its label map with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, gaussian_filter

Images = NDArray[np.float32]
Masks = NDArray[np.uint8]

_LUNG_HU, _TISSUE_HU = -600.0, -400.0
"""Air-filled lung lies below the first, nothing of it above the second."""


@dataclass(frozen=True)
class Augmentation:
    """How far images are changed; every 0 leaves its kind of change out."""

    value_range: tuple[float, float] = (0.0, 255.0)
    """Of which the shares below are taken; X-rays are held within."""
    rotate_degrees: float = 0.0
    """To either side at most."""
    scale: float = 0.0
    """Larger or smaller by this share at most."""
    shift: float = 0.0
    """Of a side, at most, along each."""
    mirror: bool = False
    """Half of the images left for right."""
    gamma: float = 0.0
    """The logarithm of the exponent of brightness lies within this."""
    contrast: float = 0.0
    """Stretched or squeezed around the middle by this share at most."""
    brightness: float = 0.0
    """Lifted or lowered by this share of the range at most."""
    noise: float = 0.0
    """The largest standard deviation, in shares of the range."""
    blur: float = 0.0
    """The largest standard deviation, in pixels."""
    darken_lung: float = 0.0
    """CT: the lung's density falls by this share at most, as in emphysema or deep inspiration."""
    hold: bool = True
    """Hold values within the range, as X-rays are stored; CT numbers are not held."""


def augmented(
    images: Images, how: Augmentation, random: np.random.Generator, masks: Masks | None = None
) -> tuple[Images, Masks | None]:
    """Return changed images, and their label maps with them.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, rows, columns, channels), float32
    how : Augmentation
    random : numpy.random.Generator
        The same state gives the same images.
    masks : numpy.ndarray, shape (n, rows, columns), uint8, optional
    """
    changed = [
        _changed(image, how, random, None if masks is None else masks[index])
        for index, image in enumerate(images)
    ]
    drawn = None if masks is None else np.stack([mask for _, mask in changed if mask is not None])
    return np.stack([image for image, _ in changed]), drawn


def _changed(
    image: Images, how: Augmentation, random: np.random.Generator, mask: Masks | None
) -> tuple[Images, Masks | None]:
    low, high = how.value_range
    span = high - low
    if how.rotate_degrees or how.scale or how.shift or how.mirror:
        matrix, offset = _geometry(image.shape[:2], how, random)
        image = np.stack([_moved(plane, matrix, offset, 1) for plane in image.transpose(2, 0, 1)])
        image = image.transpose(1, 2, 0)
        if mask is not None:
            mask = _moved(mask.astype(np.float32), matrix, offset, 0).astype(np.uint8)
    if how.darken_lung:
        image = darkened_lung(image, 1 - random.uniform(0, how.darken_lung))
    if how.gamma:
        share = np.clip((image - low) / span, 0, 1)
        image = low + span * share ** np.exp(random.uniform(-how.gamma, how.gamma))
    if how.contrast:
        middle = (low + high) / 2
        image = middle + (image - middle) * (1 + random.uniform(-how.contrast, how.contrast))
    if how.brightness:
        image = image + span * random.uniform(-how.brightness, how.brightness)
    if how.blur and random.random() < 0.5:
        sigma = random.uniform(0, how.blur)
        image = gaussian_filter(image, (sigma, sigma, 0))
    if how.noise:
        sd = span * random.uniform(0, how.noise)
        image = image + random.normal(0, sd, image.shape).astype(np.float32)
    if how.hold:
        image = np.clip(image, low, high)
    return image.astype(np.float32), mask


def darkened_lung(image: Images, density: float) -> Images:
    """Return a CT whose lung holds more air: its density times a number below 1.

    Between lung and tissue the change fades, so that walls and vessels keep their edges.
    """
    lung = np.clip((_TISSUE_HU - image) / (_TISSUE_HU - _LUNG_HU), 0, 1)
    denser = np.maximum(image + 1000, 0) * (1 - density)
    darker: Images = (image - lung * denser).astype(np.float32)
    return darker


def _geometry(
    shape: tuple[int, ...], how: Augmentation, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the matrix and offset that lead from a pixel of the new image to the old one."""
    angle = np.deg2rad(random.uniform(-how.rotate_degrees, how.rotate_degrees))
    size = np.exp(random.uniform(-1, 1) * np.log1p(how.scale))
    shift = random.uniform(-how.shift, how.shift, 2) * shape
    flip = -1.0 if how.mirror and random.random() < 0.5 else 1.0
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag([1.0, flip]) / size
    middle = (np.array(shape) - 1) / 2
    return matrix, middle - matrix @ (middle + shift)


def _moved(
    plane: Images, matrix: NDArray[np.float64], offset: NDArray[np.float64], order: Literal[0, 1]
) -> Images:
    return affine_transform(plane, matrix, offset, order=order, mode="nearest")
