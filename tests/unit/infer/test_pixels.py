"""Pixels are rescaled by their own header, mirrored where they are inverted, or refused."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames

from dicom_node.errors import StudyUnusable
from dicom_node.infer.pixels import Values, network_values
from dicom_node.infer.series import load_source
from tests.factories import make_instance, write

STORED = np.array([[-5, 0], [7, 100]], np.int16)


def values_of(path: Path, values: Values = Values.HOUNSFIELD) -> np.ndarray:
    return network_values(path, load_source([path]).images[0].header, values)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [[-5, 0], [7, 100]]),
        ({"RescaleIntercept": -1024.0}, [[-1029, -1024], [-1017, -924]]),
        ({"RescaleSlope": 2.0, "RescaleIntercept": 1.0}, [[-9, 1], [15, 201]]),
        ({"RescaleSlope": -1.0}, [[5, 0], [-7, -100]]),
        ({"PhotometricInterpretation": "MONOCHROME1"}, [[-5, 0], [7, 100]]),
    ],
)
def test_hounsfield_units_are_rescaled_and_never_inverted(
    changes: dict[str, Any], expected: list[list[int]], tmp_path: Path
) -> None:
    found = values_of(write(make_instance(STORED, **changes), tmp_path / "a.dcm"))
    assert found.dtype == np.float32
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("stored", "bits_stored", "expected"),
    [
        (np.array([[0, 1], [1000, 1023]], np.uint16), 10, [[1023, 1022], [23, 0]]),
        (np.array([[0, 1], [254, 255]], np.uint8), 8, [[255, 254], [1, 0]]),
        (np.array([[0, 65535]], np.uint16), 16, [[65535, 0]]),
        (np.array([[-2048, 2047], [-1, 0]], np.int16), 12, [[2047, -2048], [0, -1]]),
        (np.array([[-32768, 32767]], np.int16), 16, [[32767, -32768]]),
    ],
)
def test_monochrome1_is_mirrored_on_the_stored_range(
    stored: np.ndarray, bits_stored: int, expected: list[list[int]], tmp_path: Path
) -> None:
    changes = {"BitsStored": bits_stored, "HighBit": bits_stored - 1}
    inverted = make_instance(stored, PhotometricInterpretation="MONOCHROME1", **changes)
    plain = make_instance(stored, **changes)
    paths = [write(inverted, tmp_path / "a.dcm"), write(plain, tmp_path / "b.dcm")]
    assert values_of(paths[0], Values.BRIGHTNESS).tolist() == expected
    assert values_of(paths[1], Values.BRIGHTNESS).tolist() == stored.tolist()


def test_bits_above_bits_stored_are_no_part_of_the_value(tmp_path: Path) -> None:
    overlaid = np.array([[0x8000 | 5, 0x4000 | 7]], np.uint16)
    instance = make_instance(overlaid, BitsStored=12, HighBit=11)
    assert values_of(write(instance, tmp_path / "a.dcm")).tolist() == [[5, 7]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"RescaleSlope": 0.0}, "Rescale Slope is 0"),
        ({"RescaleType": "OD"}, "no Hounsfield units"),
        ({"PixelData": None}, "has no Pixel Data"),
        ({"PixelData": b"\0\0"}, "Pixel Data of instance .* cannot be read"),
        ({"BitsAllocated": 12}, "Pixel Data of instance .* cannot be read"),
        ({"PixelRepresentation": None}, "Pixel Data of instance .* cannot be read"),
        ({"Columns": 700}, "Pixel Data of instance .* cannot be read"),
    ],
)
def test_broken_pixels_are_refused_in_words(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = write(make_instance(STORED, **changes), tmp_path / "a.dcm")
    with pytest.raises(StudyUnusable, match=words):
        values_of(path)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
@pytest.mark.parametrize(
    "transfer_syntax",
    ["4.50", "4.51", "4.57", "4.70", "4.80", "4.81", "4.90", "4.91", "5"],
)
def test_a_stream_that_is_cut_off_is_refused(
    transfer_syntax: str, share: float, data_dir: Path, tmp_path: Path
) -> None:
    """Some decoders fill what is missing, and the image would look right."""
    name = f"CTImage_1.2.840.10008.1.2.{transfer_syntax}.dcm"
    instance = dcmread(data_dir / "transfer-syntaxes" / name)
    assert values_of(data_dir / "transfer-syntaxes" / name, Values.BRIGHTNESS).ndim == 2
    (frame,) = generate_frames(instance.PixelData, number_of_frames=1)
    instance.PixelData = encapsulate([frame[: int(len(frame) * share)]])
    with pytest.raises(
        StudyUnusable, match=r"Pixel Data of instance .* (is cut off|cannot be read)"
    ):
        values_of(write(instance, tmp_path / "a.dcm"), Values.BRIGHTNESS)


def test_a_bare_implicit_data_set_is_read(data_dir: Path) -> None:
    found = values_of(
        data_dir / "xray" / "cr-chest-fuji-mono1-implicit-noheader", Values.BRIGHTNESS
    )
    assert found.shape == (440, 440)
    assert found.min() >= 0
    assert found.max() == 1023


def names_of_malformed() -> list[str]:
    folder = Path(__file__).parents[2] / "data" / "malformed"
    return sorted(path.name for path in folder.glob("*.dcm"))


@pytest.mark.parametrize("name", names_of_malformed())
def test_a_malformed_file_never_ends_in_a_traceback(name: str, data_dir: Path) -> None:
    """One file is no volume: whatever is wrong with it has to come out as a refusal in words."""
    path = data_dir / "malformed" / name
    with pytest.raises(StudyUnusable, match=r"\w+ \w+"):
        load_source([path]).volume()
    with suppress(StudyUnusable):
        image = load_source([path]).images[0]
        assert network_values(path, image.header, Values.BRIGHTNESS).ndim == 2
