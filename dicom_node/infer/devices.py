"""Which GPU the libraries of one process see: its own, as the first and only one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

Device = Literal["auto", "cpu"] | int
"""auto leaves all there is to the runtimes; a number is the ordinal that `nvidia-smi` shows."""

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_NONE = "-1"
_DRIVER = Path("/dev/nvidiactl")


def environment_for(device: Device, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to set before a CUDA library is loaded.

    Where a container or an administrator has narrowed the devices already, the ordinal counts
    among those that are left.

    >>> environment_for(1, {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"})["CUDA_VISIBLE_DEVICES"]
    'GPU-b'
    """
    if device == "auto":
        return {}
    if device == "cpu":
        return {_VISIBLE: _NONE}
    name = str(device)
    if _VISIBLE in environment:
        here = [one.strip() for one in environment[_VISIBLE].split(",") if one.strip()]
        name = here[device] if device < len(here) else _NONE
    # the order of nvidia-smi, not the fastest first
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", _VISIBLE: name}


def may_be_gpu(device: Device, driver: Path = _DRIVER) -> bool:
    """Return whether a runtime may take a GPU here, whose memory it then shares with others."""
    return driver.exists() if device == "auto" else device != "cpu"
