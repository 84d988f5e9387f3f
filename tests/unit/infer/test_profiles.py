"""What a runtime plans for is what engines are asked with: those that ship, and any author's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dicom_node.infer.engine_folders import list_engines, load_manifest
from dicom_node.infer.profiles import locate_profiles_of, profiles_of
from dicom_node.infer.runtimes.port import Profile
from tests.unit.infer.engine_folders import SEGMENTATION, write_engine

ENGINES = list_engines(Path(__file__).parents[3] / "engines")
VOLUME = SEGMENTATION["volume"]


def test_the_engines_that_ship() -> None:
    planned = {name: dict(profiles_of(manifest)) for name, manifest in ENGINES.items()}
    assert planned == {
        "ct_lungs": {"image_hu": Profile((1, 1, 128, 128), (16, 1, 128, 128), (16, 1, 128, 128))},
        "ct_quality": {"image_hu": Profile((1, 1, 128, 128), (16, 1, 128, 128), (16, 1, 128, 128))},
        "cxr_pneumonia": {"image_0_255": Profile((1, 1, 28, 28), (16, 1, 28, 28), (16, 1, 28, 28))},
        "cxr_quality": {"image_0_255": Profile((1, 1, 64, 64), (16, 1, 64, 64), (16, 1, 64, 64))},
        "mr_brain": {
            "t1": Profile((1, 1, 32, 32, 32), (1, 1, 192, 192, 192), (1, 1, 320, 320, 320))
        },
    }
    assert locate_profiles_of(ENGINES["mr_brain"]) == planned["mr_brain"]
    assert locate_profiles_of(ENGINES["ct_lungs"]) == {}


@pytest.mark.parametrize(
    ("volume", "expected"),
    [
        (
            {"network_sees": "window", "window": {"size": [128, 128, 128]}},
            Profile((1, 1, 128, 128, 128), (2, 1, 128, 128, 128), (2, 1, 128, 128, 128)),
        ),
        (
            {"network_sees": "window", "window": {"size": [32, 32, 32]}},
            Profile((1, 1, 32, 32, 32), (8, 1, 32, 32, 32), (8, 1, 32, 32, 32)),
        ),
        (
            {"network_sees": "window", "window": {"size": [256, 256, 256]}},
            Profile((1, 1, 256, 256, 256), (1, 1, 256, 256, 256), (1, 1, 256, 256, 256)),
        ),
        (
            {"network_sees": "slab", "slab_slices": 5, "size_multiple": 48},
            Profile((1, 5, 48, 48), (16, 5, 528, 528), (16, 5, 1056, 1056)),
        ),
    ],
    ids=str,
)
def test_other_engines(volume: dict[str, Any], expected: Profile, tmp_path: Path) -> None:
    manifest = load_manifest(write_engine(tmp_path, SEGMENTATION, volume=VOLUME | volume))
    assert profiles_of(manifest) == {"x": expected}


def test_series_beside_the_main_one_are_channels_or_inputs(tmp_path: Path) -> None:
    extra = {"name": "flair", "accepts": {"Modality": "MR"}}
    volume = VOLUME | {"network_sees": "window", "window": {"size": [64, 64, 64]}}
    for written, channels in ((extra, {"x": 2}), (extra | {"input": "y2"}, {"x": 1, "y2": 1})):
        folder = write_engine(
            tmp_path / str(channels), SEGMENTATION, volume=volume, inputs=[written]
        )
        planned = profiles_of(load_manifest(folder))
        assert {name: profile.usual[1] for name, profile in planned.items()} == channels
