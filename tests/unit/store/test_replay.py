"""Reading a log: behind its writer by the writer's word, and after a crash with every byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_node.store.record import BLOCK_BYTES, RecordHead, RecordKind
from dicom_node.store.replay import HEADS_TOLD_MAX, LOG_BEGIN, LogPiece, LogPlace, read_log
from dicom_node.store.segments import segment_name
from tests.unit.store.log_records import FILE_META, a_record

SEGMENT_BYTES = 16 * BLOCK_BYTES
DATA_SETS = [bytes([number]) * size for number, size in enumerate((100, 5000, 1, 9000, 300))]


def write_segment(
    folder: Path, number: int, data_sets: list[bytes], before: bytes = bytes(SEGMENT_BYTES)
) -> list[int]:
    """Write records one behind the other over what was there before; return where each begins."""
    content, offsets, offset = bytearray(before), [], 0
    for data_set in data_sets:
        record = a_record(data_set, number, offset)
        content[offset : offset + len(record)] = record
        offsets.append(offset)
        offset += len(record)
    (folder / segment_name(number)).write_bytes(content[:SEGMENT_BYTES])
    return offsets


def alter(folder: Path, number: int, at: int) -> None:
    path = folder / segment_name(number)
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


def places(folder: Path, begin: LogPlace = LOG_BEGIN, **how: object) -> list[tuple[int, int]]:
    """Return segment and offset of every record that is read."""
    found = read_log(folder, begin, **how)  # type: ignore[arg-type]
    return [(head.segment_number, head.offset) for head, _ in found]


# ---------------------------------------------------------------- a log that is as it should be


def test_records_are_read_in_the_order_of_the_segments_and_of_their_places(
    tmp_path: Path,
) -> None:
    second = write_segment(tmp_path, 11, DATA_SETS[:2])
    first = write_segment(tmp_path, 9, DATA_SETS)
    assert places(tmp_path) == [(9, at) for at in first] + [(11, at) for at in second]


def test_each_record_comes_with_the_place_behind_it_and_from_there_it_goes_on(
    tmp_path: Path,
) -> None:
    write_segment(tmp_path, 1, DATA_SETS)
    write_segment(tmp_path, 2, DATA_SETS)
    everything = list(read_log(tmp_path, LOG_BEGIN))
    for index, (_, after) in enumerate(everything):
        assert list(read_log(tmp_path, after)) == everything[index + 1 :]


def test_nothing_behind_the_place_that_is_durable_is_read(tmp_path: Path) -> None:
    offsets = write_segment(tmp_path, 1, DATA_SETS)
    write_segment(tmp_path, 2, DATA_SETS)
    for index, offset in enumerate(offsets):
        assert places(tmp_path, end=LogPlace(1, offset)) == [(1, at) for at in offsets[:index]]


def test_a_log_without_a_folder_is_empty(tmp_path: Path) -> None:
    assert places(tmp_path / "missing") == []


def test_only_segments_of_the_log_are_read(tmp_path: Path) -> None:
    write_segment(tmp_path, 1, DATA_SETS[:1])
    for name in ("free-7.segment", "x.part", "notes.txt", "free-0000000001.segment"):
        (tmp_path / name).write_bytes((tmp_path / segment_name(1)).read_bytes())
    assert places(tmp_path) == [(1, 0)]


# ---------------------------------------------------------------- recycled segments


def test_what_an_earlier_life_left_in_a_segment_is_never_taken(tmp_path: Path) -> None:
    """Its records are whole, and begin where the new ones end."""
    write_segment(tmp_path, 1, [bytes(100)] * 5)
    old = (tmp_path / segment_name(1)).read_bytes()
    (tmp_path / segment_name(1)).unlink()
    offsets = write_segment(tmp_path, 2, [b"new" * 30] * 2, before=old)
    expected = [(2, at) for at in offsets]
    assert places(tmp_path) == expected
    assert places(tmp_path, end=LogPlace(3, 0)) == expected
    assert places(tmp_path, end=LogPlace(3, 0), doubt_below=3) == expected


def test_an_unused_segment_with_an_earlier_life_is_empty(tmp_path: Path) -> None:
    write_segment(tmp_path, 1, DATA_SETS)
    (tmp_path / segment_name(1)).rename(tmp_path / segment_name(4))
    assert places(tmp_path) == []


# ---------------------------------------------------------------- records in doubt


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_any_altered_byte_costs_its_record_and_no_other(
    data: st.DataObject, tmp_path: Path
) -> None:
    offsets = write_segment(tmp_path, 1, DATA_SETS)
    following = write_segment(tmp_path, 2, DATA_SETS[:1])
    which = data.draw(st.integers(0, len(DATA_SETS) - 1), "record")
    size = BLOCK_BYTES + len(FILE_META) + len(DATA_SETS[which])
    alter(tmp_path, 1, offsets[which] + data.draw(st.integers(0, size - 1), "byte"))
    others = [(1, at) for at in offsets if at != offsets[which]] + [(2, at) for at in following]
    assert places(tmp_path) == others
    assert places(tmp_path, end=LogPlace(2, BLOCK_BYTES * 2), doubt_below=2) == others


@pytest.mark.parametrize("size", range(0, SEGMENT_BYTES, BLOCK_BYTES // 2))
def test_a_segment_that_ends_early_has_the_records_that_are_whole(
    size: int, tmp_path: Path
) -> None:
    offsets = write_segment(tmp_path, 1, DATA_SETS)
    path = tmp_path / segment_name(1)
    path.write_bytes(path.read_bytes()[:size])
    content_bytes = [BLOCK_BYTES + len(FILE_META) + len(data_set) for data_set in DATA_SETS]
    whole = [
        (1, at) for at, bytes_ in zip(offsets, content_bytes, strict=True) if at + bytes_ <= size
    ]
    assert places(tmp_path) == whole


def test_behind_a_writer_only_heads_are_read_and_a_data_set_is_taken_as_told(
    tmp_path: Path,
) -> None:
    """It was written and synced before the writer spoke of it."""
    offsets = write_segment(tmp_path, 1, DATA_SETS)
    alter(tmp_path, 1, offsets[1] + BLOCK_BYTES + len(FILE_META))
    assert places(tmp_path, end=LogPlace(2, 0)) == [(1, at) for at in offsets]


def test_what_lies_below_a_doubt_is_read_with_every_byte_though_a_writer_goes_on(
    tmp_path: Path,
) -> None:
    offsets = write_segment(tmp_path, 1, DATA_SETS)
    write_segment(tmp_path, 2, DATA_SETS[:1])
    for number in (1, 2):
        alter(tmp_path, number, BLOCK_BYTES + len(FILE_META))
    expected = [(1, at) for at in offsets[1:]] + [(2, 0)]
    assert places(tmp_path, end=LogPlace(2, 2 * BLOCK_BYTES), doubt_below=2) == expected


# ---------------------------------------------------------------- pieces


def a_piece(begin: tuple[int, int], end: tuple[int, int], count: int | None) -> LogPiece:
    head = RecordHead(RecordKind.EVENT, 1, 0, ("text",), BLOCK_BYTES, 0, bytes(16), 0)
    heads = None if count is None else (head,) * count
    return LogPiece(LogPlace(*begin), LogPlace(*end), heads)


def test_pieces_that_follow_each_other_become_one() -> None:
    joined = a_piece((1, 0), (1, 4096), 1).then(a_piece((1, 4096), (2, 8192), 2))
    assert joined == a_piece((1, 0), (2, 8192), 3)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (a_piece((1, 0), (1, 4096), None), a_piece((1, 4096), (1, 8192), 1)),
        (a_piece((1, 0), (1, 4096), 1), a_piece((1, 4096), (1, 8192), None)),
        (a_piece((1, 0), (1, 4096), 1), a_piece((1, 12288), (1, 8192), 1)),
        (a_piece((1, 0), (1, 4096), HEADS_TOLD_MAX), a_piece((1, 4096), (1, 8192), 1)),
    ],
    ids=["no heads before", "no heads behind", "a gap", "too many"],
)
def test_pieces_that_do_not_tell_all_are_to_be_read_from_the_log(
    first: LogPiece, second: LogPiece
) -> None:
    assert first.then(second) == LogPiece(first.begin, second.end, None)
