"""Single images, each by itself, through a network to classes or faults."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import EngineError, StudyUnusable
from dicom_node.finding import Classification, Fault, Quality, QualityGrade
from dicom_node.infer.blocks import ImageInput, Intensity, Model
from dicom_node.infer.intensity import clipped, scaled
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.pixels import network_values
from dicom_node.infer.resample import axis_weights, resample
from dicom_node.infer.runtimes.port import Runtime
from dicom_node.infer.series import SourceImage


def to_network(
    values: NDArray[np.float32], wanted: ImageInput, intensity: Intensity
) -> NDArray[np.float32]:
    """Return an image as its network sees it.

    Parameters
    ----------
    values : numpy.ndarray, shape (rows, columns), float32
        As `pixels.network_values` gives them.
    wanted : ImageInput
    intensity : Intensity
        Its scale is taken over the whole image, before the field is cut.

    Returns
    -------
    numpy.ndarray, shape (rows, columns) of the network, float32

    Raises
    ------
    StudyUnusable
        If the image is too small or has no contrast.
    """
    if min(values.shape) < wanted.pixels_min:
        raise StudyUnusable(
            f"{values.shape[0]} x {values.shape[1]} pixels, fewer than {wanted.pixels_min}"
        )
    values = scaled(clipped(values, intensity.clip), intensity.scale)
    if wanted.field == "central square":
        side = min(values.shape)
        top, left = ((size - side) // 2 for size in values.shape)
        values = values[top : top + side, left : left + side]
    for axis, (size, wanted_size) in enumerate(zip(values.shape, wanted.size, strict=True)):
        values = resample(values, axis_weights(size, 1.0, wanted_size, size / wanted_size), axis)
    return values


def prepared(image: SourceImage, wanted: ImageInput, intensity: Intensity) -> NDArray[np.float32]:
    """Return one image as its network sees it; see `to_network`."""
    values = network_values(image.file, image.header, intensity.values)
    return to_network(values, wanted, intensity)


def probabilities(
    tensor: NDArray[np.float32], model: Model, runtime: Runtime
) -> NDArray[np.float32]:
    """Return the probabilities for one image on the network's grid, shape (outputs,)."""
    answer = runtime.run({model.input: tensor[None, None]})[model.output]
    if answer.ndim != 2 or len(answer) != 1 or not np.isfinite(answer).all():
        raise EngineError(f"{model.file} does not answer with probabilities")
    return np.asarray(answer[0], np.float32)


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
