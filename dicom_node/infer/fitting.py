"""What no single key of a manifest shows: blocks that do not fit the kind, or each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dicom_node.finding import FindingKind
from dicom_node.infer.blocks import Model, VolumeInput
from dicom_node.infer.image_masks import AS_A_SLICE
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.measure import ON_IMAGES

_OF_VOLUMES = ("component_min_ml", "volume_min_ml", "smooth_mm")
_OF_IMAGES = ("component_min_share", "share_min")
"""The words of `components` whose unit only one of them has."""

Misfit = tuple[tuple[str | int, ...], str]
"""The path of a key, and what is wrong there."""

NEEDED: Mapping[FindingKind, tuple[str, ...]] = {
    FindingKind.SEGMENTATION: ("segments",),
    FindingKind.CLASSIFICATION: ("classes",),
    FindingKind.QUALITY: ("faults",),
    FindingKind.REGRESSION: ("values",),
}
OPTIONAL: Mapping[FindingKind, tuple[str, ...]] = {
    FindingKind.SEGMENTATION: ("locate", "components", "measurements", "probabilities"),
    FindingKind.CLASSIFICATION: (),
    FindingKind.QUALITY: ("notes",),
    FindingKind.REGRESSION: (),
}
"""The blocks that each kind must have and may have; it must not have another kind's."""


def misfits(manifest: Manifest, written: Mapping[str, Any]) -> Iterator[Misfit]:
    """Yield what is wrong with a manifest of which every key is right by itself.

    Parameters
    ----------
    written : mapping
        What stands in the file: what has a default is there only if it was written.
    """
    if manifest.name != manifest.folder.name:
        yield ("name",), f"must be the folder's name, {manifest.folder.name}"
    yield from _blocks(manifest, written)
    yield from _thresholds(manifest, written)
    yield from _doubles(manifest)
    for index, fault in enumerate(manifest.faults):
        if fault.limited > fault.non_diagnostic:
            yield ("faults", index, "limited"), "must not be above non_diagnostic"
    if manifest.volume:
        yield from _volume(manifest.volume)
        yield from _averaged(manifest.model, manifest.volume)
    if manifest.segments:
        yield from _measured(manifest)
        yield from _likely(manifest)
        yield from _sizes(written.get("components") or {}, ("components",), manifest)
        for index, segment in enumerate(written.get("segments") or ()):
            own = ("segments", index, "components")
            yield from _sizes(segment.get("components") or {}, own, manifest)
        if manifest.image:
            yield from _averaged(manifest.model, AS_A_SLICE)
    yield from _inputs(manifest)
    yield from _files(manifest)


def _inputs(manifest: Manifest) -> Iterator[Misfit]:
    names = [extra.name for extra in manifest.inputs]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield ("inputs", index, "name"), f"{name} stands twice"
    if manifest.inputs and manifest.volume is None:
        yield ("inputs",), "other series are for an engine that sees volumes"
    if manifest.inputs and manifest.volume and manifest.volume.slab_slices:
        yield ("inputs",), "the channels of a slab are its slices, not other series"
    if manifest.inputs and manifest.locate:
        yield ("locate",), "an engine with inputs has no locate"


def _thresholds(manifest: Manifest, written: Mapping[str, Any]) -> Iterator[Misfit]:
    if manifest.model.classes_are == "independent":
        return
    for index, segment in enumerate(written.get("segments") or ()):
        if "threshold" in segment:
            place = ("segments", index, "threshold")
            yield place, "is for classes that are independent: the largest one wins here"


def _blocks(manifest: Manifest, written: Mapping[str, Any]) -> Iterator[Misfit]:
    kind = manifest.kind
    needed, optional = NEEDED[kind], OPTIONAL[kind]
    for name in needed:
        if not getattr(manifest, name):
            yield (), f"{name} is missing: a {kind} engine needs it"
    every = {name for names in (*NEEDED.values(), *OPTIONAL.values()) for name in names}
    for name in sorted(every - {*needed, *optional}):
        if written.get(name):
            yield (name,), f"a {kind} engine has no {name}"
    if manifest.image and manifest.locate:
        yield ("locate",), "is for an engine that sees volumes"
    if manifest.volume and manifest.image:
        yield ("volume",), "an engine sees single images (image) or a series (volume), not both"
    elif not manifest.volume and not manifest.image:
        yield (), f"image or volume is missing: a {kind} engine needs one of them"


def _measured(manifest: Manifest) -> Iterator[Misfit]:
    for index, word in enumerate(manifest.measurements or ()):
        if manifest.image and word not in ON_IMAGES:
            yield ("measurements", index), f"{word} is for volumes; on an image: {_words()}"
        if manifest.volume and word == "area":
            yield ("measurements", index), "area is for single images; of a volume: volume"


def _likely(manifest: Manifest) -> Iterator[Misfit]:
    if manifest.probabilities and manifest.image:
        yield ("probabilities",), "are those of the voxels of volumes"
    if manifest.probabilities and manifest.model.gives == "labels":
        yield ("probabilities",), "cannot be had from labels; have the network give probabilities"


def _words() -> str:
    return ", ".join(sorted(ON_IMAGES))


def _sizes(
    written: Mapping[str, Any], place: tuple[str | int, ...], manifest: Manifest
) -> Iterator[Misfit]:
    """Yield sizes in a unit that what the engine sees does not have."""
    for name in written:
        if manifest.image and name in _OF_VOLUMES:
            yield (*place, name), f"is for volumes; on an image: {', '.join(_OF_IMAGES)}"
        if manifest.volume and name in _OF_IMAGES:
            yield (*place, name), f"is for single images; of a volume: {', '.join(_OF_VOLUMES[:2])}"


def _doubles(manifest: Manifest) -> Iterator[Misfit]:
    for name, key in (
        ("segments", "label"),
        ("classes", "index"),
        ("faults", "index"),
        ("values", "index"),
    ):
        seen = [getattr(item, key) for item in getattr(manifest, name)]
        for index, value in enumerate(seen):
            if value in seen[:index]:
                yield (name, index, key), f"{value} stands twice"


def _volume(volume: VolumeInput) -> Iterator[Misfit]:
    sees = volume.network_sees
    for axis, (size, spacing) in enumerate(zip(volume.size, volume.spacing_mm, strict=True)):
        if size is not None and spacing is None:
            yield ("volume", "size", axis), "needs a spacing_mm along its axis"
        if volume.window and size is not None and size < volume.window.size[axis]:
            yield ("volume", "size", axis), f"is less than a window, {volume.window.size[axis]}"
    for name, wanted_by, value in (
        ("slab_slices", "slab", volume.slab_slices),
        ("window", "window", volume.window),
    ):
        if sees == wanted_by and value is None:
            yield ("volume",), f"{name} is missing: network_sees is {wanted_by}"
        if sees != wanted_by and value is not None:
            yield ("volume", name), f"is for a network that sees a {wanted_by}, not a {sees}"
    if volume.slab_slices is not None and volume.slab_slices % 2 == 0:
        yield ("volume", "slab_slices"), "must be an odd number: the middle one is asked about"


def _averaged(model: Model, volume: VolumeInput) -> Iterator[Misfit]:
    """Yield what would need the mean of labels, or a flip of an axis that is not there."""
    if model.gives == "labels":
        for name, several in (
            ("ensemble", bool(model.ensemble)),
            ("mirrors", bool(model.mirrors)),
        ):
            if several:
                yield ("model", name), "labels have no mean; have the network give probabilities"
        if volume.window:
            yield ("volume", "window"), "labels have no mean; have the network give probabilities"
        if model.classes_are == "independent":
            yield ("model", "classes_are"), "a label is one class a voxel: exclusive"
    for index, mirror in enumerate(model.mirrors):
        if len(set(mirror)) < len(mirror):
            yield ("model", "mirrors", index), "an axis stands twice"
        if volume.network_sees == "slice" and 0 in mirror:
            yield ("model", "mirrors", index), "a single slice cannot be flipped along axis 0"


def _files(manifest: Manifest) -> Iterator[Misfit]:
    files: dict[tuple[str | int, ...], str] = {("model", "file"): manifest.model.file}
    for index, member in enumerate(manifest.model.ensemble):
        files["model", "ensemble", index, "file"] = member.file
    files["test_vector", "file"] = manifest.test_vector.file
    if manifest.locate:
        files["locate", "file"] = manifest.locate.file
    for path, name in files.items():
        if not (manifest.folder / name).is_file():
            yield path, f"{name} is not in the folder"
