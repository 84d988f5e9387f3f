"""Which UID changes with what: a re-run replaces, changed content is a new instance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dicom_node.encode.results import SegEncoding, encode
from dicom_node.finding import Finding
from dicom_node.model import Result
from tests.factories import make_ct_series
from tests.unit.encode.findings import (
    ENGINE,
    STAMP,
    blobs,
    headers_of,
    probable,
    read,
    segmentation,
)

CT = headers_of(make_ct_series(4))
SAID = segmentation(CT)


def _flipped() -> Finding:
    mask = blobs(CT)
    mask[0, 3, 2] = 0
    return segmentation(CT, mask)


def _with(**changes: object) -> Finding:
    return segmentation(CT, engine=replace(ENGINE, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("finding", "instance_changes", "series_changes", "tracking_changes"),
    [
        (SAID, False, False, False),
        (_with(runtime="openvino 2026.1 CPU"), False, False, False),
        (_flipped(), True, False, False),
        (replace(SAID, warnings=("Something else.",)), True, False, False),
        (_with(model_digest="cd" * 32), True, False, False),
        (_with(version="1.0.1"), True, True, False),
        (_with(name="other-lungs"), True, True, True),
    ],
    ids=["same", "runtime", "one voxel", "warning", "model", "version", "engine"],
)
def test_uids_change_with_what_is_said_and_who_says_it(
    finding: Finding, instance_changes: bool, series_changes: bool, tracking_changes: bool
) -> None:
    for one, other in zip(encode(SAID, CT, STAMP), encode(finding, CT, STAMP), strict=True):
        assert (one.sop_instance_uid != other.sop_instance_uid) is instance_changes
        assert (one.series_instance_uid != other.series_instance_uid) is series_changes
    seg, other_seg = (read(encode(said, CT, STAMP)[0]) for said in (SAID, finding))
    changed = seg.SegmentSequence[0].TrackingUID != other_seg.SegmentSequence[0].TrackingUID
    assert changed is tracking_changes


def test_each_encoding_has_a_seg_and_a_report_of_its_own_in_series_of_their_own() -> None:
    results = [result for encoding in SegEncoding for result in encode(SAID, CT, STAMP, encoding)]
    assert len({result.sop_instance_uid for result in results}) == 6
    assert len({result.series_instance_uid for result in results}) == 6
    descriptions = [read(result).SeriesDescription for result in results]
    assert descriptions[2:4] == ["ct-lungs SEG LABELMAP 1.0.0", "ct-lungs SR LABELMAP 1.0.0"]


def test_without_a_seg_the_report_is_the_same_for_all_encodings() -> None:
    nothing = segmentation(CT, np.zeros((4, 64, 64), np.uint8))
    reports = [encode(nothing, CT, STAMP, encoding)[0] for encoding in SegEncoding]
    assert len({report.content for report in reports}) == 1


def test_probabilities_are_content() -> None:
    likely = probable(CT)
    assert likely.probabilities is not None
    less = replace(likely, probabilities=np.asarray(likely.probabilities) // 2)
    uids = [encode(said, CT, STAMP)[0].sop_instance_uid for said in (SAID, likely, less)]
    assert len(set(uids)) == 3


def test_a_source_more_is_another_instance_of_the_same_series() -> None:
    more = headers_of(make_ct_series(5))
    mask = np.concatenate([blobs(CT), np.zeros((1, 64, 64), np.uint8)])
    for one, other in zip(
        encode(SAID, CT, STAMP), encode(segmentation(more, mask), more, STAMP), strict=True
    ):
        assert one.sop_instance_uid != other.sop_instance_uid
        assert one.series_instance_uid == other.series_instance_uid


def test_seg_and_sr_are_two_instances_in_two_series_of_our_own_numbers() -> None:
    seg, report = (read(result) for result in encode(SAID, CT, STAMP))
    assert seg.SOPInstanceUID != report.SOPInstanceUID
    assert seg.SeriesInstanceUID != report.SeriesInstanceUID
    assert 9000 <= seg.SeriesNumber < 9500 <= report.SeriesNumber < 10000
    assert seg.SeriesDescription == "ct-lungs SEG 1.0.0"
    assert report.SeriesDescription == "ct-lungs SR 1.0.0"


def test_tracking_identifiers_are_the_same_in_seg_and_sr() -> None:
    seg, report = (read(result) for result in encode(SAID, CT, STAMP))
    in_seg = [(item.TrackingID, item.TrackingUID) for item in seg.SegmentSequence]
    measurements = next(
        item
        for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeMeaning == "Imaging Measurements"
    )
    in_sr = [
        (group.ContentSequence[0].TextValue, group.ContentSequence[1].UID)
        for group in measurements.ContentSequence
    ]
    assert in_seg == in_sr
    assert len(set(in_seg)) == 2


def test_a_revision_has_the_next_instance_number_and_names_the_last_report() -> None:
    older = [
        Result(f"1.2.{n}", "1.2.840.10008.5.1.4.1.1.88.34", "1.2", "1", "", "", "SR", "", 0, "")
        for n in (8, 9)
    ]
    seg, report = (read(one) for one in encode(SAID, CT, replace(STAMP, predecessors=(*older,))))
    assert (seg.InstanceNumber, report.InstanceNumber) == (3, 3)
    assert "PredecessorDocumentsSequence" not in seg
    [study] = report.PredecessorDocumentsSequence
    [document] = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert document.ReferencedSOPInstanceUID == "1.2.9"


def test_corrected_sources_make_new_instances_in_the_same_series() -> None:
    """Another patient or position can leave mask and source UIDs as they were."""
    first = encode(SAID, CT, STAMP)
    corrected = encode(SAID, CT, replace(STAMP, job_key="another"))
    for before, after in zip(first, corrected, strict=True):
        assert before.sop_instance_uid != after.sop_instance_uid
        assert before.series_instance_uid == after.series_instance_uid
