"""Bringing values to the range on which a network was trained."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StudyUnusable
from dicom_node.infer.blocks import Level, Percentile, Scale


def clipped(values: NDArray[np.float32], limits: tuple[float, float] | None) -> NDArray[np.float32]:
    """Return values held within limits; scanners fill what they did not see with any number."""
    return values if limits is None else np.clip(values, np.float32(limits[0]), limits[1])


def scaled(values: NDArray[np.float32], scale: Scale | None) -> NDArray[np.float32]:
    """Return values mapped so that two of their levels become two given numbers.

    Parameters
    ----------
    values : numpy.ndarray, float32
        A whole image or volume: percentiles are taken over all of it.
    scale : Scale or None
        None changes nothing.

    Raises
    ------
    StudyUnusable
        If both levels are the same value, so that there is no contrast to scale.
    """
    if scale is None:
        return values
    low, high = _levels(values, scale.low, scale.high)
    if not high > low:
        raise StudyUnusable(f"no contrast: the pixels lie at {low:g} and nowhere else")
    first, last = scale.to
    result = (values - np.float32(low)) * np.float32((last - first) / (high - low))
    result += np.float32(first)
    if scale.clip:
        np.clip(result, min(first, last), max(first, last), out=result)
    return result


def _levels(values: NDArray[np.float32], *levels: Level) -> list[float]:
    """Return levels as numbers; all percentiles are found in one pass."""
    ranks = [level.rank for level in levels if isinstance(level, Percentile)]
    found = iter(np.percentile(values, ranks).tolist() if ranks else ())
    return [next(found) if isinstance(level, Percentile) else level for level in levels]
