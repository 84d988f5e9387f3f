"""The samples of one series or image after the other, and all that is wrong with them at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StudyUnusable
from engines.recipes.errors import DataUnusable
from engines.recipes.loaders.progress import Progress, on_all_cores, some
from engines.recipes.samples import Samples


@dataclass(frozen=True, eq=False)
class Part:
    """The samples of one series or image: all of one patient, in one part of the split."""

    images: NDArray[np.float32]
    """(n, rows, columns, channels)"""
    targets: NDArray[np.float32] | NDArray[np.uint8]
    names: list[str]
    patient: str
    split: str = ""
    """Nothing where the data come without one."""


Item = TypeVar("Item")


def each(
    items: Sequence[tuple[str, Item]],
    part_of: Callable[[Item], Part],
    progress: Progress,
    threads: int = 1,
    only_usable: bool = False,
) -> tuple[list[Part], int]:
    """Return the samples of each item, and how many of them were left out.

    Parameters
    ----------
    items : sequence of (name, item)
    part_of : callable
    progress : callable
    threads : int
        1 where `part_of` uses all cores itself.
    only_usable : bool
        Leave out those that cannot be used, in place of an error; one must be left.

    Raises
    ------
    DataUnusable
        With each that cannot be used, and why.
    """

    def tried(given: tuple[str, Item]) -> Part | str:
        name, item = given
        try:
            return part_of(item)
        except (StudyUnusable, DataUnusable) as error:
            return f"{name}: {error.in_words}"

    results = list(on_all_cores(tried, items, progress, threads))
    wrong = [result for result in results if isinstance(result, str)]
    if wrong and (not only_usable or len(wrong) == len(results)):
        raise DataUnusable(
            f"{len(wrong)} of {len(items)} cannot be used:\n  " + "\n  ".join(wrong),
            hint="the engine would refuse them too: take them out, or leave them out: only_usable",
        )
    return [result for result in results if isinstance(result, Part)], len(wrong)


def chosen(drawn: NDArray[np.uint8], empty_every: int) -> NDArray[np.intp]:
    """Return the slices on which something is drawn, and some of the others, evenly.

    Parameters
    ----------
    drawn : numpy.ndarray, shape (slices, rows, columns), uint8
    empty_every : int
        1 takes every slice, 2 every second one of those on which nothing is drawn.
    """
    empty = ~drawn.any(axis=(1, 2))
    return np.flatnonzero(~empty | (np.cumsum(empty) % empty_every == 0))


def gathered(
    parts: list[Part], labels: tuple[str, ...], licence: str, attribution: str, source: str
) -> Samples:
    """Return all parts as one set of samples.

    Parameters
    ----------
    parts : list of Part
        Is emptied on the way, so that no image is held twice.
    labels, licence, attribution, source
        Of the samples.

    Raises
    ------
    DataUnusable
        If there is nothing in them, they differ in size, or only some say for what they are.
    """
    parts[:] = [part for part in parts if len(part.images)]
    if not parts:
        raise DataUnusable(f"nothing to learn from in {source}", hint="look at labels and masks")
    if len(shapes := {part.images.shape[1:] for part in parts}) > 1:
        raise DataUnusable(
            f"samples of {len(shapes)} sizes: {some(sorted(map(str, shapes)))}",
            hint="give the preparation a size and a spacing_mm for rows and columns",
        )
    if len({bool(part.split) for part in parts}) > 1:
        raise DataUnusable(
            "some samples name a part of the split and others none",
            hint="fill the column `split` in every row, or leave it out",
        )
    counts = [len(part.images) for part in parts]
    patients = np.repeat([part.patient for part in parts], counts)
    names = np.array([name for part in parts for name in part.names])
    split = np.repeat([part.split for part in parts], counts) if parts[0].split else None
    (shape,) = shapes
    images = np.empty((sum(counts), *shape), np.float32)
    targets = np.empty((sum(counts), *parts[0].targets.shape[1:]), parts[0].targets.dtype)
    end = len(images)
    while parts:
        part = parts.pop()
        begin = end - len(part.images)
        images[begin:end], targets[begin:end] = part.images, part.targets
        end = begin
    return Samples(images, targets, labels, patients, names, split, licence, attribution, source)
