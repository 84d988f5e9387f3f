"""The attributes of a stored instance are what pydicom says, for a fraction of the time."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import pytest
from pydicom.charset import convert_encodings, python_encoding
from pydicom.data import get_charset_files
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from dicom_node.attributes import AttributesReader, read_attributes
from dicom_node.elements import Stumbled
from dicom_node.errors import StudyUnusable
from dicom_node.file_walk import layout_of, walk
from dicom_node.headers import attributes_of
from dicom_node.part10 import FIRST_BYTES
from dicom_node.plain_values import NotPlain, texts_of
from dicom_node.store.reading import StoredFile
from tests.factories import make_ct_series, make_instance
from tests.unit.headers_in_memory import (
    KEYWORDS,
    InMemory,
    ahead_by_pydicom,
    by_pydicom,
    outcome,
    reading_by,
)
from tests.unit.receive.data_sets import (
    BIG_ENDIAN,
    DATA,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG_LS,
    encoded,
    part10,
)

FILES = sorted(path for path in DATA.rglob("*") if path.is_file())
UNDEFINED = 0xFFFFFFFF


def file_of(dataset: Dataset, transfer_syntax_uid: str = EXPLICIT) -> InMemory:
    return InMemory(part10(encoded(dataset, transfer_syntax_uid), transfer_syntax_uid))


def file_with(*elements: bytes, transfer_syntax_uid: str = EXPLICIT) -> InMemory:
    return InMemory(part10(b"".join(elements), transfer_syntax_uid))


def explicit(tag: int, vr: str, value: bytes = b"", length: int | None = None) -> bytes:
    """Return an element in Explicit VR Little Endian (PS3.5 7.1.2)."""
    length = len(value) if length is None else length
    begin = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode("ascii"))
    if vr in {"OB", "OW", "SQ", "UC", "UN", "UR", "UT"}:
        return begin + struct.pack("<HL", 0, length) + value
    return begin + struct.pack("<H", length) + value


def implicit(tag: int, value: bytes = b"", length: int | None = None) -> bytes:
    """Return an element in Implicit VR Little Endian, an item or a delimiter."""
    length = len(value) if length is None else length
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, length) + value


def item(*elements: bytes) -> bytes:
    return implicit(0xFFFEE000, b"".join(elements))


END_OF_SEQUENCE = implicit(0xFFFEE0DD)
CHARACTER_SET = explicit(0x00080005, "CS", b"ISO_IR 100")
MODALITY = explicit(0x00080060, "CS", b"CT")
ROWS = explicit(0x00280010, "US", b"\0\2")
PIXELS = explicit(0x7FE00010, "OW", bytes(64))
ASKED = frozenset({"Modality", "StudyDescription", "Rows"})

# ------------------------------------------------------------ as pydicom says


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(DATA).as_posix())
def test_of_every_real_file_it_says_what_pydicom_says(file: Path) -> None:
    chosen = random.Random(file.name)
    some = [frozenset(chosen.sample(sorted(KEYWORDS), count)) for count in (3, 30)]
    for keywords in (KEYWORDS, *some):
        assert outcome(read_attributes, file, keywords) == outcome(by_pydicom, file, keywords)


@pytest.mark.parametrize("file", get_charset_files("*.dcm"), ids=lambda file: Path(file).name)
def test_every_character_set_is_decoded(file: str) -> None:
    said = read_attributes(Path(file), KEYWORDS)
    assert said == by_pydicom(Path(file), KEYWORDS)


def test_real_files_are_walked_and_not_left_to_pydicom() -> None:
    left = set()
    for file in FILES:
        with file.open("rb") as opened:
            try:
                walk(opened, {0x00080005, 0x00280010}, 0x00280010)
            except Stumbled:
                left.add(file.relative_to(DATA).as_posix())
    assert {name for name in left if name.endswith(".dcm")} == {
        "malformed/explicit_VR-UN.dcm",  # a sequence as UN that is a mixture
        "malformed/fo-dicom-GH227.dcm",  # deflated, as the next two
        "malformed/fo-dicom-Issue1097_FailToOpenDeflatedFileWithSQ.dcm",
        "transfer-syntaxes/CTImage_1.2.840.10008.1.2.1.99.dcm",
    }


@pytest.mark.parametrize("uid", [EXPLICIT, IMPLICIT, BIG_ENDIAN, JPEG_LS])
@pytest.mark.parametrize("meta", [True, False])
def test_every_encoding_is_read(uid: str, meta: bool) -> None:
    dataset = make_instance(PatientName="Müller^Jörg=山田^太郎", SpecificCharacterSet="ISO_IR 192")
    dataset.PixelPaddingValue = -2000 if uid != IMPLICIT else b"\x30\xf8"
    dataset["PixelPaddingValue"].VR = "SS" if uid != IMPLICIT else "OW"
    content = encoded(dataset, uid)
    file = InMemory(part10(content, uid) if meta else content)
    said = outcome(read_attributes, file, KEYWORDS)
    assert said == outcome(by_pydicom, file, KEYWORDS)
    if meta:
        assert isinstance(said, dict)
        assert said["PatientName"] == ("Müller^Jörg=山田^太郎",)
        assert said["PixelPaddingValue"] == ("-2000",)


def test_a_deflated_file_is_read(data_dir: Path) -> None:
    file = data_dir / "transfer-syntaxes" / f"CTImage_{DEFLATED}.dcm"
    assert read_attributes(file, ASKED)["Modality"] == ("CT",)


def test_a_file_in_a_segment_of_the_store_is_read(tmp_path: Path) -> None:
    content = file_of(make_instance()).content
    (tmp_path / "segment").write_bytes(b"before" + content + b"behind")
    file = StoredFile(tmp_path / "segment", 6, len(content))
    assert read_attributes(file, ASKED) == {
        "SpecificCharacterSet": ("ISO_IR 100",),
        "Modality": ("CT",),
        "StudyDescription": ("Synthetic study",),
        "Rows": ("64",),
    }


def test_a_file_that_is_not_there_is_no_broken_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_attributes(tmp_path / "absent", ASKED)


# ------------------------------------------------------------ walked, or left to pydicom

BARE = {
    "nothing": b"",
    "few bytes": b"DICM",
    "no DICOM": b"no DICOM at all\n" * 40,
    "ones": b"\xff" * 500,
    "a preamble alone": bytes(128) + b"DICM",
    "explicit": MODALITY + ROWS + PIXELS,
    "implicit": implicit(0x00080060, b"CT") + implicit(0x00280010, b"\0\2"),
    "a great group first": explicit(0x04000010, "LO", b"ab") + ROWS,
}
DATA_SETS = {
    "plain": CHARACTER_SET + MODALITY + ROWS + PIXELS,
    "nothing that is asked for": explicit(0x00080070, "LO", b"ACME") + PIXELS,
    "nothing but a character set": CHARACTER_SET + PIXELS,
    "no pixels": MODALITY + ROWS,
    "a value that is cut off": MODALITY + ROWS[:-1],
    "a header that is cut off": MODALITY + ROWS[:-4],
    "a long header that is cut off": MODALITY + explicit(0x00091010, "UN", b"")[:-2],
    "another value that is cut off": MODALITY + explicit(0x00091010, "UN", b"ab", 500),
    "a tag twice": MODALITY + MODALITY + ROWS,
    "tags out of order": ROWS + MODALITY,
    "a VR that nobody knows": explicit(0x00080008, "ZZ", b"AB") + MODALITY + ROWS,
    "implicit in the middle": MODALITY + implicit(0x00081030, b"ab") + ROWS,
    "implicit throughout": implicit(0x00080060, b"CT") + implicit(0x00280010, b"\0\2"),
    "a command set": implicit(0, b"\0\0\0\0") + MODALITY,
    "File Meta again": explicit(0x00020010, "UI", b"1.2.840.10008.1.2\0") + MODALITY,
    "a group before 0008": explicit(0x00041130, "CS", b"AB") + MODALITY,
    "text as UN": explicit(0x00081030, "UN", b"abdomen ") + ROWS,
    "numbers as UN": MODALITY + explicit(0x00280010, "UN", b"\0\2"),
    "numbers as text": MODALITY + explicit(0x00280010, "LO", b"512 "),
    "text as bytes": MODALITY + explicit(0x00081030, "OB", b"ab") + ROWS,
    "an odd number of bytes": MODALITY + explicit(0x00280010, "US", b"\0\2\0"),
    "a character set as LO": explicit(0x00080005, "LO", b"ISO_IR 100") + MODALITY,
    "a character set that nobody knows": explicit(0x00080005, "CS", b"KLINGON ")
    + explicit(0x00081030, "LO", b"\xe4b"),
    "a character set over which pydicom fails": explicit(0x00080005, "CS", b"ISO\0IR") + MODALITY,
    "an empty character set": explicit(0x00080005, "CS") + explicit(0x00081030, "LO", b"\xe4b"),
    "a misspelt character set": explicit(0x00080005, "CS", b"ISO IR 192")
    + explicit(0x00081030, "LO", "äb".encode()),
    "an encoding of Python's": explicit(0x00080005, "CS", b"hex ")
    + explicit(0x00081030, "LO", b"6162"),
    "text that does not fit its character set": explicit(0x00080005, "CS", b"ISO_IR 192")
    + explicit(0x00081030, "LO", b"\xe4b"),
    "a sequence of defined length is not looked into": explicit(0x00081140, "SQ", b"\xff" * 33)
    + ROWS,
    "a sequence of undefined length": explicit(
        0x00081140, "SQ", item(MODALITY) + item() + END_OF_SEQUENCE, UNDEFINED
    )
    + ROWS,
    "a sequence without an end": explicit(0x00081140, "SQ", item(MODALITY), UNDEFINED),
    "bytes of undefined length": explicit(
        0x00091010, "OB", item(b"ab") + END_OF_SEQUENCE, UNDEFINED
    )
    + ROWS,
    "what is wanted is a sequence": explicit(
        0x00280010, "SQ", item(MODALITY) + END_OF_SEQUENCE, UNDEFINED
    ),
    "what is wanted is a sequence of defined length": MODALITY
    + explicit(0x00280010, "SQ", item(MODALITY)),
    "what is wanted is broken": MODALITY + explicit(0x00280010, "SQ", b"\xff" * 33),
}
IMPLICIT_DATA_SETS = {
    "plain": implicit(0x00080060, b"CT") + implicit(0x00280010, b"\0\2"),
    "a tag twice": implicit(0x00080060, b"CT") * 2,
    "explicit throughout": MODALITY + ROWS,
    "a sequence": implicit(
        0x00081140, item(implicit(0x00080060, b"CT")) + END_OF_SEQUENCE, UNDEFINED
    )
    + implicit(0x00280010, b"\0\2"),
    "text of undefined length": implicit(0x00081030, item() + END_OF_SEQUENCE, UNDEFINED),
    "a value that is cut off": implicit(0x00080060, b"CT") + implicit(0x00280010, b"\0", 2),
}


@pytest.mark.parametrize("case", BARE)
def test_what_has_no_file_meta_is_read_as_pydicom_reads_it(case: str) -> None:
    file = InMemory(BARE[case])
    assert outcome(read_attributes, file, ASKED) == outcome(by_pydicom, file, ASKED)


@pytest.mark.parametrize("case", DATA_SETS)
@pytest.mark.parametrize("uid", [EXPLICIT, BIG_ENDIAN, "no UID"])
def test_whatever_is_in_a_data_set_is_read_as_pydicom_reads_it(case: str, uid: str) -> None:
    file = file_with(DATA_SETS[case], transfer_syntax_uid=uid)
    assert outcome(read_attributes, file, ASKED) == outcome(by_pydicom, file, ASKED)


@pytest.mark.parametrize("case", IMPLICIT_DATA_SETS)
def test_in_implicit_vr_too(case: str) -> None:
    file = file_with(IMPLICIT_DATA_SETS[case], transfer_syntax_uid=IMPLICIT)
    assert outcome(read_attributes, file, ASKED) == outcome(by_pydicom, file, ASKED)


@pytest.mark.parametrize("representation", [None, b"", b"\0\0", b"\1\0"])
@pytest.mark.parametrize("asked", [{"PixelPaddingValue"}, {"PixelPaddingValue", "Rows"}, KEYWORDS])
def test_us_or_ss_depends_on_the_pixel_representation(
    representation: bytes | None, asked: set[str]
) -> None:
    elements = [] if representation is None else [implicit(0x00280103, representation)]
    file = file_with(*elements, implicit(0x00280120, b"\x30\xf8"), transfer_syntax_uid=IMPLICIT)
    assert outcome(read_attributes, file, asked) == outcome(by_pydicom, file, asked)


@pytest.mark.parametrize(
    "keywords",
    [[], ["NoKeyword"], ["instance_count"], ["PixelData"], ["ReferencedImageSequence"], ["Rows"]],
)
def test_whatever_is_asked_for_is_answered_as_pydicom_does(keywords: list[str]) -> None:
    dataset = make_instance(ReferencedImageSequence=[Dataset()])
    file = file_of(dataset)
    assert outcome(read_attributes, file, keywords) == outcome(by_pydicom, file, keywords)


@pytest.mark.parametrize("content", [b"", b"no DICOM at all\n" * 40, b"\xff" * 500])
def test_what_is_no_dicom_is_unusable(content: bytes) -> None:
    with pytest.raises(StudyUnusable):
        read_attributes(InMemory(content), ASKED)


def test_what_follows_the_last_wanted_attribute_is_not_looked_at() -> None:
    file = file_with(MODALITY, ROWS, explicit(0x00283010, "SQ", b"\xff" * 8, UNDEFINED))
    assert isinstance(outcome(by_pydicom, file, ASKED), str)
    assert read_attributes(file, ASKED) == {"Modality": ("CT",), "Rows": ("512",)}
    assert outcome(ahead_by_pydicom, file, ASKED) == {"Modality": ("CT",), "Rows": ("512",)}


# ------------------------------------------------------------ no more bytes than it takes


def bytes_read(file: InMemory, keywords: frozenset[str] = ASKED) -> int:
    file.opened.clear()
    assert read_attributes(file, keywords) == by_pydicom(InMemory(file.content), keywords)
    (opened,) = file.opened
    return opened.bytes_read


def test_the_beginning_of_a_file_is_read_once() -> None:
    assert bytes_read(file_with(MODALITY, ROWS, PIXELS, bytes(1_000_000))) == FIRST_BYTES


@pytest.mark.parametrize("size", [FIRST_BYTES - 300, FIRST_BYTES, 3 * FIRST_BYTES, 5_000_000])
def test_what_is_long_is_jumped_over(size: int) -> None:
    for cut in range(0, 120, 7):
        long = explicit(0x00091010, "OB", bytes(size - cut))
        file = file_with(MODALITY, long, ROWS, PIXELS, bytes(1_000_000))
        assert bytes_read(file) <= 2 * FIRST_BYTES


def test_a_wanted_value_that_is_long_is_read_whole() -> None:
    text = b"x" * (5 * FIRST_BYTES)
    file = file_with(MODALITY, explicit(0x00104000, "LT", text[:60_000]), ROWS, PIXELS)
    keywords = ASKED | {"PatientComments"}
    assert bytes_read(file, keywords) < 12 * FIRST_BYTES
    assert read_attributes(file, keywords)["PatientComments"] == ("x" * 60_000,)


def test_a_long_sequence_of_undefined_length_is_parsed() -> None:
    content = item(explicit(0x00081150, "UI", b"1.2.3\0")) * 5000 + END_OF_SEQUENCE
    sequence = explicit(0x00081140, "SQ", content, UNDEFINED)
    file = file_with(MODALITY, sequence, ROWS, PIXELS, bytes(1_000_000))
    assert bytes_read(file) < 8 * len(content)


# ------------------------------------------------------------ values

VALUES: dict[str, list[bytes]] = {
    "AE": [b"SCANNER", b" SCANNER ", b"A\\ B ", b"SCANNER\0", b"A\0B", b"\xa0A"],
    "AS": [b"042Y", b"042Y\0", b"042Y\\043Y "],
    "AT": [b"\x18\0\x63\x10", b"\x18\0\x63\x10\x28\0\x10\0", b"\1\2", b"\1\2\3\4\5\6"],
    "CS": [b"CT", b"CT\0", b"A\\B \\ C ", b"  ", b"\\", b"A\0B", b"\xe4"],
    "DA": [b"20240102", b"20240102 ", b"2024\\2025", b"no date"],
    "DS": [
        b"1.50 ",
        b" 1.5",
        b"1\\ 2 \\",
        b"1\\ \\2",
        b" ",
        b"abc",
        b"1,5",
        b"1e999",
        b"nan ",
        b"1_0",
        b"1.5\0",
        b"\x001.5",
        b"1" * 40,
        b"-0",
        b"+.5",
        b"1\\abc",
        b"\t1\n",
    ],
    "DT": [b"20240102101500.5+0100 "],
    "FD": [struct.pack("<d", 1 / 3), struct.pack("<2d", -1.5, 2), b"abc", struct.pack("<d", -1)],
    "FL": [struct.pack("<f", 0.1), struct.pack("<2f", 1, float("inf"))],
    "IS": [
        b"12",
        b" 012 ",
        b"1\\2 ",
        b"1\\\\2",
        b" ",
        b"1.0 ",
        b"1.5 ",
        b"abc ",
        b"9" * 20,
        b"1_0",
        b"+5",
        b"99999999999 ",
        b"1\0",
        b"1\\ \\3",
    ],
    "LO": [
        b"abdomen ",
        b"a\\b \\ c",
        b"a\0b",
        b"ab\0",
        b"\0",
        b"\xe4\xf6",
        b"\xff" * 9,
        b"a\x1b(Bb",
        b"\\ ",
        b"x" * 100,
    ],
    "LT": [b" a\\b \r\n ", b"\xe4b\0 "],
    "PN": [
        b"Doe^Jane",
        b"Doe^Jane== ",
        b"A=B=C",
        b"=B",
        b"A==C=",
        b"A^B\\C^D= ",
        b" ",
        b"\\",
        b"=",
        b"A^^^^=\\=",
        b"\xe4\xf6^\xfc",
        b"A\0B",
        b"\x1b$)C\xb1",
        b"x" * 200,
    ],
    "SH": [b"ab ", b"a\\b"],
    "SL": [struct.pack("<l", -5), struct.pack("<2l", -5, 7), struct.pack("<2l", 5, -7)],
    "SS": [struct.pack("<h", -5), struct.pack("<3h", -5, 7, 9)],
    "ST": [b"a\\b "],
    "SV": [struct.pack("<q", -(2**62))],
    "TM": [b"101500.000000 ", b"1015\\1016"],
    "UC": [b"a\\b "],
    "UI": [b"1.2.3\0", b"1.2\\1.3 ", b" 1.2 ", b"1.2\0\0", b"no UID"],
    "UL": [struct.pack("<L", 2**32 - 1), struct.pack("<2L", 1, 2), b"\1\2\3"],
    "UR": [b"http://a/b ", b"http://a\0"],
    "US": [b"\1\2", b"\1\2\3\4", b"\1"],
    "UT": [b"a\\b "],
    "UV": [struct.pack("<Q", 2**63)],
}
CHARACTER_SETS = sorted({name for name in python_encoding if name})


def texts_by_pydicom(vr: str, value: bytes, character_set: str) -> Any:
    """Return the text of the values, None if pydicom fails or takes it for bytes."""
    tag = BaseTag(0x00081030)
    dataset = Dataset(
        {
            BaseTag(0x00080005): RawDataElement(
                BaseTag(0x00080005),
                "CS",
                len(character_set),
                character_set.encode(),
                0,
                False,
                True,
            ),
            tag: RawDataElement(tag, vr, len(value), value or None, 0, False, True),
        }
    )
    dataset.set_original_encoding(False, True, convert_encodings(character_set.split("\\")))
    try:
        dataset.decode()
    except Exception:  # noqa: BLE001 - it raises anything
        return None
    return attributes_of([dataset]).get("StudyDescription")


def texts(vr: str, value: bytes, character_set: str) -> Any:
    encoding = convert_encodings(character_set.split("\\"))[0]
    try:
        return texts_of(vr.encode(), value, encoding, "<")
    except NotPlain:
        return NotPlain


@pytest.mark.parametrize("vr", VALUES)
@pytest.mark.parametrize("character_set", ["", "ISO_IR 100", "ISO_IR 192", "GB18030", "ISO_IR 13"])
def test_values_are_as_pydicom_says_or_not_plain(vr: str, character_set: str) -> None:
    for value in (*VALUES[vr], b""):
        said = texts(vr, value, character_set)
        assert said in (texts_by_pydicom(vr, value, character_set), NotPlain), value
    assert texts(vr, VALUES[vr][0], character_set) is not NotPlain


@pytest.mark.parametrize("character_set", CHARACTER_SETS)
@pytest.mark.parametrize("vr", ["LO", "PN", "UT"])
def test_every_byte_of_every_character_set_is_decoded_as_pydicom_does(
    vr: str, character_set: str
) -> None:
    for byte in {*range(0x40), *range(0x5A, 0x60), *range(0x7A, 256, 3), 0xFF}:
        for value in (bytes([0x41, byte]), bytes([0xC4, byte])):
            said = texts(vr, value, character_set)
            assert said in (texts_by_pydicom(vr, value, character_set), NotPlain), value


# ------------------------------------------------------------ one file after another


def test_a_reader_says_the_same_of_every_instance_of_a_series() -> None:
    reader = AttributesReader(KEYWORDS)
    for dataset in make_ct_series(20):
        file = file_of(dataset)
        assert reader.read(file) == by_pydicom(file, KEYWORDS)


def test_a_reader_says_the_same_of_whatever_comes_between() -> None:
    reader = AttributesReader(KEYWORDS)
    files: list[Any] = [*FILES[::5], *map(Path, get_charset_files("*.dcm"))]
    random.Random(1).shuffle(files)
    for file in files:
        assert outcome(reading_by(reader), file, ()) == outcome(by_pydicom, file, KEYWORDS)


def test_a_reader_does_not_take_a_text_for_that_of_another_character_set() -> None:
    reader = AttributesReader({"StudyDescription"})
    name = explicit(0x00081030, "LO", b"\xc3\xa4")
    for character_set, expected in ((b"ISO_IR 100", "Ã¤"), (b"ISO_IR 192", "ä")):
        file = file_with(explicit(0x00080005, "CS", character_set), name)
        assert reader.read(file)["StudyDescription"] == (expected,)


def test_a_layout_is_another_if_any_byte_of_it_is() -> None:
    learnt = file_of(make_instance())
    keywords = frozenset({"ImageType", "Modality", "Rows"})
    end = learnt.content.index(explicit(0x00280010, "US", b"\x40\0")) + 10
    for at in range(132, end, 3):
        reader = AttributesReader(keywords)
        for _ in range(4):
            reader.read(learnt)
        changed = bytearray(learnt.content)
        changed[at] ^= 0x03
        file = InMemory(bytes(changed))
        said = outcome(reading_by(reader), file, keywords)
        assert said == outcome(read_attributes, file, keywords)


def test_a_layout_is_not_taken_for_that_of_another_encoding() -> None:
    dataset = make_instance(PixelPaddingValue=5)
    dataset["PixelPaddingValue"].VR = "US"
    reader = AttributesReader(KEYWORDS)
    for uid in [EXPLICIT] * 4 + [BIG_ENDIAN] * 4 + [EXPLICIT, IMPLICIT, JPEG_LS, BIG_ENDIAN]:
        file = file_of(dataset, uid)
        assert reader.read(file) == by_pydicom(file, KEYWORDS)


def test_what_does_not_change_in_a_series_is_not_walked_again() -> None:
    keywords = dict.fromkeys([0x00080005, 0x00080018, 0x00200013, 0x00280010], "")
    layout = None
    for dataset in make_ct_series(6):
        walked = walk(file_of(dataset).open(), keywords, 0x00280010, layout)
        if not walked.is_as_before:
            layout = layout_of(walked, keywords, 0x00280010, layout)
    assert walked.is_as_before
    assert layout is not None
    assert [tag for run in layout.runs for tag, _, _ in run.found] == [0x00080005, 0x00280010]
