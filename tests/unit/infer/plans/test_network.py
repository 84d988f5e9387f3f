"""A plan on the device, as the GPU's path uses it: addresses, shapes, a block, a stream."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from dicom_node.errors import EngineError, EngineUnavailable
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.gpu.network import DeviceNetwork, End
from dicom_node.infer.gpu.resources import Stream
from dicom_node.infer.plans.runtime import TensorRtRuntime
from dicom_node.infer.runtimes.port import LoadOptions, Profile
from tests.fake_cuda.fake import FakeCuda
from tests.stand_in_tensorrt import Faults
from tests.unit.infer.plans.conftest import MakeKind
from tests.unit.infer.plans.networks import FLOAT, answers, convolution, network, node, saved

BATCHES = {"x": Profile((1, 1, 8, 8), (4, 1, 8, 8), (4, 1, 8, 8))}
FIRST, WEIGHTS = convolution("c1", "x", "y", (1, 3))
MODEL = network(
    [
        FIRST,
        node("ArgMax", ["y"], ["l"], axis=1),
        node("Cast", ["l"], ["labels"], to=TensorProto.UINT8),
    ],
    WEIGHTS,
    outputs={"y": FLOAT, "labels": TensorProto.UINT8},
)


class Load:
    def __init__(self, make_kind: MakeKind, folder: Path) -> None:
        self._make_kind, self._folder = make_kind, folder
        self.runtimes: list[TensorRtRuntime] = []

    def __call__(
        self, version: str = "11.4.0.106", faults: Faults | None = None
    ) -> TensorRtRuntime:
        kind = self._make_kind(version, faults)
        options = LoadOptions(profiles=BATCHES)
        self.runtimes.append(kind.load(saved(MODEL, self._folder), options))
        return self.runtimes[-1]


@pytest.fixture
def load(make_kind: MakeKind, tmp_path: Path) -> Iterator[Load]:
    load = Load(make_kind, tmp_path)
    yield load
    for runtime in load.runtimes:
        runtime.close()


def some(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(count).standard_normal((count, 1, 8, 8)).astype(np.float32)


def asked(
    asked_for: DeviceNetwork, device: Device, x: NDArray[np.float32], channels: int
) -> NDArray[np.float32 | np.uint8]:
    """Return a network's answer, from and to memory of the device that is taken for it."""

    def work() -> NDArray[np.float32 | np.uint8]:
        stream: Stream = device.stream()
        given = device.pinned(x.shape, np.float32)
        taken = device.pinned((len(x), channels, *x.shape[2:]), asked_for.output.dtype)
        given.array[...] = x
        block = device.allocate(max(1, asked_for.scratch_bytes(x.shape)))
        asked_for.use_scratch(block.address, block.size_bytes)
        source, target = device.allocate(x.nbytes), device.allocate(taken.array.nbytes)
        device.upload(source.address, given.array, stream)
        try:
            asked_for.enqueue(x.shape, source.address, target.address, stream.handle)
            device.download(taken.array, target.address, stream)
            stream.synchronize()
            return taken.array.copy()
        finally:
            for one in (given, taken, block, source, target, stream):
                one.free()

    return device.call(work)


def test_it_says_what_goes_in_and_out(load: Load, device: Device) -> None:
    ours = load().on_device("labels")
    assert ours.input == End("x", "float32", 1)
    assert ours.output == End("labels", "uint8", 1)
    assert ours.batch_max == 4
    assert ours.resident_bytes > 0
    device.call(ours.close)
    device.call(ours.close)


def test_tensorrt_8_brings_its_scratch_memory_and_counts_it(load: Load, device: Device) -> None:
    new, old = (load(version).on_device("labels") for version in ("11.4.0.106", "8.6.0"))
    assert old.resident_bytes > new.resident_bytes + 4000
    # Only the output that nobody wants has to lie somewhere.
    assert device.call(lambda: old.scratch_bytes((1, 1, 8, 8))) == 3 * 64 * 4
    for one in (new, old):
        device.call(one.close)


@pytest.mark.parametrize("version", ["11.4.0.106", "8.6.0"])
@pytest.mark.parametrize(("output", "channels"), [("y", 3), ("labels", 1)])
def test_it_answers_for_one_output_whatever_others_there_are(
    output: str, channels: int, version: str, cuda: FakeCuda, load: Load, device: Device
) -> None:
    cuda.set(order="late")
    ours = load(version).on_device(output)
    for count in (4, 1, 3):
        expected = answers(MODEL, x=some(count))[output]
        assert asked(ours, device, some(count), channels) == pytest.approx(expected, abs=1e-5)
    device.call(ours.close)


def test_the_block_that_it_works_in_goes_with_the_shape(load: Load, device: Device) -> None:
    ours = load().on_device("labels")
    sizes = [
        device.call(lambda count=count: ours.scratch_bytes((count, 1, 8, 8)))  # type: ignore[misc]
        for count in (1, 4)
    ]
    # 512 bytes a sample are TensorRT's; the output that nobody wants comes behind.
    assert sizes == [512 + 3 * 64 * 4, 4 * (512 + 3 * 64 * 4)]
    device.call(ours.close)


def test_a_block_that_is_too_small_is_not_written_to(load: Load, device: Device) -> None:
    ours = load().on_device("labels")

    def work() -> None:
        block = device.allocate(512)
        ours.use_scratch(block.address, block.size_bytes)
        try:
            ours.enqueue((1, 1, 8, 8), 256, 512, 0)
        finally:
            block.free()

    with pytest.raises(EngineError, match=r"needs a block of 1280 bytes, not 512"):
        device.call(work)
    device.call(ours.close)


def test_shapes_that_were_not_planned_are_refused(load: Load, device: Device) -> None:
    ours = load().on_device("labels")
    with pytest.raises(EngineError, match=r"with x of shape \(5, 1, 8, 8\)"):
        device.call(lambda: ours.scratch_bytes((5, 1, 8, 8)))
    device.call(ours.close)


def test_what_cannot_be_enqueued_now_may_be_later(load: Load, device: Device) -> None:
    """So the recording of a graph is given up, and not the network."""
    faults = Faults()
    ours = load(faults=faults).on_device("y")
    faults.refuse = lambda name: name.endswith("execute_async_v3")
    with pytest.raises(EngineUnavailable, match=r"model\.onnx cannot be run by TensorRT 11"):
        asked(ours, device, some(1), 3)
    faults.refuse = lambda name: False
    assert asked(ours, device, some(1), 3).shape == (1, 3, 8, 8)
    device.call(ours.close)


def test_networks_of_one_plan_run_side_by_side(load: Load, device: Device) -> None:
    runtime = load()
    first, second = runtime.on_device("y"), runtime.on_device("y")
    expected = [answers(MODEL, x=some(count))["y"] for count in (1, 2)]
    assert asked(first, device, some(1), 3) == pytest.approx(expected[0], abs=1e-5)
    assert asked(second, device, some(2), 3) == pytest.approx(expected[1], abs=1e-5)
    assert runtime.run({"x": some(1)})["y"] == pytest.approx(expected[0], abs=1e-5)
    for one in (first, second):
        device.call(one.close)


def test_ends_that_the_path_does_not_know_are_told(
    load: Load, make_kind: MakeKind, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match=r"model\.onnx has no output mask, but y, labels"):
        load().on_device("mask")
    two = network([node("Sub", ["x", "before"], ["y"])], before=("n", 1, 8, 8))
    profiles = dict.fromkeys(("x", "before"), BATCHES["x"])
    runtime = make_kind().load(saved(two, tmp_path, "two.onnx"), LoadOptions(profiles=profiles))
    load.runtimes.append(runtime)
    with pytest.raises(EngineError, match=r"two\.onnx wants 2 inputs; one is given"):
        runtime.on_device("y")
    flags = network(
        [node("Greater", ["x", "zero"], ["y"])],
        {"zero": np.float32(0)},
        outputs={"y": TensorProto.BOOL},
    )
    runtime = make_kind().load(saved(flags, tmp_path, "flags.onnx"), LoadOptions(profiles=BATCHES))
    load.runtimes.append(runtime)
    with pytest.raises(EngineError, match=r"flags\.onnx: y is bool of shape"):
        runtime.on_device("y")
