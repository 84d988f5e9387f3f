"""Mask to Segmentation to mask: every voxel of the finding is where the written file says.

Theory of operation: the file is decoded here by other code than wrote it. Each frame is put into a
slice of the source by its Image Position (Patient), not by its number; orientation, spacing and
matrix must be the source's; then its pixels must be those of the finding, one by one, and every
segment must have a frame in each slice where the finding has a voxel of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.encode.segments import segment_tracking_uid
from dicom_node.finding import Finding, Segment
from dicom_node.gate.bits import voxels_held
from dicom_node.gate.file import ResultFile
from dicom_node.gate.items import fragments
from dicom_node.uid import LABELMAP_SEGMENTATION_STORAGE

_POSITION = 0x00200032
_SEGMENT_NUMBER = 0x0062000B
_SOURCE = 0x00081155
_SOURCE_FRAME = 0x00081160
_NEAR_MM = 1e-3
_SAME_COSINE = 1e-4
_LABELMAP = LABELMAP_SEGMENTATION_STORAGE
_PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"


class Misplaced(Exception):
    """A frame that is not what the finding says."""


@dataclass(frozen=True)
class _Frame:
    slice_index: int
    segment_number: int
    """Of the file; 0 in a label map, whose frames are of all segments."""


def misplaced_voxels(
    file: ResultFile, finding: Finding, sources: Sequence[Dataset]
) -> Iterator[str]:
    """Yield what of a Segmentation or a Parametric Map is not as the finding has it.

    Only the first wrong frame is told: where one is, others are.
    """
    try:
        if finding.parts:
            finding, sources = _time_point_of(file, finding, sources)
        if "SegmentSequence" in file.dataset:
            _check_grid(file.dataset, sources)
            _check_masks(file, finding, sources)
        elif str(file.dataset.SOPClassUID) == _PARAMETRIC_MAP:
            _check_grid(file.dataset, sources)
            _check_maps(file, finding, sources)
    except Misplaced as error:
        yield str(error)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        # an attribute is missing or broken, which other rules have told
        yield f"its frames cannot be compared with the finding: {type(error).__name__}"


def _time_point_of(
    file: ResultFile, finding: Finding, sources: Sequence[Dataset]
) -> tuple[Finding, Sequence[Dataset]]:
    """Return the one of several time points that an object of frames speaks of, with its sources.

    It is that of the source of its first frame; all others are then held against the same.
    """
    if file.items is None:
        return finding, sources
    alike = next(iter(file.alike))
    uid, number = (_text(alike.values(tag)[0] or b"") for tag in (_SOURCE, _SOURCE_FRAME))
    for part, own in finding.shared_out(sources):
        if (uid, number) in {_name_of(source) for source in own}:
            return part, own
    raise Misplaced("its first frame does not tell its source")


def _name_of(source: Dataset) -> tuple[str, str]:
    return str(source.SOPInstanceUID), str(source.get("ReferencedFrameNumber") or "")


def _check_grid(dataset: Dataset, sources: Sequence[Dataset]) -> None:
    """Compare what holds for all frames with the source; frames in one plane each have it all."""
    source, shared = sources[0], dataset.SharedFunctionalGroupsSequence[0]
    if (dataset.Rows, dataset.Columns) != (source.Rows, source.Columns):
        raise Misplaced(
            f"its frames have {dataset.Rows} x {dataset.Columns} pixels, the source "
            f"{source.Rows} x {source.Columns}"
        )
    if "ImagePositionPatient" not in source:
        return
    pairs = (
        ("PlaneOrientationSequence", "ImageOrientationPatient", _SAME_COSINE),
        ("PixelMeasuresSequence", "PixelSpacing", _NEAR_MM),
    )
    for sequence, keyword, tolerance in pairs:
        macro = shared.get(sequence)
        said = None if not macro else macro[0].get(keyword)
        expected = source.get(keyword)
        if expected is None or (
            keyword == "PixelSpacing" and not all(float(v) > 0 for v in expected)
        ):
            continue
        if said is None:
            raise Misplaced(f"{keyword} of its frames is not told")
        if not np.allclose(_numbers(said), _numbers(expected), rtol=0, atol=tolerance):
            raise Misplaced(f"{keyword} of its frames is not that of the source")


def _check_masks(file: ResultFile, finding: Finding, sources: Sequence[Dataset]) -> None:
    if finding.mask is None:
        raise Misplaced("it has segments, and the finding has no mask")
    mask = np.asarray(finding.mask)  # of one time point, where several lie packed
    drawn = _described(file.dataset, finding, sources)
    frames = _frames(file, sources)
    in_mask = int(np.count_nonzero(mask))
    if str(file.dataset.SOPClassUID) == _LABELMAP:
        covered = _check_labels(file, frames, drawn, mask)
    else:
        covered = _check_segments(file, frames, drawn, finding, mask, in_mask)
    if covered != in_mask:  # what the frames hold is right: some are missing
        number, index = _uncovered(frames, drawn, mask)
        raise Misplaced(f"segment {number} has voxels in slice {index + 1} and no frame there")


def _check_segments(
    file: ResultFile,
    frames: Sequence[_Frame],
    drawn: Mapping[int, Segment],
    finding: Finding,
    mask: NDArray[Any],
    in_mask: int,
) -> int:
    """Compare frames of a segment each; return how many of the mask's voxels they cover."""
    if len(set(frames)) < len(frames):
        raise Misplaced("two frames of one segment lie in the same slice")
    is_binary = str(file.dataset.SegmentationType) == "BINARY"
    if is_binary and mask.ndim == 3 and _held(file, frames, drawn, mask) == in_mask:
        return in_mask  # if not, they are compared one by one, to say which is wrong
    decoded = _bits(file, len(frames)) if is_binary else _bytes(file)
    covered = 0
    for number, (frame, pixels) in enumerate(zip(frames, decoded, strict=True), start=1):
        segment = drawn.get(frame.segment_number)
        if segment is None:
            raise Misplaced(f"frame {number} is of a segment that is not described")
        plane = _plane(mask, segment, frame.slice_index)
        expected = plane if is_binary else _fractions(finding, segment, frame.slice_index, plane)
        if not np.array_equal(pixels, expected.ravel()):
            raise Misplaced(_differs(number, frame, segment))
        covered += int(np.count_nonzero(plane))
    return covered


def _held(
    file: ResultFile,
    frames: Sequence[_Frame],
    drawn: Mapping[int, Segment],
    mask: NDArray[Any],
) -> int | None:
    """Return how many voxels the frames have, if all are right; see `bits.voxels_held`."""
    size = int(file.dataset.Rows) * int(file.dataset.Columns)
    if size % 8 or any(frame.segment_number not in drawn for frame in frames):
        return None
    start = _pixels(file, len(frames), size)
    packed = np.frombuffer(file.data, np.uint8, len(frames) * size // 8, start)
    labels = [drawn[frame.segment_number].segment_number for frame in frames]
    slices = [frame.slice_index for frame in frames]
    return voxels_held(packed.reshape(len(frames), size // 8), labels, slices, mask)


def _check_labels(
    file: ResultFile,
    frames: Sequence[_Frame],
    drawn: Mapping[int, Segment],
    mask: NDArray[Any],
) -> int:
    """Compare frames of all segments; return how many voxels they cover."""
    if len(set(frames)) < len(frames):
        raise Misplaced("two frames lie in the same slice")
    numbers = np.zeros(256, np.uint8)
    for number, segment in drawn.items():
        numbers[segment.segment_number] = number
    # the mask has the numbers of the file: nothing to look up, which is most of the work
    is_as_numbered = mask.ndim == 3 and np.array_equal(
        numbers[: int(mask.max(initial=0)) + 1], np.arange(int(mask.max(initial=0)) + 1)
    )
    covered = 0
    for number, (frame, labels) in enumerate(zip(frames, _bytes(file), strict=True), start=1):
        if is_as_numbered:
            expected = mask[frame.slice_index]
        elif mask.ndim == 3:
            expected = numbers[mask[frame.slice_index]]
        else:
            expected = np.zeros(mask.shape[2:], np.uint8)
            for label, segment in drawn.items():
                expected[mask[segment.segment_number - 1, frame.slice_index]] = label
        if not np.array_equal(labels, expected.ravel()):
            raise Misplaced(_differs(number, frame, None))
        covered += int(np.count_nonzero(labels))
    return covered


def _uncovered(
    frames: Sequence[_Frame], drawn: Mapping[int, Segment], mask: NDArray[Any]
) -> tuple[int, int]:
    """Return the number of a segment and the index of a slice that has its voxels, but no frame."""
    found = {(frame.segment_number, frame.slice_index) for frame in frames}
    of_all = {frame.slice_index for frame in frames if not frame.segment_number}
    for number, segment in drawn.items():
        for index in range(mask.shape[-3]):
            missing = (number, index) not in found and index not in of_all
            if missing and _plane(mask, segment, index).any():
                return number, index
    raise Misplaced("the finding has voxels of a segment that it does not describe")


def _check_maps(file: ResultFile, finding: Finding, sources: Sequence[Dataset]) -> None:
    number = int(file.dataset.InstanceNumber) % 100
    if not 1 <= number <= len(finding.maps):
        raise Misplaced("it is a map, and the finding has none")
    if file.pixels is None:
        raise Misplaced("it has no frames")
    values, (start, end) = finding.maps[number - 1].values, file.pixels
    stored = np.frombuffer(file.data, np.float32, (end - start) // 4, start)
    decoded = stored.reshape(-1, values[0].size)
    frames = _frames(file, sources)
    if sorted(frame.slice_index for frame in frames) != list(range(len(values))):
        raise Misplaced("it has not one frame for each slice")
    for count, (frame, pixels) in enumerate(zip(frames, decoded, strict=True), start=1):
        if not np.array_equal(pixels, values[frame.slice_index].ravel()):
            raise Misplaced(_differs(count, frame, None))


# ------------------------------------------------------------ what the file says


def _frames(file: ResultFile, sources: Sequence[Dataset]) -> list[_Frame]:
    """Return where each frame lies, by its position; without one, by the source that it names."""
    indices = {_name_of(source): index for index, source in enumerate(sources)}
    positions = [
        [float(mm) for mm in source.get("ImagePositionPatient") or (np.nan,) * 3]
        for source in sources
    ]
    of_all = str(file.dataset.SOPClassUID) in (_LABELMAP, _PARAMETRIC_MAP)
    at: dict[tuple[bytes, bytes, bytes], int] = {}
    frames: dict[int, _Frame] = {}
    for alike in file.alike:
        told = (_POSITION, _SOURCE, _SOURCE_FRAME, _SEGMENT_NUMBER)
        columns = [alike.values(tag) for tag in told]
        is_placed = _POSITION in alike.leaves
        for number, (*place, segment) in zip(
            (alike.numbers + 1).tolist(), zip(*columns, strict=True), strict=True
        ):
            key = (place[0], place[1], place[2])
            index = at.get(key)
            if index is None:
                index = indices.get((_text(key[1]), _text(key[2])))
                if index is None:
                    raise Misplaced(f"frame {number} does not tell its source")
                if is_placed:
                    _require_place(key[0], positions, index, number)
                at[key] = index
            # where all frames are of one segment, the shared item tells it
            of = 0 if of_all else int.from_bytes(segment or b"\1", "little")
            frames[number] = _Frame(index, of)
    if len(frames) != int(file.dataset.NumberOfFrames):
        raise Misplaced(f"{len(frames)} items describe {file.dataset.NumberOfFrames} frames")
    return [frames[number] for number in sorted(frames)]


def _require_place(
    position: bytes, positions: Sequence[Sequence[float]], index: int, number: int
) -> None:
    """Refuse a frame that does not lie in the slice of its source."""
    try:
        place = [float(mm) for mm in _text(position).split("\\")]
        if _distance(place, positions[index]) <= _NEAR_MM:
            return
        distances = np.array([_distance(place, other) for other in positions])
        nearest = np.nanmin(distances)
    except ValueError:
        raise Misplaced(f"the position of frame {number} is none") from None
    if not nearest <= _NEAR_MM:
        raise Misplaced(f"frame {number} lies {nearest:g} mm beside every slice")
    raise Misplaced(f"frame {number} lies in another slice than that of its source")


def _distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the largest difference of two places; NaN if one of them is none."""
    apart = [abs(here - there) for here, there in zip(one, other, strict=True)]
    return max(apart) if all(map(isfinite, apart)) else nan


def _described(
    dataset: Dataset, finding: Finding, sources: Sequence[Dataset]
) -> dict[int, Segment]:
    """Return the segments of the finding by the numbers that they have in the file."""
    series_uid = str(sources[0].SeriesInstanceUID)
    by_uid = {
        segment_tracking_uid(segment, finding.engine, series_uid, finding.time_point): segment
        for segment in finding.segments
    }
    drawn = {}
    for item in dataset.SegmentSequence:
        number = int(item.SegmentNumber)
        if number == 0:
            continue  # the background of a label map
        segment = by_uid.pop(str(item.get("TrackingUID")), None)
        code = str(item.SegmentedPropertyTypeCodeSequence[0].get("CodeValue"))
        if segment is None or segment.type.value != code or number in drawn:
            raise Misplaced(f"segment {number} is none of the finding's")
        drawn[number] = segment
    return drawn


def _bits(file: ResultFile, count: int) -> Iterator[NDArray[np.bool_]]:
    """Yield frames of one bit a pixel, without padding between them (PS3.5 8.1.1)."""
    size = int(file.dataset.Rows) * int(file.dataset.Columns)
    start = _pixels(file, count, size)
    for number in range(count):
        first, last = number * size, (number + 1) * size
        packed = np.frombuffer(file.data, np.uint8, -(-last // 8) - first // 8, start + first // 8)
        bits = np.unpackbits(packed, bitorder="little")[first % 8 :][:size]
        yield bits.view(np.bool_)


def _pixels(file: ResultFile, count: int, size: int) -> int:
    """Return where frames of one bit a pixel begin, which are so long as they have to be."""
    if file.pixels is None:
        raise Misplaced("it has no frames")
    start, end = file.pixels
    if (end - start) != (count * size + 7) // 8 + (count * size + 7) // 8 % 2:
        raise Misplaced("its Pixel Data are shorter or longer than its frames")
    return start


def _bytes(file: ResultFile) -> Iterator[NDArray[np.uint8]]:
    """Yield frames of one byte a pixel, native or run-length encoded."""
    if file.pixels is None:
        raise Misplaced("it has no frames")
    size = int(file.dataset.Rows) * int(file.dataset.Columns)
    if not file.dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        for first in range(file.pixels[0], file.pixels[1] - size % 2, size):
            yield np.frombuffer(file.data, np.uint8, size, first)
        return
    for start, end in fragments(file.data, *file.pixels):
        decoded = imagecodecs.dicomrle_decode(file.data[start:end], np.dtype(np.uint8))
        yield np.frombuffer(decoded, np.uint8, size)


# ------------------------------------------------------------ what the finding says


def _plane(mask: NDArray[Any], segment: Segment, index: int) -> NDArray[np.bool_]:
    if mask.ndim == 4:
        return np.asarray(mask[segment.segment_number - 1, index], np.bool_)
    return np.asarray(mask[index] == segment.segment_number, np.bool_)


def _fractions(
    finding: Finding, segment: Segment, index: int, plane: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    if finding.probabilities is not None:
        return np.asarray(finding.probabilities[segment.segment_number - 1, index], np.uint8)
    return np.where(plane, np.uint8(255), np.uint8(0))


def _differs(number: int, frame: _Frame, segment: Segment | None) -> str:
    of = "" if segment is None else f" of segment {frame.segment_number}"
    return f"frame {number}{of} in slice {frame.slice_index + 1} has other voxels than the finding"


def _numbers(values: Any) -> NDArray[np.float64]:
    return np.array([float(value) for value in values], np.float64)


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").strip("\0 ")
