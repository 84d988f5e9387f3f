"""How far two versions of an engine agree: on one series, and over many studies. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.conditions.keywords import label_word
from dicom_node.model import Attributes
from dicom_node.trials import StopRule

Masks = Mapping[str, Mapping[str, NDArray[np.uint8]]]
"""By segment label and SOP Instance UID of the source: the slice, eight pixels a byte."""
Pair = tuple[float, float]
"""Of the version in use, and of the candidate."""


@dataclass(frozen=True)
class Agreement:
    """What two versions said of one series, side by side; the version in use stands first.

    What only one of them knows (a class, a segment with another name) is not compared.
    """

    dice: Mapping[str, float] = field(default_factory=dict)
    """By segment label; 0 where only one has found it. What neither found is left out."""
    volume_ml: Mapping[str, Pair] = field(default_factory=dict)
    image_share: Mapping[str, Pair] = field(default_factory=dict)
    """Of a single image, in place of volumes."""
    probability: Mapping[str, Pair] = field(default_factory=dict)
    """The highest of the images."""
    present: Mapping[str, tuple[bool, bool]] = field(default_factory=dict)
    """By class, fault or segment: whether it was found."""
    grade: tuple[str, str] | None = None

    @property
    def worst_dice(self) -> float | None:
        return min(self.dice.values(), default=None)

    @property
    def flips(self) -> tuple[str, ...]:
        """What one has found and the other has not; `grade` where the grades differ."""
        flipped = tuple(name for name, (one, other) in self.present.items() if one is not other)
        return flipped + (("grade",) if self.grade and self.grade[0] != self.grade[1] else ())

    @property
    def words(self) -> str:
        """In a line, for a reason and for `explain`."""
        said = [f"Dice of {name} {value:.3f}" for name, value in self.dice.items()]
        said += [
            f"{name} {theirs - mine:+.1f} ml ({_share(mine, theirs):+.1%})"
            for name, (mine, theirs) in self.volume_ml.items()
            if mine or theirs
        ]
        said += [
            f"{name} {mine:.1%} -> {theirs:.1%} of the image"
            for name, (mine, theirs) in self.image_share.items()
            if mine or theirs
        ]
        said += [
            f"{name} {mine:.2f} -> {theirs:.2f}"
            for name, (mine, theirs) in self.probability.items()
        ]
        if self.grade:
            said.append(f"grade {self.grade[0]} -> {self.grade[1]}")
        flipped = f"; other: {', '.join(self.flips)}" if self.flips else ""
        return (", ".join(said) or "nothing to compare") + flipped

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, kept: Mapping[str, Any]) -> Agreement:
        return cls(
            dice=dict(kept["dice"]),
            volume_ml={name: (pair[0], pair[1]) for name, pair in kept["volume_ml"].items()},
            image_share={
                name: (pair[0], pair[1]) for name, pair in kept.get("image_share", {}).items()
            },
            probability={name: (pair[0], pair[1]) for name, pair in kept["probability"].items()},
            present={name: (pair[0], pair[1]) for name, pair in kept["present"].items()},
            grade=(kept["grade"][0], kept["grade"][1]) if kept["grade"] else None,
        )


def agreement_of(
    current: Attributes, candidate: Attributes, masks: tuple[Masks, Masks] | None = None
) -> Agreement:
    """Return how far two findings agree.

    Parameters
    ----------
    current, candidate : Attributes
        The findings as rules may ask for them, from `parameters.facts_of`.
    masks : tuple of Masks, optional
        What their SEG hold; without a SEG a version has found nothing.
    """
    volumes = _both(current, candidate, "volume_ml.")
    shares = _both(current, candidate, "image_share.")
    probabilities = _both(current, candidate, "probability.")
    mine, theirs = _found(current), _found(candidate)
    grades = (*current.get("grade", ()), *candidate.get("grade", ()))
    return Agreement(
        dice=dice_of(*masks) if masks is not None else {},
        volume_ml=volumes,
        image_share=shares,
        probability=probabilities,
        present={
            name: (name in mine, name in theirs) for name in {**probabilities, **volumes, **shares}
        },
        grade=(grades[0], grades[1]) if len(grades) == 2 else None,
    )


def dice_of(current: Masks, candidate: Masks) -> dict[str, float]:
    """Return the Dice coefficient of each segment that one of them has drawn."""
    return {
        label: _dice(current.get(label, {}), candidate.get(label, {}))
        for label in sorted({*current, *candidate})
    }


def kappa(pairs: Sequence[tuple[Any, Any]]) -> float | None:
    """Return Cohen's kappa of two raters; None where both know one answer only, and it is one.

    References
    ----------
    Cohen 1960, A coefficient of agreement for nominal scales
    """
    if not pairs:
        return None
    observed = sum(one == other for one, other in pairs) / len(pairs)
    by_chance = (
        sum(
            sum(one == answer for one, _ in pairs) * sum(other == answer for _, other in pairs)
            for answer in {answer for pair in pairs for answer in pair}
        )
        / len(pairs) ** 2
    )
    return None if by_chance == 1 else (observed - by_chance) / (1 - by_chance)


@dataclass(frozen=True)
class Summary:
    """The agreement over many studies; what cannot be said is None."""

    studies: int = 0
    failures: int = 0
    dice: float | None = None
    """Mean over studies of each study's worst segment."""
    dice_lowest: float | None = None
    dice_by_segment: Mapping[str, float] = field(default_factory=dict)
    volume_ml_by_segment: Mapping[str, float] = field(default_factory=dict)
    """Mean of the absolute differences."""
    volume_share: float | None = None
    """Mean share by which a volume, or the area on an image, differs; of the worst segment."""
    kappa_by_class: Mapping[str, float] = field(default_factory=dict)
    """`grade` for that of the quality grades."""
    kappa: float | None = None
    """The lowest."""
    flips: float | None = None
    """The share of studies with a flip."""
    probability: float | None = None
    """Mean of the absolute differences."""
    probability_largest: float | None = None
    current_s: float | None = None
    candidate_s: float | None = None
    """Medians."""

    @property
    def slower(self) -> float | None:
        """How many times the seconds of the version in use."""
        if not self.current_s or self.candidate_s is None:
            return None
        return self.candidate_s / self.current_s


def summary_of(
    agreements: Sequence[Agreement], seconds: Sequence[Pair] = (), failures: int = 0
) -> Summary:
    """Return the agreement over many studies.

    Parameters
    ----------
    seconds : sequence of Pair
        What the infer stage took of both, study by study.
    failures : int
        How many studies the candidate failed on.
    """
    worst = [one.worst_dice for one in agreements if one.worst_dice is not None]
    volumes = _gathered(one.volume_ml for one in agreements)
    sizes = volumes | _gathered(one.image_share for one in agreements)
    shares = {
        name: fmean(abs(_share(*pair)) for pair in pairs if any(pair))
        for name, pairs in sizes.items()
        if any(map(any, pairs))
    }
    kappas = {
        name: value
        for name, pairs in _gathered(
            {**one.present, **({"grade": one.grade} if one.grade else {})} for one in agreements
        ).items()
        if (value := kappa(pairs)) is not None
    }
    judged = [one for one in agreements if one.present or one.grade]
    differences = [
        abs(mine - theirs) for one in agreements for mine, theirs in one.probability.values()
    ]
    return Summary(
        studies=len(agreements),
        failures=failures,
        dice=fmean(worst) if worst else None,
        dice_lowest=min(worst, default=None),
        dice_by_segment={
            name: fmean(values) for name, values in _gathered(o.dice for o in agreements).items()
        },
        volume_ml_by_segment={
            name: fmean(abs(mine - theirs) for mine, theirs in pairs)
            for name, pairs in volumes.items()
        },
        volume_share=max(shares.values(), default=None),
        kappa_by_class=kappas,
        kappa=min(kappas.values(), default=None),
        flips=fmean(bool(one.flips) for one in judged) if judged else None,
        probability=fmean(differences) if differences else None,
        probability_largest=max(differences, default=None),
        current_s=median(mine for mine, _ in seconds) if seconds else None,
        candidate_s=median(theirs for _, theirs in seconds) if seconds else None,
    )


def why_to_stop(found: Summary, stop: StopRule) -> str:
    """Return why a trial is over, with the figures; empty while it goes on."""
    reasons = []
    if found.failures >= stop.failures:
        reasons.append(f"failed on {found.failures} studies (failures: {stop.failures})")
    if found.studies >= stop.after_studies:
        reasons += _beyond(found, stop)
    return "; ".join(reasons)


def _beyond(found: Summary, stop: StopRule) -> Iterator[str]:
    over = f"over {found.studies} studies"
    if _is_below(found.dice, stop.dice_below):
        yield f"Dice {found.dice:.3f} {over} (dice_below: {stop.dice_below:g})"
    if _is_below(stop.volume_above, found.volume_share):
        bound = f"volume_above: {stop.volume_above:.0%}"
        yield f"volumes differ by {found.volume_share:.1%} {over} ({bound})"
    if _is_below(found.kappa, stop.kappa_below):
        yield f"kappa {found.kappa:.2f} {over} (kappa_below: {stop.kappa_below:g})"
    if _is_below(stop.flips_above, found.flips):
        bound = f"flips_above: {stop.flips_above:.0%}"
        yield f"another class on {found.flips:.1%} of {found.studies} studies ({bound})"
    if _is_below(stop.slower_than, found.slower):
        yield f"{found.slower:.1f} times as slow {over} (slower_than: {stop.slower_than:g}x)"


def _is_below(value: float | None, bound: float | None) -> bool:
    return value is not None and bound is not None and value < bound


def _gathered(of_each: Any) -> dict[str, list[Any]]:
    """Return by name what each of several mappings has."""
    found: dict[str, list[Any]] = {}
    for mapping in of_each:
        for name, value in mapping.items():
            found.setdefault(name, []).append(value)
    return found


def _both(current: Attributes, candidate: Attributes, prefix: str) -> dict[str, Pair]:
    """Return the largest numbers that both have under a prefix."""
    return {
        fact.removeprefix(prefix): (max(map(float, values)), max(map(float, candidate[fact])))
        for fact, values in current.items()
        if fact.startswith(prefix) and values and candidate.get(fact)
    }


def _found(facts: Attributes) -> set[str]:
    """Return the classes, faults or segments that were found, as facts name them."""
    return {label_word(name) for name in (*facts.get("present", ()), *facts.get("fault", ()))}


def _share(mine: float, theirs: float) -> float:
    """Return by which share theirs differs from mine; all of it where there was nothing."""
    return (theirs - mine) / mine if mine else float(theirs > 0)


def _dice(
    current: Mapping[str, NDArray[np.uint8]], candidate: Mapping[str, NDArray[np.uint8]]
) -> float:
    both = sum(_count(current[uid] & candidate[uid]) for uid in current.keys() & candidate.keys())
    whole = sum(map(_count, current.values())) + sum(map(_count, candidate.values()))
    return 2 * both / whole


def _count(packed: NDArray[np.uint8]) -> int:
    return int(np.bitwise_count(packed).sum())
