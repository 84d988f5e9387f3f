"""Frames as bytes: packed, run-length encoded, encapsulated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import pixel_array
from pydicom.uid import RLELossless

from dicom_node.encode.drawing import drawing_of
from dicom_node.encode.frames import PackedFrames, encapsulated
from dicom_node.encode.runs import frame_of_labels, values_in
from dicom_node.errors import InvariantBroken
from tests.factories import make_ct_series
from tests.unit.encode.findings import headers_of, segmentation

RANDOM = np.random.default_rng(5)
PLANES: dict[str, NDArray[np.uint8]] = {
    "empty": np.zeros((40, 300), np.uint8),
    "of one value": np.full((3, 128), 255, np.uint8),
    "a run one longer than it can be": np.full((2, 129), 7, np.uint8),
    "a run twice as long": np.full((2, 256), 7, np.uint8),
    "one column": np.arange(9, dtype=np.uint8)[:, None],
    "one pixel": np.array([[9]], np.uint8),
    "noise": RANDOM.integers(0, 256, (31, 33), np.uint8),
    "few values": RANDOM.integers(0, 2, (64, 257), np.uint8) * np.uint8(200),
    "turned": np.ascontiguousarray(RANDOM.integers(0, 3, (50, 20), np.uint8)).T,
}


@pytest.mark.parametrize("plane", PLANES.values(), ids=PLANES)
def test_a_run_length_encoded_frame_is_decoded_by_pydicom(plane: NDArray[np.uint8]) -> None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.Rows, dataset.Columns = plane.shape
    dataset.SamplesPerPixel = dataset.NumberOfFrames = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    frame = frame_of_labels(plane)
    element = b"".join(encapsulated([frame]))
    dataset.PixelData = element[12:-8]  # without tag, VR and length; without the delimiter
    dataset["PixelData"].is_undefined_length = True
    assert len(frame) % 2 == 0
    np.testing.assert_array_equal(pixel_array(dataset, decoding_plugin="pydicom"), plane)


@pytest.mark.parametrize("plane", PLANES.values(), ids=PLANES)
def test_no_run_crosses_a_row(plane: NDArray[np.uint8]) -> None:
    """PS3.5 G.3.1: each row is encoded separately."""
    pairs = np.frombuffer(frame_of_labels(plane)[64:], np.uint8)
    lengths = (257 - pairs[: pairs.size // 2 * 2 : 2].astype(int)) % 256
    ends = set(np.cumsum(lengths).tolist())
    columns = plane.shape[1]
    assert {row * columns for row in range(1, len(plane) + 1)} <= ends


@pytest.mark.parametrize("plane", PLANES.values(), ids=PLANES)
def test_all_values_of_a_slice_are_found(plane: NDArray[np.uint8]) -> None:
    assert set(values_in(plane).tolist()) == set(np.unique(plane).tolist())


def test_the_offset_table_leads_to_every_frame() -> None:
    frames = [bytes([number]) * (2 * number) for number in range(1, 6)]
    pieces = encapsulated(frames)
    element = b"".join(pieces)
    table = np.frombuffer(pieces[1][8:], "<u4")
    first = len(pieces[0]) + len(pieces[1])
    for offset, frame in zip(table.tolist(), frames, strict=True):
        begin = first + offset
        assert element[begin : begin + 4] == b"\xfe\xff\x00\xe0"
        assert element[begin + 8 : begin + 8 + len(frame)] == frame
    assert list(generate_frames(element[12:-8], number_of_frames=5)) == frames


def test_more_than_an_element_can_hold_is_refused_before_a_byte_is_made() -> None:
    sources = headers_of(make_ct_series(2))
    drawing = drawing_of(segmentation(sources), sources)
    vast = np.broadcast_to(np.zeros((), np.uint8), (2, 1 << 14, 1 << 14))
    with pytest.raises(InvariantBroken, match="4 GiB"):
        PackedFrames(replace(drawing, mask=vast), [(0, 0)] * 128)


def test_a_large_seg_is_never_in_memory() -> None:
    """Its largest piece is some frames, however many there are."""
    sources = headers_of(make_ct_series(pixels=np.zeros((64, 64, 64), np.int16)))
    drawing = drawing_of(segmentation(sources), sources)
    frames = [(segment, plane) for segment in (0, 1) for plane in range(64)]
    pieces = [len(piece) for piece in PackedFrames(drawing, frames)]
    assert sum(pieces) == 12 + 128 * 64 * 64 // 8
    assert max(pieces) == 8 * 64 * 64 // 8
