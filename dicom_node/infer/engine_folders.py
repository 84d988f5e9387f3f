"""The folder of an engine, read: `engine.yaml` as frozen values, or every mistake in it at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dicom_node.conditions import Condition, parse_conditions
from dicom_node.config.yaml_lines import YamlFile, load_yaml, raise_mistakes
from dicom_node.errors import ConfigError, InvariantBroken, Mistake
from dicom_node.infer.fitting import misfits
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.mistakes import in_words

FILE_NAME = "engine.yaml"
_GUIDE = "docs/engines.md has every word of engine.yaml"

MANIFEST = TypeAdapter(Manifest)


def load_manifest(folder: Path) -> Manifest:
    """Return what `folder/engine.yaml` says.

    Raises
    ------
    ConfigError
        With every mistake, each with file, line and key.
    """
    loaded = load_yaml(folder / FILE_NAME)
    manifest = _validated(loaded)
    raise_mistakes([loaded], hint=_GUIDE)
    if manifest is None:
        raise InvariantBroken("no manifest and no mistake")
    return manifest


@dataclasses.dataclass(frozen=True)
class EnginesFound:
    """What lies in a folder of engine folders."""

    manifests: dict[str, Manifest]
    """By name; only of those without a mistake."""
    folders: tuple[str, ...]
    """The names of all, with or without mistakes."""
    mistakes: tuple[Mistake, ...]


def find_engines(root: Path) -> EnginesFound:
    """Return the engines in `root`, and the mistakes of those that cannot be used.

    Raises
    ------
    ConfigError
        If `root` is no folder.
    """
    if not root.is_dir():
        raise ConfigError(f"{root} is no folder", hint="point engines_dir to the engine folders")
    manifests: dict[str, Manifest] = {}
    folders: list[str] = []
    mistakes: list[Mistake] = []
    for file in sorted(root.glob(f"*/{FILE_NAME}")):
        folders.append(file.parent.name)
        try:
            manifest = load_manifest(file.parent)
        except ConfigError as error:
            mistakes += error.mistakes
        else:
            manifests[manifest.name] = manifest
    return EnginesFound(manifests, tuple(folders), tuple(mistakes))


def list_engines(root: Path) -> dict[str, Manifest]:
    """Return the manifests of all engine folders in `root`, by name.

    Raises
    ------
    ConfigError
        With every mistake of every folder.
    """
    found = find_engines(root)
    if found.mistakes:
        raise ConfigError(mistakes=found.mistakes, hint=_GUIDE)
    return found.manifests


def _validated(loaded: YamlFile) -> Manifest | None:
    """Return the manifest, or None with the mistakes noted in `loaded`."""
    if not isinstance(loaded.data, dict):
        loaded.mistake((), "must be a mapping")
        return None
    written: dict[str, Any] = {**loaded.data}
    if "accepts" in written:
        written["accepts"] = _conditions(written["accepts"], ("accepts",), loaded)
    if isinstance(written.get("inputs"), list):
        written["inputs"] = [
            extra | {"accepts": _conditions(extra["accepts"], ("inputs", at, "accepts"), loaded)}
            if isinstance(extra, dict) and "accepts" in extra
            else extra
            for at, extra in enumerate(written["inputs"])
        ]
    if "folder" in written:
        loaded.mistake(("folder",), "no such key")
    written["folder"] = loaded.file.parent
    try:
        manifest = MANIFEST.validate_python(written)
    except ValidationError as error:
        for found in error.errors():
            loaded.mistake(*in_words(found, Manifest))
        return None
    for path, message in misfits(manifest, loaded.data):
        loaded.mistake(path, message)
    return manifest


def _conditions(
    written: Any, path: tuple[str | int, ...], loaded: YamlFile
) -> tuple[Condition, ...]:
    """Return the conditions of an `accepts`, mistakes noted in `loaded`."""
    conditions, mistakes = parse_conditions(written)
    for deeper, message in mistakes:
        loaded.mistake((*path, *deeper), message)
    if any(condition.keyword == "calling_ae_title" for condition in conditions):
        loaded.mistake((*path, "calling_ae_title"), "who sent a series is for rules.yaml")
    return conditions
