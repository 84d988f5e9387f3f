"""Manifests with one mistake each, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from tests.unit.infer.engine_folders import (
    CLASSIFICATION,
    ON_IMAGES,
    QUALITY,
    REGRESSION,
    SEGMENTATION,
)

Spoil = Callable[[dict[str, Any]], object]


def put(*path: str | int, value: Any) -> Spoil:
    def apply(written: dict[str, Any]) -> None:
        here: Any = written
        for part in path[:-1]:
            here = here[part]
        here[path[-1]] = value

    return apply


def drop(key: str) -> Spoil:
    return lambda written: written.pop(key)


def spoilt(written: Mapping[str, Any], spoil: Spoil) -> dict[str, Any]:
    copy = deepcopy(dict(written))
    spoil(copy)
    return copy


VOLUME = SEGMENTATION["volume"]
SLABS = SEGMENTATION | {"volume": VOLUME | {"network_sees": "slab", "slab_slices": 3}}
SLICES = SEGMENTATION | {"volume": VOLUME | {"network_sees": "slice"}}
WINDOWS = SEGMENTATION | {
    "volume": VOLUME | {"network_sees": "window", "window": {"size": [8] * 3}}
}
LABELS = SEGMENTATION | {"model": SEGMENTATION["model"] | {"gives": "labels"}}
FLAIR = {"name": "flair", "accepts": {"SeriesDescription": "FLAIR"}}
BAD_INPUT = {"name": "flair", "accepts": {"Modalty": "MR"}}
MISSING = {"file": "more.onnx", "sha256": "0" * 64}

# fmt: off
SEEN_BY_THE_SCHEMA = [
    (SEGMENTATION, put("version", value="1.0"), "version: must be three whole numbers: 1.0.0"),
    (SEGMENTATION, put("name", value="other name"), "name: must be small letters, digits"),
    (SEGMENTATION, put("kind", value="guess"), "segmentation, classification, qu"),
    (SEGMENTATION, put("colour", value="red"), "colour: no such key; there are name, version"),
    (SEGMENTATION, put("volumes", value={}), "volumes: no such key; did you mean volume?"),
    (SEGMENTATION, put("volume", "spacing", value=1), "no such key; did you mean spacing_mm?"),
    (SEGMENTATION, put("segments", 0, "lable", value=1), "did you mean label?"),
    (SEGMENTATION, put("components", value={"keep_largest": 1}), "; there are keep, conn"),
    (SEGMENTATION, put("kind", value="segmentaton"), "did you mean segmentation?"),
    (SEGMENTATION, put("volume", value="whole"), "with the keys network_sees"),
    (SEGMENTATION, put("segments", 0, value="Lung"), "segments.0: must be a mapping with the"),
    (SEGMENTATION, put("segments", value={"label": 1}), "segments: must be a list"),
    (SEGMENTATION, put("segments", 0, "name", value=""), "must have at least 1 characters"),
    (SEGMENTATION, put("segments", 0, "name", value=7), "segments.0.name: must be text"),
    (SEGMENTATION, put("version", value=1.0), "version: must be three whole numbers"),
    (SEGMENTATION, put("volume", "pad", value="air"), "volume.pad: must be a number"),
    (SEGMENTATION, put("volume", "axes", value=[1]), "volume.axes: must be text"),
    (SEGMENTATION, put("volume", "slices_min", value=1), "must be at least 2"),
    (SEGMENTATION, put("volume", "spacing_mm", value=[1] * 4), "must have at most 3 values"),
    (SEGMENTATION, put("model", "mirrors", value=[[3]]), "mirrors.0.0: must be at most 2"),
    (SEGMENTATION, put("model", "mirrors", value=[[]]), "must have at least 1 values, has 0"),
    (SEGMENTATION, put("model", "precisions", value=["fp8"]), "one of fp32, fp16, bf16"),
    (SEGMENTATION, put("model", "gives", value="probability"), "did you mean probabilities?"),
    (SEGMENTATION, put("intensity", "scale", value={"low": 0, "high": "p101"}), "at most 100"),
    (SEGMENTATION, put("intensity", "scale", value={"low": 0, "high": [1]}), "be a number"),
    (SEGMENTATION, put("folder", value="x"), "folder: no such key"),
    (SEGMENTATION, drop("model"), "model: is missing"),
    (SEGMENTATION, drop("accepts"), "accepts: is missing"),
    (SEGMENTATION, put("accepts", value=["CT"]), "accepts: must be a mapping"),
    (SEGMENTATION, put("accepts", "calling_ae_title", value="X"), "is for rules.yaml"),
    (SEGMENTATION, put("model", "sha256", value="abc"), "must be 64 hexadecimal digits"),
    (SEGMENTATION, put("model", "file", value="../x.onnx"), "must be the name of a file"),
    (SEGMENTATION, put("volume", "axes", value="HPX"), "must be three letters"),
    (SEGMENTATION, put("volume", "network_sees", value="all"), "slice, slab, window, whole"),
    (SEGMENTATION, put("volume", "spacing_mm", value=[1, 1]), "2: is missing: the list is"),
    (SEGMENTATION, put("volume", "spacing_mm", value=[1, 0, 1]), "greater than 0"),
    (SEGMENTATION, put("volume", "size", value=[8, 8, 8.5]), "size.2: must be a whole number"),
    (SEGMENTATION, put("segments", 0, "type", value="Lung"), "must be [code value, coding"),
    (SEGMENTATION, put("segments", 0, "type", value=["", "SCT", "x"]), "1 to 16 characters"),
    (SEGMENTATION, put("segments", 0, "label", value=0), "greater than 0"),
    (SEGMENTATION, put("segments", value=[]), "segments is missing"),
    (SEGMENTATION, drop("volume"), "image or volume is missing: a segmentation engine needs"),
    (SEGMENTATION, put("image", value={"size": [8, 8]}), "(volume), not both"),
    (SEGMENTATION, put("intensity", "values", value="HU"), "one of hounsfield, brightness"),
    (SEGMENTATION, put("intensity", "scale", value={"low": "1%", "high": 1}), "such as p99.9"),
    (SEGMENTATION, put("components", value={"connectivity": 18}), "must be one of 6, 26"),
    (SEGMENTATION, put("components", value={"keep": 0}), "keep: must be all, largest, or how"),
    (SEGMENTATION, put("segments", 0, "components", value={"keep": "one"}), "all, largest, or"),
    (SEGMENTATION, put("components", value={"fill_holes": "yes"}), "none, slices, volume"),
    (CLASSIFICATION, put("classes", 0, "threshold", value=1.5), "must be at most 1"),
    (CLASSIFICATION, drop("image"), "image or volume is missing: a classification"),
    (CLASSIFICATION, put("volume", value=SEGMENTATION["volume"]), "(volume), not both"),
    (WINDOWS, put("volume", "window", "overlap", value=1), "overlap: must be less than 1"),
    (SEGMENTATION, put("inputs", value=[{"name": "flair"}]), "inputs.0.accepts: is missing"),
    (CLASSIFICATION, put("faults", value=QUALITY["faults"]), "has no faults"),
    (QUALITY, put("components", value={"keep": "all"}), "a quality engine has no components"),
    (QUALITY, put("measurements", value=["volume"]), "a quality engine has no measurements"),
    (REGRESSION, drop("values"), "values is missing: a regression engine needs it"),
    (REGRESSION, put("values", 0, "unit", value="month"), "must be [code value, coding"),
    (REGRESSION, put("classes", value=CLASSIFICATION["classes"]), "has no classes"),
    (SEGMENTATION, put("measurements", value=["width"]), "mean_value, voxels"),
    (QUALITY, put("image", "field", value="left half"), "one of central square, whole"),
    (SLABS, put("volume", "slab_slices", value=1), "must be at least 3"),
    (QUALITY, put("probabilities", value=True), "a quality engine has no probabilities"),
]
"""The manifest, what spoils it, and a part of the message."""
UNSEEN = [
    (ON_IMAGES, put("probabilities", value=True), "are those of the voxels of volumes"),
    (LABELS, put("probabilities", value=True), "cannot be had from labels"),
    (SEGMENTATION, put("volume", "network_sees", value="slab"), "slab_slices is missing"),
    (SEGMENTATION, put("volume", "network_sees", value="window"), "window is missing"),
    (SEGMENTATION, put("volume", "window", value={"size": [8, 8, 8]}), "not a whole"),
    (SLABS, put("volume", "slab_slices", value=4), "must be an odd number"),
    (WINDOWS, put("volume", "size", value=[None, 4, None]), "is less than a window, 8"),
    (WINDOWS, put("volume", "take", value={"part": [0.7, 0.3]}), "[smaller, larger]"),
    (WINDOWS, put("model", "gives", value="labels"), "labels have no mean"),
    (SEGMENTATION, put("model", "mirrors", value=[[1, 1]]), "an axis stands twice"),
    (SEGMENTATION, put("measurements", value=["area"]), "area is for single images"),
    (SEGMENTATION, put("components", value={"share_min": 0.1}), "for single images; of a volume"),
    (ON_IMAGES, put("measurements", value=["volume"]), "volume is for volumes; on an image: area"),
    (ON_IMAGES, put("components", value={"smooth_mm": 1}), "smooth_mm: is for volumes; on an"),
    (ON_IMAGES, put("segments", 0, "components", value={"volume_min_ml": 1}), "is for volumes"),
    (ON_IMAGES, put("model", "mirrors", value=[[0]]), "cannot be flipped along axis 0"),
    (SLICES, put("model", "mirrors", value=[[0]]), "cannot be flipped along axis 0"),
    (SEGMENTATION, put("model", "ensemble", value=[MISSING]), "more.onnx is not in the folder"),
    (SEGMENTATION, put("inputs", value=[FLAIR, FLAIR]), "inputs.1.name: flair stands twice"),
    (SEGMENTATION, put("inputs", value=[BAD_INPUT]), "Modalty is no DICOM keyword"),
    (CLASSIFICATION, put("inputs", value=[FLAIR]), "for an engine that sees volumes"),
    (SLABS, put("inputs", value=[FLAIR]), "the channels of a slab are its slices"),
    (LABELS, put("model", "mirrors", value=[[1]]), "labels have no mean"),
    (LABELS, put("model", "classes_are", value="independent"), "exclusive"),
    (SEGMENTATION, put("accepts", "Modalty", value="CT"), "Modalty is no DICOM keyword"),
    (SEGMENTATION, put("model", "file", value="x.onnx"), "x.onnx is not in the folder"),
    (SEGMENTATION, put("test_vector", "file", value="t.npz"), "t.npz is not in the folder"),
    (SEGMENTATION, put("volume", "pixel_spacing_mm", value=[2, 1]), "[smaller, larger]"),
    (QUALITY, put("faults", 1, "index", value=0), "faults.1.index: 0 stands twice"),
    (QUALITY, put("faults", 0, "limited", value=0.9), "must not be above non_diagnostic"),
    (REGRESSION, put("values", 0, "plausible", value=[9, 1]), "[smaller, larger]"),
    (SEGMENTATION, put("segments", 0, "threshold", value=0.4), "classes that are independent"),
]
"""Those that no schema can see: files, the data dictionary, one value against another."""
# fmt: on

BAD = [*SEEN_BY_THE_SCHEMA, *UNSEEN]
