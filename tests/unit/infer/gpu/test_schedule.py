"""Which windows when: a step has in memory what it needs, and nothing is forgotten."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from dicom_node.infer.blocks import Intensity, VolumeInput, Window
from dicom_node.infer.gpu.axes import Box, grid_of, route, route_on_grid, to_grid_axes
from dicom_node.infer.gpu.schedule import Schedule, schedule
from dicom_node.infer.gpu.task import Task, task
from dicom_node.infer.pixels import Values
from dicom_node.infer.volume import place
from tests.unit.infer.gpu.volumes import AXIAL, PRONE, SAGITTAL, a_grid, a_model

PLAIN = Intensity(values=Values.HOUNSFIELD)
HEAD_DOWN = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)

VOLUMES = {
    "slices": VolumeInput(network_sees="slice", axes="HPL", spacing_mm=(None, 3, 3)),
    "slabs": VolumeInput(network_sees="slab", axes="HPL", slab_slices=5),
    "windows": VolumeInput(
        network_sees="window", axes="HPL", spacing_mm=(2, 3, 3), window=Window(size=(8, 4, 4))
    ),
    "windows across": VolumeInput(
        network_sees="window", axes="LPH", spacing_mm=(3, 3, 5), window=Window(size=(4, 4, 6))
    ),
    "whole": VolumeInput(network_sees="whole", axes="HPL", spacing_mm=(4, 4, 4)),
}


def a_task(
    volume: VolumeInput,
    orientation: Sequence[float] = AXIAL,
    slices: int = 50,
    box: Box | None = None,
) -> Task:
    placement = place(a_grid((slices, 16, 15), (3.0, 2.0, 2.0), orientation), volume)
    return task(route(placement, box), np.dtype("int16"), volume, a_model(), PLAIN)


def covered(spans: Sequence[tuple[int, int]]) -> list[int]:
    return [at for low, high in spans for at in range(low, high)]


def replay(todo: Task, steps: Schedule) -> None:
    """Go through the steps with sets for rings; whatever is needed and not there is a failure."""
    axis, count = todo.axis, todo.route.grid[todo.axis]
    gather, back = todo.route.forward.taps[0], todo.route.backward.taps[0]
    stored: dict[int, int] = {}
    values: dict[int, int] = {}
    sums: dict[int, int] = {}
    asked: set[int] = set()
    made: list[int] = []
    for step in steps.steps:
        for slice_number in range(*step.upload):
            stored[slice_number % steps.source_slices] = slice_number
        for plane in range(*step.gather):
            for needed in gather.index[gather.first[plane] : gather.first[plane + 1]]:
                assert stored.get(int(needed) % steps.source_slices) == needed
            values[plane % steps.value_planes] = plane
        for plane in range(*step.clear):
            sums[plane % steps.answer_planes] = plane
        for window in range(*step.windows):
            start = int(todo.starts[window, axis])
            seen = range(max(start - todo.reach, 0), start + todo.window[axis] + todo.reach)
            for plane in seen:
                if plane < count:
                    assert values.get(plane % steps.value_planes) == plane
            for plane in range(start, start + todo.window[axis]):
                assert sums.get(plane % steps.answer_planes) == plane
            asked.add(window)
        for number in range(*step.finish):
            needed = back.index[back.first[number] : back.first[number + 1]]
            for plane in needed[needed >= 0]:
                assert sums.get(int(plane) % steps.answer_planes) == plane
                open_windows = [
                    at
                    for at in range(len(todo.starts))
                    if at not in asked
                    and todo.starts[at, axis] <= plane < todo.starts[at, axis] + todo.window[axis]
                ]
                assert not open_windows
            made.append(number)
    assert asked == set(range(len(todo.starts)))
    assert sorted(made) == list(range(todo.route.mask[0]))
    assert covered([step.gather for step in steps.steps]) == list(range(count))
    assert covered([step.clear for step in steps.steps]) == list(range(count))


@pytest.mark.parametrize("planes_max", [0, 1, 3, 10, 25, 1000])
@pytest.mark.parametrize("orientation", [AXIAL, PRONE, HEAD_DOWN])
@pytest.mark.parametrize("name", VOLUMES)
def test_each_step_finds_what_it_needs(
    name: str, orientation: Sequence[float], planes_max: int
) -> None:
    todo = a_task(VOLUMES[name], orientation)
    replay(todo, schedule(todo, planes_max))


@pytest.mark.parametrize("planes_max", [0, 4, 1000])
def test_a_sagittal_series_is_cut_across_its_own_slices(planes_max: int) -> None:
    todo = a_task(VOLUMES["windows across"], SAGITTAL)
    assert todo.axis == 0
    replay(todo, schedule(todo, planes_max))


@pytest.mark.parametrize("planes_max", [0, 4, 1000])
def test_a_box_needs_only_what_lies_in_it(planes_max: int) -> None:
    volume = VOLUMES["windows"]
    box = (slice(20, 44), slice(2, 9), slice(1, 8))
    todo = a_task(volume, PRONE, box=box)
    assert todo.route.grid == (24, 7, 7)
    steps = schedule(todo, planes_max)
    replay(todo, steps)
    assert steps.source_slices <= 18


def test_all_planes_in_one_step_are_the_whole() -> None:
    todo = a_task(VOLUMES["windows"])
    whole = schedule(todo, 10**6)
    assert len(whole.steps) == 1
    assert (whole.source_slices, whole.value_planes, whole.answer_planes) == (50, 75, 75)


def test_thin_slabs_keep_little() -> None:
    todo = a_task(VOLUMES["windows"], slices=500)
    thin = schedule(todo, 0)
    assert len(thin.steps) > 100
    assert thin.value_planes == 8
    assert thin.answer_planes <= 10
    assert thin.source_slices <= 8


# ------------------------------------------------------------ the axes


def test_a_mask_on_the_grid_is_in_the_network_s_axes() -> None:
    volume = VOLUMES["windows across"]
    placement = place(a_grid((9, 8, 7), (3.0, 2.0, 2.0)), volume)
    way = route_on_grid(placement)
    grid = grid_of(placement)
    assert grid != way.mask
    mask = np.arange(np.prod(way.mask)).reshape(way.mask).astype(np.uint8)
    assert to_grid_axes(mask, placement).shape == grid
    assert way.mask[0] == grid[way.forward.slices_axis]


def test_what_lies_outside_of_the_box_is_no_place() -> None:
    placement = place(
        a_grid((9, 8, 7), (1.0, 1.0, 1.0)), VolumeInput(network_sees="whole", axes="HPL")
    )
    way = route(placement, (slice(2, 5), slice(0, 8), slice(3, 4)))
    assert way.grid == (3, 8, 1)
    slices, rows, columns = way.backward.taps
    assert slices.index.tolist() == [-1, -1, 0, 1, 2, -1, -1, -1, -1]
    assert rows.index.tolist() == list(range(8))
    assert columns.index.tolist() == [-1, -1, -1, 0, -1, -1, -1]
    assert slices.spans() == [(0, 0), (0, 0), (0, 1), (1, 2), (2, 3), *[(0, 0)] * 4]
