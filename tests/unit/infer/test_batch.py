"""Many images at once get the answers that each gets alone, or are asked about alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from structlog.testing import capture_logs

from dicom_node.errors import EngineError, EngineUnavailable
from dicom_node.infer.batch import ImageBatch
from dicom_node.infer.blocks import Model
from tests.unit.infer.engine_folders import FunctionRuntime

MODEL = Model(file="model.onnx", sha256="0" * 64, input="x", output="y")


@pytest.fixture(autouse=True)
def no_log() -> Iterator[None]:
    with capture_logs():
        yield


def brightness(values: NDArray[Any]) -> NDArray[Any]:
    """Return [1 - mean, mean] of each image, whatever its company."""
    means = np.array([image.mean() for image in values], np.float32)
    return np.stack([1 - means, means], axis=1)


def tensors(count: int) -> list[NDArray[np.float32]]:
    return list(np.random.default_rng(count).random((count, 4, 4), np.float32))


def alone(values: list[NDArray[np.float32]]) -> list[bytes]:
    return [brightness(one[None, None])[0].tobytes() for one in values]


def bits(answers: list[NDArray[np.float32] | None]) -> list[bytes]:
    assert all(answer is not None for answer in answers)
    return [answer.tobytes() for answer in answers if answer is not None]


def sizes(runtime: FunctionRuntime) -> list[int]:
    """Return how many images each call had, and forget them."""
    found = [len(values) for values in runtime.given]
    runtime.given.clear()
    return found


def test_a_number_of_images_is_asked_both_ways_until_it_is_trusted() -> None:
    runtime = FunctionRuntime(brightness)
    batch = ImageBatch(MODEL, [runtime], 8)
    given = tensors(3)
    for calls in ([3, 1, 1, 1], [3, 1, 1, 1], [3], [3]):
        assert bits(batch.ask(given)) == alone(given)
        assert sizes(runtime) == calls
    assert bits(batch.ask(given[:2])) == alone(given[:2])
    assert sizes(runtime) == [2, 1, 1]  # another number has to earn its own trust


def test_trust_is_earned_again_from_time_to_time() -> None:
    runtime = FunctionRuntime(brightness)
    batch = ImageBatch(MODEL, [runtime], 8)
    for _ in range(63):
        batch.ask(tensors(2))
    sizes(runtime)
    batch.ask(tensors(2))
    assert sizes(runtime) == [2, 1, 1]


def test_more_images_than_fit_are_asked_in_parts() -> None:
    runtime = FunctionRuntime(brightness)
    batch = ImageBatch(MODEL, [runtime], 4)
    given = tensors(9)
    answers = batch.ask(given)
    assert [answer is None for answer in answers] == [False] * 8 + [True]  # the last has no company
    assert bits(answers[:8]) == alone(given[:8])


def drifting(values: NDArray[Any]) -> NDArray[Any]:
    """Give other bits in company, as a matrix product that adds in another order would."""
    answer = brightness(values)
    return np.nextafter(answer, np.float32(2)) if len(values) > 1 else answer


def takes_one(values: NDArray[Any]) -> NDArray[Any]:
    if len(values) > 1:
        raise EngineError("Got invalid dimensions for input: x index: 0 Got: 3 Expected: 1")
    return brightness(values)


def answers_once(values: NDArray[Any]) -> NDArray[Any]:
    return brightness(values)[:1]


@pytest.mark.parametrize("network", [drifting, takes_one, answers_once])
def test_a_network_that_does_not_answer_many_as_one_is_asked_one_by_one(
    network: Callable[[NDArray[Any]], NDArray[Any]],
) -> None:
    runtime = FunctionRuntime(network)
    batch = ImageBatch(MODEL, [runtime], 8)
    given = tensors(3)
    answers = batch.ask(given)
    for answer, tensor, expected in zip(answers, given, alone(given), strict=True):
        assert (batch.alone(tensor) if answer is None else answer).tobytes() == expected
    sizes(runtime)
    assert batch.ask(given) == [None, None, None]
    assert sizes(runtime) == []


def test_a_device_without_memory_for_many_is_asked_about_fewer() -> None:
    def small(values: NDArray[Any]) -> NDArray[Any]:
        if len(values) > 3:
            raise EngineUnavailable("out of memory")
        return brightness(values)

    batch = ImageBatch(MODEL, [FunctionRuntime(small)], 8)
    given = tensors(6)
    assert batch.ask(given) == [None] * 6
    assert bits(batch.ask(given)) == alone(given)
    assert batch.images_max == 3


def test_an_answer_that_is_no_number_leaves_the_others_alone() -> None:
    def broken(values: NDArray[Any]) -> NDArray[Any]:
        answer = brightness(values)
        answer[[image.max() > 5 for image in values]] = np.nan
        return answer

    batch = ImageBatch(MODEL, [FunctionRuntime(broken)], 8)
    given = [*tensors(2), np.full((4, 4), 9, np.float32), *tensors(1)]
    for _ in range(4):  # proven or not
        answers = batch.ask(given)
        assert answers[2] is None
        assert bits([answers[0], answers[1], answers[3]]) == alone([*given[:2], given[3]])
    with pytest.raises(EngineError, match="answers with what is no number"):
        batch.alone(given[2])


def test_the_runtime_sees_one_tensor_of_all_images() -> None:
    seen: list[Mapping[str, NDArray[Any]]] = []

    class Seeing(FunctionRuntime):
        def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
            seen.append(inputs)
            return super().run(inputs)

    ImageBatch(MODEL, [Seeing(brightness)], 8).ask(tensors(5))
    assert seen[0]["x"].shape == (5, 1, 4, 4)
    assert seen[0]["x"].dtype == np.dtype(np.float32)
