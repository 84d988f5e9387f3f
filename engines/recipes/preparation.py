"""What the node will hand to the network, by the node's own code: training sees nothing else.

A `Preparation` holds the blocks `intensity` and `image` or `volume` of an engine's manifest
(docs/engines.md), so what a network was trained on and what its folder says cannot differ.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.geometry import Grid
from dicom_node.infer.asking import tensors_of
from dicom_node.infer.blocks import ImageInput, Intensity, Percentile, Scale, VolumeInput
from dicom_node.infer.images import to_network as image_to_network
from dicom_node.infer.intensity import clipped, scaled
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.pixels import Values
from dicom_node.infer.volume import Placement, place, to_network
from engines.recipes.errors import DataUnusable

_ROUNDING = 1e-4
"""Of a share, in single precision."""

CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Preparation:
    """From pixels to what a network sees: of single images, or of volumes slice by slice."""

    intensity: Intensity
    image: ImageInput | None = None
    volume: VolumeInput | None = None

    def __post_init__(self) -> None:
        if (self.image is None) == (self.volume is None):
            raise DataUnusable("a preparation is of images or of volumes: name one of them")
        if self.volume and self.volume.network_sees not in {"slice", "slab"}:
            raise DataUnusable(
                f"samples are slices or slabs, and the network sees a {self.volume.network_sees}",
                hint="set network_sees to slice or slab",
            )

    @property
    def channels(self) -> int:
        """How many channels a sample has."""
        return (self.volume.slab_slices or 1) if self.volume else 1

    def of_image(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return one image, (rows, columns), as its network sees it, (rows, columns).

        Raises
        ------
        StudyUnusable
            If it is too small, or has no contrast.
        """
        if self.image is None:
            raise DataUnusable("this network sees volumes, not single images")
        return image_to_network(values, self.image, self.intensity)

    def placement(self, grid: Grid) -> Placement:
        """Return how a volume lies to the network's grid.

        Raises
        ------
        StudyUnusable
            If it is not what the network is for.
        """
        return place(grid, self._volume)

    def of_volume(
        self, slices: Iterable[NDArray[np.float32]], placement: Placement
    ) -> NDArray[np.float32]:
        """Return a volume on the network's grid and axes, (slices, rows, columns)."""
        limited = (clipped(one, self.intensity.clip) for one in slices)
        return scaled(to_network(limited, placement, self._volume.pad), self.intensity.scale)

    def samples_of(self, volume: NDArray[np.float32], at: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return slices or slabs of what `of_volume` gave: (n, rows, columns, channels)."""
        tensors = tensors_of(volume[None], self.channels, at.tolist())
        return np.ascontiguousarray(np.moveaxis(tensors, 1, -1))

    @property
    def _volume(self) -> VolumeInput:
        if self.volume is None:
            raise DataUnusable("this network sees single images, not volumes")
        return self.volume


def label_map_to_network(
    masks: NDArray[np.uint8], placement: Placement, labels: int
) -> NDArray[np.uint8]:
    """Return a label map of a series on the network's grid: each voxel what fills most of it.

    Parameters
    ----------
    masks : numpy.ndarray, shape (slices, rows, columns), uint8
        On the grid of the series, the label of each voxel; beyond it is background.
    placement : Placement
    labels : int
        How many there are, with the background. Of two that fill as much, the smaller one wins.
    """
    return _largest(
        to_network(((one == label).astype(np.float32) for one in masks), placement, 0.0)
        for label in range(1, labels)
    )


def label_image_to_network(
    mask: NDArray[np.uint8], preparation: Preparation, labels: int
) -> NDArray[np.uint8]:
    """Return the label map of one image as `label_map_to_network` does that of a series."""
    if preparation.image is None:
        raise DataUnusable("this network sees volumes, not single images")
    as_it_is = Preparation(Intensity(values=Values.BRIGHTNESS), image=preparation.image)
    return _largest(
        as_it_is.of_image((mask == label).astype(np.float32)) for label in range(1, labels)
    )


def _largest(shares: Iterable[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """Return the label with the largest share, from 1; what none of them fills is background."""
    result = most = total = None
    for label, share in enumerate(shares, 1):
        if result is None or most is None or total is None:
            result, most, total = np.zeros(share.shape, np.uint8), np.zeros_like(share), share * 0
        larger = share > most + _ROUNDING
        result[larger] = label
        most = np.maximum(most, share)
        total += share
    if result is None or most is None or total is None:
        raise DataUnusable("a label map needs a label beside the background")
    result[1 - total > most - _ROUNDING] = 0
    return result


def xray(size: int, low: float = 0.5, high: float = 99.5, pixels_min: int = 1) -> Preparation:
    """Return the preparation of the bundled X-ray engines.

    Percentiles to 0 to 255, bone bright, the central square averaged down to `size`.
    """
    scale = Scale(low=Percentile(low), high=Percentile(high), to=(0.0, 255.0))
    return Preparation(
        Intensity(values=Values.BRIGHTNESS, scale=scale),
        image=ImageInput(size=(size, size), pixels_min=pixels_min),
    )


def ct_slices(
    size: int | None = 128, pixel_mm: float | None = 3.90625, slab_slices: int | None = None
) -> Preparation:
    """Return the preparation of the bundled engine for lungs: HU, means of blocks of pixels."""
    return Preparation(
        Intensity(values=Values.HOUNSFIELD, clip=(-1024.0, 3071.0)),
        volume=VolumeInput(
            network_sees="slab" if slab_slices else "slice",
            axes="HPL",
            spacing_mm=(None, pixel_mm, pixel_mm),
            size=(None, size, size),
            grow_max=1.25,
            pad=-1024.0,
            slab_slices=slab_slices,
        ),
    )


def of_manifest(manifest: Manifest) -> Preparation:
    """Return the preparation that an engine's manifest describes."""
    return Preparation(manifest.intensity, manifest.image, manifest.volume)
