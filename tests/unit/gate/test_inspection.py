"""The gate: what is whole passes; whatever is broken is found, and said in words."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import generate_uid

from dicom_node.encode.results import SegEncoding
from dicom_node.finding import Code, ValueMap
from dicom_node.gate.inspection import Checked, inspect
from tests.factories import CORONAL, make_ct_series, make_mr_series, make_xray
from tests.unit.encode.findings import (
    classification,
    headers_of,
    overlapping,
    quality,
    regression,
    segmentation,
)
from tests.unit.encode.materials import material_of
from tests.unit.gate.trees import (
    InMemory,
    Spoil,
    checked,
    other_objects,
    plain_tree,
    spoiled,
    verdicts_on,
)

CT = make_ct_series(6)
HEADERS = headers_of(CT)
FLOATS = np.random.default_rng(5).random((6, 64, 64), np.float32)
MAP = ValueMap(
    "Probability", FLOATS, Code("122157", "DCM", "Probability"), Code("1", "UCUM", "no units")
)
LUNGS = material_of(replace(segmentation(HEADERS), maps=(MAP,)), CT)
PLAIN = plain_tree(LUNGS)
LABELMAP = plain_tree(LUNGS, SegEncoding.LABELMAP)
OTHERS = other_objects(LUNGS)
XRAY = make_xray()
XRAYS = material_of(classification(headers_of([XRAY])), [XRAY])


def reasons(kind: str, spoil: Spoil, tree: dict[str, Checked] = PLAIN) -> tuple[str, ...]:
    """Return why an object is held back once it is spoiled; all others of its tree pass."""
    verdicts = verdicts_on(LUNGS, {**tree, kind: spoiled(tree[kind], spoil)})
    [verdict] = verdicts
    assert verdict.kind == kind
    return verdict.reasons


# ------------------------------------------------------------ what is whole


@pytest.mark.parametrize("encoding", SegEncoding)
@pytest.mark.parametrize(
    "make",
    [
        lambda: LUNGS,
        lambda: material_of(overlapping(HEADERS), CT),
        lambda: of(make_mr_series(4)),
        lambda: of(make_ct_series(4, orientation=CORONAL, spacing_mm=(3.0, 0.7, 1.3))),
        lambda: of(make_ct_series(1)),
        lambda: of(make_ct_series(5, pixels=np.zeros((5, 61, 53), np.int16))),
        lambda: of([XRAY]),
        lambda: XRAYS,
        lambda: material_of(quality(headers_of([XRAY])), [XRAY]),
        lambda: material_of(regression(headers_of([XRAY])), [XRAY]),
    ],
    ids=[
        *("lungs", "overlapping", "MR", "coronal", "one slice", "frames end in a byte"),
        *("mask on an X-ray", "classification", "quality", "regression"),
    ],
)
def test_whole_trees_pass(make: Callable[[], Any], encoding: SegEncoding) -> None:
    material = make()
    assert verdicts_on(material, plain_tree(material, encoding)) == ()
    assert verdicts_on(material, other_objects(material)) == ()


def of(instances: list[FileDataset]) -> Any:
    return material_of(segmentation(headers_of(instances)), instances)


def test_probabilities_are_compared_with_those_of_the_finding() -> None:
    chances = np.random.default_rng(2).integers(1, 255, (2, 6, 64, 64)).astype(np.uint8)
    finding = replace(segmentation(HEADERS), probabilities=chances)
    material = material_of(finding, CT)
    tree = plain_tree(material, SegEncoding.FRACTIONAL)
    assert verdicts_on(material, tree) == ()
    other = replace(material, finding=replace(finding, probabilities=chances[:, ::-1].copy()))
    assert [one.kind for one in verdicts_on(other, tree)] == ["SEG"]


def test_what_was_drawn_where_nothing_is_probable_has_its_frames() -> None:
    """A hole that was filled, a low threshold: the mask is there, and the network says zero."""
    chances = np.zeros((2, 6, 64, 64), np.uint8)
    chances[0, :3, :, :20] = 40
    material = material_of(replace(segmentation(HEADERS), probabilities=chances), CT)
    tree = plain_tree(material, SegEncoding.FRACTIONAL)
    assert verdicts_on(material, tree) == ()
    seg = pydicom.dcmread(BytesIO(tree["SEG"].file.read_bytes()))
    assert seg.NumberOfFrames == 12, "both segments are drawn in all six slices"


def test_what_the_scanner_said_wrong_is_no_fault_of_ours() -> None:
    odd = make_ct_series(3, PatientID="X" * 80, StudyID="A STUDY ID THAT IS FAR TOO LONG")
    material = of(odd)
    assert verdicts_on(material, plain_tree(material)) == ()


def test_a_file_on_a_disk_is_judged_as_one_in_memory(tmp_path: Path) -> None:
    for kind, one in PLAIN.items():
        (tmp_path / kind).write_bytes(one.file.read_bytes())
    tree = {kind: Checked(one.result, tmp_path / kind) for kind, one in PLAIN.items()}
    assert verdicts_on(LUNGS, tree) == ()


# ------------------------------------------------------------ attributes


def without(keyword: str) -> Spoil:
    return lambda dataset: delattr(dataset, keyword)


def with_value(keyword: str, value: Any) -> Spoil:
    return lambda dataset: setattr(dataset, keyword, value)


@pytest.mark.parametrize(
    ("kind", "spoil", "reason"),
    [
        ("SEG", without("ContentLabel"), "ContentLabel is missing (type 1)"),
        ("SEG", with_value("ContentLabel", ""), "ContentLabel is empty (type 1)"),
        ("SEG", without("PatientBirthDate"), "PatientBirthDate is missing (type 2)"),
        ("SEG", without("SegmentationType"), "SegmentationType is missing (type 1)"),
        (
            "SEG",
            lambda one: delattr(one.SegmentSequence[1], "SegmentLabel"),
            "SegmentSequence[2].SegmentLabel is missing (type 1)",
        ),
        (
            "SEG",
            lambda one: delattr(one.SegmentSequence[0], "SegmentAlgorithmName"),
            "SegmentSequence[1].SegmentAlgorithmName is required beside SegmentAlgorithmType "
            "(type 1C)",
        ),
        (
            "SEG",
            lambda one: delattr(one.SegmentSequence[0], "TrackingUID"),
            "SegmentSequence[1].TrackingUID is required beside TrackingID (type 1C)",
        ),
        (
            "SEG",
            lambda one: delattr(
                one.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0], "CodeValue"
            ),
            "SegmentSequence[1].SegmentedPropertyTypeCodeSequence[1].CodeMeaning has not one code "
            "beside it",
        ),
        ("SEG", with_value("LossyImageCompression", "01"), "LossyImageCompressionMethod is re"),
        ("SEG", without("PositionReferenceIndicator"), "PositionReferenceIndicator is missing"),
        ("SR", without("CompletionFlag"), "CompletionFlag is missing (type 1)"),
        ("SEG", without("DeviceSerialNumber"), "DeviceSerialNumber is missing (type 1)"),
    ],
)
def test_what_is_required_must_be_there(kind: str, spoil: Spoil, reason: str) -> None:
    assert any(one.startswith(reason) for one in reasons(kind, spoil))


@pytest.mark.parametrize(
    ("kind", "spoil", "reason"),
    [
        ("SC", without("ConversionType"), "ConversionType is missing (type 1)"),
        ("SC", without("PlanarConfiguration"), "PlanarConfiguration is required beside"),
        ("PR", without("DisplayedAreaSelectionSequence"), "DisplayedAreaSelectionSequence is mi"),
        ("PR", without("RescaleSlope"), "RescaleSlope is required beside RescaleIntercept"),
        (
            "PR",
            lambda one: delattr(one.GraphicAnnotationSequence[0], "GraphicLayer"),
            "GraphicAnnotationSequence[1].GraphicLayer is missing (type 1)",
        ),
        ("PDF", without("MIMETypeOfEncapsulatedDocument"), "MIMETypeOfEncapsulatedDocument is mi"),
        ("PDF", without("DocumentTitle"), "DocumentTitle is missing (type 2)"),
        ("PM", without("ContentQualification"), "ContentQualification is missing (type 1)"),
    ],
)
def test_other_objects_are_judged_by_their_own_tables(kind: str, spoil: Spoil, reason: str) -> None:
    assert any(one.startswith(reason) for one in reasons(kind, spoil, OTHERS))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (with_value("SeriesInstanceUID", "1.2.03"), "SeriesInstanceUID breaks its VR UI"),
        (with_value("ContentDate", "2023-11-14"), "ContentDate breaks its VR DA"),
        (with_value("ContentLabel", "lower case"), "ContentLabel breaks its VR CS"),
        (with_value("ContentDescription", "x" * 65), "ContentDescription breaks its VR LO"),
        (lambda one: one.add_new(0x00091001, "LO", "x"), "(0009,1001) is private"),
        (lambda one: one.add_new(0x00200013, "LO", "1"), "InstanceNumber is LO, not IS"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_values_must_fit_their_vr(spoil: Spoil, reason: str) -> None:
    assert reason in reasons("SEG", spoil)


def test_what_is_optional_may_be_left_out() -> None:
    tree = {**PLAIN, "SR": spoiled(PLAIN["SR"], without("DeviceSerialNumber"))}
    assert verdicts_on(LUNGS, tree) == ()


# ------------------------------------------------------------ frames


def test_every_frame_must_say_where_it_is() -> None:
    def spoil(seg: FileDataset) -> None:
        del seg.PerFrameFunctionalGroupsSequence[7].PlanePositionSequence

    found = reasons("SEG", spoil)
    assert found[0] == (
        "PerFrameFunctionalGroupsSequence[8].PlanePositionSequence is missing (type 1)"
    )


def test_an_empty_value_in_one_of_many_frames_is_found() -> None:
    def spoil(seg: FileDataset) -> None:
        item = seg.PerFrameFunctionalGroupsSequence[7].DerivationImageSequence[0]
        item.SourceImageSequence[0].ReferencedSOPClassUID = ""

    assert any("ReferencedSOPClassUID is empty (type 1)" in one for one in reasons("SEG", spoil))


def flipped(seg: FileDataset) -> None:
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
    frames = bits.reshape(seg.NumberOfFrames, seg.Rows, seg.Columns)
    seg.PixelData = np.packbits(frames[:, :, ::-1], bitorder="little").tobytes()


def one_voxel(seg: FileDataset) -> None:
    pixels = bytearray(seg.PixelData)
    pixels[-100] ^= 1
    seg.PixelData = bytes(pixels)


def shifted(seg: FileDataset) -> None:
    """Let each frame lie where the next one of its segment does, and say so everywhere."""
    items = seg.PerFrameFunctionalGroupsSequence
    moved = [deepcopy(item) for item in items]
    for index, item in enumerate(items):
        following = moved[index + 1 if (index + 1) % 6 else index - 5]
        item.PlanePositionSequence = following.PlanePositionSequence
        item.DerivationImageSequence = following.DerivationImageSequence


def moved_half_a_slice(seg: FileDataset) -> None:
    for item in seg.PerFrameFunctionalGroupsSequence:
        position = item.PlanePositionSequence[0]
        x, y, z = position.ImagePositionPatient
        position.ImagePositionPatient = [x, y, float(z) + 1.0]


def of_the_neighbour(seg: FileDataset) -> None:
    first, second = seg.PerFrameFunctionalGroupsSequence[:2]
    first.DerivationImageSequence = deepcopy(second.DerivationImageSequence)


def turned(seg: FileDataset) -> None:
    plane = seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    plane.ImageOrientationPatient = list(CORONAL)


def stretched(seg: FileDataset) -> None:
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = [1.0, 1.01]


def swapped(seg: FileDataset) -> None:
    for item in seg.PerFrameFunctionalGroupsSequence:
        identified = item.SegmentIdentificationSequence[0]
        identified.ReferencedSegmentNumber = 3 - identified.ReferencedSegmentNumber


def without_a_frame(seg: FileDataset) -> None:
    seg.PerFrameFunctionalGroupsSequence = seg.PerFrameFunctionalGroupsSequence[:-1]
    seg.NumberOfFrames -= 1
    seg.PixelData = seg.PixelData[:-512]


def of_another_code(seg: FileDataset) -> None:
    seg.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0].CodeValue = "78961009"


def cut_off(seg: FileDataset) -> None:
    seg.PixelData = seg.PixelData[:-512]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (flipped, "frame 1 of segment 1 in slice 6 has other voxels than the finding"),
        (one_voxel, "frame 12 of segment 2 in slice 1 has other voxels than the finding"),
        (shifted, "frame 1 of segment 1 in slice 5 has other voxels than the finding"),
        (moved_half_a_slice, "frame 1 lies 1 mm beside every slice"),
        (of_the_neighbour, "frame 1 lies in another slice than that of its source"),
        (turned, "ImageOrientationPatient of its frames is not that of the source"),
        (stretched, "PixelSpacing of its frames is not that of the source"),
        (swapped, "frame 1 of segment 2 in slice 6 has other voxels than the finding"),
        (without_a_frame, "segment 2 has voxels in slice 1 and no frame there"),
        (cut_off, "its Pixel Data are shorter or longer than its frames"),
        (with_value("NumberOfFrames", 11), "12 items describe 11 frames"),
        (with_value("Rows", 32), "its frames have 32 x 64 pixels, the source 64 x 64"),
        (
            of_another_code,
            "segment 2 is none of the finding's",
        ),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_every_voxel_must_lie_where_the_finding_has_it(spoil: Spoil, reason: str) -> None:
    assert reason in reasons("SEG", spoil)


def test_a_label_map_is_compared_label_by_label() -> None:
    labels = np.asarray(LUNGS.finding.mask)
    changed = labels.copy()
    changed[4, 60, 60] = 1
    other = replace(LUNGS, finding=replace(LUNGS.finding, mask=changed))
    assert verdicts_on(other, LABELMAP)[0].reasons == (
        "frame 2 in slice 5 has other voxels than the finding",
    )


def test_a_map_is_compared_number_by_number() -> None:
    def spoil(made: FileDataset) -> None:
        values: NDArray[np.float32] = np.frombuffer(made.FloatPixelData, np.float32).copy()
        values[-1] += 0.5
        made.FloatPixelData = values.tobytes()

    [reason] = reasons("PM", spoil, OTHERS)
    assert reason.endswith("has other voxels than the finding")


# ------------------------------------------------------------ content and references


def numbers_of(report: FileDataset) -> list[Any]:
    found, stack = [], list(report.ContentSequence)
    while stack:
        item = stack.pop()
        stack.extend(item.get("ContentSequence", ()))
        if item.ValueType == "NUM":
            found.append(item)
    return found


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            lambda report: setattr(numbers_of(report)[0], "MeasuredValueSequence", []),
            "MeasuredValueSequence is missing or empty (type 1)",
        ),
        (
            lambda report: delattr(numbers_of(report)[0].MeasuredValueSequence[0], "NumericValue"),
            "NumericValue is missing or empty (type 1)",
        ),
        (
            lambda report: delattr(numbers_of(report)[0], "ConceptNameCodeSequence"),
            "ConceptNameCodeSequence is missing or empty (type 1)",
        ),
        (
            lambda report: delattr(report.ContentSequence[0], "RelationshipType"),
            "item 1: RelationshipType is missing or empty (type 1)",
        ),
    ],
)
def test_items_of_a_report_have_what_their_value_type_needs(spoil: Spoil, reason: str) -> None:
    assert any(reason in one for one in reasons("SR", spoil))


def to_elsewhere(seg: FileDataset) -> None:
    seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[2].ReferencedSOPInstanceUID = "1.2.9"


def to_another_class(report: FileDataset) -> None:
    series = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    series.ReferencedSOPSequence[0].ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"


def without_the_seg(report: FileDataset) -> None:
    study = report.CurrentRequestedProcedureEvidenceSequence[0]
    study.ReferencedSeriesSequence = [
        one
        for one in study.ReferencedSeriesSequence
        if one.SeriesInstanceUID != PLAIN["SEG"].result.series_instance_uid
    ]


def in_another_series(report: FileDataset) -> None:
    study = report.CurrentRequestedProcedureEvidenceSequence[0]
    study.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"


def test_a_reference_must_lead_to_a_source_or_into_the_tree() -> None:
    assert "1.2.9 is referenced and is neither a source nor in the tree" in reasons(
        "SEG", to_elsewhere
    )


def test_a_reference_must_name_the_class_that_is_there() -> None:
    assert any(
        "is referenced as 1.2.840.10008.5.1.4.1.1.7" in one
        for one in reasons("SR", to_another_class)
    )


def test_what_a_report_refers_to_must_be_in_its_evidence_and_all_of_its_tree_too() -> None:
    uid = PLAIN["SEG"].result.sop_instance_uid
    found = reasons("SR", without_the_seg)
    assert f"{uid} is referenced and not listed as evidence" in found
    assert f"the report does not list the SEG {uid} of its tree" in found


def test_evidence_must_be_listed_in_its_own_series() -> None:
    assert any(
        one.endswith("series or study that is not its own")
        for one in reasons("SR", in_another_series)
    )


LONG = of(make_ct_series(40, pixels=np.arange(40 * 8 * 8, dtype=np.int16).reshape(40, 8, 8)))
LONG_TREE = plain_tree(LONG)


def in_the_evidence(report: FileDataset, number: int = 31) -> Dataset:
    series = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    listed: Dataset = series.ReferencedSOPSequence[number]
    return listed


def of_the_sources(seg: FileDataset, number: int = 31) -> Dataset:
    listed: Dataset = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[number]
    return listed


def test_a_tree_with_long_listings_passes() -> None:
    assert verdicts_on(LONG, LONG_TREE) == ()


@pytest.mark.parametrize(("kind", "listed"), [("SR", in_the_evidence), ("SEG", of_the_sources)])
@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("ReferencedSOPInstanceUID", "1.2.9", "1.2.9 is referenced and is neither a source"),
        ("ReferencedSOPInstanceUID", "1.2.09", "ReferencedSOPInstanceUID breaks its VR UI"),
        ("ReferencedSOPInstanceUID", "1." + "2" * 63, "ReferencedSOPInstanceUID breaks its VR UI"),
        ("ReferencedSOPInstanceUID", "", "ReferencedSOPInstanceUID is empty (type 1)"),
        ("ReferencedSOPInstanceUID", None, "ReferencedSOPInstanceUID is missing (type 1)"),
        ("ReferencedSOPClassUID", "1.2.840.10008.5.1.4.1.1.7", "is referenced as 1.2.840.10008"),
        ("ReferencedSOPClassUID", None, "ReferencedSOPClassUID is missing (type 1)"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_each_reference_of_a_long_listing_is_judged(
    kind: str,
    listed: Callable[[FileDataset], Dataset],
    keyword: str,
    value: str | None,
    reason: str,
) -> None:
    def spoil(dataset: FileDataset) -> None:
        if value is None:
            delattr(listed(dataset), keyword)
        else:
            setattr(listed(dataset), keyword, value)

    tree = {**LONG_TREE, kind: spoiled(LONG_TREE[kind], spoil)}
    [verdict] = verdicts_on(LONG, tree)
    assert verdict.kind == kind
    assert any(reason in one for one in verdict.reasons)


def test_what_a_long_listing_leaves_out_is_missed() -> None:
    used = {
        str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for item in images_of(pydicom.dcmread(BytesIO(LONG_TREE["SR"].file.read_bytes())))
    }

    def spoil(report: FileDataset) -> None:
        series = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
        series.ReferencedSOPSequence = [
            one
            for one in series.ReferencedSOPSequence
            if str(one.ReferencedSOPInstanceUID) not in used
        ]

    [verdict] = verdicts_on(LONG, {**LONG_TREE, "SR": spoiled(LONG_TREE["SR"], spoil)})
    assert any(one.endswith("is referenced and not listed as evidence") for one in verdict.reasons)


def images_of(report: FileDataset) -> list[Any]:
    found, stack = [], list(report.ContentSequence)
    while stack:
        item = stack.pop()
        stack.extend(item.get("ContentSequence", ()))
        if item.ValueType == "IMAGE":
            found.append(item)
    return found


@pytest.mark.parametrize("level", ["series", "study"])
def test_a_long_listing_must_stand_in_its_own_series(level: str) -> None:
    def spoil(report: FileDataset) -> None:
        study = report.CurrentRequestedProcedureEvidenceSequence[0]
        if level == "study":
            study.StudyInstanceUID = "1.2.3"
        else:
            series = study.ReferencedSeriesSequence[0]
            moved, series.ReferencedSOPSequence = (
                series.ReferencedSOPSequence[20:],
                series.ReferencedSOPSequence[:20],
            )
            study.ReferencedSeriesSequence[1].ReferencedSOPSequence.extend(moved)

    [verdict] = verdicts_on(LONG, {**LONG_TREE, "SR": spoiled(LONG_TREE["SR"], spoil)})
    assert verdict.reasons[0].endswith("series or study that is not its own")


def test_a_report_without_its_segmentation_leads_nowhere() -> None:
    [verdict] = verdicts_on(LUNGS, {"SR": PLAIN["SR"]})
    assert "neither a source nor in the tree" in verdict.reasons[0]


def test_a_report_may_name_the_one_that_it_replaces() -> None:
    earlier = replace(PLAIN["SR"].result, sop_instance_uid=str(generate_uid()))
    material = replace(LUNGS, stamp=replace(LUNGS.stamp, predecessors=(earlier,)))
    tree = list(plain_tree(material).values())
    assert inspect(tree, material.finding, material.sources, [earlier]) == ()
    [verdict] = inspect(tree, material.finding, material.sources)
    assert earlier.sop_instance_uid in verdict.in_words


# ------------------------------------------------------------ files


def test_a_file_over_the_budget_is_held_back() -> None:
    size = PLAIN["SEG"].result.size_bytes
    [verdict] = verdicts_on(LUNGS, PLAIN, bytes_max=size - 1)
    assert verdict.in_words == (
        f"SEG {PLAIN['SEG'].result.sop_instance_uid}: it has {size} bytes, more than "
        f"results.bytes_max: {size - 1}"
    )
    assert verdicts_on(LUNGS, PLAIN, bytes_max=size) == ()


@pytest.mark.parametrize("kept", [100, 400, -1, -700])
def test_a_file_that_was_cut_off_is_held_back(kept: int) -> None:
    one = PLAIN["SEG"]
    broken = Checked(one.result, InMemory(one.file.read_bytes()[:kept]))
    verdicts = verdicts_on(LUNGS, {**PLAIN, "SEG": broken})
    assert [verdict.kind for verdict in verdicts] == ["SEG"]


def test_a_file_of_another_instance_is_held_back() -> None:
    other = plain_tree(of(make_ct_series(4)))["SEG"]
    swapped_files = Checked(PLAIN["SEG"].result, other.file)
    verdicts = verdicts_on(LUNGS, {**PLAIN, "SEG": swapped_files})
    assert verdicts[0].reasons[0].startswith("its SOP Instance and SOP Class are not those")


def test_a_class_that_no_table_knows_is_held_back() -> None:
    odd = Checked(replace(OTHERS["SC"].result, sop_class_uid="1.2.3"), OTHERS["SC"].file)
    [verdict] = verdicts_on(LUNGS, {"SC": odd})
    assert "the SOP Class 1.2.3 is in no table" in verdict.reasons


def test_no_reason_quotes_the_patient() -> None:
    named = make_ct_series(3, PatientName="Secret^Name", PatientID="SECRET-1")
    material = of(named)
    tree = plain_tree(material)
    broken = {**tree, "SEG": spoiled(tree["SEG"], without("ContentLabel"))}
    assert "ecret" not in verdicts_on(material, broken)[0].in_words.replace("ECRET", "ecret")


def test_an_object_is_made_of_what_was_checked() -> None:
    """The helper above reads what it was given: a tree of one's own bytes."""
    again = checked("SEG", PLAIN["SEG"].file.read_bytes())
    assert again.result == PLAIN["SEG"].result
