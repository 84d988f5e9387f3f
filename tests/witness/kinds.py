"""One result of each kind that the node makes, for witnesses that take long to start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pydicom.dataset import Dataset

from dicom_node.encode.results import Encoded, encode
from dicom_node.finding import Finding, QualityGrade
from tests.factories import make_ct_series, make_enhanced, make_xray, write_series
from tests.unit.encode.findings import (
    STAMP,
    classification,
    headers_of,
    of_series,
    overlapping,
    quality,
    regression,
    segmentation,
)
from tests.unit.encode.test_rejection import note_on
from tests.unit.test_time_points import echoes
from tests.whole_way import drawn, shape_in

Make = Callable[[list[Dataset]], Finding]

ON_CT: dict[str, Make] = {
    "segments": segmentation,
    "segments-overlapping": overlapping,
    "classification-of-slices": classification,
    "quality-of-series": lambda headers: of_series(quality(headers)),
}
ON_X_RAY: dict[str, Make] = {
    "region": segmentation,
    "classification": classification,
    "nothing-found": lambda headers: classification(headers, 0.07),
    "quality": lambda headers: quality(headers, QualityGrade.NON_DIAGNOSTIC),
    "regression": regression,
}


def write_one_of_each(folder: Path) -> dict[str, Path]:
    """Write them; return their paths by name, which ends in the kind: segments-SEG, segments-SR."""
    ct, xray = headers_of(make_ct_series(5)), headers_of([make_xray()])
    made: dict[str, tuple[Encoded, ...]] = {}
    for headers, finders in ((ct, ON_CT), (xray, ON_X_RAY)):
        for name, make in finders.items():
            made[name] = encode(make(headers), headers, STAMP)
    old, note = note_on(ct)
    made["revision"] = encode(
        segmentation(ct), ct, replace(STAMP, job_key="another", predecessors=(old[-1],))
    )
    made["revision-note"] = (note,)
    frames = make_enhanced(make_ct_series(pixels=shape_in(5)))
    files = write_series([frames], folder / "enhanced")
    made["enhanced"] = drawn(files, folder).encoded
    made["time-points"] = echoes().run(folder / "echoes").encoded
    paths: dict[str, Path] = {}
    for name, results in made.items():
        for number, one in enumerate(results, start=1):
            key = f"{name}-{one.kind}"
            key = f"{name}-{number}-{one.kind}" if key in paths else key
            paths[key] = folder / f"{key}.dcm"
            paths[key].write_bytes(one.content)
    return paths
