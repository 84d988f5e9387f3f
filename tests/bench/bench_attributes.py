"""How long it takes to read some attributes of a stored instance, in microseconds, beside pydicom.

    python -m tests.bench.bench_attributes

Each figure is the best of several rounds over the files of a series, the opening of the file
included; the files are in the page cache. "one" is `read_attributes`, "series" an
`AttributesReader` that reads one file after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from dicom_node.attributes import AttributesReader, read_attributes
from dicom_node.headers import Part10, attributes_of, read_header_of
from dicom_node.model import Attributes
from tests.factories import make_instance, write
from tests.unit.headers_in_memory import KEYWORDS
from tests.unit.receive.data_sets import DATA

ROUNDS = 7
FRAMES = 400
FEW = frozenset(
    "Modality SeriesDescription BodyPartExamined SliceThickness KVP Rows ImageType".split()  # noqa: SIM905
)


def enhanced(folder: Path, *, undefined_length: bool) -> Path:
    """Write a multi-frame CT image with its functional groups; return the file."""
    dataset = make_instance(np.zeros((8, 8), np.int16), NumberOfFrames=FRAMES)
    frames = []
    for number in range(FRAMES):
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, number]
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset["PerFrameFunctionalGroupsSequence"].is_undefined_length = undefined_length
    dataset.ReferencedImageSequence = [Dataset(frame) for frame in frames]
    dataset["ReferencedImageSequence"].is_undefined_length = undefined_length
    dataset.PixelData = bytes(8 * 8 * 2 * FRAMES)
    return write(dataset, folder / f"enhanced-{undefined_length}.dcm")


def by_pydicom(file: Part10, keywords: frozenset[str]) -> Attributes:
    return attributes_of([read_header_of(file, keywords)])


def best_us(read: Callable[[Path], Attributes], files: Sequence[Path]) -> float:
    """Return how long a file takes at best."""
    best = float("inf")
    for _ in range(ROUNDS):
        begun = perf_counter()
        for file in files:
            read(file)
        best = min(best, perf_counter() - begun)
    return best / len(files) * 1e6


def cases(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """Return what is read, by a name for it."""
    yield "CT, JPEG-LS", sorted((DATA / "ct-chest-lctsc-011").glob("*.dcm"))
    yield "CT, JPEG 2000", sorted((DATA / "ct-abdomen-totalsegmentator").glob("*.dcm"))
    yield "MR, JPEG-LS", sorted((DATA / "mr-t1-studyforrest").glob("*.dcm"))
    yield "CT, implicit", [DATA / "transfer-syntaxes" / "CTImage_1.2.840.10008.1.2.dcm"] * 10
    uncompressed = pydicom.dcmread(DATA / "transfer-syntaxes" / "CTImage_1.2.840.10008.1.2.dcm")
    uncompressed.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    yield "CT, explicit", [write(uncompressed, folder / "explicit.dcm")] * 10
    yield "enhanced CT, defined lengths", [enhanced(folder, undefined_length=False)] * 5
    yield "enhanced CT, undefined lengths", [enhanced(folder, undefined_length=True)] * 5


def main() -> None:
    print(
        f"{'keywords':>8}  {'found':>5}  {'pydicom':>8}  {'one':>7}  {'series':>7}  ratio   in us"
    )
    with TemporaryDirectory() as folder:
        for name, files in cases(Path(folder)):
            for keywords in (FEW, KEYWORDS):
                reader = AttributesReader(keywords)
                for file in files:
                    assert reader.read(file) == by_pydicom(file, keywords)
                pydicom_us = best_us(partial(by_pydicom, keywords=keywords), files[:10])
                one_us = best_us(partial(read_attributes, keywords=keywords), files)
                series_us = best_us(reader.read, files)
                print(
                    f"{len(keywords):8}  {len(reader.read(files[0])):5}  {pydicom_us:8.1f}"
                    f"  {one_us:7.1f}  {series_us:7.1f}  {pydicom_us / series_us:5.1f}   {name}"
                )


if __name__ == "__main__":
    main()
