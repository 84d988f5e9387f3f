"""A recipe: which data, which network, how it learns, and what the engine's folder says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.recipes.augment import Augmentation
from engines.recipes.errors import DataUnusable
from engines.recipes.fitting import Method
from engines.recipes.preparation import Preparation
from engines.recipes.samples import Samples

Batch = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Images (n, rows, columns, 1), and of each what its outputs should be, or its label map."""
Make = Callable[[NDArray[np.float32], NDArray[Any], Augmentation, np.random.Generator], Batch]
MANIFESTS = Path(__file__).parent / "book"


@dataclass(frozen=True)
class Settings:
    """What a command may change of a recipe; each word of the three is a word of `--set`."""

    method: Method
    augmentation: Augmentation
    network: Mapping[str, Any]
    """What the recipe's network is built with: dropout, widths."""

    def having(self, words: Mapping[str, str]) -> Settings:
        """Return settings with some words changed, `dropout=0.2`.

        Raises
        ------
        DataUnusable
            If a word is not one of a recipe, or its value is not of its kind.
        """
        changed: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] = ({}, {}, {})
        known = self.words
        for word, written in words.items():
            if word not in known:
                raise DataUnusable(
                    f"no setting is called {word}", hint=f"one of {', '.join(sorted(known))}"
                )
            value = _like(known[word], word, written)
            for part, into in zip(self._parts, changed, strict=True):
                if word in part:
                    into[word] = value
        return Settings(
            replace(self.method, **changed[0]),
            replace(self.augmentation, **changed[1]),
            {**self.network, **changed[2]},
        )

    @property
    def words(self) -> dict[str, Any]:
        """Every word with its value."""
        return {word: value for part in self._parts for word, value in part.items()}

    @property
    def _parts(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        method = {one.name: getattr(self.method, one.name) for one in fields(Method)}
        augmentation = {
            one.name: getattr(self.augmentation, one.name)
            for one in fields(Augmentation)
            if one.name not in {"value_range", "hold"}
        }
        return method, augmentation, dict(self.network)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """From a data set to an engine."""

    name: str
    told: str
    """What it makes, in half a line."""
    load: Callable[[Path, Preparation], Samples]
    """Reads the data; where they come without a split, it splits them by patient."""
    build: Callable[..., Any]
    """Makes the network, from the words of `network`."""
    settings: Settings
    outputs: tuple[str, ...]
    """The names of the network's outputs; of a segmentation those of its labels from 0."""
    exclusive: bool = False
    """One of the outputs is true; else each by itself."""
    is_segmentation: bool = False
    draw: Make
    """Makes a training batch of samples."""
    ask: Make
    """Makes what test asks, of samples as they are."""
    validate: Make | None = None
    """Makes what validation asks; None: as test."""
    copies: int = 1
    """How often each sample of validation and test is asked about."""
    grid: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What `--search` tries."""
    ends: tuple[str, str] = ("image_0_255", "probabilities")
    """The names of the network's input and output."""
    judged: int = 0
    """How many of the outputs count for the score on validation; 0: all."""
    specificity: float = 0.0
    """The share of absent ones that a threshold of a classification spares on validation, at least;
    0: it is Youden's."""
    leave_one_out: bool = False
    """Too few patients for a test set: the figures are of networks that were trained without the
    patient whom they were asked about, and the network that is kept was trained on all."""
    shares_patients: bool = False
    """Training and test share a patient, and the card says so: for demonstrations."""
    tells: tuple[str, ...] = ()
    """Sentences for the card: how the data became what was learnt."""
    limits: tuple[str, ...] = ()

    @property
    def manifest(self) -> Path:
        """The text of `engine.yaml`, with its figures to be filled in."""
        return MANIFESTS / f"{self.name}.yaml"


def _like(value: Any, word: str, written: str) -> Any:
    """Return what is written as a value of the same kind."""
    try:
        if isinstance(value, bool):
            return {"yes": True, "true": True, "no": False, "false": False}[written.lower()]
        if isinstance(value, tuple):
            return tuple(type(value[0])(one) for one in written.split("-"))
        return type(value)(written)
    except (KeyError, ValueError) as error:
        raise DataUnusable(
            f"{word} is {value!r} by default; {written!r} is not like it",
            hint="--settings prints them all",
        ) from error
