"""Small sets of samples for the tests of recipes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engines.recipes.samples import Samples


def make_samples(
    patients: Sequence[str],
    targets: NDArray[np.float32] | NDArray[np.uint8] | None = None,
    *,
    images: NDArray[np.float32] | None = None,
    split: Sequence[str] | None = None,
) -> Samples:
    """Return a sample for each patient named, no two images equal unless they are given."""
    count = len(patients)
    if images is None:
        images = np.zeros((count, 2, 2, 1), np.float32)
        images[:, 0, 0, 0] = np.arange(count)
    if targets is None:
        targets = (np.arange(count)[:, None] % 2).astype(np.float32)
    is_map = targets.dtype == np.uint8
    labels = ("background", "thing") if is_map else tuple("abcdefgh"[: targets.shape[1]])
    return Samples(
        images=images,
        targets=targets,
        labels=labels,
        patients=np.array(patients, str),
        names=np.array([f"image {index}" for index in range(count)]),
        split=None if split is None else np.array(split, str),
        licence="none",
        attribution="made for a test",
        source="a test",
    )
