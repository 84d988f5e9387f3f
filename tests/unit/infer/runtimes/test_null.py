"""The runtime that runs no network: zeros as large as an answer would be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from dicom_node.errors import EngineError
from dicom_node.infer.runtimes.null import Null
from dicom_node.infer.runtimes.port import NO_NETWORK
from tests.unit.infer.runtimes.models import save, save_small


def test_it_answers_zeros_of_the_right_shapes(tmp_path: Path) -> None:
    runtime = Null(save_small(tmp_path / "x.onnx"))
    answer = runtime.run({"x": np.ones((4, 3), np.float32)})
    assert list(answer) == ["more", "double"]
    for array in answer.values():
        assert array.shape == (4, 3)
        assert array.dtype == np.float32
        assert not array.any()
    runtime.close()


def test_it_says_what_it_is(tmp_path: Path) -> None:
    assert Null(save_small(tmp_path / "x.onnx")).description == NO_NETWORK


def test_it_does_not_guess_a_length(tmp_path: Path) -> None:
    node = helper.make_node("NonZero", ["x"], ["y"])
    runtime = Null(save(tmp_path / "x.onnx", [node], ["n"], {"y": [1, "many"]}))
    with pytest.raises(EngineError, match=r"does not tell how large y is \(float32 \[1, many\]\)"):
        runtime.run({"x": np.ones(4, np.float32)})


def test_an_exporter_may_have_lost_the_name_of_the_batch(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    runtime = Null(save(tmp_path / "x.onnx", [node], ["unk__1", 3], {"y": ["unk__2", 3]}))
    assert runtime.run({"x": np.ones((4, 3), np.float32)})["y"].shape == (4, 3)
