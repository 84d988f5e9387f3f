"""NumPy archives of data sets."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.recipes.errors import DataUnusable


def read_arrays(file: Path, names: Sequence[str], what: str) -> dict[str, NDArray[Any]]:
    """Return arrays of an archive by name.

    Parameters
    ----------
    file : pathlib.Path
    names : sequence of str
    what : str
        What the file must be, for whoever named another.

    Raises
    ------
    DataUnusable
        If it is broken, or lacks one of them.
    """
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            if missing := [name for name in names if name not in archive]:
                raise DataUnusable(f"{file.name} lacks {', '.join(missing)}", hint=f"name {what}")
            return {name: archive[name] for name in names}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise DataUnusable(
            f"{file.name} cannot be read: {error}", hint="fetch it again: it is broken"
        ) from error
