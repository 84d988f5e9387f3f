"""A GPU does it; what it has not the memory for, the processor does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from dicom_node.errors import DeviceFull
from dicom_node.infer.blocks import Intensity, VolumeInput
from dicom_node.infer.gpu.path import GpuPath
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.path import Answer, CpuPath, box_around
from dicom_node.infer.volume import Placement
from dicom_node.infer.voxels import Voxels

log = structlog.get_logger()


class GpuFirst:
    """The way of one engine's volumes, on a GPU where that can be.

    Parameters
    ----------
    manifest : Manifest
    main : GpuPath
    locate : GpuPath, optional
        Of the network that finds where to look.
    processor : CpuPath
        Does what needs several series at a time, and what no GPU has the memory for.
    runtime : str
        What the networks on the GPU are, for reports.
    """

    def __init__(
        self,
        manifest: Manifest,
        main: GpuPath,
        locate: GpuPath | None,
        processor: CpuPath,
        runtime: str,
    ) -> None:
        self._manifest = manifest
        self._main = main
        self._locate = locate
        self._processor = processor
        self._runtime = runtime

    @property
    def volume(self) -> VolumeInput:
        """How the networks see volumes."""
        return self._processor.volume

    def tensor(
        self, voxels: Voxels, placement: Placement, intensity: Intensity | None = None
    ) -> NDArray[np.float32]:
        """Return a volume as the networks see it; see `VolumePath.tensor`."""
        return self._processor.tensor(voxels, placement, intensity)

    def classes(
        self,
        voxels: Voxels,
        placement: Placement,
        beside: Sequence[NDArray[np.float32]] = (),
        thresholds: Sequence[float] | None = None,
    ) -> Answer:
        """Return the class of each voxel; see `VolumePath.classes`."""
        if beside:
            return self._processor.classes(voxels, placement, beside, thresholds)
        try:
            return Answer(self._on_gpu(voxels, placement, thresholds), self._runtime)
        except DeviceFull as full:
            log.warning("done_on_the_processor", engine=self._manifest.name, reason=full.message)
            return self._processor.classes(voxels, placement, thresholds=thresholds)

    def _on_gpu(
        self, voxels: Voxels, placement: Placement, thresholds: Sequence[float] | None
    ) -> NDArray[Any]:
        box = None
        if self._locate is not None and self._manifest.locate is not None:
            found = self._locate.on_grid(voxels, placement) > 0
            box = box_around(found, placement, self.volume, self._manifest.locate)
        return self._main.labels(voxels, placement, box=box, thresholds=thresholds)
