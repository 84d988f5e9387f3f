"""What do ten X-rays at once cost, against ten one after the other, and against one?

    python -m tests.bench.bench_batch --images 10 --rounds 5

For each bundled image engine, and for a larger network with random weights, whose speed does not
depend on them: what the network alone takes, the infer stage (decode, prepare, ask, conclude), and
the whole of the worker's part (take the job, infer, encode, save, record). Real chest X-rays, each
under a study of its own, threads as given; medians over the rounds. The bits are compared too.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnxruntime
import pydicom
import yaml
from onnx import TensorProto, helper, numpy_helper

from dicom_node.infer.engine import Engine
from dicom_node.infer.engine_loading import load_engine
from dicom_node.logs import configure_logs
from tests.factories import STUDY
from tests.unit.ward import ENGINES, Ward

XRAYS = sorted((Path(__file__).parents[1] / "data" / "xray").glob("dx-nih-*.dcm"))
SIDE = 224
_BLOCKS = ((64, 2), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))


@dataclass(frozen=True)
class Times:
    """Milliseconds of one, of ten one after the other, and of ten at once."""

    one: float
    singly: float
    together: float

    def line(self, what: str) -> str:
        return (
            f"  {what:<28}{self.one:9.1f}{self.singly:12.1f}{self.together:12.1f}"
            f"{self.singly / self.together:12.2f} x{self.together / self.one:10.2f} x"
        )


def measured(
    one: Callable[[], object],
    singly: Callable[[], object],
    together: Callable[[], object],
    rounds: int,
    reset: Callable[[], None] = lambda: None,
) -> Times:
    """Time three ways of working, in turn, so that what slows a round down slows all of them."""
    found: list[list[float]] = [[], [], []]
    for _ in range(rounds):
        for times, work in zip(found, (one, singly, together), strict=True):
            reset()
            started = time.perf_counter()
            work()
            times.append((time.perf_counter() - started) * 1e3)
    return Times(*(median(times) for times in found))


def larger_engine(root: Path) -> Path:
    """Write an engine like cxr_pneumonia with a network of 1.3 GFLOP on 224 x 224; return it."""
    folder = root / "larger"
    folder.mkdir()
    draw = np.random.default_rng(1)
    nodes, weights = [], []

    def weight(name: str, *shape: int) -> str:
        values = draw.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    last, channels = "x", 1
    for number, (width, stride) in enumerate(((64, 2), *_BLOCKS)):
        inputs = [last, weight(f"w{number}", width, channels, 3, 3)]
        nodes.append(
            helper.make_node("Conv", inputs, [f"c{number}"], strides=[stride] * 2, pads=[1] * 4)
        )
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        last, channels = f"r{number}", width
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    nodes.append(helper.make_node("Gemm", ["flat", weight("dense", channels, 2)], ["said"]))
    nodes.append(helper.make_node("Softmax", ["said"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "larger",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    given = np.zeros((1, 1, SIDE, SIDE), np.float32)
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    np.savez(folder / "test_vector.npz", input=given, output=session.run(None, {"x": given})[0])
    written = yaml.safe_load((ENGINES / "cxr_pneumonia" / "engine.yaml").read_text("utf-8"))
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    written |= {"name": "larger", "image": {**written["image"], "size": [SIDE, SIDE]}}
    written["model"] = {"file": "model.onnx", "sha256": digest, "input": "x", "output": "y"}
    written["intensity"]["scale"]["to"] = [0, 1]
    (folder / "engine.yaml").write_text(yaml.safe_dump(written), "utf-8")
    return folder


def fill(ward: Ward, images: int) -> list[str]:
    """Receive and route real X-rays, each under a study of its own; return the jobs."""
    for number in range(images):
        dataset = pydicom.dcmread(XRAYS[number % len(XRAYS)])
        dataset.StudyInstanceUID = f"{STUDY}.{number}"
        dataset.SeriesInstanceUID = f"{STUDY}.{number}.1"
        dataset.SOPInstanceUID = f"{STUDY}.{number}.1.1"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        ward.store_instance(dataset)
    return ward.route()


def compare(folder: Path, images: int, rounds: int, threads: int) -> None:
    engine = load_engine(folder, threads=threads)
    with tempfile.TemporaryDirectory(prefix="bench-batch-") as name:
        ward = Ward(Path(name), folder.parent, folder.name)
        infer = ward.config.infer.model_copy(update={"threads": threads})
        ward.config = ward.config.model_copy(update={"infer": infer})
        jobs = fill(ward, images)
        files = [[file] for file in sorted((ward.store.root / "instances").iterdir())]
        print(f"{folder.name}: {images} images, {threads} threads")
        lines = [
            network(engine, files, rounds).line("network alone"),
            infer_stage(engine, files, rounds).line("infer stage"),
            whole(ward, jobs, rounds).line("the worker's whole part"),
        ]
        print(f"  {'ms':<28}{'one':>9}{'singly':>12}{'at once':>12}{'faster':>14}{'of one':>12}")
        print("\n".join(lines))
        ward.ledger.close()


def network(engine: Engine, files: Sequence[list[Path]], rounds: int) -> Times:
    tensors = [engine.prepare(one).tensors[0] for one in files]
    batch = engine.batch(len(tensors))
    alone = [batch.alone(tensor).tobytes() for tensor in tensors]
    for _ in range(3):  # until so many are trusted
        answers = batch.ask(tensors)
    same = [answer.tobytes() for answer in answers if answer is not None] == alone
    print(f"  the bits of {len(tensors)} at once are {'' if same else 'NOT '}those of each alone")
    return measured(
        lambda: batch.alone(tensors[0]),
        lambda: [batch.alone(tensor) for tensor in tensors],
        lambda: batch.ask(tensors),
        rounds,
    )


def infer_stage(engine: Engine, files: Sequence[list[Path]], rounds: int) -> Times:
    batch = engine.batch(len(files))

    def at_once() -> None:
        prepared = [engine.prepare(one) for one in files]
        answers = batch.ask([one.tensors[0] for one in prepared])
        for one, answer in zip(prepared, answers, strict=True):
            engine.conclude(one, [batch.alone(one.tensors[0]) if answer is None else answer])

    for _ in range(2):
        at_once()
    return measured(
        lambda: engine.run(files[0]), lambda: [engine.run(one) for one in files], at_once, rounds
    )


def whole(ward: Ward, jobs: Sequence[str], rounds: int) -> Times:
    worker = ward.worker()

    def at_once() -> None:
        worker.do(*jobs)

    def one_by_one() -> None:
        for job in jobs:
            worker.do(job)

    for _ in range(2):
        at_once()
        ward.forget()
    return measured(
        lambda: worker.do(jobs[0]),
        one_by_one,
        at_once,
        rounds,
        reset=ward.forget,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    configure_logs("error")
    with tempfile.TemporaryDirectory(prefix="bench-batch-") as name:
        folders = [ENGINES / "cxr_pneumonia", ENGINES / "cxr_quality", larger_engine(Path(name))]
        for folder in folders:
            compare(folder, options.images, options.rounds, options.threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
