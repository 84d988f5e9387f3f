"""An instance on its way in: as it was sent, in the blocks that the disk wants, and none kept."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID

from dicom_node.errors import InstanceRefused
from dicom_node.protocol.implementation import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
)
from dicom_node.receive.arriving import MEMORY_BLOCK_BYTES, Arriving, BlockPool
from dicom_node.receive.identity import IdentityReader
from dicom_node.store.disk import LogDisk
from dicom_node.store.file_meta import file_meta_of
from dicom_node.store.local import LocalStore
from dicom_node.store.record import BLOCK_BYTES, digest_of
from tests.factories import make_instance
from tests.unit.receive.conversation import CountingPool, WriterAtOnce
from tests.unit.receive.data_sets import (
    DEFLATED,
    EXPLICIT,
    Sent,
    encoded,
    identity_by_pydicom,
    real_data_sets,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
ONE_OF_EACH = [sent for sent in real_data_sets() if sent.name.startswith("transfer-syntaxes/")]
MIB = 1 << 20
IN_MEMORY_BYTES_MAX = 4 * MIB
FILE_META = file_meta_of(CT, "1.2.3.4", EXPLICIT, "SCANNER")
HEAD_BYTES = BLOCK_BYTES + len(FILE_META)
HEADER = encoded(make_instance(PixelData=None), EXPLICIT)


def a_data_set(size: int) -> bytes:
    """Return a data set of so many bytes; the pixels are not what its header says."""
    pixels = size - len(HEADER) - 12
    assert pixels >= 0
    body = (bytes(range(251)) * (pixels // 251 + 1))[:pixels]
    return HEADER + b"\xe0\x7f\x10\0OW\0\0" + pixels.to_bytes(4, "little") + body


class Place:
    """A pool and a store to arrive at; if it is slow, blocks come back by `give_back` only."""

    def __init__(self, folder: Path, *, is_slow: bool = False) -> None:
        self.pool = CountingPool()
        self.store = LocalStore(folder)
        self._writer = WriterAtOnce(self.store, LogDisk())
        self._is_slow = is_slow
        self._written: list[tuple[Arriving, memoryview]] = []
        self.given_back = 0

    def arriving(
        self, file_meta: bytes = FILE_META, transfer_syntax_uid: str = EXPLICIT
    ) -> Arriving:
        reader = IdentityReader()
        return Arriving(
            self.pool, self._writer, reader, file_meta, transfer_syntax_uid, self._block_written
        )

    def give_back(self) -> None:
        for arriving, block in self._written:
            self.given_back += 1
            self.pool.give(block)
            arriving.blocks_under_way -= 1
        self._written.clear()

    def _block_written(self, arriving: Arriving, block: memoryview) -> None:
        self._written.append((arriving, block))
        if not self._is_slow:
            self.give_back()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def write(arriving: Arriving, data: bytes, places: Sequence[int] = ()) -> None:
    """Let it come in pieces, every second one to where it belongs, as the connection does."""
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    for number, (begin, end) in enumerate(pairwise(bounds)):
        piece = memoryview(data)[begin:end]
        if number % 2:
            while piece:
                room = arriving.room()
                size = min(len(room), len(piece))
                assert size > 0
                room[:size] = piece[:size]
                arriving.took(size)
                piece = piece[size:]
        else:
            arriving.write(piece)


# ------------------------------------------------------------ the head


def head_by_pydicom(sop_class: str, sop_instance: str, syntax: str, title: str) -> bytes:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance)
    meta.TransferSyntaxUID = UID(syntax)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    meta.SourceApplicationEntityTitle = title
    written = DicomBytesIO()
    write_file_meta_info(written, meta)
    return bytes(128) + b"DICM" + written.getvalue()


@pytest.mark.parametrize("sop_class", [CT, "1.2.840.10008.5.1.4.1.1.77.1.6"])
@pytest.mark.parametrize("sop_instance", ["1.2", "1.2.3", "2.25." + "9" * 39])
@pytest.mark.parametrize("syntax", [EXPLICIT, "1.2.840.10008.1.2.4.80"])
@pytest.mark.parametrize("title", ["CT", "CT1", "SIXTEEN-LETTERS!", "CT ROOM 1"])
def test_the_head_is_what_pydicom_writes(
    sop_class: str, sop_instance: str, syntax: str, title: str
) -> None:
    ours = file_meta_of(sop_class, sop_instance, syntax, title)
    assert ours == head_by_pydicom(sop_class, sop_instance, syntax, title)


def test_pydicom_reads_what_the_network_said() -> None:
    data_set = encoded(make_instance(), EXPLICIT)
    meta = pydicom.dcmread(BytesIO(FILE_META + data_set)).file_meta
    assert meta.MediaStorageSOPClassUID == CT
    assert meta.MediaStorageSOPInstanceUID == "1.2.3.4"
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.SourceApplicationEntityTitle == "SCANNER"
    assert str(meta.ImplementationClassUID).startswith("2.25.")
    assert str(meta.ImplementationVersionName).startswith("DICOM_NODE_")
    assert len(str(meta.ImplementationVersionName)) <= 16  # VR SH


def test_a_title_of_no_ascii_is_written_with_question_marks() -> None:
    replaced = "\N{REPLACEMENT CHARACTER}CT"
    meta = pydicom.dcmread(BytesIO(file_meta_of(CT, "1.2", EXPLICIT, replaced))).file_meta
    assert meta.SourceApplicationEntityTitle == "?CT"


# ------------------------------------------------------------ as it was sent


def test_there_are_files_in_thirteen_transfer_syntaxes() -> None:
    assert len({sent.transfer_syntax_uid for sent in ONE_OF_EACH}) == 13


def part10_in(record: Sequence[memoryview], arriving: Arriving) -> bytes:
    return b"".join(record)[BLOCK_BYTES:][: arriving.file_bytes]


@pytest.mark.parametrize("sent", ONE_OF_EACH, ids=lambda sent: sent.name.split("_")[1][:-4])
def test_the_data_set_is_kept_as_it_was_sent(sent: Sent, place: Place) -> None:
    expected = identity_by_pydicom(sent.data_set, sent.transfer_syntax_uid)
    meta = file_meta_of(
        expected.sop_class_uid, expected.sop_instance_uid, sent.transfer_syntax_uid, "SCANNER"
    )
    arriving = place.arriving(meta, sent.transfer_syntax_uid)
    write(arriving, sent.data_set, range(0, len(sent.data_set), 16372))
    identity, digest = arriving.end()
    assert identity == expected
    assert digest == digest_of(sent.data_set)
    assert arriving.data_bytes == len(sent.data_set)
    part10 = part10_in(arriving.record(), arriving)
    assert part10 == meta + sent.data_set
    pydicom.dcmread(BytesIO(part10))
    arriving.free()
    assert place.pool.out == 0


SIZES = sorted(
    {len(HEADER) + 12 + extra for extra in (0, 1, BLOCK_BYTES)}
    | {
        blocks * MEMORY_BLOCK_BYTES - HEAD_BYTES + more
        for blocks in (1, 2, 4)
        for more in (-1, 0, 1)
    }
    - {IN_MEMORY_BYTES_MAX - HEAD_BYTES + 1}
)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("places", [[], [1], range(0, IN_MEMORY_BYTES_MAX, 131066)])
def test_a_record_is_whole_blocks_and_its_end_is_zeros(
    size: int, places: Sequence[int], place: Place
) -> None:
    dirty = [place.pool.take() for _ in range(4)]
    for block in dirty:  # the pixels of somebody else
        block[:] = b"\xff" * len(block)
        place.pool.give(block)
    data_set = a_data_set(size)
    arriving = place.arriving()
    write(arriving, data_set, places)
    _, digest = arriving.end()
    record = arriving.record()
    assert all(len(buffer) % BLOCK_BYTES == 0 for buffer in record)
    whole = b"".join(record)
    end = HEAD_BYTES + size
    assert len(whole) == -(-end // BLOCK_BYTES) * BLOCK_BYTES
    assert whole[BLOCK_BYTES:end] == FILE_META + data_set
    assert not any(whole[end:])
    assert digest == digest_of(data_set)
    assert arriving.large is None
    assert arriving.data_offset == HEAD_BYTES
    arriving.free()
    assert place.pool.out == 0


@settings(max_examples=50, deadline=None)
@given(size=st.integers(20_000, 3 * MIB), places=st.lists(st.integers(0, 3 * MIB), max_size=20))
def test_any_pieces_make_the_same_record(
    size: int, places: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    data_set = a_data_set(size)
    place = Place(tmp_path_factory.getbasetemp() / "any-pieces")
    arriving = place.arriving()
    write(arriving, data_set, places)
    _, digest = arriving.end()
    assert digest == digest_of(data_set)
    assert part10_in(arriving.record(), arriving) == FILE_META + data_set
    arriving.free()
    assert place.pool.out == 0


def test_room_is_never_nothing(place: Place) -> None:
    arriving = place.arriving()
    left = 3 * MIB
    while left:
        size = min(left, len(arriving.room()))
        assert size > 0
        arriving.took(size)
        left -= size


def test_what_follows_the_uids_is_not_even_looked_at(place: Place) -> None:
    cut = a_data_set(30_000)[:-5000]  # the end of the pixels is missing
    arriving = place.arriving()
    write(arriving, cut)
    identity, _ = arriving.end()
    assert identity.study_instance_uid == make_instance().StudyInstanceUID
    assert part10_in(arriving.record(), arriving) == FILE_META + cut


def test_a_data_set_that_cannot_be_parsed_is_refused(place: Place) -> None:
    [deflated] = [sent for sent in ONE_OF_EACH if sent.transfer_syntax_uid == DEFLATED]
    arriving = place.arriving(transfer_syntax_uid=DEFLATED)
    write(arriving, b"\xff\xff" + deflated.data_set[2:])
    with pytest.raises(InstanceRefused) as caught:
        arriving.end()
    assert caught.value.status == 0xC000
    arriving.drop()
    assert place.pool.out == 0


NO_UIDS = [b"", bytes(64), b"\xff" * 100, b"no DICOM at all", b"\x08\0\x18\0UI\x40\0" + b"1.2"]


@pytest.mark.parametrize("data_set", NO_UIDS, ids=range(len(NO_UIDS)))
def test_a_data_set_without_uids_has_none(data_set: bytes, place: Place) -> None:
    arriving = place.arriving()
    write(arriving, data_set)
    identity, digest = arriving.end()
    assert not identity.study_instance_uid
    assert digest == digest_of(data_set)


# ------------------------------------------------------------ large


LARGE_SIZES = [
    IN_MEMORY_BYTES_MAX - HEAD_BYTES + 1,
    5 * MIB - BLOCK_BYTES - len(FILE_META),
    5 * MIB + 1,
    9 * MIB + 12345,
]


@pytest.mark.parametrize("size", LARGE_SIZES)
@pytest.mark.parametrize("places", [[], range(0, 10 * MIB, 131066)])
def test_a_large_instance_goes_to_a_file_of_its_own(
    size: int, places: Sequence[int], place: Place
) -> None:
    data_set = a_data_set(size)
    arriving = place.arriving()
    write(arriving, data_set, places)
    identity, digest = arriving.end()
    assert identity.sop_instance_uid == make_instance().SOPInstanceUID
    assert digest == digest_of(data_set)
    assert arriving.large is not None
    arriving.large.finish("instances/one.dcm")
    written = place.store.path("instances/one.dcm")
    assert written.read_bytes() == FILE_META + data_set
    assert written.stat().st_size == arriving.file_bytes
    assert place.pool.out == 0
    assert place.given_back == -(-(HEAD_BYTES + size) // MEMORY_BLOCK_BYTES)
    assert list(place.store.incoming.iterdir()) == []


def test_a_large_instance_needs_no_more_blocks_than_a_small_one(place: Place) -> None:
    arriving = place.arriving()
    write(arriving, a_data_set(40 * MIB), range(0, 40 * MIB, 131066))
    arriving.end()
    assert place.pool.out_max <= 5
    arriving.drop()
    assert list(place.store.incoming.iterdir()) == []


def test_it_waits_where_the_disk_does_not_keep_up(tmp_path: Path) -> None:
    place = Place(tmp_path, is_slow=True)
    arriving = place.arriving()
    data_set = a_data_set(12 * MIB)
    write(arriving, data_set[: 7 * MIB])
    before = arriving.must_wait
    write(arriving, data_set[7 * MIB : 8 * MIB + BLOCK_BYTES])
    assert (before, arriving.must_wait) == (False, True)
    assert arriving.blocks_under_way == 8
    place.give_back()
    after = arriving.must_wait
    assert (after, arriving.blocks_under_way) == (False, 0)


def test_uids_that_do_not_stand_at_the_beginning_of_a_large_instance_are_refused(
    place: Place,
) -> None:
    """Where to put it must be known before there is more of it than goes into memory."""
    private = b"\x09\0\x10\0OB\0\0" + (6 * MIB).to_bytes(4, "little") + bytes(6 * MIB)
    uids_at = HEADER.index(b"\x20\0\x0d\0")
    data_set = HEADER[:uids_at] + private + HEADER[uids_at:]
    arriving = place.arriving()
    with pytest.raises(InstanceRefused, match="do not stand in its first") as caught:
        write(arriving, data_set)
    assert caught.value.status == 0xC000
    arriving.drop()
    assert place.pool.out == 0
    assert list(place.store.incoming.iterdir()) == []


@pytest.mark.parametrize("size", [0, 100, 2 * MIB, 5 * MIB, 7 * MIB])
def test_what_is_dropped_leaves_nothing(size: int, place: Place) -> None:
    arriving = place.arriving()
    write(arriving, a_data_set(8 * MIB)[:size])
    arriving.drop()
    assert place.pool.out == 0
    assert list(place.store.incoming.iterdir()) == []
    assert not (place.store.root / "instances").exists()


# ------------------------------------------------------------ memory


def test_the_pool_keeps_some_blocks_and_gives_the_others_back() -> None:
    pool = BlockPool()
    blocks = [pool.take() for _ in range(40)]
    for block in blocks:
        pool.give(block)
    again = [pool.take() for _ in range(40)]
    assert sum(any(block is one for one in blocks) for block in again) == 16


def test_a_block_begins_on_a_page() -> None:
    """Direct writes want it (open(2), O_DIRECT)."""
    pool = BlockPool()
    for block in (pool.take(), pool.take()):
        assert len(block) == MEMORY_BLOCK_BYTES
        assert np.frombuffer(block, np.uint8).ctypes.data % BLOCK_BYTES == 0
