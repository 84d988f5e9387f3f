"""The peer of the GPU benchmark: PyTorch with AMP and a sliding window as MONAI's.

Written as a good MONAI user would have it: voxels go up as they are stored, everything else happens
on the GPU; windows of one batch through the network under autocast, a Gaussian importance map, an
accumulator and a count map on the GPU, interpolation by `interpolate`, labels down as uint8.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from itertools import product
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional


class Stages:
    """Seconds by stage; the device is waited for at the end of each."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Any:
        begun = perf_counter()
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - begun


def importance(size: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Return the Gaussian importance map of a window, sigma an eighth of its side."""
    rows = []
    for side in size:
        away = torch.arange(side, device=device, dtype=torch.float32) - (side - 1) / 2
        rows.append(torch.exp(-0.5 * (away / (side / 8)) ** 2))
    return rows[0][:, None, None] * rows[1][None, :, None] * rows[2][None, None, :]


def starts_of(whole: int, side: int, overlap: float) -> list[int]:
    step = max(side * (1 - overlap), 1)
    count = int(np.ceil((whole - side) / step - 1e-9)) + 1
    return [int(at) for at in np.rint(np.linspace(0, whole - side, count))]


def sliding_window(
    values: torch.Tensor,
    network: Callable[[torch.Tensor], torch.Tensor],
    size: tuple[int, int, int],
    overlap: float,
    batch: int,
) -> torch.Tensor:
    """Return the averaged answers for a volume (d, h, w), shape (classes, d, h, w)."""
    weights = importance(size, values.device)
    places = list(
        product(*(starts_of(w, s, overlap) for w, s in zip(values.shape, size, strict=True)))
    )
    total = count = None
    for first in range(0, len(places), batch):
        parts = [
            tuple(slice(at, at + side) for at, side in zip(place, size, strict=True))
            for place in places[first : first + batch]
        ]
        answers = network(torch.stack([values[part] for part in parts])[:, None]).float()
        if total is None or count is None:
            total = torch.zeros((answers.shape[1], *values.shape), device=values.device)
            count = torch.zeros(values.shape, device=values.device)
        for part, answer in zip(parts, answers, strict=True):
            total[(slice(None), *part)] += answer * weights
            count[part] += weights
    assert total is not None
    assert count is not None
    return total / count


def labels_of(
    stored: NDArray[np.int16],
    network: torch.nn.Module,
    *,
    device: torch.device,
    slope: float,
    intercept: float,
    limits: tuple[float, float],
    window: tuple[int, int, int] | None,
    overlap: float,
    batch: int,
    grid: tuple[int, int, int] | None,
    amp: bool,
) -> tuple[NDArray[np.uint8], dict[str, float]]:
    """Return the label of each voxel, and the seconds of each stage.

    Parameters
    ----------
    stored : numpy.ndarray, shape (slices, rows, columns), int16
    limits : tuple of float
        Values are held within them and brought to 0 .. 1.
    window : tuple of int, optional
        Without one the network sees the whole volume, or, if it is 2-D, its slices.
    grid : tuple of int, optional
        The network's grid, if it is not the source's.
    """
    stages = Stages(device)

    def run(tensor: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.float16, enabled=amp):
            return network(tensor)

    with torch.inference_mode():
        with stages.stage("up"):
            up = torch.from_numpy(stored).to(device, non_blocking=True)
        with stages.stage("prepare"):
            values = up.float() * slope + intercept
            values = (values.clamp(*limits) - limits[0]) / (limits[1] - limits[0])
            if grid is not None:
                values = functional.interpolate(
                    values[None, None], grid, mode="trilinear", align_corners=False
                )[0, 0]
        with stages.stage("network"):
            if window is None:
                answer = run(values[None, None])[0]
            else:
                answer = sliding_window(values, run, window, overlap, batch)
        with stages.stage("labels"):
            if grid is not None:
                answer = functional.interpolate(
                    answer[None], stored.shape, mode="trilinear", align_corners=False
                )[0]
            labels = answer.argmax(dim=0).to(torch.uint8)
        with stages.stage("down"):
            result: NDArray[np.uint8] = labels.cpu().numpy()
    return result, stages.seconds
