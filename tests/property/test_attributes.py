"""Whatever a file holds, its attributes are what pydicom says, or both refuse it."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset

from dicom_node.attributes import AttributesReader, read_attributes
from tests.property.test_identity import HEADERS, elements
from tests.unit.headers_in_memory import (
    KEYWORDS,
    InMemory,
    Outcome,
    ahead_by_pydicom,
    by_pydicom,
    outcome,
    reading_by,
)
from tests.unit.receive.data_sets import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    JPEG_LS,
    encoded,
    part10,
)

CHARACTER_SETS = (
    *(None, "", "ISO_IR 100", "ISO_IR 144", "ISO_IR 192", "GB18030", "ISO_IR 13", "KLINGON"),
    *(["", "ISO 2022 IR 87"], ["ISO 2022 IR 100", "ISO 2022 IR 144"]),
)
# what people and machines write, right or wrong, in the bytes of any character set
TEXTS = st.one_of(
    st.text("AB^=\\ .12-é山\0\n", max_size=24).map(lambda text: text.encode("utf-8")),
    st.sampled_from(
        [b"1.25\\-3", b"12 ", b" 007", b"20240102", b"1.2.840\0", b"CT", b"M ", b"1e3"]
    ),
    st.sampled_from(
        [b"\x1b$B;3ED\x1b(B^A", b"\x1b-L\xd8", b"\xc4\xe4", b"Doe^Jane=\xc9\xbd==", b"\x1b"]
    ),
    st.binary(max_size=12),
)
NUMBERS = st.binary(max_size=4).map(lambda value: value * 4)
VALUES = {
    **dict.fromkeys(("FD", "FL", "SL", "SS", "UL", "US", "AT"), NUMBERS),
    **dict.fromkeys(("SV", "UV"), NUMBERS.map(lambda value: value * 2)),
}
VRS = st.sampled_from(
    [*"AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UN UR UT".split(), *VALUES]  # noqa: SIM905
)
SMALL = sorted(KEYWORDS - {"SpecificCharacterSet"})


def element(tag: int, vr: str, value: bytes, uid: str) -> bytes:
    """Return an element of any value, which pydicom would not write (PS3.5 7.1)."""
    order = ">" if uid == BIG_ENDIAN else "<"
    if uid == IMPLICIT:
        return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value
    begin = struct.pack(f"{order}HH2s", tag >> 16, tag & 0xFFFF, vr.encode("ascii"))
    if vr in {"UC", "UR", "UT", "SV", "UV", "UN"}:
        return begin + struct.pack(f"{order}HL", 0, len(value)) + value
    return begin + struct.pack(f"{order}H", len(value)) + value


REAL = st.sampled_from(HEADERS).map(
    lambda sent: InMemory(part10(sent.data_set, sent.transfer_syntax_uid))
)


@st.composite
def files(draw: st.DrawFn) -> InMemory:
    """Return a file, written in any encoding: attributes among sequences and private elements."""
    uid = draw(st.sampled_from([EXPLICIT, IMPLICIT, BIG_ENDIAN, JPEG_LS]))
    others = Dataset(draw(elements(depth=2)))
    character_set = draw(st.sampled_from(CHARACTER_SETS))
    if character_set is not None:
        others.SpecificCharacterSet = character_set
    written = {}
    for other in others:
        alone = Dataset()
        alone.add(other)
        written[int(other.tag)] = encoded(alone, uid)
    for keyword in draw(st.lists(st.sampled_from(SMALL), unique=True, max_size=12)):
        tag = tag_for_keyword(keyword) or 0
        vr = dictionary_VR(tag)
        if draw(st.integers(0, 5)) == 0 or " or " in vr:
            vr = draw(VRS)
        written[tag] = element(tag, vr, draw(VALUES.get(vr, TEXTS)), uid)
    content = b"".join(written[tag] for tag in sorted(written))
    return InMemory(part10(content, uid))


SUBSETS = st.one_of(
    st.just(KEYWORDS),
    st.frozensets(st.sampled_from(sorted(KEYWORDS)), min_size=1, max_size=20),
)


def check(file: InMemory, keywords: frozenset[str]) -> Outcome:
    """Return what is read: what pydicom says, or says of what is ahead of the last attribute."""
    said = outcome(read_attributes, file, keywords)
    if said != outcome(by_pydicom, file, keywords):
        assert isinstance(said, dict)
        assert said == outcome(ahead_by_pydicom, file, keywords)
    return said


@settings(max_examples=150, deadline=None, derandomize=True)
@given(file=files(), keywords=SUBSETS)
def test_whatever_is_in_a_file_is_read_as_pydicom_reads_it(
    file: InMemory, keywords: frozenset[str]
) -> None:
    assert outcome(read_attributes, file, keywords) == outcome(by_pydicom, file, keywords)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(file=files(), keywords=SUBSETS, data=st.data())
def test_whatever_byte_is_another_it_is_read_as_pydicom_reads_it(
    file: InMemory, keywords: frozenset[str], data: st.DataObject
) -> None:
    check(InMemory(broken(data, file.content)), keywords)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(file=REAL, keywords=SUBSETS, data=st.data())
def test_real_files_that_are_broken_are_read_as_pydicom_reads_them(
    file: InMemory, keywords: frozenset[str], data: st.DataObject
) -> None:
    check(InMemory(broken(data, file.content)), keywords)


def broken(data: st.DataObject, content: bytes) -> bytes:
    """Return a file with a few other bytes, or cut off."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, min(len(changed), 3000) - 1))
        changed[at] = data.draw(
            st.one_of(st.integers(0, 255), st.sampled_from(b"\0\2\x08 AUNSQ\xfe\xe0\xdd\xff"))
        )
    if data.draw(st.booleans()):
        del changed[data.draw(st.integers(0, len(changed))) :]
    return bytes(changed)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    some=st.lists(files(), min_size=1, max_size=4),
    keywords=SUBSETS,
    order=st.lists(st.integers(0, 3), max_size=12),
    data=st.data(),
)
def test_a_reader_reads_any_order_of_files(
    some: list[InMemory], keywords: frozenset[str], order: list[int], data: st.DataObject
) -> None:
    reader = AttributesReader(keywords)
    for index in order:
        content = some[index % len(some)].content
        file = InMemory(broken(data, content) if data.draw(st.booleans()) else content)
        said = outcome(reading_by(reader), file, keywords)
        assert said == outcome(read_attributes, file, keywords)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(one=st.one_of(files(), REAL), keywords=SUBSETS, data=st.data())
def test_a_reader_that_knows_the_layout_reads_a_broken_file_as_if_it_did_not(
    one: InMemory, keywords: frozenset[str], data: st.DataObject
) -> None:
    reader = AttributesReader(keywords)
    said = outcome(read_attributes, one, keywords)
    for _ in range(4):
        assert outcome(reading_by(reader), one, keywords) == said
    for _ in range(2):
        file = InMemory(broken(data, one.content))
        said = outcome(reading_by(reader), file, keywords)
        assert said == outcome(read_attributes, file, keywords)
