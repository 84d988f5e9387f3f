"""Who may know whom: the picture is `LAYERS`, and every import of the package keeps to it.

A module may import from the lines above its own and from its own folder, never sideways; each
foreign library has its door. A new module needs a place in the picture first.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import dicom_node

LAYERS = (
    ("dicom_node", "errors", "uid", "clock", "backoff", "packed"),
    ("lifecycle", "logs", "protocol"),
    ("model", "finding", "verdict", "priors", "trials"),
    ("claims",),
    ("conditions", "elements", "headers", "geometry", "plain_values", "pictures"),
    ("part10", "lone_elements"),
    ("file_walk", "header_reader"),
    ("attributes",),
    ("config", "data_sets", "decoders", "multiframe", "slices"),
    ("certificates",),
    ("ledger", "store", "scu", "coerce"),
    ("executor", "history"),
    ("receive", "assemble", "route", "infer", "encode", "deliver", "prior"),
    ("gate",),
    ("inference", "comparer"),
    ("outgoing",),
    ("worker",),
    ("receiver", "coordinator", "engine_worker"),
    ("receivers", "engine_workers", "shadow_worker", "reloading", "plan"),
    ("node",),
    ("cli",),
    ("__main__",),
)
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
HARNESS_MAY = {part for layer in LAYERS[:5] for part in layer} | {"scu"}
DOORS = {
    "pynetdicom": ("receive", "scu", "harness"),
    "highdicom": ("encode", "gate.tables"),
    "sqlalchemy": ("ledger",),
    "alembic": ("ledger",),
    "xxhash": ("store", "receive"),
    "dicomanonymizer": ("coerce",),
    "onnxruntime": ("infer.runtimes",),
    "pycuda": ("infer.gpu",),
    "openvino": ("infer.runtimes.openvino",),
    "onnx": ("infer.plans", "infer.authoring.layout"),
    "keras": ("infer.authoring.keras_file",),
    "PIL": ("pictures", "encode", "harness.pictures"),
    "fpdf": ("encode.pages",),
    "jax": (),
    "matplotlib": (),
    "typer": ("cli", "harness.demo"),
    "rich": ("cli", "harness.demo"),
    "engines": (),  # recipes know the node; the node only reads the folders that they write
}


def broken_rules(sources: Mapping[str, str]) -> list[str]:
    """Return what breaks the picture; `sources` is the text of each module by its full name."""
    graph = {name: set(_imports(name, sources)) for name in sources}
    broken = [
        f"{name} may not import {imported}"
        for name, names in sorted(graph.items())
        for imported in sorted(names)
        if not _allowed(name, imported)
    ]
    try:
        TopologicalSorter({name: graph[name] & set(graph) for name in graph}).prepare()
    except CycleError as error:
        broken.append("import cycle: " + " -> ".join(error.args[1]))
    return broken


def _imports(name: str, sources: Mapping[str, str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(sources[name])):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            for alias in node.names:  # `from package import module` means the module
                module = f"{node.module}.{alias.name}"
                yield module if module in sources else str(node.module)


def _allowed(name: str, imported: str) -> bool:
    own = name.removeprefix("dicom_node.")
    if not imported.startswith("dicom_node"):
        doors = DOORS.get(imported.split(".")[0])
        return doors is None or any(f"{own}.".startswith(f"{door}.") for door in doors)
    mine, theirs = own.split(".")[0], imported.removeprefix("dicom_node.").split(".")[0]
    if mine == theirs or own == "harness.demo":
        return True
    if mine == "harness":
        return theirs in HARNESS_MAY
    return mine in RANK and theirs in RANK and RANK[theirs] < RANK[mine]


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    root = Path(dicom_node.__file__).parent
    files = [file for file in root.rglob("*.py") if "migrations" not in file.parts]
    names = {file: ".".join(file.relative_to(root.parent).with_suffix("").parts) for file in files}
    return {names[file].removesuffix(".__init__"): file.read_text("utf-8") for file in files}


def test_every_import_points_the_right_way(sources: dict[str, str]) -> None:
    assert broken_rules(sources) == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("dicom_node.receive.bad", "from dicom_node.route import rules"),
        ("dicom_node.store.bad", "import dicom_node.infer.volume"),
        ("dicom_node.model", "def late():\n    from dicom_node import geometry"),
        ("dicom_node.ledger.bad", "from dicom_node.store.local import LocalStore"),
        ("dicom_node.harness.bad", "from dicom_node.ledger import schema"),
        ("dicom_node.deliver.bad", "from dicom_node.harness.archive import Archive"),
        ("dicom_node.newcomer", "from dicom_node import errors"),
        ("dicom_node.cli.bad", "from pynetdicom import AE"),
        ("dicom_node.infer.bad", "import onnxruntime as ort"),
        ("dicom_node.infer.authoring.bad", "def late():\n    from engines.recipes import train"),
        ("dicom_node.cli.bad", "import engines.recipes.networks"),
        ("dicom_node.infer.gate", "from onnx import ModelProto"),
        ("dicom_node.infer.runtimes.bad", "def late():\n    import pycuda.driver"),
        ("dicom_node.harness.scanner", "import rich.progress"),
        ("dicom_node.cli.bad", "from engines.recipes.samples import Samples"),
    ],
)
def test_a_planted_bad_import_is_found(name: str, source: str, sources: dict[str, str]) -> None:
    broken = broken_rules(sources | {name: source})
    assert any(rule.startswith(f"{name} may not import ") for rule in broken)


def test_a_planted_cycle_is_found(sources: dict[str, str]) -> None:
    planted = {
        "dicom_node.route.egg": "from dicom_node.route import hen",
        "dicom_node.route.hen": "from dicom_node.route import egg",
    }
    (broken,) = broken_rules(sources | planted)
    assert broken.startswith("import cycle: dicom_node.route.")
