"""Whatever call of the driver fails, and whoever else is there: no wrong mask, nothing left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.errors import DeviceFull, DeviceLost, DicomNodeError, EngineUnavailable
from dicom_node.infer.blocks import Intensity, Percentile, Scale, VolumeInput, Window
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.gpu.kernels import Kernels
from dicom_node.infer.gpu.memory import Budget
from dicom_node.infer.gpu.path import GpuPath
from dicom_node.infer.pixels import Values
from dicom_node.infer.volume import place
from tests.fake_cuda.fake import ANY, ILLEGAL_ADDRESS, OUT_OF_MEMORY, UNKNOWN, FakeCuda, Order
from tests.unit.infer.gpu.machines import FakeMachine, played
from tests.unit.infer.gpu.volumes import Expected, a_grid, a_model, an_answer, some_voxels

pytestmark = pytest.mark.filterwarnings("ignore")  # pycuda warns of what it cannot clean up

SHAPE = (8, 10, 9)
GRID = a_grid(SHAPE, (2.0, 2.0, 2.0))
BY_RANK = Intensity(
    values=Values.BRIGHTNESS, scale=Scale(low=Percentile(1), high=Percentile(99), to=(0, 1))
)
MODEL = a_model(gives="logits")
WINDOWS = VolumeInput(
    network_sees="window",
    axes="HPL",
    spacing_mm=(2, 3, 3),
    window=Window(size=(4, 6, 6), overlap=0.25, skip_below=0.2),
)
SLICES = VolumeInput(network_sees="slice", axes="HPL")
VOXELS = some_voxels(SHAPE)


@contextmanager
def loaded(
    cuda: FakeCuda,
    volume: VolumeInput = WINDOWS,
    *,
    ordinal: int = 0,
    batch_max: int = 1,
    intensity: Intensity = BY_RANK,
) -> Iterator[GpuPath]:
    """Open a device and load an engine; close both afterwards."""
    machine = FakeMachine(cuda)
    device = Device(ordinal)
    try:
        path = GpuPath(
            device,
            device.call(lambda: Kernels(device, machine.compile_source)),
            [played(machine, an_answer(3), 3, batch_max=batch_max)],
            volume,
            MODEL,
            intensity,
            budget=Budget(device.total_bytes, share=1.0),
        )
        try:
            yield path
        finally:
            path.close()
    finally:
        device.close()


def run(cuda: FakeCuda, *, ordinal: int = 0, batch_max: int = 1) -> NDArray[Any]:
    """Load an engine, do one volume, close it all."""
    with loaded(cuda, ordinal=ordinal, batch_max=batch_max) as path:
        return path.labels(VOXELS, place(GRID, WINDOWS))


def told_by(function: Callable[[], object]) -> DicomNodeError | None:
    """Return the error of ours that a function raises."""
    try:
        function()
    except DicomNodeError as failure:
        return failure
    return None


def expected(volume: VolumeInput = WINDOWS, intensity: Intensity = BY_RANK) -> Expected:
    return Expected(GRID, VOXELS, volume, MODEL, intensity, [an_answer(3)])


@pytest.mark.parametrize(("error", "graphs"), [(UNKNOWN, True), (ILLEGAL_ADDRESS, False)])
@pytest.mark.slow
def test_any_call_may_fail(
    error: int, graphs: bool, cuda: FakeCuda, capfd: pytest.CaptureFixture[str]
) -> None:
    cuda.set(order="late", graphs=graphs)
    right = run(cuda)
    expected().agrees(right)
    calls = cuda.calls()
    assert calls > 150
    assert (cuda.calls("cuGraphLaunch") > 0) == graphs
    told: list[DicomNodeError] = []
    masks: list[NDArray[Any]] = []
    for n in range(1, calls + 1):
        cuda.restart()
        cuda.set(order="late", graphs=graphs)
        cuda.fail(ANY, n, error)
        if failure := told_by(lambda: masks.append(run(cuda))):
            told.append(failure)
        assert cuda.used_bytes() == cuda.pinned_bytes() == 0, n
    # Clean-up that fails costs nothing; what else fails is told.
    assert len(told) + len(masks) == calls
    assert len(told) > 0.7 * calls
    assert all(np.array_equal(mask, right) for mask in masks)
    assert all(isinstance(failure, EngineUnavailable) for failure in told)
    lost = sum(isinstance(failure, DeviceLost) for failure in told)
    assert lost > 0.8 * len(told) if error == ILLEGAL_ADDRESS else lost < 0.1 * len(told)


def test_nothing_is_left_for_the_context_to_free(cuda: FakeCuda) -> None:
    cuda.set(order="late")
    run(cuda)
    assert cuda.leaked_bytes == 0
    cuda.fail("cuLaunchKernel", 9, UNKNOWN)
    with pytest.raises(EngineUnavailable, match="a kernel could not be launched"):
        run(cuda)
    assert cuda.leaked_bytes == 0


def test_every_copy_goes_through_pinned_memory(cuda: FakeCuda) -> None:
    cuda.set(order="late")
    run(cuda)
    assert cuda.calls("cuMemcpyHtoDAsync_v2") > 3
    assert cuda.pageable_copies == 0


def test_memory_that_another_process_took_is_done_without(cuda: FakeCuda) -> None:
    """The budget admits it, the driver does not: less is asked for, and less again."""
    right = run(cuda)
    for refused in (1, 2, 3):
        cuda.set(order="late")
        # Two times: pycuda collects garbage and tries again.
        cuda.fail("cuMemAlloc_v2", 1, OUT_OF_MEMORY, times=2 * refused)
        assert np.array_equal(run(cuda, batch_max=8), right)
        assert cuda.calls("cuMemAlloc_v2") == 2 * refused + 1


def test_a_device_that_has_no_memory_at_all_is_for_the_processor(cuda: FakeCuda) -> None:
    cuda.set(memory_bytes=50_000)
    with pytest.raises(DeviceFull, match="has not the memory for this series: 1 MiB at least"):
        run(cuda)


def test_after_a_failure_the_same_path_goes_on(cuda: FakeCuda) -> None:
    cuda.set(order="late", graphs=True)
    placement = place(GRID, WINDOWS)
    with loaded(cuda) as path:
        right = path.labels(VOXELS, placement)
        for name in ("cuLaunchKernel", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2"):
            for n in (1, 3, 5):
                cuda.fail(name, n, UNKNOWN)
                with pytest.raises(EngineUnavailable):
                    path.labels(VOXELS, placement)
                assert cuda.used_bytes() == 0
                assert np.array_equal(path.labels(VOXELS, placement), right)


def test_two_engines_share_one_device(cuda: FakeCuda) -> None:
    """One after the other: the device has one thread, and whoever asks waits for it."""
    cuda.set(order="late")
    machine = FakeMachine(cuda)
    device = Device()
    kernels = device.call(lambda: Kernels(device, machine.compile_source))
    budget = Budget(device.total_bytes)
    plain = Intensity(values=Values.BRIGHTNESS)
    paths = {
        volume.network_sees: GpuPath(
            device,
            kernels,
            [played(machine, an_answer(3), 3)],
            volume,
            MODEL,
            intensity,
            budget=budget,
        )
        for volume, intensity in ((WINDOWS, BY_RANK), (SLICES, plain))
    }
    found: dict[str, list[NDArray[Any]]] = {"window": [], "slice": []}

    def work(volume: VolumeInput) -> None:
        for _ in range(4):
            labels = paths[volume.network_sees].labels(VOXELS, place(GRID, volume))
            found[volume.network_sees].append(labels)

    together(lambda: work(WINDOWS), lambda: work(SLICES))
    for labels in found["window"]:
        expected(WINDOWS).agrees(labels)
    for labels in found["slice"]:
        expected(SLICES, plain).agrees(labels)
    assert len(found["window"]) == len(found["slice"]) == 4
    device.close()


def test_two_devices_work_at_the_same_time(cuda: FakeCuda) -> None:
    cuda.set(devices=2, order="late")
    right = run(cuda)
    found: list[tuple[int, NDArray[Any]]] = []
    together(
        lambda: found.append((0, run(cuda, ordinal=0))),
        lambda: found.append((1, run(cuda, ordinal=1))),
    )
    assert {ordinal for ordinal, _ in found} == {0, 1}
    assert all(np.array_equal(labels, right) for _, labels in found)


@pytest.mark.parametrize("order", ["late", "late copies", "late kernels"])
@pytest.mark.parametrize("volume", [WINDOWS, SLICES])
def test_no_stream_overtakes_another_that_it_needs(
    order: Order, volume: VolumeInput, cuda: FakeCuda
) -> None:
    """In many slabs, whose copies up and down and kernels all could be at the same time."""
    shape = (64, 10, 9)
    voxels = some_voxels(shape)
    placement = place(a_grid(shape, (2.0, 2.0, 2.0)), volume)
    plain = Intensity(values=Values.BRIGHTNESS)
    volume = replace(volume, window=volume.window and replace(volume.window, skip_below=None))
    masks = []
    for now in ("at once", order):
        cuda.restart()
        cuda.set(order=now, memory_bytes=36_000)
        with loaded(cuda, volume, batch_max=4, intensity=plain) as path:
            masks.append(path.labels(voxels, placement))
            assert cuda.calls("cuMemcpyDtoHAsync_v2") > 5, "too few slabs to overtake each other"
    assert np.array_equal(masks[0], masks[1])
    assert len(np.unique(masks[0])) > 1


@pytest.mark.parametrize("slices", [64, 300, 900, 2000])
def test_any_number_of_slices_finishes_on_a_small_device(slices: int, cuda: FakeCuda) -> None:
    shape = (slices, 12, 11)
    voxels, grid = some_voxels(shape), a_grid(shape, (1.0, 2.0, 2.0))
    plain = Intensity(values=Values.HOUNSFIELD, clip=(-60, 500))
    for volume in (
        VolumeInput(network_sees="slice", axes="HPL", spacing_mm=(None, 3, 3)),
        VolumeInput(
            network_sees="window",
            axes="HPL",
            spacing_mm=(2, 2, 2),
            window=Window(size=(16, 8, 8), overlap=0.5),
        ),
    ):
        cuda.set(memory_bytes=1_000_000)
        with loaded(cuda, volume, batch_max=16, intensity=plain) as path:
            found = path.labels(voxels, place(grid, volume))
        Expected(grid, voxels, volume, MODEL, plain, [an_answer(3)]).agrees(found)
        assert cuda.leaked_bytes == 0


def together(*functions: Callable[[], object]) -> None:
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
