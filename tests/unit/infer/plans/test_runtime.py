"""A plan on a GPU is a runtime as any other; what it holds there is freed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto

from dicom_node.errors import DeviceFull, EngineError, EngineUnavailable
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.plans.runtime import TensorRtRuntime
from dicom_node.infer.runtimes.port import LoadOptions, Precision, Profile, Runtime
from tests.fake_cuda.fake import FakeCuda, Order
from tests.stand_in_tensorrt import Faults
from tests.unit.infer.plans.conftest import MakeKind
from tests.unit.infer.plans.networks import FLOAT, convolution, network, node, saved

Load = Callable[..., TensorRtRuntime]
BATCHES = {"x": Profile((1, 1, 8, 8), (4, 1, 8, 8), (4, 1, 8, 8))}
FP16 = frozenset({Precision.FP16})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a network of two outputs."""
    first, weights = convolution("c1", "x", "y", (1, 3))
    nodes = [
        first,
        node("ArgMax", ["y"], ["l"], axis=1),
        node("Cast", ["l"], ["labels"], to=TensorProto.UINT8),
    ]
    outputs = {"y": FLOAT, "labels": TensorProto.UINT8}
    return saved(network(nodes, weights, outputs=outputs), tmp_path)


@pytest.fixture
def load(file: Path, make_kind: MakeKind) -> Load:
    def load(version: str = "11.4.0.106", faults: Faults | None = None) -> TensorRtRuntime:
        options = LoadOptions(profiles=BATCHES)
        return make_kind(version, faults).load(file, options)

    return load


def some(count: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, 1, 8, 8)).astype(np.float32)


def reference(file: Path, x: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(file))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": x}), strict=True))


@pytest.mark.parametrize("order", ["at once", "late", "late copies", "late kernels"])
@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("version", ["11.4.0.106", "10.16.1.11", "8.6.0"])
def test_it_gives_the_answers_of_the_processor(
    version: str, graphs: bool, order: Order, cuda: FakeCuda, load: Load, file: Path
) -> None:
    cuda.set(order=order, graphs=graphs)
    runtime = load(version)
    for count in (1, 4, 2, 4, 1, 1, 3):
        answer = runtime.run({"x": some(count)})
        expected = reference(file, some(count))
        assert sorted(answer) == ["labels", "y"]
        assert np.array_equal(answer["labels"], expected["labels"])
        assert answer["labels"].dtype == np.uint8
        assert answer["y"] == pytest.approx(expected["y"], abs=1e-5)
    assert cuda.pageable_copies == 0
    runtime.close()


def test_it_says_what_it_is(load: Load) -> None:
    runtime: Runtime = load()
    assert runtime.description == "TensorRT 11.4.0.106 on FAKE-0, fp32"
    assert (runtime.inputs, runtime.outputs) == (("x",), ("y", "labels"))
    runtime.close()


def test_batches_that_are_larger_than_planned_are_run_in_parts(load: Load, file: Path) -> None:
    runtime = load()
    answer = runtime.run({"x": some(11)})
    expected = reference(file, some(11))
    assert answer["y"] == pytest.approx(expected["y"], abs=1e-5)
    assert np.array_equal(answer["labels"], expected["labels"])
    runtime.close()


def test_answers_that_cannot_be_put_together_are_none(tmp_path: Path, make_kind: MakeKind) -> None:
    """The sum over all samples is not that over their parts."""
    nodes = [node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)]
    file = saved(network(nodes, {"axes": np.array([0])}), tmp_path)
    runtime = make_kind().load(file, LoadOptions(profiles=BATCHES))
    with pytest.raises(EngineError, match="y cannot be put together from the answers to parts"):
        runtime.run({"x": some(8)})
    runtime.close()


def test_answers_are_the_callers_own(load: Load) -> None:
    runtime = load()
    first = runtime.run({"x": some(1)})
    kept = {name: array.copy() for name, array in first.items()}
    runtime.run({"x": some(1) + 1})
    assert all(np.array_equal(first[name], kept[name]) for name in kept)
    first["y"][:] = 0
    runtime.close()


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({}, "it takes x, but was given nothing"),
        ({"z": some(1)}, "it takes x, but was given z"),
        ({"x": some(1), "z": some(1)}, "it takes x, but was given x, z"),
        ({"x": some(1).astype(np.float64)}, r"x is float64 \[1, 1, 8, 8\], but the network takes"),
        ({"x": some(1)[0]}, r"x is float32 \[1, 8, 8\], but the network takes"),
        ({"x": np.zeros((1, 2, 8, 8), np.float32)}, r"x is float32 \[1, 2, 8, 8\], but"),
        ({"x": np.zeros((1, 1, 9, 9), np.float32)}, r"x is float32 \[1, 1, 9, 9\], but"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_and_the_next_are_not(
    inputs: dict[str, np.ndarray], reason: str, load: Load
) -> None:
    runtime = load()
    with pytest.raises(EngineError, match=reason):
        runtime.run(inputs)
    assert runtime.run({"x": some(1)})["y"].shape == (1, 3, 8, 8)
    runtime.close()


def test_what_the_plan_was_not_made_for_is_refused_in_tensorrts_words(
    tmp_path: Path, make_kind: MakeKind
) -> None:
    """The file leaves rows and columns open; the plan does not."""
    model = network([node("Neg", ["x"], ["y"])], x=("n", 1, "h", "w"))
    runtime = make_kind().load(saved(model, tmp_path), LoadOptions(profiles=BATCHES))
    with pytest.raises(
        EngineError, match=r"with x of shape \(1, 1, 9, 9\).*outside of the profile"
    ):
        runtime.run({"x": np.zeros((1, 1, 9, 9), np.float32)})
    assert np.array_equal(runtime.run({"x": some(1)})["y"], -some(1))
    runtime.close()


def test_a_shape_that_depends_on_the_data_is_refused(tmp_path: Path, make_kind: MakeKind) -> None:
    model = network([node("NonZero", ["x"], ["y"])], outputs={"y": TensorProto.INT64})
    with pytest.raises(EngineError, match="the shape of y depends on the data"):
        make_kind().load(saved(model, tmp_path), LoadOptions(profiles=BATCHES))


def test_a_network_of_fixed_shapes_needs_no_profile(tmp_path: Path, make_kind: MakeKind) -> None:
    model = network([node("Neg", ["x"], ["y"])], x=(1, 1, 8, 8))
    runtime = make_kind().load(saved(model, tmp_path), LoadOptions())
    assert np.array_equal(runtime.run({"x": some(1)})["y"], -some(1))
    runtime.close()


def test_several_inputs_go_by_name(tmp_path: Path, make_kind: MakeKind) -> None:
    model = network([node("Sub", ["x", "before"], ["y"])], before=("n", 1, 8, 8))
    profiles = dict.fromkeys(("x", "before"), BATCHES["x"])
    runtime = make_kind().load(saved(model, tmp_path), LoadOptions(profiles=profiles))
    answer = runtime.run({"before": some(6), "x": some(6) * 3})
    assert answer["y"] == pytest.approx(some(6) * 2)
    runtime.close()


def test_it_is_warm_when_it_is_given_away(cuda: FakeCuda, load: Load) -> None:
    """What the usual shape needs is allocated, and it has been run."""
    faults = Faults()
    runtime = load(faults=faults)
    assert "IExecutionContext.execute_async_v3" in faults.calls
    cuda.fail("cuMemAlloc_v2", 1, 2)
    runtime.run({"x": some(4)})
    runtime.close()


def test_once_it_is_recorded_tensorrt_is_not_asked_again(
    cuda: FakeCuda, load: Load, file: Path
) -> None:
    cuda.set(graphs=True)
    faults = Faults()
    runtime = load(faults=faults)
    before = len(faults.calls)
    launched = cuda.calls("cuGraphLaunch")
    for count in range(3):
        answer = runtime.run({"x": some(4) + count})
        assert answer["y"] == pytest.approx(reference(file, some(4) + count)["y"], abs=1e-5)
    assert faults.calls[before:] == []
    assert cuda.calls("cuGraphLaunch") == launched + 3
    runtime.close()


def test_a_network_that_cannot_be_recorded_is_enqueued_each_time(
    cuda: FakeCuda, load: Load, file: Path
) -> None:
    cuda.set(graphs=True)

    def is_recorded(name: str) -> bool:
        begun, ended = (cuda.calls(f"cuStream{edge}") for edge in ("BeginCapture_v2", "EndCapture"))
        return name.endswith("execute_async_v3") and begun > ended

    runtime = load(faults=Faults(refuse=is_recorded))
    for _ in range(2):
        answer = runtime.run({"x": some(4)})
        assert answer["y"] == pytest.approx(reference(file, some(4))["y"], abs=1e-5)
    assert cuda.calls("cuStreamBeginCapture_v2") > 0
    assert cuda.calls("cuGraphLaunch") == 0
    runtime.close()


def test_what_is_kept_for_other_shapes_gives_way(cuda: FakeCuda, load: Load, file: Path) -> None:
    runtime = load()
    for count in (1, 2, 3):
        runtime.run({"x": some(count)})
    cuda.fail("cuMemAlloc_v2", 1, 2)  # once: it goes on with what the others give back
    answer = runtime.run({"x": some(4)})
    assert answer["y"] == pytest.approx(reference(file, some(4))["y"], abs=1e-5)
    runtime.close()


def test_a_device_that_is_full_can_be_tried_again(cuda: FakeCuda, load: Load) -> None:
    cuda.set(memory_bytes=5000)  # less than the block that it works in
    with pytest.raises(DeviceFull):
        load()
    assert cuda.used_bytes() == 0
    cuda.set(memory_bytes=1 << 20)
    load().close()


def test_closing_twice_is_closing_and_then_it_is_closed(load: Load) -> None:
    runtime = load()
    runtime.close()
    runtime.close()
    with pytest.raises(EngineError, match=r"model\.onnx was closed"):
        runtime.run({"x": some(1)})


def test_two_engines_share_a_device(load: Load, file: Path) -> None:
    first, second = load(), load()
    expected = reference(file, some(3))["y"]
    assert first.run({"x": some(3)})["y"] == pytest.approx(expected, abs=1e-5)
    assert second.run({"x": some(3)})["y"] == pytest.approx(expected, abs=1e-5)
    first.close()
    assert second.run({"x": some(3)})["y"] == pytest.approx(expected, abs=1e-5)
    second.close()


def test_without_a_gpu_tensorrt_is_not_even_imported(cuda: FakeCuda, file: Path) -> None:
    from dicom_node.infer.runtimes.tensorrt import TensorRtKind

    def never() -> Device:
        raise AssertionError("TensorRT was touched")

    cuda.set(devices=0)
    kind = TensorRtKind(library=never, device=never)  # type: ignore[arg-type]
    assert kind.missing() == "the NVIDIA driver finds no GPU: see nvidia-smi"
    with pytest.raises(EngineUnavailable, match="TensorRT cannot be used: the NVIDIA driver"):
        kind.load(file, LoadOptions(profiles=BATCHES))


def test_where_tensorrt_is_not_installed_it_says_who_can_add_it(cuda: FakeCuda) -> None:
    from dicom_node.infer.plans.library import import_library
    from dicom_node.infer.runtimes.tensorrt import TensorRtKind

    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    kind = TensorRtKind(library=lambda: import_library(absent))
    assert kind.missing() == (
        "no TensorRT can be imported (tensorrt: No module named 'tensorrt'; "
        "tensorrt_rtx: No module named 'tensorrt_rtx'); "
        "install tensorrt under NVIDIA's licence; docs/engines.md says how"
    )
