"""What a volume takes is told from its header, and admitted or done with less."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from dicom_node.infer.blocks import Intensity, Percentile, Scale, VolumeInput, Window
from dicom_node.infer.gpu.axes import route
from dicom_node.infer.gpu.memory import ALIGNMENT, Budget, Plan, plans
from dicom_node.infer.gpu.network import End, Shape
from dicom_node.infer.gpu.task import task
from dicom_node.infer.pixels import Values
from dicom_node.infer.volume import place
from tests.unit.infer.gpu.volumes import a_grid, a_model

MIB = 1 << 20
PLAIN = Intensity(values=Values.HOUNSFIELD)
WINDOWS = VolumeInput(
    network_sees="window",
    axes="HPL",
    spacing_mm=(1.5, 1.5, 1.5),
    window=Window(size=(128, 128, 128)),
)
SLICES = VolumeInput(
    network_sees="slice", axes="HPL", spacing_mm=(None, 4, 4), size=(None, 128, 128)
)


class SaidNetwork:
    """A network of which only the sizes are known."""

    def __init__(self, channels: int, batch_max: int, scratch_mib: int, half: bool = True) -> None:
        kind: Any = "float16" if half else "float32"
        self.input = End("in", kind, 1)
        self.output = End("out", kind, channels)
        self.batch_max = batch_max
        self.resident_bytes = 62 * MIB
        self._scratch = scratch_mib * MIB

    def scratch_bytes(self, shape: Shape) -> int:
        return self._scratch * shape[0]

    def use_scratch(self, address: int, size_bytes: int) -> None: ...

    def enqueue(self, shape: Shape, input_address: int, output_address: int, stream: int) -> None:
        """Nothing is run here."""

    def close(self) -> None: ...


def all_plans(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    volume: VolumeInput,
    network: SaidNetwork,
    *,
    intensity: Intensity = PLAIN,
    **model: Any,
) -> list[Plan]:
    thresholds = (0.5,) * 3 if model.get("classes_are") == "independent" else ()
    way = route(place(a_grid(shape, spacing), volume))
    todo = task(way, np.dtype("int16"), volume, a_model(**model), intensity, thresholds)
    return list(plans(todo, [network]))


CHEST = (300, 512, 512), (1.0, 0.8, 0.8)
"""300 x 410 x 410 mm: 200 x 273 x 274 voxels of 1.5 mm."""


@pytest.mark.parametrize(
    ("channels", "expected_mib"),
    [
        # 150 voxels up, 57 values, 16 answers a class and window in half precision, 57 sums a class
        (2, 150 + 57 + 2 * 57 + 2 * 2 * 8 + 2 * 2 * 4 + 500 * 2 + 16),
        (105, 150 + 57 + 105 * 57 + 2 * 105 * 4 + 2 * 2 * 4 + 500 * 2 + 16),
    ],
)
def test_the_whole_of_a_chest_takes_what_is_reckoned_by_hand(
    channels: int, expected_mib: int
) -> None:
    whole = all_plans(*CHEST, WINDOWS, SaidNetwork(channels, 2, 500))[0]
    assert len(whole.schedule.steps) == 1
    assert whole.total_bytes / MIB == pytest.approx(expected_mib, rel=0.02)


def test_each_plan_is_smaller_in_its_turn() -> None:
    """First the whole in smaller batches; then slabs, thinner and thinner, likewise."""
    made = all_plans(*CHEST, WINDOWS, SaidNetwork(105, 8, 500))
    told = [(len(plan.schedule.steps), plan.batch) for plan in made]
    assert told[:4] == [(1, 8), (1, 4), (1, 2), (1, 1)]
    assert [steps for steps, _ in told] == sorted(steps for steps, _ in told)
    for one, next_one in pairwise(made):
        if len(one.schedule.steps) == len(next_one.schedule.steps):
            assert next_one.total_bytes < one.total_bytes
            assert next_one.batch == one.batch // 2
    assert "the whole volume, batches of 8, " in made[0].in_words
    assert "slabs, batches of 1, " in made[-1].in_words


def test_slabs_bring_a_hundred_classes_onto_a_small_card() -> None:
    made = all_plans((1000, 512, 512), (1.0, 0.8, 0.8), WINDOWS, SaidNetwork(105, 2, 500))
    assert made[0].total_bytes > 20_000 * MIB
    assert made[-1].total_bytes < 6_000 * MIB
    assert made[-1].total_bytes < 0.35 * made[0].total_bytes


@pytest.mark.parametrize("volume", [SLICES, WINDOWS])
def test_any_number_of_slices_has_a_plan_of_the_same_size(volume: VolumeInput) -> None:
    """What the thinnest slabs take does not grow with the series, but for a few tables."""
    network = SaidNetwork(3, 4, 10)
    least = [
        min(plan.total_bytes for plan in all_plans((n, 512, 512), (1, 0.8, 0.8), volume, network))
        for n in (*range(200, 400, 37), 700, 1300, 2000)
    ]
    assert max(least) < 1.05 * min(least)


@pytest.mark.parametrize(
    ("volume", "model", "intensity"),
    [
        (WINDOWS, {}, PLAIN),
        (WINDOWS, {"classes_are": "independent"}, PLAIN),
        (
            VolumeInput(
                network_sees="window",
                axes="HPL",
                window=Window(size=(32, 64, 64), skip_below=-500.0),
            ),
            {},
            Intensity(values=Values.BRIGHTNESS, scale=Scale(low=0.0, high=Percentile(99.9))),
        ),
        (SLICES, {"gives": "labels"}, PLAIN),
    ],
)
def test_nothing_in_the_block_overlaps(
    volume: VolumeInput, model: dict[str, Any], intensity: Intensity
) -> None:
    network = SaidNetwork(1 if model.get("gives") == "labels" else 3, 4, 1, half=False)
    for plan in all_plans(*CHEST, volume, network, intensity=intensity, **model)[::5]:
        layout = plan.layout
        parts = sorted((at, layout.sizes[name]) for name, at in layout.offsets.items())
        for (at, size), (following, _) in pairwise(parts):
            assert at % ALIGNMENT == 0
            assert at + size <= following
        assert parts[-1][0] + parts[-1][1] <= plan.total_bytes


def test_a_budget_admits_what_is_left_and_no_more() -> None:
    budget = Budget(1000, share=0.9)
    assert budget.admit(600)
    assert not budget.admit(301)
    assert budget.admit(300)
    assert budget.left_bytes == 0
    budget.release(600)
    assert budget.left_bytes == 600
    assert budget.admit(600)
