"""Whole engines on a GPU that is none: files in, the finding that the processor gives out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from dicom_node.finding import Finding
from dicom_node.infer.engine import Engine
from dicom_node.infer.engine_loading import load_engine
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.gpu.wiring import Sites
from dicom_node.infer.plans.library import Library
from dicom_node.infer.runtimes import onnxruntime
from dicom_node.infer.runtimes.choice import Wishes
from dicom_node.infer.runtimes.tensorrt import TensorRtKind
from tests.fake_cuda.fake import FakeCuda
from tests.fake_cuda.fixtures import cuda
from tests.stand_in_tensorrt import Faults, make_tensorrt
from tests.unit.infer.gpu.machines import FakeMachine

__all__ = ["cuda"]

ENGINES = Path(__file__).parents[2] / "engines"
MIB = 1 << 20

Load = Callable[..., Engine]


@pytest.fixture
def load(cuda: FakeCuda, tmp_path: Path) -> Iterator[Load]:
    """Return a function that loads a bundled engine on the GPU, or wherever it can run."""
    device = Device()
    machine = FakeMachine(cuda)
    sites = Sites(None, machine.compile_source)

    def load(name: str | Path, faults: Faults | None = None) -> Engine:
        library = Library(make_tensorrt(faults=faults, on_stream=cuda.on_stream))
        kind = TensorRtKind(library=lambda: library, device=lambda ordinal: device)
        return load_engine(
            ENGINES / name,
            threads=2,
            wishes=Wishes(cache_dir=tmp_path / "cache"),
            runtimes={"onnxruntime": onnxruntime.KIND, "tensorrt": kind},
            sites=lambda cache_dir: sites,
        )

    yield load
    device.close()


@cache
def on_the_processor(name: str, folder: str) -> Finding:
    files = sorted((ENGINES.parent / "tests" / "data" / folder).glob("*.dcm"))
    return load_engine(ENGINES / name, threads=2).run(files)[0]


def on(engine: Engine, folder: str) -> Finding:
    return engine.run(sorted((ENGINES.parent / "tests" / "data" / folder).glob("*.dcm")))[0]


CHEST = "ct-chest-lctsc-011"


def test_the_lungs_of_a_real_chest_are_those_of_the_processor(load: Load) -> None:
    engine = load("ct_lungs")
    assert [parity.accepted for parity in engine.parities] == [True]
    finding, expected = on(engine, CHEST), on_the_processor("ct_lungs", CHEST)
    assert finding.engine.runtime == "TensorRT 11.4.0.106 on FAKE-0, fp16"
    assert finding.mask is not None
    assert expected.mask is not None
    assert np.mean(finding.mask != expected.mask) < 2e-4
    for one, other in zip(finding.segments, expected.segments, strict=True):
        assert one.volume_ml == pytest.approx(other.volume_ml, rel=2e-3)
    again = on(engine, CHEST)
    assert again.mask is not None
    assert np.array_equal(again.mask, finding.mask)


def test_probabilities_are_those_of_the_network_on_the_gpu(load: Load, tmp_path: Path) -> None:
    folder = tmp_path / "ct_lungs"
    shutil.copytree(ENGINES / "ct_lungs", folder)
    with (folder / "engine.yaml").open("a") as manifest:
        manifest.write("\nprobabilities: true\n")
    finding, expected = on(load(folder), CHEST), on_the_processor("ct_lungs", CHEST)
    assert "TensorRT" in finding.engine.runtime
    assert finding.mask is not None
    assert expected.mask is not None
    assert finding.probabilities is not None
    assert np.mean(finding.mask != expected.mask) < 2e-4
    likely = finding.probabilities
    assert likely.shape == (2, *finding.mask.shape)
    assert np.mean(likely[0][finding.mask == 1]) > 240
    assert np.mean(likely[0][finding.mask != 1]) < 5


def test_what_no_memory_is_left_for_the_processor_does(load: Load, cuda: FakeCuda) -> None:
    engine = load("ct_lungs")
    cuda.set(memory_bytes=cuda.used_bytes() + MIB)
    finding, expected = on(engine, CHEST), on_the_processor("ct_lungs", CHEST)
    assert finding.engine.runtime == expected.engine.runtime
    assert finding.mask is not None
    assert expected.mask is not None
    assert np.array_equal(finding.mask, expected.mask)
    cuda.set(memory_bytes=1024 * MIB)
    assert "TensorRT" in on(engine, CHEST).engine.runtime


def test_a_plan_that_answers_wrongly_leaves_the_engine_to_the_processor(load: Load) -> None:
    faults = Faults()
    faults.tamper = lambda name, values: values + 0.5
    engine = load("ct_lungs", faults)
    assert [parity.accepted for parity in engine.parities] == [False, False]
    assert all("more than 0.005" in parity.reason for parity in engine.parities)
    assert "onnxruntime" in on(engine, CHEST).engine.runtime


@pytest.mark.parametrize("name", ["cxr_pneumonia", "cxr_quality"])
def test_an_x_ray_is_read_as_on_the_processor(name: str, load: Load) -> None:
    files = [ENGINES.parent / "tests" / "data" / "xray" / "dx-nih-00000001_000.dcm"]
    finding, expected = (
        load(name).run(files)[0],
        load_engine(ENGINES / name, threads=2).run(files)[0],
    )
    assert "TensorRT" in finding.engine.runtime
    assert [one.probability for one in finding.classifications] == pytest.approx(
        [one.probability for one in expected.classifications], abs=1e-3
    )
    assert [one.grade for one in finding.qualities] == [one.grade for one in expected.qualities]
