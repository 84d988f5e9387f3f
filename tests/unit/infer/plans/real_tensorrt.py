"""The real TensorRT-RTX and TensorRT lean, asked in a process of their own; one JSON object.

    python -m tests.unit.infer.plans.real_tensorrt attributes MODULE CLASS...
    python -m tests.unit.infer.plans.real_tensorrt build < REQUESTS

They must not meet the fake driver of other tests, and one of them ends a process that makes a
`Runtime` on a machine without a GPU.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

WORKSPACE_BYTES = 8 << 30


def require(module: str) -> None:
    """Skip the test that asks where the module is not installed; with CI=true, fail."""
    if find_spec(module) is None:
        told = f"{module} is not installed; it is a part of the test extra, on Linux x86_64"
        if os.environ.get("CI") == "true":
            pytest.fail(told)
        pytest.skip(told)


def attributes(module: str, classes: list[str]) -> dict[str, Any]:
    """Return the names in each class; those of the module itself under ''."""
    trt = import_module(module)
    found = {name: dir(getattr(trt, name)) for name in classes if hasattr(trt, name)}
    return {"": dir(trt), **found}


def build(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Build each file that is asked for; return what came out."""
    from dicom_node.errors import EngineError
    from dicom_node.infer.plans.builder import build_plan
    from dicom_node.infer.plans.library import import_library
    from dicom_node.infer.plans.shapes import plan_shapes
    from dicom_node.infer.plans.source import read_source
    from dicom_node.infer.runtimes.port import Precision, Profile

    def only_rtx(name: str) -> Any:
        if name != "tensorrt_rtx":
            raise ImportError("not here")
        return import_module(name)

    library = import_library(only_rtx)

    def one(asked: dict[str, Any]) -> dict[str, Any]:
        profiles = {
            name: Profile(*(tuple(side) for side in sides))
            for name, sides in asked["profiles"].items()
        }
        workspace_bytes = asked.get("workspace_bytes", WORKSPACE_BYTES)
        try:
            source = read_source(Path(asked["file"]), Precision(asked["precision"]))
            shapes = plan_shapes(source.name, source.inputs, profiles)
            built = build_plan(library, source, shapes, workspace_bytes=workspace_bytes)
        except EngineError as error:
            return {"error": error.message, "kind": type(error).__name__}
        return {
            "bytes": len(built.plan),
            "build_s": built.seconds,
            "warnings": built.warnings,
            "precision": source.precision,
        }

    return [one(asked) for asked in requests]


if __name__ == "__main__":
    if sys.argv[1] == "attributes":
        print(json.dumps(attributes(sys.argv[2], sys.argv[3:])))
    else:
        print(json.dumps(build(json.load(sys.stdin))))
