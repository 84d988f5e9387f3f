"""What takes a minute to make is made once a run, by whichever of xdist's workers is first."""

from __future__ import annotations

import fcntl
import os
import pickle
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")


def once_a_run(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[], T]) -> T:
    """Return what `make` returns: made here, or read where another worker has left it.

    Parameters
    ----------
    name : str
        Of the file, in the folder that lives as long as the run.
    make : callable
        What it returns must be picklable.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # each worker has one of its own in the run's
    file = folder / f"{name}.pickle"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go by closing
        if not file.exists():
            made = make()
            beside = file.with_suffix(".part")
            beside.write_bytes(pickle.dumps(made))
            beside.rename(file)
        found: T = pickle.loads(file.read_bytes())
    return found
