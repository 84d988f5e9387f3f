"""Who is trained on, who decides, and who is asked last: always whole patients.

Theory of operation: patients are dealt one at a time, those with the rarest labels first, each to
the part that lacks most of what that patient has, as iterative stratification has it (Sechidis et
al., 2011) with patients in place of samples. Then each is moved while that brings the shares of
the labels nearer to what is wanted. In what order equal ones come is for the seed to say.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from engines.recipes.errors import DataLeaks, DataUnusable
from engines.recipes.samples import SPLITS, Samples

_SHOWN = 5
_PASSES = 10


def by_patient(
    samples: Samples, fractions: tuple[float, float, float] = (0.7, 0.15, 0.15), seed: int = 0
) -> Samples:
    """Return samples split into training, validation and test, no patient in two of them.

    Parameters
    ----------
    samples : Samples
        A split that they come with is replaced.
    fractions : tuple of float
        Of training, validation and test; they sum to 1. What is 0 gets nobody.
    seed : int
        The same seed gives the same split of the same samples, whatever their order.

    Returns
    -------
    Samples
        Images of equal bytes stay together, as if they were of one patient.

    Raises
    ------
    DataUnusable
        If the fractions are none, or a part would be left empty.
    """
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise DataUnusable(
            f"fractions {fractions} do not sum to 1", hint="give three of 0 or more that do"
        )
    wanted = [(name, share) for name, share in zip(SPLITS, fractions, strict=True) if share > 0]
    groups = _groups(samples)
    names = sorted(set(groups))
    if len(names) < len(wanted):
        raise DataUnusable(
            f"{len(names)} patients cannot be split into {len(wanted)} parts",
            hint="gather more patients, or set a fraction to 0",
        )
    at = {name: index for index, name in enumerate(names)}
    rows = np.array([at[group] for group in groups])
    has = _what_each_has(samples)
    per_group = np.zeros((len(names), has.shape[1]))
    np.add.at(per_group, rows, has)
    dealt = _deal(per_group, np.array([share for _, share in wanted]), seed)
    split = np.array([wanted[index][0] for index in dealt])[rows]
    return replace(samples, split=split)


def check_leaks(samples: Samples) -> None:
    """Refuse samples of which training, validation and test have something in common.

    Raises
    ------
    DataLeaks
        With the patients in more than one part, and the images that stand in several, byte by byte.
    DataUnusable
        If they are not split.
    """
    if samples.split is None:
        raise DataUnusable("the samples are not split", hint="split them with split.by_patient")
    by_patient_: dict[str, set[str]] = defaultdict(set)
    by_pixels: dict[bytes, list[int]] = defaultdict(list)
    for index, (patient, part) in enumerate(zip(samples.patients, samples.split, strict=True)):
        by_patient_[str(patient)].add(str(part))
        by_pixels[_digest(samples.images[index])].append(index)
    told = []
    shared = sorted(patient for patient, parts in by_patient_.items() if len(parts) > 1)
    if shared:
        told.append(f"{len(shared)} patients in more than one part: {_some(shared)}")
    twins = [
        " = ".join(str(samples.names[index]) for index in same)
        for same in by_pixels.values()
        if len({str(samples.split[index]) for index in same}) > 1
    ]
    if twins:
        told.append(f"{len(twins)} images in more than one part: {_some(sorted(twins))}")
    if told:
        raise DataLeaks("; ".join(told), hint="split by patient anew: split.by_patient")


def without_twins(samples: Samples) -> Samples:
    """Return samples without those that stand in a later part too, byte for byte.

    Of test nothing is left out, so that its figures can be compared with those of others.
    """
    if samples.split is None:
        raise DataUnusable("the samples are not split", hint="split them with split.by_patient")
    rank = np.array([SPLITS.index(str(part)) for part in samples.split])
    digests = [_digest(image) for image in samples.images]
    last: dict[bytes, int] = {}
    for digest, here in zip(digests, rank.tolist(), strict=True):
        last[digest] = max(here, last.get(digest, here))
    kept = rank == [last[digest] for digest in digests]
    if kept.all():
        return samples
    told = f"{int((~kept).sum())} images left out that stand in a later part of the split too"
    return replace(samples.take(kept), source=f"{samples.source}; {told}")


def _groups(samples: Samples) -> list[str]:
    """Return for each sample the least name of all patients that are bound to its own.

    Two patients are bound by an image that both have.
    """
    leader: dict[str, str] = {}

    def of(patient: str) -> str:
        while leader.setdefault(patient, patient) != patient:
            patient = leader[patient]
        return patient

    first: dict[bytes, str] = {}
    for image, patient in zip(samples.images, samples.patients, strict=True):
        one, other = of(str(patient)), of(first.setdefault(_digest(image), str(patient)))
        leader[max(one, other)] = min(one, other)
    return [of(str(patient)) for patient in samples.patients]


def _what_each_has(samples: Samples) -> NDArray[np.float64]:
    """Return (n, what is to be spread evenly): each label, its absence, and being a sample."""
    if samples.is_label_map:
        pixels = samples.targets.reshape(len(samples), -1)
        present = [np.any(pixels == label, axis=1) for label in range(1, len(samples.labels))]
        columns = [*present, *(~one for one in present)]
    else:
        known = np.nan_to_num(samples.targets, nan=-1.0)
        columns = [*(known > 0.5).T, *((known >= 0) & (known <= 0.5)).T]
    return np.stack([*columns, np.ones(len(samples), bool)], axis=1).astype(np.float64)


def _deal(
    per_group: NDArray[np.float64], shares: NDArray[np.float64], seed: int
) -> NDArray[np.intp]:
    """Return for each group the part it goes to."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(per_group))
    totals = per_group.sum(axis=0)
    # A label that few samples have weighs more: one of it is a greater part of all that there is.
    relative = per_group[:, totals > 0] / totals[totals > 0]
    order = order[np.argsort(-relative[order].max(axis=1), kind="stable")]
    lacking = np.outer(shares, np.ones(relative.shape[1]))
    dealt = np.zeros(len(per_group), np.intp)
    for place, group in enumerate(order):
        left = len(order) - place
        empty = np.flatnonzero(np.bincount(dealt[order[:place]], minlength=len(shares)) == 0)
        among = empty if len(empty) >= left else np.arange(len(shares))
        dealt[group] = among[np.argmax(_gain(lacking[among], relative[group], shares[among]))]
        lacking[dealt[group]] -= relative[group]
    count = np.bincount(dealt, minlength=len(shares))
    for _ in range(_PASSES):
        moved = False
        for group in order:
            here, has = dealt[group], relative[group]
            lacking[here] += has
            gains = _gain(lacking, has, shares)
            best = int(np.argmax(gains))
            if gains[best] > gains[here] + 1e-12 and count[here] > 1:
                count[here] -= 1
                count[best] += 1
                dealt[group] = best
                moved = True
            lacking[dealt[group]] -= has
        if not moved:
            break
    return dealt


def _gain(
    lacking: NDArray[np.float64], has: NDArray[np.float64], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return by how much the squares of what each part lacks would shrink, of its share."""
    gain: NDArray[np.float64] = (lacking @ has - has @ has / 2) / shares
    return gain


def _digest(image: NDArray[np.float32]) -> bytes:
    return sha256(np.ascontiguousarray(image).tobytes()).digest()


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
