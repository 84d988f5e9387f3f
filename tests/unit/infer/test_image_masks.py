"""A mask on a single image lies on the image's own pixels, and is measured as far as they tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.conditions.keywords import kind_of
from dicom_node.errors import EngineError
from dicom_node.finding import Finding
from dicom_node.infer.agreement import agreement_of, summary_of
from dicom_node.infer.asking import Networks
from dicom_node.infer.engine import Engine
from dicom_node.infer.engine_folders import load_manifest
from dicom_node.infer.parameters import facts_known, facts_of, parameters_of
from tests.factories import make_xray, write_series
from tests.unit.infer.engine_folders import ON_IMAGES, FunctionRuntime, Network, write_engine

BRIGHT = 500


def bright(values: NDArray[Any]) -> NDArray[Any]:
    """Answer how likely a pixel is background, and how likely bright."""
    likely = np.clip(values / (2 * BRIGHT), 0, 1)
    return np.concatenate([1 - likely, likely], axis=1).astype(np.float32)


def with_a_square(rows: int, columns: int, square: tuple[slice, slice]) -> NDArray[np.uint16]:
    pixels = np.zeros((rows, columns), np.uint16)
    pixels[square] = 1000
    return pixels


def engine(folder: Path, network: Network = bright, **changes: Any) -> Engine:
    manifest = load_manifest(write_engine(folder / "engines", ON_IMAGES, **changes))
    return Engine(manifest, Networks((FunctionRuntime(network),)))


def run(made: Engine, folder: Path, *images: Dataset) -> Finding:
    finding, headers = made.run(write_series(images, folder / "xray"))
    assert tuple(str(one.SOPInstanceUID) for one in headers) == finding.sop_instance_uids
    return finding


# ------------------------------------------------------------ where it lies


@pytest.mark.parametrize(
    ("shape", "field", "square", "size"),
    [
        ((40, 40), "whole", (slice(8, 16), slice(0, 40)), [10, 10]),
        ((40, 80), "whole", (slice(0, 40), slice(40, 72)), [10, 10]),
        ((40, 60), "central square", (slice(0, 40), slice(14, 38)), [10, 10]),
        ((61, 40), "central square", (slice(14, 22), slice(0, 40)), [10, 10]),
        ((40, 40), "whole", (slice(3, 17), slice(5, 6)), [40, 40]),
        ((12, 10), "whole", (slice(2, 9), slice(0, 10)), [24, 20]),
    ],
)
def test_a_mask_lies_where_the_image_is_bright(
    shape: tuple[int, int],
    field: str,
    square: tuple[slice, slice],
    size: list[int],
    tmp_path: Path,
) -> None:
    """The field that the network sees may be cut from the middle, an odd row off it."""
    pixels = with_a_square(*shape, square)
    made = engine(tmp_path, image={"size": size, "field": field})
    finding = run(made, tmp_path, make_xray(pixels))
    assert finding.mask is not None
    assert np.array_equal(finding.mask[0] == 1, pixels > 0)


def test_what_the_network_does_not_see_is_background(tmp_path: Path) -> None:
    pixels = with_a_square(20, 40, (slice(0, 20), slice(0, 40)))
    finding = run(engine(tmp_path, image={"size": [5, 5]}), tmp_path, make_xray(pixels))
    assert finding.mask is not None
    assert np.flatnonzero(finding.mask[0].any(axis=0)).tolist() == list(range(10, 30))


def test_independent_classes_may_overlap(tmp_path: Path) -> None:
    def both(values: NDArray[Any]) -> NDArray[Any]:
        likely = np.clip(values / 1000, 0, 1)
        return np.concatenate([likely, likely], axis=1).astype(np.float32)

    segment = ON_IMAGES["segments"][0]
    other = segment | {"label": 2, "name": "Core", "threshold": 0.9}
    made = engine(
        tmp_path,
        both,
        model=ON_IMAGES["model"] | {"classes_are": "independent"},
        segments=[segment, other],
        image={"size": [20, 20], "field": "whole"},
    )
    pixels = with_a_square(20, 20, (slice(2, 12), slice(2, 12)))
    pixels[12:14, 2:12] = 700
    finding = run(made, tmp_path, make_xray(pixels))
    assert finding.mask is not None
    assert [np.count_nonzero(one) for one in finding.mask] == [120, 100]


def test_one_image_of_a_series_is_drawn_on(tmp_path: Path) -> None:
    square = with_a_square(20, 20, (slice(2, 12), slice(2, 12)))
    images = [make_xray(square, number=1), make_xray(square, number=2)]
    finding = run(engine(tmp_path), tmp_path, *images)
    assert finding.sop_instance_uids == (str(images[0].SOPInstanceUID),)
    assert any(
        "1 instance left out: one image of a series is drawn on" in w for w in finding.warnings
    )


def test_it_takes_part_in_no_batch(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="says nothing of single images"):
        engine(tmp_path).prepare([])


# ------------------------------------------------------------ what is measured


def measured(finding: Finding) -> dict[str, float]:
    return {one.name: one.value for one in finding.segments[0].measurements}


PIXELS = with_a_square(40, 40, (slice(8, 16), slice(20, 36)))
"""A square of 8 x 16 pixels."""
EVERY_WORD = ["area", "count", "diameters", "mean_value", "voxels"]


@pytest.mark.parametrize(
    ("sizes", "pixel_mm", "is_warned"),
    [
        ({"ImagerPixelSpacing": [0.2, 0.2]}, 0.2, True),
        ({"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.2, 0.2]}, 0.2, True),
        ({"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.15, 0.15]}, 0.15, False),
        ({"ImagerPixelSpacing": None, "PixelSpacing": [0.15, 0.15]}, 0.15, False),
    ],
)
def test_areas_are_told_at_the_scale_that_the_header_gives(
    sizes: dict[str, Any], pixel_mm: float, is_warned: bool, tmp_path: Path
) -> None:
    made = engine(tmp_path, image={"size": [40, 40]}, measurements=EVERY_WORD)
    finding = run(made, tmp_path, make_xray(PIXELS, **sizes))
    told = measured(finding)
    area_cm2 = 8 * 16 * pixel_mm**2 / 100
    assert told["area_cm2"] == pytest.approx(area_cm2)
    assert told["long_axis_mm"] == pytest.approx(np.hypot(8, 16) * pixel_mm, rel=0.05)
    assert told["mean_value"] == 1000
    assert (told["count"], told["voxel_count"]) == (1, 128)
    assert finding.segments[0].area_cm2 == pytest.approx(area_cm2)
    assert finding.segments[0].volume_ml is None
    assert finding.summary == f"ball {area_cm2:.1f} cm2"
    assert any("at the detector" in one for one in finding.warnings) is is_warned


@pytest.mark.parametrize("size", [None, [0, 0]])
def test_without_a_scale_nothing_is_told_in_millimetres(size: object, tmp_path: Path) -> None:
    made = engine(tmp_path, image={"size": [40, 40]}, measurements=EVERY_WORD)
    finding = run(made, tmp_path, make_xray(PIXELS, ImagerPixelSpacing=size))
    told = measured(finding)
    assert {"area_cm2", "long_axis_mm", "short_axis_mm"}.isdisjoint(told)
    assert told["voxel_count"] == 128
    assert finding.segments[0].area_cm2 is None
    assert finding.summary == "ball 8.0% of the image"
    assert "the size of its pixels is not known: no areas or lengths" in finding.warnings


def test_nothing_found_is_an_answer(tmp_path: Path) -> None:
    finding = run(engine(tmp_path), tmp_path, make_xray(np.zeros((40, 40), np.uint16)))
    assert finding.summary == "nothing found: ball 0 cm2"
    assert "Ball: not found" in finding.warnings
    assert not finding.segments[0].is_found
    assert facts_of(finding)["present"] == ()


def test_small_parts_and_small_segments_go_by_their_share_of_the_image(tmp_path: Path) -> None:
    pixels = PIXELS.copy()
    pixels[0:4, 0:4] = 1000  # 1 % of the image; the square is 8 %
    image = {"size": [40, 40]}
    parts = engine(tmp_path / "a", image=image, components={"component_min_share": 0.02})
    finding = run(parts, tmp_path / "a", make_xray(pixels))
    assert np.array_equal(finding.mask[0] == 1, PIXELS > 0)  # type: ignore[index]
    noise = engine(tmp_path / "b", image=image, components={"share_min": 0.1})
    finding = run(noise, tmp_path / "b", make_xray(PIXELS))
    assert not finding.segments[0].is_found
    assert "Ball: 0.08 of the image is less than 0.1 of the image and was taken for noise" in (
        finding.warnings
    )
    let = noise.with_parameters({"share_min": 0.05})
    assert run(let, tmp_path / "b", make_xray(PIXELS)).segments[0].is_found


# ------------------------------------------------------------ what rules and trials see


def test_rules_ask_for_areas_and_shares(tmp_path: Path) -> None:
    made = engine(tmp_path, image={"size": [40, 40]})
    facts = facts_of(run(made, tmp_path, make_xray(PIXELS)))
    assert facts["area_cm2.ball"] == facts["area_cm2"] == ("2.5088",)
    assert facts["image_share.ball"] == ("0.08",)
    assert facts["present"] == ("Ball",)
    known = facts_known(made.manifest)
    assert set(facts) <= known | {"outcome"}
    assert "volume_ml" not in known
    assert all(kind_of(f"an_engine.{fact}") is not None for fact in known)
    assert "share_min" in parameters_of(made.manifest)


def test_two_versions_are_compared_by_their_shares(tmp_path: Path) -> None:
    made = engine(tmp_path, image={"size": [40, 40]})
    current = facts_of(run(made, tmp_path / "a", make_xray(PIXELS)))
    half = PIXELS.copy()
    half[12:16] = 0
    candidate = facts_of(run(made, tmp_path / "b", make_xray(half)))
    found = agreement_of(current, candidate)
    assert found.image_share == {"ball": (0.08, 0.04)}
    assert found.present == {"ball": (True, True)}
    assert "ball 8.0% -> 4.0% of the image" in found.words
    assert summary_of([found]).volume_share == pytest.approx(0.5)
    assert type(found).of_json(found.as_json()) == found
