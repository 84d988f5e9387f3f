"""What an engine takes on a GPU, from decoded voxels to labels, stage by stage, beside its peers.

    python -m tests.bench.bench_gpu                        # a 512 x 512 x 300 volume, every network
    python -m tests.bench.bench_gpu --only nnunet --rounds 3
    python -m tests.bench.bench_gpu --json figures.json

Wants a GPU, TensorRT, pycuda, PyTorch with CUDA and onnx; nothing is downloaded. In one run, on one
machine, it prints for each 3-D network (the bundled ones, and a plain nnU-Net of 128^3 windows with
31 million random weights, since speed does not depend on them):

* ours: the stages on the GPU by events, and the whole by the clock, voxels in and labels out;
* PyTorch with AMP and a sliding window as MONAI's (`torch_pipeline.py`), stage by stage;
* onnxruntime, one window, on CUDA where its provider is there, else on the processor;
* the floor: operations and bytes counted in the file, by the ceilings that this GPU reaches in a
  matrix product and in a copy, both measured here.

The contestants take turns within a round, each once to warm up; medians are printed, and a ratio is
the median of the ratios within the rounds. Labels are compared with PyTorch's in single precision.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from dicom_node.geometry import Grid
from dicom_node.infer.blocks import Intensity, Model, Scale, VolumeInput, Window
from dicom_node.infer.engine_folders import load_manifest
from dicom_node.infer.gpu.path import GpuPath
from dicom_node.infer.gpu.wiring import Sites
from dicom_node.infer.pixels import Values
from dicom_node.infer.runtimes.port import LoadOptions, Precision, Profile
from dicom_node.infer.runtimes.tensorrt import KIND
from dicom_node.infer.volume import place
from dicom_node.infer.voxels import Voxels
from tests.bench.floor import Work, work_of
from tests.bench.nnunet import SIDE, write_nnunet
from tests.bench.torch_network import OnnxModule
from tests.bench.torch_pipeline import labels_of

ROOT = Path(__file__).parents[2]
SHAPE = (300, 512, 512)
SPACING_MM = (1.0, 0.8, 0.8)
LIMITS = (-1000.0, 1000.0)
DIGEST = "0" * 64
GOALS = (
    "at least 2 times PyTorch AMP, voxels to labels; the network within 2 times its floor; "
    "all but the network under 20 % of the whole; plan in the cache to first labels under 5 s"
)


@dataclass(frozen=True)
class Case:
    """One network and how it sees the volume."""

    name: str
    file: Path
    volume: VolumeInput
    model: Model
    batch: int
    shape: tuple[int, ...]
    """Of one item of its input."""
    overlap: float = 0.5
    compares: bool = True
    """Whether PyTorch's way is the same; a network that gives labels has no logits to average."""


@dataclass
class Figures:
    """Seconds by round."""

    ours: list[float] = field(default_factory=list)
    amp: list[float] = field(default_factory=list)
    ours_ms: dict[str, float] = field(default_factory=dict)
    amp_s: dict[str, float] = field(default_factory=dict)
    first_s: float = 0.0
    build_s: float = 0.0
    different: float | None = None
    onnxruntime: str = ""
    floor_s: float = 0.0


def a_volume() -> tuple[Voxels, Grid]:
    """Return a body of water with lungs of air and noise, and where it lies."""
    slices, rows, columns = SHAPE
    z, y, x = np.ogrid[-1 : 1 : slices * 1j, -1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    body = (x / 0.85) ** 2 + (y / 0.6) ** 2 < 1
    lungs = ((np.abs(x) - 0.38) / 0.26) ** 2 + (y / 0.42) ** 2 + (z / 0.9) ** 2 < 1
    stored = np.where(lungs, 150, np.where(body, 1040, 0)).astype(np.int16)
    stored += np.random.default_rng(0).integers(0, 60, SHAPE, np.int16)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]]) * SPACING_MM
    ones = np.ones(slices, np.float32)
    return Voxels(stored, ones, ones * -1024), Grid(SHAPE, affine)


def cases(folder: Path) -> list[Case]:
    """Return every 3-D network that is at hand."""
    file = folder / "nnunet.onnx"
    write_nnunet(file)
    logits = Model(file=file.name, sha256=DIGEST, input="x", output="y", gives="logits")
    side = (SIDE, SIDE, SIDE)

    def windows(overlap: float, **changes: Any) -> VolumeInput:
        window = Window(size=side, overlap=overlap)
        return VolumeInput(network_sees="window", axes="HPL", window=window, **changes)

    brain = load_manifest(ROOT / "engines" / "mr_brain")
    whole = VolumeInput(network_sees="whole", axes="HPL", spacing_mm=(2.0, 2.0, 2.0))
    return [
        Case("nnunet, native, half overlapping", file, windows(0.5), logits, 2, (1, *side)),
        Case("nnunet, native, a quarter", file, windows(0.25), logits, 2, (1, *side), 0.25),
        Case(
            "nnunet at 1.5 mm, half overlapping",
            file,
            windows(0.5, spacing_mm=(1.5, 1.5, 1.5)),
            logits,
            2,
            (1, *side),
        ),
        Case(
            "mr_brain's network on the whole, at 2 mm",
            brain.folder / brain.model.file,
            whole,
            brain.model,
            1,
            (1, 150, 205, 205),
            compares=False,
        ),
    ]


def ceilings() -> tuple[float, float, float]:
    """Return what this GPU reaches: operations/s in FP16, bytes/s in a copy, bytes/s up."""

    def best(what: Callable[[], Any], rounds: int = 10) -> float:
        what()
        torch.cuda.synchronize()
        times = []
        for _ in range(rounds):
            begun = perf_counter()
            what()
            torch.cuda.synchronize()
            times.append(perf_counter() - begun)
        return min(times)

    side = 8192
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.float16) for _ in range(2))
    operations = 2 * side**3 / best(lambda: a @ b)
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copied = 2 * source.numel() / best(lambda: target.copy_(source))
    pinned = torch.empty(1 << 28, dtype=torch.uint8).pin_memory()
    up = pinned.numel() / best(lambda: target[: 1 << 28].copy_(pinned, non_blocking=True))
    return operations, copied, up


def onnxruntime_s(case: Case) -> str:
    """Return how long onnxruntime takes for one item, and where."""
    on_gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    providers = ["CUDAExecutionProvider"] if on_gpu else ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(case.file), providers=providers)
    given = {case.model.input: np.zeros((1, *case.shape), np.float32)}
    session.run(None, given)
    begun = perf_counter()
    session.run(None, given)
    return f"{perf_counter() - begun:.3f} s a window on {'CUDA' if on_gpu else 'the processor'}"


def measure(case: Case, voxels: Voxels, grid: Grid, rounds: int, folder: Path) -> Figures:
    figures = Figures()
    scale = Scale(low=LIMITS[0], high=LIMITS[1])
    intensity = Intensity(values=Values.HOUNSFIELD, clip=LIMITS, scale=scale)
    one, many = (1, *case.shape), (case.batch, *case.shape)
    options = LoadOptions(
        precisions=frozenset({Precision.FP16}),
        profiles={case.model.input: Profile(one, many, many)},
        cache_dir=folder / "plans",
    )
    begun = perf_counter()
    KIND.load(case.file, options).close()
    figures.build_s = perf_counter() - begun
    placement = place(grid, case.volume)

    begun = perf_counter()
    runtime = KIND.load(case.file, options)
    site = Sites(folder).of(runtime.device)
    path = GpuPath(
        site.device,
        site.kernels,
        [runtime.on_device(case.model.output)],
        case.volume,
        case.model,
        intensity,
        budget=site.budget,
    )
    labels = path.labels(voxels, placement)
    figures.first_s = perf_counter() - begun

    amp = peer(case, voxels, placement.forward, amp=True)
    if case.compares:
        amp()
    if case.compares and placement.forward == (None, None, None):
        # On another grid the two interpolate differently: we average by area where we shrink.
        exact = peer(case, voxels, placement.forward, amp=False)()[0]
        figures.different = float(np.mean(labels != exact))
    for _ in range(rounds):
        begun = perf_counter()
        path.labels(voxels, placement)
        figures.ours.append(perf_counter() - begun)
        if case.compares:
            begun = perf_counter()
            _, figures.amp_s = amp()
            figures.amp.append(perf_counter() - begun)
    path.labels(voxels, placement, stages_ms=figures.ours_ms)
    path.close()
    runtime.close()
    figures.onnxruntime = onnxruntime_s(case)
    return figures


def peer(
    case: Case, voxels: Voxels, forward: Any, *, amp: bool
) -> Callable[[], tuple[NDArray[np.uint8], dict[str, float]]]:
    """Return PyTorch's way of the same."""
    network = OnnxModule(case.file).cuda().eval()
    sides = [
        size if weights is None else weights.shape[0]
        for size, weights in zip(SHAPE, forward, strict=True)
    ]
    grid = (sides[0], sides[1], sides[2])
    window = case.volume.window.size if case.volume.window else None

    def run() -> tuple[NDArray[np.uint8], dict[str, float]]:
        return labels_of(
            voxels.stored,
            network,
            device=torch.device("cuda"),
            slope=1.0,
            intercept=-1024.0,
            limits=LIMITS,
            window=window,
            overlap=case.overlap,
            batch=4,
            grid=None if grid == SHAPE else grid,
            amp=amp,
        )

    return run


def windows_of(case: Case, grid: Grid) -> int:
    from dicom_node.infer.gpu.axes import route
    from dicom_node.infer.gpu.task import task

    intensity = Intensity(values=Values.HOUNSFIELD)
    todo = task(
        route(place(grid, case.volume)), np.dtype(np.int16), case.volume, case.model, intensity
    )
    return len(todo.starts)


def floor_s(work: Work, windows: int, operations_s: float, bytes_s: float) -> float:
    """Return what the network cannot do faster: the slower of arithmetic and memory."""
    return windows * max(work.operations / operations_s, work.bytes_moved / bytes_s)


def told(case: Case, figures: Figures) -> None:
    ours = median(figures.ours)
    network_s = figures.ours_ms.get("network", 0.0) / 1000
    print(f"\n{case.name}")
    print(f"  plan built in {figures.build_s:.1f} s; from the cache to the first labels "
          f"{figures.first_s:.2f} s")  # fmt: skip
    stages = ", ".join(f"{name} {ms:.0f}" for name, ms in figures.ours_ms.items())
    print(f"  ours           {ours:7.3f} s   stages in ms (they overlap): {stages}")
    if figures.amp:
        stages = ", ".join(f"{name} {s * 1000:.0f}" for name, s in figures.amp_s.items())
        print(f"  PyTorch AMP    {median(figures.amp):7.3f} s   stages in ms: {stages}")
        ratios = [amp / own for own, amp in zip(figures.ours, figures.amp, strict=True)]
        print(f"  PyTorch AMP / ours       {median(ratios):.2f}   (goal: >= 2)")
    if figures.different is not None:
        print(f"  labels that differ from PyTorch in FP32: {figures.different:.2e} of all")
    print(f"  onnxruntime    {figures.onnxruntime}")
    print(f"  network's floor {figures.floor_s:6.3f} s; ours / floor "
          f"{network_s / figures.floor_s:.2f}   (goal: <= 2)")  # fmt: skip
    print(f"  all but the network      {1 - min(network_s / ours, 1):.0%}   (goal: < 20 %)")


def main() -> None:
    parser = argparse.ArgumentParser(description="Engines on a GPU, decoded voxels to labels.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="networks whose name has this in it")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    given = parser.parse_args()
    if lacking := KIND.missing():
        parser.exit(1, f"no GPU to measure: {lacking}\n")
    operations_s, bytes_s, up_s = ceilings()
    print(f"{torch.cuda.get_device_name()}, {SHAPE} voxels")
    print(f"ceilings: {operations_s / 1e12:.0f} TFLOP/s in FP16, {bytes_s / 1e12:.2f} TB/s copied,")
    print(f"          {up_s / 1e9:.0f} GB/s up from pinned memory")
    print(f"goals on an H200: {GOALS}")
    voxels, grid = a_volume()
    kept: dict[str, Any] = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        for case in cases(folder):
            if given.only not in case.name:
                continue
            figures = measure(case, voxels, grid, given.rounds, folder)
            work = work_of(case.file, (1, *case.shape))
            figures.floor_s = floor_s(work, windows_of(case, grid), operations_s, bytes_s)
            told(case, figures)
            kept[case.name] = vars(figures)
    if given.json:
        given.json.write_text(json.dumps(kept, indent=2))


if __name__ == "__main__":
    main()
