"""The runtimes by name; each is imported when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module, metadata
from importlib.util import find_spec

from dicom_node.infer.runtimes.port import RuntimeKind

DEFAULT = "onnxruntime"
"""Always there, with all operators: what the others are compared with."""
NULL = "null"

ON_GPU = ("tensorrt",)
ON_CPU = (DEFAULT, "openvino")
"""Those that may be chosen by themselves. Not `kserve`: whether pixels leave this machine is for
its administrator to say. Not `null`: it runs no network."""

_MODULES = (DEFAULT, "openvino", "tensorrt", "kserve", NULL)
_PACKAGES = {
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-rtx-cu13"),
}


class _Runtimes(Mapping[str, RuntimeKind]):
    names = tuple(name for name in _MODULES if find_spec(f"{__package__}.{name}") is not None)

    def __getitem__(self, name: str) -> RuntimeKind:
        if name not in self.names:
            raise KeyError(name)
        kind: RuntimeKind = import_module(f"{__package__}.{name}").KIND
        return kind

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


RUNTIMES: Mapping[str, RuntimeKind] = _Runtimes()


def available(runtimes: Mapping[str, RuntimeKind] = RUNTIMES) -> dict[str, str]:
    """Return all runtimes, each with what it lacks on this machine, or nothing."""
    return {name: kind.missing() for name, kind in runtimes.items()}


def version(name: str) -> str:
    """Return the installed version of a runtime's library; empty if it has none of its own."""
    for package in _PACKAGES.get(name, ()):
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return ""
