"""What a network that looks at an image or a series as a whole says of it: classes, faults."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from dicom_node.errors import EngineError, StudyUnusable
from dicom_node.finding import Classification, Fault, Quality, QualityGrade
from dicom_node.infer.asking import SLICE, SLICES_AT_ONCE, VOLUME, Asked, tensors_of
from dicom_node.infer.blocks import Model, Take, VolumeInput
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.runtimes.port import Runtime
from dicom_node.infer.windows import windows_over


def outputs_of(
    tensor: NDArray[np.float32],
    model: Model,
    runtimes: Sequence[Runtime],
    axes: tuple[int, int, int],
    names: Sequence[str] = (),
) -> NDArray[np.float32]:
    """Return what the networks give of each item of a tensor, shape (n, outputs).

    Parameters
    ----------
    tensor : numpy.ndarray, shape (n, channels, ...), float32
    model : Model
        Logits become probabilities: by softmax where classes exclude each other, else by sigmoid.
    runtimes : sequence of Runtime
    axes : tuple of int
        Where slice, row and column lie in the tensor.
    names : sequence of str
        The input of the network that takes each channel.

    Raises
    ------
    EngineError
        If a network fails or answers with something else.
    """
    answer = Asked(model, runtimes, names).answer(tensor, axes)
    if answer.ndim != 2:
        raise EngineError(f"{model.file} does not answer with one row of numbers an image")
    outputs = np.asarray(answer, np.float32)
    return _probabilities(outputs, model.classes_are) if model.gives == "logits" else outputs


def finite(outputs: NDArray[np.float32], model: Model) -> NDArray[np.float32]:
    """Return outputs that are numbers, all of them.

    Raises
    ------
    EngineError
        If one is none.
    """
    if not np.isfinite(outputs).all():
        raise EngineError(f"{model.file} answers with what is no number")
    return outputs


def outputs_of_volume(
    values: NDArray[np.float32],
    wanted: VolumeInput,
    model: Model,
    runtimes: Sequence[Runtime],
    names: Sequence[str] = (),
) -> NDArray[np.float32]:
    """Return what the networks give of a whole volume, shape (outputs,).

    A network that sees a part of it is asked about several, and their answers are combined as
    the manifest says.

    Parameters
    ----------
    values : numpy.ndarray, shape (series, slices, rows, columns), float32
        On the network's grid.
    names : sequence of str
        The input of the network that sees each series.
    """
    axes = VOLUME if wanted.network_sees in {"whole", "window"} else SLICE
    parts = [outputs_of(tensor, model, runtimes, axes, names) for tensor in _parts(values, wanted)]
    if not parts:
        raise StudyUnusable("nothing but air")
    outputs = finite(np.concatenate(parts), model)
    combined = outputs.max(axis=0) if wanted.combine == "max" else outputs.mean(axis=0)
    return np.asarray(combined, np.float32)


def _parts(values: NDArray[np.float32], wanted: VolumeInput) -> Iterator[NDArray[Any]]:
    if wanted.network_sees == "whole":
        yield values[None]
    elif wanted.network_sees == "window" and wanted.window is not None:
        window = wanted.window
        shape = (values.shape[1], values.shape[2], values.shape[3])
        windows = windows_over(shape, window.size, window.overlap)
        for start in windows:
            part = values[(slice(None), *windows.part(start))]
            if window.skip_below is None or (part[0] >= window.skip_below).any():
                yield part[None]
    else:
        at = taken(values.shape[1], wanted.take)
        for first in range(0, len(at), SLICES_AT_ONCE):
            yield tensors_of(values, wanted.slab_slices or 1, at[first : first + SLICES_AT_ONCE])


def taken(count: int, take: Take) -> list[int]:
    """Return which slices of a volume are asked about, evenly over the part that is meant."""
    first, last = take.part[0] * (count - 1), take.part[1] * (count - 1)
    most = int(np.floor(last) - np.ceil(first)) + 1
    wanted = min(take.at_most or most, most)
    if wanted <= 1:
        return [round((first + last) / 2)]
    return sorted({int(at) for at in np.rint(np.linspace(np.ceil(first), np.floor(last), wanted))})


def _probabilities(logits: NDArray[np.float32], classes_are: str) -> NDArray[np.float32]:
    if classes_are == "independent":
        sigmoid: NDArray[np.float32] = expit(logits)
        return sigmoid
    likelihoods: NDArray[np.float32] = softmax(logits, axis=1)
    return likelihoods


def classified(
    uid: str, answer: NDArray[np.float32], manifest: Manifest
) -> tuple[Classification, ...]:
    """Return what a classifier says of the image `uid`."""
    return tuple(
        Classification(uid, one.code, one.name, _at(answer, one.index, manifest), one.threshold)
        for one in manifest.classes
    )


def graded(uid: str, answer: NDArray[np.float32], manifest: Manifest) -> Quality:
    """Return the grade of the image `uid`: that of its worst fault."""
    grade = QualityGrade.DIAGNOSTIC
    faults = []
    for one in manifest.faults:
        probability = _at(answer, one.index, manifest)
        faults.append(Fault(one.name, probability, probability >= one.limited))
        if probability >= one.non_diagnostic:
            grade = QualityGrade.NON_DIAGNOSTIC
        elif probability >= one.limited and grade is QualityGrade.DIAGNOSTIC:
            grade = QualityGrade.LIMITED
    notes = []
    for note in manifest.notes:
        probability = _at(answer, note.index, manifest)
        if probability >= 0.5:
            notes.append(f"{note.name} ({probability:.2f})")
        elif note.otherwise:
            notes.append(f"{note.otherwise} ({1 - probability:.2f})")
    return Quality(uid, grade, tuple(faults), tuple(notes))


def classification_summary(found: tuple[Classification, ...]) -> str:
    """Return, for each class, its largest probability: "pneumonia 0.08 (absent)"."""
    names = list(dict.fromkeys(one.label for one in found))
    words = []
    for name in names:
        own = [one for one in found if one.label == name]
        worst = max(own, key=lambda one: one.probability)
        images = f", {sum(one.present for one in own)} of {len(own)} images" * (len(own) > 1)
        presence = "present" if worst.present else "absent"
        words.append(f"{name} {worst.probability:.2f} ({presence}{images})")
    return ", ".join(words)


def quality_summary(found: tuple[Quality, ...]) -> str:
    """Return the worst grade and its faults: "quality non-diagnostic: inverted 0.99"."""
    order = list(QualityGrade)
    worst = max(found, key=lambda one: order.index(one.grade))
    faults = sorted((f for f in worst.faults if f.found), key=lambda f: -f.probability)
    words = ", ".join(f"{fault.name} {fault.probability:.2f}" for fault in faults)
    images = f" ({sum(one.grade is worst.grade for one in found)} of {len(found)} images)"
    return f"quality {worst.grade}{f': {words}' if words else ''}{images if len(found) > 1 else ''}"


def _at(answer: NDArray[np.float32], index: int, manifest: Manifest) -> float:
    if index >= len(answer):
        raise EngineError(
            f"{manifest.name} names output {index}, but its network has {len(answer)}"
        )
    probability = float(answer[index])
    if not -1e-6 <= probability <= 1 + 1e-6:
        raise EngineError(f"{manifest.name}: output {index} is {probability:g}, no probability")
    return min(max(probability, 0.0), 1.0)
