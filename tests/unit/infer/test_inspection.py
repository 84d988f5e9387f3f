"""What runtimes make of an engine: compared, remembered, prepared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import EngineError, EngineUnavailable
from dicom_node.infer.engine_folders import load_manifest
from dicom_node.infer.inspection import Built, Parity, Verified, build, stand, to_ask, verify
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.networks import choose
from dicom_node.infer.runtimes.choice import Wishes
from dicom_node.infer.runtimes.port import LoadOptions
from tests.unit.infer.engine_folders import CLASSIFICATION, write_engine
from tests.unit.infer.runtimes.kinds import Kind, right

NOW = 1_800_000_000.0


@dataclass
class Planner(Kind):
    """A runtime that plans ahead."""

    def prepare(self, file: Path, options: LoadOptions) -> str:
        if self.refuses:
            raise self.refuses
        return f"a plan of {file.name} for {options.threads} threads"


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    folder = write_engine(tmp_path, CLASSIFICATION)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez(folder / "test_vector.npz", input=x, output=right(x))
    return load_manifest(folder)


@pytest.fixture
def wishes(tmp_path: Path) -> Wishes:
    return Wishes(cache_dir=tmp_path / "cache")


def kinds() -> dict[str, Kind]:
    wrong = Kind("openvino", network=lambda x: right(x) + 0.5)
    broken = Kind("tensorrt", refuses=EngineUnavailable("out of memory", hint="wait"))
    return {"onnxruntime": Kind("onnxruntime"), "openvino": wrong, "tensorrt": broken}


def test_each_runtime_is_compared_with_the_test_vector(manifest: Manifest, wishes: Wishes) -> None:
    asked = kinds()
    first, wrong, broken = verify(manifest, asked, wishes, 1, NOW)
    assert first == Verified("onnxruntime", "onnxruntime 1.0", 0.0, "")
    assert (wrong.description, wrong.difference) == ("openvino 1.0", None)
    assert "model.onnx: numbers differ by up to 0.5, more than 0.001" in wrong.problem
    assert broken == Verified("tensorrt", "", None, "out of memory; wait")
    assert [kind.open for kind in asked.values()] == [0, 0, 0]


def test_what_was_right_is_remembered_until_the_model_changes(
    manifest: Manifest, wishes: Wishes
) -> None:
    list(verify(manifest, kinds(), wishes, 1, NOW))
    runtimes = {"onnxruntime": Kind("onnxruntime")}
    standing = stand(manifest, wishes, 1, runtimes)
    assert standing.parities == {"onnxruntime": Parity("onnxruntime 1.0", 0.0, NOW)}
    changed = replace(manifest, model=replace(manifest.model, sha256="0" * 64))
    assert stand(changed, wishes, 1, runtimes).parities == {}


def test_a_measurement_is_a_comparison_too(manifest: Manifest, wishes: Wishes) -> None:
    runtimes = {"onnxruntime": Kind("onnxruntime"), "openvino": Kind("openvino")}
    assert stand(manifest, wishes, 1, runtimes).choice is None
    choice = choose(manifest, wishes, 1, runtimes)
    standing = stand(manifest, wishes, 1, runtimes)
    assert standing.choice == choice
    assert standing.parities["openvino"] == Parity("openvino", 0.0, None)


def test_nothing_has_to_be_kept(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for cache_dir in (None, tmp_path / "file"):
        wishes = Wishes(cache_dir=cache_dir)
        [found] = verify(manifest, {"onnxruntime": Kind("onnxruntime")}, wishes, 1, NOW)
        assert found.problem == ""
        assert stand(manifest, wishes, 1, {"onnxruntime": Kind("onnxruntime")}).parities == {}


def test_a_model_that_was_changed_is_not_compared(manifest: Manifest, wishes: Wishes) -> None:
    (manifest.folder / "model.onnx").write_bytes(b"another")
    with pytest.raises(EngineError, match="has SHA-256"):
        list(verify(manifest, kinds(), wishes, 1, NOW))


def test_an_engine_that_cannot_run_here_says_why(manifest: Manifest) -> None:
    runtimes = {
        "onnxruntime": Kind("onnxruntime"),
        "openvino": Kind("openvino", lacks="install it"),
    }
    standing = stand(manifest, Wishes(runtime="openvino"), 1, runtimes)
    assert standing.choice is None
    assert standing.problem == "an_engine shall run on openvino, but install it"


def test_only_those_are_asked_that_can_answer() -> None:
    runtimes = {
        "onnxruntime": Kind("onnxruntime"),
        "openvino": Kind("openvino", lacks="install it"),
        "kserve": Kind("kserve"),
        "null": Kind("null"),
    }
    usable, missing = to_ask(Wishes(), runtimes)
    assert list(usable) == ["onnxruntime"]
    assert missing == {"openvino": "install it", "kserve": "infer.server_url names no server"}
    usable, _ = to_ask(Wishes(server_url="http://host:8000"), runtimes)
    assert list(usable) == ["onnxruntime", "kserve"]


def test_those_that_plan_ahead_do_so(manifest: Manifest, wishes: Wishes) -> None:
    planners = {"onnxruntime": Kind("onnxruntime"), "tensorrt": Planner("tensorrt")}
    assert list(build(manifest, planners, wishes, 3)) == [
        Built("tensorrt", "model.onnx", "a plan of model.onnx for 3 threads", "")
    ]
    lacking = {"tensorrt": Planner("tensorrt", refuses=EngineError("it lacks Unheard"))}
    assert list(build(manifest, lacking, wishes, 3)) == [
        Built("tensorrt", "model.onnx", "", "it lacks Unheard")
    ]
