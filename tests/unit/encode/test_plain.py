"""Ours beside plain highdicom's: the same data sets, whatever the sources and the finding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from highdicom.seg import SegmentationTypeValues
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.encode.results import SegEncoding, encode
from dicom_node.finding import Code, Finding, Measurement
from dicom_node.headers import read_header
from tests.factories import AXIAL, CORONAL, SAGITTAL, make_ct_series, make_mr_series, make_xray
from tests.unit.encode.findings import (
    STAMP,
    blobs,
    classification,
    headers_of,
    of_series,
    overlapping,
    probable,
    quality,
    read,
    regression,
    segmentation,
)
from tests.unit.encode.plain import file_of, plain_results
from tests.unit.encode.test_seg import OBLIQUE, PRONE
from tests.unit.encode.test_sources import with_names_of

DATA = Path(__file__).parents[2] / "data"
Sources = Sequence[Dataset]


def series_in(folder: str) -> list[Dataset]:
    return [read_header(file) for file in sorted((DATA / folder).glob("*.dcm"))]


def image(file: str) -> list[Dataset]:
    return [read_header(DATA / "xray" / file)]


def missing(sources: list[Dataset]) -> list[Dataset]:
    return [*sources[:3], *sources[4:]]


SOURCES: dict[str, Callable[[], list[Dataset]]] = {
    "real chest CT": lambda: series_in("ct-chest-lctsc-011")[:8],
    "real MR": lambda: series_in("mr-t1-studyforrest")[:8],
    "real tilted CT of varying spacing": lambda: series_in(
        "awkward-series/ct-head-tilt-variable-spacing"
    ),
    "real CR": lambda: image("cr-chest-philips-j2k-RG1.dcm"),
    "real DX": lambda: image("dx-nih-00000001_000.dcm"),
    "axial": lambda: headers_of(make_ct_series(5, orientation=AXIAL)),
    "coronal": lambda: headers_of(make_ct_series(5, orientation=CORONAL)),
    "sagittal": lambda: headers_of(make_ct_series(5, orientation=SAGITTAL)),
    "prone": lambda: headers_of(make_ct_series(5, orientation=PRONE)),
    "oblique, pixels not square": lambda: headers_of(
        make_ct_series(5, orientation=OBLIQUE, spacing_mm=(2.5, 0.5, 0.75))
    ),
    "MR": lambda: headers_of(make_mr_series(5)),
    "one slice": lambda: headers_of(make_ct_series(1)),
    "a slice is missing": lambda: missing(headers_of(make_ct_series(7))),
    "head to feet": lambda: headers_of(make_ct_series(6))[::-1],
    "frames that end inside a byte": lambda: headers_of(
        make_ct_series(pixels=np.zeros((11, 61, 47), np.int16))
    ),
    "no slice thickness": lambda: headers_of(make_ct_series(3, SliceThickness=None)),
    "no frame of reference": lambda: headers_of(make_ct_series(3, FrameOfReferenceUID=None)),
    "no manufacturer": lambda: headers_of(make_ct_series(3, Manufacturer=None)),
    "all of a scanner": lambda: headers_of(
        make_ct_series(
            3,
            ManufacturerModelName="Model",
            SoftwareVersions=["1", "2"],
            DeviceSerialNumber="7",
            InstitutionName="Hospital",
            InstitutionalDepartmentName="Radiology",
            InstitutionAddress="Street",
            StationName="CT1",
            AcquisitionDateTime="20240102101500.5",
        )
    ),
    "an endless station": lambda: headers_of(make_ct_series(3, InstitutionName="x" * 65)),
    "names in Japanese": lambda: with_names_of("chrH31.dcm"),
    "an X-ray with spacing": lambda: headers_of([make_xray(PixelSpacing=[0.7, 0.7])]),
    "an X-ray that says little": lambda: headers_of(
        [make_xray(PatientOrientation=[], ImagerPixelSpacing=[], PixelSpacing=[0.0, 0.0])]
    ),
    "an angiogram": lambda: headers_of([make_xray(Modality="XA")]),
    "of no modality that a report knows": lambda: headers_of(make_ct_series(2, Modality="OT")),
}


def with_measurements(sources: Sources) -> Finding:
    finding = segmentation(sources)
    hounsfield = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
    long_code = Code("1234567890123456789", "99TEST", "Of more than 16 characters")
    a_urn = Code("urn:oid:1.2.3.4.5.6.7.8", "99TEST", "By its name")
    mean = Code("373098007", "SCT", "Mean")
    measured = (
        Measurement("volume_ml", 1234.56789, Code("ml", "UCUM", "milliliter"), long_code),
        Measurement("mean", -1 / 3, hounsfield, a_urn, mean),
        Measurement("tiny", 1e-17, hounsfield, a_urn),
        Measurement("for rules", 3.0, hounsfield, None),
    )
    first, second = finding.segments
    upper = Code("261183002", "SCT", "Upper")
    segments = (replace(first, measurements=measured), replace(second, modifier=upper))
    return replace(finding, segments=segments, warnings=("Трудный случай", "é" * 33))


def one_alone(sources: Sources) -> Finding:
    return segmentation(sources, np.where(blobs(sources) == 2, 2, 0).astype(np.uint8))


def alternating(sources: Sources) -> Finding:
    """Return a mask whose segments skip slices and numbers: many labels, some without a voxel."""
    mask = blobs(sources)
    mask[::2][mask[::2] == 1] = 0
    mask[1::3][mask[1::3] == 2] = 7
    finding = segmentation(sources, mask)
    first, second = finding.segments
    segments = (
        second,
        replace(first, segment_number=200),
        first,
        replace(second, segment_number=7),
    )
    return replace(finding, segments=segments)


def differing(one: Dataset, other: Dataset, path: str = "") -> list[str]:
    """Return where two data sets differ, but for how voxels are encoded."""
    found = []
    for tag in sorted({*one.keys(), *other.keys()}):
        if (tag in one) != (tag in other):
            found.append(f"{path}{tag}: {'plain' if tag in one else 'ours'} alone has it")
            continue
        here, there = one[tag], other[tag]
        where = f"{path}{here.keyword}"
        if here.VR != there.VR:
            found.append(f"{where}: {here.VR} and {there.VR}")
        elif here.VR == "SQ":
            if len(here.value) != len(there.value):
                found.append(f"{where}: {len(here.value)} and {len(there.value)} items")
            for index, items in enumerate(zip(here.value, there.value, strict=False)):
                found += differing(*items, f"{where}[{index}].")
        elif here.value != there.value and here.keyword != "PixelData":
            found.append(f"{where}: {here.value!r} and {there.value!r}")
    return found


def voxels_in(seg: Dataset) -> NDArray[np.uint8]:
    frames: NDArray[np.uint8] = seg.pixel_array
    return frames


@pytest.mark.parametrize("encoding", SegEncoding)
@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_the_seg_and_its_report_are_as_highdicom_makes_them(
    make: Callable[[], list[Dataset]], encoding: SegEncoding
) -> None:
    sources = make()
    compare(segmentation(sources), sources, encoding)


@pytest.mark.parametrize(
    ("make", "encoding"),
    [
        *product((with_measurements, one_alone, alternating, probable), SegEncoding),
        (overlapping, SegEncoding.BINARY),  # a label map of it highdicom refuses
        (overlapping, SegEncoding.FRACTIONAL),
    ],
)
def test_so_are_those_of_other_findings(
    make: Callable[[Sources], Finding], encoding: SegEncoding
) -> None:
    sources = headers_of(make_ct_series(9, pixels=np.zeros((9, 61, 47), np.int16)))
    compare(make(sources), sources, encoding)


def compare(finding: Finding, sources: list[Dataset], encoding: SegEncoding) -> None:
    plain = plain_results(finding, sources, STAMP, SegmentationTypeValues(encoding.value))
    results = encode(finding, sources, STAMP, encoding)
    assert [one.kind for one in results] == list(plain)
    for ours in results:
        expected = file_of(plain[ours.kind])
        if ours.kind == "SR":
            assert ours.content == expected
            continue
        seg, theirs = read(ours), pydicom.dcmread(BytesIO(expected))
        assert differing(theirs, seg) == []
        assert differing(theirs.file_meta, seg.file_meta) == []
        np.testing.assert_array_equal(voxels_in(seg), voxels_in(theirs))
        if encoding is SegEncoding.BINARY:
            # but for the byte that fills up an odd length: ours is zero (PS3.5 8.1.1)
            last = len(expected) - (seg.Rows * seg.Columns * seg.NumberOfFrames + 7) // 8 % 2
            assert ours.content[:last] == expected[:last]
            assert not any(ours.content[last:])
        assert ours.content == ours.content


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_a_report_without_a_seg_is_byte_for_byte_the_same(
    make: Callable[[], list[Dataset]],
) -> None:
    compare_report(classification, make())


@pytest.mark.parametrize("source", ["axial", "real CR"])
@pytest.mark.parametrize(
    "say",
    [
        lambda sources: classification(sources, 0.1234567),
        quality,
        regression,
        lambda sources: of_series(classification(sources)),
    ],
    ids=["absent", "quality", "regression", "of the series"],
)
def test_so_are_those_of_every_kind(say: Callable[[Sources], Finding], source: str) -> None:
    compare_report(say, SOURCES[source]())


def compare_report(say: Callable[[Sources], Finding], sources: list[Dataset]) -> None:
    finding = say(sources)
    plain = plain_results(finding, sources, STAMP)
    [report] = encode(finding, sources, STAMP)
    assert report.content == file_of(plain["SR"])


def test_a_difference_would_be_found() -> None:
    sources = headers_of(make_ct_series(3))
    seg = read(encode(segmentation(sources), sources, STAMP)[0])
    other: Any = read(encode(segmentation(sources), sources, STAMP)[0])
    other.PerFrameFunctionalGroupsSequence[2].FrameContentSequence[0].DimensionIndexValues = [1, 9]
    del other.SegmentSequence[0].TrackingUID
    other.ContentLabel = "OTHER"
    assert len(differing(seg, other)) == 3
