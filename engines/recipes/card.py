"""The card of an engine: what it is, how it was made, how good it is, and for whom it is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from textwrap import fill

import numpy as np

from engines.recipes.backend import keras
from engines.recipes.figures import Row
from engines.recipes.recipe import Recipe
from engines.recipes.samples import SPLITS, Samples
from engines.recipes.training import Trained

_WIDTH = 100
_KINDS = {"textbook_cnn": "CNN", "unet": "U-Net", "introductory": "the introductory CNN"}


def trained_on(recipe: Recipe, samples: Samples) -> str:
    """Return in a sentence what it was trained on."""
    if recipe.leave_one_out:
        return f"Trained on {samples.source}."
    images = samples.part("train")
    count = len(np.unique(images.patients))
    whom = f" of {count} patients" if _knows_patients(images) and count > 1 else ""
    return f"Trained on {len(images)} images{whom}, of {len(samples)}: {samples.source}."


def told(recipe: Recipe, trained: Trained) -> str:
    """Return in a sentence how good it is."""
    what = "Dice overlap" if recipe.is_segmentation else "AUC"
    rows = _told_rows(recipe, trained)[: recipe.judged or None]
    each = ", ".join(
        f"{row.name} {row.figure.value:.3f}" if len(rows) > 1 else f"{row.figure.value:.3f}"
        for row in rows
    )
    whom = "patients that it was not trained on"
    if recipe.leave_one_out:
        whom = "each patient by a network that was trained without him"
    if recipe.shares_patients:
        whom = "other slices of the same patient"
    return f"On {whom}, {what} {each}."


def card_of(
    recipe: Recipe,
    trained: Trained,
    samples: Samples,
    name: str,
    command: str,
    pictures: Mapping[str, str],
) -> str:
    """Return the text of the card; `pictures` are captions by file name."""
    sections = [
        _head(recipe, trained, samples, name),
        _figures(recipe, trained),
        *([f"![{caption}]({file})"] for file, caption in pictures.items()),
        _method(recipe, trained, samples, command),
        _limits(recipe),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _head(recipe: Recipe, trained: Trained, samples: Samples, name: str) -> Iterator[str]:
    model = trained.model
    rows, columns = model.input.shape[1:3]
    yield f"# {name}"
    yield ""
    yield f"Made by the recipe `{recipe.name}`: {recipe.told}."
    yield "Demonstration only, **not a medical device**."
    yield ""
    yield "| | |"
    yield "| --- | --- |"
    convolutions = sum(type(each).__name__ == "Conv2D" for each in model.layers)
    yield (
        f"| network | {_KINDS.get(model.name, model.name)}, {convolutions} convolutions, "
        f"{model.count_params():,} weights, trained from scratch |"
    )
    yield f"| it sees | {rows} x {columns} pixels; `engine.yaml` says of what and how |"
    kind = "exclusive" if recipe.exclusive else "each by itself"
    yield f"| it gives | probabilities, {kind}: {', '.join(recipe.outputs)} |"
    yield f"| data | {samples.source}; {samples.licence} |"
    yield f"| parts | {_parts(recipe, samples)} |"


def _figures(recipe: Recipe, trained: Trained) -> Iterator[str]:
    yield "## Figures"
    yield ""
    if recipe.is_segmentation:
        yield "| label | Dice (95 % interval) |"
        yield "| --- | --- |"
        for row in trained.figures.rows:
            yield f"| {row.name} | {row.in_words} |"
        return
    yield (
        "| output | AUC (95 % interval) | threshold | sensitivity | specificity "
        "| calibration error, before |"
    )
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in _told_rows(recipe, trained):
        if row.at is not None:
            yield (
                f"| {row.name} | {row.in_words} | {row.at.threshold:g} "
                f"| {row.at.sensitivity:.3f} | {row.at.specificity:.3f} "
                f"| {row.calibration_error:.3f}, {row.calibration_error_before:.3f} |"
            )
    yield ""
    asked = (
        "Intervals by drawing patients with replacement 1000 times. Thresholds, calibration and "
        "epoch were chosen on validation."
    )
    if recipe.leave_one_out:
        patients = (
            f"{name}: {', '.join(f'{row.name} {value:.3f}' for row, value in each)}."
            for name, each in _by_patient(trained).items()
        )
        asked = f"Too few patients for intervals; AUC of each: {' '.join(patients)}"
    if recipe.specificity:
        asked += f" The threshold spares {recipe.specificity:.0%} of the healthy of validation."
    if trained.figures.untouched:
        asked += (
            f" Of {trained.figures.untouched} test images without a fault "
            f"{trained.figures.false_alarms} have one at `limited` or above."
        )
    yield fill(asked, _WIDTH)


def _method(recipe: Recipe, trained: Trained, samples: Samples, command: str) -> Iterator[str]:
    yield "## How it was made"
    yield ""
    yield f"    {command}"
    for paragraph in _paragraphs(recipe, trained):
        yield ""
        yield fill(paragraph, _WIDTH)
    yield ""
    yield fill(samples.attribution, _WIDTH)


def _paragraphs(recipe: Recipe, trained: Trained) -> Iterator[str]:
    method = trained.settings.method
    if recipe.tells:
        yield " ".join(recipe.tells)
    weights = "rare answers weigh more" if method.balance else "all answers weigh the same"
    changes = ", ".join(_changes(trained.settings.words))
    yield (
        f"Adam, {len(trained.epochs)} of {method.epochs} epochs, batches of {method.batch}, "
        f"learning rate {method.learning_rate:g} along half a cosine, weight decay "
        f"{method.weight_decay:g}; {weights}. Augmentation: {changes or 'none'}. Seed "
        f"{method.seed}: the same command gives the same weights on the same machine. Keras "
        f"{keras.__version__} on {keras.backend.backend()} {version(keras.backend.backend())}."
    )
    if trained.calibrations:
        lines = dict.fromkeys(f"{c.scale:.2f} x + {c.offset:.2f}" for c in trained.calibrations)
        yield f"Calibration, of the logits x, within the network: {'; '.join(lines)}."
    if recipe.leave_one_out:
        yield (
            "There are too few patients for a test set: the figures are of networks that were "
            "trained without the patient whom they were asked about; that chose thresholds and "
            "calibration too, by other simulated faults. The network that is kept was trained on "
            "all patients, in as many epochs."
        )
    for each in trained.tried:
        words = ", ".join(f"{word} {value}" for word, value in each.words.items())
        yield f"Searched: {words}: validation {each.score:.4f}."


def _limits(recipe: Recipe) -> Iterator[str]:
    yield "## Limits"
    yield ""
    yield from (f"* {sentence}" for sentence in recipe.limits)


def _parts(recipe: Recipe, samples: Samples) -> str:
    if samples.split is None or recipe.leave_one_out:
        patients, counts = np.unique(samples.patients, return_counts=True)
        return ", ".join(f"{one} {count}" for one, count in zip(patients, counts, strict=True))
    told_ = []
    for name in SPLITS:
        part = samples.part(name)
        whom = f" of {len(np.unique(part.patients))} patients" if _knows_patients(part) else ""
        told_.append(f"{name} {len(part)}{whom}")
    return ", ".join(told_)


def _knows_patients(samples: Samples) -> bool:
    """Return whether somebody says who is who, or each image counts as a patient."""
    return not np.array_equal(samples.patients, samples.names)


def _changes(words: dict[str, object]) -> list[str]:
    kinds = ("rotate_degrees", "scale", "shift", "mirror", "gamma", "contrast", "brightness")
    every = (*kinds, "noise", "blur", "darken_lung")
    return [
        word if words[word] is True else f"{word} {words[word]:g}" for word in every if words[word]
    ]


def _by_patient(trained: Trained) -> dict[str, list[tuple[Row, float]]]:
    found: dict[str, list[tuple[Row, float]]] = {}
    for row in trained.figures.rows:
        for name, value in row.by_patient:
            found.setdefault(name, []).append((row, value))
    return found


def _told_rows(recipe: Recipe, trained: Trained) -> tuple[Row, ...]:
    """Return the rows of figures; of two outputs that exclude each other one says it all."""
    two = recipe.exclusive and not recipe.is_segmentation and len(recipe.outputs) == 2
    return trained.figures.rows[1:] if two else trained.figures.rows
