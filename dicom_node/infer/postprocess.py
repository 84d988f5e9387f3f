"""What is left of a mask once it is on the source's grid.

The order is fixed, and each step sees what the one before it left:

1. smoothing: every place goes to whoever has most of the neighbourhood;
2. of each segment its small components go, then all but the largest ones, if that is asked for;
3. a segment that is too small as a whole is emptied;
4. holes are filled, those of the smallest segment first: the inner of two shells gets what both
   enclose. Only background is filled: what another segment holds inside stays its own.

Smoothing comes first, because it can part what a thin bridge joined, and filling last, so that a
hole that a removed island leaves is filled too. Without smoothing, doing it twice changes nothing.

A mask is a label map, (slices, rows, columns) of uint8 with segment numbers; or, where segments
overlap, one map each: (segments, slices, rows, columns) of bool. Each segment is worked on inside
its own bounding box, and a box slice by slice, so that a whole-body map with a hundred segments
takes not much more than itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar, cast

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_node.infer.blocks import Components
from dicom_node.infer.smoothing import Box, smoothed

Spacing = tuple[float, float, float]
Mask = TypeVar("Mask", NDArray[np.uint8], NDArray[np.bool_])
Bits = NDArray[np.bool_]

_AS_IT_IS = Components()


@dataclass(frozen=True, eq=False)
class Cleaned:
    """A mask after all steps."""

    mask: NDArray[Any]
    """A new array, of the kind that was given."""
    noise: Mapping[int, float]
    """By segment number: what was left of a segment that was too small, and emptied for that; in
    millilitres, or in shares of a single image."""


class Scale(NamedTuple):
    """What a voxel is, for rules about sizes."""

    spacing_mm: Spacing
    """Between slices, rows and columns."""
    image_share: float | None = None
    """Of a single image, a pixel's share of it: sizes are in shares there."""

    @property
    def voxel(self) -> float:
        """A voxel's size, in millilitres or as a share."""
        if self.image_share is not None:
            return self.image_share
        return float(np.prod(self.spacing_mm)) / 1000.0

    def component_min(self, rule: Components) -> float:
        """Return the size below which a connected part goes."""
        return rule.component_min_ml if self.image_share is None else rule.component_min_share

    def segment_min(self, rule: Components) -> float:
        """Return the size below which a segment is noise."""
        return rule.volume_min_ml if self.image_share is None else rule.share_min


def largest(found: Bits) -> Bits:
    """Return the largest connected part of what was found."""
    labels = found.astype(np.uint8)
    _drop_components(labels, 1, Components(keep="largest"), Scale((1.0, 1.0, 1.0)))
    return labels.view(np.bool_)


def cleaned(mask: Mask, rules: Sequence[Components], scale: Scale) -> Cleaned:
    """Return a mask as the manifest wants it.

    Parameters
    ----------
    mask : numpy.ndarray
        A label map, shape (slices, rows, columns), uint8; or one map a segment, shape (segments,
        slices, rows, columns), bool. It is not changed.
    rules : sequence of Components
        For each segment, from number 1.
    scale : Scale
    """
    if mask.ndim == 3:
        return _label_map(mask.view(np.uint8), rules, scale)
    result = np.empty_like(mask)
    noise = {}
    for number, (one, rule) in enumerate(zip(mask, rules, strict=True), 1):
        alone = _label_map(one.view(np.uint8), [rule], scale)
        result[number - 1] = alone.mask
        if alone.noise:
            noise[number] = alone.noise[1]
    return Cleaned(result, noise)


def boxes_of(labels: NDArray[np.uint8]) -> dict[int, Box]:
    """Return the bounding box of each number of a label map that has voxels."""
    found = ndimage.find_objects(labels)
    return {number: cast(Box, box) for number, box in enumerate(found, 1) if box is not None}


def _label_map(labels: NDArray[np.uint8], rules: Sequence[Components], scale: Scale) -> Cleaned:
    by_number = dict(enumerate(rules, 1))
    sigmas_mm = {number: rule.smooth_mm for number, rule in by_number.items()}
    result = smoothed(labels, boxes_of(labels), sigmas_mm, scale.spacing_mm)
    noise = {}
    for number, box in boxes_of(result).items():
        rule, part = by_number.get(number, _AS_IT_IS), result[box]
        if rule.removes_components:
            _drop_components(part, number, rule, scale)
        if least := scale.segment_min(rule):
            left = np.count_nonzero(part == number) * scale.voxel
            if 0 < left < least:
                noise[number] = left
                part[part == number] = 0
    for number, box in sorted(boxes_of(result).items(), key=lambda one: _voxels(one[1])):
        fill = by_number.get(number, _AS_IT_IS).fill_holes
        if fill == "volume":
            _fill_holes(result[box], number, 6)
        elif fill == "slices":
            for plane in result[box]:
                _fill_holes(plane[np.newaxis], number, 4)
    return Cleaned(result, noise)


def _drop_components(
    labels: NDArray[np.uint8], number: int, rule: Components, scale: Scale
) -> None:
    """Take out the components of a segment that are too small, or not among the largest."""
    parts = _parts(labels == number, rule.connectivity)
    count = int(parts.max(initial=0)) + 1
    sizes = np.zeros(count, np.int64)
    for plane in parts:  # whole, the copies that bincount makes would take gigabytes
        sizes += np.bincount(plane.ravel(), minlength=count)
    sizes[0] = 0
    drop = sizes * scale.voxel < scale.component_min(rule)
    if rule.keep_count is not None:
        # Of equal ones the first in the order of slices, rows and columns.
        drop[np.argsort(-sizes, kind="stable")[rule.keep_count :]] = True
    _replace(labels, number, 0, drop, parts)


def _fill_holes(labels: NDArray[np.uint8], number: int, connectivity: Literal[4, 6]) -> None:
    """Give a segment what of the background has no way out of its bounding box.

    A component is joined at its corners, so what it encloses is joined at faces only.
    """
    outside = labels != number
    parts = _parts(outside, 6) if connectivity == 6 else _parts(outside[0], 4)[np.newaxis]
    hole = np.ones(int(parts.max(initial=0)) + 1, bool)
    for axis in range(3) if connectivity == 6 else (1, 2):
        for face in (0, -1):
            hole[np.unique(np.take(parts, face, axis=axis))] = False
    hole[0] = False
    if hole.any():
        _replace(labels, 0, number, hole, parts)


def _replace(
    labels: NDArray[np.uint8], old: int, new: int, chosen: Bits, parts: NDArray[Any]
) -> None:
    for plane, ids in zip(labels, parts, strict=True):
        plane[chosen[ids] & (plane == old)] = new


def _parts(found: Bits, connectivity: Literal[4, 6, 26]) -> NDArray[Any]:
    # As bool it would go another way, which fails on a mask of a single line.
    return cc3d.connected_components(found.view(np.uint8), connectivity=connectivity)


def _voxels(box: Box) -> int:
    return int(np.prod([side.stop - side.start for side in box]))
