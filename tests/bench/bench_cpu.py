"""How long an engine takes on the processor, from files to mask, beside a straightforward pipeline.

    python -m tests.bench.bench_cpu                 # lungs on CT
    python -m tests.bench.bench_cpu --brain         # and brain structures on MR: minutes a round

The straightforward pipeline is what an engineer writes in an afternoon: pydicom and pixel_array,
numpy, onnxruntime with its defaults on as many threads, scipy's zoom, label and argmax. Both give
the same mask; how far they differ is printed. They take turns within a round, each once to warm up,
and a ratio is the median of the ratios within the rounds. A process of its own reports the memory.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np
import onnxruntime
import pydicom
from numpy.typing import NDArray
from scipy import ndimage

from dicom_node.infer.engine_loading import load_engine

ROOT = Path(__file__).parents[2]
CT = ROOT / "tests" / "data" / "ct-chest-lctsc-011"
MR = ROOT / "tests" / "data" / "mr-t1-studyforrest"
THREADS = len(os.sched_getaffinity(0))

Pipeline = Callable[[list[Path]], NDArray[np.uint8]]


def session(engine: str, file: str = "model.onnx") -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    return onnxruntime.InferenceSession(
        str(ROOT / "engines" / engine / file), options, providers=["CPUExecutionProvider"]
    )


def sorted_volume(files: list[Path]) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
    """Return the values of a series, feet to head, and its spacing."""
    instances = [pydicom.dcmread(file) for file in files]
    instances.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    slope, intercept = (
        float(instances[0].get(key, default))
        for key, default in (("RescaleSlope", 1), ("RescaleIntercept", 0))
    )
    volume = np.stack([one.pixel_array.astype(np.float32) for one in instances])
    at = [float(one.ImagePositionPatient[2]) for one in instances]
    rows, columns = map(float, instances[0].PixelSpacing)
    return volume * slope + intercept, ((at[-1] - at[0]) / (len(at) - 1), rows, columns)


def largest_of_each(mask: NDArray[np.uint8], structure: Any) -> NDArray[np.uint8]:
    kept = np.zeros_like(mask)
    for label in np.unique(mask[mask > 0]):
        parts, count = ndimage.label(mask == label, structure)
        if count:
            sizes = np.bincount(parts.ravel())
            sizes[0] = 0
            kept[parts == sizes.argmax()] = label
    return kept


def plain_lungs() -> Pipeline:
    network = session("ct_lungs")

    def run(files: list[Path]) -> NDArray[np.uint8]:
        volume, _ = sorted_volume(files)
        volume = np.clip(volume, -1024, 3071)
        slices, rows, columns = volume.shape
        small = volume.reshape(slices, rows // 4, 4, columns // 4, 4).mean(axis=(2, 4))
        mask = np.zeros(volume.shape, np.uint8)
        for first in range(0, slices, 8):
            part = small[first : first + 8, None].astype(np.float32)
            (probabilities,) = network.run(None, {"image_hu": part})
            large = ndimage.zoom(
                probabilities, (1, 1, 4, 4), order=1, grid_mode=True, mode="nearest"
            )
            mask[first : first + 8] = large.argmax(axis=1)
        return largest_of_each(mask, np.ones((3, 3, 3)))

    return run


def plain_brain() -> Pipeline:
    locate, network = session("mr_brain", "locate.onnx"), session("mr_brain")

    def run(files: list[Path]) -> NDArray[np.uint8]:
        volume, spacing = sorted_volume(files)
        iso = ndimage.zoom(volume, spacing, order=1, grid_mode=True, mode="nearest")
        turned = np.ascontiguousarray(iso.transpose(2, 0, 1)[:, ::-1, ::-1])  # left, feet, front
        turned /= np.percentile(turned, 99.9)
        (brain,) = locate.run(None, {"t1": turned[None, None]})
        touched = np.argwhere(
            largest_of_each((brain[0, 0] > 0).astype(np.uint8), np.ones((3,) * 3))
        )
        low = np.maximum(touched.min(axis=0) - 12, 0)
        high = np.minimum(touched.max(axis=0) + 13, turned.shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        (part,) = network.run(None, {"t1": np.ascontiguousarray(turned[box])[None, None]})
        labels = np.zeros(turned.shape, np.uint8)
        labels[box] = part[0, 0]
        back = labels[:, ::-1, ::-1].transpose(1, 2, 0)
        zoom = [new / old for new, old in zip(volume.shape, back.shape, strict=True)]
        return ndimage.zoom(back, zoom, order=0, grid_mode=True, mode="nearest")

    return run


def ours(name: str) -> Pipeline:
    engine = load_engine(ROOT / "engines" / name, threads=THREADS)

    def run(files: list[Path]) -> NDArray[np.uint8]:
        mask = engine.run(files)[0].mask
        assert mask is not None
        return np.asarray(mask).astype(np.uint8, copy=False)

    return run


PIPELINES: dict[str, tuple[Path, Callable[[], Pipeline], Callable[[], Pipeline]]] = {
    "lungs on CT": (CT, lambda: ours("ct_lungs"), plain_lungs),
    "brain structures on MR": (MR, lambda: ours("mr_brain"), plain_brain),
}


def peak_mb(what: str, which: int) -> int:
    """Return the peak memory of one run in a process of its own."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_mb, (what, which))


def _peak_mb(what: str, which: int) -> int:
    folder, *made = PIPELINES[what]
    made[which]()(sorted(folder.glob("*.dcm")))
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def compare(what: str, rounds: int) -> None:
    folder, *made = PIPELINES[what]
    files = sorted(folder.glob("*.dcm"))
    runs = [make() for make in made]
    masks = [run(files) for run in runs]
    took: list[list[tuple[float, float]]] = [[], []]
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            wall, cpu = perf_counter(), process_time()
            again = runs[which](files)
            took[which].append((perf_counter() - wall, process_time() - cpu))
            assert np.array_equal(again, masks[which])
    different = float(np.mean(masks[0] != masks[1]))
    print(f"\n{what}: {len(files)} files to mask, {THREADS} threads, median of {rounds} rounds")
    print(f"  {'':16}{'wall s':>8}{'CPU s':>8}{'peak MB':>9}")
    for which, name in enumerate(("ours", "straightforward")):
        wall, cpu = (median(one[at] for one in took[which]) for at in (0, 1))
        print(f"  {name:16}{wall:8.2f}{cpu:8.2f}{peak_mb(what, which):9}")
    for at, name in enumerate(("wall", "CPU")):
        ratios = [theirs[at] / mine[at] for mine, theirs in zip(*took, strict=True)]
        print(f"  {name}: straightforward / ours {median(ratios):.2f}", end="")
        print("   (goal for the lungs: >= 2)" if name == "wall" else "")
    print(f"  voxels that differ: {different:.2e} of all")


def main() -> None:
    parser = argparse.ArgumentParser(description="Engines on the processor, files to mask.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--brain", action="store_true", help="the MR too: minutes a round")
    given = parser.parse_args()
    compare("lungs on CT", given.rounds)
    if given.brain:
        compare("brain structures on MR", max(given.rounds // 2, 1))


if __name__ == "__main__":
    main()
