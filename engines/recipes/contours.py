"""Contours to masks: which pixels lie within.

A pixel belongs to a polygon if its centre does. A centre on the line itself belongs if the inside
lies below it or to its right, so of two polygons with a side in common exactly one gets it. What
several polygons of a slice enclose is told by parity: a second one within the first is a hole
(CLOSEDPLANAR_XOR, PS3.3 C.8.8.6.3), and the channel of a keyhole, walked there and back, encloses
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DIGITS = 6
"""Of a pixel: what turning millimetres into pixels leaves of a round number."""


def filled(polygons: Iterable[NDArray[Any]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels within an odd number of polygons.

    Parameters
    ----------
    polygons : iterable of numpy.ndarray, shape (points, 2)
        (column, row), pixel centres at whole numbers; the last point joins the first. What lies
        beyond the image is cut off.
    shape : tuple of int
        Rows and columns.

    Returns
    -------
    numpy.ndarray, bool
    """
    rows, columns = shape
    crossed = np.zeros((rows, columns + 1), np.int64)
    for polygon in polygons:
        points = np.round(np.asarray(polygon, np.float64), _DIGITS)
        for (x, y), (next_x, next_y) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if y == next_y:
                continue
            low, high = min(y, next_y), max(y, next_y)
            first, last = max(int(np.ceil(low)), 0), min(int(np.ceil(high)), rows)
            at = np.arange(first, last)
            where = np.round(x + (at - y) * (next_x - x) / (next_y - y), _DIGITS)
            begin = np.clip(np.ceil(where), 0, columns).astype(np.int64)
            np.add.at(crossed, (at, begin), 1)
    inside: NDArray[np.bool_] = np.cumsum(crossed[:, :columns], axis=1) % 2 == 1
    return inside


def outline_of(points: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels on a line from point to point and back to the first.

    Parameters
    ----------
    points : numpy.ndarray, shape (points, 2)
        (column, row), whole numbers.
    shape : tuple of int
    """
    drawn = np.zeros(shape, bool)
    for here, there in zip(points, np.roll(points, -1, axis=0), strict=True):
        steps = int(np.abs(there - here).max()) + 1
        line = np.rint(np.linspace(here, there, steps)).astype(np.int64)
        within = ((line >= 0) & (line < (shape[1], shape[0]))).all(axis=1)
        drawn[line[within, 1], line[within, 0]] = True
    return drawn
