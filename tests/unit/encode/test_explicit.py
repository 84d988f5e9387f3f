"""Elements written one by one are those that pydicom writes."""

from __future__ import annotations

from io import BytesIO

import pytest
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from dicom_node.encode.drafts import Draft, pieces_of
from dicom_node.encode.explicit import coded, element, head_of, sequence, text, unsigned_short
from dicom_node.encode.header import part10
from dicom_node.finding import Code
from tests.factories import make_instance


def read(encoded: bytes) -> Dataset:
    return read_dataset(BytesIO(encoded), is_implicit_VR=False, is_little_endian=True)


@pytest.mark.parametrize(
    ("code", "keyword"),
    [
        (Code("1" * 16, "SCT", "Short"), "CodeValue"),
        (Code("1" * 17, "SCT", "Long"), "LongCodeValue"),
        (Code("urn:oid:1.2.3.4.5.6", "SCT", "A name"), "URNCodeValue"),
        (Code("https://example.org/codes#1", "SCT", "A place"), "URNCodeValue"),
    ],
)
def test_a_code_stands_where_it_fits(code: Code, keyword: str) -> None:
    [item] = read(coded("ConceptNameCodeSequence", code)).ConceptNameCodeSequence
    assert item[keyword].value == code.value
    assert (item.CodingSchemeDesignator, item.CodeMeaning) == (code.scheme, code.meaning)
    assert len(item) == 3


def test_a_meaning_that_its_vr_does_not_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="64"):
        coded("ConceptNameCodeSequence", Code("1", "SCT", "x" * 65))


@pytest.mark.parametrize("value", ["", "a", "ab", "Ä", "山田", "a\udcff"])
def test_text_has_an_even_length_and_is_utf_8(value: str) -> None:
    encoded = text("TextValue", value)
    assert len(encoded) % 2 == 0
    assert encoded[12:].decode().rstrip() == value.encode("utf-8", "replace").decode()


def test_a_uid_is_filled_up_with_a_zero_and_words_with_a_space() -> None:
    assert text("UID", "1.2").endswith(b"1.2\0")
    assert text("ValueType", "NUM").endswith(b"NUM ")


def test_numbers_and_empty_sequences_are_read_back() -> None:
    dataset = read(
        unsigned_short("Rows", 512) + unsigned_short("RecommendedDisplayCIELabValue", 1, 2, 3)
    )
    assert (dataset.Rows, dataset.RecommendedDisplayCIELabValue) == (512, [1, 2, 3])
    assert len(read(sequence("ContentSequence")).ContentSequence) == 0


def test_what_nobody_knows_and_what_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="NoSuchThing"):
        element("NoSuchThing", b"")
    with pytest.raises(ValueError, match="16 bits"):
        head_of("Rows", 2)


@pytest.mark.parametrize(
    "keywords",
    [(), ("PixelData",), ("PatientName", "Rows"), ("StudyDate", "SeriesInstanceUID", "PixelData")],
)
def test_elements_beside_a_data_set_stand_where_their_tags_say(keywords: tuple[str, ...]) -> None:
    whole = make_instance(PatientName="Jérôme", SpecificCharacterSet="ISO_IR 192")
    expected = part10(whole)
    written = {}
    for keyword in keywords:
        alone = Dataset()
        alone.add(whole[keyword])
        alone.file_meta = whole.file_meta
        alone.SpecificCharacterSet = "ISO_IR 192"
        encoded = part10(alone)
        written[keyword] = [encoded[len(encoded) - size_of(encoded, whole, keyword) :]]
        del whole[keyword]
    assert b"".join(pieces_of(Draft(whole, written))) == expected


def size_of(encoded: bytes, whole: Dataset, keyword: str) -> int:
    """Return how many bytes the last element of a file has."""
    tag = whole[keyword].tag
    begin = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little")
    return len(encoded) - encoded.rindex(begin + whole[keyword].VR.encode())
