"""What goes out is what lies in the file, a window at a time, or a word why it cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dicom_node.errors import StorageError
from dicom_node.scu.content import Content, FilePart

WINDOW_BYTES = 4 << 20


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(bytes(range(251)) * 40_000)  # 10 MB, no two windows alike
    return file


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize(
    ("offset", "size"),
    [(0, 10), (1, 100_000), (4096, 65_536), (4097, 65_537), (5, 9_999_990), (250, 0)],
)
def test_a_part_of_a_file_is_those_bytes(mapped: bool, offset: int, size: int, file: Path) -> None:
    content = Content.of(b"head", FilePart(file, offset, size), b"", b"tail")
    expected = b"head" + file.read_bytes()[offset : offset + size] + b"tail"
    before = open_descriptors()
    with content.opened(mapped=mapped) as views:
        assert b"".join(views) == expected
    assert content.read() == expected
    assert content.size_bytes == len(expected)
    assert open_descriptors() == before


@pytest.mark.parametrize("mapped", [True, False])
def test_no_view_is_larger_than_a_window(mapped: bool, file: Path) -> None:
    with Content.of(FilePart(file, 3, 10_000_000)).opened(mapped=mapped) as views:
        sizes = [len(view) for view in views]
    assert sum(sizes) == 10_000_000
    assert max(sizes) <= WINDOW_BYTES
    assert len(sizes) >= 3


@pytest.mark.parametrize("mapped", [True, False])
def test_a_file_that_is_gone_or_too_short_is_told_before_anything_is_sent(
    mapped: bool, file: Path
) -> None:
    size = file.stat().st_size
    before = open_descriptors()
    for part in (FilePart(file.parent / "gone", 0, 1), FilePart(file, 1, size)):
        content = Content.of(FilePart(file, 0, 10), part)
        with pytest.raises(StorageError) as caught, content.opened(mapped=mapped):
            pytest.fail("it was opened")
        assert "restore it from a backup" in caught.value.hint
    assert open_descriptors() == before


@pytest.mark.parametrize("mapped", [True, False])
def test_a_file_that_shrinks_meanwhile_is_told(mapped: bool, file: Path) -> None:
    content = Content.of(FilePart(file, 0, 10_000_000))
    with content.opened(mapped=mapped) as views:
        next(views)
        os.truncate(file, 4096)
        with pytest.raises(StorageError):
            list(views)


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("size", [0, 10, 65_536, 65_537, WINDOW_BYTES, WINDOW_BYTES + 1])
def test_what_is_at_hand_is_the_same(mapped: bool, size: int, file: Path) -> None:
    content = Content.of(b"head", FilePart(file, 7, size), b"tail")
    before = open_descriptors()
    at_hand = content.at_hand(mapped=mapped)
    with at_hand.opened(mapped=mapped) as views:
        assert b"".join(views) == content.read()
    assert at_hand.size_bytes == content.size_bytes
    del at_hand
    assert open_descriptors() == before


def test_what_is_at_hand_needs_its_file_no_more_if_it_is_small(file: Path) -> None:
    part = FilePart(file, 7, 1000)
    expected = Content.of(part).read()
    small = Content.of(part).at_hand(mapped=False)
    whole = Content.of(FilePart(file, 0, 10_000_000)).at_hand(mapped=True)
    file.unlink()
    assert small.read() == expected
    with pytest.raises(StorageError):  # too much to be held
        whole.read()


@pytest.mark.parametrize("mapped", [True, False])
def test_what_cannot_be_at_hand_is_told_when_it_is_sent(mapped: bool, file: Path) -> None:
    before = open_descriptors()
    short = Content.of(FilePart(file, 10_039_999, 10)).at_hand(mapped=mapped)
    gone = Content.of(FilePart(file.parent / "gone", 0, 10)).at_hand(mapped=mapped)
    for content in (short, gone):
        with pytest.raises(StorageError):
            content.read()
    assert open_descriptors() == before
