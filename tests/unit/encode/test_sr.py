"""The report: its tree as text, one line an item, so that a case is read as a reader sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.encode.results import encode
from dicom_node.finding import Code, Finding, Measurement, QualityGrade
from tests.factories import make_ct_series, make_mr_series, make_xray
from tests.unit.encode.findings import (
    STAMP,
    blobs,
    classification,
    headers_of,
    of_series,
    quality,
    read,
    regression,
    segmentation,
    uids_of,
)

CT = headers_of(make_ct_series(6))
MILLIMETRE = Code("mm", "UCUM", "millimeter")
MEAN = Code("373098007", "SCT", "Mean")
XRAYS = headers_of([make_xray(number=1), make_xray(number=2)])


def lines(item: Dataset, depth: int = 0) -> Iterator[str]:
    """Yield a content item and what it contains, as `name = value`."""
    name = item.ConceptNameCodeSequence[0].CodeMeaning
    match item.ValueType:
        case "TEXT":
            value = item.TextValue
        case "CODE":
            code = item.ConceptCodeSequence[0]
            value = f"{code.CodeValue} {code.CodingSchemeDesignator}"
        case "NUM":
            number = item.MeasuredValueSequence[0]
            unit = number.MeasurementUnitsCodeSequence[0].CodeValue
            value = f"{number.NumericValue} {unit}"
        case "IMAGE":
            sop = item.ReferencedSOPSequence[0]
            value = f"{sop.ReferencedSOPInstanceUID}"
            if "ReferencedSegmentNumber" in sop:
                value += f" segment {sop.ReferencedSegmentNumber}"
        case "UIDREF":
            value = str(item.UID)
        case _:
            value = ""
    yield f"{'  ' * depth}{name} = {value}" if value else f"{'  ' * depth}{name}"
    for child in item.get("ContentSequence", ()):
        yield from lines(child, depth + 1)


def report_of(finding: Finding, sources: list[Dataset]) -> Dataset:
    return read(encode(finding, sources, STAMP)[-1])


def groups_of(report: Dataset) -> list[list[str]]:
    """Return the lines of each Measurement Group, without algorithm and UIDs."""
    groups: list[list[str]] = []
    for line in lines(report):
        if line == "    Measurement Group":
            groups.append([])
        elif groups and line.startswith("      "):
            groups[-1].append(line.strip())
    hidden = ("Algorithm ", "Tracking Unique Identifier")
    return [[line for line in group if not line.startswith(hidden)] for group in groups]


def test_the_report_names_language_observer_procedure_and_one_image_of_the_series() -> None:
    text = list(lines(report_of(segmentation(CT), CT)))
    assert text[:3] == [
        "Imaging Measurement Report",
        "  Language of Content Item and Descendants = en-US RFC5646",
        "  Observer Type = 121007 DCM",
    ]
    assert "  Device Observer Name = Lungs on chest CT" in text
    assert "  Device Observer Model Name = ct-lungs" in text
    assert "  Device Observer Serial Number = DICOM_NODE" in text
    assert "  Procedure reported = 25045-6 LN" in text
    assert [line for line in text if "Source = " in line] == [
        f"      Source = {CT[0].SOPInstanceUID}"
    ]


@pytest.mark.parametrize(
    ("sources", "code"),
    [
        (CT, "25045-6 LN"),
        (headers_of(make_mr_series(2)), "25056-3 LN"),
        (XRAYS, "43468-8 LN"),
        (headers_of([make_xray(Modality="XA")]), "363679005 SCT"),
    ],
    ids=["CT", "MR", "CR", "other"],
)
def test_the_procedure_reported_follows_the_modality(sources: list[Dataset], code: str) -> None:
    report = report_of(classification(sources), sources)
    assert f"  Procedure reported = {code}" in list(lines(report))


def test_a_segmentation_has_a_group_a_segment_with_volume_and_reference() -> None:
    seg, report = (read(result) for result in encode(segmentation(CT), CT, STAMP))
    volume_ml = round(float((blobs(CT) == 1).sum()) * 0.002, 3)
    right, left = groups_of(report)
    assert right == [
        "Tracking Identifier = Right lung (ct-lungs)",
        "Finding = 39607008 SCT",
        "Finding Site = 39607008 SCT",
        "Laterality = 24028007 SCT",
        f"Volume = {volume_ml} ml",
        f"Referenced Segment = {seg.SOPInstanceUID} segment 1",
        f"Source Series for Segmentation = {CT[0].SeriesInstanceUID}",
    ]
    assert f"Referenced Segment = {seg.SOPInstanceUID} segment 2" in left


def test_each_measurement_has_its_concept_its_unit_and_how_it_came_about() -> None:
    hounsfield = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
    attenuation = Code("112031", "DCM", "Attenuation Coefficient")
    measured = (
        Measurement("long_axis_mm", 12.34567, MILLIMETRE, Code("103339001", "SCT", "Long axis")),
        Measurement("voxel_count", 77, Code("1", "UCUM", "no units"), None),
        Measurement("mean_value", -812.5, hounsfield, attenuation, MEAN),
    )
    finding = segmentation(CT)
    right, left = finding.segments
    finding = replace(finding, segments=(replace(right, measurements=measured), left))
    group = groups_of(report_of(finding, CT))[0]
    assert group[4:7] == [
        "Long axis = 12.346 mm",
        "Attenuation Coefficient = -812.5 [hnsf'U]",
        "Derivation = 373098007 SCT",
    ]
    assert not any("Volume" in line or "77" in line for line in group)


@pytest.mark.parametrize("missing", [(1,), (2,), (1, 2)])
def test_a_segment_without_voxels_is_reported_absent(missing: tuple[int, ...]) -> None:
    mask = np.where(np.isin(blobs(CT), missing), 0, blobs(CT)).astype(np.uint8)
    groups = groups_of(report_of(segmentation(CT, mask), CT))
    for number, group in enumerate(groups, start=1):
        absent = "Presence = 272519000 SCT" in group
        assert absent is (number in missing)
        assert absent is not any(line.startswith("Referenced Segment") for line in group)


@pytest.mark.parametrize(
    ("probability", "presence"),
    [(0.93, "52101004"), (0.5, "52101004"), (0.4999, "272519000"), (0.0, "272519000")],
)
def test_a_classification_is_present_or_absent_with_its_probability(
    probability: float, presence: str
) -> None:
    groups = groups_of(report_of(classification(XRAYS, probability), XRAYS))
    assert groups == [
        [
            "Tracking Identifier = Pneumonia (ct-lungs)",
            "Finding = 233604007 SCT",
            f"Probability = {probability} 1",
            f"Presence = {presence} SCT",
            f"Source of Measurement = {uid}",
        ]
        for uid in uids_of(XRAYS)
    ]


@pytest.mark.parametrize(
    ("grade", "code"),
    [
        (QualityGrade.DIAGNOSTIC, "RID12"),
        (QualityGrade.LIMITED, "RID13"),
        (QualityGrade.NON_DIAGNOSTIC, "RID14"),
    ],
)
def test_a_grade_is_coded_and_its_found_faults_are_in_words(grade: QualityGrade, code: str) -> None:
    groups = groups_of(report_of(quality(XRAYS, grade), XRAYS))
    assert groups == [
        [
            "Tracking Identifier = Image quality (ct-lungs)",
            "Finding = 111050 DCM",
            f"Imaging Series Quality = {code} RADLEX",
            f"Source of Measurement = {uid}",
            "Comment = Rotated (0.91)",
            "Comment = AP view (0.97)",
        ]
        for uid in uids_of(XRAYS)
    ]


def test_a_value_is_a_number_with_its_unit() -> None:
    groups = groups_of(report_of(regression(XRAYS), XRAYS))
    assert groups == [
        [
            "Tracking Identifier = Bone age (ct-lungs)",
            "Finding = BONE_AGE 99TEST",
            "Bone age = 131.25 mo",
            f"Source of Measurement = {uid}",
        ]
        for uid in uids_of(XRAYS)
    ]


@pytest.mark.parametrize("make", [classification, quality, regression])
def test_what_is_said_of_a_series_singles_out_no_image(make: Callable[..., Finding]) -> None:
    whole, each = of_series(make(CT)), make(CT)
    (of_whole,), of_each = groups_of(report_of(whole, CT)), groups_of(report_of(each, CT))
    source = f"Source of Measurement = {CT[0].SOPInstanceUID}"
    assert of_whole == [line for line in of_each[0] if line != source]
    uids = [line for line in lines(report_of(each, CT)) if "Tracking Unique Identifier" in line]
    (uid,) = [line for line in lines(report_of(whole, CT)) if "Tracking Unique Identifier" in line]
    assert uid not in uids


@pytest.mark.parametrize(
    ("finding", "sources"),
    [
        (segmentation(CT), CT),
        (classification(XRAYS), XRAYS),
        (quality(XRAYS), XRAYS),
        (regression(XRAYS), XRAYS),
    ],
    ids=["segmentation", "classification", "quality", "regression"],
)
def test_every_group_names_its_algorithm(finding: Finding, sources: list[Dataset]) -> None:
    text = [line.strip() for line in lines(report_of(finding, sources))]
    groups = text.count("Measurement Group")
    for line in (
        "Algorithm Name = ct-lungs",
        "Algorithm Version = 1.0.0",
        f"Algorithm Parameters = model sha256 {'ab' * 32}",
        "Algorithm Parameters = runtime onnxruntime 1.20.0 CPU",
    ):
        assert text.count(line) == groups
    thresholds = text.count("Algorithm Parameters = threshold 0.5")
    assert thresholds == len(finding.classifications)


def test_summary_warnings_limits_and_description_stand_in_the_report() -> None:
    finding = replace(segmentation(CT), warnings=("Slice 4 is missing.", "Tilted."))
    text = list(lines(report_of(finding, CT)))
    assert text[text.index("  Qualitative Evaluations") + 1 :] == [
        "    Comment = Both lungs.",
        "    Comment = Slice 4 is missing.",
        "    Comment = Tilted.",
        "    Comment = Trained on adults.",
        "    Comment = Not for children.",
        "    Comment = Finds both lungs on CT of the chest.",
    ]


def test_all_sources_are_evidence_of_what_is_said_of_a_series() -> None:
    report = report_of(of_series(regression(CT)), CT)
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert tuple(i.ReferencedSOPInstanceUID for i in series.ReferencedSOPSequence) == uids_of(CT)


def test_all_sources_and_the_seg_are_evidence() -> None:
    seg, report = (read(result) for result in encode(segmentation(CT), CT, STAMP))
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    evidence = {
        series.SeriesInstanceUID: tuple(
            item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence
        )
        for series in study.ReferencedSeriesSequence
    }
    assert study.StudyInstanceUID == CT[0].StudyInstanceUID
    assert evidence == {
        CT[0].SeriesInstanceUID: uids_of(CT),
        seg.SeriesInstanceUID: (seg.SOPInstanceUID,),
    }


def test_the_report_is_complete_unverified_and_preliminary() -> None:
    report = report_of(segmentation(CT), CT)
    assert report.CompletionFlag == "COMPLETE"
    assert report.VerificationFlag == "UNVERIFIED"
    assert report.PreliminaryFlag == "PRELIMINARY"


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientOrientation", None),
        ("PatientOrientation", ""),
        ("ImagerPixelSpacing", None),
        ("ImagerPixelSpacing", ""),
    ],
)
def test_an_x_ray_with_little_to_say_is_still_listed(keyword: str, value: str | None) -> None:
    sources = headers_of([make_xray()])
    if value is None:
        del sources[0][keyword]
    else:
        sources[0][keyword].value = value
    text = list(lines(report_of(classification(sources), sources)))
    assert f"      Source = {sources[0].SOPInstanceUID}" in text
