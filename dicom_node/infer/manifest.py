"""What an engine says of itself: `engine.yaml`, read once into frozen values.

Every word has its unit and default in docs/engines.md; a folder with a mistake is refused with all
of its mistakes at once, each with file, line and key.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SkipValidation, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from dicom_node.conditions import Condition, parse_conditions
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
    Model,
    NoteLabel,
    SegmentLabel,
    TestVector,
    VolumeInput,
)
from dicom_node.infer.fitting import misfits

FILE_NAME = "engine.yaml"
NAME_PATTERN = r"^[a-z][a-z0-9_]{0,31}$"
_GUIDE = "docs/engines.md has every word of engine.yaml"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Manifest:
    """One engine: what it is, what it takes, how, and what its answers mean."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    version: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")]
    title: Annotated[str, Field(min_length=1, max_length=64)]
    kind: FindingKind
    description: Annotated[str, Field(min_length=1)]
    limits: tuple[str, ...] = ()
    accepts: SkipValidation[tuple[Condition, ...]]
    model: Model
    intensity: Intensity
    test_vector: TestVector
    volume: VolumeInput | None = None
    image: ImageInput | None = None
    locate: Locate | None = None
    components: Components = Components()
    segments: tuple[SegmentLabel, ...] = ()
    classes: tuple[ClassLabel, ...] = ()
    faults: tuple[FaultLabel, ...] = ()
    notes: tuple[NoteLabel, ...] = ()
    folder: Path

    @property
    def model_files(self) -> Mapping[str, str]:
        """The SHA-256 that each model file must have, by file name."""
        files = {self.model.file: self.model.sha256}
        files |= {member.file: member.sha256 for member in self.model.ensemble}
        return files | ({self.locate.file: self.locate.sha256} if self.locate else {})

    @property
    def model_digest(self) -> str:
        """That of the model file; of the digests, one after the other, where there are several."""
        digests = list(self.model_files.values())
        return digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()

    @property
    def given_thresholds(self) -> tuple[float, ...]:
        """Of each channel of independent classes, in the numbers that the network gives.

        Channels that are no segment are never reached.
        """
        thresholds = [math.inf] * max((segment.label for segment in self.segments), default=0)
        for segment in self.segments:
            share = segment.threshold
            if self.model.gives == "logits":
                share = math.log(share / (1 - share)) if 0 < share < 1 else (share - 0.5) * math.inf
            thresholds[segment.label - 1] = share
        return tuple(thresholds)


_MANIFEST = TypeAdapter(Manifest)


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
        manifest = _MANIFEST.validate_python(written)
    except ValidationError as error:
        for found in error.errors():
            path = tuple(part for part in found["loc"] if part not in {"float", "Percentile"})
            loaded.mistake(path, _in_words(found["type"], found["msg"]))
        return None
    for path, message in misfits(manifest):
        loaded.mistake(path, message)
    return manifest


def _in_words(kind: str, message: str) -> str:
    words = {"missing": "is missing", "unexpected_keyword_argument": "no such key"}
    return words.get(kind) or message.removeprefix("Value error, ").replace("Input ", "")
