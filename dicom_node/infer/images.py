"""Single images, each by itself, as their network sees them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StudyUnusable
from dicom_node.infer.blocks import ImageInput, Intensity
from dicom_node.infer.intensity import clipped, scaled
from dicom_node.infer.resample import axis_weights, resample
from dicom_node.infer.series import SourceImage


def to_network(
    values: NDArray[np.float32], wanted: ImageInput, intensity: Intensity
) -> NDArray[np.float32]:
    """Return an image as its network sees it.

    Parameters
    ----------
    values : numpy.ndarray, shape (rows, columns), float32
        As `SourceImage.values` gives them.
    wanted : ImageInput
    intensity : Intensity
        Its scale is taken over the whole image, before the field is cut.

    Returns
    -------
    numpy.ndarray, shape (rows, columns) of the network, float32

    Raises
    ------
    StudyUnusable
        If the image is too small or has no contrast.
    """
    if min(values.shape) < wanted.pixels_min:
        raise StudyUnusable(
            f"{values.shape[0]} x {values.shape[1]} pixels, fewer than {wanted.pixels_min}"
        )
    values = scaled(clipped(values, intensity.clip), intensity.scale)
    values = values[field_of((values.shape[0], values.shape[1]), wanted)]
    for axis, (size, wanted_size) in enumerate(zip(values.shape, wanted.size, strict=True)):
        values = resample(values, axis_weights(size, 1.0, wanted_size, size / wanted_size), axis)
    return values


def field_of(shape: tuple[int, int], wanted: ImageInput) -> tuple[slice, slice]:
    """Return which rows and columns of an image its network sees."""
    if wanted.field == "whole":
        return slice(0, shape[0]), slice(0, shape[1])
    side = min(shape)
    top, left = ((size - side) // 2 for size in shape)
    return slice(top, top + side), slice(left, left + side)


def prepared(image: SourceImage, wanted: ImageInput, intensity: Intensity) -> NDArray[np.float32]:
    """Return one image as its network sees it; see `to_network`."""
    return to_network(image.values(intensity.values), wanted, intensity)
