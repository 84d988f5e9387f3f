"""Every kind of source, from its files through an engine to SEG and SR: right, or refused in words.

What programs that we did not write say of these results is in tests/witness/test_sources.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    UID,
    BreastTomosynthesisImageStorage,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from dicom_node.encode.sources import TYPE_2
from dicom_node.errors import StudyUnusable
from tests.factories import (
    AXIAL,
    CORONAL,
    CT_SERIES,
    MR_SERIES,
    SAGITTAL,
    make_ct_series,
    make_enhanced,
    make_instance,
    make_mr_series,
    make_xray,
    write_series,
)
from tests.whole_way import (
    classified,
    derivations,
    drawn,
    evidence,
    instances_listed,
    points_in_seg,
    points_in_slices,
    results_of,
    shape_in,
)

OBLIQUE = (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)
PRONE = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)

Series = list[FileDataset]


def ct(**arguments: Any) -> Series:
    return make_ct_series(pixels=shape_in(6), **arguments)


def mr(**arguments: Any) -> Series:
    """Return values of 400 and more where there is something."""
    return make_mr_series(pixels=np.maximum(shape_in(6) * 20, 0), **arguments)


@dataclass(frozen=True)
class Source:
    """A series as it is sent, and the slices that its results have to lie on."""

    sent: Series
    slices: Series
    """As single-frame instances; what was left out is not among them."""
    named: Mapping[tuple[float, ...], tuple[str, str, int | None]]
    """How each is to be named, by its position: SOP Class, SOP Instance UID, frame number."""
    is_ct: bool = True
    modality: str = ""


def single(sent: Series, slices: Series | None = None, **kind: Any) -> Source:
    slices = sent if slices is None else slices
    named = {place_of(one): (str(one.SOPClassUID), str(one.SOPInstanceUID), None) for one in slices}
    return Source(sent, slices, named, **kind)


def folded(*groups: Series, **kind: Any) -> Source:
    """Return each group of slices as one enhanced instance."""
    sent = [make_enhanced(group, number=number) for number, group in enumerate(groups, 1)]
    named = {
        place_of(one): (str(instance.SOPClassUID), str(instance.SOPInstanceUID), number)
        for instance, group in zip(sent, groups, strict=True)
        for number, one in enumerate(group, 1)
    }
    return Source(sent, [one for group in groups for one in group], named, **kind)


def place_of(one: Dataset) -> tuple[float, ...]:
    return tuple(round(float(mm), 3) for mm in one.ImagePositionPatient)


def with_a_localizer() -> Source:
    scout = make_instance(
        np.zeros((24, 20), np.int16),
        number=99,
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        ImageOrientationPatient=list(CORONAL),
    )
    return single([scout, *ct()], ct())


def with_a_slice_twice() -> Source:
    again = ct()[2]
    again.SOPInstanceUID = f"{CT_SERIES}.99"
    return single([*ct(), again], ct())


def with_a_frame_twice() -> Source:
    slices = ct()
    source = folded([*slices, deepcopy(slices[2])])
    number = len(slices)
    named = {
        place_of(one): (*source.named[place_of(one)][:2], n) for n, one in enumerate(slices, 1)
    }
    assert len(named) == number
    return Source(source.sent, slices, named)


def with_a_localizer_frame() -> Source:
    scout = make_instance(
        np.zeros((24, 20), np.int16),
        number=99,
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"],
        ImageOrientationPatient=list(CORONAL),
    )
    slices = ct()
    source = folded([scout, *slices])
    named = {
        place_of(one): (*source.named[place_of(one)][:2], n) for n, one in enumerate(slices, 2)
    }
    return Source(source.sent, slices, named)


def each_rescaled_by_itself() -> Series:
    """Return slices of the same CT numbers, stored by six different lines."""
    slices = ct()
    for index, one in enumerate(slices):
        stored = (one.pixel_array.astype(np.int32) + 1024 + 32 * index) * 2
        one.PixelData = stored.astype(np.uint16).tobytes()
        one.PixelRepresentation = 0
        one.RescaleSlope, one.RescaleIntercept = 0.5, -1024.0 - 32 * index
    return slices


def encoded(source: Source, syntax: UID) -> Source:
    for instance in source.sent:
        if syntax == ImplicitVRLittleEndian:
            instance.file_meta.TransferSyntaxUID = syntax
        else:
            instance.compress(syntax, generate_instance_uid=False)
    return source


def shuffled(slices: Series) -> Series:
    return [slices[index] for index in (3, 0, 5, 1, 4, 2)]


def tomosynthesis() -> Source:
    source = folded(mr(), is_ct=False, modality="MG")
    for instance in source.sent:
        instance.Modality = "MG"
        instance.SOPClassUID = BreastTomosynthesisImageStorage
        instance.file_meta.MediaStorageSOPClassUID = BreastTomosynthesisImageStorage
    named = {
        at: (str(BreastTomosynthesisImageStorage), uid, number)
        for at, (_, uid, number) in source.named.items()
    }
    return Source(source.sent, source.slices, named, is_ct=False, modality="MG")


LOSSY: dict[str, Any] = {
    "LossyImageCompression": "01",
    "LossyImageCompressionRatio": 8.5,
    "LossyImageCompressionMethod": "ISO_15444_1",
}

SOURCES: dict[str, Callable[[], Source]] = {
    "axial CT": lambda: single(ct(orientation=AXIAL)),
    "coronal CT": lambda: single(ct(orientation=CORONAL)),
    "sagittal CT": lambda: single(ct(orientation=SAGITTAL)),
    "prone CT": lambda: single(ct(orientation=PRONE)),
    "oblique CT, pixels not square": lambda: single(
        ct(orientation=OBLIQUE, spacing_mm=(2.5, 0.5, 0.75))
    ),
    "CT, the last slice first": lambda: single(ct()[::-1]),
    "CT rescaled slice by slice": lambda: single(each_rescaled_by_itself()),
    "CT of one slice twice": with_a_slice_twice,
    "CT with a localizer in the series": with_a_localizer,
    "CT without attributes of type 2": lambda: single(ct(**dict.fromkeys(TYPE_2))),
    "CT that was compressed with loss": lambda: single(ct(**LOSSY)),
    "MR": lambda: single(mr(), is_ct=False),
    "enhanced CT": lambda: folded(ct()),
    "enhanced CT, oblique, pixels not square": lambda: folded(
        ct(orientation=OBLIQUE, spacing_mm=(2.5, 0.5, 0.75))
    ),
    "enhanced CT, frames in no order": lambda: folded(shuffled(ct())),
    "enhanced CT rescaled frame by frame": lambda: folded(each_rescaled_by_itself()),
    "enhanced CT in two instances": lambda: folded(ct()[1::2], ct()[::2]),
    "enhanced CT of one frame each": lambda: folded(*([one] for one in ct())),
    "enhanced CT of one frame twice": with_a_frame_twice,
    "enhanced CT with a localizer frame": with_a_localizer_frame,
    "enhanced CT, JPEG-LS": lambda: encoded(folded(ct()), JPEGLSLossless),
    "enhanced CT, RLE": lambda: encoded(folded(ct()), RLELossless),
    "enhanced CT, implicit VR": lambda: encoded(folded(ct()), ImplicitVRLittleEndian),
    "enhanced CT that was compressed with loss": lambda: folded(ct(**LOSSY)),
    "enhanced CT without attributes of type 2": lambda: folded(ct(**dict.fromkeys(TYPE_2))),
    "enhanced MR": lambda: folded(mr(), is_ct=False),
    "enhanced MR, sagittal": lambda: folded(mr(orientation=SAGITTAL), is_ct=False),
    "breast tomosynthesis": tomosynthesis,
}


@pytest.mark.parametrize("made", SOURCES.values(), ids=SOURCES)
def test_the_mask_lies_where_the_slices_lie_and_names_them(
    made: Callable[[], Source], tmp_path: Path
) -> None:
    source = made()
    files = write_series(source.sent, tmp_path / "sent")
    results = results_of(drawn(files, tmp_path, is_ct=source.is_ct, modality=source.modality))

    seg, report = results["SEG"], results["SR"]
    assert points_in_seg(seg) == points_in_slices(source.slices, is_ct=source.is_ct)
    named = derivations(seg)
    assert len(named) == len(source.slices), "something is drawn on each slice"
    assert {at: tuple(rest) for at, *rest in named} == source.named

    instances = sorted({(sop_class, uid) for sop_class, uid, _ in source.named.values()})
    assert sorted(instances_listed(seg)) == instances
    of_seg = (str(seg.SOPClassUID), str(seg.SOPInstanceUID))
    assert sorted(evidence(report)) == sorted([*instances, of_seg])
    assert seg.FrameOfReferenceUID == source.slices[0].FrameOfReferenceUID
    lossy = source.slices[0].get("LossyImageCompression", "00")
    assert seg.LossyImageCompression == lossy
    if lossy == "01":
        assert seg.LossyImageCompressionMethod == "ISO_15444_1"


def two_time_points() -> Series:
    later = ct()
    for number, one in enumerate(later, 7):
        one.SOPInstanceUID = f"{CT_SERIES}.{number}"
        one.PixelData = (one.pixel_array + np.int16(5)).tobytes()
    return [*ct(), *later]


def without_slice(number: int) -> Series:
    slices = ct()
    del slices[number]
    return slices


def of_variable_spacing() -> Series:
    slices = ct()
    slices[-1].ImagePositionPatient[2] += 0.7
    return slices


def tilted() -> Series:
    slices = ct()
    for index, one in enumerate(slices):
        one.ImagePositionPatient[1] += 0.7 * index
    return slices


def of_another_unit() -> Series:
    slices = ct()
    slices[3].RescaleType = "US"
    return slices


def undescribed(keyword: str) -> Series:
    [instance] = folded(ct()).sent
    for groups in instance.PerFrameFunctionalGroupsSequence[2:3]:
        delattr(groups, keyword)
    return [instance]


def of_too_few_groups() -> Series:
    [instance] = folded(ct()).sent
    del instance.PerFrameFunctionalGroupsSequence[-1]
    return [instance]


def without_its_pixels() -> Series:
    [instance] = folded(ct()).sent
    instance.PixelData = instance.PixelData[: len(instance.PixelData) // 2]
    return [instance]


def cine() -> Series:
    return [make_instance(np.zeros((24, 20), np.int16), NumberOfFrames=30)]


REFUSED: dict[str, tuple[Callable[[], Series], str]] = {
    "a missing slice": (lambda: without_slice(2), "slices missing between -98.0 and -94.0 mm"),
    "variable spacing": (of_variable_spacing, "not equally spaced: 2.00 to 2.70 mm"),
    "gantry tilt": (tilted, "gantry tilt or shear"),
    "several time points": (two_time_points, "two different images at one position"),
    "a slice that is no CT numbers": (of_another_unit, "no Hounsfield units"),
    "a cine loop": (cine, "does not describe its frames"),
    "enhanced, a missing slice": (lambda: folded(without_slice(2)).sent, "slices missing"),
    "enhanced, variable spacing": (lambda: folded(of_variable_spacing()).sent, "equally spaced"),
    "enhanced, gantry tilt": (lambda: folded(tilted()).sent, "gantry tilt or shear"),
    "enhanced, several time points": (
        lambda: folded(two_time_points()).sent,
        f"two different images at one position: {CT_SERIES}.1 frame 1 and {CT_SERIES}.1 frame 7",
    ),
    "enhanced, two orientations": (
        lambda: folded(ct() + ct(orientation=CORONAL)).sent,
        "2 orientations or matrices",
    ),
    "enhanced, a frame that is no CT numbers": (
        lambda: folded(of_another_unit()).sent,
        "no Hounsfield units",
    ),
    "enhanced, a frame without a place": (
        lambda: undescribed("PlanePositionSequence"),
        "frame 3: ImagePositionPatient is missing",
    ),
    "enhanced, fewer frames described than there are": (
        of_too_few_groups,
        "5 frames are described, but it says it has 6",
    ),
    "enhanced, half of its pixels": (without_its_pixels, "Pixel Data of instance"),
}


@pytest.mark.parametrize(("made", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_drawn_on_is_refused_in_words(
    made: Callable[[], Series], words: str, tmp_path: Path
) -> None:
    files = write_series(made(), tmp_path / "sent")
    with pytest.raises(StudyUnusable) as refusal:
        drawn(files, tmp_path)
    assert words in refusal.value.message
    assert "SYN-1" not in refusal.value.message


def test_a_real_enhanced_mr_is_drawn_on(data_dir: Path, tmp_path: Path) -> None:
    """Of a Siemens XA: what varies by frame and what does not is split as scanners do it."""
    file = data_dir / "enhanced" / "mr-enhanced-siemens-xa10-1.dcm"
    seg = results_of(drawn([file], tmp_path, is_ct=False))["SEG"]
    source = pydicom.dcmread(file)
    frames = [
        (
            tuple(
                round(float(mm), 3) for mm in groups.PlanePositionSequence[0].ImagePositionPatient
            ),
            np.count_nonzero(frame > 500),
        )
        for frame, groups in zip(
            source.pixel_array, source.PerFrameFunctionalGroupsSequence, strict=True
        )
    ]
    expected = [
        (at, str(EnhancedMRImageStorage), str(source.SOPInstanceUID), number)
        for number, (at, count) in enumerate(frames, 1)
        if count
    ]
    assert len(expected) > 3
    assert sorted(derivations(seg)) == sorted(expected)
    assert len(points_in_seg(seg)) == sum(count for _, count in frames)
    assert str(seg.PatientName) == str(source.PatientName)


def test_a_real_enhanced_ct_is_drawn_on(data_dir: Path, tmp_path: Path) -> None:
    file = data_dir / "enhanced" / "ct-enhanced-supplemental-2f.dcm"
    outcome = drawn([file], tmp_path, is_ct=False, modality="CT", bright=-900)
    seg, source = results_of(outcome)["SEG"], pydicom.dcmread(file)
    values = source.pixel_array - 1024.0
    assert len(points_in_seg(seg)) == np.count_nonzero(values > -900) > 0
    assert {(sop_class, uid) for _, sop_class, uid, _ in derivations(seg)} == {
        (str(EnhancedCTImageStorage), str(source.SOPInstanceUID))
    }


@pytest.mark.parametrize(
    ("name", "is_ct", "words"),
    [
        ("ct-enhanced-supplemental-2f", True, "no Hounsfield units (Rescale Type US)"),
        ("mr-enhanced-philips-fieldmap-64f", False, "two different images at one position"),
        ("emri_small_jpeg_ls_lossless", False, "does not describe its frames"),
    ],
)
def test_real_multi_frame_images_that_are_no_volume_are_refused(
    name: str, is_ct: bool, words: str, data_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(StudyUnusable) as refusal:
        drawn([data_dir / "enhanced" / f"{name}.dcm"], tmp_path, is_ct=is_ct)
    assert words in refusal.value.message


PROJECTIONS: dict[str, dict[str, Any]] = {
    "CR": {},
    "DX": {"Modality": "DX", "SOPClassUID": DigitalXRayImageStorageForPresentation},
    "MG": {"Modality": "MG", "SOPClassUID": DigitalMammographyXRayImageStorageForPresentation},
    "US": {
        "Modality": "US",
        "SOPClassUID": UltrasoundImageStorage,
        "ViewPosition": None,
        "ImagerPixelSpacing": None,
    },
}


@pytest.mark.parametrize("modality", PROJECTIONS)
def test_what_is_said_of_a_single_image_names_it(modality: str, tmp_path: Path) -> None:
    image = make_xray(**PROJECTIONS[modality])
    files = write_series([image], tmp_path / "sent")
    report = results_of(classified(files, tmp_path, modality))["SR"]
    named = (str(image.SOPClassUID), str(image.SOPInstanceUID))
    assert evidence(report) == [named]
    assert str(report).count(named[1]) == 3, "evidence, image library, source of measurement"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"SOPClassUID": UltrasoundMultiFrameImageStorage, "NumberOfFrames": 20},
            "a multi-frame object, where single images are looked at",
        ),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "not a grey image"),
    ],
    ids=["cine", "colour"],
)
def test_an_ultrasound_that_is_no_single_grey_image_is_refused(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    image = make_xray(**(PROJECTIONS["US"] | changes))
    with pytest.raises(StudyUnusable, match=words):
        classified(write_series([image], tmp_path / "sent"), tmp_path, "US")


NAMES = {
    "Japanese, ISO 2022 IR 87": ("chrH31.dcm", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "Chinese, GB18030": ("chrX2.dcm", "Wang^XiaoDong=王^小东"),
    "Cyrillic, ISO_IR 144": ("chrRuss.dcm", "Люкceмбypг"),
}


def renamed(series: Sequence[FileDataset], charset_file: str) -> Series:
    """Return instances with the name and the character set of one of pydicom's files."""
    [path] = pydicom.data.get_charset_files(charset_file)
    named = pydicom.dcmread(path, force=True)
    for one in series:
        one.SpecificCharacterSet = named.SpecificCharacterSet
        one.add(named["PatientName"])
    return list(series)


@pytest.mark.parametrize("is_enhanced", [False, True], ids=["single-frame", "enhanced"])
@pytest.mark.parametrize(("charset_file", "name"), NAMES.values(), ids=NAMES)
def test_names_come_through_whole(
    charset_file: str, name: str, is_enhanced: bool, tmp_path: Path
) -> None:
    sent = folded(ct()).sent if is_enhanced else ct()
    files = write_series(renamed(sent, charset_file), tmp_path / "sent")
    results = results_of(drawn(files, tmp_path))
    assert set(results) == {"SEG", "SR"}
    for result in results.values():
        assert result.SpecificCharacterSet == "ISO_IR 192"
        assert str(result.PatientName) == name


def test_frames_that_are_drawn_twice_give_the_same_bytes(tmp_path: Path) -> None:
    files = write_series(folded(ct()).sent, tmp_path / "sent")
    first, second = (drawn(files, tmp_path / name).encoded for name in ("first", "second"))
    assert [one.content for one in first] == [one.content for one in second]


def test_a_stray_frame_number_makes_no_frame_of_an_instance(tmp_path: Path) -> None:
    sent = ct(ReferencedFrameNumber=7)
    seg = results_of(drawn(write_series(sent, tmp_path / "sent"), tmp_path))["SEG"]
    assert {(sop_class, number) for _, sop_class, _, number in derivations(seg)} == {
        (str(CTImageStorage), None)
    }


def test_the_series_of_an_enhanced_mr_stays_its_own(tmp_path: Path) -> None:
    sent = folded(mr(), is_ct=False).sent
    seg = results_of(drawn(write_series(sent, tmp_path / "sent"), tmp_path, is_ct=False))["SEG"]
    assert [str(one.SeriesInstanceUID) for one in seg.ReferencedSeriesSequence] == [MR_SERIES]
