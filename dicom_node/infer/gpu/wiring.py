"""Puts together what brings an engine's volumes over a GPU: kernels, budget, paths.

Kernels and budget are one a device, however many engines live there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from dicom_node.errors import DeviceFull
from dicom_node.infer.gpu import nvrtc
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.gpu.first import GpuFirst
from dicom_node.infer.gpu.kernels import Compile, Kernels
from dicom_node.infer.gpu.memory import Budget
from dicom_node.infer.gpu.network import DeviceNetwork
from dicom_node.infer.gpu.path import GpuPath
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.path import CpuPath, seen_to_locate

CUBINS = "cubins"


class PlacedRuntime(Protocol):
    """A runtime whose network lies on a device, where it can be used without the host."""

    device: Device
    description: str

    def on_device(self, output: str) -> DeviceNetwork:
        """Return the same network for the path on the device."""


class Site(NamedTuple):
    """What the engines on one device share."""

    device: Device
    kernels: Kernels
    budget: Budget


class Sites:
    """The devices of this process, each set up when its first engine comes.

    Parameters
    ----------
    cache_dir : Path, optional
        Where compiled kernels are kept.
    compile_source : callable, optional
        `nvrtc.compiled`, with its folder.
    """

    def __init__(self, cache_dir: Path | None, compile_source: Compile | None = None) -> None:
        cubins = cache_dir / CUBINS if cache_dir else None
        self._compile = compile_source or partial(nvrtc.compiled, cache_dir=cubins)
        self._sites: dict[int, Site] = {}

    def of(self, device: Device) -> Site:
        """Return what engines share on a device.

        Raises
        ------
        EngineUnavailable, EngineError
            If the kernels cannot be compiled or loaded.
        """
        site = self._sites.get(id(device))
        if site is None:
            kernels = device.call(lambda: Kernels(device, self._compile))
            site = Site(device, kernels, Budget(device.total_bytes))
            self._sites[id(device)] = site
        return site


def gpu_first(
    manifest: Manifest,
    main: Sequence[PlacedRuntime],
    locate: PlacedRuntime | None,
    processor: CpuPath,
    site: Site,
) -> GpuFirst:
    """Return the way of an engine's volumes over the device on which its networks lie.

    Raises
    ------
    DeviceFull
        If all engines together have no room there.
    EngineUnavailable, EngineError
        If the device cannot now, or the networks do not fit the manifest.
    """
    networks = [one.on_device(manifest.model.output) for one in main]
    finders = []
    if locate is not None and manifest.locate is not None:
        finders.append(locate.on_device(manifest.locate.output))
    resident = sum(network.resident_bytes for network in (*networks, *finders))
    if not site.budget.admit(resident):
        raise DeviceFull(
            f"GPU {site.device.ordinal} has no room for the networks of {manifest.name}: "
            f"{resident / 2**20:.0f} MiB, {site.budget.left_bytes / 2**20:.0f} MiB are left",
            hint="fewer engines, or another GPU: infer.devices",
        )

    thresholds = manifest.given_thresholds if manifest.model.classes_are == "independent" else ()
    way = partial(
        GpuPath,
        site.device,
        site.kernels,
        volume=processor.volume,
        intensity=manifest.intensity,
        budget=site.budget,
    )
    path = way(networks, model=manifest.model, thresholds=thresholds)
    finder = None
    if finders and manifest.locate is not None:
        finder = way(finders, model=manifest.locate, volume=seen_to_locate(processor.volume))
    return GpuFirst(manifest, path, finder, processor, main[0].description)
