"""The shapes in which the networks of an engine are asked, for runtimes that plan ahead.

They follow from the manifest: how many images or windows go at a time, and how large they can be.
Where the manifest leaves a size to the series, a wide range is planned for, tuned for the usual.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dicom_node.infer.blocks import VolumeInput
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.runtimes.port import Profile

IMAGES_AT_ONCE = 16
SLICES_AT_ONCE = 16
_WINDOW_VOXELS_AT_ONCE = 2 * 128**3
"""Two windows of 128^3: more of them keep a GPU no busier, and need more memory."""
_WINDOWS_MAX = 8
_SIDE_LEAST, _SIDE_USUAL, _SIDE_MOST = 32, 512, 1024
"""Of a slice whose size the manifest leaves to the series."""
_WHOLE_LEAST, _WHOLE_USUAL, _WHOLE_MOST = 32, 192, 320
"""Of a volume that is seen as a whole."""


def profiles_of(manifest: Manifest) -> Mapping[str, Profile]:
    """Return the shapes of the main network's inputs, by name."""
    if manifest.image is not None:
        rows, columns = manifest.image.size
        profile = _batches((1, rows, columns), IMAGES_AT_ONCE)
        return {manifest.model.input: profile}
    if manifest.volume is None:
        return {}
    names = manifest.input_names
    return {name: _of_volume(manifest.volume, names.count(name)) for name in dict.fromkeys(names)}


def locate_profiles_of(manifest: Manifest) -> Mapping[str, Profile]:
    """Return the shapes of the input of the network that finds where to look."""
    if manifest.volume is None or manifest.locate is None:
        return {}
    volume = manifest.volume
    if volume.network_sees in {"window", "whole"}:
        return {manifest.locate.input: _whole(volume, 1)}
    return {manifest.locate.input: _of_volume(volume, 1)}


def _of_volume(volume: VolumeInput, series: int) -> Profile:
    if volume.network_sees == "window" and volume.window is not None:
        size = volume.window.size
        at_once = int(np.clip(_WINDOW_VOXELS_AT_ONCE // int(np.prod(size)), 1, _WINDOWS_MAX))
        return _batches((series, *size), at_once)
    if volume.network_sees == "whole":
        return _whole(volume, series)
    channels = volume.slab_slices or series
    sides = [_sides(volume, axis, (_SIDE_LEAST, _SIDE_USUAL, _SIDE_MOST)) for axis in (1, 2)]
    least, usual, most = zip(*sides, strict=True)
    return Profile(
        (1, channels, *least),
        (SLICES_AT_ONCE, channels, *usual),
        (SLICES_AT_ONCE, channels, *most),
    )


def _whole(volume: VolumeInput, series: int) -> Profile:
    sides = [_sides(volume, axis, (_WHOLE_LEAST, _WHOLE_USUAL, _WHOLE_MOST)) for axis in range(3)]
    least, usual, most = zip(*sides, strict=True)
    return Profile((1, series, *least), (1, series, *usual), (1, series, *most))


def _sides(volume: VolumeInput, axis: int, open_sides: tuple[int, int, int]) -> tuple[int, ...]:
    """Return the least, the usual and the largest size along an axis."""
    fixed = volume.size[axis]
    if fixed is not None:
        return fixed, fixed, fixed
    multiple = volume.size_multiple
    return tuple(-(-side // multiple) * multiple for side in open_sides)


def _batches(shape: tuple[int, ...], at_once: int) -> Profile:
    return Profile((1, *shape), (at_once, *shape), (at_once, *shape))
