"""Images at one place become time points, echoes or phases; or nobody knows, and that is said."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileDataset

from dicom_node.errors import StudyUnusable
from dicom_node.infer.series import SourceVolume, load_source
from tests.factories import CT_SERIES, make_ct_series, make_enhanced, make_mr_series, write_series

SLICES = 4
Attributes = Callable[[int, int], Mapping[str, Any]]
"""What an image says, by its slice and its time, both from 0."""


def several(times: int, says: Attributes, *, slices: int = SLICES) -> list[FileDataset]:
    """Return a series of so many images at each place; those of one time have its number in them.

    Instance Numbers go from place to place, as those of many scanners do.
    """
    made = []
    for time in range(times):
        pixels = np.full((slices, 8, 8), 100 * time, np.int16)
        for index, one in enumerate(make_mr_series(pixels=pixels)):
            number = index * times + time + 1
            one.SOPInstanceUID = f"{CT_SERIES}.{number}"
            one.InstanceNumber = number
            one.AcquisitionNumber = 1
            for keyword, value in says(index, time).items():
                setattr(one, keyword, value)
            made.append(one)
    return made


def volumes_of(series: Sequence[FileDataset], folder: Path) -> tuple[SourceVolume, ...]:
    return load_source(write_series(series, folder)).volumes()


def times_in(volume: SourceVolume) -> set[int]:
    """Return whose pixels the images of a volume have."""
    return {int(image.linear_mean()) // 100 for image in map(_Image, volume.images)}


class _Image:
    def __init__(self, image: Any) -> None:
        self._image = image

    def linear_mean(self) -> float:
        with self._image.file.open("rb") as opened:
            pixels = pydicom.dcmread(opened).pixel_array
        frame = self._image.frame
        return float(np.mean(pixels[frame.index] if frame.count > 1 else pixels))


def clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"10{int(minutes):02}{rest:06.3f}"


BEAT_MS = (700, 900, 820, 760)
"""Of the heart, slice by slice: each was held in a breath of its own."""
GRADIENTS = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0])


def b_value(index: int, time: int) -> Mapping[str, Any]:
    if time == 0:
        return {"DiffusionBValue": 0.0}
    return {"DiffusionBValue": 1000.0, "DiffusionGradientOrientation": GRADIENTS[time - 1]}


KNOWN: dict[str, tuple[int, Attributes, str, str]] = {
    "dynamic MR": (
        3,
        lambda index, time: {"TemporalPositionIdentifier": time + 1},
        "time point 2 of 3",
        "Temporal Position Identifier 2",
    ),
    "two echoes": (
        2,
        lambda index, time: {"EchoTime": (4.92, 7.38)[time], "EchoNumbers": time + 1},
        "echo 2 of 2",
        "Echo Time 7.38 ms",
    ),
    "diffusion": (
        3,
        lambda index, time: {"DiffusionBValue": (0.0, 500.0, 1000.0)[time]},
        "b-value 2 of 3",
        "Diffusion b-value 500 s/mm2",
    ),
    "diffusion in three directions": (
        4,
        b_value,
        "b-value 2 of 4",
        "Diffusion b-value 1000 s/mm2, gradient 1.0, 0.0, 0.0",
    ),
    "inversion recovery": (
        3,
        lambda index, time: {"InversionTime": (100.0, 400.0, 1600.0)[time]},
        "inversion time 2 of 3",
        "Inversion Time 400 ms",
    ),
    "flip angles": (
        2,
        lambda index, time: {"FlipAngle": (5.0, 26.0)[time]},
        "flip angle 2 of 2",
        "Flip Angle 26 degrees",
    ),
    "cine of one beat a slice": (
        5,
        lambda index, time: {"TriggerTime": BEAT_MS[index] / 5 * time},
        "cardiac phase 2 of 5",
        "Trigger Time 140 to 180 ms",
    ),
    "perfusion, sweep after sweep": (
        4,
        lambda index, time: {"AcquisitionTime": clock(50 + 3 * time + 0.2 * index)},
        "time point 2 of 4",
        "Acquisition Time + 3.0 s",
    ),
    "perfusion over midnight": (
        2,
        lambda index, time: {
            "AcquisitionDate": ("20240102", "20240103")[time],
            "AcquisitionTime": ("235959.5", "000001.5")[time],
        },
        "time point 2 of 2",
        "Acquisition Time + 2.0 s",
    ),
    "one DateTime a volume": (
        2,
        lambda index, time: {"AcquisitionDateTime": f"2024010210000{time}.5+0100"},
        "time point 2 of 2",
        "Acquisition DateTime + 1.0 s",
    ),
    "dynamic PET": (
        3,
        lambda index, time: {"FrameReferenceTime": 30000.0 * time + 15000},
        "time point 2 of 3",
        "Frame Reference Time 45000 ms",
    ),
    "acquisitions": (
        2,
        lambda index, time: {"AcquisitionNumber": time + 7},
        "acquisition 2 of 2",
        "Acquisition Number 8",
    ),
    "kernels": (
        2,
        lambda index, time: {"ConvolutionKernel": (["Br38f", "3"], ["Bl57d", "3"])[time]},
        "reconstruction 2 of 2",
        "Convolution Kernel Bl57d, 3",
    ),
    "echoes of a dynamic series": (
        4,
        lambda index, time: {
            "TemporalPositionIdentifier": time // 2 + 1,
            "EchoTime": (2.3, 4.6)[time % 2],
        },
        "time point 2 of 4",
        "Temporal Position Identifier 1, Echo Time 4.6 ms",
    ),
    "echoes of a dynamic series without positions": (
        4,
        lambda index, time: {
            "EchoTime": (2.3, 4.6)[time // 2],
            "ContentTime": clock(3 * (time % 2) + 0.1 * index),
        },
        "echo 2 of 4",
        "Echo Time 2.3 ms, Content Time + 3.0 s",
    ),
}


@pytest.mark.parametrize(("times", "says", "short", "told"), KNOWN.values(), ids=KNOWN)
def test_each_time_point_is_a_volume_of_its_own(
    times: int, says: Attributes, short: str, told: str, tmp_path: Path
) -> None:
    series = several(times, says)
    random.Random(3).shuffle(series)
    volumes = volumes_of(series, tmp_path)
    assert [times_in(volume) for volume in volumes] == [{time} for time in range(times)]
    assert [volume.grid.shape for volume in volumes] == [(SLICES, 8, 8)] * times
    points = [volume.time_point for volume in volumes if volume.time_point is not None]
    assert [point.number for point in points] == [*range(1, times + 1)]
    assert (points[1].short, points[1].told) == (short, told)
    assert len({point.key for point in points}) == times
    assert [volume.left_out for volume in volumes] == [()] * times


IN_FRAMES: dict[str, tuple[Attributes, str]] = {
    "temporal positions": (
        lambda index, time: {"TemporalPositionIndex": time + 1},
        "Temporal Position Index 2",
    ),
    "echoes": (
        lambda index, time: {"EffectiveEchoTime": 5.0 + time},
        "Effective Echo Time 6 ms",
    ),
    "b-values": (
        lambda index, time: {"DiffusionBValue": 800.0 * time},
        "Diffusion b-value 800 s/mm2",
    ),
    "phases": (
        lambda index, time: {"NominalCardiacTriggerDelayTime": 40.0 * time},
        "Trigger Delay Time 40 ms",
    ),
    "times of frames": (
        lambda index, time: {"FrameAcquisitionDateTime": f"2024010210000{time}.{index}"},
        "Frame Acquisition DateTime + 1.0 s",
    ),
}


@pytest.mark.parametrize(("says", "told"), IN_FRAMES.values(), ids=IN_FRAMES)
def test_the_frames_of_an_enhanced_image_are_told_apart_by_their_groups(
    says: Attributes, told: str, tmp_path: Path
) -> None:
    instance = make_enhanced(several(3, says))
    volumes = volumes_of([instance], tmp_path)
    assert [times_in(volume) for volume in volumes] == [{0}, {1}, {2}]
    assert [point.told for v in volumes if (point := v.time_point) and point.number == 2] == [told]
    frames = [image.frame.index for volume in volumes for image in volume.images]
    assert sorted(frames) == [*range(3 * SLICES)]


def without(*numbers: int) -> Callable[[list[FileDataset]], None]:
    """Leave out images, by their place in a series that goes from time to time."""

    def apply(series: list[FileDataset]) -> None:
        for number in sorted(numbers, reverse=True):
            del series[number]

    return apply


def as_it_is(series: list[FileDataset]) -> None:
    """Leave all as it is."""


def another_at_one_place(series: list[FileDataset]) -> None:
    extra = deepcopy(series[-1])
    extra.SOPInstanceUID = f"{CT_SERIES}.999"
    extra.PixelData = b"\7" * len(extra.PixelData)
    series.append(extra)


POSITION: Attributes = lambda index, time: {"TemporalPositionIdentifier": time + 1}  # noqa: E731

UNKNOWN: dict[str, tuple[Attributes, Callable[[list[FileDataset]], None], str]] = {
    "nothing tells": (lambda i, t: {}, as_it_is, "no attribute tells which belong together"),
    "only Instance Numbers differ": (
        lambda index, time: {"InstanceNumber": 10 * time + index},
        as_it_is,
        "no attribute tells which belong together",
    ),
    "a slice of one time point is missing": (
        POSITION,
        without(5),
        "Temporal Position Identifier 2 has 3 of 4 slices",
    ),
    "the first ends early": (
        POSITION,
        without(2, 3),
        "Temporal Position Identifier 1 has 2 of 4 slices",
    ),
    "an echo is missing": (
        lambda index, time: {"EchoTime": 5.0 + time},
        without(11),
        "Echo Time 7 ms has 3 of 4 slices",
    ),
    "a phase is missing": (
        lambda index, time: {"TriggerTime": 40.0 * time},
        without(5),
        "two different images at one position",
    ),
    "times overlap": (
        lambda index, time: {"AcquisitionTime": clock(10 * index + time)},
        as_it_is,
        "no attribute tells which belong together",
    ),
    "two attributes disagree": (
        lambda index, time: {
            "EchoTime": 5.0 + time,
            "InversionTime": 100.0 + (time + index) % 3,
        },
        as_it_is,
        "Echo Time and Inversion Time split them differently",
    ),
    "magnitude and phase": (
        lambda index, time: {
            "TemporalPositionIdentifier": time + 1,
            "ImageType": ["ORIGINAL", "PRIMARY", ("M", "P", "M")[time], "ND"],
        },
        as_it_is,
        "they show different quantities (M, P)",
    ),
    "another picture at one place of one time point": (
        POSITION,
        another_at_one_place,
        "Temporal Position Identifier 3 has 5 images at 4 places",
    ),
}


@pytest.mark.parametrize(("says", "spoil", "words"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_nobody_can_tell_apart_is_refused_in_words(
    says: Attributes,
    spoil: Callable[[list[FileDataset]], None],
    words: str,
    tmp_path: Path,
) -> None:
    series = several(3, says)
    spoil(series)
    with pytest.raises(StudyUnusable) as refusal:
        volumes_of(series, tmp_path)
    assert "two different images at one position" in refusal.value.message
    assert words in refusal.value.message
    assert refusal.value.hint == "send each phase, echo or time point as its own series"


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (POSITION, "Temporal Position Identifier 3"),
        (
            lambda index, time: {"AcquisitionTime": clock(9 * time + index)},
            "Acquisition Time + 18.0 s",
        ),
    ],
    ids=["counted", "timed"],
)
def test_a_scan_that_was_broken_off_leaves_its_last_time_point_out(
    says: Attributes, told: str, tmp_path: Path
) -> None:
    series = several(3, says)
    left = [str(one.SOPInstanceUID) for one in series[8:10]]
    del series[10:]
    volumes = volumes_of(series, tmp_path)
    assert [times_in(volume) for volume in volumes] == [{0}, {1}]
    reason = f"time point 3 of 3 ({told}) has only 2 of 4 slices"
    for volume in volumes:
        assert set(volume.left_out) == {(uid, reason) for uid in left}


def test_one_complete_time_point_and_a_rest_are_refused(tmp_path: Path) -> None:
    series = several(2, POSITION)[:6]
    with pytest.raises(StudyUnusable, match="Identifier 2 has 2 of 4 slices"):
        volumes_of(series, tmp_path)


def test_a_slice_that_stands_twice_in_one_time_point_is_dropped_once(tmp_path: Path) -> None:
    series = several(3, POSITION)
    again = deepcopy(series[5])
    again.SOPInstanceUID = f"{CT_SERIES}.999"
    again.InstanceNumber = 999
    volumes = volumes_of([again, *series], tmp_path)
    assert [len(volume.images) for volume in volumes] == [SLICES] * 3
    assert volumes[0].left_out == ((f"{CT_SERIES}.999", "the same slice as another instance"),)


def test_a_series_that_was_stored_twice_is_one_volume(tmp_path: Path) -> None:
    """What was sent again under other UIDs, at another time, is no second time point."""
    first, second = make_ct_series(SLICES), make_ct_series(SLICES, ContentTime="110000")
    for number, one in enumerate(second, 100):
        one.SOPInstanceUID = f"{CT_SERIES}.{number}"
    [volume] = volumes_of([*first, *second], tmp_path)
    assert volume.time_point is None
    assert [reason for _, reason in volume.left_out] == [
        "the same slice as another instance"
    ] * SLICES


def test_the_volumes_of_a_moving_table_have_grids_of_their_own(tmp_path: Path) -> None:
    series = several(2, POSITION)
    for one in series[SLICES:]:
        one.ImagePositionPatient[0] += 3.0
    first, second = volumes_of(series, tmp_path)
    moved = second.grid.affine[:3, 3] - first.grid.affine[:3, 3]
    assert moved.tolist() == pytest.approx([3.0, 0.0, 0.0])


def test_where_one_volume_is_looked_at_several_are_refused(tmp_path: Path) -> None:
    files = write_series(several(2, lambda index, time: {"EchoTime": 5.0 + time}), tmp_path)
    with pytest.raises(StudyUnusable, match="2 echoes in one series, where one volume"):
        load_source(files).volume()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    times=st.integers(2, 4),
    slices=st.integers(2, 4),
    pattern=st.sampled_from(sorted(KNOWN)),
    order=st.randoms(use_true_random=False),
)
def test_every_image_is_in_one_volume_whatever_the_order(
    times: int, slices: int, pattern: str, order: random.Random, tmp_path_factory: Any
) -> None:
    most, says, _, _ = KNOWN[pattern]
    times = most if "echoes of" in pattern or "directions" in pattern else min(times, most)
    series = several(times, says, slices=slices)
    order.shuffle(series)
    volumes = volumes_of(series, tmp_path_factory.mktemp("series"))
    uids = [image.sop_instance_uid for volume in volumes for image in volume.images]
    assert sorted(uids) == sorted(str(one.SOPInstanceUID) for one in series)
    assert [times_in(volume) for volume in volumes] == [{time} for time in range(times)]


# ------------------------------------------------------------ real scanners


def later(file: Path, folder: Path, number: int, **says: Any) -> Path:
    """Write a real slice as it would be at a later time, a little brighter."""
    dataset = pydicom.dcmread(file)
    dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID}.{number}"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    if number:
        dataset.decompress(generate_instance_uid=False)
        pixels = dataset.pixel_array
        dataset.PixelData = (pixels + pixels.dtype.type(number)).tobytes()
    for keyword, value in says.items():
        setattr(dataset, keyword, value)
    path = folder / f"{number}-{file.name}"
    dataset.save_as(path)
    return path


def test_a_real_ct_is_split_by_the_times_that_its_scanner_writes(
    data_dir: Path, tmp_path: Path
) -> None:
    """20 slices, each with an Acquisition Time of its own; the second sweep a minute later."""
    files = sorted((data_dir / "ct-abdomen-totalsegmentator").glob("*.dcm"))
    for file in files:
        header = pydicom.dcmread(file, stop_before_pixels=True)
        later(file, tmp_path, 0)
        moment = f"{float(header.AcquisitionTime) + 100:013.6f}"
        later(
            file,
            tmp_path,
            1,
            AcquisitionTime=moment,
            ContentTime=moment,
            AcquisitionDateTime=f"{header.AcquisitionDate}{moment}",
        )
    volumes = load_source(sorted(tmp_path.glob("*.dcm"))).volumes()
    points = [volume.time_point for volume in volumes if volume.time_point is not None]
    assert [point.told for point in points] == [
        "Acquisition DateTime + 0.0 s",
        "Acquisition DateTime + 60.0 s",
    ]
    for number, volume in enumerate(volumes):
        assert len(volume.images) == len(files)
        assert {image.sop_instance_uid[-2:] for image in volume.images} == {f".{number}"}


def test_a_real_enhanced_mr_is_split_by_its_temporal_positions(
    data_dir: Path, tmp_path: Path
) -> None:
    dataset = pydicom.dcmread(data_dir / "enhanced" / "mr-enhanced-siemens-xa10-1.dcm")
    again = deepcopy(list(dataset.PerFrameFunctionalGroupsSequence))
    for groups in again:
        groups.FrameContentSequence[0].TemporalPositionIndex = 2
    pixels = dataset.pixel_array
    dataset.PerFrameFunctionalGroupsSequence = [*dataset.PerFrameFunctionalGroupsSequence, *again]
    dataset.NumberOfFrames = 2 * len(again)
    dataset.PixelData = np.concatenate([pixels, pixels + np.uint16(1)]).tobytes()
    dataset.save_as(tmp_path / "dynamic.dcm")
    first, second = load_source([tmp_path / "dynamic.dcm"]).volumes()
    assert {image.frame.index for image in first.images} == set(range(len(again)))
    assert {image.frame.index for image in second.images} == set(range(len(again), 2 * len(again)))


def test_a_real_field_map_is_no_echo_of_its_magnitude(data_dir: Path) -> None:
    """Its frames say Effective Echo Time 0 and 1.52 ms, each once at each place."""
    with pytest.raises(StudyUnusable) as refusal:
        load_source([data_dir / "enhanced" / "mr-enhanced-philips-fieldmap-64f.dcm"]).volumes()
    assert "different quantities (MAGNITUDE M, REAL FIELD_MAP)" in refusal.value.message
