"""Whatever the bytes are, their UIDs are what pydicom says, or there is a refusal; nothing else."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dicom_node.receive.identity import IdentityReader, peek_identity, read_identity
from dicom_node.receive.policy import Identity
from tests.unit.receive.data_sets import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG_LS,
    Outcome,
    Sent,
    encoded,
    identity_by_pydicom,
    outcome,
    real_data_sets,
    told_by,
)

SYNTAXES = (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED, JPEG_LS)
CHARACTER_SETS = (None, "", "ISO_IR 100", "ISO_IR 192", ["", "ISO 2022 IR 87"], "KLINGON")
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "AE": st.just("SCANNER"),
    "AT": st.just(0x00080018),
    "CS": st.sampled_from(["", "AXIAL", ["ORIGINAL", "PRIMARY"]]),
    "DS": st.sampled_from(["", "12.5", ["1", "2.25"]]),
    "FD": st.floats(allow_nan=False),
    "LO": st.text("AB c", max_size=9),
    "OB": st.binary(max_size=9),
    "OW": st.binary(max_size=4).map(lambda value: value * 2),
    "SV": st.integers(-(2**63), 2**63 - 1),
    "UC": st.text("ab", max_size=70),
    "UI": st.sampled_from(["", "1.2.3", ["1.2", "1.3"]]),
    "UL": st.integers(0, 2**32 - 1),
    "UN": st.binary(max_size=40),
    "UR": st.just("urn:oid:1.2"),
    "US": st.integers(0, 2**16 - 1),
    "UT": st.text("ab", max_size=300),
    "UV": st.integers(0, 2**64 - 1),
}
# of both kinds, and beside the four UIDs
TAGS = (
    *(0x00080008, 0x00080012, 0x00080017, 0x00081030, 0x00081111, 0x00081140, 0x00100010),
    *(0x00180015, 0x00181030, 0x0020000C, 0x0020000F, 0x00280010, 0x30060010, 0x54000100),
)
PRIVATE_GROUPS = (0x0009, 0x0019, 0x0021)
UIDS = st.lists(st.integers(1, 10**9), min_size=1, max_size=6).map(
    lambda numbers: ".".join(["1", *map(str, numbers)])
)


@st.composite
def elements(draw: st.DrawFn, depth: int) -> Dataset:
    """Return a few elements of any VR, public and private, with sequences of either length."""
    dataset = Dataset()
    for tag in draw(st.lists(st.sampled_from(TAGS), max_size=5, unique=True)):
        add(draw, dataset, tag, depth)
    for group in draw(st.lists(st.sampled_from(PRIVATE_GROUPS), max_size=2, unique=True)):
        block = dataset.private_block(group, "SOMEBODY", create=True)
        for number in range(draw(st.integers(0, 3))):
            add(draw, dataset, block.get_tag(number), depth)
    return dataset


def add(draw: st.DrawFn, dataset: Dataset, tag: int, depth: int) -> None:
    """Add an element, which is a sequence one time in three."""
    if depth and draw(st.integers(0, 2)) == 0:
        items = draw(st.lists(elements(depth - 1), max_size=3))
        for item in items:
            item.is_undefined_length_sequence_item = draw(st.booleans())
            if draw(st.booleans()):
                item.SpecificCharacterSet = "ISO_IR 100"
        dataset.add_new(tag, "SQ", items)
        dataset[tag].is_undefined_length = draw(st.booleans())
        return
    known = not tag >> 16 & 1  # pydicom writes no UN where the dictionary knows better
    vr = draw(st.sampled_from(sorted(VALUES.keys() - {"UN"} if known else VALUES)))
    dataset.add_new(tag, vr, draw(VALUES[vr]))


@st.composite
def sent(draw: st.DrawFn) -> tuple[Sent, Identity]:
    """Return a data set, written by pydicom in any encoding, and its UIDs."""
    dataset = draw(elements(depth=3))
    identity = Identity(draw(UIDS), draw(UIDS), draw(UIDS), draw(UIDS))
    dataset.SOPClassUID = identity.sop_class_uid
    dataset.SOPInstanceUID = identity.sop_instance_uid
    dataset.StudyInstanceUID = identity.study_instance_uid
    dataset.SeriesInstanceUID = identity.series_instance_uid
    character_set = draw(st.sampled_from(CHARACTER_SETS))
    if character_set is not None:
        dataset.SpecificCharacterSet = character_set
    uid = draw(st.sampled_from(SYNTAXES))
    data_set = encoded(dataset, uid)
    if uid == DEFLATED:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data_set = deflate.compress(data_set) + deflate.flush()
    one = Sent("generated", data_set, uid)
    # pydicom guesses whether VRs are there from what comes first; before a sequence of no length
    # that holds another one it guesses wrong, and cannot read what it wrote
    assume(outcome(identity_by_pydicom, one) == identity)
    return one, identity


def headers() -> list[Sent]:
    """Return one of each kind of real data set, without most of its pixels."""
    folders: dict[str, Sent] = {}
    for real in real_data_sets():
        folder = real.name.rpartition("/")[0]
        several = folder in {"malformed", "transfer-syntaxes", "xray", "charsets"}
        kept = real.data_set[:4096] if real.transfer_syntax_uid != DEFLATED else real.data_set
        folders.setdefault(real.name if several else folder, replace(real, data_set=kept))
    return list(folders.values())


HEADERS = headers()


def check(one: Sent) -> Outcome:
    """Return what is read: what pydicom says, or says of what ends with the Series UID."""
    said = outcome(read_identity, one)
    if said != outcome(identity_by_pydicom, one):
        assert isinstance(said, Identity)
        needed = told_by(one)
        if one.transfer_syntax_uid == DEFLATED:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            one = Sent("inflated", inflate.decompress(one.data_set[:needed]), EXPLICIT)
            needed = told_by(one)
        cut = replace(one, data_set=one.data_set[:needed])
        assert outcome(identity_by_pydicom, cut) == said
    return said


@settings(max_examples=120, deadline=None, derandomize=True)
@given(pair=sent())
def test_whatever_pydicom_writes_is_read(pair: tuple[Sent, Identity]) -> None:
    one, identity = pair
    assert outcome(read_identity, one) == identity
    assert outcome(identity_by_pydicom, one) == identity
    reader = IdentityReader()
    assert [outcome(reader.read, one), outcome(reader.read, one)] == [identity, identity]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(pair=sent(), data=st.data())
def test_the_beginning_says_what_the_whole_says_or_nothing(
    pair: tuple[Sent, Identity], data: st.DataObject
) -> None:
    one, identity = pair
    size = data.draw(st.integers(0, len(one.data_set)))
    first_bytes = memoryview(one.data_set)[:size]
    assert peek_identity(first_bytes, one.transfer_syntax_uid) in (None, identity)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(content=st.binary(max_size=400), uid=st.sampled_from(SYNTAXES))
@example(content=b"", uid=EXPLICIT)
def test_any_bytes_at_all_are_read_as_pydicom_reads_them(content: bytes, uid: str) -> None:
    check(Sent("bytes", content, uid))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(one=st.sampled_from(HEADERS), data=st.data())
def test_whatever_a_header_is_cut_to_is_read_as_pydicom_reads_it(
    one: Sent, data: st.DataObject
) -> None:
    size = data.draw(st.integers(0, min(len(one.data_set), 3000)))
    cut = replace(one, data_set=one.data_set[:size])
    said = check(cut)
    peeked = outcome(peek_identity, cut)
    assert peeked in (None, said)
    assert peeked in (None, outcome(read_identity, one))


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(one=st.sampled_from(HEADERS), data=st.data())
def test_whatever_byte_of_a_header_is_another_it_is_read_as_pydicom_reads_it(
    one: Sent, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, min(len(one.data_set), 3000) - 1))
    byte = data.draw(
        st.one_of(st.integers(0, 255), st.sampled_from(b"\0\2\x08 AUNSQ\xfe\xe0\xdd\xff"))
    )
    broken = bytearray(one.data_set)
    broken[at] = byte
    check(replace(one, data_set=bytes(broken)))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(pair=sent(), data=st.data())
def test_a_reader_that_knows_the_layout_reads_a_broken_one_as_if_it_did_not(
    pair: tuple[Sent, Identity], data: st.DataObject
) -> None:
    one, identity = pair
    reader = IdentityReader()
    assert outcome(reader.read, one) == identity
    broken = bytearray(one.data_set)
    for _ in range(data.draw(st.integers(1, 3))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    size = data.draw(st.integers(0, len(broken)))
    for content in (bytes(broken), bytes(broken[:size])):
        other = replace(one, data_set=content)
        assert outcome(reader.read, other) == check(other)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    pairs=st.lists(sent(), min_size=1, max_size=4), order=st.lists(st.integers(0, 3), max_size=40)
)
def test_a_reader_reads_any_order_of_instances(
    pairs: list[tuple[Sent, Identity]], order: list[int]
) -> None:
    reader = IdentityReader()
    for index in order:
        one, identity = pairs[index % len(pairs)]
        assert reader.read(one.data_set, one.transfer_syntax_uid) == identity


def test_the_headers_are_of_many_kinds() -> None:
    assert len(HEADERS) > 30
    assert len({one.transfer_syntax_uid for one in HEADERS}) > 12


@pytest.mark.parametrize("uid", SYNTAXES)
def test_nested_sequences_were_written_and_read(uid: str) -> None:
    inner = Dataset()
    inner.StudyInstanceUID = "9.9"
    outer = Dataset()
    outer.ReferencedImageSequence = [inner, Dataset()]
    outer["ReferencedImageSequence"].is_undefined_length = True
    dataset = Dataset()
    dataset.ReferencedStudySequence = [outer]
    dataset["ReferencedStudySequence"].is_undefined_length = True
    assert encoded(dataset, uid).count(b"\xff\xff\xff\xff") == 2
