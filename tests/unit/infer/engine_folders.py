"""Engine folders for tests, and a runtime whose network is a function."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

Network = Callable[[NDArray[Any]], NDArray[Any]]

_COMMON: dict[str, Any] = {
    "name": "an_engine",
    "version": "1.2.3",
    "title": "An engine",
    "description": "What it does.",
    "limits": ["For tests only."],
    "accepts": {"Modality": "CT"},
    "model": {"sha256": hashlib.sha256(b"model").hexdigest(), "input": "x", "output": "y"},
    "intensity": {"values": "hounsfield"},
    "test_vector": {"tolerance": 0.001},
}
SEGMENTATION: dict[str, Any] = _COMMON | {
    "kind": "segmentation",
    "volume": {
        "network_sees": "whole",
        "axes": "HPL",
        "spacing_mm": [1, 1, 1],
        "pad": -1000,
    },
    "segments": [
        {
            "label": 1,
            "name": "Ball",
            "category": [91723000, "SCT", "Anatomical Structure"],
            "type": [39607008, "SCT", "Lung"],
        }
    ],
}
ON_IMAGES: dict[str, Any] = {k: v for k, v in SEGMENTATION.items() if k != "volume"} | {
    "accepts": {"Modality": "CR"},
    "intensity": {"values": "brightness"},
    "image": {"size": [8, 8]},
}
CLASSIFICATION: dict[str, Any] = _COMMON | {
    "kind": "classification",
    "accepts": {"Modality": "CR"},
    "intensity": {"values": "brightness", "scale": {"low": "p0", "high": "p100", "to": [0, 255]}},
    "image": {"size": [8, 8]},
    "classes": [
        {"index": 1, "name": "brightness", "code": ["371244009", "SCT", "Yellow"], "threshold": 0.5}
    ],
}
QUALITY: dict[str, Any] = {k: v for k, v in CLASSIFICATION.items() if k != "classes"} | {
    "kind": "quality",
    "faults": [
        {"index": 0, "name": "dark", "limited": 0.3, "non_diagnostic": 0.6},
        {"index": 1, "name": "bright", "limited": 0.3, "non_diagnostic": 0.6},
    ],
    "notes": [{"index": 2, "name": "AP view", "otherwise": "PA view"}],
}
REGRESSION: dict[str, Any] = {k: v for k, v in CLASSIFICATION.items() if k != "classes"} | {
    "kind": "regression",
    "values": [
        {
            "index": 1,
            "name": "Bone age",
            "code": ["BONE_AGE", "99TEST", "Bone age"],
            "unit": ["mo", "UCUM", "month"],
            "factor": 240,
            "offset": -12,
            "plausible": [0, 216],
        }
    ],
}


class FunctionRuntime:
    """A runtime whose network is a Python function; it remembers what it was given."""

    description = "a function"
    inputs = ("x",)
    outputs = ("y",)

    def __init__(self, network: Network) -> None:
        self.network = network
        self.given: list[NDArray[Any]] = []

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        self.given.append(inputs["x"])
        return {"y": self.network(inputs["x"])}

    def close(self) -> None:
        """Nothing is held."""


def write_engine(root: Path, written: Mapping[str, Any], **changes: Any) -> Path:
    """Write an engine folder below `root`, with stand-ins for its files, and return it."""
    written = {**written, **changes}
    folder = root / str(written.get("name", "an_engine"))
    folder.mkdir(parents=True)
    (folder / "engine.yaml").write_text(yaml.safe_dump(written, sort_keys=False), "utf-8")
    (folder / "model.onnx").write_bytes(b"model")
    (folder / "locate.onnx").write_bytes(b"locate")
    np.savez(folder / "test_vector.npz", input=np.zeros(1), output=np.zeros(1))
    return folder


def two_channels(values: NDArray[Any]) -> NDArray[Any]:
    """Return probabilities of background and of what is denser than air, from HU."""
    inside = np.clip((values + 1000) / 1000, 0, 1)
    return np.concatenate([1 - inside, inside], axis=1).astype(np.float32)
