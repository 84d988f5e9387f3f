"""The way of a volume through an engine: from decoded voxels to classes on the source's own grid.

There are two, with the same answer: here on the processor, in numpy and scipy, the reference; and
on a GPU (`infer.gpu.path`), where nothing but voxels go up and classes come down.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import EngineError, InvariantBroken, StudyUnusable
from dicom_node.infer.asking import Networks, Planes, nobody_asked, planes_of
from dicom_node.infer.blocks import Intensity, Locate, VolumeInput
from dicom_node.infer.intensity import clipped, scaled
from dicom_node.infer.likelihoods import Likelihoods
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.mask import exclusive_mask, independent_masks
from dicom_node.infer.postprocess import largest
from dicom_node.infer.volume import Placement, to_network
from dicom_node.infer.voxels import Voxels

Box = tuple[slice, slice, slice]


class Answer(NamedTuple):
    """What an engine says of a volume, and who computed it."""

    classes: NDArray[Any]
    """Exclusive: uint8, shape (slices, rows, columns), 0 the background. Independent: bool,
    shape (classes, slices, rows, columns)."""
    runtime: str
    """For the report."""
    probabilities: NDArray[np.uint8] | None = None
    """Where the manifest wants them; (segments, slices, rows, columns), as `Likelihoods` has."""


class VolumePath(Protocol):
    """What brings a volume through the networks of an engine."""

    @property
    def volume(self) -> VolumeInput:
        """How the networks see volumes."""

    def tensor(
        self, voxels: Voxels, placement: Placement, intensity: Intensity | None = None
    ) -> NDArray[np.float32]:
        """Return a volume as the networks are trained to see it, shape (slices, rows, columns).

        Parameters
        ----------
        intensity : Intensity, optional
            Of another series than the main one.
        """

    def classes(
        self,
        voxels: Voxels,
        placement: Placement,
        beside: Sequence[NDArray[np.float32]] = (),
        thresholds: Sequence[float] | None = None,
    ) -> Answer:
        """Return the class of each voxel of the source.

        Parameters
        ----------
        voxels : Voxels
            Of the whole series.
        placement : Placement
            How it lies to the network's grid.
        beside : sequence of numpy.ndarray, shape (slices, rows, columns), float32
            Other series that the network sees, on its grid already.
        thresholds : sequence of float, optional
            Of independent classes, where a rule sets others than the manifest; in the numbers
            that the network gives.

        Raises
        ------
        StudyUnusable
            If the volume has no contrast, or lacks what the engine looks for.
        EngineError
            If a network fails.
        """


class CpuPath:
    """The reference.

    Parameters
    ----------
    manifest : Manifest
        Of an engine that sees volumes.
    networks : Networks
    """

    def __init__(self, manifest: Manifest, networks: Networks) -> None:
        self._manifest = manifest
        self._networks = networks

    @property
    def volume(self) -> VolumeInput:
        """How the network sees volumes."""
        if self._manifest.volume is None:
            raise EngineError(f"{self._manifest.name} sees single images, no volumes")
        return self._manifest.volume

    def classes(
        self,
        voxels: Voxels,
        placement: Placement,
        beside: Sequence[NDArray[np.float32]] = (),
        thresholds: Sequence[float] | None = None,
    ) -> Answer:
        """Return the class of each voxel; see `VolumePath.classes`."""
        manifest = self._manifest
        values = np.stack([self.tensor(voxels, placement), *beside])
        planes = self._planes(values, placement, self.volume)
        runtime = self._networks.main[0].description
        likely = (
            Likelihoods(manifest.model, manifest.segments, placement.shape)
            if manifest.probabilities
            else None
        )
        classes: NDArray[Any]
        if manifest.model.classes_are == "independent":
            least = manifest.given_thresholds if thresholds is None else thresholds
            classes = independent_masks(planes, placement, least, likely)
        else:
            classes = exclusive_mask(planes, placement, likely)
        return Answer(classes, runtime, None if likely is None else likely.values)

    def tensor(
        self, voxels: Voxels, placement: Placement, intensity: Intensity | None = None
    ) -> NDArray[np.float32]:
        """Return a volume as its network is trained to see it; see `VolumePath.tensor`."""
        wanted = intensity or self._manifest.intensity
        slices = (clipped(voxels.values(index), wanted.clip) for index in range(len(voxels.stored)))
        return scaled(to_network(slices, placement, self.volume.pad), wanted.scale)

    def _planes(
        self, values: NDArray[np.float32], placement: Placement, wanted: VolumeInput
    ) -> Planes:
        model, locate = self._manifest.model, self._manifest.locate
        if locate is None or self._networks.locate is None:
            names = self._manifest.input_names
            return planes_of(values, wanted, model, self._networks.main, names)
        seen = seen_to_locate(wanted)
        found = np.stack(list(planes_of(values, seen, locate, (self._networks.locate,)))) > 0
        box = box_around(found, placement, wanted, locate)
        part = values[(slice(None), *box)]
        planes = planes_of(part, wanted, model, self._networks.main)
        return _embedded(planes, box, values.shape[1:], nobody_asked(model))


def seen_to_locate(wanted: VolumeInput) -> VolumeInput:
    """Return how the network that finds where to look sees a volume.

    All of it where the main one sees windows: labels of overlapping windows have no mean.
    """
    if wanted.network_sees != "window":
        return wanted
    return dataclasses.replace(wanted, network_sees="whole", window=None)


def box_around(
    found: NDArray[np.bool_], placement: Placement, wanted: VolumeInput, locate: Locate
) -> Box:
    """Return where the main network has to look: what was located, with a margin.

    Parameters
    ----------
    found : numpy.ndarray, bool
        Where the small network sees something, on the network's grid; its largest part is meant.

    Raises
    ------
    StudyUnusable
        If there is less of it than the manifest asks for.
    """
    part = largest(found)
    volume_ml = np.count_nonzero(part) * placement.voxel_ml
    if volume_ml < max(locate.volume_min_ml, placement.voxel_ml):
        raise StudyUnusable(
            f"no {locate.what} found: {volume_ml:.0f} ml, less than {locate.volume_min_ml:g}",
            hint="check that the series is what its header says",
        )
    smallest = wanted.window.size if wanted.window else (1, 1, 1)
    box = []
    for axis, (size, spacing) in enumerate(zip(found.shape, placement.spacing_mm, strict=True)):
        others = tuple(other for other in range(3) if other != axis)
        touched = np.flatnonzero(part.any(axis=others))
        margin = int(np.ceil(locate.margin_mm / spacing))
        low, high = max(int(touched[0]) - margin, 0), min(int(touched[-1]) + 1 + margin, size)
        # The grid is a multiple of what the network can halve, so a box can grow to one inside it.
        length = -(-max(high - low, smallest[axis]) // wanted.size_multiple) * wanted.size_multiple
        high = low + length
        low, high = low - max(high - size, 0), min(high, size)
        box.append(slice(max(low, 0), high))
    return box[0], box[1], box[2]


def _embedded(
    planes: Planes, box: Box, shape: tuple[int, ...], outside: Callable[[int], NDArray[np.float32]]
) -> Planes:
    """Yield planes of a whole grid, of which only those in a box were asked for."""
    depth, rows, columns = box
    first = next(planes)
    empty: NDArray[Any]
    if first.ndim == 2:
        empty = np.zeros(shape[1:], first.dtype)
    else:
        empty = np.empty((len(first), *shape[1:]), np.float32)
        empty[...] = outside(len(first))[:, None, None]
    inside = chain([first], planes)
    for index in range(shape[0]):
        if not depth.start <= index < depth.stop:
            yield empty
            continue
        whole = empty.copy()
        whole[..., rows, columns] = next(inside)
        yield whole
    for _ in inside:
        raise InvariantBroken("more planes than the box has slices")
