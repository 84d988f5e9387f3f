"""Several time points of one series, from tests/unit/test_time_points.py, before other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_node.encode.profiles import PROFILES
from dicom_node.encode.trees import Wanted
from dicom_node.inference import Outcome, Wishes
from tests.unit.test_time_points import DYNAMIC, TIMES, Dynamic, echoes, perfusion
from tests.witness.programs import faults_found_by_dciodvfy, said_by
from tests.witness.readers import masks_read_by_dcmqi, report_read_by_dcmqi

pytestmark = pytest.mark.witness


def written(outcome: Outcome, folder: Path) -> dict[str, list[Path]]:
    """Write results and return their paths by kind; dciodvfy passes them all."""
    paths: dict[str, list[Path]] = {}
    for number, one in enumerate(outcome.encoded):
        path = folder / f"{number}-{one.kind}.dcm"
        path.write_bytes(one.content)
        assert faults_found_by_dciodvfy(path) == []
        paths.setdefault(one.kind, []).append(path)
    return paths


@pytest.mark.parametrize("made", DYNAMIC.values(), ids=DYNAMIC)
def test_dcmqi_reads_the_mask_of_each_time_point(made: Any, tmp_path: Path) -> None:
    source: Dynamic = made()
    paths = written(source.run(tmp_path), tmp_path)
    least = -500 if source.is_ct else 500
    for number, (path, slices) in enumerate(zip(paths["SEG"], source.times, strict=True)):
        _, [mask] = masks_read_by_dcmqi(path, tmp_path / f"dcmqi{number}", slices)
        expected = np.stack([one.pixel_array > least for one in slices])
        np.testing.assert_array_equal(mask, expected)
    [report] = paths["SR"]
    groups = report_read_by_dcmqi(report, tmp_path)["Measurements"]
    assert [group["ReferencedSegment"] for group in groups] == [1] * TIMES
    assert len({group["segmentationSOPInstanceUID"] for group in groups}) == TIMES
    dump = said_by("dsrdump", "+Pl", report)
    assert dump.count('TEXT:(,,"Time Point")') == TIMES
    assert source.told in dump


@pytest.mark.parametrize("made", [perfusion, echoes])
def test_all_other_objects_of_several_time_points_conform(made: Any, tmp_path: Path) -> None:
    """In BINARY: dciodvfy takes no label map for a segmentation, which test_seg_encodings tells."""
    wishes = Wishes({"archive": Wanted(PROFILES["everything"])})
    paths = written(made().run(tmp_path, wishes=wishes), tmp_path)
    counts = {kind: len(of_kind) for kind, of_kind in paths.items()}
    assert counts == {"SEG": 3, "SR": 2, "PR": 3, "SC": 3, "KO": 1, "PDF": 1}
