"""Headers that share their elements are those that pydicom reads, one by one."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.errors import StudyUnusable
from dicom_node.header_reader import HeaderReader
from dicom_node.headers import read_to_the_pixels
from tests.factories import make_ct_series, make_instance, write, write_series

DATA = Path(__file__).parents[1] / "data"
FILES = sorted(
    file
    for file in DATA.rglob("*")
    if file.suffix == ".dcm" or (file.parent.name.startswith("cr-") and file.is_file())
)


def both(reader: HeaderReader, file: Path) -> tuple[Any, Any]:
    """Return what the reader makes of a file, and what pydicom does; errors as their words."""
    outcomes: list[Any] = []
    for read in (reader.read, read_to_the_pixels):
        try:
            outcomes.append(read(file))
        except StudyUnusable as error:
            outcomes.append(error.message)
    return outcomes[0], outcomes[1]


def are_equal(one: Dataset, other: Dataset) -> bool:
    assert [element.tag for element in one] == [element.tag for element in other]
    for here, there in zip(one, other, strict=True):
        # NaN is no NaN, and two of the same bytes are the same
        assert here.VR == there.VR
        assert here == there or repr(here.value) == repr(there.value), here.tag
    return True


@pytest.mark.filterwarnings("ignore")
def test_every_file_that_we_have_is_read_as_pydicom_reads_it_whatever_was_read_before() -> None:
    reader = HeaderReader()
    for file in (*FILES, *reversed(FILES)):
        ours, theirs = both(reader, file)
        if isinstance(theirs, str):
            assert ours == theirs, file
            continue
        (header, pixels_at), (expected, expected_at) = ours, theirs
        assert pixels_at == expected_at, file
        assert are_equal(header, expected), file
        assert are_equal(header.file_meta, expected.file_meta)
        assert header.original_encoding == expected.original_encoding
        assert header.original_character_set == expected.original_character_set


def test_what_is_alike_is_shared_and_what_differs_is_not(tmp_path: Path) -> None:
    reader = HeaderReader()
    first, second = (reader.read(file)[0] for file in write_series(make_ct_series(2), tmp_path))
    assert first["PatientName"] is second["PatientName"]
    assert first["StudyInstanceUID"] is second["StudyInstanceUID"]
    assert first.ImagePositionPatient != second.ImagePositionPatient
    assert first.SOPInstanceUID != second.SOPInstanceUID


def test_the_same_bytes_in_another_character_set_are_another_name(tmp_path: Path) -> None:
    reader, names = HeaderReader(), []
    for character_set in ("ISO_IR 100", "ISO_IR 144"):
        instance = make_instance(SpecificCharacterSet=character_set)
        instance["PatientName"].value = b"\xbb\xee\xda"
        names.append(str(reader.read(write(instance, tmp_path / "x.dcm"))[0].PatientName))
    assert names == ["»îÚ", "Люк"]


@pytest.mark.parametrize("signed", [(0, 1), (1, 0)])
def test_the_same_bytes_of_other_pixels_are_another_number(
    signed: tuple[int, int], tmp_path: Path
) -> None:
    reader, values = HeaderReader(), []
    for is_signed in signed:
        instance = make_instance(np.zeros((4, 4), np.int16 if is_signed else np.uint16))
        instance.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        instance.add_new(0x00280107, "SS" if is_signed else "US", -2 if is_signed else 65534)
        values.append(reader.read(write(instance, tmp_path / "x.dcm"))[0].LargestImagePixelValue)
    assert values == [-2 if is_signed else 65534 for is_signed in signed]


@pytest.mark.parametrize("creators", [("ACUSON", "GEMS_IDEN_01"), ("GEMS_IDEN_01", "ACUSON")])
def test_a_private_element_is_what_its_creator_says(
    creators: tuple[str, str], tmp_path: Path
) -> None:
    reader = HeaderReader()
    for creator in creators:
        instance = make_instance()
        instance.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        instance.add_new(0x00090010, "LO", creator)
        instance.add_new(0x00091000, "LO", "12")
        ours, theirs = both(reader, write(instance, tmp_path / "x.dcm"))
        assert are_equal(ours[0], theirs[0])


def test_a_private_element_that_comes_late_is_what_its_creator_says(tmp_path: Path) -> None:
    reader = HeaderReader()
    for number in range(6):
        instance = make_instance()
        instance.add_new(0x00090010, "LO", "ACUSON")
        instance.add_new(0x000910FF, "DS", str(number))
        if number == 5:  # its creator stands in what all files before share
            instance.add_new(0x00091000, "UN", b"12")
        ours, theirs = both(reader, write(instance, tmp_path / "x.dcm"))
        assert are_equal(ours[0], theirs[0])


def varied(number: int, kind: int) -> FileDataset:
    """Return a slice of a series in which this and that changes, and goes back."""
    instance = make_instance(SOPInstanceUID=f"1.2.{10 ** (number % 3)}.{number}")
    instance.file_meta.TransferSyntaxUID = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)[
        kind & 1
    ]
    if kind & 2:
        instance.PatientComments = "of a localizer" * (number % 3 + 1)
        del instance.StudyDescription
    if kind & 4:
        instance.SpecificCharacterSet = "ISO_IR 144"
    if kind & 8:
        instance.add_new(0x00090010, "LO", ("ACUSON", "GEMS_IDEN_01")[number % 2])
        instance.add_new(0x00091000, "UN", b"12")
    if kind & 16:
        instance.add_new(0x00110010, "LO", "SOMEBODY")
        instance.add_new(0x00111001, "DS", str(number))
    if kind & 32:
        instance.SoftwareVersions = ["3", str(number % 2)]
        instance.AcquisitionNumber = None
    return instance


@pytest.mark.parametrize("seed", range(4))
def test_a_series_in_which_anything_changes_is_read_as_pydicom_reads_it(
    seed: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    few = rng.integers(0, 64, 3)  # runs grow only where files agree for a while
    reader = HeaderReader()
    for number in range(40):
        instance = varied(number, int(rng.choice(few)))
        (header, at), (expected, expected_at) = both(reader, write(instance, tmp_path / "x.dcm"))
        assert at == expected_at
        assert are_equal(header, expected)
        assert are_equal(header.file_meta, expected.file_meta)
        assert header.original_encoding == expected.original_encoding
        assert header.original_character_set == expected.original_character_set


@pytest.mark.parametrize("cut", [200, 700, 1000])
def test_a_file_that_ends_in_its_header_is_as_pydicom_has_it(cut: int, tmp_path: Path) -> None:
    reader = HeaderReader()
    file = write(make_instance(), tmp_path / "x.dcm")
    reader.read(file)
    file.write_bytes(file.read_bytes()[:cut])
    ours, theirs = both(reader, file)
    assert isinstance(ours, str) == isinstance(theirs, str)
    if not isinstance(ours, str):
        assert are_equal(ours[0], theirs[0])


def test_a_header_longer_than_its_beginning_is_read_whole(tmp_path: Path) -> None:
    instance = make_instance()
    instance.add_new(0x00091000, "OB", bytes(100_000))
    file = write(instance, tmp_path / "x.dcm")
    header, pixels_at = HeaderReader().read(file)
    assert header.SOPInstanceUID == instance.SOPInstanceUID
    whole = pydicom.dcmread(BytesIO(file.read_bytes()))
    assert file.read_bytes()[pixels_at:][-len(whole.PixelData) :] == whole.PixelData
