"""A SEG in each of its encodings, and the report on it, before programs that we did not write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.encode.results import SegEncoding, encode
from dicom_node.finding import Finding
from dicom_node.headers import read_header
from tests.factories import AXIAL, make_ct_series
from tests.unit.encode.findings import (
    STAMP,
    blobs,
    headers_of,
    overlapping,
    probable,
    segmentation,
)
from tests.unit.encode.test_seg import OBLIQUE
from tests.witness.programs import faults_found_by_dciodvfy, said_by
from tests.witness.readers import report_read_by_dcmqi, values_read_by_dcmqi
from tests.witness.test_results import CR, chest_ct

pytestmark = pytest.mark.witness

FALSE_ALARM = (
    "Error - Shall not be present for Referenced SOP Class that is not segmentation - attribute "
    "<ReferencedSegmentNumber>"
)
"""dciodvfy does not know yet that a label map is a segmentation, by its SOP Class 66.7: PS3.3
C.18.4 wants the segment number of a reference to any Segmentation."""

SERIES: dict[str, dict[str, Any]] = {
    "axial": {"slices": 5, "orientation": AXIAL},
    "oblique, pixels not square": {
        "slices": 5,
        "orientation": OBLIQUE,
        "spacing_mm": (2.5, 0.5, 0.75),
    },
    "one slice": {"slices": 1},
    "frames that end inside a byte": {"pixels": np.zeros((5, 61, 47), np.int16)},
}


def results_in(
    encoding: SegEncoding, finding: Finding, sources: Sequence[Dataset], folder: Path
) -> dict[str, Path]:
    """Write the results of a finding; dciodvfy finds no fault with them that is one."""
    paths = {}
    for result in encode(finding, sources, STAMP, encoding):
        paths[result.kind] = folder / f"{result.kind}.dcm"
        paths[result.kind].write_bytes(result.content)
    assert faults_found_by_dciodvfy(paths["SEG"]) == []
    allowed = {FALSE_ALARM} if encoding is SegEncoding.LABELMAP else set()
    assert set(faults_found_by_dciodvfy(paths["SR"])) <= allowed
    return paths


@pytest.mark.parametrize("arguments", SERIES.values(), ids=SERIES)
def test_a_label_map_is_read_voxel_for_voxel(arguments: dict[str, Any], tmp_path: Path) -> None:
    sources = headers_of(make_ct_series(**arguments))
    paths = results_in(SegEncoding.LABELMAP, segmentation(sources), sources, tmp_path)
    [labels] = values_read_by_dcmqi(paths["SEG"], tmp_path / "dcmqi", sources)
    np.testing.assert_array_equal(labels, blobs(sources))
    groups = report_read_by_dcmqi(paths["SR"], tmp_path)["Measurements"]
    assert [group["ReferencedSegment"] for group in groups] == [1, 2]


def test_the_label_map_of_a_real_chest_ct(tmp_path: Path) -> None:
    sources, finding = chest_ct()
    paths = results_in(SegEncoding.LABELMAP, finding, sources, tmp_path)
    [labels] = values_read_by_dcmqi(paths["SEG"], tmp_path / "dcmqi", sources)
    np.testing.assert_array_equal(labels, finding.mask)
    dump = said_by("dcmdump", paths["SEG"])
    assert "(0062,0001) CS [LABELMAP]" in dump
    assert "=RLELossless" in dump


@pytest.mark.parametrize("arguments", SERIES.values(), ids=SERIES)
def test_probabilities_are_read_voxel_for_voxel(arguments: dict[str, Any], tmp_path: Path) -> None:
    sources = headers_of(make_ct_series(**arguments))
    finding = probable(sources)
    paths = results_in(SegEncoding.FRACTIONAL, finding, sources, tmp_path)
    read = values_read_by_dcmqi(paths["SEG"], tmp_path / "dcmqi", sources)
    np.testing.assert_array_equal(np.stack(read), finding.probabilities)
    assert "(0062,0010) CS [PROBABILITY]" in said_by("dcmdump", paths["SEG"])


def test_maps_that_overlap_are_fractions_each_whole(tmp_path: Path) -> None:
    sources = headers_of(make_ct_series(5))
    finding = overlapping(sources)
    assert finding.mask is not None
    paths = results_in(SegEncoding.FRACTIONAL, finding, sources, tmp_path)
    read = values_read_by_dcmqi(paths["SEG"], tmp_path / "dcmqi", sources)
    np.testing.assert_array_equal(np.stack(read), np.asarray(finding.mask) * np.uint8(255))
    assert "(0062,0010) CS [OCCUPANCY]" in said_by("dcmdump", paths["SEG"])


@pytest.mark.parametrize("encoding", SegEncoding)
def test_a_region_on_a_real_x_ray(encoding: SegEncoding, tmp_path: Path) -> None:
    sources = [read_header(CR)]
    mask = np.zeros((1, sources[0].Rows, sources[0].Columns), np.uint8)
    mask[0, 100:300, 50:450] = 1
    mask[0, 400:410, 50:450] = 2
    paths = results_in(encoding, segmentation(sources, mask), sources, tmp_path)
    # DCMTK 3.6.7 reads no report that refers to a label map: it does not know its SOP Class.
    if encoding is not SegEncoding.LABELMAP:
        tree = said_by("dsrdump", paths["SR"])
        assert tree.count('IMAGE:(,,"Referenced Segmentation Frame")') == 2
    groups = report_read_by_dcmqi(paths["SR"], tmp_path)["Measurements"]
    assert [group["TrackingIdentifier"] for group in groups] == [
        "Right lung (ct-lungs)",
        "Left lung (ct-lungs)",
    ]
    assert f"(0062,0001) CS [{encoding}]" in said_by("dcmdump", paths["SEG"])
