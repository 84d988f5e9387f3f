"""Whatever part of a volume a network sees at a time, its answers come back voxel for voxel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.errors import EngineError, StudyUnusable
from dicom_node.infer.asking import planes_of, tensors_of
from dicom_node.infer.blocks import Member, Model, VolumeInput, Window
from dicom_node.infer.windows import windows_over
from tests.unit.infer.engine_folders import FunctionRuntime, Network

DIGEST = "0" * 64
VALUES = np.random.default_rng(1).normal(size=(13, 11, 9)).astype(np.float32)


def model(**changes: Any) -> Model:
    return Model(sha256=DIGEST, input="x", output="y", **changes)


def seen(**changes: Any) -> VolumeInput:
    return VolumeInput(axes="HPL", **changes)


def windows(**changes: Any) -> VolumeInput:
    size = changes.pop("size", (6, 5, 4))
    return seen(network_sees="window", window=Window(size=size, **changes))


def asked(
    network: Network,
    wanted: VolumeInput,
    values: NDArray[np.float32] = VALUES,
    **changes: Any,
) -> NDArray[Any]:
    """Return the answer, shape (channels, slices, rows, columns)."""
    planes = planes_of(values[None], wanted, model(**changes), [FunctionRuntime(network)])
    return np.stack(list(planes), axis=-3)


def two(tensor: NDArray[Any]) -> NDArray[Any]:
    """Return a network that gives what it sees, and the opposite."""
    return np.concatenate([tensor, -tensor], axis=1)


@pytest.mark.parametrize(
    "wanted",
    [
        seen(network_sees="slice"),
        seen(network_sees="whole"),
        windows(),
        windows(overlap=0.0, weights="constant"),
        windows(overlap=0.9),
        windows(size=(13, 11, 9)),
    ],
    ids=["slice", "whole", "windows", "beside each other", "dense", "one window"],
)
def test_a_network_that_gives_what_it_sees_gives_the_volume(wanted: VolumeInput) -> None:
    answer = asked(two, wanted)
    np.testing.assert_allclose(answer, [VALUES, -VALUES], rtol=1e-5, atol=1e-6)


def test_a_slab_has_its_neighbours_as_channels_and_the_ends_stand_again() -> None:
    slab = seen(network_sees="slab", slab_slices=5)
    answer = asked(lambda tensor: tensor, slab)
    rim = np.concatenate([VALUES[:1], VALUES[:1], VALUES, VALUES[-1:], VALUES[-1:]])
    for channel in range(5):
        assert np.array_equal(answer[channel], rim[channel : channel + len(VALUES)])
    assert tensors_of(VALUES[None], 5, [0, 12]).shape == (2, 5, 11, 9)


def test_windows_that_see_only_themselves_are_averaged_by_their_weights() -> None:
    """The network answers with the mean of its window: every voxel is a weighted mean of these."""
    wanted = windows(overlap=0.5)
    answer = asked(lambda x: np.broadcast_to(x.mean((2, 3, 4), keepdims=True), x.shape), wanted)
    placed = windows_over((13, 11, 9), (6, 5, 4), 0.5)
    sums, weights = np.zeros(VALUES.shape), np.zeros(VALUES.shape)
    z, y, x = (row.astype(np.float64) for row in placed.weights)
    for start in placed:
        part = placed.part(start)
        weight = z[:, None, None] * y[None, :, None] * x[None, None, :]
        sums[part] += VALUES[part].mean(dtype=np.float64) * weight
        weights[part] += weight
    np.testing.assert_allclose(answer[0], sums / weights, rtol=1e-4, atol=1e-6)


def test_the_sum_of_all_weights_is_known_in_closed_form() -> None:
    placed = windows_over((30, 17, 9), (8, 7, 9), 0.4)
    total = np.zeros(placed.shape)
    z, y, x = (row.astype(np.float64) for row in placed.weights)
    for start in placed:
        total[placed.part(start)] += z[:, None, None] * y[None, :, None] * x[None, None, :]
    rows, columns, layers = placed.sums[1], placed.sums[2], placed.sums[0]
    product = layers[:, None, None] * rows[None, :, None] * columns[None, None, :]
    np.testing.assert_allclose(product, total, rtol=1e-5)
    assert len(list(placed)) == len(placed)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("size", [8, 9, 31, 32, 33, 100])
def test_windows_cover_everything_and_overlap_as_much_as_is_asked(
    size: int, overlap: float
) -> None:
    starts = windows_over((size, 8, 8), (8, 8, 8), overlap).starts[0]
    assert starts[0] == 0
    assert starts[-1] == size - 8
    steps = np.diff(starts)
    assert (steps <= np.ceil(8 * (1 - overlap))).all()
    assert (steps > 0).all()


def test_air_is_background_and_not_asked_about() -> None:
    values = np.full((16, 8, 8), -1000, np.float32)
    values[9:12, 2:4, 2:4] = 50
    runtime = FunctionRuntime(lambda x: np.concatenate([x < 0, x >= 0], axis=1).astype(np.float32))
    wanted = windows(size=(4, 4, 4), overlap=0.0, skip_below=-500)
    planes = planes_of(values[None], wanted, model(), [runtime])
    answer = np.stack(list(planes), axis=-3)
    assert len(runtime.given) == 1
    assert np.array_equal(answer[1] > answer[0], values > 0)
    logits = np.stack(
        list(planes_of(values[None], wanted, model(gives="logits"), [runtime])), axis=-3
    )
    assert np.array_equal(logits[1] > logits[0], values > 0)
    independent = model(gives="logits", classes_are="independent")
    masks = np.stack(list(planes_of(values[None], wanted, independent, [runtime])), axis=-3)
    assert (masks[:, :8] == -20).all()


def test_a_volume_of_air_is_refused() -> None:
    wanted = windows(skip_below=100)
    with pytest.raises(StudyUnusable, match="nothing but air"):
        asked(two, wanted)


@pytest.mark.parametrize("wanted", [seen(network_sees="whole"), windows()], ids=["whole", "window"])
def test_mirrors_are_flipped_back_and_averaged(wanted: VolumeInput) -> None:
    """A network that adds a ramp along an axis: with the mirror of it the ramp becomes its mean."""

    def network(tensor: NDArray[Any]) -> NDArray[Any]:
        return tensor + np.arange(tensor.shape[3], dtype=np.float32)[:, None]

    plain = asked(network, wanted)[0]
    both = asked(network, wanted, mirrors=((1,),))[0]
    side = 11 if wanted.network_sees == "whole" else 5
    assert not np.allclose(plain, VALUES + (side - 1) / 2, atol=0.1)
    np.testing.assert_allclose(both, VALUES + (side - 1) / 2, rtol=1e-4, atol=1e-4)


def test_a_slab_can_be_mirrored_head_to_feet() -> None:
    def first_channel(tensor: NDArray[Any]) -> NDArray[Any]:
        return tensor[:, :1]

    slab = seen(network_sees="slab", slab_slices=3)
    answer = asked(first_channel, slab, mirrors=((0,),))[0]
    rim = np.concatenate([VALUES[:1], VALUES, VALUES[-1:]])
    np.testing.assert_allclose(answer, (rim[:-2] + rim[2:]) / 2, rtol=1e-6)


def test_an_ensemble_is_averaged() -> None:
    networks: list[Network] = [lambda x: x, lambda x: x * 2, lambda x: x * 6]
    runtimes = [FunctionRuntime(network) for network in networks]
    members = (Member(file="b.onnx", sha256=DIGEST), Member(file="c.onnx", sha256=DIGEST))
    planes = planes_of(VALUES[None], seen(network_sees="slice"), model(ensemble=members), runtimes)
    np.testing.assert_allclose(np.stack([plane[0] for plane in planes]), VALUES * 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("network", "wanted"),
    [
        (lambda x: x[:, :, 1:], seen(network_sees="slice")),
        (lambda x: x[:, :, 1:], seen(network_sees="whole")),
        (lambda x: x[:, :, 1:], windows()),
        (lambda x: x[:0], seen(network_sees="slice")),
    ],
    ids=["slice", "whole", "window", "none"],
)
def test_an_answer_of_another_shape_is_an_error(network: Network, wanted: VolumeInput) -> None:
    with pytest.raises(EngineError, match="answer"):
        asked(network, wanted)
