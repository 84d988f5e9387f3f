"""Numbers that a network gives for an image or a series: what they mean, in which unit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import EngineError, StudyUnusable
from dicom_node.finding import Value
from dicom_node.infer.manifest import Manifest


def regressed(uid: str, answer: NDArray[np.float32], manifest: Manifest) -> tuple[Value, ...]:
    """Return the numbers that a network gives.

    Parameters
    ----------
    uid : str
        SOP Instance UID of the image; empty if they are said of the series as a whole.
    answer : numpy.ndarray, shape (outputs,)
    manifest : Manifest
        Other engines than regressions have no numbers.

    Raises
    ------
    StudyUnusable
        If a number is not plausible by the manifest.
    EngineError
        If the network has fewer outputs than the manifest names.
    """
    values = []
    for one in manifest.values:
        if one.index >= len(answer):
            raise EngineError(
                f"{manifest.name} names output {one.index}, but its network has {len(answer)}"
            )
        value = float(answer[one.index]) * one.factor + one.offset
        if one.plausible and not one.plausible[0] <= value <= one.plausible[1]:
            raise StudyUnusable(
                f"{one.name} would be {value:.4g} {one.unit.meaning}, not plausible: "
                f"{one.plausible[0]:g} to {one.plausible[1]:g}"
            )
        values.append(Value(uid, one.code, one.name, value, one.unit))
    return tuple(values)


def value_summary(values: Sequence[Value]) -> str:
    """Return each number with its unit; of several images the range: "age 120 to 131 month"."""
    words = []
    for label in dict.fromkeys(one.label for one in values):
        own = [one for one in values if one.label == label]
        least, most = min(one.value for one in own), max(one.value for one in own)
        number = f"{least:.4g}" if len(own) == 1 else f"{least:.4g} to {most:.4g}"
        images = f" ({len(own)} images)" * (len(own) > 1)
        words.append(f"{label} {number} {_unit(own[0])}".rstrip() + images)
    return ", ".join(words)


def _unit(value: Value) -> str:
    return "" if value.unit.value == "1" else value.unit.meaning
