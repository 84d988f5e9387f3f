"""Every name of TensorRT's that we use is one of its real classes'; our stand-in has no others.

mypy keeps the package to what `api.py` declares. Here each declared name is looked up in the real
classes of TensorRT-RTX, which has all of them, and of TensorRT lean, which is TensorRT 11 without
the builder. Names that are asked for by `getattr` are found in the source.
"""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import dicom_node.infer.plans
from dicom_node.infer.plans import api
from tests.stand_in_tensorrt import building, running
from tests.unit.infer.plans.real_tensorrt import require

ROOT = Path(__file__).parents[4]
PACKAGE = Path(dicom_node.infer.plans.__file__).parent

NOT_IN_LEAN = {"Builder", "IBuilderConfig", "INetworkDefinition", "OnnxParser", "ParserError"}
"""What only builds."""

BY_GETATTR = {
    "STRONGLY_TYPED": "NetworkDefinitionCreationFlag",
    "RUNTIME_ACTIVATION_RESIZE_10_10": "PreviewFeature",
    "device_memory_size_v2": "ICudaEngine",
}
"""Asked for because older versions do not have them."""
ONLY_IN_8 = {"EXPLICIT_BATCH", "PROFILE_SHARING_0806", "FP16", "INT8", "device_memory_size"}


def protocols() -> dict[str, type]:
    """Return the classes that api.py declares, but for the module itself."""
    found = {name: one for name, one in vars(api).items() if inspect.isclass(one)}
    return {
        name: one
        for name, one in found.items()
        if one.__module__ == api.__name__ and name == one.__name__ != "TensorRt"
    }


def declared(protocol: type) -> set[str]:
    names = {*vars(protocol), *protocol.__annotations__}
    return {name for name in names if not name.startswith("_")}


@cache
def real(module: str) -> dict[str, set[str]]:
    """Return the names in each class of the real module; those of the module under ''."""
    require(module)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.unit.infer.plans.real_tensorrt", "attributes", module),
            *(*protocols(), "NetworkDefinitionCreationFlag", "PreviewFeature"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name: set(names) for name, names in json.loads(done.stdout).items()}


@pytest.mark.parametrize("module", ["tensorrt_rtx", "tensorrt_lean"])
@pytest.mark.parametrize("name", protocols())
def test_what_is_declared_is_there(name: str, module: str) -> None:
    if module == "tensorrt_lean" and name in NOT_IN_LEAN:
        assert name not in real(module)
    else:
        assert declared(protocols()[name]) - real(module)[name] == set()


@pytest.mark.parametrize("module", ["tensorrt_rtx", "tensorrt_lean"])
def test_the_module_has_what_is_asked_of_it(module: str) -> None:
    asked = declared(api.TensorRt)
    asked -= NOT_IN_LEAN | {"NetworkDefinitionCreationFlag"} if "lean" in module else set()
    assert asked - real(module)[""] == set()


def trees() -> Iterator[ast.Module]:
    for file in PACKAGE.glob("*.py"):
        if file.name != "api.py":
            yield ast.parse(file.read_text("utf-8"))


def test_what_is_declared_is_used() -> None:
    used = {
        node.attr for tree in trees() for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    }
    for name, protocol in protocols().items():
        # A logger's method is called by TensorRT, not by us.
        assert name == "ILogger" or declared(protocol) - used == set(), name


def strings() -> Iterator[str]:
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def asked_for() -> set[str]:
    """Return the names that are asked for by getattr and hasattr.

    Those in tables are found as the strings in capitals: there are no others in this package.
    """
    found = {
        one.value
        for tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr")
        for one in node.args[1:2]
        if isinstance(one, ast.Constant) and isinstance(one.value, str)
    }
    return found | {
        one for one in strings() if one.isidentifier() and one.isupper() and len(one) > 3
    }


def test_names_that_are_asked_for_are_those_of_this_version_or_of_8() -> None:
    assert asked_for() == BY_GETATTR.keys() | ONLY_IN_8
    for name, owner in BY_GETATTR.items():
        assert name in real("tensorrt_rtx")[owner]
    everything = set().union(*real("tensorrt_rtx").values(), *real("tensorrt_lean").values())
    assert ONLY_IN_8 & everything == set()


@pytest.mark.parametrize("module", [building, running])
def test_the_stand_in_has_nothing_that_the_real_one_has_not(module: ModuleType) -> None:
    classes: dict[str, Any] = {
        name: one
        for name, one in vars(module).items()
        if inspect.isclass(one) and one.__module__ == module.__name__ and not name.startswith("_")
    }
    assert len(classes) > 2
    for name, one in classes.items():
        names = {n for n in dir(one) if not n.startswith("_")} - set(dir(bytes)) - ONLY_IN_8
        assert names - real("tensorrt_rtx")[name.replace("Old", "I")] == set()
