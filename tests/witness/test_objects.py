"""Captures, presentation states, maps, key objects and reports before programs we did not write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileDataset

from dicom_node.encode.capture import make_captures
from dicom_node.encode.key_objects import make_key_objects
from dicom_node.encode.material import Material
from dicom_node.encode.parametric_map import make_maps
from dicom_node.encode.pdf import make_pdf
from dicom_node.encode.presentation import make_states
from dicom_node.finding import Code, Finding, ValueMap
from dicom_node.headers import read_header
from tests.factories import CORONAL, make_ct_series, make_mr_series, make_xray
from tests.unit.encode.findings import (
    classification,
    headers_of,
    quality,
    regression,
    segmentation,
)
from tests.unit.encode.materials import content_of, material_of
from tests.witness.programs import faults_found_by_dciodvfy, said_by
from tests.witness.readers import numbers_read_by_dcmqi
from tests.witness.test_results import CHEST_CT, CR, DX, TILTED_CT, chest_ct

pytestmark = pytest.mark.witness


def with_map(finding: Finding, sources: Sequence[Dataset]) -> Finding:
    """Return a finding with a number for each voxel, none of them alike."""
    shape = (len(sources), int(sources[0].Rows), int(sources[0].Columns))
    values = np.random.default_rng(3).random(shape, np.float32)
    quantity, unit = Code("122157", "DCM", "Probability"), Code("1", "UCUM", "no units")
    return replace(finding, maps=(ValueMap("Probability of lung", values, quantity, unit),))


def all_of(material: Material) -> list[Dataset]:
    """Return every object of a finding but SEG and SR."""
    made = [*make_captures(material), *make_states(material), *make_maps(material)]
    selection = make_key_objects(material, made)
    return [*made, *([selection] if selection is not None else []), make_pdf(material)]


def chest_material() -> Material:
    sources, finding = chest_ct()
    by_uid = {str(one.SOPInstanceUID): one for one in map(pydicom.dcmread, CHEST_CT.glob("*.dcm"))}
    instances = [by_uid[str(source.SOPInstanceUID)] for source in sources]
    return material_of(with_map(finding, sources), instances, sources)


def xray_material(path: Path, make: Callable[[Sequence[Dataset]], Finding]) -> Material:
    headers = [read_header(path)]
    return material_of(make(headers), [pydicom.dcmread(path)], headers)


def of_instances(instances: list[FileDataset]) -> Material:
    headers = headers_of(instances)
    return material_of(with_map(segmentation(headers), headers), instances)


def tilted() -> Material:
    files = sorted(map(pydicom.dcmread, TILTED_CT.glob("*.dcm")), key=lambda one: one.SliceLocation)
    headers = headers_of(files)
    mask = np.zeros((len(files), headers[0].Rows, headers[0].Columns), np.uint8)
    mask[:, 200:260, 100:180] = 1
    return material_of(segmentation(headers, mask), files, headers)


@pytest.mark.parametrize(
    ("make", "kinds"),
    [
        (chest_material, ["SC", "PR", "PM", "KO", "PDF"]),
        (tilted, ["SC", "PR", "KO", "PDF"]),
        (lambda: of_instances(make_mr_series(4)), ["SC", "PR", "PM", "KO", "PDF"]),
        (lambda: of_instances(make_ct_series(4, orientation=CORONAL)), 5),
        (lambda: of_instances(make_ct_series(4, BodyPartExamined=None)), 5),
        (lambda: of_instances(make_ct_series(4, BodyPartExamined="KIDNEY", Laterality="L")), 5),
        (lambda: of_instances(make_ct_series(1)), 5),
        (lambda: of_instances(make_ct_series(3, TimezoneOffsetFromUTC="+0900")), 5),
        (
            lambda: of_instances(
                make_ct_series(
                    3,
                    LossyImageCompression="01",
                    LossyImageCompressionRatio=[9.5],
                    LossyImageCompressionMethod=["ISO_10918_1"],
                )
            ),
            5,
        ),
        (lambda: xray_material(CR, classification), ["SC", "PR", "KO", "PDF"]),
        (lambda: xray_material(DX, quality), ["SC", "PR", "KO", "PDF"]),
        (lambda: xray_material(DX, regression), ["SC", "PR", "KO", "PDF"]),
        (
            lambda: material_of(
                classification(headers_of([make_xray()]), probability=0.1), [make_xray()]
            ),
            ["SC", "PR", "PDF"],
        ),
    ],
    ids=[
        *("chest CT", "tilted CT", "MR", "coronal", "no body part", "one side", "one slice"),
        *("a zone", "lossy", "CR", "DX quality", "DX regression", "nothing found"),
    ],
)
def test_dciodvfy_finds_no_error_in_any_object(
    make: Callable[[], Material], kinds: list[str] | int, tmp_path: Path
) -> None:
    material = make()
    made = all_of(material)
    assert len(made) == (kinds if isinstance(kinds, int) else len(kinds))
    for index, one in enumerate(made):
        path = tmp_path / f"{index}.dcm"
        path.write_bytes(content_of(one, material))
        assert faults_found_by_dciodvfy(path) == [], one.Modality


@pytest.mark.parametrize(
    "make",
    [
        chest_material,
        lambda: of_instances(make_ct_series(5, spacing_mm=(2.5, 0.7, 1.3))),
        lambda: of_instances(make_ct_series(5, orientation=CORONAL)),
    ],
    ids=["chest CT", "pixels that are not square", "coronal"],
)
def test_dcmqi_reads_every_number_of_a_map_in_its_place(
    make: Callable[[], Material], tmp_path: Path
) -> None:
    material = make()
    [made] = make_maps(material)
    path = tmp_path / "map.dcm"
    path.write_bytes(content_of(made, material))
    places, read = numbers_read_by_dcmqi(path, tmp_path / "dcmqi", material.sources)
    assert set(places[0]) == set(range(len(material.sources)))
    np.testing.assert_array_equal(read, material.finding.maps[0].values[places])


def pages(material: Material, folder: Path) -> Path:
    made = make_pdf(material)
    file = folder / "report.pdf"
    file.write_bytes(made.EncapsulatedDocument)
    return file


def test_a_report_can_be_read_and_its_name_searched_for(tmp_path: Path) -> None:
    xray = make_xray(SpecificCharacterSet="ISO_IR 192", PatientName="Люкceмбypг^Иван")
    file = pages(material_of(classification(headers_of([xray])), [xray]), tmp_path)
    text = said_by("pdftotext", "-layout", file, "-")
    for words in (
        "Люкceмбypг, Иван",
        "NOT FOR DIAGNOSTIC USE",
        "Pneumonia",
        "present",
        "ct-lungs 1.0.0",
        "Page 1 of 1",
    ):
        assert words in text


def test_a_long_table_runs_over_pages_with_its_headings_and_the_picture_follows(
    tmp_path: Path,
) -> None:
    material = chest_material()
    [segment, _] = material.finding.segments
    many = tuple(
        replace(segment, segment_number=number, label=f"Structure {number}")
        for number in range(1, 81)
    )
    mask = np.zeros_like(material.finding.mask)
    for number in range(1, 81):
        mask[number % 49, number : number + 4, :50] = number
    material = replace(
        material, finding=replace(material.finding, mask=mask, segments=many), drawn=many
    )
    file = pages(material, tmp_path)
    text = said_by("pdftotext", "-layout", file, "-")
    whole = text.split("\f")
    assert sum("Volume (ml)" in page for page in whole) == 3
    assert all(f"Structure {number} " in text for number in range(1, 81))
    said_by("pdftoppm", "-r", "40", "-png", file, tmp_path / "page")
    last = sorted(tmp_path.glob("page-*.png"))[-1]
    colours = Image.open(last).convert("RGB").getcolors(1 << 20)
    assert colours is not None
    assert len(colours) > 50, "there is no picture on the last page"
