"""What is measured is what counting, voxel by voxel, gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.sr.codedict import codes

from dicom_node.finding import Measurement
from dicom_node.geometry import Grid
from dicom_node.infer.blocks import Measure
from dicom_node.infer.measure import NAMES, measured, quantity_of
from dicom_node.infer.pixels import Values
from tests.unit.infer.masks import drawn

GRID = Grid((2, 3, 6), np.diag([3.0, 1.0, 0.5, 1.0]))
MASK = drawn("11..22 11.... ......", "11.... ....11 ......")
HU = quantity_of(Values.HOUNSFIELD, "CT")
VALUES = np.arange(36, dtype=np.float32).reshape(2, 3, 6) ** 2 - 1000


def measure(
    mask: NDArray[Any], *wanted: Measure, segments: int = 3
) -> tuple[dict[str, Measurement], ...]:
    found = measured(
        mask, wanted, [26] * segments, GRID, HU, lambda index: np.asarray(VALUES[index])
    )
    return tuple({one.name: one for one in own} for own in found)


def told(of: dict[str, Measurement]) -> dict[str, float]:
    return {name: one.value for name, one in of.items()}


def as_maps(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.stack([mask == number for number in (1, 2, 3)])


@pytest.mark.parametrize("form", [np.asarray, as_maps], ids=["labels", "maps"])
def test_volumes_and_counts(form: Any) -> None:
    one, two, nothing = measure(form(MASK), "volume", "count", "voxels")
    assert told(one) == {
        "volume_ml": pytest.approx(8 * 0.0015),
        "count": 2,
        "voxel_count": 8,
        "slice_count": 2,
    }
    assert told(two) == {
        "volume_ml": pytest.approx(2 * 0.0015),
        "count": 1,
        "voxel_count": 2,
        "slice_count": 1,
    }
    assert told(nothing) == dict.fromkeys(told(one), 0.0), "what is not there is 0 large"


@pytest.mark.parametrize("form", [np.asarray, as_maps], ids=["labels", "maps"])
def test_the_values_inside(form: Any) -> None:
    one, two, nothing = measure(form(MASK), "mean_value")
    for number, own in ((1, one), (2, two)):
        inside = VALUES[number == MASK].astype(np.float64)
        assert told(own) == {
            "mean_value": pytest.approx(inside.mean()),
            "sd_value": pytest.approx(inside.std()),
            "min_value": inside.min(),
            "max_value": inside.max(),
        }
    assert nothing == {}


def test_of_overlapping_segments_each_has_its_own_values() -> None:
    maps = np.stack([MASK > 0, MASK == 2, MASK == 3])
    everything, two, _ = measure(maps, "mean_value", "volume")
    assert everything["mean_value"].value == pytest.approx(VALUES[MASK > 0].mean())
    assert two["mean_value"].value == pytest.approx(VALUES[MASK == 2].mean())
    assert everything["volume_ml"].value == pytest.approx(10 * 0.0015)


def test_a_small_spread_about_a_large_mean_is_not_lost() -> None:
    image = np.full((2, 3, 6), 16_000_000, np.float32)
    image[1] += 2
    (own,) = measured(
        np.ones((2, 3, 6), np.uint8), ["mean_value"], [26], GRID, HU, image.__getitem__
    )
    assert own[1].value == pytest.approx(1.0)


def test_slices_are_read_only_where_there_is_a_segment_and_only_for_values() -> None:
    read: list[int] = []

    def values(index: int) -> NDArray[np.float32]:
        read.append(index)
        return np.asarray(VALUES[index])

    mask = MASK.copy()
    mask[0] = 0
    measured(mask, ["volume", "diameters"], [26] * 3, GRID, HU, values)
    assert read == []
    measured(mask, ["mean_value"], [26] * 3, GRID, HU, values)
    assert read == [1]


def test_diameters_are_in_the_spacing_of_the_grid() -> None:
    one, two, nothing = measure(MASK, "diameters", "longest_diameter")
    assert two["long_axis_mm"].value == pytest.approx(np.hypot(1.0, 0.5))
    assert 0 < two["short_axis_mm"].value < 1.0
    assert one["longest_diameter_mm"].value == pytest.approx(np.hypot(6.0, 1.0), abs=0.1)
    assert nothing["long_axis_mm"].value == 0


@pytest.mark.parametrize("connectivity", [6, 26])
def test_what_hangs_together_is_counted_as_the_components_are(connectivity: Any) -> None:
    mask = drawn("1..... .1.... ......", "...... ...... ......")
    (own,) = measured(mask, ["count"], [connectivity], GRID, HU, VALUES.__getitem__)
    assert own[0].value == (2 if connectivity == 6 else 1)


def test_every_word_brings_what_it_names() -> None:
    assert set(NAMES) == set(get_args(Measure))
    for word in NAMES:
        one, *_ = measure(MASK, word)
        assert tuple(one) == NAMES[word]


def test_every_code_stands_in_the_standard() -> None:
    known = {
        (code.value, code.scheme_designator): code.meaning
        for code in [
            codes.SCT.Volume,
            codes.SCT.Area,
            codes.SCT.NumberOfLesions,
            codes.SCT.LongAxis,
            codes.SCT.ShortAxis,
            codes.IBSI.Maximum3DDiameterOfAMesh,
            codes.SCT.Mean,
            codes.SCT.StandardDeviation,
            codes.SCT.Minimum,
            codes.SCT.Maximum,
            codes.DCM.AttenuationCoefficient,
            codes.DCM.MRSignalIntensity,
        ]
    }
    used: Sequence[Any] = [
        code
        for own in measure(MASK, *NAMES)
        for one in own.values()
        for code in (one.concept, one.unit, one.derivation)
        if code is not None
    ]
    used = [*used, quantity_of(Values.BRIGHTNESS, "MR").concept]
    # pydicom's table of UCUM has no millilitre, and words some units otherwise
    units = {code.value for code in used if code.scheme == "UCUM"}
    assert units == {"ml", "cm2", "mm", "1", "[hnsf'U]"}
    for code in used:
        if code.scheme != "UCUM":
            assert known[code.value, code.scheme].startswith(code.meaning)


def test_only_hounsfield_units_and_the_signal_of_mr_have_a_word() -> None:
    assert quantity_of(Values.BRIGHTNESS, "PT").concept is None
    assert quantity_of(Values.BRIGHTNESS, "MR").unit.value == "1"
    assert HU.unit.value == "[hnsf'U]"
