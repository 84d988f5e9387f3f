"""What results cost to make, beside plain highdicom; and a series to read, beside plain pydicom.

    python -m tests.bench.bench_encode                  # ten minutes, most of them highdicom's
    python -m tests.bench.bench_encode --quick          # two minutes, a third of the slices
    python -m tests.bench.bench_encode --only labelmap report-xray read-native

Volumes are tests/data's abdominal CT and its organs, one behind the other. Both sides are warm and
take turns within a round; a ratio is the median of the ratios within the rounds, by CPU time for
what is made, by wall time for what is read (on all cores). Making includes the copies of the source
headers and the writing of the file. The growth of memory is that of a process of its own, over what
it had before, while it does so.
"""

from __future__ import annotations

import argparse
import gzip
import os
import struct
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from highdicom.seg import SegmentationTypeValues
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.encode.drafts import Draft, pieces_of
from dicom_node.encode.drawing import drawing_of
from dicom_node.encode.header import finish
from dicom_node.encode.results import SegEncoding, encode
from dicom_node.encode.seg import make_seg
from dicom_node.encode.sources import copies_of
from dicom_node.encode.sr import make_sr
from dicom_node.finding import Finding, FindingKind
from dicom_node.headers import read_header
from dicom_node.infer.pixels import Values
from dicom_node.infer.series import load_source
from dicom_node.infer.voxels import read_voxels
from tests.bench.bench_cpu import sorted_volume
from tests.unit.encode.findings import ENGINE, STAMP, classification, lung, uids_of
from tests.unit.encode.plain import plain_results, plain_seg, plain_sr

DATA = Path(__file__).parents[1] / "data"
ABDOMEN = DATA / "ct-abdomen-totalsegmentator"
XRAY = DATA / "xray" / "cr-chest-philips-j2k-RG1.dcm"
THREADS = len(os.sched_getaffinity(0))
MB = 1e6


def abdomen_labels() -> NDArray[np.uint8]:
    """Return the organs of the abdominal CT, (slices, rows, columns), in the order of its files."""
    data = gzip.decompress((ABDOMEN / "reference_multilabel.nii.gz").read_bytes())
    shape = struct.unpack_from("<3h", data, 42)
    begin = int(struct.unpack_from("<f", data, 108)[0])
    voxels = np.frombuffer(data, np.uint8, int(np.prod(shape)), begin)
    return np.ascontiguousarray(voxels.reshape(shape, order="F").transpose(2, 1, 0))


@cache
def segmented(slices: int, segments: int) -> tuple[Finding, list[Dataset]]:
    """Return organs on a CT of many slices, and the headers of it.

    The volume is the abdomen's, slices one behind the other and mirrored; of its organs the largest
    are kept, and split where more segments are wanted.
    """
    organs = abdomen_labels()
    counts = np.bincount(organs.ravel(), minlength=256)
    counts[0] = 0
    largest = np.argsort(counts)[::-1][: min(segments, np.count_nonzero(counts))]
    kept = np.zeros(256, np.uint8)
    kept[largest] = range(1, len(largest) + 1)
    parts = -(-segments // len(largest))
    # every organ falls into blocks of 8 x 8 pixels, which go to its parts in turn
    row, column = np.indices(organs.shape[1:]) // 8
    part = ((row + column) % parts).astype(np.uint8) * np.uint8(len(largest))
    there_and_back = np.concatenate([organs, organs[::-1]])
    mask = np.empty((slices, *organs.shape[1:]), np.uint8)
    for index in range(slices):
        plane = kept[there_and_back[index % len(there_and_back)]]
        split = plane + part
        mask[index] = np.where((plane > 0) & (split <= segments), split, plane)
    reference = read_header(sorted(ABDOMEN.glob("*.dcm"))[0])
    headers = []
    for index in range(slices):
        header = Dataset({element.tag: element for element in reference})
        header.file_meta = reference.file_meta
        header.add_new("SOPInstanceUID", "UI", f"1.2.3.{index + 1}")
        position = [*reference.ImagePositionPatient[:2], 1.5 * index]
        header.add_new("ImagePositionPatient", "DS", position)
        headers.append(header)
    present = np.unique(mask)[1:].tolist()
    finding = Finding(
        kind=FindingKind.SEGMENTATION,
        engine=ENGINE,
        sop_instance_uids=uids_of(headers),
        summary="Organs of the abdomen.",
        mask=mask,
        segments=tuple(lung(number, f"Organ {number}", None, 1.0) for number in present),
    )
    return finding, headers


Work = Callable[[Path], None]
"""Makes a file."""


def copied(headers: Sequence[Dataset]) -> tuple[list[Dataset], Any]:
    copies = copies_of(headers)
    name = copies[0].PatientName
    copies[0].PatientName = ""
    return copies, name


def write(draft: Draft, copies: Sequence[Dataset], name: Any, target: Path) -> None:
    finish(draft.dataset, name, copies[0], STAMP)
    with target.open("wb") as file:
        file.writelines(pieces_of(draft))


def save(dataset: Dataset, copies: Sequence[Dataset], name: Any, target: Path) -> None:
    finish(dataset, name, copies[0], STAMP)
    dataset.save_as(target, enforce_file_format=True)


def segs(slices: int, segments: int, encoding: SegEncoding) -> tuple[Work, Work]:
    """Return what makes a SEG, ours and plain highdicom's."""
    finding, headers = segmented(slices, segments)
    drawn = drawing_of(finding, headers).segments  # highdicom's caller is told

    def ours(target: Path) -> None:
        copies, name = copied(headers)
        drawing = drawing_of(finding, headers)
        write(make_seg(finding, drawing, copies, STAMP, encoding), copies, name, target)

    def plain(target: Path) -> None:
        copies, name = copied(headers)
        kind = SegmentationTypeValues(encoding.value)
        seg = plain_seg(finding, drawn, copies, STAMP, kind, "SEG")
        save(seg, copies, name, target)

    return ours, plain


def reports(slices: int, segments: int) -> tuple[Work, Work]:
    """Return what makes the report on a SEG; highdicom's lists every slice in its library."""
    finding, headers = segmented(slices, segments)
    drawing = drawing_of(finding, headers)
    seg = make_seg(finding, drawing, copied(headers)[0], STAMP).dataset

    def ours(target: Path) -> None:
        copies, name = copied(headers)
        write(make_sr(finding, drawing.segments, copies, seg, STAMP), copies, name, target)

    def plain(target: Path) -> None:
        copies, name = copied(headers)
        report = plain_sr(finding, drawing.segments, copies, seg, STAMP, copies, "SR")
        save(report, copies, name, target)

    return ours, plain


def report_on_an_x_ray() -> tuple[Work, Work]:
    headers = [read_header(XRAY)]
    finding = classification(headers)

    def ours(target: Path) -> None:
        [report] = encode(finding, headers, STAMP)
        with target.open("wb") as file:
            file.writelines(report.pieces)

    def plain(target: Path) -> None:
        plain_results(finding, headers, STAMP)["SR"].save_as(target, enforce_file_format=True)

    return ours, plain


@dataclass(frozen=True)
class Row:
    """What is made, and the goal for it."""

    what: str
    make: Callable[[int], tuple[Work, Work]]
    """Of slices."""
    slices: int
    goal: str
    rounds: int = 5
    by_both: bool = True
    """Whether plain highdicom can be asked for it: it takes eight gigabytes for the longest."""


BINARY, LABELMAP = SegEncoding.BINARY, SegEncoding.LABELMAP
ROWS = {
    "seg-20": Row("SEG BINARY, 20 segments", lambda n: segs(n, 20, BINARY), 300, ">= 4 x"),
    "seg-104": Row("SEG BINARY, 104 segments", lambda n: segs(n, 104, BINARY), 300, ">= 6 x", 3),
    "seg-104-long": Row(
        "SEG BINARY, 104 segments",
        lambda n: segs(n, 104, BINARY),
        800,
        "+ < 100 MB",
        3,
        by_both=False,
    ),
    "labelmap": Row("SEG LABELMAP, 20 segments", lambda n: segs(n, 20, LABELMAP), 300, ">= 1.4 x"),
    "fractional": Row(
        "SEG FRACTIONAL, 20 segments", lambda n: segs(n, 20, SegEncoding.FRACTIONAL), 300, "-", 3
    ),
    "report": Row("SR, 104 segments", lambda n: reports(n, 104), 800, ">= 20 x, < 1 s", 1),
    "report-xray": Row("SR, an X-ray", lambda _: report_on_an_x_ray(), 1, "< 20 ms", 21),
}


def compare(row: Row, slices: int, folder: Path) -> str:
    works = row.make(slices)[: 1 + row.by_both]
    took: list[list[float]] = [[] for _ in works]
    for work in works:
        work(folder / "warm.dcm")
    for number in range(row.rounds):
        for which in sorted(range(len(works)), reverse=number % 2 == 0):
            began = process_time()
            works[which](folder / "made.dcm")
            took[which].append(process_time() - began)
    size = (folder / "warm.dcm").stat().st_size / MB
    cells = [f"{row.what:28}{slices:7}{size:9.1f}"]
    cells += [f"{median(one):10.3f}" for one in took]
    if row.by_both:
        ratio = median(theirs / ours for ours, theirs in zip(*took, strict=True))
        cells.append(f"{ratio:8.1f}")
    else:
        cells.append(f"{'':18}")
    return "".join(cells)


def grown_mb(key: str, slices: int, which: int) -> int:
    """Return by how much a process of its own grows while it makes one file."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_grown_mb, (key, slices, which))


def _grown_mb(key: str, slices: int, which: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        ROWS[key].make(2)[which](Path(folder) / "warm.dcm")  # what is loaded only once
        work = ROWS[key].make(slices)[which]
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = _status_mb("VmRSS")
        work(Path(folder) / "made.dcm")
        return _status_mb("VmHWM") - before


def _status_mb(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) // 1024


SYNTAXES: dict[str, tuple[str, Callable[[NDArray[np.uint16]], bytes | bytearray] | None]] = {
    "native": (ExplicitVRLittleEndian, None),
    "RLE": (RLELossless, None),
    "JPEG lossless": (JPEGLosslessSV1, imagecodecs.ljpeg_encode),
    "JPEG-LS": (JPEGLSLossless, imagecodecs.jpegls_encode),
    "JPEG 2000": (JPEG2000Lossless, lambda plane: imagecodecs.jpeg2k_encode(plane, level=0)),
}


def write_series(folder: Path, syntax: str, slices: int) -> list[Path]:
    """Write the abdominal CT, one behind the other, in an encoding; in no order."""
    transfer_syntax_uid, encoder = SYNTAXES[syntax]
    instances = [pydicom.dcmread(file) for file in sorted(ABDOMEN.glob("*.dcm"))]
    for instance in instances:
        instance.decompress(generate_instance_uid=False)
        if encoder is not None:
            instance.PixelData = encapsulate([bytes(encoder(instance.pixel_array))])
            instance["PixelData"].VR = "OB"
            instance.file_meta.TransferSyntaxUID = UID(transfer_syntax_uid)
        elif transfer_syntax_uid == RLELossless:
            instance.compress(RLELossless, generate_instance_uid=False)
    places = np.random.default_rng(0).permutation(slices)
    files = []
    for number, place in enumerate(places.tolist()):
        instance = instances[place % len(instances)]
        instance.SOPInstanceUID = instance.file_meta.MediaStorageSOPInstanceUID = f"1.2.{place + 1}"
        instance.InstanceNumber = place + 1
        instance.ImagePositionPatient = [*instance.ImagePositionPatient[:2], 1.5 * place]
        files.append(folder / f"{number:04}.dcm")
        instance.save_as(files[-1])
    return files


def voxels_of(files: Sequence[Path]) -> NDArray[Any]:
    images = load_source(files).volume().images
    return read_voxels(images, Values.HOUNSFIELD, threads=THREADS).stored


def stored_volume(files: Sequence[Path]) -> NDArray[Any]:
    """Return the stored values of a series as pydicom reads them."""
    instances = [pydicom.dcmread(file) for file in files]
    instances.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    return np.stack([one.pixel_array for one in instances])


def read(syntax: str, slices: int, rounds: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        files = write_series(Path(folder), syntax, slices)
        ways = (voxels_of, lambda files: sorted_volume(list(files))[0], stored_volume)
        assert np.array_equal(voxels_of(files), stored_volume(files))
        took: list[list[tuple[float, float]]] = [[], [], []]
        for number in range(rounds):
            for which in (0, 1, 2) if number % 2 else (2, 1, 0):
                wall, cpu = perf_counter(), process_time()
                ways[which](files)
                took[which].append((perf_counter() - wall, process_time() - cpu))
        floor = min(copied_from_the_cache(files) for _ in range(rounds))
    cells = [f"{syntax:16}{slices:7}"]
    for at in (0, 1):
        ours, *others = [[one[at] for one in way] for way in took]
        cells += [f"{min(one):8.3f}" for one in (ours, *others)]
        cells += [f"{ratio_of(ours, other):7.1f}" for other in others]
    return "".join(cells) + f"{floor:8.3f}"


def ratio_of(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return median(their / our for our, their in zip(ours, theirs, strict=True))


def copied_from_the_cache(files: Sequence[Path]) -> float:
    """Return the CPU seconds of a copy of the pixels into fresh memory: nobody takes less."""
    size = 2 * 512 * 512
    began = process_time()
    volume = np.empty((len(files), size), np.uint8)
    for file, part in zip(files, volume, strict=True):
        with file.open("rb", buffering=0) as opened:
            opened.seek(-min(size, file.stat().st_size), os.SEEK_END)
            opened.readinto(part.data)
    return process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="Results made and series read, with ratios.")
    parser.add_argument("--quick", action="store_true", help="a third of the slices, one round")
    keys = [*ROWS, *(f"read-{syntax}" for syntax in SYNTAXES)]
    parser.add_argument("--only", nargs="+", choices=keys, default=keys, metavar="ROW")
    given = parser.parse_args()
    print("made, CPU s (median of the rounds), by ours and by plain highdicom; + MB of memory")
    head = f"{'':28}{'slices':>7}{'MB':>9}{'ours':>10}{'plain':>10}{'ratio':>8}"
    print(f"{head}{'+ MB':>7}{'plain':>7}   goal")
    for key, row in ROWS.items():
        if key not in given.only:
            continue
        slices = max(1, row.slices // 3) if given.quick else row.slices
        rounds = 1 if given.quick else row.rounds
        with tempfile.TemporaryDirectory() as folder:
            line = compare(replace(row, rounds=rounds), slices, Path(folder))
        segmented.cache_clear()
        grown = "".join(f"{grown_mb(key, slices, which):7}" for which in range(1 + row.by_both))
        print(f"{line}{grown:14}   {row.goal}", flush=True)
    print(
        f"\nread, to stored voxels, s on {THREADS} cores (minima; medians of the ratios in "
        "a round): ours,\nby pydicom to HU, by pydicom to stored values; wall, then CPU, and "
        "the CPU of copying alone"
    )
    head = f"{'ours':>8}{'HU':>8}{'stored':>8}{'HU/o.':>7}{'st./o.':>7}"
    print(f"{'':16}{'slices':>7}{head}{head}{'copy':>8}   goal: CPU stored/ours >= 3 for native")
    for syntax in SYNTAXES:
        if f"read-{syntax}" in given.only:
            slices = 500 if syntax == "native" else 60
            print(read(syntax, slices // 3 if given.quick else slices, 1 if given.quick else 5))


if __name__ == "__main__":
    main()
