"""What every runtime has to do: the networks of all bundled engines, and a textbook's CNN.

onnxruntime on the CPU is the reference. Tolerances are those that the engines' manifests name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.errors import EngineError
from dicom_node.infer.engine_folders import list_engines
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.plans.library import Library
from dicom_node.infer.runtimes import registry
from dicom_node.infer.runtimes.kserve import model_name
from dicom_node.infer.runtimes.onnx_file import read_onnx
from dicom_node.infer.runtimes.port import LoadOptions, Profile, Runtime, RuntimeKind
from dicom_node.infer.runtimes.tensorrt import TensorRtKind
from tests.fake_cuda import build, fake
from tests.kserve_server import kserve_server
from tests.stand_in_tensorrt import make_tensorrt

ROOT = Path(__file__).parents[2]
ENGINES = list_engines(ROOT / "engines")
TEXTBOOK = ROOT / "tests" / "data" / "models" / "textbook.onnx"
[TEXTBOOK_OUTPUT] = read_onnx(TEXTBOOK).ends.output_names
RUNTIMES = tuple(name for name in registry.RUNTIMES if name != "null")
THREADS = 2
SIDE = 24
"""Of an open spatial axis: a small crop of what the 3-D networks see."""
BATCHES = (1, 2, 5)

Array = NDArray[Any]
Load = Callable[[Path], Runtime]


@dataclass(frozen=True)
class Network:
    """One network of a bundled engine, with its part of the test vector."""

    engine: str
    file: Path
    output: str
    expected: str
    tolerance: float

    def __str__(self) -> str:
        return f"{self.engine}/{self.file.name}"

    def vector(self) -> tuple[Array, Array]:
        with np.load(self.file.parent / "test_vector.npz") as vector:
            return vector["input"].astype(np.float32), vector[self.expected]


def networks_of(manifest: Manifest) -> Iterator[Network]:
    tolerance = manifest.test_vector.tolerance
    for part, expected in ((manifest.model, "output"), (manifest.locate, "locate_output")):
        if part is not None:
            file = manifest.folder / part.file
            yield Network(manifest.name, file, part.output, expected, tolerance)


NETWORKS = [network for manifest in ENGINES.values() for network in networks_of(manifest)]
ALL_FILES = [*(network.file for network in NETWORKS), TEXTBOOK]


@pytest.fixture(scope="module")
def reference() -> Load:
    """Return a function that loads a file on the runtime that the others are compared with."""
    kind = registry.RUNTIMES[registry.DEFAULT]
    return cache(lambda file: kind.load(file, LoadOptions(threads=THREADS)))


@pytest.fixture(scope="module", params=RUNTIMES)
def load(request: pytest.FixtureRequest) -> Iterator[Load]:
    """Return a function that loads a file once on one of the runtimes.

    TensorRT is a stand-in on the fake driver here; tests/gpu has these tests for a real one.
    """
    name: str = request.param
    with ExitStack() as stack:
        server_url = ""
        if name == "kserve":
            files = {model_name(file): file for file in ALL_FILES}
            server_url = stack.enter_context(kserve_server(files)).url
        if name == "tensorrt":
            kind: RuntimeKind = stack.enter_context(stand_in_tensorrt())
        else:
            kind = registry.RUNTIMES[name]
        if missing := kind.missing():
            pytest.skip(missing)
        yield stack.enter_context(loading(kind, server_url))


@contextmanager
def loading(kind: RuntimeKind, server_url: str = "") -> Iterator[Load]:
    """Give a function that loads a file once, and close all of them."""
    with ExitStack() as stack:

        def loaded(file: Path) -> Runtime:
            options = LoadOptions(
                threads=THREADS, profiles=profiles_of(file), server_url=server_url
            )
            runtime = kind.load(file, options)
            stack.callback(runtime.close)
            return runtime

        yield cache(loaded)


@contextmanager
def stand_in_tensorrt() -> Iterator[TensorRtKind]:
    """Give the runtime of TensorRT, on a TensorRT and a GPU that are none."""
    if reason := build.missing():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    cuda = fake.load()
    cuda.restart()
    library = Library(make_tensorrt(on_stream=cuda.on_stream))
    with closing(Device()) as device:
        yield TensorRtKind(library=lambda: library, device=lambda ordinal: device)
    cuda.restart()
    cuda.set(devices=0)


def profiles_of(file: Path) -> Mapping[str, Profile]:
    """Return shapes for runtimes that plan ahead: those of these tests."""
    vectors = {network.file: network.vector()[0].shape for network in NETWORKS}
    profiles = {}
    for tensor in read_onnx(file).ends.inputs:
        shapes = [shape_of(tensor.shape, batch) for batch in BATCHES]
        shapes += [vectors[file]] if file in vectors else []
        smallest = tuple(int(side) for side in np.min(shapes, axis=0))
        largest = tuple(int(side) for side in np.max(shapes, axis=0))
        profiles[tensor.name] = Profile(smallest, shapes[1], largest)
    return profiles


def shape_of(declared: tuple[int | str, ...] | None, batch: int) -> tuple[int, ...]:
    first, *others = declared or ()
    sides = [side if isinstance(side, int) else SIDE for side in others]
    return (first if isinstance(first, int) else batch, *sides)


def inputs_for(file: Path, batch: int) -> dict[str, Array]:
    """Return seeded random numbers that spread as the network's own test vector does."""
    random = np.random.default_rng(batch)
    given = {network.file: network.vector()[0] for network in NETWORKS if network.file == file}
    around, spread = (given[file].mean(), given[file].std()) if file in given else (0, 1)
    return {
        tensor.name: random.normal(around, spread, shape_of(tensor.shape, batch)).astype(np.float32)
        for tensor in read_onnx(file).ends.inputs
    }


def difference(answer: Array, expected: Array) -> float:
    """Return the largest difference; of labels the share that differs."""
    assert answer.shape == expected.shape
    if answer.dtype.kind in "iu":
        return float(np.mean(answer != expected))
    return float(np.abs(answer.astype(np.float64) - expected).max())


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_a_test_vector_gets_the_answer_of_its_release(network: Network, load: Load) -> None:
    given, expected = network.vector()
    runtime = load(network.file)
    [name] = runtime.inputs
    answer = runtime.run({name: given})[network.output]
    assert difference(answer, expected) <= network.tolerance


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_random_input_gets_the_answer_of_the_reference(
    network: Network, batch: int, load: Load, reference: Load
) -> None:
    given = inputs_for(network.file, batch)
    expected, answer = reference(network.file).run(given), load(network.file).run(given)
    assert set(answer) == set(expected)
    for name in expected:
        assert difference(answer[name], expected[name]) <= network.tolerance


def test_every_layer_of_a_textbook_computes_what_keras_computed(load: Load) -> None:
    """Input, convolution, ReLU, sigmoid, tanh, both poolings, batch norm, dropout, flatten, dense
    and softmax, exported from Keras: tests/data/models/make_textbook.py."""
    with np.load(TEXTBOOK.with_suffix(".npz")) as recorded:
        images, expected = recorded["image"], recorded["probabilities"]
    answer = load(TEXTBOOK).run({"image": images})[TEXTBOOK_OUTPUT]
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    assert expected.std() > 0.01, "one that answers the same to everything proves little"


@pytest.mark.parametrize("file", ALL_FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_the_ends_are_those_of_the_file(file: Path, load: Load) -> None:
    ends, runtime = read_onnx(file).ends, load(file)
    assert (runtime.inputs, runtime.outputs) == (ends.input_names, ends.output_names)
    answer = runtime.run(inputs_for(file, 2))
    assert {name: array.dtype for name, array in answer.items()} == {
        tensor.name: tensor.dtype for tensor in ends.outputs
    }


def test_the_description_names_the_runtime_and_its_version(
    load: Load, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["load"]
    description = load(TEXTBOOK).description
    assert description.lower().startswith(name)
    assert any(sign.isdigit() for sign in description)


def test_a_second_run_gives_the_same_bits(load: Load) -> None:
    for network in NETWORKS:
        given = inputs_for(network.file, 2)
        first, second = load(network.file).run(given), load(network.file).run(given)
        assert {n: a.tobytes() for n, a in first.items()} == {
            n: a.tobytes() for n, a in second.items()
        }


def test_an_answer_is_not_changed_by_the_next_run(load: Load) -> None:
    first = load(TEXTBOOK).run(inputs_for(TEXTBOOK, 2))[TEXTBOOK_OUTPUT]
    kept = first.copy()
    load(TEXTBOOK).run({"image": np.ones((2, 32, 32, 1), np.float32)})
    np.testing.assert_array_equal(first, kept)


def test_the_input_is_left_as_it_was(load: Load) -> None:
    given = inputs_for(TEXTBOOK, 2)
    kept = given["image"].copy()
    load(TEXTBOOK).run(given)
    np.testing.assert_array_equal(given["image"], kept)


def test_an_array_need_not_lie_in_one_piece(load: Load) -> None:
    whole = inputs_for(TEXTBOOK, 5)["image"]
    spread = np.asfortranarray(whole)[::2, ::-1]
    assert not spread.flags.c_contiguous
    plain = load(TEXTBOOK).run({"image": np.ascontiguousarray(spread)})[TEXTBOOK_OUTPUT]
    answer = load(TEXTBOOK).run({"image": spread})[TEXTBOOK_OUTPUT]
    np.testing.assert_array_equal(answer, plain)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"picture": np.zeros((1, 32, 32, 1), np.float32)}, "takes image, but was given picture"),
        ({}, "takes image, but was given nothing"),
        (
            {"image": np.zeros((1, 32, 31, 1), np.float32)},
            r"image is float32 \[1, 32, 31, 1\], but the network takes float32 \[\S+, 32, 32, 1\]",
        ),
        ({"image": np.zeros((32, 32, 1), np.float32)}, r"image is float32 \[32, 32, 1\]"),
        ({"image": np.zeros((0, 32, 32, 1), np.float32)}, r"image is float32 \[0, 32, 32, 1\]"),
        ({"image": np.zeros((1, 32, 32, 1), np.float64)}, "image is float64"),
        ({"image": np.zeros((1, 32, 32, 1), np.int32)}, "image is int32"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(
    given: dict[str, Array], words: str, load: Load
) -> None:
    runtime = load(TEXTBOOK)
    before = runtime.run(inputs_for(TEXTBOOK, 1))[TEXTBOOK_OUTPUT]
    with pytest.raises(EngineError, match=words) as refusal:
        runtime.run(given)
    assert not refusal.value.retryable
    assert "\n" not in refusal.value.message
    after = runtime.run(inputs_for(TEXTBOOK, 1))[TEXTBOOK_OUTPUT]
    np.testing.assert_array_equal(after, before)


def test_another_thread_may_use_it(load: Load) -> None:
    given = inputs_for(TEXTBOOK, 2)
    here = load(TEXTBOOK).run(given)[TEXTBOOK_OUTPUT]
    with ThreadPoolExecutor(1) as other:
        there = other.submit(load(TEXTBOOK).run, given).result()[TEXTBOOK_OUTPUT]
    np.testing.assert_array_equal(there, here)


def test_two_networks_do_not_disturb_each_other(load: Load) -> None:
    files = [TEXTBOOK, NETWORKS[0].file]
    alone = [load(file).run(inputs_for(file, 2)) for file in files]
    with ThreadPoolExecutor(2) as threads:
        rounds = [
            [threads.submit(load(file).run, inputs_for(file, 2)) for file in files]
            for _ in range(3)
        ]
        for running in rounds:
            for expected, answer in zip(alone, running, strict=True):
                for name, array in answer.result().items():
                    np.testing.assert_array_equal(array, expected[name])


def test_what_is_no_model_cannot_be_loaded(load: Load, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(EngineError, match=r"x\.onnx"):
        load(tmp_path / "x.onnx")


def test_it_may_be_closed_twice(load: Load) -> None:
    runtime = load(TEXTBOOK)
    runtime.close()
    runtime.close()


@pytest.mark.parametrize("name", registry.RUNTIMES)
def test_a_runtime_goes_by_its_name_and_says_what_it_lacks(name: str) -> None:
    assert registry.RUNTIMES[name].name == name
    assert registry.available()[name] == registry.RUNTIMES[name].missing()
