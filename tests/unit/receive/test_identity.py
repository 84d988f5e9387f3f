"""The four UIDs are what pydicom says, from the first bytes, for a fraction of the time."""

from __future__ import annotations

import gc
import mmap
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.errors import InstanceRefused
from dicom_node.receive.identity import IdentityReader, peek_identity, read_identity
from dicom_node.receive.policy import Identity
from tests.factories import make_instance
from tests.unit.receive.data_sets import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG_LS,
    Sent,
    encoded,
    identity_by_pydicom,
    outcome,
    real_data_sets,
    told_by,
)

REAL = list(real_data_sets())
FIRST_BYTES = 64 * 1024
CT = "1.2.840.10008.5.1.4.1.1.2"
IDENTITY = Identity(CT, "1.2.3.4", "1.2.3", "1.2.3.1")
UNDEFINED = 0xFFFFFFFF
SHORT = "AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()  # noqa: SIM905
LONG = {"OB", "OW", "SQ", "UC", "UN", "UT"}


# ------------------------------------------------------------ data sets by hand


def explicit(group: int, number: int, vr: str, value: bytes = b"", length: int = -1) -> bytes:
    """Return an element in Explicit VR Little Endian (PS3.5 7.1.2)."""
    length = len(value) if length < 0 else length
    if vr in LONG:
        return struct.pack("<HH2sHL", group, number, vr.encode(), 0, length) + value
    return struct.pack("<HH2sH", group, number, vr.encode("latin-1"), length) + value


def implicit(group: int, number: int, value: bytes = b"", length: int = -1) -> bytes:
    """Return an element in Implicit VR Little Endian, an item or a delimiter."""
    return struct.pack("<HHL", group, number, len(value) if length < 0 else length) + value


def item(*elements: bytes) -> bytes:
    return implicit(0xFFFE, 0xE000, b"".join(elements))


def open_item(*elements: bytes) -> bytes:
    content = b"".join(elements)
    return implicit(0xFFFE, 0xE000, content, UNDEFINED) + implicit(0xFFFE, 0xE00D)


END_OF_SEQUENCE = implicit(0xFFFE, 0xE0DD)


def sequence(*items: bytes, vr: str = "SQ", tag: tuple[int, int] = (0x0008, 0x1140)) -> bytes:
    return explicit(*tag, vr, b"".join(items) + END_OF_SEQUENCE, UNDEFINED)


def implicit_sequence(*items: bytes, tag: tuple[int, int] = (0x0008, 0x1140)) -> bytes:
    return implicit(*tag, b"".join(items) + END_OF_SEQUENCE, UNDEFINED)


def nested(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = sequence(open_item(inner))
    return inner


CHARACTER_SET = explicit(0x0008, 0x0005, "CS", b"ISO_IR 100")
IMAGE_TYPE = explicit(0x0008, 0x0008, "CS", b"ORIGINAL\\PRIMARY")
SOP_CLASS = explicit(0x0008, 0x0016, "UI", CT.encode() + b"\0")
SOP_INSTANCE = explicit(0x0008, 0x0018, "UI", b"1.2.3.4\0")
STUDY = explicit(0x0020, 0x000D, "UI", b"1.2.3\0")
SERIES = explicit(0x0020, 0x000E, "UI", b"1.2.3.1\0")
ROWS = explicit(0x0028, 0x0010, "US", b"\0\2")
PIXELS = explicit(0x7FE0, 0x0010, "OW", bytes(64))
HEAD = CHARACTER_SET + IMAGE_TYPE + SOP_CLASS + SOP_INSTANCE
TAIL = STUDY + SERIES + ROWS + PIXELS
IMPLICIT_HEAD = implicit(0x0008, 0x0016, CT.encode() + b"\0") + implicit(8, 0x0018, b"1.2.3.4\0")
IMPLICIT_TAIL = implicit(0x0020, 0x000D, b"1.2.3\0") + implicit(0x0020, 0x000E, b"1.2.3.1\0")
REFERENCE = explicit(0x0008, 0x1150, "UI", CT.encode() + b"\0")
IMPLICIT_REFERENCE = implicit(0x0008, 0x1150, CT.encode() + b"\0")

WALKED = {
    "nothing between": HEAD + TAIL,
    "no character set": IMAGE_TYPE + SOP_CLASS + SOP_INSTANCE + TAIL,
    "the SOP Class UID first": SOP_CLASS + SOP_INSTANCE + TAIL,
    "an old group length": explicit(8, 0, "UL", b"\1\0\0\0") + HEAD + TAIL,
    "two character sets": explicit(8, 5, "CS", b"\\ISO 2022 IR 87")
    + SOP_CLASS
    + SOP_INSTANCE
    + TAIL,
    "an empty character set": explicit(8, 5, "CS") + SOP_CLASS + SOP_INSTANCE + TAIL,
    "nothing behind": HEAD + STUDY + SERIES,
    "every short VR": HEAD
    + b"".join(explicit(9, number, vr, b"1234") for number, vr in enumerate(SHORT))
    + TAIL,
    "long VRs": HEAD
    + b"".join(explicit(9, n, vr, b"x" * 70) for n, vr in enumerate(sorted(LONG)))
    + TAIL,
    "reserved bytes that are not zero": HEAD
    + struct.pack("<HH2sHL", 9, 9, b"UN", 0x4141, 2)
    + b"ab"
    + TAIL,
    "a UID of odd length": HEAD + explicit(0x20, 0x0D, "UI", b"1.2.3") + SERIES,
    "UIDs padded with spaces": HEAD + explicit(0x20, 0x0D, "UI", b"1.2.3 \0 ") + SERIES,
    "a sequence of defined length is not looked into": HEAD
    + explicit(0x0008, 0x1140, "SQ", b"\xff" * 33)
    + TAIL,
    "an empty sequence of defined length": HEAD + explicit(0x0008, 0x1140, "SQ") + TAIL,
    "an empty sequence": HEAD + sequence() + TAIL,
    "empty items": HEAD + sequence(item(), open_item(), item()) + TAIL,
    "items": HEAD + sequence(item(REFERENCE), open_item(REFERENCE, REFERENCE)) + TAIL,
    "items with character sets": HEAD
    + sequence(item(CHARACTER_SET), open_item(CHARACTER_SET))
    + TAIL,
    "sequences in sequences": HEAD
    + sequence(item(nested(3)), open_item(REFERENCE, nested(4)))
    + TAIL,
    "a sequence as UN": HEAD + sequence(item(IMPLICIT_REFERENCE), vr="UN") + TAIL,
    "a sequence as UN that is explicit": HEAD + sequence(open_item(REFERENCE), vr="UN") + TAIL,
    "sequences within UN": HEAD
    + sequence(open_item(implicit_sequence(item(IMPLICIT_REFERENCE))), vr="UN", tag=(9, 1))
    + TAIL,
    "UIDs within items are not the instance's": HEAD
    + sequence(item(explicit(0x20, 0x0D, "UI", b"9.9.9\0")))
    + TAIL,
}

NOT_WALKED = {
    "nothing": b"",
    "zeros": bytes(64),
    "ones": b"\xff" * 100,
    "no DICOM": b"no DICOM at all",
    "a part 10 file": bytes(128) + b"DICM" + HEAD + TAIL,
    "File Meta in the data set": explicit(2, 0x10, "UI", b"1.2.840.10008.1.2\0") + HEAD + TAIL,
    "a command set in front": implicit(0, 0, b"\0\0\0\0") + HEAD + TAIL,
    "a group before 0008": explicit(4, 0x1130, "CS", b"AB") + HEAD + TAIL,
    "the SOP Class UID twice": HEAD + SOP_CLASS + TAIL,
    "the Study UID before the SOP Instance UID": CHARACTER_SET
    + SOP_CLASS
    + STUDY
    + SOP_INSTANCE
    + SERIES,
    "the Series UID first": SERIES + HEAD + STUDY,
    "a tag twice": HEAD + explicit(9, 9, "LO", b"ab") * 2 + TAIL,
    "tags out of order": HEAD + explicit(9, 9, "LO", b"ab") + explicit(9, 8, "LO", b"ab") + TAIL,
    "no Study UID": HEAD + SERIES + ROWS + PIXELS,
    "no Series UID": HEAD + STUDY + ROWS + PIXELS,
    "no SOP Class UID": CHARACTER_SET + SOP_INSTANCE + TAIL,
    "no UIDs": CHARACTER_SET + ROWS + PIXELS,
    "an empty UID": HEAD + explicit(0x20, 0x0D, "UI") + SERIES,
    "a blank UID": HEAD + explicit(0x20, 0x0D, "UI", b" \0") + SERIES,
    "two UIDs": HEAD + explicit(0x20, 0x0D, "UI", b"1.2\\1.3 ") + SERIES,
    "a space before a UID": HEAD + explicit(0x20, 0x0D, "UI", b" 1.2.3") + SERIES,
    "letters in a UID": HEAD + explicit(0x20, 0x0D, "UI", b"1.2.x\0") + SERIES,
    "a byte over 127 in a UID": HEAD + explicit(0x20, 0x0D, "UI", b"1.2.\xe4\0") + SERIES,
    "a UID as LO": HEAD + explicit(0x20, 0x0D, "LO", b"1.2.3 ") + SERIES,
    "a UID as UN": HEAD + explicit(0x20, 0x0D, "UN", b"1.2.3 ") + SERIES,
    "a UID as SQ": HEAD + sequence(item(), tag=(0x20, 0x0D)) + SERIES,
    "a character set that nobody knows": explicit(8, 5, "CS", b"KLINGON ")
    + IMAGE_TYPE
    + HEAD[18:]
    + TAIL,
    "a character set over which pydicom fails": explicit(8, 5, "CS", b"ISO\0IR") + SOP_CLASS + TAIL,
    "a character set as LO": explicit(8, 5, "LO", b"ISO_IR 100") + SOP_CLASS + SOP_INSTANCE + TAIL,
    "a character set of 300 bytes": explicit(8, 5, "CS", b"\\" * 300)
    + SOP_CLASS
    + SOP_INSTANCE
    + TAIL,
    "a broken character set in an item": HEAD
    + sequence(item(explicit(8, 5, "CS", b"ISO\0IR")))
    + TAIL,
    "a character set of numbers in an item": HEAD
    + sequence(item(explicit(8, 5, "US", b"abc")))
    + TAIL,
    "a character set of items in an item": HEAD
    + sequence(item(sequence(item(), tag=(8, 5))))
    + TAIL,
    "a VR that nobody knows": HEAD + explicit(9, 1, "ZZ", b"ab") + TAIL,
    "a VR in small letters": HEAD + explicit(9, 1, "lo", b"ab") + TAIL,
    "a VR of zeros": HEAD + explicit(9, 1, "\0\0", b"ab") + TAIL,
    "implicit from somewhere on": HEAD + implicit(9, 1, b"ab") + IMPLICIT_TAIL,
    "implicit throughout": IMPLICIT_HEAD + IMPLICIT_TAIL,
    "a length beyond the end": HEAD + explicit(9, 1, "LO", b"ab", 5000) + TAIL,
    "a long length beyond the end": HEAD + explicit(9, 1, "UN", b"ab", UNDEFINED - 1) + TAIL,
    "a Series UID that is cut off": HEAD + STUDY + SERIES[:-4],
    "bytes of undefined length": HEAD
    + explicit(9, 1, "OB", item(b"ab") + END_OF_SEQUENCE, UNDEFINED)
    + TAIL,
    "bytes of undefined length without an end": HEAD
    + explicit(9, 1, "OB", b"ab", UNDEFINED)
    + TAIL,
    "a sequence without an end": HEAD
    + explicit(8, 0x1140, "SQ", item(REFERENCE), UNDEFINED)
    + TAIL,
    "an item without an end": HEAD
    + explicit(8, 0x1140, "SQ", implicit(0xFFFE, 0xE000, REFERENCE, UNDEFINED), UNDEFINED)
    + TAIL,
    "no item in a sequence": HEAD + sequence(REFERENCE) + TAIL,
    "an item of another group": HEAD + sequence(implicit(0xFFFC, 0xE000)) + TAIL,
    "an element that ends behind its item": HEAD
    + sequence(implicit(0xFFFE, 0xE000, REFERENCE, len(REFERENCE) - 4))
    + TAIL,
    "an item that ends within a header": HEAD
    + sequence(implicit(0xFFFE, 0xE000, REFERENCE, len(REFERENCE) + 4), item())
    + TAIL,
    "a delimiter in an item of defined length": HEAD
    + sequence(item(REFERENCE, implicit(0xFFFE, 0xE00D)))
    + TAIL,
    "an item's delimiter that has a length": HEAD
    + sequence(implicit(0xFFFE, 0xE000, REFERENCE, UNDEFINED) + implicit(0xFFFE, 0xE00D, b"", 7))
    + TAIL,
    "the end of the sequence within an item": HEAD
    + sequence(implicit(0xFFFE, 0xE000, REFERENCE + END_OF_SEQUENCE, UNDEFINED))
    + TAIL,
    "a VR in an item that nobody knows": HEAD + sequence(item(explicit(9, 1, "ZZ", b"ab"))) + TAIL,
    "a second VR in an item that nobody knows": HEAD
    + sequence(item(REFERENCE, explicit(9, 1, "ZZ", b"ab")))
    + TAIL,
    "bytes of undefined length in an item": HEAD
    + sequence(item(explicit(9, 1, "OB", END_OF_SEQUENCE, UNDEFINED)))
    + TAIL,
    "text of undefined length in an implicit item": HEAD
    + sequence(item(implicit(8, 0x1030, item() + END_OF_SEQUENCE, UNDEFINED)), vr="UN")
    + TAIL,
    "the end of the sequence within an implicit item": HEAD
    + sequence(item(IMPLICIT_REFERENCE, END_OF_SEQUENCE), vr="UN")
    + TAIL,
    "sequences twenty deep": HEAD + nested(20) + TAIL,
}

WALKED_IMPLICIT = {
    "nothing between": IMPLICIT_HEAD + IMPLICIT_TAIL,
    "a character set": implicit(8, 5, b"ISO_IR 192") + IMPLICIT_HEAD + IMPLICIT_TAIL,
    "a sequence": IMPLICIT_HEAD
    + implicit_sequence(item(IMPLICIT_REFERENCE), open_item(IMPLICIT_REFERENCE), item())
    + IMPLICIT_TAIL,
    "a private sequence": IMPLICIT_HEAD
    + implicit_sequence(open_item(IMPLICIT_REFERENCE), tag=(9, 0x1001))
    + IMPLICIT_TAIL,
    "an empty private sequence": IMPLICIT_HEAD + implicit_sequence(tag=(9, 0x1001)) + IMPLICIT_TAIL,
    "sequences in a sequence": IMPLICIT_HEAD
    + implicit_sequence(open_item(implicit_sequence(item(IMPLICIT_REFERENCE))))
    + IMPLICIT_TAIL,
}

NOT_WALKED_IMPLICIT = {
    "explicit throughout": HEAD + TAIL,
    "an explicit item": IMPLICIT_HEAD + implicit_sequence(item(REFERENCE)) + IMPLICIT_TAIL,
    "a first length that looks like a VR": implicit(8, 0, b"x" * 0x4141)
    + IMPLICIT_HEAD
    + IMPLICIT_TAIL,
    "text of undefined length": IMPLICIT_HEAD
    + implicit_sequence(item(IMPLICIT_REFERENCE), tag=(8, 0x1030))
    + IMPLICIT_TAIL,
    "a UID of undefined length": IMPLICIT_HEAD
    + implicit_sequence(tag=(0x20, 0x0D))
    + IMPLICIT_TAIL[14:],
    "private bytes of undefined length": IMPLICIT_HEAD
    + implicit(9, 0x1001, b"abcd" + END_OF_SEQUENCE, UNDEFINED)
    + IMPLICIT_TAIL,
    "a delimiter among the elements": IMPLICIT_HEAD + implicit(0xFFFE, 0xE00D) + IMPLICIT_TAIL,
}


def ct(**changes: Any) -> Dataset:
    """Return a CT image with sequences of undefined length and private elements ahead."""
    dataset = make_instance(**changes)
    reference = Dataset()
    reference.ReferencedSOPClassUID = CT
    reference.ReferencedSOPInstanceUID = "1.2.3.4.5.6"
    dataset.ReferencedImageSequence = [reference, Dataset()]
    dataset["ReferencedImageSequence"].is_undefined_length = True
    block = dataset.private_block(0x0009, "SOMEBODY", create=True)
    block.add_new(1, "LO", "private")
    block.add_new(2, "OB", b"\1\2\3\4")
    return dataset


def sent(transfer_syntax_uid: str = EXPLICIT, **changes: Any) -> Sent:
    data_set = encoded(ct(**changes), transfer_syntax_uid)
    if transfer_syntax_uid == DEFLATED:
        data_set = deflated(data_set)
    return Sent("", data_set, transfer_syntax_uid)


def deflated(data_set: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(data_set) + deflate.flush()


def identity_of(dataset: Dataset) -> Identity:
    return Identity(
        str(dataset.SOPClassUID),
        str(dataset.SOPInstanceUID),
        str(dataset.StudyInstanceUID),
        str(dataset.SeriesInstanceUID),
    )


# ------------------------------------------------------------ as pydicom says


@pytest.mark.parametrize("real", REAL, ids=lambda real: real.name)
def test_of_every_real_file_it_says_what_pydicom_says(real: Sent) -> None:
    said = outcome(identity_by_pydicom, real)
    assert outcome(read_identity, real) == said
    assert outcome(IdentityReader().read, real) == said
    assert peek_identity(real.data_set[:FIRST_BYTES], real.transfer_syntax_uid) in (said, None)


def test_the_first_bytes_of_real_files_are_enough() -> None:
    needed = {real.name: told_by(real) for real in REAL if len(real.data_set) > FIRST_BYTES}
    assert len(needed) > 100
    assert max(needed.values()) < 8192


@pytest.mark.parametrize("uid", [EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED, JPEG_LS])
def test_every_encoding_is_read(uid: str) -> None:
    one = sent(uid)
    assert read_identity(one.data_set, uid) == identity_of(ct())
    assert read_identity(one.data_set, uid) == outcome(identity_by_pydicom, one)


@pytest.mark.parametrize("case", WALKED)
def test_what_is_plain_is_read_up_to_the_series_uid_and_no_further(case: str) -> None:
    one = Sent(case, WALKED[case], EXPLICIT)
    assert read_identity(one.data_set, EXPLICIT) == IDENTITY
    assert outcome(identity_by_pydicom, one) == IDENTITY
    assert told_by(one) == one.data_set.index(SERIES) + len(SERIES)


@pytest.mark.parametrize("case", WALKED_IMPLICIT)
def test_what_is_plain_in_implicit_vr_too(case: str) -> None:
    one = Sent(case, WALKED_IMPLICIT[case], IMPLICIT)
    assert read_identity(one.data_set, IMPLICIT) == IDENTITY
    assert outcome(identity_by_pydicom, one) == IDENTITY
    assert told_by(one) == len(one.data_set)


@pytest.mark.parametrize("case", NOT_WALKED)
def test_what_is_not_plain_is_what_pydicom_makes_of_it(case: str) -> None:
    one = Sent(case, NOT_WALKED[case], EXPLICIT)
    assert outcome(read_identity, one) == outcome(identity_by_pydicom, one)


@pytest.mark.parametrize("case", NOT_WALKED_IMPLICIT)
def test_what_is_not_plain_in_implicit_vr_too(case: str) -> None:
    one = Sent(case, NOT_WALKED_IMPLICIT[case], IMPLICIT)
    assert outcome(read_identity, one) == outcome(identity_by_pydicom, one)


@pytest.mark.parametrize("uid", [IMPLICIT, BIG_ENDIAN, DEFLATED, JPEG_LS, "1.2.3", "", "?", " "])
@pytest.mark.parametrize("name", [EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED])
def test_a_transfer_syntax_that_is_not_true_is_read_as_pydicom_reads_it(
    name: str, uid: str
) -> None:
    one = replace(sent(name), transfer_syntax_uid=uid)
    assert outcome(read_identity, one) == outcome(identity_by_pydicom, one)


@pytest.mark.parametrize("cut", range(0, 600, 7))
def test_a_data_set_that_ends_early_is_what_pydicom_makes_of_it(cut: int) -> None:
    for uid in (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED):
        whole = sent(uid)
        one = replace(whole, data_set=whole.data_set[:cut])
        expected = outcome(identity_by_pydicom, one)
        if uid == DEFLATED and cut >= told_by(whole):
            expected = identity_of(ct())
        assert outcome(read_identity, one) == expected


# ------------------------------------------------------------ refused


def test_a_refusal_has_a_status_and_says_nothing_of_the_patient() -> None:
    patient = explicit(0x10, 0x10, "PN", b"Secret^Person ")
    broken = item(patient, explicit(8, 5, "CS", b"SECRET\0\0IR"))
    with pytest.raises(InstanceRefused) as caught:
        read_identity(HEAD + sequence(broken) + TAIL, EXPLICIT)
    assert caught.value.status == 0xC000
    assert caught.value.message.startswith("the data set cannot be read: ")
    assert caught.value.hint
    assert "secret" not in f"{caught.value} {caught.value.hint}".lower()


def test_what_is_nested_too_deep_for_any_parser_is_refused() -> None:
    with pytest.raises(InstanceRefused) as caught:
        read_identity(HEAD + nested(1000) + TAIL, EXPLICIT)
    assert caught.value.status == 0xC000


def test_an_item_that_pydicom_misses_is_no_failure_of_the_disk() -> None:
    with pytest.raises(InstanceRefused, match="cannot be read: OSError") as caught:
        read_identity(HEAD + explicit(8, 0x1140, "SQ", item(REFERENCE), length=UNDEFINED), EXPLICIT)
    assert caught.value.status == 0xC000


# ------------------------------------------------------------ what follows the Series UID


@pytest.mark.parametrize("follows", [b"", b"\xff" * 40, SERIES, STUDY.replace(b"1", b"7"), HEAD])
def test_what_follows_the_uids_is_not_looked_at(follows: bytes) -> None:
    assert read_identity(HEAD + STUDY + SERIES + follows, EXPLICIT) == IDENTITY


def test_what_is_broken_behind_the_uids_is_taken_though_pydicom_refuses_it() -> None:
    one = Sent("", HEAD + STUDY + SERIES + explicit(0x28, 0x3010, "SQ", b"", UNDEFINED), EXPLICIT)
    assert outcome(read_identity, one) == IDENTITY
    assert outcome(identity_by_pydicom, one) != IDENTITY


def test_of_a_deflated_data_set_only_the_beginning_is_inflated() -> None:
    whole = deflated(HEAD + TAIL + explicit(0x7FE0, 0x10, "OW", bytes(100_000_000)))
    tracemalloc.start()
    try:
        assert read_identity(whole, DEFLATED) == IDENTITY
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_deflated_data_set_that_is_broken_behind_its_uids_is_taken() -> None:
    plain = HEAD + TAIL + explicit(0x7FE0, 0x10, "OW", bytes(range(256)) * 20)
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    begin = deflate.compress(plain) + deflate.flush(zlib.Z_FULL_FLUSH)
    broken = Sent("", begin + b"\xff\xff" * 20, DEFLATED)
    assert outcome(identity_by_pydicom, broken) != IDENTITY
    assert read_identity(broken.data_set, DEFLATED) == IDENTITY
    assert peek_identity(begin, DEFLATED) == IDENTITY


def test_a_deflated_data_set_that_is_broken_ahead_of_its_uids_is_refused() -> None:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    begin = deflate.compress(HEAD + STUDY) + deflate.flush(zlib.Z_FULL_FLUSH)
    broken = Sent("", begin + b"\xff\xff" * 20, DEFLATED)
    assert outcome(read_identity, broken) == outcome(identity_by_pydicom, broken)
    with pytest.raises(InstanceRefused, match="the data set cannot be read: error"):
        read_identity(broken.data_set, DEFLATED)


# ------------------------------------------------------------ of the beginning


@pytest.mark.parametrize("uid", [EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED])
def test_of_too_few_bytes_it_says_nothing(uid: str) -> None:
    one = sent(uid)
    enough = told_by(one)
    assert enough < len(one.data_set)
    for size in range(enough):
        assert peek_identity(one.data_set[:size], uid) is None
        assert IdentityReader().peek(one.data_set[:size], uid) is None


@pytest.mark.parametrize("case", NOT_WALKED)
def test_of_what_is_not_plain_the_beginning_says_what_the_whole_says(case: str) -> None:
    one = Sent(case, NOT_WALKED[case], EXPLICIT)
    said = outcome(read_identity, one)
    for size in {*range(0, len(one.data_set), 17), len(one.data_set)}:
        peeked = outcome(peek_identity, replace(one, data_set=one.data_set[:size]))
        assert peeked in (None, said)


@pytest.mark.parametrize("case", ["a VR that nobody knows", "two UIDs", "no Study UID"])
def test_the_beginning_is_enough_for_pydicom_where_it_reaches_the_pixels(case: str) -> None:
    one = Sent(case, NOT_WALKED[case], EXPLICIT)
    beginning = one.data_set if case == "two UIDs" else one.data_set[: -len(PIXELS) + 12]
    beginning = beginning + PIXELS[:12]
    assert peek_identity(beginning, EXPLICIT) == outcome(identity_by_pydicom, one)


# ------------------------------------------------------------ whatever holds the bytes


@pytest.mark.parametrize("case", [WALKED["items"], NOT_WALKED["a VR that nobody knows"]])
@pytest.mark.parametrize("holder", [bytes, bytearray, memoryview])
def test_whatever_holds_the_bytes_is_read(holder: Callable[[bytes], Any], case: bytes) -> None:
    assert read_identity(holder(case), EXPLICIT) == IDENTITY


@pytest.mark.parametrize("case", [*WALKED.values(), *NOT_WALKED.values()])
def test_nothing_is_kept_of_a_mapped_file(case: bytes) -> None:
    with mmap.mmap(-1, len(case) or 1) as mapped:
        mapped[: len(case)] = case
        reader, refusals = IdentityReader(), []
        for read in (read_identity, peek_identity, reader.read, reader.peek):
            try:
                read(mapped, EXPLICIT)
            except InstanceRefused as refusal:
                refusals.append(refusal)  # with its traceback, and all that hangs on it
        mapped.close()  # raises if anything holds a view
    assert len(refusals) in (0, 2, 4)


def test_pydicom_gets_no_copy_of_the_data_set() -> None:
    size = 64_000_000
    beginning = HEAD + explicit(9, 1, "ZZ", b"ab") + STUDY + SERIES + ROWS
    data = mmap.mmap(-1, size)
    data[: len(beginning) + 12] = beginning + explicit(0x7FE0, 0x10, "OW", b"", size)
    gc.collect()
    tracemalloc.start()
    try:
        assert read_identity(data, EXPLICIT) == IDENTITY
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
        data.close()


# ------------------------------------------------------------ one instance after another


def test_a_reader_says_the_same_of_every_instance_of_a_series() -> None:
    reader = IdentityReader()
    for number in range(1, 121):  # the SOP Instance UID grows twice
        one = sent(number=number)
        assert reader.read(one.data_set, EXPLICIT) == identity_of(ct(number=number))


def test_a_reader_says_the_same_of_whatever_comes_between() -> None:
    different = [
        sent(EXPLICIT),
        sent(IMPLICIT),
        sent(JPEG_LS, StudyDescription="another length"),
        sent(BIG_ENDIAN),
        sent(DEFLATED),
        *(Sent(name, data_set, EXPLICIT) for name, data_set in {**WALKED, **NOT_WALKED}.items()),
        *(Sent(name, data_set, IMPLICIT) for name, data_set in WALKED_IMPLICIT.items()),
    ]
    said = [outcome(read_identity, one) for one in different]
    for repeats in (1, 2, 5):
        reader = IdentityReader()
        for one, expected in islice(cycle(zip(different, said, strict=True)), 200):
            for _ in range(repeats):
                assert outcome(reader.read, one) == expected


@pytest.mark.parametrize("uid", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_a_layout_is_another_if_any_byte_of_it_is(uid: str) -> None:
    learnt = sent(uid)
    enough = told_by(learnt)
    for at in range(enough):
        changed = bytearray(learnt.data_set)
        changed[at] ^= 0x03
        reader = IdentityReader()
        assert reader.peek(learnt.data_set, uid) == identity_of(ct())
        one = replace(learnt, data_set=bytes(changed))
        assert outcome(reader.read, one) == outcome(read_identity, one)


def test_a_layout_is_another_if_the_character_set_is() -> None:
    reader = IdentityReader()
    assert reader.read(HEAD + TAIL, EXPLICIT) == IDENTITY
    one = Sent("", (HEAD + TAIL).replace(b"ISO_IR 100", b"ISO\0IR 100"), EXPLICIT)
    assert outcome(reader.read, one) == outcome(identity_by_pydicom, one)


def test_a_layout_is_not_taken_for_that_of_another_transfer_syntax() -> None:
    one = sent(EXPLICIT)
    reader = IdentityReader()
    assert reader.peek(one.data_set, EXPLICIT) is not None
    other = replace(one, transfer_syntax_uid=BIG_ENDIAN)
    assert outcome(reader.read, other) == outcome(read_identity, other)


@pytest.mark.parametrize("number", [1, 100])
def test_a_reader_tells_from_no_fewer_bytes_than_a_walk(number: int) -> None:
    one = sent(number=number)
    enough = told_by(one)
    reader = IdentityReader()
    reader.peek(one.data_set, EXPLICIT)
    assert reader.peek(one.data_set[: enough - 1], EXPLICIT) is None
    assert reader.peek(one.data_set[:enough], EXPLICIT) == identity_of(ct(number=number))


def test_a_header_of_thousands_of_elements_is_read_but_not_remembered() -> None:
    many = b"".join(explicit(9, number, "LO", b"ab") for number in range(20_000))
    data_set = HEAD + many + TAIL
    reader = IdentityReader()
    tracemalloc.start()
    try:
        for _ in range(2):
            assert reader.read(data_set, EXPLICIT) == IDENTITY
        assert tracemalloc.get_traced_memory()[0] < 200_000  # tuples that Python keeps for later
    finally:
        tracemalloc.stop()
