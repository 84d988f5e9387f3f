"""Frontal chest X-rays of NIH ChestX-ray14 with their view: what two recipes learn from."""

from __future__ import annotations

from pathlib import Path

from engines.recipes.loaders import load
from engines.recipes.loaders.nih import AP_VIEW
from engines.recipes.preparation import Preparation
from engines.recipes.samples import Samples

_FILE = "nih_chestxray14_1000_64.npz"
_FRACTIONS = (0.6, 0.2, 0.2)


def views(directory: Path, preparation: Preparation) -> Samples:
    """Return the excerpt that a folder has, or else the set; split by patient."""
    file = directory / _FILE
    where = file if file.is_file() else directory
    return load(
        "nih", where, preparation=preparation, labels=(AP_VIEW,), fractions=_FRACTIONS, seed=1
    )
