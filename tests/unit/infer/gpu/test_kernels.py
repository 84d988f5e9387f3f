"""Each kernel, from its CUDA source, against numpy and scipy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.geometry import Grid
from dicom_node.infer.blocks import Scale, VolumeInput
from dicom_node.infer.gpu.axes import Side, route
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.gpu.kernels import STORED_TYPES, Kernels
from dicom_node.infer.gpu.percentiles import percentiles
from dicom_node.infer.gpu.resources import Stream
from dicom_node.infer.intensity import clipped, scaled
from dicom_node.infer.mask import exclusive_mask, independent_masks
from dicom_node.infer.volume import place, to_network
from tests.unit.infer.gpu.machines import Machine
from tests.unit.infer.gpu.volumes import (
    AXIAL,
    PRONE,
    SAGITTAL,
    a_grid,
    on_source,
    some_voxels,
)

UNSCALED = (0.0, 0.0, 0.0, 0.0, 0.0)
SIDES = (7, 9, 11)
"""Of a small grid; no two axes alike."""


class Lab:
    """Arrays in the device's memory, each in a block of its own, and kernels on them."""

    def __init__(self, machine: Machine, device: Device, kernels: Kernels) -> None:
        self._machine = machine
        self._device = device
        self._kernels = kernels
        self._stream: Stream = device.stream()

    def put(self, values: NDArray[Any]) -> int:
        address = self._device.allocate(max(values.nbytes, 1)).address
        if values.size:
            self._machine.write(address, values)
        return address

    def taps(self, side: Side) -> list[int]:
        return [
            self.put(getattr(taps, part))
            for taps in side.taps
            for part in ("first", "index", "share")
        ]

    def run(self, name: str, count: int, *arguments: float) -> None:
        self._kernels[name](self._stream, count, *arguments)
        self._stream.synchronize()

    def get(self, address: int, like: NDArray[Any]) -> NDArray[Any]:
        return self._machine.read(address, like.shape, like.dtype.name)


InLab = Callable[[Callable[[Lab], None]], None]


@pytest.fixture
def in_lab(machine: Machine, device: Device, kernels: Kernels) -> InLab:
    """Return a function that runs an experiment on the device's thread."""

    def run(experiment: Callable[[Lab], None]) -> None:
        device.call(lambda: experiment(Lab(machine, device, kernels)))

    return run


def whole_ring(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape, 0)


def rng(seed: int = 3) -> np.random.Generator:
    return np.random.default_rng(seed)


# ------------------------------------------------------------ gather_volume

INPUTS = {
    "same": VolumeInput(network_sees="slice", axes="HPL"),
    "shrunk in plane": VolumeInput(
        network_sees="slice", axes="HPL", spacing_mm=(None, 3, 3), size=(None, 8, 9), pad=-7
    ),
    "enlarged, turned": VolumeInput(
        network_sees="whole", axes="LFA", spacing_mm=(1, 1, 1), pad=-1000
    ),
    "shrunk, turned": VolumeInput(network_sees="whole", axes="ARF", spacing_mm=(3, 4, 5)),
}


@pytest.mark.parametrize("orientation", [AXIAL, PRONE, SAGITTAL])
@pytest.mark.parametrize("scale", [None, Scale(low=-50, high=300, to=(1, -1))])
@pytest.mark.parametrize("name", INPUTS)
def test_the_network_s_grid_is_gathered_to_the_last_bit(
    name: str, scale: Scale | None, orientation: Any, in_lab: InLab
) -> None:
    voxels = some_voxels((6, 17, 19))
    wanted = INPUTS[name]
    if wanted.network_sees == "slice" and orientation is SAGITTAL:
        wanted = VolumeInput(network_sees="whole", axes="HPL", spacing_mm=(2, 3, 3), pad=-7)
    placement = place(a_grid((6, 17, 19), (2.5, 1.1, 1.2), orientation), wanted)
    clip = (-45.0, 400.0)
    slices = (clipped(voxels.values(index), clip) for index in range(6))
    expected = scaled(to_network(slices, placement, wanted.pad), scale)
    way = route(placement)
    line = UNSCALED if scale is None else (-50.0, float(np.float32(-2 / 350)), 1.0, -1.0, 1.0)

    def experiment(lab: Lab) -> None:
        values = lab.put(np.empty(way.grid, np.float32))
        lab.run(
            "gather_volume_int16",
            expected.size,
            lab.put(voxels.stored),
            *(17, 19, 6),
            lab.put(voxels.slopes),
            lab.put(voxels.intercepts),
            *clip,
            *lab.taps(way.forward),
            way.forward.slices_axis,
            way.forward.rows_axis,
            wanted.pad,
            *line,
            *whole_ring(way.grid),
            *(0, way.grid[0]),
            values,
        )
        assert np.array_equal(lab.get(values, expected), expected)

    in_lab(experiment)


@pytest.mark.parametrize("dtype", STORED_TYPES)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_planes_and_slices_lie_in_rings(axis: int, dtype: str, in_lab: InLab) -> None:
    """Of eight planes five are kept, of nine slices seven; those that are asked for are right."""
    voxels = some_voxels((9, 8, 8), dtype)
    directions = {0: "HPL", 1: "PHL", 2: "LPH"}[axis]
    grid = a_grid((9, 8, 8), (2, 3, 3))
    placement = place(grid, VolumeInput(network_sees="whole", axes=directions))
    way = route(placement)
    assert way.forward.slices_axis == axis
    expected = to_network((voxels.values(index) for index in range(9)), placement, 0)
    first, last, kept, source_kept = 2, 7, 5, 7
    ring = np.stack([voxels.stored[next(z for z in range(2, 9) if z % 7 == at)] for at in range(7)])
    sides = list(way.grid)
    sides[axis] = kept

    def experiment(lab: Lab) -> None:
        values = lab.put(np.empty(sides, np.float32))
        lab.run(
            f"gather_volume_{dtype}",
            expected.size // way.grid[axis] * (last - first),
            lab.put(ring),
            *(8, 8, source_kept),
            lab.put(voxels.slopes),
            lab.put(voxels.intercepts),
            *(-np.inf, np.inf),
            *lab.taps(way.forward),
            way.forward.slices_axis,
            way.forward.rows_axis,
            0.0,
            *UNSCALED,
            *(*sides, axis),
            *(first, last - first),
            values,
        )
        found = lab.get(values, np.empty(sides, np.float32))
        for plane in range(first, last):
            assert np.array_equal(found.take(plane % kept, axis), expected.take(plane, axis)), plane

    in_lab(experiment)


# ------------------------------------------------------------ gather_windows


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("flips", [(), (0,), (2,), (0, 1, 2)])
def test_windows_are_gathered_by_their_first_voxels(
    flips: tuple[int, ...], dtype: str, in_lab: InLab
) -> None:
    values = rng().standard_normal(SIDES).astype(np.float32)
    starts = np.array([(0, 0, 0), (3, 1, 4), (2, 5, 6)], np.int32)
    size = (4, 4, 5)
    parts = [values[z : z + 4, y : y + 4, x : x + 5] for z, y, x in starts]
    expected = np.flip(np.stack(parts), tuple(axis + 1 for axis in flips))[:, None].astype(dtype)

    def experiment(lab: Lab) -> None:
        out = lab.put(np.empty_like(expected))
        lab.run(
            f"gather_windows_{dtype}",
            expected.size,
            lab.put(values),
            *whole_ring(SIDES),
            SIDES[0],
            lab.put(starts),
            1,
            *size,
            sum(1 << axis for axis in flips),
            out,
        )
        assert np.array_equal(lab.get(out, expected), expected)

    in_lab(experiment)


@pytest.mark.parametrize("flips", [(), (0,), (1,)])
def test_beyond_the_ends_a_slab_has_the_last_slice_again(
    flips: tuple[int, ...], in_lab: InLab
) -> None:
    values = rng().standard_normal(SIDES).astype(np.float32)
    near = np.clip(np.arange(7)[:, None] + np.arange(-2, 3), 0, 6)
    expected = np.ascontiguousarray(np.flip(values[near], tuple(axis + 1 for axis in flips)))

    def experiment(lab: Lab) -> None:
        out = lab.put(np.empty_like(expected))
        starts = np.array([(z, 0, 0) for z in range(7)], np.int32)
        lab.run(
            "gather_windows_float32",
            expected.size,
            lab.put(values),
            *whole_ring(SIDES),
            7,
            lab.put(starts),
            5,
            *(1, 9, 11),
            sum(1 << axis for axis in flips),
            out,
        )
        assert np.array_equal(lab.get(out, expected), expected)

    in_lab(experiment)


def test_half_precision_rounds_to_the_nearest(in_lab: InLab) -> None:
    values = np.concatenate(
        [
            np.linspace(-70000, 70000, 1001),
            [0.0, -0.0, 1e-8, 6e-8, 6.1e-5, 2049.0, 2051.0, np.inf, -np.inf],
        ]
    ).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)

    def experiment(lab: Lab) -> None:
        out = lab.put(np.empty_like(expected))
        lab.run(
            "gather_windows_float16",
            values.size,
            lab.put(values),
            *(1, 1, values.size, 0),
            1,
            lab.put(np.zeros(3, np.int32)),
            *(1, 1, 1, values.size),
            0,
            out,
        )
        found = lab.get(out, expected)
        assert np.array_equal(found.view(np.uint16), expected.view(np.uint16))

    in_lab(experiment)


# ------------------------------------------------------------ levels


def test_the_largest_of_each_window_is_found_axis_by_axis(in_lab: InLab) -> None:
    values = rng().standard_normal(SIDES).astype(np.float32)
    starts, size = ((0, 3), (0, 2, 5), (0, 3, 6)), (4, 4, 5)
    expected = np.array(
        [
            [[values[z : z + 4, y : y + 4, x : x + 5].max() for x in starts[2]] for y in starts[1]]
            for z in starts[0]
        ]
    )

    def experiment(lab: Lab) -> None:
        shape, source = list(SIDES), lab.put(values)
        for axis in (2, 1, 0):
            count = len(starts[axis])
            outer, inner = int(np.prod(shape[:axis])), int(np.prod(shape[axis + 1 :]))
            target = lab.put(np.empty(outer * count * inner, np.float32))
            places = lab.put(np.array(starts[axis], np.int32))
            lab.run(
                "largest_along",
                outer * count * inner,
                *(source, shape[axis], inner, places, count, size[axis], target),
            )
            source, shape[axis] = target, count
        assert np.array_equal(lab.get(source, expected), expected)

    in_lab(experiment)


@pytest.mark.parametrize("ranks", [(0, 100), (1, 99), (0.5, 99.5), (50, 99.9), (33.3, 33.4)])
@pytest.mark.parametrize("kind", ["spread", "few values", "one value", "both signs"])
def test_percentiles_are_numpy_s_to_the_last_bit(
    kind: str, ranks: tuple[float, float], in_lab: InLab
) -> None:
    values = {
        "spread": 1e4 * rng().standard_normal(5000),
        "few values": rng().integers(-3, 4, 5000) * 1.0,
        "one value": np.full(5000, 12.5),
        "both signs": np.concatenate([-np.geomspace(1e-30, 1e30, 2500), np.geomspace(1, 9, 2500)]),
    }[kind].astype(np.float32)
    expected = [float(np.percentile(values, rank)) for rank in ranks]

    def experiment(lab: Lab) -> None:
        there = lab.put(values)

        def count(prefixes: Any, shift: int, bits: int) -> NDArray[np.int64]:
            counters = np.zeros((3, len(prefixes), 1 << bits), np.uint32)
            address = lab.put(counters)
            lab.run(
                "count_keys",
                values.size,
                there,
                *(values.size, 1, 1, 0),
                *(0, values.size),
                lab.put(np.array(prefixes, np.uint32)),
                *(len(prefixes), shift, bits, 3),
                address,
            )
            found = lab.get(address, counters)
            if shift + bits == 32:
                assert found.sum() == values.size
            return np.asarray(found.sum(axis=0, dtype=np.int64))

        assert percentiles(count, values.size, ranks) == expected

    in_lab(experiment)


# ------------------------------------------------------------ accumulate


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("flips", [(), (1,), (0, 2)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_answers_are_added_with_their_weights(
    axis: int, flips: tuple[int, ...], dtype: str, in_lab: InLab
) -> None:
    answer = rng().standard_normal((3, 4, 5, 6)).astype(dtype)
    rows = [rng(axis).random(side).astype(np.float32) for side in (4, 5, 6)]
    weights = rows[0][:, None, None] * rows[1][:, None] * rows[2]
    sums = rng(7).standard_normal((3, *SIDES)).astype(np.float32)
    expected = sums.copy()
    start = (2, 3, 4)
    back = np.flip(answer, tuple(at + 1 for at in flips)).astype(np.float32)
    # The planes go round: where the window leaves the ring it begins again.
    at = [np.arange(first, first + side) for first, side in zip(start, (4, 5, 6), strict=True)]
    at[axis] = (at[axis] + 4) % SIDES[axis]
    z, y, x = np.ix_(*at)
    expected[:, z, y, x] += weights * back
    moved = [first + 4 if number == axis else first for number, first in enumerate(start)]

    def experiment(lab: Lab) -> None:
        there = lab.put(sums)
        lab.run(
            f"accumulate_{dtype}",
            answer.size,
            lab.put(answer),
            *(4, 5, 6, *moved),
            sum(1 << number for number in flips),
            lab.put(np.concatenate(rows)),
            *(*SIDES, axis),
            there,
            sums[0].size,
        )
        assert np.array_equal(lab.get(there, sums), expected)
        lab.run(
            "add_weights",
            weights.size,
            *(4, 5, 6, *moved),
            lab.put(np.concatenate(rows)),
            *(*SIDES, axis),
            there,
        )
        expected[0, z, y, x] += weights
        assert np.array_equal(lab.get(there, sums), expected)

    in_lab(experiment)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_planes_that_come_into_the_ring_are_cleared(axis: int, in_lab: InLab) -> None:
    sums = rng().standard_normal((3, *SIDES)).astype(np.float32)
    first, planes = SIDES[axis] - 2, 4
    expected = sums.copy()
    for plane in range(first, first + planes):
        expected[(slice(None),) * (axis + 1) + (plane % SIDES[axis],)] = 0
    in_channel = sums[0].size // SIDES[axis] * planes

    def experiment(lab: Lab) -> None:
        there = lab.put(sums)
        lab.run(
            "clear_planes",
            3 * in_channel,
            *(there, sums[0].size, *SIDES, axis, first, planes, in_channel),
        )
        assert np.array_equal(lab.get(there, sums), expected)

    in_lab(experiment)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float32"])
def test_labels_are_taken_as_they_are(dtype: str, in_lab: InLab) -> None:
    said = rng().integers(0, 256, (4, 5, 6)).astype(dtype)
    labels = np.zeros(SIDES, np.uint8)
    expected = labels.copy()
    expected[2:6, 3:8, 4:10] = said

    def experiment(lab: Lab) -> None:
        there = lab.put(labels)
        lab.run(
            f"take_labels_{dtype}",
            said.size,
            lab.put(said),
            *(4, 5, 6, 2, 3, 4),
            *whole_ring(SIDES),
            there,
        )
        assert np.array_equal(lab.get(there, labels), expected)

    in_lab(experiment)


# ------------------------------------------------------------ finish


def said_arguments(
    lab: Lab, said: NDArray[np.float32], sums: NDArray[np.float32]
) -> tuple[float, ...]:
    rows = np.concatenate([np.ones(side, np.float32) for side in said.shape[1:]])
    return (
        lab.put(said),
        said[0].size,
        lab.put(sums) if sums.size else 0,
        lab.put(rows),
        *said.shape[1:3],
        1.0,
        *(1.0, 0.0),
    )


def way_arguments(lab: Lab, side: Side, mask: tuple[int, int, int]) -> tuple[int, ...]:
    return (*lab.taps(side), side.slices_axis, side.rows_axis, *mask[1:])


def finishing() -> list[tuple[Grid, VolumeInput]]:
    coarse, fine = (6.0, 5.0, 4.0), (1.0, 1.1, 1.2)
    turned = VolumeInput(network_sees="whole", axes="LFA", spacing_mm=(2, 2, 2))
    small = VolumeInput(
        network_sees="whole", axes="HPL", spacing_mm=(2, 2, 2), size=(6, 7, 8), grow_max=9
    )
    same = VolumeInput(network_sees="whole", axes="HPL")
    return [
        (a_grid((5, 8, 9), coarse, PRONE), turned),
        (a_grid((9, 12, 11), fine, SAGITTAL), turned),
        (a_grid((8, 9, 10), (2.0, 2.0, 2.0)), small),
        (a_grid((5, 8, 9), fine, AXIAL), same),
    ]


@pytest.mark.parametrize("case", range(4))
def test_the_likeliest_class_is_that_of_the_processor(case: int, in_lab: InLab) -> None:
    grid, wanted = finishing()[case]
    placement = place(grid, wanted)
    way = route(placement)
    said = rng(case).random((5, *way.grid)).astype(np.float32)
    expected = exclusive_mask(iter(said.swapaxes(0, 1)), placement)

    def experiment(lab: Lab) -> None:
        labels = lab.put(np.empty(way.mask, np.uint8))
        lab.run(
            "likeliest",
            expected.size,
            *said_arguments(lab, said, np.empty(0, np.float32)),
            *way_arguments(lab, way.backward, way.mask),
            *whole_ring(way.grid),
            *(5, 0),
            labels,
        )
        # Sums are in another order there: a tie to the last bit may go the other way.
        assert (lab.get(labels, expected) != expected).sum() <= 1

    in_lab(experiment)


@pytest.mark.parametrize("case", range(4))
def test_a_bit_says_whether_a_class_is_above_its_threshold(case: int, in_lab: InLab) -> None:
    grid, wanted = finishing()[case]
    placement = place(grid, wanted)
    way = route(placement)
    said = rng(case).random((3, *way.grid)).astype(np.float32)
    thresholds = np.array([0.45, 0.5, 0.6], np.float32)
    masks = independent_masks(iter(said.swapaxes(0, 1)), placement, thresholds.tolist())
    first, count = 2, way.mask[0] - 3
    voxels = count * way.mask[1] * way.mask[2]
    size = -(-voxels // 8)

    def experiment(lab: Lab) -> None:
        planes = lab.put(np.empty((3, size), np.uint8))
        lab.run(
            "above",
            3 * size,
            *said_arguments(lab, said, np.empty(0, np.float32)),
            *way_arguments(lab, way.backward, way.mask),
            *whole_ring(way.grid),
            lab.put(thresholds),
            *(first, voxels, size),
            planes,
        )
        packed = lab.get(planes, np.empty((3, size), np.uint8))
        found = np.unpackbits(packed, axis=1, count=voxels, bitorder="little")
        for channel in range(3):
            expected = masks[channel, first : first + count].ravel()
            assert (found[channel] != expected).sum() <= 1

    in_lab(experiment)


@pytest.mark.parametrize("case", range(4))
def test_the_label_that_fills_most_of_a_voxel_wins(case: int, in_lab: InLab) -> None:
    grid, wanted = finishing()[case]
    placement = place(grid, wanted)
    way = route(placement)
    said = rng(case).choice(np.array([0, 3, 7, 255], np.uint8), way.grid)
    known = np.array([0, 3, 7, 255], np.uint8)
    shares, inside = on_source(np.stack([said == label for label in known]) * 1.0, placement)

    def experiment(lab: Lab) -> None:
        labels = lab.put(np.empty(way.mask, np.uint8))
        lab.run(
            "fullest",
            inside.size,
            lab.put(said),
            *way_arguments(lab, way.backward, way.mask),
            *whole_ring(way.grid),
            0,
            labels,
        )
        found = lab.get(labels, np.empty(way.mask, np.uint8))
        share = np.take_along_axis(shares, np.searchsorted(known, found)[None], 0)[0]
        # Of labels that fill as much, but for rounding, either.
        assert (share >= shares.max(axis=0) - 1e-6)[inside].all()
        assert not found[~inside].any()
        assert set(np.unique(found)) == {0, 3, 7, 255}

    in_lab(experiment)


def test_a_voxel_that_no_window_saw_is_background(in_lab: InLab) -> None:
    placement = place(a_grid((4, 5, 6), (1.0, 1.0, 1.0)), INPUTS["same"])
    way = route(placement)
    said = np.zeros((2, 4, 5, 6), np.float32)
    said[1] = 9
    sums = np.ones((4, 5, 6), np.float32)
    sums[2, :, 3] = 0

    def experiment(lab: Lab) -> None:
        labels = lab.put(np.empty(way.mask, np.uint8))
        lab.run(
            "likeliest",
            120,
            *said_arguments(lab, said, sums),
            *way_arguments(lab, way.backward, way.mask),
            *whole_ring(way.grid),
            *(2, 0),
            labels,
        )
        assert np.array_equal(lab.get(labels, np.empty((4, 5, 6), np.uint8)), sums > 0)

    in_lab(experiment)
