"""Masks on single images: the answer about an image, back on its own pixels.

An X-ray is a projection: a mask on it has an area, no volume, and the size of its pixels is known
at the detector, at the thing itself, or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.geometry import AxisMatch, Grid
from dicom_node.headers import reading
from dicom_node.infer.asking import planes_of
from dicom_node.infer.blocks import ImageInput, VolumeInput
from dicom_node.infer.images import field_of
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.mask import exclusive_mask, independent_masks
from dicom_node.infer.pixels import network_values
from dicom_node.infer.resample import axis_weights
from dicom_node.infer.runtimes.port import Runtime
from dicom_node.infer.segmentation import Ground
from dicom_node.infer.series import SourceImage
from dicom_node.infer.volume import Placement

AS_A_SLICE = VolumeInput(network_sees="slice", axes="HPL")
"""How a network sees a single image: as the one slice of a volume."""

_NO_SCALE = "the size of its pixels is not known: no areas or lengths"
_AT_THE_DETECTOR = "areas and lengths are those at the detector, where everything is magnified"


def classes_on(
    tensor: NDArray[np.float32],
    shape: tuple[int, int],
    manifest: Manifest,
    runtimes: Sequence[Runtime],
) -> NDArray[Any]:
    """Return the class of each pixel of an image, as `VolumePath.classes` does of a volume.

    Parameters
    ----------
    tensor : numpy.ndarray, shape (rows, columns) of the network, float32
        The image as `images.prepared` gives it.
    shape : (int, int)
        Rows and columns of the image.
    manifest : Manifest
        Of a segmentation engine that sees single images.
    runtimes : sequence of Runtime
        Of its network, or of the members of its ensemble.

    Raises
    ------
    EngineError
        If a network fails.
    """
    if manifest.image is None:
        raise ValueError(f"{manifest.name} sees no single images")
    placement = _placed(shape, manifest.image)
    planes = planes_of(tensor[None, None], AS_A_SLICE, manifest.model, runtimes)
    if manifest.model.classes_are == "independent":
        return independent_masks(planes, placement, manifest.given_thresholds)
    return exclusive_mask(planes, placement)


def ground_of(image: SourceImage, manifest: Manifest) -> Ground:
    """Return what a mask on an image lies on."""
    header = image.header
    pixels = _pixel_size(header)
    rows_mm, columns_mm = pixels.spacing_mm or (1.0, 1.0)
    shape = (1, int(header.Rows), int(header.Columns))
    return Ground(
        Grid(shape, np.diag([1.0, rows_mm, columns_mm, 1.0])),
        str(header.get("Modality", "")),
        lambda _: network_values(image.file, header, manifest.intensity.values, image.pixels_at),
        is_image=True,
        has_scale=pixels.spacing_mm is not None,
        warnings=(pixels.warning,) if pixels.warning else (),
    )


def _placed(shape: tuple[int, int], wanted: ImageInput) -> Placement:
    """Return the way back from the network's pixels to the image's."""
    backward = []
    for size, there, field in zip(shape, wanted.size, field_of(shape, wanted), strict=True):
        side = field.stop - field.start
        away = size / 2 - (field.start + side / 2)
        backward.append(axis_weights(there, side / there, size, 1.0, away))
    return Placement(
        match=AxisMatch((0, 1, 2), (False, False, False), 0.0),
        forward=(None, None, None),
        backward=(None, backward[0], backward[1]),
        shape=(1, *shape),
        spacing_mm=(1.0, 1.0, 1.0),
    )


@dataclass(frozen=True)
class _PixelSize:
    spacing_mm: tuple[float, float] | None
    """Between rows, between columns."""
    warning: str


def _pixel_size(header: Dataset) -> _PixelSize:
    """Return how large the pixels of a projection are.

    References
    ----------
    PS3.3 10.7.1.3: Pixel Spacing that equals Imager Pixel Spacing is that of the detector too
    """
    at_detector = _pair(header, "ImagerPixelSpacing")
    calibrated = _pair(header, "PixelSpacing")
    if calibrated is not None and calibrated != at_detector:
        return _PixelSize(calibrated, "")
    if at_detector is not None:
        return _PixelSize(at_detector, _AT_THE_DETECTOR)
    return _PixelSize(None, _NO_SCALE)


def _pair(header: Dataset, keyword: str) -> tuple[float, float] | None:
    value = header.get(keyword)
    if not value:
        return None
    with reading(f"{keyword} of instance {header.get('SOPInstanceUID', '')}"):
        rows_mm, columns_mm = (float(one) for one in value)
    is_size = np.isfinite([rows_mm, columns_mm]).all() and min(rows_mm, columns_mm) > 0
    return (rows_mm, columns_mm) if is_size else None
