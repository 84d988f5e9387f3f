"""One thread owns a device; what goes wrong there is told in our words."""

from __future__ import annotations

import gc
import threading
import warnings

import numpy as np
import pytest

from dicom_node.errors import DeviceFull, DeviceLost, EngineUnavailable, InvariantBroken
from dicom_node.infer.gpu import driver
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.gpu.graphs import Replay, capture
from dicom_node.infer.gpu.kernels import Kernels
from tests.fake_cuda.fake import ILLEGAL_ADDRESS, UNKNOWN, FakeCuda
from tests.unit.infer.gpu.machines import FakeMachine

MIB = 1 << 20


def test_a_device_says_what_it_is(device: Device) -> None:
    assert (device.name, device.arch, device.total_bytes) == ("FAKE-0", "sm_90", 1 << 30)
    assert device.call(device.free_bytes) == 1 << 30
    assert driver.missing() == ""


def test_without_a_device_the_driver_is_said_to_find_none(cuda: FakeCuda) -> None:
    cuda.set(devices=0)
    assert driver.missing() == "the NVIDIA driver finds no GPU: see nvidia-smi"
    with pytest.raises(EngineUnavailable, match="finds no GPU"):
        Device()


def test_a_device_that_is_not_there_is_refused(cuda: FakeCuda) -> None:
    with pytest.raises(EngineUnavailable, match=r"GPU 3 cannot be used: .*invalid device ordinal"):
        Device(3)


def test_everything_is_done_on_one_thread(device: Device) -> None:
    threads = {device.call(threading.get_ident) for _ in range(5)}
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    nested = device.call(lambda: device.call(threading.get_ident))
    assert nested in threads


def test_another_thread_cannot_touch_the_device(device: Device) -> None:
    with pytest.raises(InvariantBroken, match="outside of its thread"):
        device.allocate(16)


def test_what_a_function_raises_comes_back(device: Device) -> None:
    def fail() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        device.call(fail)


def test_closing_frees_what_nobody_freed(cuda: FakeCuda) -> None:
    device = Device()
    device.call(lambda: (device.allocate(1000), device.pinned((10,), np.float32), device.stream()))
    assert (cuda.used_bytes(), cuda.pinned_bytes()) == (1000, 40)
    device.close()
    device.close()
    assert (cuda.used_bytes(), cuda.pinned_bytes(), cuda.leaked_bytes) == (0, 0, 0)
    with pytest.raises(InvariantBroken, match="GPU 0 is closed"):
        device.call(lambda: None)


def test_kernels_that_outlive_their_device_hold_nothing_of_it(cuda: FakeCuda) -> None:
    """Else the last reference would unload them, in whatever thread that happens."""
    device = Device()
    kernels = device.call(lambda: Kernels(device, FakeMachine(cuda).compile_source))
    device.close()
    assert cuda.calls("cuModuleUnload") == 1
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        gc.collect()  # what tests of lost devices left
        told.clear()
        del kernels
        gc.collect()
    assert [str(one.message) for one in told] == []


def test_a_thing_may_be_freed_twice(cuda: FakeCuda, device: Device) -> None:
    def twice() -> None:
        buffer = device.allocate(1000)
        buffer.free()
        buffer.free()

    device.call(twice)
    assert cuda.used_bytes() == 0


def test_memory_that_is_full_is_said_so_and_the_device_lives_on(
    cuda: FakeCuda, device: Device
) -> None:
    with pytest.raises(DeviceFull, match="GPU 0: 2048 MiB could not be allocated: out of memory"):
        device.call(lambda: device.allocate(2048 * MIB))
    device.call(lambda: device.allocate(MIB).free())


def test_an_error_that_passes_is_one_attempt(cuda: FakeCuda, device: Device) -> None:
    cuda.fail("cuStreamCreate", 1, UNKNOWN)
    with pytest.raises(EngineUnavailable, match=r"GPU 0: no stream: .*unknown error") as raised:
        device.call(device.stream)
    assert not isinstance(raised.value, DeviceLost)
    device.call(lambda: device.stream().free())


@pytest.mark.filterwarnings("ignore")
def test_after_an_illegal_access_the_device_is_lost_for_good(
    cuda: FakeCuda, device: Device
) -> None:
    stream = device.call(device.stream)
    cuda.fail("cuStreamSynchronize", 1, ILLEGAL_ADDRESS)
    with pytest.raises(DeviceLost, match=r"GPU 0 is lost: .*illegal memory access"):
        device.call(stream.synchronize)
    with pytest.raises(DeviceLost, match="illegal memory access"):
        device.call(lambda: device.allocate(16))


def test_two_devices_have_a_thread_and_memory_each(cuda: FakeCuda) -> None:
    cuda.set(devices=2)
    first, second = Device(0), Device(1)
    first.call(lambda: first.allocate(100))
    second.call(lambda: second.allocate(200))
    assert first.call(threading.get_ident) != second.call(threading.get_ident)
    assert (cuda.used_bytes(0), cuda.used_bytes(1)) == (100, 200)
    first.close()
    assert (cuda.used_bytes(0), cuda.used_bytes(1)) == (0, 200)
    second.close()


# ------------------------------------------------------------ graphs


class Copying:
    """Work on a stream: one copy to the device, of what `source` holds when it is done."""

    def __init__(self, cuda: FakeCuda, device: Device) -> None:
        self._device = device
        self.machine = FakeMachine(cuda)
        self.stream = device.stream()
        self.source = device.pinned((4,), np.int32)
        self.target = device.allocate(16)
        self.enqueued = 0

    def enqueue(self) -> None:
        self.enqueued += 1
        self._device.upload(self.target.address, self.source.array, self.stream)

    def after(self, value: int, launch: object) -> int:
        self.source.array[:] = value
        launch()  # type: ignore[operator]
        self.stream.synchronize()
        return int(self.machine.read(self.target.address, (4,), "int32")[0])


@pytest.mark.parametrize("graphs", [True, False])
def test_work_is_replayed_as_a_graph_where_the_driver_has_them(
    graphs: bool, cuda: FakeCuda, device: Device
) -> None:
    cuda.set(order="late", graphs=graphs)

    def play() -> tuple[list[int], int]:
        copying = Copying(cuda, device)
        replay = Replay(device, copying.stream, copying.enqueue)
        seen = [copying.after(value, replay) for value in (1, 2, 3, 4)]
        replay.free()
        return seen, copying.enqueued

    assert device.call(play) == ([1, 2, 3, 4], 2 if graphs else 4)
    assert cuda.calls("cuGraphLaunch") == (3 if graphs else 0)


def test_a_graph_that_cannot_be_recorded_is_done_without(cuda: FakeCuda, device: Device) -> None:
    cuda.set(order="late", graphs=True)

    def play() -> list[int]:
        copying = Copying(cuda, device)

        def waits() -> None:
            copying.enqueue()
            copying.stream.synchronize()  # not allowed while it is recorded

        replay = Replay(device, copying.stream, waits)
        return [copying.after(value, replay) for value in (1, 2, 3)]

    assert device.call(play) == [1, 2, 3]
    assert cuda.calls("cuStreamBeginCapture_v2") == 1


@pytest.mark.parametrize(
    "name",
    [
        *("cuStreamBeginCapture_v2", "cuGraphInstantiateWithFlags"),
        *("cuGraphDestroy", "cuMemcpyHtoDAsync_v2"),
    ],
)
@pytest.mark.parametrize("error", [UNKNOWN, ILLEGAL_ADDRESS])
@pytest.mark.filterwarnings("ignore")
def test_whatever_fails_while_recording_is_told_or_done_without(
    error: int, name: str, cuda: FakeCuda, device: Device
) -> None:
    cuda.set(order="late", graphs=True)

    def play() -> list[int]:
        copying = Copying(cuda, device)
        replay = Replay(device, copying.stream, copying.enqueue)
        seen = [copying.after(1, replay)]
        cuda.fail(name, 1, error)
        return [*seen, *(copying.after(value, replay) for value in (2, 3))]

    if error == ILLEGAL_ADDRESS:
        with pytest.raises(DeviceLost):
            device.call(play)
    else:
        assert device.call(play) == [1, 2, 3]


@pytest.mark.filterwarnings("ignore")
def test_a_stream_that_stays_in_recording_is_a_device_lost(cuda: FakeCuda, device: Device) -> None:
    cuda.set(order="late", graphs=True)

    def play() -> None:
        copying = Copying(cuda, device)
        cuda.fail("cuStreamEndCapture", 1, UNKNOWN)
        capture(device, copying.stream, copying.enqueue)

    with pytest.raises(DeviceLost, match="a graph could not be recorded"):
        device.call(play)


def test_a_graph_that_cannot_be_launched_is_said_so(cuda: FakeCuda, device: Device) -> None:
    cuda.set(order="late", graphs=True)

    def play() -> None:
        copying = Copying(cuda, device)
        graph = capture(device, copying.stream, copying.enqueue)
        assert graph is not None
        cuda.fail("cuGraphLaunch", 1, UNKNOWN)
        graph.launch(copying.stream)

    with pytest.raises(EngineUnavailable, match="a graph could not be launched: error 999"):
        device.call(play)
