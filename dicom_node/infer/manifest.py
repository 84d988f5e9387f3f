"""What an engine says of itself: `engine.yaml`, read once into frozen values.

Every word has its unit and default in docs/engines.md; a folder with a mistake is refused with all
of its mistakes at once, each with file, line and key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    SkipValidation,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from dicom_node.conditions import Condition, parse_conditions
from dicom_node.config.yaml_lines import YamlFile, load_yaml, raise_mistakes
from dicom_node.errors import ConfigError, InvariantBroken, Mistake
from dicom_node.geometry import are_directions
from dicom_node.infer.pixels import Values
from dicom_node.model import Code, FindingKind

FILE_NAME = "engine.yaml"

_CODE_LENGTHS = {"value": 16, "scheme": 16, "meaning": 64}
_BLOCKS = {
    FindingKind.SEGMENTATION: ("volume", "segments"),
    FindingKind.CLASSIFICATION: ("image", "classes"),
    FindingKind.QUALITY: ("image", "faults"),
}
"""What each kind needs; what another kind needs, it must not have."""


def _code(written: object) -> Code:
    """Return [value, scheme, meaning] as a Code (PS3.3 8.8; lengths by VR SH and LO)."""
    if isinstance(written, Code):
        return written
    if not isinstance(written, list) or len(written) != 3:
        raise ValueError("must be [code value, coding scheme, code meaning]")
    parts = dict(zip(_CODE_LENGTHS, (str(part) for part in written), strict=True))
    for name, longest in _CODE_LENGTHS.items():
        if not 0 < len(parts[name]) <= longest:
            raise ValueError(f"code {name} must have 1 to {longest} characters")
    return Code(**parts)


def _level(written: object) -> object:
    """Return a fixed value, or "p99.9" as a Percentile."""
    if isinstance(written, str) and (match := re.fullmatch(r"p([0-9.]+)", written)):
        return Percentile(float(match[1]))
    if isinstance(written, str):
        raise ValueError("must be a number, or a percentile such as p99.9")
    return written


def _directions(letters: str) -> str:
    if not are_directions(letters):
        raise ValueError("must be three letters for three axes, of L R, P A and H F: HPL")
    return letters


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] >= pair[1]:
        raise ValueError("must be [smaller, larger]")
    return pair


def _plain(name: str) -> str:
    if Path(name).name != name:
        raise ValueError("must be the name of a file in the engine's folder")
    return name


CodeWritten = Annotated[Code, BeforeValidator(_code)]
Directions = Annotated[str, AfterValidator(_directions)]
FileName = Annotated[str, AfterValidator(_plain)]
Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
Range = Annotated[tuple[float, float], AfterValidator(_rising)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

_section = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))


@dataclass(frozen=True)
class Percentile:
    """A value of an image by its rank."""

    rank: Annotated[float, Field(ge=0, le=100)]


Level = Annotated[Percentile | float, BeforeValidator(_level)]


@_section
class Model:
    """A network: its file and what goes in and out."""

    file: FileName = "model.onnx"
    sha256: Digest
    input: str
    output: str
    gives: Literal["probabilities", "labels"] = "probabilities"
    """One channel a class, or one number a voxel."""


@_section
class Locate:
    """A small network that finds what the main one is then shown, cropped."""

    file: FileName = "locate.onnx"
    sha256: Digest
    input: str
    output: str
    what: str
    """For messages: brain."""
    margin_mm: Annotated[float, Field(ge=0)] = 10.0
    volume_min_ml: Annotated[float, Field(ge=0)] = 0.0
    """Less of it than this is not taken for it: the series is refused."""


@_section
class Scale:
    """A linear map of two levels to two values."""

    low: Level
    high: Level
    to: tuple[float, float] = (0.0, 1.0)
    clip: bool = True


@_section
class Intensity:
    """From stored values to what the network was trained on."""

    values: Values
    clip: Range | None = None
    scale: Scale | None = None


@_section
class VolumeInput:
    """How a volume is laid before the network."""

    network_sees: Literal["slice", "whole"]
    axes: Directions
    """Where the axes (slice, row, column) of the tensor point."""
    spacing_mm: tuple[Positive | None, Positive | None, Positive | None] = (None, None, None)
    """None keeps the series' own."""
    size: tuple[Count | None, Count | None, Count | None] = (None, None, None)
    """None takes as many as the field of view needs."""
    size_multiple: Count = 1
    """Of which a size that is None is made: 16 for a network that halves four times."""
    grow_max: Annotated[float, Field(ge=1)] = 1.0
    pad: float = 0.0
    oblique_max_degrees: Annotated[float, Field(ge=0, le=45)] = 20.0
    slices_min: Annotated[int, Field(ge=2)] = 2
    slice_spacing_mm: Range | None = None
    pixel_spacing_mm: Range | None = None
    extent_min_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)


@_section
class ImageInput:
    """How a single image is laid before the network."""

    size: tuple[Count, Count]
    """Rows, columns."""
    field: Literal["central square", "whole"] = "central square"
    pixels_min: Count = 1
    """Rows and columns of the source; a smaller image is refused."""


@_section
class SegmentLabel:
    """One label of the network, as a segment (PS3.3 C.8.20.4)."""

    label: Annotated[int, Field(gt=0, le=255)]
    """The network's value, or the channel, counted from 0 with the background."""
    name: Annotated[str, Field(min_length=1, max_length=64)]
    category: CodeWritten
    type: CodeWritten
    modifier: CodeWritten | None = None


@_section
class Components:
    """What is left of a mask once it is on the source's grid."""

    keep: Literal["all", "largest"] = "all"
    connectivity: Literal[6, 26] = 26
    volume_min_ml: Annotated[float, Field(ge=0)] = 0.0


@_section
class ClassLabel:
    """One output of a classifier."""

    index: Annotated[int, Field(ge=0)]
    name: Annotated[str, Field(min_length=1, max_length=64)]
    code: CodeWritten
    threshold: Probability


@_section
class FaultLabel:
    """One output of a quality network that speaks against the image."""

    index: Annotated[int, Field(ge=0)]
    name: Annotated[str, Field(min_length=1, max_length=64)]
    limited: Probability
    non_diagnostic: Probability


@_section
class NoteLabel:
    """One output of a quality network that only says something."""

    index: Annotated[int, Field(ge=0)]
    name: Annotated[str, Field(min_length=1, max_length=64)]
    otherwise: str = ""
    """Its name below 0.5; left out if empty."""


@_section
class TestVector:
    """An input with the output that the network gave when it was released."""

    __test__ = False

    file: FileName = "test_vector.npz"
    tolerance: Positive
    """Largest difference of a probability; for labels the largest share that differs."""


@_section
class Manifest:
    """One engine: what it is, what it takes, how, and what its answers mean."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
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
        return files | ({self.locate.file: self.locate.sha256} if self.locate else {})

    @property
    def model_digest(self) -> str:
        """That of the model file; of the digests, one after the other, where there are several."""
        digests = list(self.model_files.values())
        return digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()


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
    raise_mistakes([loaded], hint="docs/engines.md has every word of engine.yaml")
    if manifest is None:
        raise InvariantBroken("no manifest and no mistake")
    return manifest


def list_engines(root: Path) -> dict[str, Manifest]:
    """Return the manifests of all engine folders in `root`, by name.

    Raises
    ------
    ConfigError
        With every mistake of every folder.
    """
    engines: dict[str, Manifest] = {}
    mistakes: list[Mistake] = []
    if not root.is_dir():
        raise ConfigError(f"{root} is no folder", hint="point engines_dir to the engine folders")
    for file in sorted(root.glob(f"*/{FILE_NAME}")):
        try:
            manifest = load_manifest(file.parent)
        except ConfigError as error:
            mistakes += error.mistakes
        else:
            engines[manifest.name] = manifest
    if mistakes:
        raise ConfigError(mistakes=mistakes, hint="docs/engines.md has every word of engine.yaml")
    return engines


def _validated(loaded: YamlFile) -> Manifest | None:
    """Return the manifest, or None with the mistakes noted in `loaded`."""
    if not isinstance(loaded.data, dict):
        loaded.mistake((), "must be a mapping")
        return None
    written: dict[str, Any] = {**loaded.data}
    if "accepts" in written:
        written["accepts"], mistakes = parse_conditions(written["accepts"])
        for keyword, message in mistakes:
            loaded.mistake(("accepts", keyword) if keyword else ("accepts",), message)
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
    _check_whole(manifest, loaded)
    return manifest


def _check_whole(manifest: Manifest, loaded: YamlFile) -> None:
    """Note what no single key shows: blocks that do not fit the kind, doubles, missing files."""
    if manifest.name != manifest.folder.name:
        loaded.mistake(("name",), f"must be the folder's name, {manifest.folder.name}")
    needed = _BLOCKS[manifest.kind]
    for block in sorted({"locate", "notes"} | {b for blocks in _BLOCKS.values() for b in blocks}):
        if block in needed and not getattr(manifest, block):
            loaded.mistake((), f"{block} is missing: a {manifest.kind} engine needs it")
    allowed = {
        FindingKind.SEGMENTATION: {"locate"},
        FindingKind.CLASSIFICATION: set[str](),
        FindingKind.QUALITY: {"notes"},
    }[manifest.kind] | set(needed)
    for block in ("volume", "image", "locate", "segments", "classes", "faults", "notes"):
        if block not in allowed and getattr(manifest, block):
            loaded.mistake((block,), f"a {manifest.kind} engine has no {block}")
    for block, key in (("segments", "label"), ("classes", "index"), ("faults", "index")):
        seen = [getattr(item, key) for item in getattr(manifest, block)]
        for index, value in enumerate(seen):
            if value in seen[:index]:
                loaded.mistake((block, index, key), f"{value} stands twice")
    for index, fault in enumerate(manifest.faults):
        if fault.limited > fault.non_diagnostic:
            loaded.mistake(("faults", index, "limited"), "must not be above non_diagnostic")
    if manifest.volume:
        for axis, (size, spacing) in enumerate(
            zip(manifest.volume.size, manifest.volume.spacing_mm, strict=True)
        ):
            if size is not None and spacing is None:
                loaded.mistake(("volume", "size", axis), "needs a spacing_mm along its axis")
    for path, name in (
        (("model", "file"), manifest.model.file),
        (("test_vector", "file"), manifest.test_vector.file),
        *([(("locate", "file"), manifest.locate.file)] if manifest.locate else []),
    ):
        if not (manifest.folder / name).is_file():
            loaded.mistake(path, f"{name} is not in the folder")


def _in_words(kind: str, message: str) -> str:
    words = {"missing": "is missing", "unexpected_keyword_argument": "no such key"}
    return words.get(kind) or message.removeprefix("Value error, ").replace("Input ", "")
