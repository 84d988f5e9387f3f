"""Results on all kinds of sources, from tests/unit/test_sources.py, before dciodvfy and dcmqi."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicom_node.encode.results import encode
from dicom_node.inference import Outcome
from tests.factories import make_xray, write_series
from tests.unit.encode.findings import STAMP, headers_of, segmentation
from tests.unit.test_sources import NAMES, PROJECTIONS, SOURCES, Source, ct, folded, renamed
from tests.whole_way import classified, drawn
from tests.witness.programs import faults_found_by_dciodvfy, said_by
from tests.witness.readers import masks_read_by_dcmqi, report_read_by_dcmqi

pytestmark = pytest.mark.witness


def written(outcome: Outcome, folder: Path) -> dict[str, Path]:
    """Write results and return their paths by kind; dciodvfy passes them all."""
    paths = {}
    for one in outcome.encoded:
        paths[one.kind] = folder / f"{one.kind}.dcm"
        paths[one.kind].write_bytes(one.content)
        assert faults_found_by_dciodvfy(paths[one.kind]) == []
    return paths


OF_ITS_OWN = (
    "oblique CT, pixels not square",
    "CT that was compressed with loss",
    "MR",
    "enhanced CT",
    "enhanced CT, oblique, pixels not square",
    "enhanced CT, frames in no order",
    "enhanced CT in two instances",
    "enhanced CT of one frame twice",
    "enhanced CT with a localizer frame",
    "enhanced CT without attributes of type 2",
    "enhanced MR, sagittal",
    "breast tomosynthesis",
)
"""Those whose results have something that no other's have; test_results.py has more of CT."""


@pytest.mark.parametrize("made", [SOURCES[name] for name in OF_ITS_OWN], ids=OF_ITS_OWN)
def test_dcmqi_reads_the_mask_where_the_slices_lie(
    made: Callable[[], Source], tmp_path: Path
) -> None:
    source = made()
    files = write_series(source.sent, tmp_path / "sent")
    paths = written(drawn(files, tmp_path, is_ct=source.is_ct, modality=source.modality), tmp_path)
    slices = sorted(source.slices, key=along_the_normal)
    described, [mask] = masks_read_by_dcmqi(paths["SEG"], tmp_path / "dcmqi", slices)
    assert [one["SegmentLabel"] for one in described] == ["Ball"]
    least = -500 if source.is_ct else 500
    expected = np.stack(
        [
            one.pixel_array * float(one.get("RescaleSlope", 1))
            + float(one.get("RescaleIntercept", 0))
            > least
            for one in slices
        ]
    )
    np.testing.assert_array_equal(mask, expected)
    [group] = report_read_by_dcmqi(paths["SR"], tmp_path)["Measurements"]
    assert group["ReferencedSegment"] == 1


def along_the_normal(one: pydicom.Dataset) -> float:
    orientation = np.array(one.ImageOrientationPatient, float)
    normal = np.cross(orientation[:3], orientation[3:])
    return float(np.array(one.ImagePositionPatient, float) @ normal)


@pytest.mark.parametrize("modality", PROJECTIONS)
def test_what_is_said_of_single_images(modality: str, tmp_path: Path) -> None:
    files = write_series([make_xray(**PROJECTIONS[modality])], tmp_path / "sent")
    paths = written(classified(files, tmp_path, modality), tmp_path)
    [group] = report_read_by_dcmqi(paths["SR"], tmp_path)["Measurements"]
    assert group["qualitativeEvaluations"]
    assert 'IMAGE:(,,"Source of Measurement")' in said_by("dsrdump", paths["SR"])


@pytest.mark.parametrize("modality", PROJECTIONS)
def test_what_is_drawn_on_single_images(modality: str, tmp_path: Path) -> None:
    sources = headers_of([make_xray(**PROJECTIONS[modality])])
    for result in encode(segmentation(sources), sources, STAMP):
        path = tmp_path / f"{result.kind}.dcm"
        path.write_bytes(result.content)
        assert faults_found_by_dciodvfy(path) == []


@pytest.mark.parametrize(("charset_file", "name"), NAMES.values(), ids=NAMES)
def test_names_on_enhanced_sources(charset_file: str, name: str, tmp_path: Path) -> None:
    files = write_series(renamed(folded(ct()).sent, charset_file), tmp_path / "sent")
    for path in written(drawn(files, tmp_path), tmp_path).values():
        assert f"[{name}]" in said_by("dcmdump", "+P", "0010,0010", path)


@pytest.mark.parametrize(
    ("name", "modality", "bright"),
    [("mr-enhanced-siemens-xa10-1", "MR", 500.0), ("ct-enhanced-supplemental-2f", "CT", -900.0)],
)
def test_real_enhanced_images(
    name: str, modality: str, bright: float, data_dir: Path, tmp_path: Path
) -> None:
    file = data_dir / "enhanced" / f"{name}.dcm"
    outcome = drawn([file], tmp_path, is_ct=False, modality=modality, bright=bright)
    paths = written(outcome, tmp_path)
    dump = said_by("dcmdump", "+P", "0008,1160", paths["SEG"])
    assert dump.count("ReferencedFrameNumber") == len(outcome.finding.sop_instance_uids)
