"""What is left of a mask once it is on the source's grid."""

from __future__ import annotations

import cc3d
import numpy as np
from numpy.typing import NDArray

from dicom_node.infer.blocks import Components


def largest(found: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest connected part of what was found."""
    part: NDArray[np.bool_] = cc3d.largest_k(found, k=1, connectivity=26) > 0
    return part


def keep_components(mask: NDArray[np.uint8], components: Components) -> NDArray[np.uint8]:
    """Return the mask with the largest component of each segment, if that is asked for."""
    if components.keep == "all" or not mask.any():
        return mask
    box = tuple(
        slice(int(touched[0]), int(touched[-1]) + 1)
        for axis in range(3)
        for touched in [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))]
    )
    inside = mask[box]
    # One pass parts all segments: neighbours of different numbers are never joined.
    parts = cc3d.connected_components(inside, connectivity=components.connectivity)
    count = int(parts.max()) + 1
    sizes = np.zeros(count, np.int64)
    number_of = np.zeros(count, np.uint8)
    for part, image in zip(parts, inside, strict=True):  # whole, these would take gigabytes
        sizes += np.bincount(part.ravel(), minlength=count)
        number_of[part] = image
    keep = np.zeros(count, np.uint8)
    for number in np.unique(number_of[1:]):
        own = np.flatnonzero(number_of == number)
        keep[own[np.argmax(sizes[own])]] = number
    result = np.zeros_like(mask)
    for target, part in zip(result[box], parts, strict=True):
        target[...] = keep[part]
    return result
