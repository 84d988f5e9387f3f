"""A record says what it holds, and every byte of it that was altered is noticed."""

from __future__ import annotations

import struct

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.store.record import (
    BLOCK_BYTES,
    RecordHead,
    RecordKind,
    digest_of,
    is_whole,
    read_head,
    whole_blocks,
    write_head,
)
from tests.unit.store.log_records import FILE_META, TEXTS, a_record

DATA_SET = bytes(range(256)) * 20
DATA_OFFSET = BLOCK_BYTES + len(FILE_META)
ANY_TEXT = st.text(st.characters(exclude_characters="\x1f", exclude_categories=["Cs"]), max_size=64)


def whole_in(record: bytearray, segment_number: int = 1, offset: int = 0) -> RecordHead | None:
    """Return a record's head if all of the record is as it was to be."""
    head = read_head(bytes(record[:BLOCK_BYTES]), segment_number, offset)
    if head is None:
        return None
    rest = memoryview(record)[BLOCK_BYTES : head.data_offset + head.data_bytes]
    return head if is_whole(head, rest) else None


# ---------------------------------------------------------------- what is written can be read


@given(
    kind=st.sampled_from(RecordKind),
    segment_number=st.integers(0, 2**63 - 1),
    offset=st.integers(0, 2**40),
    texts=st.lists(ANY_TEXT, min_size=1, max_size=11),
    data_bytes=st.integers(0, 2**40),
    digest=st.binary(min_size=16, max_size=16),
)
def test_a_head_says_what_was_written(
    kind: RecordKind,
    segment_number: int,
    offset: int,
    texts: list[str],
    data_bytes: int,
    digest: bytes,
) -> None:
    block = bytearray(b"\xff" * BLOCK_BYTES)
    write_head(
        memoryview(block),
        kind,
        segment_number,
        offset,
        texts,
        data_bytes=data_bytes,
        digest=digest,
    )
    head = read_head(bytes(block), segment_number, offset)
    assert head is not None
    assert (head.kind, head.segment_number, head.offset) == (kind, segment_number, offset)
    assert head.texts == tuple(texts)
    assert (head.data_offset, head.data_bytes, head.digest) == (BLOCK_BYTES, data_bytes, digest)


def test_a_record_ends_with_the_block_in_which_its_data_set_ends() -> None:
    for data_bytes, blocks in ((0, 2), (BLOCK_BYTES - len(FILE_META), 2), (BLOCK_BYTES, 3)):
        head = whole_in(a_record(bytes(data_bytes)))
        assert head is not None
        assert head.record_bytes == blocks * BLOCK_BYTES


@pytest.mark.parametrize(("size", "blocks"), [(0, 0), (1, 1), (4095, 1), (4096, 1), (4097, 2)])
def test_sizes_are_rounded_up_to_whole_blocks(size: int, blocks: int) -> None:
    assert whole_blocks(size) == blocks * 4096


def test_a_note_is_one_block() -> None:
    block = bytearray(BLOCK_BYTES)
    write_head(memoryview(block), RecordKind.EVENT, 1, 0, ["a reason"])
    head = whole_in(block)
    assert head is not None
    assert (head.record_bytes, head.data_bytes, head.texts) == (BLOCK_BYTES, 0, ("a reason",))


def test_the_digest_is_the_xxh3_of_128_bits_of_the_data_set() -> None:
    head = whole_in(a_record(DATA_SET))
    assert head is not None
    assert head.digest == digest_of(DATA_SET) == xxhash.xxh3_128(DATA_SET).digest()


def test_too_much_text_is_cut_at_its_end_and_the_fields_before_it_are_whole() -> None:
    block = bytearray(BLOCK_BYTES)
    write_head(memoryview(block), RecordKind.EVENT, 1, 0, ["subject", "reason " * 1000])
    head = whole_in(block)
    assert head is not None
    subject, reason = head.texts
    assert subject == "subject"
    assert len(reason) > 3000
    assert ("reason " * 1000).startswith(reason)


def test_a_character_that_is_cut_in_two_does_not_keep_the_head_from_being_read() -> None:
    for length in range(2000, 2020):
        block = bytearray(BLOCK_BYTES)
        write_head(memoryview(block), RecordKind.EVENT, 1, 0, ["ü" * length, "."])
        head = whole_in(block)
        assert head is not None
        assert head.texts[0].startswith("ü" * 1999)


def test_a_separator_that_a_stranger_puts_into_a_text_shifts_no_field() -> None:
    """An AE title is 16 bytes of the stranger's choice."""
    block = bytearray(BLOCK_BYTES)
    texts = ["id", "SCAN\x1fNER", "CALLED", "1000.0"]
    write_head(memoryview(block), RecordKind.ASSOCIATION_OPENED, 1, 0, texts)
    head = whole_in(block)
    assert head is not None
    assert head.texts == ("id", "SCAN?NER", "CALLED", "1000.0")


def test_nothing_that_stood_in_the_block_before_is_left() -> None:
    fresh, used = bytearray(BLOCK_BYTES), bytearray(b"\xff" * BLOCK_BYTES)
    for block in (fresh, used):
        write_head(memoryview(block), RecordKind.EVENT, 1, 0, TEXTS)
    assert fresh == used


# ---------------------------------------------------------------- what is not as it was written


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_whichever_byte_is_altered_the_record_is_not_taken_for_whole(mask: int) -> None:
    record = a_record(DATA_SET)
    assert whole_in(record) is not None
    for at in range(DATA_OFFSET + len(DATA_SET)):
        record[at] ^= mask
        assert whole_in(record) is None, f"byte {at}"
        record[at] ^= mask


def test_what_fills_the_last_block_is_no_part_of_the_record() -> None:
    record = a_record(DATA_SET)
    for at in range(DATA_OFFSET + len(DATA_SET), len(record)):
        record[at] ^= 0xFF
    assert whole_in(record) == whole_in(a_record(DATA_SET))


@given(st.integers(0, len(a_record(DATA_SET)) // 512 - 1), st.booleans())
def test_a_sector_that_did_not_come_to_the_disk_is_noticed(sector: int, of_zeros: bool) -> None:
    record = a_record(DATA_SET)
    missing = bytes(512) if of_zeros else b"\xa5" * 512
    begin = sector * 512
    was_there = bytes(record[begin : begin + 512])
    record[begin : begin + 512] = missing
    is_content = begin < DATA_OFFSET + len(DATA_SET)
    assert (whole_in(record) is None) is (is_content and was_there != missing)


@pytest.mark.parametrize(("segment_number", "offset"), [(2, 0), (1, 4096), (0, 0)])
def test_a_record_of_another_place_is_none(segment_number: int, offset: int) -> None:
    record = a_record(DATA_SET, 1, 0)
    assert whole_in(record, segment_number, offset) is None


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES + 1])
def test_less_than_a_block_or_more_is_no_head(size: int) -> None:
    record = a_record(DATA_SET)
    assert read_head(bytes(record[:size]), 1, 0) is None


def test_a_record_that_the_file_is_too_short_for_is_not_whole() -> None:
    record = a_record(DATA_SET)
    head = read_head(bytes(record[:BLOCK_BYTES]), 1, 0)
    assert head is not None
    whole = memoryview(record)[BLOCK_BYTES : DATA_OFFSET + len(DATA_SET)]
    assert is_whole(head, whole)
    assert not is_whole(head, whole[:-1])
    assert not is_whole(head, whole[:0])


@given(st.binary(max_size=BLOCK_BYTES))
def test_noise_is_no_head(noise: bytes) -> None:
    assert read_head(noise.ljust(BLOCK_BYTES, b"\0"), 1, 0) is None


@given(st.binary(max_size=200))
def test_noise_behind_a_magic_that_fits_is_no_head(noise: bytes) -> None:
    begin = b"DCMNLOG1" + struct.pack("<QQ", 1, 0)
    assert read_head((begin + noise).ljust(BLOCK_BYTES, b"\0"), 1, 0) is None
