"""What a rule may set of an engine, and what it may ask of a finding.

Both follow from the manifest: each threshold is a parameter, each label can be asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from dicom_node.conditions.keywords import label_word
from dicom_node.finding import Finding, FindingKind, QualityGrade
from dicom_node.infer.manifest import Manifest
from dicom_node.model import Attributes

Limits = tuple[float, float]
"""The smallest and the largest value that makes sense."""

_PROBABILITY: Limits = (0.0, 1.0)
_VOLUME_ML: Limits = (0.0, 100_000.0)


def parameters_of(manifest: Manifest) -> Mapping[str, Limits]:
    """Return the parameters of an engine with their limits."""
    names = dict.fromkeys(_classes(manifest), _PROBABILITY)
    for fault in manifest.faults:
        names[f"limited_{label_word(fault.name)}"] = _PROBABILITY
        names[f"non_diagnostic_{label_word(fault.name)}"] = _PROBABILITY
    if manifest.segments:
        names["volume_min_ml"] = _VOLUME_ML
    return names


def with_parameters(manifest: Manifest, values: Mapping[str, float]) -> Manifest:
    """Return the manifest with some of its thresholds replaced."""
    if not values:
        return manifest
    classes = [
        dataclasses.replace(one, threshold=values.get(name, one.threshold))
        for name, one in zip(_classes(manifest), manifest.classes, strict=True)
    ]
    faults = [
        dataclasses.replace(
            one,
            limited=values.get(f"limited_{label_word(one.name)}", one.limited),
            non_diagnostic=values.get(f"non_diagnostic_{label_word(one.name)}", one.non_diagnostic),
        )
        for one in manifest.faults
    ]
    least = values.get("volume_min_ml", manifest.components.volume_min_ml)
    return dataclasses.replace(
        manifest,
        classes=tuple(classes),
        faults=tuple(faults),
        components=dataclasses.replace(manifest.components, volume_min_ml=least),
    )


def told(values: Mapping[str, float]) -> tuple[str, ...]:
    """Return a sentence for a report if a rule has set parameters."""
    if not values:
        return ()
    words = ", ".join(f"{name} {value:g}" for name, value in sorted(values.items()))
    return (f"set for this site: {words}",)


def facts_known(manifest: Manifest) -> frozenset[str]:
    """Return what a rule may ask of this engine's findings: `grade`, `volume_ml.right_lung`."""
    known = {"outcome"}
    if manifest.kind is FindingKind.QUALITY:
        known |= {"grade", "fault", "probability"}
        known |= {f"probability.{label_word(fault.name)}" for fault in manifest.faults}
    if manifest.kind is FindingKind.CLASSIFICATION:
        known |= {"present", "probability"}
        known |= {f"probability.{label_word(one.name)}" for one in manifest.classes}
    if manifest.kind is FindingKind.SEGMENTATION:
        known |= {"present", "volume_ml"}
        known |= {f"volume_ml.{label_word(segment.name)}" for segment in manifest.segments}
    return frozenset(known)


def facts_of(finding: Finding) -> Attributes:
    """Return a finding as rules may ask for it."""
    facts: dict[str, list[str]] = {}
    numbers = [*_probabilities(finding)]
    for name, probability in numbers:
        facts.setdefault(f"probability.{name}", []).append(f"{probability:.6g}")
    if numbers:
        facts["probability"] = [f"{max(probability for _, probability in numbers):.6g}"]
    facts["present"] = list(
        dict.fromkeys(one.label for one in finding.classifications if one.present)
    )
    if finding.qualities:
        order = list(QualityGrade)
        worst = max(finding.qualities, key=lambda one: order.index(one.grade))
        facts["grade"] = [worst.grade.value]
        found = [fault.name for one in finding.qualities for fault in one.faults if fault.found]
        facts["fault"] = list(dict.fromkeys(found))
    if finding.kind is FindingKind.SEGMENTATION:
        facts["volume_ml"] = [f"{sum(one.volume_ml for one in finding.segments):.6g}"]
        for segment in finding.segments:
            facts[f"volume_ml.{label_word(segment.label)}"] = [f"{segment.volume_ml:.6g}"]
        facts["present"] = [one.label for one in finding.segments if one.volume_ml > 0]
    return {fact: tuple(values) for fact, values in facts.items()}


def _classes(manifest: Manifest) -> list[str]:
    """Return the name of each class's threshold; with one class it needs no more than that."""
    if len(manifest.classes) == 1:
        return ["threshold"]
    return [f"threshold_{label_word(one.name)}" for one in manifest.classes]


def _probabilities(finding: Finding) -> Iterator[tuple[str, float]]:
    for one in finding.classifications:
        yield label_word(one.label), one.probability
    for quality in finding.qualities:
        for fault in quality.faults:
            yield label_word(fault.name), fault.probability
