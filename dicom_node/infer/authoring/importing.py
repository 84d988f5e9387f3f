"""An engine folder of a model: complete, loadable, and refusing every study until it is edited."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from dicom_node.errors import ConfigError
from dicom_node.infer.authoring.keras_file import export_onnx
from dicom_node.infer.authoring.layout import put_channels_first
from dicom_node.infer.authoring.shapes import has_channels_last, told_by
from dicom_node.infer.authoring.skeleton import Answers, card_of, manifest_of
from dicom_node.infer.engine_folders import FILE_NAME, load_manifest
from dicom_node.infer.manifest import NAME_PATTERN
from dicom_node.infer.runtimes.onnx_file import read_onnx
from dicom_node.infer.runtimes.port import LoadOptions
from dicom_node.infer.runtimes.registry import DEFAULT, RUNTIMES

_MODEL, _VECTOR, _CARD = "model.onnx", "test_vector.npz", "card.md"
_SEED = 1


@dataclass(frozen=True)
class Imported:
    """A folder that was made, and what was found out on the way."""

    folder: Path
    told: tuple[str, ...]


def import_model(source: Path, name: str, engines_dir: Path) -> Imported:
    """Make an engine folder of a model.

    The test vector is seeded noise with what onnxruntime answers to it: it shows that other
    runtimes compute the same, not that the network is any good.

    Parameters
    ----------
    source : Path
        A file of ONNX or of Keras (.keras).
    name : str
        Of the engine and its folder.
    engines_dir : Path

    Raises
    ------
    ConfigError
        If the name is none, or that of an engine; if there is no such file, or the folder cannot
        be written.
    EngineError
        If no engine can be made of the model; the message says what would have to be otherwise.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(
            f"{name} is no name for an engine",
            hint="up to 32 small letters, digits and _, a letter first",
        )
    if not source.is_file():
        raise ConfigError(f"{source} is no file", hint="name a .onnx or a .keras file")
    with _folder(engines_dir, name) as folder:
        model = folder / _MODEL
        told = [*_put(source, model)]
        declared = read_onnx(model)
        shapes = told_by(declared, source.name)
        told.append(f"opset {declared.opset}, made by {declared.producer or 'an unknown program'}")
        told += [f"input {each.name}: {each}" for each in declared.ends.inputs]
        told += [f"output {each.name}: {each}" for each in declared.ends.outputs]
        given = np.random.default_rng(_SEED).normal(0.0, 1.0, shapes.probe_shape)
        given = given.astype(np.float32)
        runtime = RUNTIMES[DEFAULT].load(model, LoadOptions(threads=1))
        answer = runtime.run({shapes.input.name: given})[shapes.output.name]
        answers = Answers.of(answer)
        told.append(f"answers {answers.gives}, {answers.classes_are}: {answer.shape}")
        np.savez_compressed(folder / _VECTOR, input=given, output=answer)
        digest = sha256(model.read_bytes()).hexdigest()
        text = manifest_of(name, source.name, digest, declared, shapes, answers)
        (folder / FILE_NAME).write_text(text, "utf-8")
        (folder / _CARD).write_text(card_of(name, source.name), "utf-8")
        load_manifest(folder)
    return Imported(engines_dir / name, tuple(told))


def _put(source: Path, model: Path) -> Iterator[str]:
    """Write the ONNX of a model, its channels in front; yield what was done to it."""
    exported = source
    if source.suffix == ".keras":
        exported = model.with_name("exported.onnx")
        export_onnx(source, exported)
        yield "exported from Keras"
    if has_channels_last(read_onnx(exported)):
        put_channels_first(exported, model)
        yield "put its channels in front of rows and columns, as the node lays out its tensors"
    else:
        shutil.copyfile(exported, model)
    if exported != source:
        exported.unlink()


@contextmanager
def _folder(engines_dir: Path, name: str) -> Iterator[Path]:
    """Yield a folder of this name to fill; it comes to its place whole or not at all."""
    if (engines_dir / name).exists():
        raise ConfigError(f"{engines_dir / name} is there already", hint="choose another --name")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=engines_dir) as making:
            folder = Path(making) / name
            folder.mkdir()
            yield folder
            folder.rename(engines_dir / name)
    except OSError as error:
        raise ConfigError(f"{engines_dir} cannot be written to: {error.strerror}") from error
