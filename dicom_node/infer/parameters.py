"""What a rule may set of an engine, and what it may ask of a finding.

Both follow from the manifest: each threshold is a parameter, each label can be asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from dicom_node.conditions.keywords import label_word
from dicom_node.finding import Finding, FindingKind, QualityGrade
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.measure import NAMES
from dicom_node.model import Attributes

Limits = tuple[float, float]
"""The smallest and the largest value that makes sense."""

_PROBABILITY: Limits = (0.0, 1.0)
_VOLUME_ML: Limits = (0.0, 100_000.0)
_SIZES = ("volume_ml", "area_cm2", "image_share")
"""What a segment is large; which of them are known depends on what the engine sees."""

_OF_ALL: Mapping[str, Callable[[Iterable[float]], float]] = {
    "count": sum,
    "voxel_count": sum,
    "slice_count": max,
    "long_axis_mm": max,
    "short_axis_mm": max,
    "longest_diameter_mm": max,
    "min_value": min,
    "max_value": max,
}
"""What a measurement is without a label; a mean of all segments would be nobody's."""


def parameters_of(manifest: Manifest) -> Mapping[str, Limits]:
    """Return the parameters of an engine with their limits."""
    names = dict.fromkeys([*_classes(manifest), *_thresholds(manifest)], _PROBABILITY)
    for fault in manifest.faults:
        names[f"limited_{label_word(fault.name)}"] = _PROBABILITY
        names[f"non_diagnostic_{label_word(fault.name)}"] = _PROBABILITY
    if manifest.segments and manifest.image is None:
        names["volume_min_ml"] = _VOLUME_ML
    elif manifest.segments:
        names["share_min"] = _PROBABILITY
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
    thresholds = _thresholds(manifest)
    segments = (
        [
            dataclasses.replace(one, threshold=values.get(name, one.threshold))
            for name, one in zip(thresholds, manifest.segments, strict=True)
        ]
        if thresholds
        else manifest.segments
    )
    least_ml = values.get("volume_min_ml", manifest.components.volume_min_ml)
    least_share = values.get("share_min", manifest.components.share_min)
    return dataclasses.replace(
        manifest,
        classes=tuple(classes),
        faults=tuple(faults),
        segments=tuple(segments),
        components=dataclasses.replace(
            manifest.components, volume_min_ml=least_ml, share_min=least_share
        ),
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
        sizes = ["volume_ml"] if manifest.image is None else ["area_cm2", "image_share"]
        names = [name for word in manifest.measures for name in NAMES[word]]
        known |= {"present", *sizes} | (set(names) & set(_OF_ALL))
        known |= {
            f"{name}.{label_word(segment.name)}"
            for name in (*sizes, *names)
            for segment in manifest.segments
        }
    if manifest.kind is FindingKind.REGRESSION:
        known |= {f"value.{label_word(one.name)}" for one in manifest.values}
        known |= {"value"} if len(manifest.values) == 1 else set()
    return frozenset(known)


def facts_of(finding: Finding) -> Attributes:
    """Return a finding as rules may ask for it.

    Of several time points each number has a value for each, in their order; the rest is what is
    true of any of them, the worst grade, the largest probability.
    """
    if finding.parts:
        return _of_all_parts([facts_of(part) for part in finding.parts])
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
        facts |= _sizes(finding) | _measured(finding)
        facts["present"] = [one.label for one in finding.segments if one.is_found]
    if finding.kind is FindingKind.REGRESSION:
        facts |= _values(finding)
    return {fact: tuple(values) for fact, values in facts.items()}


def _of_all_parts(parts: Sequence[Attributes]) -> Attributes:
    facts: dict[str, tuple[str, ...]] = {}
    for part in parts:
        for name, values in part.items():
            facts[name] = (*facts.get(name, ()), *values)
    for name in ("present", "fault"):
        if name in facts:
            facts[name] = tuple(dict.fromkeys(facts[name]))
    if "grade" in facts:
        order = [grade.value for grade in QualityGrade]
        facts["grade"] = (max(facts["grade"], key=lambda value: order.index(QualityGrade(value))),)
    if "probability" in facts:
        facts["probability"] = (max(facts["probability"], key=float),)
    return facts


def _sizes(finding: Finding) -> dict[str, list[str]]:
    """Return how large each segment is, and all of them together."""
    facts: dict[str, list[str]] = {}
    for name in _SIZES:
        sizes = {one.label: getattr(one, name) for one in finding.segments}
        known = {label: size for label, size in sizes.items() if size is not None}
        if known:
            facts[name] = [f"{sum(known.values()):.6g}"]
        for label, size in known.items():
            facts[f"{name}.{label_word(label)}"] = [f"{size:.6g}"]
    return facts


def _measured(finding: Finding) -> dict[str, list[str]]:
    """Return each measurement by its segment, and those of all segments that mean something."""
    facts: dict[str, list[str]] = {}
    together: dict[str, list[float]] = {}
    for segment in finding.segments:
        for one in segment.measurements:
            if one.name not in _SIZES:
                facts[f"{one.name}.{label_word(segment.label)}"] = [f"{one.value:.6g}"]
                together.setdefault(one.name, []).append(one.value)
    return facts | {
        name: [f"{_OF_ALL[name](numbers):.6g}"]
        for name, numbers in together.items()
        if name in _OF_ALL
    }


def _values(finding: Finding) -> dict[str, list[str]]:
    facts: dict[str, list[str]] = {}
    for one in finding.values:
        facts.setdefault(f"value.{label_word(one.label)}", []).append(f"{one.value:.6g}")
    return facts | ({"value": next(iter(facts.values()))} if len(facts) == 1 else {})


def _classes(manifest: Manifest) -> list[str]:
    """Return the name of each class's threshold; with one class it needs no more than that."""
    if len(manifest.classes) == 1:
        return ["threshold"]
    return [f"threshold_{label_word(one.name)}" for one in manifest.classes]


def _thresholds(manifest: Manifest) -> list[str]:
    """Return the name of each segment's threshold, where segments have one."""
    model = manifest.model
    if model.classes_are != "independent" or model.gives == "labels":
        return []
    if len(manifest.segments) == 1:
        return ["threshold"]
    return [f"threshold_{label_word(one.name)}" for one in manifest.segments]


def _probabilities(finding: Finding) -> Iterator[tuple[str, float]]:
    for one in finding.classifications:
        yield label_word(one.label), one.probability
    for quality in finding.qualities:
        for fault in quality.faults:
            yield label_word(fault.name), fault.probability
