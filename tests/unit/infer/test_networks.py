"""The networks of an engine on the runtime that is chosen, and what is remembered of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import ConfigError, EngineError, EngineUnavailable
from dicom_node.infer.engine_folders import load_manifest
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.networks import choose, load_networks
from dicom_node.infer.runtimes.choice import Wishes
from dicom_node.infer.runtimes.measuring import processor
from dicom_node.infer.runtimes.port import Precision
from tests.unit.infer.engine_folders import CLASSIFICATION, SEGMENTATION, write_engine
from tests.unit.infer.runtimes.kinds import Clock, Kind, right

LOCATE = {
    "sha256": CLASSIFICATION["model"]["sha256"],
    "input": "x",
    "output": "y",
    "what": "a ball",
}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return with_vector(write_engine(tmp_path, CLASSIFICATION))


def with_vector(folder: Path) -> Manifest:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez(folder / "test_vector.npz", input=x, output=right(x), locate_output=right(x))
    return load_manifest(folder)


@pytest.fixture
def wishes(tmp_path: Path) -> Wishes:
    return Wishes(cache_dir=tmp_path / "cache")


def machine(**takes_s: float) -> dict[str, Kind]:
    """Return the runtimes of a machine that share a clock, so long a run on each."""
    clock = Clock()
    return {name: Kind(name, seconds, clock=clock) for name, seconds in takes_s.items()}


def loaded_on(manifest: Manifest, wishes: Wishes, runtimes: dict[str, Kind]) -> str:
    clock = next(iter(runtimes.values())).clock
    networks, choice, _ = load_networks(
        manifest, wishes, threads=2, runtimes=runtimes, seconds=clock
    )
    assert networks.main[0].description == f"{choice.runtime} 1.0"
    return choice.runtime


def test_the_fastest_is_measured_once_and_remembered(manifest: Manifest, wishes: Wishes) -> None:
    assert loaded_on(manifest, wishes, machine(onnxruntime=0.018, openvino=0.010)) == "openvino"
    turned = machine(onnxruntime=0.010, openvino=0.018)
    assert loaded_on(manifest, wishes, turned) == "openvino", "the same bits after a restart"
    assert turned["onnxruntime"].loaded == []
    assert len(turned["openvino"].loaded) == 1


def test_the_best_of_a_few_runs_counts_and_is_kept_in_words(
    manifest: Manifest, wishes: Wishes, tmp_path: Path
) -> None:
    loaded_on(manifest, wishes, machine(onnxruntime=0.018, openvino=0.010))
    [note] = (tmp_path / "cache" / "speeds").glob("*.json")
    kept = json.loads(note.read_text())
    assert kept["measured"] == {
        "onnxruntime": {"best_ms": 18.0, "difference": 0.0},
        "openvino": {"best_ms": 10.0, "difference": 0.0},
    }
    assert kept["depends_on"]["engine"] == "an_engine"
    assert kept["depends_on"]["processor"] == processor()


def test_all_networks_of_an_engine_are_measured_together(tmp_path: Path, wishes: Wishes) -> None:
    folder = write_engine(tmp_path, SEGMENTATION | {"locate": LOCATE})
    runtimes = machine(onnxruntime=0.010, openvino=0.001)
    loaded_on(with_vector(folder), wishes, runtimes)
    files = [name for name, _ in runtimes["onnxruntime"].loaded]
    assert files == ["model.onnx", "locate.onnx"]
    [note] = (tmp_path / "cache" / "speeds").glob("*.json")
    assert json.loads(note.read_text())["measured"]["onnxruntime"]["best_ms"] == 20.0


@pytest.mark.parametrize("threads", [1, 2])
def test_another_machine_is_measured_anew(threads: int, manifest: Manifest, wishes: Wishes) -> None:
    loaded_on(manifest, wishes, machine(onnxruntime=0.018, openvino=0.010))
    turned = machine(onnxruntime=0.010, openvino=0.018)
    choice = choose(manifest, wishes, threads, turned, seconds=turned["openvino"].clock)
    assert choice is not None
    assert choice.runtime == {1: "onnxruntime", 2: "openvino"}[threads]


def test_a_note_that_was_torn_is_measured_anew(
    manifest: Manifest, wishes: Wishes, tmp_path: Path
) -> None:
    loaded_on(manifest, wishes, machine(onnxruntime=0.018, openvino=0.010))
    [note] = (tmp_path / "cache" / "speeds").glob("*.json")
    for torn in ('{"depends_on"', "[]", json.dumps(json.loads(note.read_text()) | {"measured": 1})):
        note.write_text(torn)
        turned = machine(onnxruntime=0.010, openvino=0.018)
        assert loaded_on(manifest, wishes, turned) == "onnxruntime"


def test_nothing_is_measured_for_those_who_only_ask(manifest: Manifest, wishes: Wishes) -> None:
    runtimes = machine(onnxruntime=0.018, openvino=0.010)
    assert choose(manifest, wishes, 2, runtimes, measures=False) is None
    assert runtimes["openvino"].loaded == []


def test_where_nothing_can_be_kept_the_default_is_taken(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    wishes = Wishes(cache_dir=tmp_path / "file")
    choice = choose(manifest, wishes, 2, machine(onnxruntime=0.018, openvino=0.010))
    assert choice is not None
    assert choice.runtime == "onnxruntime"
    assert "cannot be kept" in choice.reason


def test_a_wrong_answer_is_never_chosen_however_fast(manifest: Manifest, wishes: Wishes) -> None:
    runtimes = machine(onnxruntime=0.018, openvino=0.001)
    runtimes["openvino"].network = lambda x: right(x) + 0.01
    choice = choose(manifest, wishes, 2, runtimes, seconds=runtimes["openvino"].clock)
    assert choice is not None
    assert choice.runtime == "onnxruntime"
    assert "differ by up to 0.01, more than 0.001" in choice.refused["openvino"]
    assert runtimes["openvino"].open == 0, "what is not used is closed"
    again = choose(manifest, wishes, 2, runtimes)
    assert again == choice


def test_no_number_is_a_wrong_answer(manifest: Manifest, wishes: Wishes) -> None:
    runtimes = machine(onnxruntime=0.018, openvino=0.001)
    runtimes["openvino"].network = lambda x: right(x) * np.nan
    choice = choose(manifest, wishes, 2, runtimes, seconds=runtimes["openvino"].clock)
    assert choice is not None
    assert choice.runtime == "onnxruntime"


def test_one_that_cannot_run_the_file_is_not_chosen(manifest: Manifest, wishes: Wishes) -> None:
    runtimes = machine(onnxruntime=0.018, openvino=0.001)
    runtimes["openvino"].refuses = EngineError("it lacks the operator Unheard")
    choice = choose(manifest, wishes, 2, runtimes, seconds=runtimes["openvino"].clock)
    assert choice is not None
    assert choice.refused == {"openvino": "it lacks the operator Unheard"}


def test_a_gpu_is_taken_once_its_answers_are_right(manifest: Manifest, wishes: Wishes) -> None:
    runtimes = machine(onnxruntime=0.018, tensorrt=0.001)
    assert loaded_on(manifest, wishes, runtimes) == "tensorrt"
    assert len(runtimes["tensorrt"].loaded) == 1


def test_a_gpu_with_wrong_answers_is_left_for_the_processor(
    manifest: Manifest, wishes: Wishes
) -> None:
    runtimes = machine(onnxruntime=0.018, tensorrt=0.001)
    runtimes["tensorrt"].network = lambda x: right(x) + 1
    networks, choice, _ = load_networks(manifest, wishes, threads=2, runtimes=runtimes)
    assert networks.main[0].description == "onnxruntime 1.0"
    assert "differ by up to 1" in choice.refused["tensorrt"]
    assert runtimes["tensorrt"].open == 0


def test_a_gpu_that_is_busy_is_waited_for(manifest: Manifest, wishes: Wishes) -> None:
    runtimes = machine(onnxruntime=0.018, tensorrt=0.001)
    runtimes["tensorrt"].refuses = EngineUnavailable("out of memory")
    with pytest.raises(EngineUnavailable):
        load_networks(manifest, wishes, threads=2, runtimes=runtimes)


def test_a_named_gpu_is_never_replaced(manifest: Manifest) -> None:
    runtimes = machine(onnxruntime=0.018, tensorrt=0.001)
    runtimes["tensorrt"].refuses = EngineError("it lacks the operator Unheard")
    with pytest.raises(EngineError, match="Unheard"):
        load_networks(manifest, Wishes(runtime="tensorrt"), threads=2, runtimes=runtimes)


def test_a_named_one_that_is_missing_is_a_mistake(manifest: Manifest) -> None:
    runtimes = {
        "onnxruntime": Kind("onnxruntime"),
        "openvino": Kind("openvino", lacks="install it"),
    }
    with pytest.raises(ConfigError, match="shall run on openvino, but install it"):
        load_networks(manifest, Wishes(runtime="openvino"), threads=2, runtimes=runtimes)


def test_a_network_is_loaded_as_the_engine_allows(manifest: Manifest, tmp_path: Path) -> None:
    wishes = Wishes(runtime="kserve", server_url="http://host:8000", cache_dir=tmp_path, device=1)
    runtimes = machine(kserve=0.01)
    load_networks(manifest, wishes, threads=3, runtimes=runtimes)
    [(file, options)] = runtimes["kserve"].loaded
    assert file == "model.onnx"
    assert (options.threads, options.device, options.cache_dir) == (3, 1, tmp_path)
    assert options.server_url == "http://host:8000"
    assert options.precisions == {Precision.FP32, Precision.FP16}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"input": "z"}, "model.onnx has no input z, but x"),
        ({"output": "z"}, "model.onnx has no output z, but y"),
    ],
)
def test_a_name_that_the_network_has_not_is_told(
    changed: dict[str, str], words: str, tmp_path: Path
) -> None:
    folder = write_engine(tmp_path, CLASSIFICATION, model=CLASSIFICATION["model"] | changed)
    with pytest.raises(EngineError, match=words):
        load_networks(
            with_vector(folder),
            Wishes(runtime="onnxruntime"),
            threads=1,
            runtimes=machine(onnxruntime=0.01),
        )
