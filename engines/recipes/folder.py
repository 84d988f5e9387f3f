"""The folder of an engine: manifest, network, test vector, card, pictures and licence."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from string import Template
from textwrap import fill

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ConfigError
from dicom_node.infer.engine_folders import FILE_NAME, load_manifest
from dicom_node.infer.manifest import NAME_PATTERN, Manifest
from engines.recipes.card import card_of, told, trained_on
from engines.recipes.card_pictures import draw
from engines.recipes.export import answers_of, export_onnx
from engines.recipes.lesson import Questions
from engines.recipes.recipe import Recipe
from engines.recipes.samples import Samples
from engines.recipes.training import Trained

_VECTOR_SIZE, _VECTOR_BYTES = 8, 300_000
"""Images at most, and what they and their answers may take uncompressed."""
_LICENCE = """\
The files of this folder are licensed under the Creative Commons Attribution 4.0 International
License (SPDX: CC-BY-4.0), https://creativecommons.org/licenses/by/4.0/legalcode.

Attribution:

{weights}

{data}

The test vector, and the pictures of the card, hold images of that data.
"""


@dataclass(frozen=True)
class Written:
    """What stands in the folder."""

    folder: Path
    model_bytes: int


def manifest_of(recipe: Recipe) -> Manifest:
    """Return the manifest of a recipe before its figures are known: what the network will see."""
    blank = {"name": recipe.name, "sha256": "f" * 64, "weights": "0", "trained": "", "figures": ""}
    blank |= dict.fromkeys(_threshold_names(len(recipe.outputs)), "0.5")
    with tempfile.TemporaryDirectory() as making:
        folder = Path(making) / recipe.name
        folder.mkdir()
        (folder / FILE_NAME).write_text(_filled(recipe, blank), "utf-8")
        for file in ("model.onnx", "test_vector.npz"):  # a manifest names no file that is missing
            (folder / file).touch()
        return load_manifest(folder)


def require_free(target: Path, *, replace: bool) -> None:
    """Refuse a folder that cannot become an engine's.

    Raises
    ------
    ConfigError
        If its name is none for an engine, or it is there already and not to be replaced.
    """
    if not re.fullmatch(NAME_PATTERN, target.name):
        raise ConfigError(
            f"{target.name} is no name for an engine",
            hint="up to 32 small letters, digits and _, a letter first",
        )
    if target.exists() and not replace:
        raise ConfigError(
            f"{target} is there already", hint="choose another --out, or say --replace"
        )
    if target.exists() and not (target / FILE_NAME).is_file():
        raise ConfigError(f"{target} is no engine's folder", hint="choose another --out")


def write_folder(
    recipe: Recipe,
    trained: Trained,
    samples: Samples,
    target: Path,
    command: str,
    *,
    replace: bool = False,
) -> Written:
    """Write the folder of an engine; it comes to its place whole or not at all.

    Parameters
    ----------
    recipe : Recipe
    trained : Trained
    samples : Samples
        All of them, for licence and attribution.
    target : Path
        Its name is the engine's.
    command : str
        With which it was made, for the card.
    replace : bool
        Whether an engine of this name gives way.

    Raises
    ------
    ConfigError
        See `require_free`; or if what was written is no engine.
    EngineError
        If the ONNX does not answer as the network does.
    """
    require_free(target, replace=replace)
    with _making(target) as folder:
        model = folder / "model.onnx"
        asked = _vector_of(trained.test)
        export_onnx(trained.model, model, asked, recipe.ends)
        given = np.ascontiguousarray(asked.transpose(0, 3, 1, 2))
        np.savez_compressed(
            folder / "test_vector.npz",
            input=given.astype(np.int16),
            output=answers_of(model, asked, recipe.ends),
        )
        words = {
            "name": target.name,
            "sha256": sha256(model.read_bytes()).hexdigest(),
            "weights": f"{trained.model.count_params():,}",
            "trained": trained_on(recipe, samples),
            "figures": told(recipe, trained),
            **_thresholds(trained),
        }
        (folder / FILE_NAME).write_text(_filled(recipe, words), "utf-8")
        pictures = draw(recipe, trained, folder)
        card = card_of(recipe, trained, samples, target.name, command, pictures)
        (folder / "card.md").write_text(card, "utf-8")
        (folder / "LICENSE").write_text(_licence(samples), "utf-8")
        load_manifest(folder)
        return Written(target, model.stat().st_size)


def _filled(recipe: Recipe, words: Mapping[str, str]) -> str:
    """Return the manifest's text with its words, the lines of the description broken anew."""
    text = Template(recipe.manifest.read_text("utf-8")).substitute(words)

    def broken(found: re.Match[str]) -> str:
        one = " ".join(found[2].split())
        return f"{found[1]}{fill(one, 100, initial_indent='  ', subsequent_indent='  ')}\n"

    return re.sub(r"^(description: >-\n)((?:  .*\n)+)", broken, text, flags=re.MULTILINE)


def _threshold_names(count: int) -> list[str]:
    kinds = ("threshold", "limited", "non_diagnostic")
    return [f"{kind}_{output}" for kind in kinds for output in range(count)]


def _thresholds(trained: Trained) -> dict[str, str]:
    found: dict[str, str] = {}
    for output, each in enumerate(trained.figures.thresholds):
        found[f"threshold_{output}"] = f"{each.present:g}"
        found[f"limited_{output}"] = f"{each.limited:g}"
        found[f"non_diagnostic_{output}"] = f"{each.non_diagnostic:g}"
    return found


def _vector_of(test: Questions) -> NDArray[np.float32]:
    """Return some questions of test in whole numbers: of each answer the first, others between."""
    truth = test.truth.reshape(len(test), -1)
    each = test.images[0].nbytes * (1 if len(test.truth.shape) == 2 else 3)
    most = int(np.clip(_VECTOR_BYTES // each, 2, _VECTOR_SIZE))
    kinds = truth if len(test.truth.shape) == 2 else truth.any(axis=1, keepdims=True)
    _, first = np.unique(kinds >= 0.5, axis=0, return_index=True)
    spread = np.linspace(0, len(test) - 1, most).round().astype(int)
    chosen = list(dict.fromkeys([*first[: most // 2].tolist(), *spread.tolist()]))
    return np.round(test.images[sorted(chosen[:most])])


def _licence(samples: Samples) -> str:
    weights = f"Network weights: the dicom_node project, trained on {samples.source}."
    data = f"Images ({samples.licence}): {samples.attribution}"
    return _LICENCE.format(weights=fill(weights, 100), data=fill(data, 100))


@contextmanager
def _making(target: Path) -> Iterator[Path]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as making:
            folder = Path(making) / target.name
            folder.mkdir()
            yield folder
            before = Path(making) / "before"
            if target.exists():
                target.rename(before)
            try:
                folder.rename(target)
            except OSError:
                if before.exists():
                    before.rename(target)
                raise
    except OSError as error:
        raise ConfigError(
            f"{target} cannot be written: {error.strerror}", hint="choose another --out"
        ) from error
