"""Headers: broken bytes become one error, and a series has the attributes of its majority."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.errors import StudyUnusable
from dicom_node.headers import attributes_of, read_header, reading
from tests.factories import make_ct_series, make_instance, write


def header(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


# ---------------------------------------------------------------- read_header


def test_a_header_ends_before_the_pixels(tmp_path: Path) -> None:
    read = read_header(write(make_instance(PatientName="A^B"), tmp_path / "a.dcm"))
    assert read.Modality == "CT"
    assert "PixelData" not in read


def test_a_bare_data_set_without_file_meta_is_read(data_dir: Path) -> None:
    read = read_header(data_dir / "xray" / "cr-chest-fuji-mono1-implicit-noheader")
    assert read.Modality == "CR"


@pytest.mark.parametrize(
    "content", [b"", b"no DICOM at all\n" * 40, bytes(128) + b"DICM", b"\xff" * 500]
)
def test_what_is_no_dicom_is_one_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(StudyUnusable):
        read_header(tmp_path / "file")


@pytest.mark.parametrize("content", [b"%PDF-1.4", bytes(200)])
def test_what_looks_like_elements_by_chance_has_no_identity(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    assert "StudyInstanceUID" not in read_header(tmp_path / "file")


def test_a_missing_file_is_not_taken_for_a_broken_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "missing.dcm")


def test_a_file_that_the_disk_cannot_read_is_not_taken_for_a_broken_one(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_header(tmp_path)


def test_only_the_attributes_that_are_asked_for_are_read(tmp_path: Path) -> None:
    file = write(make_instance(), tmp_path / "a.dcm")
    read = read_header(file, {"Modality", "KVP", "ViewPosition"})
    assert (read.Modality, read.KVP) == ("CT", 120)
    assert "PatientName" not in read


def test_a_file_that_has_none_of_them_is_no_broken_one(tmp_path: Path) -> None:
    file = write(make_instance(), tmp_path / "a.dcm")
    assert read_header(file, {"ViewPosition"}).get("ViewPosition") is None
    (tmp_path / "b.dcm").write_bytes(b"no DICOM at all\n" * 40)
    with pytest.raises(StudyUnusable):
        read_header(tmp_path / "b.dcm", {"ViewPosition"})


@pytest.mark.parametrize("error", [ValueError("PatientName"), KeyError(1), RecursionError("deep")])
def test_whatever_the_parser_raises_becomes_one_error_that_quotes_nothing(
    error: Exception,
) -> None:
    with pytest.raises(StudyUnusable) as caught, reading("the header"):
        raise error
    assert caught.value.message == f"the header cannot be read: {type(error).__name__}"
    assert caught.value.__cause__ is error
    assert caught.value.hint


@pytest.mark.parametrize("folder", ["malformed", "charsets", "awkward-series"])
def test_every_broken_file_is_read_or_is_that_error(folder: str, data_dir: Path) -> None:
    for file in sorted(path for path in (data_dir / folder).rglob("*") if path.is_file()):
        try:
            headers = [read_header(file)]
        except StudyUnusable:
            continue
        attributes_of(headers)


# ---------------------------------------------------------------- attributes_of


def test_the_value_that_most_instances_carry_is_the_series_value() -> None:
    series = make_ct_series(5)
    series[0].SeriesDescription = "scout"
    assert attributes_of(series)["SeriesDescription"] == ("Synthetic series",)


def test_values_come_as_text_one_for_each_of_the_element() -> None:
    attributes = attributes_of([make_instance()])
    assert attributes["ImageType"] == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert attributes["KVP"] == ("120.0",)
    assert attributes["Rows"] == ("64",)
    assert attributes["SOPClassUID"] == ("1.2.840.10008.5.1.4.1.1.2",)


@pytest.mark.parametrize("keyword", ["PatientName", "ReferringPhysicianName", "OperatorsName"])
def test_a_persons_name_is_one_value_and_not_its_letters(keyword: str) -> None:
    assert attributes_of([header(**{keyword: "Doe^Jane"})])[keyword] == ("Doe^Jane",)


def test_several_names_are_several_values() -> None:
    names = attributes_of([header(OperatorsName=["Doe^Jane", "Roe^Richard"])])["OperatorsName"]
    assert names == ("Doe^Jane", "Roe^Richard")


def test_a_value_that_most_do_not_carry_is_absent() -> None:
    headers = [header(Modality="CT", KVP="120"), header(Modality="CT"), header(Modality="CT")]
    assert attributes_of(headers)["KVP"] == ()
    assert attributes_of(headers)["Modality"] == ("CT",)


def test_a_tie_does_not_depend_on_the_order_of_arrival() -> None:
    headers = [header(Modality=m, SeriesDescription=d) for m in ("CT", "MR") for d in ("a", "b")]
    headers += [header(Modality="PT")]  # once: less than the others
    for arrived in itertools.permutations(headers):
        assert attributes_of(arrived)["Modality"] == ("CT",)
        assert attributes_of(arrived)["SeriesDescription"] == ("a",)


def test_sequences_bytes_and_private_elements_are_left_out() -> None:
    dataset = header(Modality="CT", RequestAttributesSequence=[Dataset()])
    dataset.private_block(0x0029, "SOMEBODY", create=True).add_new(1, "LO", "private")
    dataset.add_new(0x00282000, "OB", b"profile")  # ICC Profile
    assert set(attributes_of([dataset])) == {"Modality"}


def test_no_header_has_no_attributes() -> None:
    assert attributes_of([]) == {}


def test_what_no_database_takes_is_left_out_of_the_attributes() -> None:
    header = Dataset()
    header.add_new("SeriesDescription", "LO", "t1\0mprage")
    assert attributes_of([header])["SeriesDescription"] == ("t1mprage",)
