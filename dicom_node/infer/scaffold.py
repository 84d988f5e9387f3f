"""A new engine folder that runs at once, for its author to change piece by piece.

Its network is real and does something that anybody can check by eye: a segmentation draws what is
denser (or brighter) than a threshold, the other kinds say how bright an image is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ConfigError, StorageError
from dicom_node.finding import FindingKind
from dicom_node.infer.engine_folders import FILE_NAME, load_manifest
from dicom_node.infer.runtimes.onnxruntime import KIND
from dicom_node.infer.runtimes.port import LoadOptions
from dicom_node.infer.scaffold_text import CARD, LICENCE, Sees, manifest_text
from dicom_node.infer.tiny_onnx import Dimension, Network

INPUT, OUTPUT = "image", "answer"
WINDOW = (16, 32, 32)
SLAB_SLICES = 3
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_SCHEMA = "engine.schema.json"


@dataclass(frozen=True)
class Wanted:
    """What kind of engine it is to be, and what its network sees."""

    kind: FindingKind
    sees: Sees

    @property
    def is_segmentation(self) -> bool:
        return self.kind is FindingKind.SEGMENTATION

    @property
    def is_3d(self) -> bool:
        return self.sees in {Sees.WINDOW, Sees.WHOLE}


def new_engine(root: Path, name: str, wanted: Wanted) -> Path:
    """Write a new engine folder and return it.

    Parameters
    ----------
    root : Path
        The folder of engine folders.
    name : str
        Of the engine and of its folder.
    wanted : Wanted

    Raises
    ------
    ConfigError
        If the name is none, the folder exists, or no such engine can be made.
    StorageError
        If it cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name} is no name of an engine",
            hint="small letters, digits and _, at most 32, a letter first: my_engine",
        )
    folder = root / name
    network = network_of(wanted)
    try:
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(network)
        _write_test_vector(folder, wanted)
        digest = sha256(network).hexdigest()
        text = manifest_text(name, wanted.kind, wanted.sees, digest, _schema_for(folder))
        (folder / FILE_NAME).write_text(text, "utf-8")
        (folder / "card.md").write_text(CARD.format(name=name), "utf-8")
        (folder / "LICENSE").write_text(LICENCE, "utf-8")
    except FileExistsError as error:
        raise ConfigError(f"{folder} exists", hint="choose another name") from error
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written: {error.strerror}", hint="name another folder with --into"
        ) from error
    load_manifest(folder)
    return folder


def network_of(wanted: Wanted) -> bytes:
    """Return an ONNX file whose answers can be foretold."""
    network = Network("threshold" if wanted.is_segmentation else "brightness")
    seen = INPUT
    if wanted.sees is Sees.SLAB:
        middle = network.constant(np.array([SLAB_SLICES // 2], np.int64))
        seen = network.node("Gather", INPUT, middle, axis=1)
    if not wanted.is_segmentation:
        # of each channel: there is one
        seen = network.node("ReduceMean", seen, axes=[2, 3, 4][: _rank(wanted)], keepdims=0)
    if wanted.kind is FindingKind.REGRESSION:
        return network.model({INPUT: _shape(wanted)}, seen, OUTPUT, ["n", 1])
    level, steepness = _step(wanted)
    above = network.node("Sub", seen, network.number(level))
    likely = network.node("Sigmoid", network.node("Mul", above, network.number(steepness)))
    unlikely = network.node("Sub", network.number(1.0), likely)
    both = network.node("Concat", unlikely, likely, axis=1)
    voxels = _shape(wanted)[2:] if wanted.is_segmentation else ()
    return network.model({INPUT: _shape(wanted)}, both, OUTPUT, ["n", 2, *voxels])


def _step(wanted: Wanted) -> tuple[float, float]:
    """Return at which value the probability is 0.5, and how steeply it rises there."""
    if wanted.sees is Sees.IMAGE:
        return 0.5, 10.0
    return (-300.0, 0.02) if wanted.is_segmentation else (-500.0, 0.01)


def _rank(wanted: Wanted) -> int:
    return 3 if wanted.is_3d else 2


def _shape(wanted: Wanted) -> Sequence[Dimension]:
    channels = SLAB_SLICES if wanted.sees is Sees.SLAB else 1
    return ["n", channels, *["slices", "rows", "columns"][-_rank(wanted) :]]


def _write_test_vector(folder: Path, wanted: Wanted) -> None:
    sizes = (2, *_shape(wanted)[1:2], *WINDOW[-_rank(wanted) :])
    draw = np.random.default_rng(1)
    sample: NDArray[np.float32] = draw.random([int(size) for size in sizes]).astype(np.float32)
    if wanted.sees is not Sees.IMAGE:
        sample = (sample * 2000 - 1000).astype(np.float32)
    runtime = KIND.load(folder / "model.onnx", LoadOptions())
    answer = runtime.run({INPUT: sample})[OUTPUT]
    runtime.close()
    np.savez_compressed(folder / "test_vector.npz", input=sample, output=answer)


def _schema_for(folder: Path) -> str:
    """Return where an editor finds the schema, from the folder; empty where there is none."""
    near = Path("..", "..", "docs", _SCHEMA)
    return near.as_posix() if (folder / near).is_file() else ""
