"""What OHIF shows of our results: its own loaders, run in Node on a result of each kind.

`make witness` installs them from npm (94 MB); `make test` runs these tests where they are there.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from dicom_node.encode.results import SegEncoding, encode
from dicom_node.finding import Finding
from tests.enhanced import everything_on
from tests.factories import make_ct_series, make_enhanced, make_xray, write_series
from tests.unit.encode.findings import (
    STAMP,
    blobs,
    headers_of,
    overlapping,
    probable,
    segmentation,
)
from tests.whole_way import DENSE_HU, shape_in
from tests.witness.kinds import write_one_of_each
from tests.witness.programs import by_hand

pytestmark = [pytest.mark.witness, pytest.mark.slow]

FOLDER = Path(__file__).parent / "ohif"
ESBUILD = FOLDER / "node_modules" / ".bin" / "esbuild"

Told = dict[str, Any]


class Viewer:
    """The loaders, bundled once."""

    def __init__(self, folder: Path) -> None:
        self._node = by_hand("node", "Debian's nodejs, 18 or newer")
        if not ESBUILD.exists():
            pytest.skip("WITNESS MISSING: OHIF's adapters (npm); `make witness` installs them")
        self._bundle = folder / "load.cjs"
        options = ["--bundle", "--platform=node", "--format=cjs", "--log-level=error"]
        subprocess.run(
            [ESBUILD, FOLDER / "load.mjs", *options, f"--outfile={self._bundle}"], check=True
        )

    def shows(self, images: Sequence[Path], *results: Path) -> list[Told]:
        """Return what it shows of results beside the images that they are about."""
        done = subprocess.run(
            [self._node, self._bundle, *images, "--", *results],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        told = [json.loads(line) for line in done.stdout.splitlines()]
        assert [one["file"] for one in told] == [str(result) for result in results]
        return told


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Viewer:
    return Viewer(tmp_path_factory.mktemp("viewer"))


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_one_of_each(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_series(make_ct_series(5), tmp_path_factory.mktemp("ct"))


@pytest.fixture(scope="module")
def xray(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_series([make_xray()], tmp_path_factory.mktemp("xray"))


def layers_of(told: Told, shape: tuple[int, ...]) -> list[NDArray[np.uint8]]:
    assert "error" not in told, told["error"]
    layers = [np.frombuffer(base64.b64decode(one), np.uint8) for one in told["layers"]]
    return [one.reshape(shape) for one in layers]


# ---------------------------------------------------------------- segmentations


def test_segments_lie_on_every_voxel_that_was_drawn(
    viewer: Viewer, kinds: dict[str, Path], ct: list[Path]
) -> None:
    [told] = viewer.shows(ct, kinds["segments-SEG"])
    [layer] = layers_of(told, (5, 64, 64))
    np.testing.assert_array_equal(layer, blobs(headers_of(make_ct_series(5))))
    assert told["segments"] == ["Right lung", "Left lung"]
    assert not told["overlapping"]


def test_segments_that_overlap_lie_in_two_layers(
    viewer: Viewer, kinds: dict[str, Path], ct: list[Path]
) -> None:
    [told] = viewer.shows(ct, kinds["segments-overlapping-SEG"])
    layers = layers_of(told, (5, 64, 64))
    maps = overlapping(headers_of(make_ct_series(5))).mask
    assert maps is not None
    assert told["overlapping"]
    for number, expected in enumerate(maps, 1):
        shown = np.any([layer == number for layer in layers], axis=0)
        np.testing.assert_array_equal(shown, expected)


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (3, 0, 4, 1, 2)], ids=["in order", "shuffled"])
def test_frames_of_an_enhanced_source_get_what_was_drawn_on_them(
    order: tuple[int, ...], viewer: Viewer, tmp_path: Path
) -> None:
    pixels = shape_in(5)
    slices = make_ct_series(pixels=pixels)
    images = write_series([make_enhanced([slices[i] for i in order])], tmp_path / "images")
    written = everything_on(images, tmp_path, is_ct=True)
    for told in viewer.shows(images, *written.paths["SEG"], *written.paths["LABELMAP"]):
        [layer] = layers_of(told, pixels.shape)
        np.testing.assert_array_equal(layer, pixels[list(order)] > DENSE_HU)
    for told in viewer.shows(images, *written.paths["SR"]):
        assert "error" not in told, told["error"]
        assert [group["finding"] for group in told["groups"]] == ["Lung"]


@pytest.mark.parametrize("is_native", [False, True], ids=["as we send it", "native"])
def test_a_label_map_lies_on_every_voxel_that_was_drawn(
    is_native: bool, viewer: Viewer, ct: list[Path], tmp_path: Path
) -> None:
    """Run-length encoded, or as an archive may give it out; OHIF skips the first, background."""
    headers = headers_of(make_ct_series(5))
    path = seg_in(SegEncoding.LABELMAP, segmentation(headers), headers, tmp_path)
    label_map = pydicom.dcmread(path)
    assert label_map.file_meta.TransferSyntaxUID == RLELossless
    if is_native:
        label_map.decompress(generate_instance_uid=False)
        label_map.save_as(path, enforce_file_format=True)
    [told] = viewer.shows(ct, path)
    [layer] = layers_of(told, (5, 64, 64))
    np.testing.assert_array_equal(layer, blobs(headers))
    assert told["segments"] == ["Background", "Right lung", "Left lung"]


def test_probabilities_are_not_shown(viewer: Viewer, ct: list[Path], tmp_path: Path) -> None:
    """So no profile for OHIF asks for them; older versions show all that is not impossible."""
    headers = headers_of(make_ct_series(5))
    path = seg_in(SegEncoding.FRACTIONAL, probable(headers), headers, tmp_path)
    [told] = viewer.shows(ct, path)
    assert "Fractional segmentations are not yet supported" in told["error"]


def seg_in(
    encoding: SegEncoding, finding: Finding, headers: Sequence[Dataset], folder: Path
) -> Path:
    path = folder / f"{encoding}.dcm"
    path.write_bytes(encode(finding, headers, STAMP, encoding)[0].content)
    return path


def test_a_seg_on_an_x_ray_is_not_shown(
    viewer: Viewer, kinds: dict[str, Path], xray: list[Path]
) -> None:
    """It has no plane orientation, and the loader takes one for granted: OHIF needs a picture."""
    [told] = viewer.shows(xray, kinds["region-SEG"])
    assert "Cannot read properties of undefined" in told["error"]


def test_a_seg_beside_another_series_is_not_shown(
    viewer: Viewer, kinds: dict[str, Path], tmp_path: Path
) -> None:
    other = write_series(make_ct_series(5, SeriesInstanceUID="1.2.3.4"), tmp_path)
    [told] = viewer.shows(other, kinds["segments-SEG"])
    assert "not the one that is shown" in told["error"]


# ---------------------------------------------------------------- reports

SAID: dict[str, tuple[str, str, list[list[Any]], list[str]]] = {
    "region": ("Right lung (ct-lungs)", "Lung", [], []),
    "classification": (
        "Pneumonia (ct-lungs)",
        "Pneumonia",
        [["Probability", 0.93]],
        ["Presence", "Present"],
    ),
    "nothing-found": (
        "Pneumonia (ct-lungs)",
        "Pneumonia",
        [["Probability", 0.07]],
        ["Presence", "Absent"],
    ),
    "quality": (
        "Image quality (ct-lungs)",
        "Quality Assessment",
        [],
        ["Imaging Series Quality", "Non-diagnostic quality"],
    ),
    "regression": ("Bone age (ct-lungs)", "Bone age", [["Bone age", 131.25]], []),
}


@pytest.mark.parametrize("name", SAID)
def test_reports_on_an_x_ray_are_listed(
    name: str, viewer: Viewer, kinds: dict[str, Path], xray: list[Path]
) -> None:
    [told] = viewer.shows(xray, kinds[f"{name}-SR"])
    assert "error" not in told, told["error"]
    tracking, finding, numbers, said = SAID[name]
    group = told["groups"][0]
    assert (group["tracking"], group["finding"]) == (tracking, finding)
    assert group["numbers"] == numbers
    assert not said or said in group["said"]
    assert told["libraryEntries"] >= 1, "versions before 3.13 throw without"


def test_reports_on_a_ct_are_listed(viewer: Viewer, kinds: dict[str, Path], ct: list[Path]) -> None:
    names = (
        *("segments", "segments-overlapping", "revision"),
        *("classification-of-slices", "quality-of-series"),
    )
    told = viewer.shows(ct, *(kinds[f"{name}-SR"] for name in names))
    assert [one.get("error") for one in told] == [None] * 5
    assert [len(one["groups"]) for one in told] == [2, 2, 2, 5, 1]
    uids = [group["trackingUid"] for group in told[0]["groups"]]
    assert len(set(uids)) == 2
    assert [group["numbers"][0][0] for group in told[0]["groups"]] == ["Volume", "Volume"]
