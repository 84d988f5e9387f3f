"""The words under a picture of a report tell two findings of one name apart."""

from __future__ import annotations

from pathlib import Path

from dicom_node.encode.results import encode
from dicom_node.harness.pictures import rows_of_sr
from tests.factories import make_ct_series
from tests.unit.encode.findings import STAMP, headers_of, read, segmentation
from tests.unit.test_time_points import echoes


def test_a_finding_is_told_with_its_side() -> None:
    sources = headers_of(make_ct_series(5))
    report = read(encode(segmentation(sources), sources, STAMP)[-1])
    findings = [row for row in rows_of_sr(report) if row.startswith("Finding: ")]
    assert findings == ["Finding: Lung, right", "Finding: Lung, left"]


def test_a_measurement_is_told_with_its_time_point(tmp_path: Path) -> None:
    outcome = echoes().run(tmp_path)
    rows = rows_of_sr(read(outcome.encoded[-1]))
    assert rows[0] == "Time Point: echo 1 of 3 (Echo Time 2.4 ms)"
    assert [row.partition(":")[0] for row in rows] == ["Time Point", "Finding", "Volume"] * 3
