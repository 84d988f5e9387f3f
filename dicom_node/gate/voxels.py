"""Mask to Segmentation to mask: every voxel of the finding is where the written file says.

Theory of operation: the file is decoded here by other code than wrote it. Each frame is put into a
slice of the source by its Image Position (Patient), not by its number; orientation, spacing and
matrix must be the source's; then its pixels must be those of the finding, one by one, and every
segment must have a frame in each slice where the finding has a voxel of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.finding import Finding, Segment
from dicom_node.gate.file import ResultFile, fragments, values_in

_POSITION = 0x00200032
_SEGMENT_NUMBER = 0x0062000B
_SOURCE = 0x00081155
_NEAR_MM = 1e-3
_SAME_COSINE = 1e-4
_LABELMAP = "1.2.840.10008.5.1.4.1.1.66.7"
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
    mask = finding.mask
    if mask is None:
        raise Misplaced("it has segments, and the finding has no mask")
    present = _present(mask, finding)
    drawn = [
        segment
        for segment in sorted(finding.segments, key=lambda one: one.segment_number)
        if present[segment.segment_number].any()
    ]
    _check_segments(file.dataset, drawn)
    frames = _frames(file, sources)
    if str(file.dataset.SOPClassUID) == _LABELMAP:
        _check_labels(file, frames, drawn, mask, present)
        return
    expected = {
        (index, number)
        for number, segment in enumerate(drawn, start=1)
        for index in np.flatnonzero(present[segment.segment_number]).tolist()
    }
    found = [(frame.slice_index, frame.segment_number) for frame in frames]
    if len(set(found)) < len(found):
        raise Misplaced("two frames of one segment lie in the same slice")
    for index, number in sorted(expected - set(found)):
        raise Misplaced(f"segment {number} has voxels in slice {index + 1} and no frame there")
    if str(file.dataset.SegmentationType) == "BINARY":
        decoded = _bits(file, len(frames))
        for number, (frame, pixels) in enumerate(zip(frames, decoded, strict=True), start=1):
            segment = _of(drawn, frame.segment_number)
            plane = _plane(mask, segment, frame.slice_index)
            if not np.array_equal(pixels, plane):
                raise Misplaced(_differs(number, frame, segment))
        return
    for number, (frame, values) in enumerate(zip(frames, _bytes(file), strict=True), start=1):
        segment = _of(drawn, frame.segment_number)
        plane = _fractions(finding, segment, frame.slice_index)
        if not np.array_equal(values, plane.ravel()):
            raise Misplaced(_differs(number, frame, segment))


def _check_labels(
    file: ResultFile,
    frames: Sequence[_Frame],
    drawn: Sequence[Segment],
    mask: NDArray[Any],
    present: NDArray[np.bool_],
) -> None:
    numbers = np.zeros(256, np.uint8)
    for number, segment in enumerate(drawn, start=1):
        numbers[segment.segment_number] = number
    found = {frame.slice_index for frame in frames}
    for index in np.flatnonzero(present[1:].any(axis=0)).tolist():
        if index not in found:
            raise Misplaced(f"slice {index + 1} has voxels and no frame")
    for number, (frame, labels) in enumerate(zip(frames, _bytes(file), strict=True), start=1):
        if mask.ndim == 3:
            expected = numbers[mask[frame.slice_index]]
        else:
            expected = np.zeros(mask.shape[2:], np.uint8)
            for segment in drawn:
                voxels = mask[segment.segment_number - 1, frame.slice_index]
                expected[voxels] = numbers[segment.segment_number]
        if not np.array_equal(labels, expected.ravel()):
            raise Misplaced(_differs(number, frame, None))


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
    uids = {str(source.SOPInstanceUID): index for index, source in enumerate(sources)}
    positions = np.array(
        [_numbers(source.get("ImagePositionPatient") or (np.nan,) * 3) for source in sources]
    )
    several = len(file.dataset.get("SegmentSequence", ())) > 1
    at: dict[bytes, int] = {}
    frames = []
    for number, span in enumerate(file.frame_items(), start=1):
        values = values_in(file.data, *span)
        index = uids.get(_text(values.get(_SOURCE, b"")))
        position = values.get(_POSITION)
        if position is not None:
            if position not in at:
                at[position] = _nearest(position, positions, number)
            if index != at[position]:
                raise Misplaced(f"frame {number} lies in another slice than that of its source")
        elif index is None:
            raise Misplaced(f"frame {number} has neither a position nor a source")
        segment = int.from_bytes(values.get(_SEGMENT_NUMBER, b""), "little")
        frames.append(_Frame(at[position] if position is not None else index, segment or 1))  # type: ignore[arg-type]
        if several and not segment and str(file.dataset.SOPClassUID) != _LABELMAP:
            raise Misplaced(f"frame {number} does not tell its segment")
    if len(frames) != int(file.dataset.NumberOfFrames):
        raise Misplaced(f"{len(frames)} items describe {file.dataset.NumberOfFrames} frames")
    return frames


def _nearest(position: bytes, positions: NDArray[np.float64], number: int) -> int:
    try:
        place = np.array([float(mm) for mm in _text(position).split("\\")])
        distances = np.abs(positions - place).max(axis=1)
        index = int(np.nanargmin(distances))
    except ValueError:
        raise Misplaced(f"the position of frame {number} is none") from None
    if distances[index] > _NEAR_MM:
        raise Misplaced(f"frame {number} lies {distances[index]:g} mm beside every slice")
    return index


def _check_segments(dataset: Dataset, drawn: Sequence[Segment]) -> None:
    described = [
        (int(item.SegmentNumber), str(item.SegmentedPropertyTypeCodeSequence[0].CodeValue))
        for item in dataset.SegmentSequence
        if int(item.SegmentNumber) > 0  # 0 is the background of a label map
    ]
    expected = [(number, segment.type.value) for number, segment in enumerate(drawn, start=1)]
    if described != expected:
        raise Misplaced("its segments are not those of the finding that have voxels")


def _bits(file: ResultFile, count: int) -> Iterator[NDArray[np.bool_]]:
    """Yield frames of one bit a pixel, without padding between them (PS3.5 8.1.1)."""
    if file.pixels is None:
        raise Misplaced("it has no frames")
    start, end = file.pixels
    rows, columns = int(file.dataset.Rows), int(file.dataset.Columns)
    size = rows * columns
    if (end - start) != (count * size + 7) // 8 + (count * size + 7) // 8 % 2:
        raise Misplaced("its Pixel Data are shorter or longer than its frames")
    for number in range(count):
        first, last = number * size, (number + 1) * size
        packed = np.frombuffer(file.data, np.uint8, -(-last // 8) - first // 8, start + first // 8)
        bits = np.unpackbits(packed, bitorder="little")[first % 8 :][:size]
        yield bits.view(np.bool_).reshape(rows, columns)


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


def _present(mask: NDArray[Any], finding: Finding) -> NDArray[np.bool_]:
    """Return which segment numbers have voxels in which slices, (256, slices)."""
    present = np.zeros((256, mask.shape[-3]), np.bool_)
    if mask.ndim == 4:
        for segment in finding.segments:
            number = segment.segment_number
            present[number] = mask[number - 1].any(axis=(1, 2))
        return present
    for index, plane in enumerate(mask):
        present[:, index] = np.bincount(plane.ravel(), minlength=256) > 0
    return present


def _plane(mask: NDArray[Any], segment: Segment, index: int) -> NDArray[np.bool_]:
    if mask.ndim == 4:
        return np.asarray(mask[segment.segment_number - 1, index], np.bool_)
    return np.asarray(mask[index] == segment.segment_number, np.bool_)


def _fractions(finding: Finding, segment: Segment, index: int) -> NDArray[np.uint8]:
    if finding.probabilities is not None:
        return finding.probabilities[segment.segment_number - 1, index]
    plane = _plane(finding.mask, segment, index)
    return np.where(plane, np.uint8(255), np.uint8(0))


def _of(drawn: Sequence[Segment], number: int) -> Segment:
    if not 1 <= number <= len(drawn):
        raise Misplaced(f"a frame is of segment {number}, which is not described")
    return drawn[number - 1]


def _differs(number: int, frame: _Frame, segment: Segment | None) -> str:
    of = "" if segment is None else f" of segment {frame.segment_number}"
    return f"frame {number}{of} in slice {frame.slice_index + 1} has other voxels than the finding"


def _numbers(values: Any) -> NDArray[np.float64]:
    return np.array([float(value) for value in values], np.float64)


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").strip("\0 ")
