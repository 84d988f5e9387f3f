"""Data sets as samples: one module for each kind of them.

load("medmnist", file) -> Samples
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from engines.recipes.errors import DataUnusable
from engines.recipes.samples import Samples

KINDS = ("lidc", "medmnist", "nih", "studies")


def load(kind: str, directory: Path, **options: Any) -> Samples:
    """Return the samples of a data set.

    Parameters
    ----------
    kind : str
        One of `KINDS`: the module of that name reads it.
    directory : pathlib.Path
        As that module wants it laid out.
    **options
        Those of the `load` of that module.

    Raises
    ------
    DataUnusable
        If the data are not as they must be; the hint says who has to do what.
    """
    if kind not in KINDS:
        raise DataUnusable(f"nobody reads {kind}", hint=f"one of {', '.join(KINDS)}")
    if not directory.exists():
        raise DataUnusable(f"{directory} is not there", hint="docs/recipes-data.md says from where")
    loader: Callable[..., Samples] = import_module(f"{__name__}.{kind}").load
    return loader(directory, **options)
