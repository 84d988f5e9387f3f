"""An engine's test vector: what a network is asked, and what it answered when it was released."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import EngineError
from dicom_node.infer.parity import Limits, Meaning
from dicom_node.infer.runtimes.port import Arrays


@dataclass(frozen=True, eq=False)
class Vector:
    """What a network is asked, and what it should answer."""

    inputs: Arrays
    output: str
    expected: NDArray[Any]
    meaning: Meaning
    limits: Limits


def read_vector(
    file: Path,
    inputs: Mapping[str, str],
    output: str,
    expected: str,
    meaning: Meaning,
    limits: Limits,
) -> Vector:
    """Return a test vector.

    Parameters
    ----------
    file : Path
        A NumPy archive.
    inputs : mapping of str to str
        By the name of each input of the network, that of its array in the archive.
    output, expected : str
        The output that is compared, and the array that it should be.
    meaning : Meaning
    limits : Limits

    Raises
    ------
    EngineError
        If it cannot be read, or lacks an array.
    """
    try:
        with file.open("rb") as opened, np.load(opened) as archive:
            arrays = {name: archive[name] for name in (*inputs.values(), expected)}
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        told = f"{file.name} has not the arrays {', '.join((*inputs.values(), expected))}"
        raise EngineError(f"{told}: {error}") from error
    given = {name: arrays[array].astype(np.float32) for name, array in inputs.items()}
    return Vector(given, output, arrays[expected], meaning, limits)
