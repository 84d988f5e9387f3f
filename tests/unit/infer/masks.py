"""Small masks, written as pictures, and slow oracles in plain numpy for what is done to them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.bool_]
Voxel = tuple[int, ...]


def drawn(*slices: str) -> NDArray[np.uint8]:
    """Return a label map from pictures: rows part by blanks, a dot is background."""
    return np.array(
        [
            [[0 if one == "." else int(one) for one in row] for row in text.split()]
            for text in slices
        ],
        np.uint8,
    )


def components(found: Bits, connectivity: int) -> list[set[Voxel]]:
    """Return the connected parts, the largest first; of equal ones the first in raster order."""
    left = {tuple(map(int, at)) for at in np.argwhere(found)}
    parts = []
    for seed in sorted(left):
        if seed not in left:
            continue
        left.remove(seed)
        part, queue = {seed}, deque([seed])
        while queue:
            for neighbour in _neighbours(queue.popleft(), connectivity):
                if neighbour in left:
                    left.remove(neighbour)
                    part.add(neighbour)
                    queue.append(neighbour)
        parts.append(part)
    return sorted(parts, key=len, reverse=True)


def _neighbours(at: Voxel, connectivity: int) -> Iterator[Voxel]:
    for step in product((-1, 0, 1), repeat=len(at)):
        distance = sum(map(abs, step))
        if distance and (connectivity == 26 or distance == 1):
            yield tuple(a + s for a, s in zip(at, step, strict=True))


def bits(voxels: set[Voxel], shape: tuple[int, ...]) -> Bits:
    result = np.zeros(shape, bool)
    for at in voxels:
        result[at] = True
    return result


def reaches(found: Bits, spacing_mm: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the middle of every face of every voxel, in mm."""
    points = []
    for at in np.argwhere(found):
        for axis in range(found.ndim):
            for side in (-0.5, 0.5):
                point = at.astype(float)
                point[axis] += side
                points.append(point)
    return np.array(points) * spacing_mm


def longest(points: NDArray[np.float64]) -> float:
    """Return the largest distance of any two points."""
    return float(max(np.linalg.norm(points - one, axis=1).max() for one in points))
