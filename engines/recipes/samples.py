"""What a network learns from: images with what is known of them, and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.recipes.errors import DataUnusable

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Samples:
    """Images, targets and patients, in one order.

    Raises
    ------
    DataUnusable
        If they do not fit together, or the patient of an image is not named.
    """

    images: NDArray[np.float32]
    """(n, rows, columns, channels): what the node will hand to the network. 0 to 255 for X-rays,
    Hounsfield units for CT."""
    targets: NDArray[Any]
    """float32 (n, labels) in 0 to 1, NaN where nobody knows; or uint8 (n, rows, columns), the label
    of each pixel."""
    labels: tuple[str, ...]
    """The names of the columns of `targets`; of a label map, those of its values from 0."""
    patients: NDArray[np.str_]
    """(n,): by these the data are split."""
    names: NDArray[np.str_]
    """(n,): where each came from."""
    split: NDArray[np.str_] | None
    """(n,) of `SPLITS`, where the data come with a split or `split.by_patient` made one."""
    licence: str
    attribution: str
    """What its licence wants to be said, and what the card says besides."""
    source: str

    def __post_init__(self) -> None:
        count = len(self.images)
        if self.images.ndim != 4 or self.images.dtype != np.float32:
            raise DataUnusable(
                f"images are {self.images.dtype} {self.images.shape}, not float32 "
                "(n, rows, columns, channels)"
            )
        for name in ("targets", "patients", "names", "split"):
            column = getattr(self, name)
            if column is not None and len(column) != count:
                raise DataUnusable(f"{count} images, but {len(column)} of {name}")
        if self.is_label_map:
            self._require_label_map()
        elif self.targets.dtype != np.float32 or self.targets.shape != (count, len(self.labels)):
            raise DataUnusable(
                f"targets are {self.targets.dtype} {self.targets.shape}, not float32 "
                f"({count}, {len(self.labels)})"
            )
        if np.any(self.patients == ""):
            where = self.names[np.flatnonzero(self.patients == "")[0]]
            raise DataUnusable(
                f"nobody says whose {where} is",
                hint="name the patient of each image: the data are split by patient",
            )
        if self.split is not None and not set(np.unique(self.split)) <= set(SPLITS):
            raise DataUnusable(f"split holds other words than {', '.join(SPLITS)}")

    @property
    def is_label_map(self) -> bool:
        """Whether targets give each pixel a label."""
        return self.targets.dtype == np.uint8

    def __len__(self) -> int:
        return len(self.images)

    def take(self, chosen: NDArray[Any] | Sequence[int]) -> Samples:
        """Return some of the samples, chosen by index or by a mask."""
        columns = {
            one.name: getattr(self, one.name)[chosen]
            for one in fields(self)
            if isinstance(getattr(self, one.name), np.ndarray)
        }
        return replace(self, **columns)

    def part(self, name: str) -> Samples:
        """Return the samples of `train`, `validation` or `test`.

        Raises
        ------
        DataUnusable
            If they are not split yet, or there are none.
        """
        if self.split is None:
            raise DataUnusable("the samples are not split", hint="split them with split.by_patient")
        chosen = self.split == name
        if not chosen.any():
            raise DataUnusable(f"no sample is for {name}")
        return self.take(chosen)

    def _require_label_map(self) -> None:
        if self.targets.shape != self.images.shape[:3]:
            raise DataUnusable(f"label maps are {self.targets.shape}, images {self.images.shape}")
        if self.targets.size and int(self.targets.max()) >= len(self.labels):
            raise DataUnusable(f"a label map holds {self.targets.max()}, which has no name")
