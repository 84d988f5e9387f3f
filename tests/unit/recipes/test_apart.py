"""Recipes stay where they are used: neither in the package that is installed nor in the image."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def goes_to_the_image(path: str) -> bool:
    """Return what .dockerignore says: the last line that fits the path or a folder above it."""
    parts = path.split("/")
    above = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    kept = True
    for line in (ROOT / ".dockerignore").read_text("ascii").splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and any(fnmatch(one, pattern) for one in above):
            kept = line.startswith("!")
    return kept


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("engines/cxr_quality/model.onnx", True),
        ("engines/ct_lungs/engine.yaml", True),
        ("dicom_node/node.py", True),
        ("engines/recipes/train.py", False),
        ("engines/recipes/data/pneumoniamnist_28.npz", False),
        ("engines/recipes/book/intro.yaml", False),
        ("tests/conftest.py", False),
    ],
)
def test_the_image_gets_engines_but_no_recipes(path: str, kept: bool) -> None:
    assert (ROOT / path).exists()
    assert goes_to_the_image(path) is kept


def test_the_package_has_no_recipes() -> None:
    find = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    assert find["packages"]["find"]["include"] == ["dicom_node*"]


def test_the_node_runs_without_keras_and_its_like() -> None:
    """Whatever a command imports: with all of it loaded, nothing of training is."""
    code = (
        "import sys, dicom_node.node, dicom_node.cli.app, dicom_node.worker\n"
        "print(sorted({'keras', 'jax', 'matplotlib', 'engines'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
