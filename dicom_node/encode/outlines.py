"""The outlines of a mask: closed polygons along the edges of its pixels, so nothing is rounded.

Theory of operation: every edge between a pixel of the mask and one that is not of it belongs to a
run, horizontal or vertical, walked with the mask on its right. Where one run ends another begins at
a right angle; following them until the first comes again gives one outline. Where two pixels touch
by their corners only, the walk turns right, so it never crosses itself there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Runs = dict[int, int]
"""From the corner where a run begins to the one where it ends; corners are numbered by row."""


def outlines_of(mask: NDArray[np.bool_]) -> list[NDArray[np.float32]]:
    """Return the outlines of a mask; those of holes run the other way round.

    Parameters
    ----------
    mask : numpy.ndarray, shape (rows, columns), bool

    Returns
    -------
    list of numpy.ndarray, shape (points, 2), float32
        (column, row) of the corners, the first again as the last; (0, 0) is the outer corner of the
        first pixel, as PS3.3 C.10.5.1.2 counts. The outline that begins topmost comes first.
    """
    if not mask.any():
        return []
    top, left = (int(np.argmax(mask.any(axis=axis))) for axis in (1, 0))
    bottom = mask.shape[0] - int(np.argmax(mask[::-1].any(axis=1)))
    right = mask.shape[1] - int(np.argmax(mask[:, ::-1].any(axis=0)))
    cut = mask[top:bottom, left:right]
    stride = cut.shape[1] + 1
    outlines = []
    for corners in _followed(*_runs_of(cut, stride)):
        numbers = np.array(corners)
        points = np.stack([numbers % stride + left, numbers // stride + top], axis=1)
        outlines.append(points.astype(np.float32))
    return outlines


def _runs_of(mask: NDArray[np.bool_], stride: int) -> tuple[Runs, Runs, Runs, Runs]:
    """Return the runs to the right, to the left, downwards and upwards."""
    padded = np.pad(mask, 1)
    above, below = padded[:-1, 1:-1], padded[1:, 1:-1]
    before, after = padded[1:-1, :-1], padded[1:-1, 1:]
    rightward = _ends(below & ~above, stride, 1)
    leftward = _ends(above & ~below, stride, 1)
    downward = _ends((before & ~after).T, 1, stride)
    upward = _ends((after & ~before).T, 1, stride)
    return (
        dict(zip(*rightward, strict=True)),
        dict(zip(*reversed(leftward), strict=True)),
        dict(zip(*downward, strict=True)),
        dict(zip(*reversed(upward), strict=True)),
    )


def _ends(edges: NDArray[np.bool_], per_line: int, per_step: int) -> tuple[list[int], list[int]]:
    """Return the corners where runs of edges along the second axis begin, and where they end."""
    changes = np.diff(np.pad(edges.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    line, first = np.nonzero(changes == 1)
    _, last = np.nonzero(changes == -1)
    begin = line * per_line + first * per_step
    return begin.tolist(), (line * per_line + last * per_step).tolist()


def _followed(right: Runs, left: Runs, down: Runs, up: Runs) -> list[list[int]]:
    """Follow the runs from corner to corner, each once, until all are used."""
    # what comes after a run, and what else where that is not there
    turns = {id(right): (down, up), id(left): (up, down), id(down): (left, right)}
    turns[id(up)] = (right, left)
    outlines = []
    while right:
        start = next(iter(right))
        corners, here = [start], right.pop(start)
        wanted, otherwise = turns[id(right)]
        while True:
            taken = wanted if here in wanted else otherwise
            corners.append(here)
            if here not in taken:
                break  # back at the start, whose run is used
            here = taken.pop(here)
            wanted, otherwise = turns[id(taken)]
        outlines.append(corners)
    return outlines
