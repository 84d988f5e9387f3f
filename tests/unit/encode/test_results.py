"""encode(): what comes out for which finding, the same every time, and what is refused."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    RLELossless,
    SegmentationStorage,
)

from dicom_node.encode.results import SegEncoding, encode
from dicom_node.errors import InvariantBroken
from dicom_node.finding import Finding
from tests.factories import make_ct_series, make_xray
from tests.unit.encode.findings import (
    STAMP,
    blobs,
    classification,
    headers_of,
    lung,
    of_series,
    overlapping,
    probable,
    quality,
    read,
    regression,
    segmentation,
)

LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
CT = headers_of(make_ct_series(6))
XRAYS = headers_of([make_xray(number=1), make_xray(number=2)])


@pytest.mark.parametrize(
    ("finding", "sources", "kinds"),
    [
        (segmentation(CT), CT, ["SEG", "SR"]),
        (segmentation(CT, np.zeros((6, 64, 64), np.uint8)), CT, ["SR"]),
        (classification(XRAYS), XRAYS, ["SR"]),
        (quality(XRAYS), XRAYS, ["SR"]),
        (regression(XRAYS), XRAYS, ["SR"]),
        (of_series(classification(CT)), CT, ["SR"]),
        (overlapping(CT), CT, ["SEG", "SR"]),
    ],
    ids=[
        "segmentation",
        "nothing segmented",
        "classification",
        "quality",
        "regression",
        "classification of a series",
        "overlapping segments",
    ],
)
def test_every_kind_of_finding_has_its_objects(
    finding: Finding, sources: list[Any], kinds: list[str]
) -> None:
    results = encode(finding, sources, STAMP)

    assert [result.kind for result in results] == kinds
    for result in results:
        dataset = read(result)
        assert result.sop_class_uid == {
            "SEG": SegmentationStorage,
            "SR": Comprehensive3DSRStorage,
        }.get(result.kind)
        assert result.transfer_syntax_uid == ExplicitVRLittleEndian
        assert result.sop_instance_uid == dataset.SOPInstanceUID
        assert result.sop_instance_uid == dataset.file_meta.MediaStorageSOPInstanceUID
        assert result.series_instance_uid == dataset.SeriesInstanceUID
        assert result.study_instance_uid == dataset.StudyInstanceUID
        assert dataset.StudyInstanceUID == sources[0].StudyInstanceUID


@pytest.mark.parametrize(
    ("wanted", "finding", "sop_class_uid", "syntax", "seg_type"),
    [
        (SegEncoding.LABELMAP, segmentation(CT), LABEL_MAP, RLELossless, None),
        (SegEncoding.FRACTIONAL, probable(CT), SegmentationStorage, RLELossless, None),
        (SegEncoding.FRACTIONAL, segmentation(CT), SegmentationStorage, RLELossless, None),
        (
            SegEncoding.LABELMAP,
            overlapping(CT),
            SegmentationStorage,
            ExplicitVRLittleEndian,
            SegEncoding.BINARY,
        ),
    ],
    ids=["label map", "probabilities", "a mask as fractions", "overlap has no label map"],
)
def test_the_seg_is_encoded_as_it_is_wanted(
    wanted: SegEncoding,
    finding: Finding,
    sop_class_uid: str,
    syntax: str,
    seg_type: SegEncoding | None,
) -> None:
    result, report = encode(finding, CT, STAMP, wanted)
    seg = read(result)
    assert (result.kind, report.kind) == ("SEG", "SR")
    assert result.sop_class_uid == seg.SOPClassUID == sop_class_uid
    assert result.transfer_syntax_uid == seg.file_meta.TransferSyntaxUID == syntax
    assert seg.SegmentationType == (seg_type or wanted)
    evidence = read(report).CurrentRequestedProcedureEvidenceSequence[0]
    named = evidence.ReferencedSeriesSequence[1].ReferencedSOPSequence[0]
    assert named.ReferencedSOPClassUID == sop_class_uid
    assert named.ReferencedSOPInstanceUID == result.sop_instance_uid


def test_a_file_is_the_same_each_time_that_it_is_gone_through() -> None:
    for encoding in SegEncoding:
        for result in encode(probable(CT), CT, STAMP, encoding):
            first, second = (list(map(bytes, result.pieces)) for _ in range(2))
            assert first == second
            assert result.kind == "SR" or len(first) > 5


def test_results_are_the_same_bytes_in_another_process_with_another_hash_seed() -> None:
    script = (
        "import hashlib\n"
        "from tests.factories import make_ct_series\n"
        "from tests.unit.encode.findings import STAMP, headers_of, segmentation\n"
        "from dicom_node.encode.results import encode\n"
        "ct = headers_of(make_ct_series(6))\n"
        "for result in encode(segmentation(ct), ct, STAMP):\n"
        "    print(hashlib.sha256(result.content).hexdigest())\n"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for seed in ("1", "2")
    ]
    here = [
        hashlib.sha256(result.content).hexdigest() for result in encode(segmentation(CT), CT, STAMP)
    ]
    assert printed == [here, here]


def test_sources_are_not_changed() -> None:
    before = deepcopy(CT)
    encode(segmentation(CT), CT, STAMP)
    assert before == CT


def test_only_times_differ_between_two_jobs() -> None:
    first, second = (
        [read(result) for result in encode(segmentation(CT), CT, stamp)]
        for stamp in (STAMP, replace(STAMP, created_at=STAMP.created_at + 1))
    )
    for one, other in zip(first, second, strict=True):
        for keyword in ("InstanceCreationTime", "ContentTime", "ContributingEquipmentSequence"):
            assert one[keyword] != other[keyword]
            other[keyword] = one[keyword]
        assert one == other


MASK = blobs(CT)


@pytest.mark.parametrize(
    "finding",
    [
        replace(segmentation(CT), mask=None),
        replace(segmentation(CT), mask=MASK[1:]),
        replace(segmentation(CT), mask=MASK[:, 1:]),
        replace(segmentation(CT), mask=MASK.astype(np.int32)),  # type: ignore[arg-type]
        replace(segmentation(CT), mask=np.stack([MASK == 1, MASK == 2])[:, 1:]),
        replace(segmentation(CT), mask=np.stack([MASK, MASK])),
        replace(segmentation(CT), mask=np.stack([MASK == 1, MASK == 2, MASK == 3])),
        replace(segmentation(CT), segments=segmentation(CT).segments[:1]),
        replace(
            segmentation(CT),
            segments=(*segmentation(CT).segments, lung(256, "Another", None, 0.0)),
        ),
        replace(
            overlapping(CT),
            mask=np.zeros((256, 6, 64, 64), np.bool_),
            segments=tuple(lung(number, str(number), None, 0.0) for number in range(1, 257)),
        ),
        replace(segmentation(CT), segments=()),
        replace(segmentation(CT), sop_instance_uids=segmentation(CT).sop_instance_uids[::-1]),
        replace(segmentation(CT), sop_instance_uids=segmentation(CT).sop_instance_uids[1:]),
        replace(segmentation(CT), sop_instance_uids=()),
        replace(classification(CT), classifications=()),
        replace(classification(CT), classifications=classification(XRAYS).classifications),
        replace(quality(CT), qualities=quality(XRAYS).qualities),
        replace(regression(CT), values=regression(XRAYS).values),
    ],
    ids=[
        "no mask",
        "a slice too few",
        "a row too few",
        "not uint8",
        "a slice too few in overlapping maps",
        "overlapping maps of numbers",
        "a map too many",
        "voxels of a segment that is not described",
        "a number beyond a label's byte",
        "more segments than labels",
        "no segments",
        "sources in another order",
        "a source too many",
        "no sources named",
        "nothing said",
        "says something of a foreign image",
        "grades a foreign image",
        "measures a foreign image",
    ],
)
def test_a_finding_that_does_not_belong_to_its_sources_is_our_mistake(finding: Finding) -> None:
    with pytest.raises(InvariantBroken):
        encode(finding, CT, STAMP)


def test_what_highdicom_raises_becomes_ours_and_quotes_no_patient() -> None:
    unknown = headers_of(make_ct_series(2, SOPClassUID="1.2.3.4", PatientName="Secret^Name"))
    with pytest.raises(InvariantBroken) as caught:
        encode(segmentation(unknown), unknown, STAMP)
    assert "KeyError" in caught.value.message
    assert "Secret" not in caught.value.message
    assert isinstance(caught.value.__cause__, KeyError)


def test_no_warning_quotes_a_name_that_highdicom_doubts(
    recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    sources = headers_of(make_ct_series(2, PatientName="OnlyOneComponent"))
    results = encode(segmentation(sources), sources, STAMP)
    assert not [str(warning.message) for warning in recwarn]
    assert "OnlyOneComponent" not in caplog.text
    assert [read(result).PatientName for result in results] == ["OnlyOneComponent"] * 2


@pytest.mark.parametrize(
    "probabilities",
    [
        np.zeros((2, 6, 64, 63), np.uint8),
        np.zeros((1, 6, 64, 64), np.uint8),
        np.ones((2, 6, 64, 64), np.float32),
    ],
    ids=["another grid", "of one segment", "not of a byte"],
)
def test_probabilities_that_do_not_belong_to_the_mask_are_our_mistake(
    probabilities: Any,
) -> None:
    finding = replace(segmentation(CT), probabilities=probabilities)
    with pytest.raises(InvariantBroken, match="probab"):
        encode(finding, CT, STAMP, SegEncoding.FRACTIONAL)
    encode(finding, CT, STAMP, SegEncoding.LABELMAP)  # which does not look at them


def test_one_mask_of_two_x_rays_is_our_mistake() -> None:
    with pytest.raises(InvariantBroken, match="no place in the patient"):
        encode(segmentation(XRAYS), XRAYS, STAMP)


def test_two_slices_at_one_place_are_our_mistake() -> None:
    twice = [*CT[:3], *deepcopy(CT[2:3])]
    twice[3].SOPInstanceUID = "1.2.3"
    with pytest.raises(InvariantBroken, match="two slices at one place"):
        encode(segmentation(twice), twice, STAMP)
