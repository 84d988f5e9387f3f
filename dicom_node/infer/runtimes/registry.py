"""The runtimes by name; each is imported when it is first asked for."""

from __future__ import annotations

from importlib import import_module, metadata
from importlib.util import find_spec

from dicom_node.errors import ConfigError
from dicom_node.infer.runtimes.port import RuntimeKind

DEFAULT = "onnxruntime"
"""Always there, with all operators: what the others are compared with."""

_MODULES = ("onnxruntime", "openvino", "tensorrt", "kserve", "null")
NAMES = tuple(name for name in _MODULES if find_spec(f"{__package__}.{name}") is not None)

ON_GPU = tuple(name for name in ("tensorrt",) if name in NAMES)
ON_CPU = (DEFAULT, "openvino")
"""Those that may be chosen by themselves. Not `kserve`: whether pixels leave this machine is for
its administrator to say. Not `null`: it runs no network."""

_PACKAGES = {
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-rtx-cu13"),
}


def kind(name: str) -> RuntimeKind:
    """Return a runtime by its name.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    if name not in NAMES:
        raise ConfigError(f"there is no runtime called {name}", hint=f"have: {', '.join(NAMES)}")
    found: RuntimeKind = import_module(f"{__package__}.{name}").KIND
    return found


def available() -> dict[str, str]:
    """Return all runtimes, each with what it lacks on this machine, or nothing."""
    return {name: kind(name).missing() for name in NAMES}


def version(name: str) -> str:
    """Return the installed version of a runtime's library; empty if it has none of its own."""
    for package in _PACKAGES.get(name, ()):
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return ""
