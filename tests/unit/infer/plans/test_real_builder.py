"""The real TensorRT-RTX builds our networks without a GPU, and says in words what it cannot."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.unit.infer.plans.networks import network, node, quantized, saved
from tests.unit.infer.plans.real_tensorrt import require

ROOT = Path(__file__).parents[4]
ENGINES = ROOT / "engines"

Shapes = Mapping[str, Sequence[tuple[int, ...]]]
"""The smallest and the largest of each input."""

BUNDLED: dict[str, tuple[str, Sequence[tuple[int, ...]]]] = {
    "ct_lungs/model.onnx": ("image_hu", [(1, 1, 128, 128), (16, 1, 128, 128)]),
    "cxr_pneumonia/model.onnx": ("image_0_255", [(1, 1, 28, 28), (8, 1, 28, 28)]),
    "ct_quality/model.onnx": ("image_hu", [(1, 1, 128, 128), (8, 1, 128, 128)]),
    "cxr_quality/model.onnx": ("image_0_255", [(1, 1, 64, 64), (8, 1, 64, 64)]),
    "mr_brain/model.onnx": ("t1", [(1, 1, 32, 32, 32), (1, 1, 256, 256, 256)]),
    "mr_brain/locate.onnx": ("t1", [(1, 1, 32, 32, 32), (1, 1, 256, 256, 256)]),
}


def request(file: Path, shapes: Shapes, precision: str = "fp32", **more: Any) -> dict[str, Any]:
    profiles = {name: [low, high, high] for name, (low, high) in shapes.items()}
    return {"file": str(file), "precision": precision, "profiles": profiles, **more}


def built(*requests: dict[str, Any]) -> list[dict[str, Any]]:
    require("tensorrt_rtx")
    done = subprocess.run(
        # What the next version drops is deprecated in this one, and must not be used.
        [sys.executable, "-W", "error", "-m", "tests.unit.infer.plans.real_tensorrt", "build"],
        input=json.dumps(requests),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def test_every_bundled_network_is_built_in_both_precisions() -> None:
    wanted = [
        request(ENGINES / file, {name: shapes}, precision)
        for file, (name, shapes) in BUNDLED.items()
        for precision in ("fp32", "fp16")
    ]
    assert {str(file.relative_to(ENGINES)) for file in ENGINES.glob("*/*.onnx")} == set(BUNDLED)
    answers = built(*wanted)
    assert [one for one in answers if "error" in one] == []
    assert [one["precision"] for one in answers] == ["fp32", "fp16"] * len(BUNDLED)
    assert [one["warnings"] for one in answers] == [[]] * len(answers)
    assert all(one["bytes"] > 100_000 for one in answers)


SHAPES: Shapes = {"x": [(1, 1, 8, 8), (4, 1, 8, 8)]}
VERSION = r"TensorRT-RTX \d+\.\d+\.\d+\.\d+"


def test_operators_that_it_lacks_are_named_with_their_nodes(tmp_path: Path) -> None:
    nodes = [
        node("Det", ["x"], ["a"], name="first_det"),
        node("Unsqueeze", ["a", "axes"], ["b"]),
        node("Bernoulli", ["b"], ["y"]),
    ]
    file = saved(network(nodes, {"axes": np.array([2])}), tmp_path)
    (answer,) = built(request(file, SHAPES))
    assert answer["kind"] == "EngineError"
    assert re.fullmatch(
        rf"model\.onnx: operator Det at node first_det is not supported by {VERSION}; "
        rf"operator Bernoulli at node 2 of the graph is not supported by {VERSION}",
        answer["error"],
    )


def test_an_operator_of_somebody_elses_is_named_with_what_is_missing(tmp_path: Path) -> None:
    file = saved(network([node("Own", ["x"], ["y"], name="mine", domain="own")]), tmp_path)
    (answer,) = built(request(file, SHAPES))
    assert re.match(
        rf"model\.onnx: operator Own at node mine is not supported by {VERSION}: .*"
        "Plugin not found",
        answer["error"],
    )


def test_what_needs_more_scratch_memory_than_there_is_says_so() -> None:
    file = "mr_brain/model.onnx"
    shapes = dict([BUNDLED[file]])
    ample, tight = built(
        request(ENGINES / file, shapes),
        request(ENGINES / file, shapes, workspace_bytes=1 << 30),
    )
    assert "error" not in ample
    assert tight["kind"] == "DeviceFull"
    assert re.match(rf"model\.onnx cannot be built by {VERSION}: .*OutOfMemory", tight["error"])


def test_a_network_with_explicit_pairs_is_built_in_int8_whatever_is_allowed(
    tmp_path: Path,
) -> None:
    file = saved(quantized(), tmp_path)
    for answer in built(request(file, SHAPES, "fp32"), request(file, SHAPES, "fp16")):
        assert answer["precision"] == "int8"
        assert answer["bytes"] > 0


def test_quantised_parts_that_it_refuses_or_would_misread_are_told_in_words(
    tmp_path: Path,
) -> None:
    """It takes UINT8 for INT8 and only warns: numbers above 127 would be cut off."""
    files = [
        saved(quantized(np.uint8), tmp_path, "unsigned.onnx"),
        saved(quantized(bias="quantised"), tmp_path, "bias.onnx"),
    ]
    unsigned, bias = built(*(request(file, SHAPES) for file in files))
    advice = "quantise with symmetric INT8 activations and weights in QDQ form"
    assert unsigned["error"].startswith(
        "unsigned.onnx: TensorRT cannot take it: QuantizeLinear at quantise is UINT8, not INT8;"
    )
    assert bias["error"].startswith(
        "bias.onnx: TensorRT cannot take it: DequantizeLinear at bias has a quantised bias (INT32);"
    )
    assert advice in unsigned["error"]
    assert advice in bias["error"]
