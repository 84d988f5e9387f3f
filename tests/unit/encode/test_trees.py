"""Trees: each is closed, the default one is what it was, and what is shared is made once."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from io import BytesIO

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset

from dicom_node.encode.profiles import DEFAULT, PROFILES, Profile
from dicom_node.encode.results import Encoded, SegEncoding, encode
from dicom_node.encode.trees import Trees, Wanted, encode_trees
from dicom_node.errors import InvariantBroken
from dicom_node.finding import Code, Finding, ValueMap
from dicom_node.gate.inspection import inspect
from dicom_node.model import Result
from tests.factories import make_ct_series, make_xray
from tests.unit.encode.findings import (
    STAMP,
    classification,
    headers_of,
    quality,
    segmentation,
)
from tests.unit.gate.trees import checked, whole

CT = make_ct_series(6)
HEADERS = headers_of(CT)
XRAYS = [make_xray(number=1), make_xray(number=2)]
MAP = ValueMap(
    "Probability",
    np.random.default_rng(1).random((6, 64, 64), np.float32),
    Code("122157", "DCM", "Probability"),
    Code("1", "UCUM", "no units"),
)
LUNGS = replace(segmentation(HEADERS), maps=(MAP,))


def trees_of(
    finding: Finding = LUNGS,
    instances: list[FileDataset] = CT,
    predecessors: tuple[Result, ...] = (),
    **profiles: Profile | str,
) -> Trees:
    by_uid = {str(one.SOPInstanceUID): one for one in instances}
    wanted = {
        name: Wanted(PROFILES[one] if isinstance(one, str) else one)
        for name, one in profiles.items()
    }
    stamp = replace(STAMP, predecessors=predecessors)
    return encode_trees(finding, headers_of(instances), stamp, wanted, by_uid.__getitem__)


def of(trees: Trees, rendition: str) -> list[Encoded]:
    return [one for one in trees.encoded if rendition in one.renditions]


def kinds(trees: Trees, rendition: str) -> list[str]:
    return [one.kind for one in of(trees, rendition)]


def listed(report: Encoded) -> set[str]:
    dataset = pydicom.dcmread(BytesIO(whole(report)))
    return {
        instance.ReferencedSOPInstanceUID
        for study in dataset.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }


def test_the_default_tree_is_byte_for_byte_what_it_is_alone() -> None:
    alone = encode(LUNGS, HEADERS, STAMP)
    trees = trees_of(pacs="everything", viewer="no-seg", old="default")
    assert [(one.kind, whole(one)) for one in of(trees, DEFAULT)] == [
        (one.kind, whole(one)) for one in alone
    ]
    assert trees.renditions["old"] == DEFAULT


def test_without_any_wish_there_is_the_default_tree_alone() -> None:
    trees = trees_of()
    assert kinds(trees, DEFAULT) == ["SEG", "SR"]
    assert len(trees.encoded) == 2
    assert trees.renditions == {}


def test_destinations_that_want_the_same_share_a_tree() -> None:
    trees = trees_of(one="ohif", other="orthanc", third="no-seg")
    assert trees.renditions == {"one": DEFAULT, "other": DEFAULT, "third": "PR+SC+KO+SR"}
    assert kinds(trees, "PR+SC+KO+SR") == ["PR", "SC", "KO", "SR"]


def test_an_object_that_is_the_same_in_two_trees_is_made_once() -> None:
    trees = trees_of(all="everything", weasis="weasis")
    [seg] = [one for one in trees.encoded if one.kind == "SEG"]
    assert set(seg.renditions) == {DEFAULT, *trees.renditions.values()}
    reports = [one for one in trees.encoded if one.kind == "SR"]
    assert len({one.sop_instance_uid for one in reports}) == 3
    assert len({one.series_instance_uid for one in reports}) == 3, "one report a series"


@pytest.mark.parametrize(
    ("finding", "instances"),
    [(LUNGS, CT), (classification(headers_of(XRAYS)), XRAYS), (quality(headers_of(XRAYS)), XRAYS)],
    ids=["segmentation", "classification", "quality"],
)
def test_each_tree_passes_the_gate_by_itself(
    finding: Finding, instances: list[FileDataset]
) -> None:
    labelmap = replace(PROFILES["everything"], labelmap=True)
    trees = trees_of(finding, instances, a="everything", b="no-seg", c="sr-text-only", d=labelmap)
    for name in {DEFAULT, *trees.renditions.values()}:
        tree = [checked(one.kind, whole(one)) for one in of(trees, name)]
        assert inspect(tree, finding, headers_of(instances)) == ()


def test_the_report_comes_last_and_lists_its_tree_and_nothing_of_another() -> None:
    trees = trees_of(all="everything", some="no-seg")
    for name in {DEFAULT, *trees.renditions.values()}:
        *others, report = of(trees, name)
        assert report.kind == "SR"
        assert listed(report) == {
            *(one.sop_instance_uid for one in others),
            *(str(header.SOPInstanceUID) for header in HEADERS),
        }


def test_a_report_without_a_segmentation_still_tells_what_was_found() -> None:
    trees = trees_of(text="sr-text-only")
    [report] = of(trees, "SR")
    dataset = pydicom.dcmread(BytesIO(whole(report)))
    text = dataset.to_json()
    assert "Absent" not in text
    assert text.count("52101004") == 2  # Present, of both lungs
    assert f"{LUNGS.segments[0].volume_ml:.3f}".rstrip("0") in text
    assert not any(
        "ReferencedSegmentNumber" in str(item) for item in dataset.iterall() if item.VR == "US"
    )


def test_a_label_map_has_a_kind_of_its_own_and_its_own_report() -> None:
    trees = trees_of(pacs=replace(PROFILES["default"], labelmap=True))
    assert kinds(trees, "LABELMAP+SR") == ["LABELMAP", "SR"]
    assert kinds(trees, DEFAULT) == ["SEG", "SR"]
    classes = {one.kind: one.sop_class_uid for one in trees.encoded}
    assert classes["LABELMAP"] != classes["SEG"]


def test_a_report_replaces_the_earlier_one_of_its_own_tree() -> None:
    first = trees_of(some="no-seg")
    earlier = []
    for one in first.encoded:
        if one.kind == "SR":
            result = checked("SR", whole(one)).result
            earlier.append(replace(result, renditions=one.renditions))
    second = trees_of(predecessors=tuple(earlier), some="no-seg")
    for one in second.encoded:
        if one.kind == "SR":
            dataset = pydicom.dcmread(BytesIO(whole(one)))
            [study] = dataset.PredecessorDocumentsSequence
            named = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
            [own] = [result for result in earlier if result.renditions == one.renditions]
            assert named.ReferencedSOPInstanceUID == own.sop_instance_uid


def test_the_same_wishes_give_the_same_bytes() -> None:
    def digests() -> list[str]:
        return [
            hashlib.sha256(whole(one)).hexdigest() for one in trees_of(all="everything").encoded
        ]

    assert digests() == digests()


def test_a_finding_without_its_sources_is_our_mistake() -> None:
    with pytest.raises(InvariantBroken):
        trees_of(replace(LUNGS, sop_instance_uids=LUNGS.sop_instance_uids[1:]))


def test_encodings_beside_each_other_are_told_apart() -> None:
    assert {str(one) for one in SegEncoding} == {"BINARY", "LABELMAP", "FRACTIONAL"}
