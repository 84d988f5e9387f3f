"""The instances of one series, as headers: which of them an engine can use, and how they lie.

Nothing is decoded here but where two slices lie at one position and have to be compared; pixels
come from `infer.pixels`, slice by slice, when a network asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import hypot, isfinite
from operator import mul
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from dicom_node.errors import StudyUnusable
from dicom_node.finding import TimePoint
from dicom_node.geometry import Grid, Plane, arrange
from dicom_node.header_reader import HeaderReader
from dicom_node.headers import Part10, reading, tag_of, value_at
from dicom_node.infer.frames import ONLY_FRAME, Frame
from dicom_node.infer.pixels import LinearImage, Values, linear_values, network_values
from dicom_node.infer.stacks import SEND_EACH, THE_SAME, split
from dicom_node.multiframe import frames_of, is_multiframe

LeftOut = tuple[tuple[str, str], ...]
"""SOP Instance UIDs that were not used, each with the reason."""

_ROWS, _COLUMNS = tag_of("Rows"), tag_of("Columns")
_PHOTOMETRIC, _SAMPLES = tag_of("PhotometricInterpretation"), tag_of("SamplesPerPixel")
_SPECIES, _IMAGE_TYPE = tag_of("PatientSpeciesCodeSequence"), tag_of("ImageType")
_SOP_INSTANCE = tag_of("SOPInstanceUID")
_POSITION, _SPACING = tag_of("ImagePositionPatient"), tag_of("PixelSpacing")
_ORIENTATION = tag_of("ImageOrientationPatient")
_HUMAN = frozenset({"337915000", "L-85B00"})  # Homo sapiens in SCT and SRT (CID 7454)
_GREY = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True, eq=False)
class SourceImage:
    """One image: an instance, or a frame of one; its header, and the file that holds its pixels."""

    file: Part10
    header: Dataset
    pixels_at: int | None = None
    """Where in the file the pixels begin, if that is known."""
    frame: Frame = ONLY_FRAME

    @property
    def sop_instance_uid(self) -> str:
        return str(value_at(self.header, _SOP_INSTANCE, ""))

    @property
    def name(self) -> str:
        """What it is called in a message."""
        if self.frame == ONLY_FRAME:
            return self.sop_instance_uid
        return f"{self.sop_instance_uid} frame {self.frame.index + 1}"

    def frames(self) -> list[SourceImage]:
        """Return it frame by frame if it is multi-frame, else itself; see `multiframe.frames_of`.

        Raises
        ------
        StudyUnusable
            If its frames are not described.
        """
        if not is_multiframe(self.header):
            return [self]
        headers = frames_of(self.header)
        return [
            SourceImage(self.file, header, self.pixels_at, Frame(index, len(headers)))
            for index, header in enumerate(headers)
        ]

    def linear(self, values: Values, into: NDArray[Any] | None = None) -> LinearImage:
        """Return its stored values with what brings them to a network; see `linear_values`."""
        return linear_values(self.file, self.header, values, self.pixels_at, self.frame, into)

    def values(self, values: Values) -> NDArray[np.float32]:
        """Return its values as a network expects them; see `network_values`."""
        return network_values(self.file, self.header, values, self.pixels_at, self.frame)


@dataclass(frozen=True, eq=False)
class SourceVolume:
    """The slices of one series, in the order of their grid."""

    grid: Grid
    images: tuple[SourceImage, ...]
    """Ascending along the normal: feet to head for the usual axial series."""
    left_out: LeftOut
    time_point: TimePoint | None = None
    """Of a series that holds several at the same places."""


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """The readable instances of one series of one patient."""

    images: tuple[SourceImage, ...]
    """By Instance Number, then SOP Instance UID, whatever their order of arrival."""
    left_out: LeftOut

    @property
    def headers(self) -> tuple[Dataset, ...]:
        return tuple(image.header for image in self.images)

    def frame_by_frame(self) -> SourceSeries:
        """Return the series with a multi-frame image taken apart; itself where there is none.

        Raises
        ------
        StudyUnusable
            If an image does not describe its frames.
        """
        if not any(is_multiframe(image.header) for image in self.images):
            return self
        frames = tuple(frame for image in self.images for frame in image.frames())
        return SourceSeries(frames, self.left_out)

    def volume(self) -> SourceVolume:
        """Return the series as one volume.

        Raises
        ------
        StudyUnusable
            If it makes none, or several; see `volumes`.
        """
        volumes = self.volumes()
        if len(volumes) > 1:
            time_point = volumes[0].time_point
            told = "several volumes" if time_point is None else time_point.several
            raise StudyUnusable(
                f"{told} in one series, where one volume is looked at", hint=SEND_EACH
            )
        return volumes[0]

    def volumes(self) -> tuple[SourceVolume, ...]:
        """Return the volumes of the series: one, or one for each of its time points.

        What was left out is told of each.

        Raises
        ------
        StudyUnusable
            If an image is no slice, the slices make no regular grid (see `geometry.arrange`), or
            it is not clear which of several at one place belong together (see `stacks.split`).
        """
        images = self.frame_by_frame().images
        scouts = [image for image in images if is_localizer(image.header)]
        slices = [image for image in images if not is_localizer(image.header)]
        left_out = [(scout.name, "localizer") for scout in scouts]
        if not slices:
            raise StudyUnusable("no slices: every image of the series is a localizer")
        for image in slices:
            if reason := unfit(image.header):
                raise StudyUnusable(f"instance {image.name}: {reason}")
        planes = [_plane(image) for image in slices]
        arrangement = arrange(planes)
        _refuse_several(slices, "SOP Classes", lambda h: str(h.get("SOPClassUID", "")))
        _refuse_several(slices, "modalities", lambda h: str(h.get("Modality", "")))
        _refuse_several(
            slices, "frames of reference", lambda h: str(h.get("FrameOfReferenceUID", ""))
        )
        if not slices[0].header.get("FrameOfReferenceUID"):
            raise StudyUnusable("no Frame of Reference UID: a mask could not be placed")

        positions = [
            sorted(same, key=lambda index: _place_in_series(slices[index]))
            for same in arrangement.positions
        ]
        several = split(
            [image.header for image in slices],
            [image.name for image in slices],
            positions,
            lambda one, other: _is_same(slices[one], slices[other]),
        )
        if several is not None:
            told = [(slices[index].name, reason) for index, reason in several.left_out]
            out = self.left_out + tuple(left_out + told)
            return tuple(
                SourceVolume(
                    arrange([planes[index] for index in stack.members]).grid,
                    tuple(slices[index] for index in stack.members),
                    out,
                    stack.time_point,
                )
                for stack in several.stacks
            )
        left_out += [(slices[other].name, THE_SAME) for _, *others in positions for other in others]
        kept = tuple(slices[first] for first, *_ in positions)
        out = self.left_out + tuple(left_out)
        return (SourceVolume(arrangement.grid, kept, out),)


def load_source(files: Sequence[Part10]) -> SourceSeries:
    """Return the headers of the files of one series.

    Parameters
    ----------
    files : sequence of Part10
        Part 10 files or bare data sets, in any order.

    Raises
    ------
    StudyUnusable
        If a file is not readable, has no SOP Instance UID, or the files belong to more than one
        patient, study or series.
    """
    by_uid: dict[str, SourceImage] = {}
    left_out: list[tuple[str, str]] = []
    reader = HeaderReader()
    for file in sorted(files, key=str):
        header, pixels_at = reader.read(file)
        header.pop("ReferencedFrameNumber", None)  # of no instance: it would pass for a frame
        image = SourceImage(file, header, pixels_at)
        uid = image.sop_instance_uid
        if not uid:
            raise StudyUnusable(
                "an instance without SOP Instance UID: a result could not refer to it",
                hint="have the sender repair the object",
            )
        if uid in by_uid:
            if by_uid[uid].file.read_bytes() != file.read_bytes():
                raise StudyUnusable(f"two different files carry SOP Instance UID {uid}")
            left_out.append((uid, "received twice"))
        else:
            by_uid[uid] = image
    if not by_uid:
        raise StudyUnusable("no instance in the series")
    images = sorted(by_uid.values(), key=_instance_order)
    _refuse_several(
        images, "patients", lambda h: (str(h.get("PatientID", "")), str(h.get("PatientName", "")))
    )
    _refuse_several(images, "studies", lambda h: str(h.get("StudyInstanceUID", "")))
    _refuse_several(images, "series", lambda h: str(h.get("SeriesInstanceUID", "")))
    return SourceSeries(tuple(images), tuple(left_out))


def unfit(header: Dataset) -> str:
    """Return why an instance is no single grey image, or nothing if it is one."""
    shape = (value_at(header, _ROWS), value_at(header, _COLUMNS))
    if not all(isinstance(count, int) and count > 0 for count in shape):
        return "no image (Rows or Columns missing)"
    if is_multiframe(header):
        return "a multi-frame object, where single images are looked at"
    photometric = str(value_at(header, _PHOTOMETRIC, ""))
    if value_at(header, _SAMPLES) not in (None, 1) or photometric not in _GREY:
        return f"not a grey image (Photometric Interpretation {photometric or 'missing'})"
    species = value_at(header, _SPECIES) or ()
    if any(str(code.get("CodeValue", "")) not in _HUMAN for code in species):
        return "a patient of another species (Patient Species Code Sequence)"
    return ""


def is_localizer(header: Dataset) -> bool:
    """Return whether (0008,0008) Image Type has LOCALIZER as its third value or later."""
    values = value_at(header, _IMAGE_TYPE) or ()
    return "LOCALIZER" in ((values,) if isinstance(values, str) else tuple(values))


def _instance_order(image: SourceImage) -> tuple[int, str]:
    with reading(f"the Instance Number of {image.sop_instance_uid}"):
        return int(image.header.get("InstanceNumber") or 0), image.sop_instance_uid


def _place_in_series(image: SourceImage) -> tuple[str, int]:
    return image.sop_instance_uid, image.frame.index


def _plane(image: SourceImage) -> Plane:
    header = image.header
    position = _numbers(image, _POSITION, 3)
    orientation = _numbers(image, _ORIENTATION, 6)
    spacing = _numbers(image, _SPACING, 2)
    along_row, down_column = orientation[:3], orientation[3:]
    lengths = hypot(*along_row), hypot(*down_column)
    if (
        max(abs(length - 1.0) for length in lengths) > 0.01
        or abs(sum(map(mul, along_row, down_column))) > 0.01
    ):
        raise StudyUnusable(
            f"instance {image.name}: Image Orientation (Patient) is no pair of unit "
            "vectors at right angles"
        )
    if min(spacing) <= 0:
        raise StudyUnusable(f"instance {image.name}: Pixel Spacing is not positive")
    unit = [v / lengths[0] for v in along_row] + [v / lengths[1] for v in down_column]
    return Plane(
        position_mm=(position[0], position[1], position[2]),
        orientation=(unit[0], unit[1], unit[2], unit[3], unit[4], unit[5]),
        rows=int(header.Rows),
        columns=int(header.Columns),
        pixel_spacing_mm=(spacing[0], spacing[1]),
    )


def _numbers(image: SourceImage, tag: BaseTag, count: int) -> list[float]:
    value = value_at(image.header, tag)
    if value is None or value == "":
        raise StudyUnusable(f"instance {image.name}: {keyword_for_tag(tag)} is missing")
    with reading(f"{keyword_for_tag(tag)} of instance {image.name}"):
        numbers = [float(number) for number in value]
    if len(numbers) != count or not all(map(isfinite, numbers)):
        raise StudyUnusable(
            f"instance {image.name}: {keyword_for_tag(tag)} does not hold {count} numbers"
        )
    return numbers


def _refuse_several(
    images: Sequence[SourceImage], words: str, value: Callable[[Dataset], object]
) -> None:
    """Refuse several values of one attribute without printing them: they may name a patient."""
    different = {value(image.header) for image in images}
    if len(different) > 1:
        raise StudyUnusable(
            f"{len(different)} {words} in one series",
            hint="have the sender find out which images belong together",
        )


def _is_same(one: SourceImage, other: SourceImage) -> bool:
    here, there = (image.values(Values.BRIGHTNESS) for image in (one, other))
    return np.array_equal(here, there)
