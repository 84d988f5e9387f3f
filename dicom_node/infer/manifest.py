"""What an engine says of itself: `engine.yaml`, read once into frozen values.

Every word has its unit and default in docs/engines.md; a folder with a mistake is refused with all
of its mistakes at once, each with file, line and key.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SkipValidation, TypeAdapter, ValidationError, WithJsonSchema
from pydantic.dataclasses import dataclass

from dicom_node.conditions import Condition, Missing, parse_conditions
from dicom_node.config.yaml_lines import YamlFile, load_yaml, raise_mistakes
from dicom_node.errors import ConfigError, InvariantBroken, Mistake
from dicom_node.finding import FindingKind
from dicom_node.infer.blocks import (
    STRICT,
    ClassLabel,
    Components,
    FaultLabel,
    ImageInput,
    Intensity,
    Locate,
    Measure,
    Model,
    NoteLabel,
    SegmentLabel,
    TestVector,
    ValueLabel,
    VolumeInput,
)
from dicom_node.infer.mistakes import in_words

FILE_NAME = "engine.yaml"
_GUIDE = "docs/engines.md has every word of engine.yaml"

NEEDED: Mapping[FindingKind, tuple[str, ...]] = {
    FindingKind.SEGMENTATION: ("volume", "segments"),
    FindingKind.CLASSIFICATION: ("image", "classes"),
    FindingKind.QUALITY: ("image", "faults"),
    FindingKind.REGRESSION: ("image", "values"),
}
OPTIONAL: Mapping[FindingKind, tuple[str, ...]] = {
    FindingKind.SEGMENTATION: ("locate", "components", "measurements"),
    FindingKind.CLASSIFICATION: (),
    FindingKind.QUALITY: ("notes",),
    FindingKind.REGRESSION: (),
}
"""The blocks that each kind must have and may have; it must not have another kind's."""

_VALUE_SCHEMA: dict[str, object] = {"type": ["string", "number", "boolean", "null"]}
_TESTS_SCHEMA: dict[str, object] = {
    "anyOf": [_VALUE_SCHEMA, {"type": "array", "items": _VALUE_SCHEMA, "minItems": 1}]
}
_CONDITIONS_SCHEMA: dict[str, object] = {
    "type": "object",
    "propertyNames": {"not": {"enum": ["any", "all", "not", "calling_ae_title"]}},
    "additionalProperties": {
        "anyOf": [
            _TESTS_SCHEMA,
            {
                "type": "object",
                "properties": {
                    "is": _TESTS_SCHEMA,
                    "missing": {"enum": [meaning.value for meaning in Missing]},
                },
                "required": ["is"],
                "additionalProperties": False,
            },
        ]
    },
}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Manifest:
    """One engine: what it is, what it takes, how, and what its answers mean."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    version: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")]
    title: Annotated[str, Field(min_length=1, max_length=64)]
    kind: FindingKind
    description: Annotated[str, Field(min_length=1)]
    limits: tuple[str, ...] = ()
    accepts: Annotated[SkipValidation[tuple[Condition, ...]], WithJsonSchema(_CONDITIONS_SCHEMA)]
    model: Model
    intensity: Intensity
    test_vector: TestVector
    volume: VolumeInput | None = None
    image: ImageInput | None = None
    locate: Locate | None = None
    components: Components = Components()
    measurements: tuple[Measure, ...] = ("volume",)
    segments: tuple[SegmentLabel, ...] = ()
    classes: tuple[ClassLabel, ...] = ()
    faults: tuple[FaultLabel, ...] = ()
    notes: tuple[NoteLabel, ...] = ()
    values: tuple[ValueLabel, ...] = ()
    folder: Path

    @property
    def model_files(self) -> Mapping[str, str]:
        """The SHA-256 that each model file must have, by file name."""
        files = {self.model.file: self.model.sha256}
        return files | ({self.locate.file: self.locate.sha256} if self.locate else {})

    @property
    def model_digest(self) -> str:
        """That of the model file; of the digests, one after the other, where there are several."""
        digests = list(self.model_files.values())
        return digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()


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
        written["accepts"], mistakes = parse_conditions(written["accepts"])
        for path, message in mistakes:
            loaded.mistake(("accepts", *path), message)
        if any(condition.keyword == "calling_ae_title" for condition in written["accepts"]):
            loaded.mistake(("accepts", "calling_ae_title"), "who sent a series is for rules.yaml")
    if "folder" in written:
        loaded.mistake(("folder",), "no such key")
    written["folder"] = loaded.file.parent
    try:
        manifest = MANIFEST.validate_python(written)
    except ValidationError as error:
        for found in error.errors():
            loaded.mistake(*in_words(found, Manifest))
        return None
    _check_whole(manifest, loaded)
    return manifest


def _check_whole(manifest: Manifest, loaded: YamlFile) -> None:
    """Note what no single key shows: blocks that do not fit the kind, doubles, missing files."""
    if manifest.name != manifest.folder.name:
        loaded.mistake(("name",), f"must be the folder's name, {manifest.folder.name}")
    _check_blocks(manifest, loaded)
    _check_doubles(manifest, loaded)
    for index, fault in enumerate(manifest.faults):
        if fault.limited > fault.non_diagnostic:
            loaded.mistake(("faults", index, "limited"), "must not be above non_diagnostic")
    independent = manifest.model.classes_are == "independent" and manifest.model.gives != "labels"
    for index, written in enumerate(loaded.data.get("segments") or ()):
        if "threshold" in written and not independent:
            place = ("segments", index, "threshold")
            loaded.mistake(place, "is for classes that are independent: the largest one wins here")
    if manifest.volume:
        sides = zip(manifest.volume.size, manifest.volume.spacing_mm, strict=True)
        for axis, (size, spacing) in enumerate(sides):
            if size is not None and spacing is None:
                loaded.mistake(("volume", "size", axis), "needs a spacing_mm along its axis")
    _check_files(manifest, loaded)


def _check_blocks(manifest: Manifest, loaded: YamlFile) -> None:
    needed, optional = NEEDED[manifest.kind], OPTIONAL[manifest.kind]
    for name in needed:
        if not getattr(manifest, name):
            loaded.mistake((), f"{name} is missing: a {manifest.kind} engine needs it")
    every = {name for names in (*NEEDED.values(), *OPTIONAL.values()) for name in names}
    for name in sorted(every - {*needed, *optional}):
        if loaded.data.get(name):
            loaded.mistake((name,), f"a {manifest.kind} engine has no {name}")


def _check_doubles(manifest: Manifest, loaded: YamlFile) -> None:
    for name, key in (
        ("segments", "label"),
        ("classes", "index"),
        ("faults", "index"),
        ("values", "index"),
    ):
        seen = [getattr(item, key) for item in getattr(manifest, name)]
        for index, value in enumerate(seen):
            if value in seen[:index]:
                loaded.mistake((name, index, key), f"{value} stands twice")


def _check_files(manifest: Manifest, loaded: YamlFile) -> None:
    files = {("model", "file"): manifest.model.file}
    files["test_vector", "file"] = manifest.test_vector.file
    if manifest.locate:
        files["locate", "file"] = manifest.locate.file
    for path, name in files.items():
        if not (manifest.folder / name).is_file():
            loaded.mistake(path, f"{name} is not in the folder")
