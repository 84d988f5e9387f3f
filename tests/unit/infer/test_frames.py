"""The quick way to a frame gives pydicom's values, or leaves the image to pydicom."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from dicom_node.errors import StudyUnusable
from dicom_node.headers import read_to_the_pixels
from dicom_node.infer.frames import Frame, quick_frame
from dicom_node.infer.pixels import stored_values
from dicom_node.multiframe import frames_of
from tests.factories import make_ct_series, make_enhanced, make_instance, write

DATA = Path(__file__).parents[2] / "data"
FILES = sorted(
    file
    for folder in ("transfer-syntaxes", "xray", "malformed", "charsets")
    for file in (DATA / folder).rglob("*")
    if file.is_file()
)
SERIES = [
    sorted((DATA / name).glob("*.dcm"))[0]
    for name in ("ct-chest-lctsc-011", "ct-abdomen-totalsegmentator", "mr-t1-studyforrest")
]


def quick(file: Path) -> NDArray[Any] | None:
    try:
        header, at = read_to_the_pixels(file)
    except StudyUnusable:
        return None
    with file.open("rb") as opened:
        found = quick_frame(opened, header, at)
    return None if found is None else found[0]


@pytest.mark.parametrize("file", [*FILES, *SERIES], ids=lambda file: file.name)
def test_what_is_taken_is_what_pydicom_gives(file: Path) -> None:
    values = quick(file)
    if values is not None:
        expected = pixel_array(file)
        assert values.dtype == expected.dtype
        assert np.array_equal(values, expected)


def test_the_usual_encodings_are_taken() -> None:
    taken: Counter[str] = Counter()
    for file in (*FILES, *SERIES):
        if quick(file) is not None:
            taken[pydicom.dcmread(file).file_meta.TransferSyntaxUID.keyword] += 1
    assert set(taken) >= {
        "ImplicitVRLittleEndian",
        "ExplicitVRLittleEndian",
        "JPEGLSLossless",
        "JPEGLSNearLossless",
        "JPEG2000Lossless",
        "JPEG2000",
        "JPEGLosslessSV1",
        "RLELossless",
    }


@pytest.mark.parametrize("kind", ["<i2", "<u2", "|u1", "|i1"])
@pytest.mark.parametrize("encoded", [False, True])
def test_every_type_of_stored_values(kind: str, encoded: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    limits = np.iinfo(kind)
    pixels = random.integers(limits.min, limits.max, (15, 17), dtype=kind, endpoint=True)
    instance = make_instance(pixels)
    instance.PixelRepresentation = int(np.dtype(kind).kind == "i")
    if encoded:
        instance.compress(RLELossless, generate_instance_uid=False)
    file = write(instance, tmp_path / "x.dcm")
    values = quick(file)
    assert values is not None
    assert np.array_equal(values, pixels)
    assert np.array_equal(stored_values(file, *read_to_the_pixels(file)), pixels)


def changed(tmp_path: Path, **changes: Any) -> Path:
    instance = make_instance(np.arange(64, dtype=np.int16).reshape(8, 8), **changes)
    assert instance.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    return write(instance, tmp_path / "x.dcm")


@pytest.mark.parametrize(
    "changes",
    [
        {"BitsStored": 5, "HighBit": 4},  # a value of 63 does not lie in 5 bits
        {"SamplesPerPixel": 3},
        {"BitsAllocated": 32},
        {"NumberOfFrames": 2},
        {"Rows": 9},
        {"PixelData": bytes(64)},
    ],
    ids=str,
)
def test_what_is_not_plain_is_left_to_pydicom(changes: dict[str, Any], tmp_path: Path) -> None:
    assert quick(changed(tmp_path, **changes)) is None


def test_a_file_that_is_cut_off_is_left_to_pydicom_which_refuses_it(tmp_path: Path) -> None:
    file = changed(tmp_path)
    file.write_bytes(file.read_bytes()[:-10])
    assert quick(file) is None
    with pytest.raises(StudyUnusable, match="cannot be read"):
        stored_values(file, *read_to_the_pixels(file))


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGLSLossless])
@pytest.mark.parametrize("has_offsets", [True, False], ids=["offsets", "no offsets"])
def test_each_frame_of_several_is_taken(
    syntax: str | None, has_offsets: bool, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(5).integers(-900, 900, (4, 17, 13)).astype(np.int16)
    instance = make_enhanced(make_ct_series(pixels=pixels))
    if syntax is not None:
        instance.compress(syntax, generate_instance_uid=False)
        frames = list(generate_frames(instance.PixelData, number_of_frames=4))
        instance.PixelData = encapsulate(frames, has_bot=has_offsets)
    file = write(instance, tmp_path / "x.dcm")
    header, at = read_to_the_pixels(file)
    for index, frame_header in enumerate(frames_of(header)):
        with file.open("rb") as opened:
            found = quick_frame(opened, frame_header, at, Frame(index, 4))
        assert found is not None
        assert np.array_equal(found[0], pixels[index])


def test_a_frame_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    instance = make_enhanced(make_ct_series(4))
    instance.compress(JPEGLSLossless, generate_instance_uid=False)
    frames = list(generate_frames(instance.PixelData, number_of_frames=4))
    instance.PixelData = encapsulate([*frames[:3], frames[3][:-20]])
    file = write(instance, tmp_path / "x.dcm")
    header, at = read_to_the_pixels(file)
    headers = frames_of(header)
    assert stored_values(file, headers[2], at, Frame(2, 4)).shape == (64, 64)
    with pytest.raises(StudyUnusable, match="is cut off"):
        stored_values(file, headers[3], at, Frame(3, 4))
