"""A volume goes the whole way on the device, and comes back as the processor would bring it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.errors import DeviceFull, EngineError, StudyUnusable
from dicom_node.infer.blocks import Intensity, Locate, Model, Percentile, Scale, VolumeInput, Window
from dicom_node.infer.gpu.axes import grid_of
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.gpu.kernels import Kernels
from dicom_node.infer.gpu.memory import Budget
from dicom_node.infer.gpu.path import GpuPath
from dicom_node.infer.pixels import Values
from dicom_node.infer.volume import place
from dicom_node.infer.windows import windows_over
from tests.unit.infer.gpu.machines import Answer, Machine, PlayedNetwork, played
from tests.unit.infer.gpu.volumes import (
    AXIAL,
    PRONE,
    SAGITTAL,
    Expected,
    a_grid,
    a_model,
    an_answer,
    labels_answer,
    some_voxels,
)

HOUNSFIELD = Intensity(values=Values.HOUNSFIELD, clip=(-60, 500))
SCALED = Intensity(values=Values.HOUNSFIELD, scale=Scale(low=-100.0, high=400.0, to=(-1, 1)))
BY_RANK = Intensity(
    values=Values.BRIGHTNESS, scale=Scale(low=Percentile(1), high=Percentile(99), to=(0, 1))
)
SHAPE = (14, 21, 18)
SPACING = (2.5, 1.1, 1.2)

SLICE = VolumeInput(
    network_sees="slice", axes="HPL", spacing_mm=(None, 2, 2), size=(None, 12, 12), pad=-60
)
SLAB = VolumeInput(
    network_sees="slab", axes="HPL", spacing_mm=(None, 2, 2), size=(None, 12, 12), slab_slices=5
)
WINDOWS = VolumeInput(
    network_sees="window",
    axes="HPL",
    spacing_mm=(2, 1.6, 1.6),
    window=Window(size=(6, 8, 7), overlap=0.5),
)
TURNED = VolumeInput(
    network_sees="window",
    axes="LFA",
    spacing_mm=(2, 2, 2),
    pad=-200,
    window=Window(size=(5, 6, 7), overlap=0.25, weights="constant"),
)
WHOLE = VolumeInput(network_sees="whole", axes="LFA", spacing_mm=(2, 2, 2), size_multiple=4)
AIR = VolumeInput(
    network_sees="window",
    axes="HPL",
    spacing_mm=(2, 1.6, 1.6),
    pad=-200,
    window=Window(size=(6, 5, 4), overlap=0.5, skip_below=40),
)
BRIGHT = replace(AIR, window=Window(size=(6, 5, 4), overlap=0.5, skip_below=0.3))
SAME = VolumeInput(network_sees="slice", axes="HPL")

EXCLUSIVE = a_model()
LOGITS = a_model(gives="logits")
INDEPENDENT = a_model(gives="logits", classes_are="independent")
MIRRORS = a_model(gives="logits", mirrors=((2,), (1, 2), (0, 1)))


class Engine:
    """An engine on the path, beside what the processor says."""

    def __init__(
        self,
        machine: Machine,
        device: Device,
        kernels: Kernels,
        volume: VolumeInput,
        model: Model,
        intensity: Intensity = HOUNSFIELD,
        *,
        thresholds: Sequence[float] = (),
        answers: Sequence[Answer] | None = None,
        budget: Budget | None = None,
        **network: Any,
    ) -> None:
        labels = model.gives == "labels"
        self.answers = answers or [labels_answer(4) if labels else an_answer(4)]
        self.networks = [
            played(
                machine, answer, 1 if labels else 4, slab_slices=volume.slab_slices or 1, **network
            )
            for answer in self.answers
        ]
        self.volume, self.model, self.intensity = volume, model, intensity
        self.thresholds = thresholds
        self.path = GpuPath(
            device,
            kernels,
            self.networks,
            volume,
            model,
            intensity,
            thresholds=thresholds,
            budget=budget or Budget(device.total_bytes),
        )

    def agrees(
        self,
        voxels: Any,
        spacing: tuple[float, float, float] = SPACING,
        orientation: Sequence[float] = AXIAL,
        share_near_max: float = 0.02,
    ) -> NDArray[Any]:
        """Return the mask, which is what the processor makes."""
        grid = a_grid(voxels.stored.shape, spacing, orientation)
        found = self.path.labels(voxels, place(grid, self.volume))
        Expected(
            grid, voxels, self.volume, self.model, self.intensity, self.answers, self.thresholds
        ).agrees(found, share_near_max)
        return found


@pytest.fixture
def engine(machine: Machine, device: Device, kernels: Kernels) -> Any:
    def make(*given: Any, **named: Any) -> Engine:
        return Engine(machine, device, kernels, *given, **named)

    return make


# ------------------------------------------------------------ the same mask


@pytest.mark.parametrize("orientation", [AXIAL, PRONE])
@pytest.mark.parametrize("intensity", [HOUNSFIELD, SCALED, BY_RANK])
@pytest.mark.parametrize("volume", [SLICE, SLAB, WINDOWS, TURNED, WHOLE, SAME])
def test_it_is_the_mask_of_the_processor(
    volume: VolumeInput, intensity: Intensity, orientation: Sequence[float], engine: Any
) -> None:
    found = engine(volume, EXCLUSIVE, intensity).agrees(some_voxels(SHAPE), orientation=orientation)
    assert len(np.unique(found)) > 2


@pytest.mark.parametrize("volume", [WINDOWS, TURNED, WHOLE])
def test_a_sagittal_series_lies_across_the_network_s_axes(volume: VolumeInput, engine: Any) -> None:
    engine(volume, LOGITS).agrees(some_voxels(SHAPE), orientation=SAGITTAL)


@pytest.mark.parametrize("volume", [SLICE, SLAB, WINDOWS, WHOLE])
def test_classes_that_overlap_have_a_mask_each(volume: VolumeInput, engine: Any) -> None:
    found = engine(volume, INDEPENDENT, thresholds=(0.1, -0.4, 0.6)).agrees(some_voxels(SHAPE))
    assert found.shape == (3, *SHAPE)
    assert 0 < found.mean() < 1


@pytest.mark.parametrize("volume", [SLICE, WHOLE, WINDOWS])
@pytest.mark.parametrize("output_type", ["uint8", "int32", "int64", "float32"])
def test_a_network_may_give_labels(volume: VolumeInput, output_type: str, engine: Any) -> None:
    if volume.network_sees == "window":
        volume = VolumeInput(
            network_sees="window",
            axes="HPL",
            spacing_mm=(2.5, 2.2, 2.4),
            window=Window(size=(14, 11, 9), overlap=0),
        )
    made = engine(volume, a_model(gives="labels"), output_type=output_type)
    found = made.agrees(some_voxels(SHAPE), share_near_max=0.3)
    assert len(np.unique(found)) > 2


@pytest.mark.parametrize("volume", [SLICE, SLAB, WINDOWS, TURNED, WHOLE])
def test_mirrors_are_flipped_back_and_averaged(volume: VolumeInput, engine: Any) -> None:
    engine(volume, MIRRORS, SCALED).agrees(some_voxels(SHAPE))


def test_an_ensemble_is_averaged(engine: Any) -> None:
    answers = [an_answer(4), an_answer(4, seed=2), an_answer(4, seed=5)]
    alone = engine(WINDOWS, LOGITS, SCALED).agrees(some_voxels(SHAPE))
    together = engine(WINDOWS, LOGITS, SCALED, answers=answers).agrees(some_voxels(SHAPE))
    assert (alone != together).any()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
def test_voxels_go_up_as_they_are_stored(dtype: str, engine: Any) -> None:
    engine(SLICE, EXCLUSIVE).agrees(some_voxels(SHAPE, dtype))


def test_ends_of_half_precision_cost_little(engine: Any) -> None:
    made = engine(WINDOWS, LOGITS, SCALED, input_type="float16", output_type="float16")
    voxels = some_voxels(SHAPE)
    grid = a_grid(SHAPE, SPACING)
    found = made.path.labels(voxels, place(grid, WINDOWS))
    expected = Expected(grid, voxels, WINDOWS, LOGITS, SCALED, made.answers).labels
    assert (found != expected).mean() < 0.01


@pytest.mark.parametrize("model", [EXCLUSIVE, LOGITS, INDEPENDENT])
def test_windows_of_air_are_not_asked_and_are_background(model: Model, engine: Any) -> None:
    made = engine(AIR, model, thresholds=(0.1, -0.4, 0.6) if model is INDEPENDENT else ())
    voxels = some_voxels(SHAPE, air_until=9)
    found = made.agrees(voxels)
    assert not found[..., :3].any()
    placement = place(a_grid(SHAPE, SPACING), AIR)
    all_windows = len(windows_over(grid_of(placement), (6, 5, 4), 0.5))
    asked = sum(shape[0] for shape in made.networks[0].shapes)
    assert 0 < asked < 0.9 * all_windows


def test_nothing_but_air_is_said_and_not_guessed(engine: Any) -> None:
    air = VolumeInput(
        network_sees="window", axes="HPL", window=Window(size=(6, 8, 7), skip_below=1000)
    )
    with pytest.raises(StudyUnusable, match="nothing but air: no voxel reaches 1000"):
        engine(air, EXCLUSIVE).agrees(some_voxels(SHAPE))


def test_no_contrast_is_said_and_not_guessed(engine: Any) -> None:
    voxels = some_voxels(SHAPE)
    voxels.stored[:] = 7
    voxels.slopes[:], voxels.intercepts[:] = 1, 0
    with pytest.raises(StudyUnusable, match="no contrast: the pixels lie at 7"):
        engine(SAME, EXCLUSIVE, BY_RANK).agrees(voxels)


def test_a_volume_smaller_than_a_window_is_padded(engine: Any) -> None:
    large = VolumeInput(
        network_sees="window", axes="HPL", spacing_mm=(1, 1, 1), window=Window(size=(24, 24, 24))
    )
    engine(large, EXCLUSIVE).agrees(some_voxels(SHAPE))


def test_a_box_smaller_than_a_window_is_refused(engine: Any) -> None:
    box = (slice(0, 5), slice(0, 9), slice(0, 9))
    placement = place(a_grid(SHAPE, SPACING), WINDOWS)
    with pytest.raises(StudyUnusable, match="does not fit"):
        engine(WINDOWS, EXCLUSIVE).path.labels(some_voxels(SHAPE), placement, box=box)


# ------------------------------------------------------------ a network that says where to look


def test_a_network_says_on_its_own_grid_where_to_look(
    machine: Machine, device: Device, kernels: Kernels
) -> None:
    locate = Locate(sha256="0" * 64, input="in", output="out", what="something")
    path = GpuPath(
        device,
        kernels,
        [played(machine, labels_answer(3), 1, output_type="int32")],
        WHOLE,
        locate,
        SCALED,
        budget=Budget(device.total_bytes),
    )
    voxels = some_voxels(SHAPE)
    for orientation in (AXIAL, SAGITTAL):
        grid = a_grid(SHAPE, SPACING, orientation)
        expected = Expected(grid, voxels, WHOLE, EXCLUSIVE, SCALED, [an_answer(3)])
        found = path.on_grid(voxels, place(grid, WHOLE))
        shown = labels_answer(3)(expected.values[None, None])[0, 0]
        assert (found == shown).mean() > 0.999


@pytest.mark.parametrize(
    ("volume", "model", "intensity"),
    [
        (WHOLE, EXCLUSIVE, HOUNSFIELD),
        (TURNED, EXCLUSIVE, HOUNSFIELD),
        (WHOLE, a_model(gives="labels"), HOUNSFIELD),
        (WHOLE, EXCLUSIVE, BY_RANK),
        (TURNED, LOGITS, BY_RANK),
    ],
)
def test_outside_of_a_box_is_background_and_levels_are_those_of_all(
    volume: VolumeInput, model: Model, intensity: Intensity, engine: Any
) -> None:
    made = engine(volume, model, intensity)
    voxels = some_voxels(SHAPE)
    grid = a_grid(SHAPE, SPACING, PRONE)
    box = (slice(2, 8), slice(4, 12), slice(1, 9))
    found = made.path.labels(voxels, place(grid, volume), box=box)
    expected = Expected(grid, voxels, volume, model, intensity, made.answers, box=box)
    expected.agrees(found, 0.3)
    assert not found[0].any()
    assert found.any()


# ------------------------------------------------------------ the same bits, whatever the memory


class Nth(Budget):
    """Admits the n-th plan that is asked about, and no other."""

    def __init__(self, n: int) -> None:
        super().__init__(1 << 40)
        self._left = n
        self.admitted_bytes = 0

    def admit(self, size_bytes: int) -> bool:
        self._left -= 1
        if self._left == 0:
            self.admitted_bytes = size_bytes
        return self._left == 0


@pytest.mark.parametrize("orientation", [AXIAL, PRONE])
@pytest.mark.parametrize(
    ("volume", "model", "intensity"),
    [
        (SLICE, LOGITS, HOUNSFIELD),
        (SLAB, LOGITS, BY_RANK),
        (WINDOWS, LOGITS, HOUNSFIELD),
        (WINDOWS, MIRRORS, BY_RANK),
        (WINDOWS, INDEPENDENT, HOUNSFIELD),
        (TURNED, LOGITS, BY_RANK),
        (AIR, LOGITS, HOUNSFIELD),
        (SLICE, a_model(gives="labels"), HOUNSFIELD),
    ],
)
def test_smaller_batches_and_slabs_give_the_same_bits(
    volume: VolumeInput,
    model: Model,
    intensity: Intensity,
    orientation: Sequence[float],
    engine: Any,
) -> None:
    voxels = some_voxels((40, 21, 18), air_until=9)
    placement = place(a_grid((40, 21, 18), SPACING, orientation), volume)
    thresholds = (0.1, -0.4, 0.6) if model is INDEPENDENT else ()
    whole = engine(volume, model, intensity, thresholds=thresholds).path.labels(voxels, placement)
    assert len(np.unique(whole)) > 1
    sizes = []
    for n in range(1, 100):
        limit = Nth(n)
        made = engine(volume, model, intensity, thresholds=thresholds, budget=limit)
        try:
            assert np.array_equal(made.path.labels(voxels, placement), whole), n
        except DeviceFull:
            break  # there is no n-th plan
        finally:
            made.path.close()
        sizes.append(limit.admitted_bytes)
    assert len(sizes) >= 6
    assert min(sizes) < 0.8 * sizes[0]


def test_a_sagittal_series_goes_in_slabs_too(engine: Any) -> None:
    voxels = some_voxels((40, 21, 18))
    placement = place(a_grid((40, 21, 18), SPACING, SAGITTAL), TURNED)
    whole = engine(TURNED, LOGITS).path.labels(voxels, placement)
    for n in (2, 4, 7, 10):
        cut = engine(TURNED, LOGITS, budget=Nth(n)).path.labels(voxels, placement)
        assert np.array_equal(cut, whole)


def test_each_run_gives_the_same_bits(engine: Any) -> None:
    voxels = some_voxels(SHAPE)
    placement = place(a_grid(SHAPE, SPACING), WINDOWS)
    made = engine(WINDOWS, INDEPENDENT, BY_RANK, thresholds=(0.1, -0.4))
    first = made.path.labels(voxels, placement)
    assert np.array_equal(made.path.labels(voxels, placement), first)


def test_stages_are_timed_when_asked_for(engine: Any) -> None:
    stages: dict[str, float] = {}
    made = engine(BRIGHT, LOGITS, BY_RANK)
    made.path.labels(some_voxels(SHAPE), place(a_grid(SHAPE, SPACING), BRIGHT), stages_ms=stages)
    assert set(stages) == {
        *("upload", "percentiles", "gather", "air", "windows", "network", "accumulate"),
        *("finish", "download"),
    }
    assert all(ms >= 0 for ms in stages.values())


# ------------------------------------------------------------ what does not fit the manifest


@pytest.mark.parametrize(
    ("model", "given", "words"),
    [
        (EXCLUSIVE, {"output_type": "int64"}, "out is int64, not floating point"),
        (EXCLUSIVE, {"input_type": "uint8"}, "in is uint8, not floating point"),
        (INDEPENDENT, {}, "independent classes have thresholds"),
        (EXCLUSIVE, {"thresholds": (0.5,)}, "exclusive ones have none"),
        (INDEPENDENT, {"thresholds": (0.5,) * 5}, "fewer channels than there are thresholds"),
        (
            a_model(gives="labels", mirrors=((0,),)),
            {"output_type": "int64"},
            "labels cannot be averaged",
        ),
    ],
)
def test_a_network_that_does_not_fit_its_manifest_is_refused(
    model: Model, given: dict[str, Any], words: str, engine: Any
) -> None:
    with pytest.raises(EngineError, match=words):
        engine(SLICE, model, **given)


def test_an_ensemble_of_different_networks_is_refused(
    machine: Machine, device: Device, kernels: Kernels
) -> None:
    networks: list[PlayedNetwork] = [played(machine, an_answer(n), n) for n in (3, 4)]
    with pytest.raises(EngineError, match="differ in their inputs or outputs"):
        GpuPath(
            device,
            kernels,
            networks,
            SLICE,
            EXCLUSIVE,
            HOUNSFIELD,
            budget=Budget(device.total_bytes),
        )


def test_labels_with_channels_are_refused(
    machine: Machine, device: Device, kernels: Kernels
) -> None:
    with pytest.raises(EngineError, match="has 4 channels for labels"):
        GpuPath(
            device,
            kernels,
            [played(machine, an_answer(4), 4)],
            SLICE,
            a_model(gives="labels"),
            HOUNSFIELD,
            budget=Budget(device.total_bytes),
        )
