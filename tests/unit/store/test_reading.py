"""A part of a file reads as a file of its own would."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from dicom_node.store.reading import StoredFile, place_in_segment
from tests.factories import make_instance, write

CONTENT = bytes(range(256)) * 700  # more than is read ahead
BEFORE, BEHIND = b"before" * 1000, b"behind" * 1000


@pytest.fixture
def part(tmp_path: Path) -> StoredFile:
    (tmp_path / "segment").write_bytes(BEFORE + CONTENT + BEHIND)
    return StoredFile(tmp_path / "segment", len(BEFORE), len(CONTENT))


SIZES = st.one_of(st.integers(0, 300), st.integers(0, 2 * len(CONTENT)))
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.one_of(st.none(), st.just(-1), SIZES)),
        st.tuples(st.just("readinto"), SIZES),
        st.tuples(st.just("readline"), SIZES),
        st.tuples(st.just("seek"), SIZES, st.just(os.SEEK_SET)),
        st.tuples(st.just("seek"), st.integers(-300, 300), st.just(os.SEEK_CUR)),
        st.tuples(st.just("seek"), st.integers(-len(CONTENT), 300), st.just(os.SEEK_END)),
        st.tuples(st.just("tell")),
    ),
    max_size=20,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS)
def test_a_part_reads_as_a_file_of_its_own(
    part: StoredFile, operations: list[tuple[Any, ...]]
) -> None:
    alone = part.path.with_name("alone")
    alone.write_bytes(CONTENT)
    with part.open() as ours, alone.open("rb") as theirs:
        for operation in operations:
            assert _done(ours, *operation) == _done(theirs, *operation), operation


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reads=st.lists(st.tuples(st.integers(0, len(CONTENT)), SIZES), max_size=20))
def test_a_part_has_the_bytes_of_its_content(
    part: StoredFile, reads: list[tuple[int, int]]
) -> None:
    with part.open() as ours, io.BytesIO(CONTENT) as theirs:
        for begin, size in reads:
            assert ours.seek(begin) == theirs.seek(begin)
            assert ours.read(size) == theirs.read(size)
            assert ours.tell() == theirs.tell()


def _done(file: Any, name: str, *arguments: Any) -> object:
    """Do one thing to a file; return what came of it."""
    if name == "readinto":
        buffer = bytearray(arguments[0])
        return file.readinto(buffer), bytes(buffer)
    try:
        return getattr(file, name)(*arguments)
    except (ValueError, OSError):
        return "a place before the begin"


def test_a_part_is_all_that_is_read_of_its_file(part: StoredFile) -> None:
    assert part.read_bytes() == CONTENT
    with part.open() as file:
        assert b"".join(file) == CONTENT


def test_a_part_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "segment").write_bytes(BEFORE)
    assert StoredFile(tmp_path / "segment", 3, 0).read_bytes() == b""


def test_two_readers_of_one_segment_do_not_disturb_each_other(part: StoredFile) -> None:
    with part.open() as one, part.open() as two:
        assert one.read(1000) == CONTENT[:1000]
        assert two.read(10) == CONTENT[:10]
        assert one.read(1000) == CONTENT[1000:2000]


def test_what_is_closed_keeps_no_descriptor(part: StoredFile) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with part.open() as file:
            file.read(1)
    assert len(os.listdir("/proc/self/fd")) == before


def test_pydicom_reads_an_instance_where_it_lies(tmp_path: Path) -> None:
    alone = write(make_instance(), tmp_path / "alone.dcm")
    content = alone.read_bytes()
    (tmp_path / "segment").write_bytes(BEFORE + content + BEHIND)
    part = StoredFile(tmp_path / "segment", len(BEFORE), len(content))
    with part.open() as file:
        assert dcmread(file) == dcmread(alone)
    with part.open() as file:
        assert dcmread(file, stop_before_pixels=True).PatientID == "SYN-1"


# ---------------------------------------------------------------- places


def test_a_place_in_a_segment_leads_there_again(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "7.segment").write_bytes(BEFORE + CONTENT)
    place = place_in_segment("log/7.segment", len(BEFORE), len(CONTENT))
    found = StoredFile.at(tmp_path, place)
    assert found == StoredFile(tmp_path / "log" / "7.segment", len(BEFORE), len(CONTENT))
    assert found.read_bytes() == CONTENT


def test_a_place_without_an_offset_is_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "one.dcm").write_bytes(CONTENT)
    found = StoredFile.at(tmp_path, "one.dcm")
    assert found == StoredFile(tmp_path / "one.dcm")
    assert found.read_bytes() == CONTENT


def test_messages_say_which_file_and_where_in_it(tmp_path: Path) -> None:
    part = StoredFile(tmp_path / "7.segment", 8192, 100)
    assert part.name == "7.segment@8192"
    assert str(part) == f"{tmp_path / '7.segment'}@8192"
    assert StoredFile(tmp_path / "one.dcm").name == "one.dcm"
    assert str(StoredFile(tmp_path / "one.dcm")) == str(tmp_path / "one.dcm")


@pytest.mark.parametrize(
    ("offset", "size_bytes", "is_there"),
    [(0, None, True), (0, 100, True), (60, 40, True), (60, 41, False), (101, 0, False)],
)
def test_a_part_is_there_if_its_file_is_long_enough(
    offset: int, size_bytes: int | None, is_there: bool, tmp_path: Path
) -> None:
    (tmp_path / "segment").write_bytes(bytes(100))
    assert StoredFile(tmp_path / "segment", offset, size_bytes).exists() is is_there
    assert not StoredFile(tmp_path / "missing", offset, size_bytes).exists()
