"""A series is one patient's slices on one grid, or it is refused in words."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset

from dicom_node.errors import StudyUnusable
from dicom_node.infer.series import load_source
from tests.factories import CORONAL, CT_SERIES, ROOT, make_ct_series, make_instance, write_series

Series = list[FileDataset]


def test_the_order_of_arrival_does_not_matter(tmp_path: Path) -> None:
    series = make_ct_series(12, spacing_mm=(2.5, 0.8, 0.8))
    random.Random(5).shuffle(series)
    volume = load_source(write_series(series, tmp_path)).volume()
    by_height = sorted(series, key=lambda dataset: dataset.ImagePositionPatient[2])
    expected = [dataset.SOPInstanceUID for dataset in by_height]
    assert [image.sop_instance_uid for image in volume.images] == expected
    assert volume.grid.shape == (12, 64, 64)
    assert volume.grid.spacing_mm == pytest.approx((2.5, 0.8, 0.8))
    assert volume.left_out == ()


def test_localizers_are_left_out_with_the_reason(tmp_path: Path) -> None:
    scout = make_instance(
        np.zeros((32, 32), np.int16),
        number=99,
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        ImageOrientationPatient=list(CORONAL),
    )
    volume = load_source(write_series([scout, *make_ct_series(5)], tmp_path)).volume()
    assert len(volume.images) == 5
    assert volume.left_out == ((scout.SOPInstanceUID, "localizer"),)


def test_a_slice_that_stands_twice_is_dropped_once(tmp_path: Path) -> None:
    series = make_ct_series(5)
    again = make_ct_series(5)[2]
    again.SOPInstanceUID = f"{CT_SERIES}.7"
    volume = load_source(write_series([again, *series], tmp_path)).volume()
    assert [i.sop_instance_uid for i in volume.images] == [f"{CT_SERIES}.{n}" for n in range(1, 6)]
    assert volume.left_out == ((f"{CT_SERIES}.7", "the same slice as another instance"),)


def test_an_instance_that_was_received_twice_is_one(tmp_path: Path) -> None:
    series = make_ct_series(3)
    source = load_source(write_series([*series, series[1]], tmp_path))
    assert len(source.images) == 3
    assert source.left_out == ((f"{CT_SERIES}.2", "received twice"),)


def change(keyword: str, value: object, *, index: int = 1) -> Callable[[Series], None]:
    def apply(series: Series) -> None:
        for dataset in series if index < 0 else [series[index]]:
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)

    return apply


def two_phases(series: Series) -> None:
    series += make_ct_series(4, pixels=np.full((4, 64, 64), 7, np.int16))
    for number, dataset in enumerate(series):
        dataset.SOPInstanceUID = f"{CT_SERIES}.{number}"


def only_scouts(series: Series) -> None:
    for dataset in series:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def same_uid(series: Series) -> None:
    series[1].SOPInstanceUID = series[2].SOPInstanceUID


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (change("PatientID", "SYN-2"), "2 patients in one series"),
        (change("PatientName", "Other^Patient"), "2 patients in one series"),
        (change("StudyInstanceUID", f"{ROOT}.9"), "2 studies in one series"),
        (change("SeriesInstanceUID", f"{ROOT}.9"), "2 series in one series"),
        (change("FrameOfReferenceUID", f"{ROOT}.9"), "2 frames of reference in one series"),
        (change("FrameOfReferenceUID", None, index=-1), "no Frame of Reference UID"),
        (change("Modality", "PT"), "2 modalities in one series"),
        (change("SOPClassUID", "1.2.840.10008.5.1.4.1.1.7"), "2 SOP Classes in one series"),
        (change("SOPInstanceUID", ""), "without SOP Instance UID"),
        (change("PixelSpacing", None, index=-1), "PixelSpacing is missing"),
        (change("PixelSpacing", [0.0, 0.0], index=-1), "Pixel Spacing is not positive"),
        (change("PixelSpacing", [1.0]), "PixelSpacing"),
        (change("ImagePositionPatient", None), "ImagePositionPatient is missing"),
        (change("ImagePositionPatient", [1.0, 2.0]), "does not hold 3 numbers"),
        (change("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "no pair of unit vectors"),
        (change("ImageOrientationPatient", list(CORONAL)), "2 orientations or matrices"),
        (change("Rows", 32), "2 orientations or matrices"),
        (change("Rows", None), "no image"),
        (change("Columns", [64, 64]), "no image"),
        (change("NumberOfFrames", 3), "a multi-frame object"),
        (change("NumberOfFrames", [1, 1]), "a multi-frame object"),
        (change("SharedFunctionalGroupsSequence", [Dataset()]), "a multi-frame object"),
        (change("SamplesPerPixel", 3), "not a grey image"),
        (change("PhotometricInterpretation", "RGB"), "not a grey image"),
        (change("PhotometricInterpretation", None), "not a grey image"),
        (two_phases, "two different images at one position"),
        (only_scouts, "every image of the series is a localizer"),
        (same_uid, "two different files carry SOP Instance UID"),
        (lambda series: series.pop(1), "slices missing between -100.0 and -96.0 mm"),
        (lambda series: series.clear(), "no instance"),
    ],
)
def test_what_is_no_volume_is_refused_in_words(
    spoil: Callable[[Series], None], words: str, tmp_path: Path
) -> None:
    series = make_ct_series(4)
    spoil(series)
    with pytest.raises(StudyUnusable) as refusal:
        load_source(write_series(series, tmp_path)).volume()
    assert words in refusal.value.message
    assert "SYN" not in refusal.value.message
    assert "Patient^" not in refusal.value.message


def test_what_is_no_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"no DICOM at all, but some text that is long enough" * 9)
    with pytest.raises(StudyUnusable):
        load_source([tmp_path / "a.dcm"]).volume()


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("awkward-series/ct-head-tilt-variable-spacing", "gantry tilt or shear"),
        ("awkward-series/mr-mixed-orientation", "2 orientations or matrices in one series: 2 "),
    ],
)
def test_awkward_series_of_real_scanners_are_refused(
    folder: str, words: str, data_dir: Path
) -> None:
    with pytest.raises(StudyUnusable, match=words):
        load_source(sorted((data_dir / folder).glob("*.dcm"))).volume()
