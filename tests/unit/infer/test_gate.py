"""No network serves that was not asked first; the fastest that answers rightly is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.errors import DeviceFull, DeviceLost, EngineError, StorageError
from dicom_node.infer.gate import Passed, Refused, Way, pass_gate
from dicom_node.infer.parity import Limits, Meaning
from dicom_node.infer.runtimes.port import Arrays, LoadOptions, Precision, Profile
from dicom_node.infer.vector import Vector, read_vector

FILE = Path("model.onnx")
X = np.arange(6, dtype=np.float32).reshape(2, 3)
FP16, FP32 = Precision.FP16, Precision.FP32

Answer = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass
class Network:
    """A runtime whose network is a function; it counts."""

    description: str
    answer: Answer
    inputs: tuple[str, ...] = ("x",)
    outputs: tuple[str, ...] = ("y",)
    runs: int = 0
    closed: int = 0

    def run(self, inputs: Arrays) -> Arrays:
        self.runs += 1
        return {"y": self.answer(inputs["x"])}

    def close(self) -> None:
        self.closed += 1


@dataclass
class Kind:
    """A kind of runtime that gives one network, or fails; it keeps what it was asked for."""

    answer: Answer | Exception
    name: str = "somewhere"
    asks: bool = False
    """As a kind that keeps plans, it calls the check itself."""
    options: list[LoadOptions] = field(default_factory=list)
    networks: list[Network] = field(default_factory=list)

    def missing(self) -> str:
        return ""

    def load(self, file: Path, options: LoadOptions) -> Network:
        assert file == FILE
        self.options.append(options)
        if isinstance(self.answer, Exception):
            raise self.answer
        network = Network(f"{self.name} 1.0", self.answer)
        self.networks.append(network)
        if self.asks and options.check:
            try:
                options.check(network)
            except EngineError:
                network.close()
                raise
        return network


def right(x: NDArray[Any]) -> NDArray[Any]:
    return x * 2


def off_by(distance: float) -> Answer:
    return lambda x: x * 2 + distance


def vector(**limits: Any) -> Vector:
    return Vector({"x": X}, "y", X * 2, Meaning.EXCLUSIVE, Limits(**{"tolerance": 0.01, **limits}))


def passed(*ways: Way, options: LoadOptions | None = None) -> Passed:
    return pass_gate("an_engine", FILE, ways, options or LoadOptions(), vector())


@pytest.mark.parametrize("asks", [True, False])
def test_the_first_way_that_answers_rightly_is_taken(asks: bool) -> None:
    first, second = Kind(right, asks=asks), Kind(right, asks=asks)
    taken = passed(Way(first, FP16), Way(second, FP32))
    assert taken.runtime is first.networks[0]
    assert second.networks == []
    (parity,) = taken.parities
    assert (parity.accepted, parity.engine, parity.network) == (True, "an_engine", "model.onnx")
    assert (parity.runtime, parity.precision) == ("somewhere 1.0", FP16)
    assert parity.in_words == (
        "model.onnx on somewhere 1.0 (fp16) accepted: numbers differ by up to 0, no class changes"
    )


@pytest.mark.parametrize("asks", [True, False])
def test_what_is_too_far_off_is_closed_and_the_next_is_tried(asks: bool) -> None:
    gpu, cpu = Kind(off_by(0.02), asks=asks), Kind(off_by(0.005), name="the processor")
    taken = passed(Way(gpu, FP16), Way(gpu, FP32), Way(cpu, FP32))
    assert taken.runtime is cpu.networks[0]
    assert [network.closed for network in gpu.networks] == [1, 1]
    assert cpu.networks[0].closed == 0
    assert [(p.accepted, p.precision) for p in taken.parities] == [
        (False, FP16),
        (False, FP32),
        (True, FP32),
    ]
    assert taken.parities[0].reason == "numbers differ by up to 0.02, more than 0.01"
    assert taken.parities[0].difference is not None
    assert taken.parities[0].difference.max_abs == pytest.approx(0.02, rel=1e-4)


@pytest.mark.parametrize(
    "error",
    [
        EngineError("operator Det is not supported"),
        DeviceFull("the GPU is full", hint="give it less"),
        StorageError("no room for plans"),
    ],
)
def test_what_cannot_be_loaded_is_a_reason_too(error: Exception) -> None:
    taken = passed(Way(Kind(error, name="tensorrt"), FP16), Way(Kind(right), FP32))
    failed, _ = taken.parities
    assert not failed.accepted
    assert (failed.runtime, failed.difference) == ("tensorrt", None)
    assert str(error) in failed.reason


def test_where_no_way_is_left_every_reason_is_told() -> None:
    ways = Way(Kind(off_by(1.0), name="one"), FP16), Way(Kind(EngineError("broken")), FP32)
    with pytest.raises(Refused) as refusal:
        passed(*ways)
    assert "an_engine gives the answers of its test vector nowhere" in refusal.value.message
    assert "model.onnx on one 1.0 (fp16) refused: numbers differ by up to 1" in str(refusal.value)
    assert "model.onnx on somewhere (fp32) refused: broken" in str(refusal.value)
    assert [parity.accepted for parity in refusal.value.parities] == [False, False]


def test_a_device_that_is_lost_ends_the_search() -> None:
    """The process has to end; the next one will find out whether the GPU is back."""
    cpu = Kind(right)
    with pytest.raises(DeviceLost):
        passed(Way(Kind(DeviceLost("fell off the bus")), FP16), Way(cpu, FP32))
    assert cpu.networks == []


def test_every_run_until_it_is_warm_is_compared() -> None:
    runs: list[int] = []

    def wrong_when_replayed(x: NDArray[Any]) -> NDArray[Any]:
        runs.append(1)
        return x * 2 if len(runs) < 3 else np.zeros_like(x)

    taken = passed(Way(Kind(wrong_when_replayed), FP16), Way(Kind(right), FP32))
    assert [parity.accepted for parity in taken.parities] == [False, True]


def test_each_way_is_loaded_in_its_own_precision_and_for_the_vectors_shape_too() -> None:
    kind = Kind(off_by(1.0))
    profile = Profile((4, 3), (8, 3), (16, 3))
    options = LoadOptions(threads=3, profiles={"x": profile, "z": profile})
    passed(Way(kind, FP16), Way(kind, FP32), Way(Kind(right), FP32), options=options)
    assert [one.precisions for one in kind.options] == [{FP16}, {FP32}]
    assert kind.options[0].threads == 3
    assert kind.options[0].profiles == {"x": Profile((2, 3), (8, 3), (16, 3)), "z": profile}


def test_a_network_without_the_ends_that_the_engine_names_is_refused() -> None:
    other = Vector({"image": X}, "mask", X, Meaning.EXCLUSIVE, Limits(tolerance=1))
    with pytest.raises(Refused, match="has the inputs x and the outputs y; the engine names image"):
        pass_gate("an_engine", FILE, [Way(Kind(right), FP32)], LoadOptions(), other)


def test_limits_of_classes_and_overlap_count(tmp_path: Path) -> None:
    strict = vector(tolerance=10.0, flips_max=0.1)
    shuffled = Kind(lambda x: x[:, ::-1] * 2)
    with pytest.raises(Refused, match="100 % get another class, more than 10 %"):
        pass_gate("an_engine", FILE, [Way(shuffled, FP32)], LoadOptions(), strict)


def test_a_vector_is_read_by_the_names_of_its_arrays(tmp_path: Path) -> None:
    file = tmp_path / "test_vector.npz"
    np.savez(file, input=np.ones((1, 2), np.int16), prior=np.zeros((1, 2)), output=X)
    read = read_vector(
        file, {"x": "input", "before": "prior"}, "y", "output", Meaning.LOGITS, Limits(1.0)
    )
    assert {name: array.dtype for name, array in read.inputs.items()} == {
        "x": np.float32,
        "before": np.float32,
    }
    assert np.array_equal(read.expected, X)
    with pytest.raises(EngineError, match=r"test_vector\.npz has not the arrays input, answer"):
        read_vector(file, {"x": "input"}, "y", "answer", Meaning.LOGITS, Limits(1.0))
    for damaged in (b"nothing of the kind", file.read_bytes()[:100]):
        file.write_bytes(damaged)
        with pytest.raises(EngineError, match=r"test_vector\.npz has not the arrays"):
            read_vector(file, {"x": "input"}, "y", "output", Meaning.LOGITS, Limits(1.0))
