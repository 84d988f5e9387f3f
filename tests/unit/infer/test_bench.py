"""An engine is measured in a process of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dicom_node.errors import EngineError
from dicom_node.infer.bench import bench
from dicom_node.infer.runtimes.choice import Wishes

ENGINE = Path(__file__).parents[3] / "engines" / "cxr_quality"


def test_an_engine_is_measured() -> None:
    found = bench(ENGINE, "onnxruntime", Wishes(), threads=1, runs=3)
    assert found.description.startswith("onnxruntime ")
    assert 0 < found.best_ms <= found.median_ms
    assert found.first_ms > 0
    assert found.load_ms > 0
    assert 1e6 < found.memory_bytes < 1e9


def test_what_fails_there_is_told_here(tmp_path: Path) -> None:
    folder = tmp_path / "cxr_quality"
    shutil.copytree(ENGINE, folder)
    (folder / "model.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(EngineError, match=r"model\.onnx cannot be loaded"):
        bench(folder, "onnxruntime", Wishes(), threads=1, runs=1)
