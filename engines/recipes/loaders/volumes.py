"""A series of slices as the network sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.geometry import Grid
from dicom_node.infer.series import SourceImage, SourceSeries, load_source
from dicom_node.infer.volume import Placement
from dicom_node.infer.voxels import read_voxels
from engines.recipes.preparation import CORES, Preparation, label_map_to_network


@dataclass(frozen=True, eq=False)
class PreparedVolume:
    """One series on the network's grid, and how its own grid lies to that."""

    images: tuple[SourceImage, ...]
    """Its slices, in the order of their grid."""
    grid: Grid
    placement: Placement
    values: NDArray[np.float32]
    """(slices, rows, columns) of the network."""

    def drawn(self, masks: NDArray[np.uint8], labels: int) -> NDArray[np.uint8]:
        """Return a label map of the series on the network's grid; see `label_map_to_network`."""
        return label_map_to_network(masks, self.placement, labels)


def prepare_files(files: Sequence[Path], preparation: Preparation) -> PreparedVolume:
    """Return the series that files hold; see `prepare_series`."""
    return prepare_series(load_source(files), preparation)


def prepare_series(source: SourceSeries, preparation: Preparation) -> PreparedVolume:
    """Return a series as the network sees it.

    Raises
    ------
    StudyUnusable
        If it is no volume, or not one that the network is for.
    """
    volume = source.volume()
    placement = preparation.placement(volume.grid)
    voxels = read_voxels(volume.images, preparation.intensity.values, threads=CORES)
    slices = (voxels.values(index) for index in range(len(volume.images)))
    values = preparation.of_volume(slices, placement)
    return PreparedVolume(volume.images, volume.grid, placement, values)
