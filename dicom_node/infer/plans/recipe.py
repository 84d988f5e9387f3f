"""Everything that a plan depends on, in clear; its digest is the plan's name."""

from __future__ import annotations

import ctypes
import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from dicom_node.infer.gpu import driver
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.plans import builder
from dicom_node.infer.plans.library import Library
from dicom_node.infer.plans.source import Source
from dicom_node.infer.runtimes.port import Profile


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A device, as far as a plan depends on it."""

    name: str
    arch: str
    """sm_90."""
    memory_bytes: int
    """Of the slice, where the card is divided."""
    cuda: int
    """The major version of CUDA that the driver has."""

    @classmethod
    def of(cls, device: Device) -> Gpu:
        """Return what a plan depends on of a device that is open."""
        version = ctypes.c_int()
        driver.call("cuDriverGetVersion", ctypes.byref(version))
        return cls(
            name=device.name,
            arch=device.arch,
            memory_bytes=device.total_bytes,
            cuda=version.value // 1000,
        )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a plan is made, of what and where."""

    model: str
    """The name of its file; not a part of the key."""
    model_sha256: str
    precision: str
    converter: str
    shapes: Mapping[str, Profile]
    workspace_bytes: int
    tensorrt: str
    """The module, and its version in full."""
    builder: int
    """The version of what we tell TensorRT."""
    gpu: Gpu
    platform: str

    @property
    def key(self) -> str:
        """SHA-256 over all of it but the name of the file, in hexadecimal digits."""
        clear = {name: value for name, value in self.in_clear().items() if name != "model"}
        return hashlib.sha256(json.dumps(clear, sort_keys=True).encode()).hexdigest()

    def in_clear(self) -> dict[str, object]:
        """Return every field, as JSON has it."""
        clear: dict[str, object] = json.loads(json.dumps(asdict(self)))
        return clear


def recipe_of(
    source: Source,
    shapes: Mapping[str, Profile],
    library: Library,
    gpu: Gpu,
    workspace_bytes: int,
) -> Recipe:
    """Return the recipe of a plan that would be built now."""
    return Recipe(
        model=source.name,
        model_sha256=source.digest,
        precision=source.precision,
        converter=source.converter,
        shapes=dict(shapes),
        workspace_bytes=workspace_bytes,
        tensorrt=library.flavour,
        builder=builder.VERSION,
        gpu=gpu,
        platform=f"{platform.system()} {platform.machine()}",
    )
