"""Our SEG and SR before programs that we did not write.

dciodvfy judges the objects by the standard, dcmqi reads voxels, geometry, volumes and references
back (as 3D Slicer does), DCMTK reads the tree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_node.encode.results import Stamp, encode
from dicom_node.encode.sources import TYPE_2
from dicom_node.finding import Finding, FindingKind, QualityGrade
from dicom_node.geometry import Grid
from dicom_node.headers import read_header
from dicom_node.infer.engine_loading import load_engine
from dicom_node.infer.measure import NAMES, measured, quantity_of
from dicom_node.infer.pixels import Values
from dicom_node.infer.scaffold import Wanted, new_engine
from dicom_node.infer.scaffold_text import Sees
from dicom_node.model import Result
from dicom_node.uid import derived_uid
from tests.factories import AXIAL, CORONAL, SAGITTAL, make_ct_series, make_xray
from tests.unit.encode.findings import (
    STAMP,
    blobs,
    classification,
    headers_of,
    of_series,
    overlapping,
    quality,
    regression,
    segmentation,
)
from tests.unit.encode.test_rejection import note_on
from tests.unit.encode.test_seg import OBLIQUE, PRONE
from tests.unit.encode.test_sources import with_names_of
from tests.witness.programs import faults_found_by_dciodvfy, said_by
from tests.witness.readers import masks_read_by_dcmqi, report_read_by_dcmqi

pytestmark = pytest.mark.witness

DATA = Path(__file__).parents[1] / "data"
CHEST_CT = DATA / "ct-chest-lctsc-011"
CR = DATA / "xray" / "cr-chest-philips-j2k-RG1.dcm"
DX = DATA / "xray" / "dx-nih-00000001_000.dcm"
TILTED_CT = DATA / "awkward-series" / "ct-head-tilt-variable-spacing"


def results_of(
    finding: Finding, sources: Sequence[Dataset], folder: Path, stamp: Stamp = STAMP
) -> dict[str, Path]:
    """Write the results of a finding and return their paths by kind; dciodvfy passes them all."""
    paths = {}
    for result in encode(finding, sources, stamp):
        paths[result.kind] = folder / f"{result.kind}.dcm"
        paths[result.kind].write_bytes(result.content)
    for path in paths.values():
        assert faults_found_by_dciodvfy(path) == []
    return paths


def segments_match(
    finding: Finding, sources: Sequence[Dataset], paths: dict[str, Path], folder: Path
) -> None:
    """Assert that dcmqi reads the voxels and the volumes of every segment that has any."""
    drawn = np.asarray(finding.mask)
    expected = [one for one in finding.segments if (drawn == one.segment_number).any()]
    described, masks = masks_read_by_dcmqi(paths["SEG"], folder / "dcmqi", sources)
    assert [one["SegmentLabel"] for one in described] == [one.label for one in expected]
    for segment, mask in zip(expected, masks, strict=True):
        np.testing.assert_array_equal(mask, drawn == segment.segment_number)

    groups = report_read_by_dcmqi(paths["SR"], folder)["Measurements"]
    volumes: dict[Any, Any] = {
        group["TrackingUniqueIdentifier"]: (
            group["ReferencedSegment"],
            float(group["measurementItems"][0]["value"]),
        )
        for group in groups
        if "ReferencedSegment" in group
    }
    assert volumes == {
        attributes["TrackingUniqueIdentifier"]: (
            attributes["labelID"],
            pytest.approx(segment.volume_ml, abs=0.001),
        )
        for attributes, segment in zip(described, expected, strict=True)
    }


def chest_ct() -> tuple[list[Dataset], Finding]:
    """Return the real chest CT and its expert lungs, cut in two at the middle column."""
    headers = {
        str(header.SOPInstanceUID): header for header in map(read_header, CHEST_CT.glob("*.dcm"))
    }
    reference = np.load(CHEST_CT / "lung_reference.npz")
    sources = [headers[str(uid)] for uid in reference["sop_instance_uid"]]
    mask = reference["lung"].astype(np.uint8)
    mask[:, :, mask.shape[2] // 2 :] *= 2
    row_mm, column_mm = sources[0].PixelSpacing
    return sources, segmentation(sources, mask, voxel_ml=row_mm * column_mm * 6.0 / 1000)


def test_lungs_on_a_real_chest_ct(tmp_path: Path) -> None:
    sources, finding = chest_ct()
    paths = results_of(finding, sources, tmp_path)
    segments_match(finding, sources, paths, tmp_path)

    tree = said_by("dsrdump", paths["SR"])
    for node in (
        'CONTAINER:(,,"Imaging Measurement Report")',
        'CODE:(,,"Procedure reported")=(25045-6,LN,"CT unspecified body region")',
        'CODE:(,,"Laterality")=(24028007,SCT,"Right")',
        f'NUM:(,,"Volume")="{finding.segments[0].volume_ml:.3f}" (ml,UCUM,"milliliter")',
        'IMAGE:(,,"Referenced Segment")=(SG image,,2)',
        'TEXT:(,,"Comment")="Two slices are missing."',
        'TEXT:(,,"Comment")="Trained on adults."',
    ):
        assert node in tree
    dump = said_by("dcmdump", paths["SEG"])
    assert "(0062,0001) CS [BINARY]" in dump


@pytest.mark.parametrize("path", [CR, DX], ids=["CR", "DX"])
@pytest.mark.parametrize(
    ("make", "nodes"),
    [
        (
            classification,
            [
                'CODE:(,,"Finding")=(233604007,SCT,"Pneumonia")',
                'CODE:(,,"Presence")=(52101004,SCT,"Present")',
                'NUM:(,,"Probability")="0.93" (1,UCUM,"no units")',
            ],
        ),
        (
            lambda sources: classification(sources, 0.07),
            [
                'CODE:(,,"Finding")=(233604007,SCT,"Pneumonia")',
                'CODE:(,,"Presence")=(272519000,SCT,"Absent")',
                'NUM:(,,"Probability")="0.07" (1,UCUM,"no units")',
            ],
        ),
        (
            lambda sources: quality(sources, QualityGrade.NON_DIAGNOSTIC),
            [
                'CODE:(,,"Finding")=(111050,DCM,"Quality Assessment")',
                'CODE:(,,"Imaging Series Quality")=(RID14,RADLEX,"Non-diagnostic quality")',
                'TEXT:(,,"Comment")="Rotated (0.91)"',
                'TEXT:(,,"Comment")="AP view (0.97)"',
            ],
        ),
    ],
    ids=["pneumonia", "no pneumonia", "quality"],
)
def test_reports_on_real_x_rays(
    make: Callable[[list[Dataset]], Finding], nodes: list[str], path: Path, tmp_path: Path
) -> None:
    sources = [read_header(path)]
    paths = results_of(make(sources), sources, tmp_path)

    tree = said_by("dsrdump", paths["SR"])
    for node in (*nodes, 'CODE:(,,"Procedure reported")=(43468-8,LN,"XR unspecified body region")'):
        assert node in tree
    groups = report_read_by_dcmqi(paths["SR"], tmp_path)["Measurements"]
    assert len(groups) == 1
    assert groups[0]["qualitativeEvaluations"]


@pytest.mark.parametrize("path", [CR, DX], ids=["CR", "DX"])
def test_a_rectangle_on_a_real_x_ray(path: Path, tmp_path: Path) -> None:
    sources = [read_header(path)]
    mask = np.zeros((1, sources[0].Rows, sources[0].Columns), np.uint8)
    mask[0, 100:300, 50:450] = 1
    paths = results_of(segmentation(sources, mask), sources, tmp_path)

    assert 'IMAGE:(,,"Referenced Segmentation Frame")' in said_by("dsrdump", paths["SR"])
    assert "(0008,0060) CS [SEG]" in said_by("dcmdump", paths["SEG"])
    # dcmqi reads no SEG without a plane orientation: an X-ray has none.


@pytest.mark.parametrize(
    "arguments",
    [
        {"orientation": AXIAL},
        {"orientation": CORONAL},
        {"orientation": SAGITTAL},
        {"orientation": PRONE},
        {"orientation": OBLIQUE, "spacing_mm": (2.5, 0.5, 0.75)},
        {"slices": 1},
        {"pixels": np.zeros((5, 61, 47), np.int16)},
        {"SpacingBetweenSlices": 7.0},
        {"SliceThickness": None},
        {"FrameOfReferenceUID": None},
        dict.fromkeys((*TYPE_2, "Manufacturer")),
        {"PatientSex": "X", "PatientIdentityRemoved": "YES", "DeidentificationMethod": ""},
    ],
    ids=[
        "axial",
        "coronal",
        "sagittal",
        "prone",
        "oblique, pixels not square",
        "one slice",
        "frames that end inside a byte",
        "spacing wrong in the source",
        "no slice thickness",
        "no frame of reference",
        "no attribute of type 2",
        "broken patient module",
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")
def test_synthetic_series(arguments: dict[str, Any], tmp_path: Path) -> None:
    sources = headers_of(make_ct_series(**({"slices": 5} | arguments)))
    finding = segmentation(sources)
    paths = results_of(finding, sources, tmp_path)
    segments_match(finding, sources, paths, tmp_path)


def test_everything_that_can_be_measured_is_read_back(tmp_path: Path) -> None:
    """By dcmqi's reader: each number with its concept, its unit and its derivation."""
    sources, finding = chest_ct()
    mask = np.asarray(finding.mask)
    row_mm, column_mm = (float(mm) for mm in sources[0].PixelSpacing)
    grid = Grid(mask.shape[-3:], np.diag([6.0, row_mm, column_mm, 1.0]))
    measurements = measured(
        mask,
        tuple(word for word in NAMES if word != "area"),  # that is for images
        (26, 26),
        grid,
        quantity_of(Values.HOUNSFIELD, "CT"),
        lambda index: np.full(grid.shape[1:], -800.0 + index, np.float32),
    )
    segments = tuple(
        replace(one, measurements=own)
        for one, own in zip(finding.segments, measurements, strict=True)
    )
    paths = results_of(replace(finding, segments=segments), sources, tmp_path)
    groups = report_read_by_dcmqi(paths["SR"], tmp_path)["Measurements"]
    assert len(groups) == 2
    for group, segment in zip(groups, segments, strict=True):
        read = [
            (
                item["quantity"]["CodeValue"],
                item.get("derivationModifier", {}).get("CodeValue"),
                item["units"]["CodeValue"],
                float(item["value"]),
            )
            for item in group["measurementItems"]
        ]
        expected: list[Any] = [
            (
                one.concept.value,
                one.derivation.value if one.derivation else None,
                one.unit.value,
                pytest.approx(one.value, abs=0.001),
            )
            for one in segment.measurements
            if one.concept is not None
        ]
        assert len(read) == 9
        assert read == expected


def test_segments_that_overlap_are_read_each_whole(tmp_path: Path) -> None:
    sources = headers_of(make_ct_series(5))
    finding = overlapping(sources)
    assert finding.mask is not None
    paths = results_of(finding, sources, tmp_path)
    described, masks = masks_read_by_dcmqi(paths["SEG"], tmp_path / "dcmqi", sources)
    assert [one["SegmentLabel"] for one in described] == ["Lung", "Lobe"]
    np.testing.assert_array_equal(np.stack(masks), finding.mask)
    groups = report_read_by_dcmqi(paths["SR"], tmp_path)["Measurements"]
    assert [group["ReferencedSegment"] for group in groups] == [1, 2]


@pytest.mark.parametrize("whole", [False, True], ids=["of each image", "of the series"])
@pytest.mark.parametrize("make", [classification, quality, regression])
def test_what_is_said_of_slices_or_of_all_of_them(
    make: Callable[[list[Dataset]], Finding], whole: bool, tmp_path: Path
) -> None:
    sources = headers_of(make_ct_series(3))
    finding = of_series(make(sources)) if whole else make(sources)
    paths = results_of(finding, sources, tmp_path)
    groups = report_read_by_dcmqi(paths["SR"], tmp_path)["Measurements"]
    assert len(groups) == (1 if whole else 3)
    tree = said_by("dsrdump", paths["SR"])
    assert tree.count('IMAGE:(,,"Source of Measurement")') == (0 if whole else 3)
    if finding.values:
        assert 'NUM:(,,"Bone age")="131.25" (mo,UCUM,"month")' in tree
        for group in groups:
            assert [float(item["value"]) for item in group["measurementItems"]] == [131.25]


def test_a_series_with_a_missing_slice(tmp_path: Path) -> None:
    sources = headers_of(make_ct_series(7))
    del sources[3]
    finding = segmentation(sources)
    paths = results_of(finding, sources, tmp_path)
    segments_match(finding, sources, paths, tmp_path)


def test_a_report_that_names_its_predecessor(tmp_path: Path) -> None:
    sources = headers_of(make_ct_series(3))
    older = Result(
        sop_instance_uid=derived_uid("older"),
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        series_instance_uid=derived_uid("older", "series"),
        study_instance_uid=str(sources[0].StudyInstanceUID),
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        job_id="job",
        kind="SR",
        path="",
        size_bytes=0,
        digest="",
    )
    paths = results_of(
        segmentation(sources), sources, tmp_path, replace(STAMP, predecessors=(older,))
    )
    assert "Predecessor Docs    : 1" in said_by("dsrdump", paths["SR"])


def test_a_note_that_takes_results_back(tmp_path: Path) -> None:
    _, note = note_on(headers_of(make_ct_series(3)))
    path = tmp_path / "note.dcm"
    path.write_bytes(note.content)
    assert faults_found_by_dciodvfy(path) == []
    tree = said_by("dsrdump", path)
    assert 'CONTAINER:(,,"Rejected for Quality Reasons")' in tree
    assert tree.count("=(SG image") == 1
    assert tree.count("COMPOSITE:") == 1


def test_a_tilted_real_ct_of_varying_spacing(tmp_path: Path) -> None:
    sources = [read_header(path) for path in sorted(TILTED_CT.iterdir())]
    results_of(segmentation(sources), sources, tmp_path)
    # dcmqi has no geometry for a sheared stack; the engines refuse it before.


@pytest.mark.parametrize("numbers", [(1,), (2,), (1, 2)])
def test_segments_that_were_not_found(numbers: tuple[int, ...], tmp_path: Path) -> None:
    sources = headers_of(make_ct_series(4))
    mask = np.where(np.isin(blobs(sources), numbers), 0, blobs(sources)).astype(np.uint8)
    finding = segmentation(sources, mask)
    paths = results_of(finding, sources, tmp_path)

    tree = said_by("dsrdump", paths["SR"])
    assert tree.count('CODE:(,,"Presence")=(272519000,SCT,"Absent")') == len(numbers)
    assert ("SEG" in paths) is (len(numbers) < 2)
    if "SEG" in paths:
        segments_match(finding, sources, paths, tmp_path)


@pytest.mark.parametrize(
    ("charset_file", "name"),
    [
        ("chrH31.dcm", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("chrX2.dcm", "Wang^XiaoDong=王^小东"),
        ("chrRuss.dcm", "Люкceмбypг"),
    ],
    ids=["Japanese, ISO 2022 IR 87", "Chinese, GB18030", "Cyrillic, ISO_IR 144"],
)
def test_names_of_the_world(charset_file: str, name: str, tmp_path: Path) -> None:
    sources = with_names_of(charset_file)
    finding = segmentation(sources)
    for path in results_of(finding, sources, tmp_path).values():
        dump = said_by("dcmdump", "+P", "0010,0010", "+P", "0008,0005", path)
        assert "[ISO_IR 192]" in dump
        assert f"[{name}]" in dump


@pytest.mark.parametrize(
    ("path", "has_scale"), [(CR, False), (DX, True)], ids=["CR, no pixel size", "DX"]
)
def test_a_mask_on_an_x_ray_goes_all_the_way(path: Path, has_scale: bool, tmp_path: Path) -> None:
    """From the file of a real X-ray through a new engine's network to SEG and report."""
    wanted = Wanted(FindingKind.SEGMENTATION, Sees.IMAGE)
    engine = load_engine(new_engine(tmp_path / "engines", "bright", wanted), threads=1)
    finding, sources = engine.run([path])
    paths = results_of(finding, sources, tmp_path)
    (segment,) = finding.segments
    assert finding.mask is not None
    assert segment.image_share == np.count_nonzero(finding.mask) / np.size(finding.mask) > 0.01

    written = pydicom.dcmread(paths["SEG"])
    assert written.pixel_array.shape[-2:] == (sources[0].Rows, sources[0].Columns)
    np.testing.assert_array_equal(np.squeeze(written.pixel_array), finding.mask[0])
    tree = said_by("dsrdump", paths["SR"])
    area = f'NUM:(,,"Area")="{segment.area_cm2 or 0:.3f}" (cm2,UCUM,"square centimeter")'
    assert (area in tree) is ('NUM:(,,"Area")' in tree) is has_scale
    assert 'IMAGE:(,,"Referenced Segmentation Frame")=(SG image' in tree
    assert "Volume" not in tree


def test_an_x_ray_that_says_little_of_itself(tmp_path: Path) -> None:
    sources = headers_of([make_xray(PixelSpacing=[0.0, 0.0])])
    for keyword in ("PatientOrientation", "ImagerPixelSpacing", *TYPE_2):
        del sources[0][keyword]
    finding = segmentation(sources)
    results_of(finding, sources, tmp_path)
    results_of(classification(sources), sources, tmp_path)


def test_a_report_of_many_words_in_another_alphabet(tmp_path: Path) -> None:
    sources = headers_of(make_ct_series(2))
    said = replace(segmentation(sources), warnings=("Трудный случай: " + "слой " * 400,))
    paths = results_of(said, sources, tmp_path)
    assert "Трудный случай" in said_by("dsrdump", "+Pl", paths["SR"])
