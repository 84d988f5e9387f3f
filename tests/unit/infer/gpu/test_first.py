"""An engine goes over the GPU with the processor's answer; what does not fit goes over that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.errors import DeviceFull, StudyUnusable
from dicom_node.infer.asking import Networks
from dicom_node.infer.blocks import Intensity, Locate, Percentile, Scale, VolumeInput, Window
from dicom_node.infer.engine_folders import load_manifest
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.gpu.first import GpuFirst
from dicom_node.infer.gpu.kernels import Kernels
from dicom_node.infer.gpu.memory import Budget
from dicom_node.infer.gpu.network import DeviceNetwork
from dicom_node.infer.gpu.wiring import Site, gpu_first
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.path import CpuPath
from dicom_node.infer.pixels import Values
from dicom_node.infer.runtimes.port import Arrays
from dicom_node.infer.volume import place
from tests.unit.infer.gpu.machines import Answer, Machine, PlayedNetwork, played
from tests.unit.infer.gpu.volumes import AXIAL, SAGITTAL, a_grid, a_model, an_answer, some_voxels

CT_LUNGS = Path(__file__).resolve().parents[4] / "engines" / "ct_lungs"
SHAPE, SPACING = (14, 21, 18), (2.5, 1.1, 1.2)
BY_RANK = Intensity(
    values=Values.BRIGHTNESS, scale=Scale(low=Percentile(1), high=Percentile(99), to=(0, 1))
)
SLICES = VolumeInput(
    network_sees="slice", axes="HPL", spacing_mm=(None, 2, 2), size=(None, 12, 12), pad=-60
)
WINDOWS = VolumeInput(
    network_sees="window",
    axes="LFA",
    spacing_mm=(2, 2, 2),
    window=Window(size=(6, 6, 6), overlap=0.5),
)
LOCATE = Locate(sha256="0" * 64, input="in", output="out", what="body", margin_mm=2)


def bright(shown: NDArray[np.float32]) -> NDArray[np.float32]:
    """Find what is bright."""
    return (shown > 0.6).astype(np.float32)


@dataclass
class PlayedRuntime:
    """A network on the device, and the same one for the processor."""

    device: Device
    answer: Answer
    network: PlayedNetwork
    description: str = "played on the GPU"
    inputs: tuple[str, ...] = ("in",)
    outputs: tuple[str, ...] = ("out",)

    def on_device(self, output: str) -> DeviceNetwork:
        assert output == self.network.output.name
        return self.network

    def run(self, inputs: Arrays) -> Arrays:
        return {"out": self.answer(inputs["in"])}

    def close(self) -> None:
        """Nothing is held."""


class Bench:
    """Both ways of one engine."""

    def __init__(self, machine: Machine, device: Device, kernels: Kernels) -> None:
        self._machine = machine
        self._device = device
        self._kernels = kernels
        self.budget = Budget(device.total_bytes)
        self.resident_bytes = 0

    def runtime(self, answer: Answer, channels: int) -> PlayedRuntime:
        network = played(self._machine, answer, channels)
        network.resident_bytes = self.resident_bytes
        return PlayedRuntime(self._device, answer, network)

    def ways(self, manifest: Manifest) -> tuple[GpuFirst, CpuPath]:
        main = self.runtime(an_answer(4), 4)
        locate = self.runtime(bright, 1) if manifest.locate else None
        processor = CpuPath(manifest, Networks((main,), locate))
        site = Site(self._device, self._kernels, self.budget)
        return gpu_first(manifest, [main], locate, processor, site), processor


@pytest.fixture
def bench(machine: Machine, device: Device, kernels: Kernels) -> Bench:
    return Bench(machine, device, kernels)


def a_manifest(volume: VolumeInput, **given: Any) -> Manifest:
    base = {"volume": volume, "intensity": BY_RANK, "model": a_model()}
    return replace(load_manifest(CT_LUNGS), **{**base, **given})


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL])
@pytest.mark.parametrize(
    ("volume", "given"),
    [
        (SLICES, {}),
        (WINDOWS, {"model": a_model(gives="logits", mirrors=((0,), (1, 2)))}),
        (WINDOWS, {"locate": LOCATE}),
        (WINDOWS, {"model": a_model(gives="logits", classes_are="independent")}),
    ],
)
def test_both_ways_give_the_same_classes(
    volume: VolumeInput, given: dict[str, Any], orientation: Any, bench: Bench
) -> None:
    if volume is SLICES and orientation is SAGITTAL:
        orientation = AXIAL
    gpu, processor = bench.ways(a_manifest(volume, **given))
    voxels = some_voxels(SHAPE)
    placement = place(a_grid(SHAPE, SPACING, orientation), volume)
    found, expected = gpu.classes(voxels, placement), processor.classes(voxels, placement)
    assert found.classes.dtype == expected.classes.dtype
    # Two classes that are equally likely, but for rounding, may come out either way.
    assert (found.classes != expected.classes).mean() < 1e-3
    assert len(np.unique(expected.classes)) > 1
    assert (found.runtime, expected.runtime) == ("played on the GPU", "played on the GPU")


def test_a_threshold_that_a_rule_sets_holds_on_both_ways(bench: Bench) -> None:
    manifest = a_manifest(WINDOWS, model=a_model(gives="logits", classes_are="independent"))
    voxels, placement = some_voxels(SHAPE), place(a_grid(SHAPE, SPACING), WINDOWS)
    count = len(manifest.given_thresholds)
    for way in bench.ways(manifest):
        usual = way.classes(voxels, placement).classes
        loose = way.classes(voxels, placement, (), [-1e9] * count).classes
        never = way.classes(voxels, placement, (), [1e9] * count).classes
        assert loose.all()
        assert 0 < usual.sum() < usual.size
        assert not never.any()
        assert np.array_equal(way.classes(voxels, placement).classes, usual)


def test_what_is_not_located_is_refused_on_both_ways(bench: Bench) -> None:
    manifest = a_manifest(WINDOWS, locate=replace(LOCATE, volume_min_ml=10_000))
    voxels, placement = some_voxels(SHAPE), place(a_grid(SHAPE, SPACING), WINDOWS)
    for way in bench.ways(manifest):
        with pytest.raises(StudyUnusable, match="no body found"):
            way.classes(voxels, placement)


def test_what_no_memory_is_left_for_is_done_on_the_processor(bench: Bench) -> None:
    manifest = a_manifest(WINDOWS)
    gpu, processor = bench.ways(manifest)
    voxels, placement = some_voxels(SHAPE), place(a_grid(SHAPE, SPACING), WINDOWS)
    assert bench.budget.admit(bench.budget.left_bytes - 1000)
    found = gpu.classes(voxels, placement)
    assert np.array_equal(found.classes, processor.classes(voxels, placement).classes)


def test_networks_that_have_no_room_are_not_loaded(bench: Bench) -> None:
    bench.resident_bytes = bench.budget.left_bytes // 2 + 1
    bench.ways(a_manifest(SLICES))
    with pytest.raises(DeviceFull, match="has no room for the networks of ct_lungs: 461 MiB, 461"):
        bench.ways(a_manifest(SLICES))
