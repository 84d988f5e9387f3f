"""The texts of a new engine's folder: what the model tells is filled in, the rest is to be changed.

Until it is, the engine refuses every series: none has the Modality CHANGE.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.infer.authoring.shapes import Told
from dicom_node.infer.runtimes.onnx_file import OnnxFile

_ROUNDING = 1e-3
_COLUMN = 48
"""Where comments behind a line stand."""


@dataclass(frozen=True)
class Answers:
    """What the numbers of an output look like."""

    gives: str
    classes_are: str
    channels: int

    @classmethod
    def of(cls, answer: NDArray[Any]) -> Answers:
        """Return what the answer to noise shows: numbers from 0 to 1 are probabilities."""
        channels = answer.shape[1]
        if answer.dtype.kind in "iu":
            return cls("labels", "exclusive", channels)
        if answer.min() < -_ROUNDING or answer.max() > 1 + _ROUNDING:
            return cls("logits", "exclusive" if channels > 1 else "independent", channels)
        adds_up = bool(np.allclose(answer.sum(axis=1), 1.0, atol=_ROUNDING))
        exclusive = adds_up and channels > 1
        return cls("probabilities", "exclusive" if exclusive else "independent", channels)


def manifest_of(
    name: str, source: str, digest: str, declared: OnnxFile, told: Told, answers: Answers
) -> str:
    """Return the text of an `engine.yaml` that loads as it is."""
    lines = [
        *_who(name, source, told),
        *_model(digest, declared, told, answers),
        *_intensity(),
        *(_image(told) if told.sees == "image" else _volume(told)),
        *(_classes(answers) if told.classifies else _segments(answers)),
        "test_vector:  # noise, and what onnxruntime answered; add real input",
        "  file: test_vector.npz",
        "  tolerance: 0.001  # of a value; for labels the share that may differ",
    ]
    return "".join(f"{_aligned(line)}\n" for line in lines)


def card_of(name: str, source: str) -> str:
    """Return the text of a card with its questions."""
    return f"""\
# {name}

CHANGE: what it finds, in a sentence. Demonstration only, not a medical device.

| | |
| --- | --- |
| made of | `{source}` |
| network | CHANGE: kind, weights, what it sees at a time |
| trained on | CHANGE: data set, how many patients, which scanners, from when |
| tested on | CHANGE: other data, with figures: Dice, or sensitivity and specificity |
| not for | CHANGE: ages, anatomy, protocols that it was not trained on |
| licence of the weights | CHANGE |
"""


def _who(name: str, source: str, told: Told) -> Iterator[str]:
    yield f"# Made of {source} by `dicom-node engines import`. Every word is explained in"
    yield "# docs/engines.md. Look for CHANGE; until `accepts` is changed, every series is refused."
    yield ""
    yield f"name: {name}"
    yield "version: 0.1.0"
    yield f"title: {name.replace('_', ' ').capitalize()}"
    if told.classifies:
        yield "kind: classification  # or quality, with faults in place of classes"
    else:
        yield "kind: segmentation"
    yield "description: >-"
    yield "  CHANGE: for the report: what it does, on what it was trained, how good it is."
    yield "limits:  # sentences that every report repeats"
    yield "  - Demonstration only, not a medical device."
    yield ""
    yield "accepts:  # conditions on the series, by DICOM keyword"
    yield "  Modality: CHANGE  # CT, MR, [CR, DX] ..."
    yield "  # BodyPartExamined: CHEST"
    yield '  # instance_count: ">= 10"'
    yield "  # PatientSpeciesDescription: [absent, human, homo sapiens]"
    yield ""


def _model(digest: str, declared: OnnxFile, told: Told, answers: Answers) -> Iterator[str]:
    yield "model:"
    yield "  file: model.onnx"
    yield f"  sha256: {digest}"
    yield f"  input: {_quoted(told.input.name)}  # {told.input}"
    yield f"  output: {_quoted(told.output.name)}  # {told.output}"
    for other in declared.ends.outputs[1:]:
        yield f"  # output: {_quoted(other.name)} is there too: {other}"
    yield f"  gives: {answers.gives}  # probabilities, logits or labels; by its answer to noise"
    yield f"  classes_are: {answers.classes_are}  # exclusive (softmax) or independent (sigmoid)"
    yield "  # mirrors: []  # flips to average over: [[1], [2], [1, 2]]"
    yield "  # precisions: [fp32, fp16]  # in which it is good enough; bf16 too?"
    yield ""


def _intensity() -> Iterator[str]:
    yield "intensity:"
    yield "  values: brightness  # CHANGE: or hounsfield, for CT"
    yield "  # clip: [-1024, 3071]  # what scanners fill in outside their field"
    yield "  # scale: {low: p1, high: p99, to: [0, 1]}  # numbers or percentiles"
    yield ""


def _image(told: Told) -> Iterator[str]:
    rows, columns = (side or 64 for side in told.sides)
    changes = "" if None not in told.sides else "  # CHANGE: the model takes any"
    yield "image:"
    yield f"  size: [{rows}, {columns}]{changes}"
    yield "  # field: central square  # or whole: stretched"
    yield "  # pixels_min: 1  # rows and columns that an image must have"
    yield ""


def _volume(told: Told) -> Iterator[str]:
    yield "volume:"
    yield f"  network_sees: {told.sees}"
    yield "  axes: HPL  # CHANGE: where slices, rows and columns point"
    sides = (None, *told.sides) if len(told.sides) == 2 else told.sides
    if told.sees == "window":
        size = ", ".join(str(side) for side in told.sides)
        yield f"  window: {{size: [{size}], overlap: 0.5, weights: gaussian}}"
        sides = (None, None, None)
    if any(sides):
        spacing = ", ".join("1" if side else "null" for side in sides)
        yield f"  spacing_mm: [{spacing}]  # CHANGE: null keeps the series' own"
        yield f"  size: [{', '.join(str(side or 'null') for side in sides)}]"
    else:
        yield "  # spacing_mm: [1, 1, 1]  # CHANGE: null keeps the series' own"
    if told.sees == "whole" and None in told.sides:
        yield "  # size_multiple: 1  # 16 for a network that halves four times"
    if told.sees == "slab":
        yield f"  slab_slices: {told.channels}"
    yield "  # pad: 0  # around a smaller field of view"
    yield "  # slice_spacing_mm: [0.3, 10]  # of the series"
    yield "  # pixel_spacing_mm: [0.3, 1.3]"
    yield ""


def _classes(answers: Answers) -> Iterator[str]:
    yield "classes:  # leave out the index that means nothing was found"
    for index in range(answers.channels):
        yield f"  - index: {index}"
        yield f"    name: class {index}  # CHANGE"
        yield f"    code: [class-{index}, 99LOCAL, Class {index}]  # CHANGE: a code of SCT"
        yield "    threshold: 0.5  # CHANGE: from this probability it is present"
    yield ""


def _segments(answers: Answers) -> Iterator[str]:
    background = answers.classes_are == "exclusive" and answers.gives != "labels"
    count = answers.channels - 1 if background else answers.channels
    if answers.gives == "labels":
        yield "segments:  # CHANGE: one for each of the network's numbers"
    else:
        yield "segments:"
    for label in range(1, max(count, 1) + 1):
        yield f"  - label: {label}"
        yield f"    name: Segment {label}  # CHANGE"
        yield "    category: [91723000, SCT, Anatomical Structure]"
        yield "    type: [85756007, SCT, Tissue]  # CHANGE: of CID 7151"
        yield "  # modifier: [24028007, SCT, Right]"
    yield "# components: {keep: all, connectivity: 26, volume_min_ml: 0}"
    yield ""


def _quoted(name: str) -> str:
    plain = name.replace("_", "").replace("-", "").isalnum() and not name.isdigit()
    return name if plain else "'" + name.replace("'", "''") + "'"


def _aligned(line: str) -> str:
    """Return a line with the comment behind it in its column."""
    match = re.fullmatch(r"( *\S.*?)  # (.*)", line)
    return f"{match[1]:<{_COLUMN}}# {match[2]}" if match else line
