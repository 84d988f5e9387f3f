"""What rules may set of the engines that ship, and what they may ask of findings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dicom_node.conditions.keywords import FINDING_FACTS, Kind, kind_of
from dicom_node.finding import (
    Classification,
    Fault,
    Finding,
    FindingKind,
    Measurement,
    Quality,
    QualityGrade,
    Segment,
    Value,
)
from dicom_node.infer.engine_folders import list_engines, load_manifest
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.measure import NAMES
from dicom_node.infer.parameters import (
    facts_known,
    facts_of,
    parameters_of,
    told,
    with_parameters,
)
from tests.unit.encode import findings
from tests.unit.infer.engine_folders import REGRESSION, SEGMENTATION, write_engine
from tests.unit.route.made import when

ENGINES = list_engines(Path(__file__).parents[3] / "engines")


def of_kind(kind: FindingKind) -> Manifest:
    return next(manifest for manifest in ENGINES.values() if manifest.kind is kind)


@pytest.mark.parametrize("name", ENGINES)
def test_each_parameter_stays_within_its_limits_and_without_any_nothing_changes(name: str) -> None:
    manifest = ENGINES[name]
    limits = parameters_of(manifest)
    assert limits
    assert all(low < high for low, high in limits.values())
    assert with_parameters(manifest, {}) is manifest
    for parameter, (low, _) in limits.items():
        changed = with_parameters(manifest, {parameter: low})
        assert changed.name == manifest.name
        assert with_parameters(changed, {parameter: low}) == changed


def test_a_classifier_has_a_threshold() -> None:
    manifest = of_kind(FindingKind.CLASSIFICATION)
    assert dict(parameters_of(manifest)) == {"threshold": (0.0, 1.0)}
    changed = with_parameters(manifest, {"threshold": 0.25})
    assert [one.threshold for one in changed.classes] == [0.25]
    assert [one.name for one in changed.classes] == [one.name for one in manifest.classes]


def test_each_fault_has_two_thresholds() -> None:
    manifest = of_kind(FindingKind.QUALITY)
    parameters = parameters_of(manifest)
    assert len(parameters) == 2 * len(manifest.faults)
    assert all(name.startswith(("limited_", "non_diagnostic_")) for name in parameters)
    values = {name: 0.125 for name in parameters if name.startswith("limited_")}
    changed = with_parameters(manifest, values)
    assert {fault.limited for fault in changed.faults} == {0.125}
    assert [f.non_diagnostic for f in changed.faults] == [f.non_diagnostic for f in manifest.faults]


def test_a_segmentation_has_a_smallest_volume() -> None:
    manifest = of_kind(FindingKind.SEGMENTATION)
    assert list(parameters_of(manifest)) == ["volume_min_ml"]
    changed = with_parameters(manifest, {"volume_min_ml": 12.5})
    assert changed.components.volume_min_ml == 12.5


def test_a_segment_of_its_own_probability_has_a_threshold(tmp_path: Path) -> None:
    independent = SEGMENTATION["model"] | {"classes_are": "independent"}
    first = SEGMENTATION["segments"][0]
    two = [first, first | {"label": 2, "name": "Left lung", "threshold": 0.25}]
    manifest = load_manifest(write_engine(tmp_path, SEGMENTATION, model=independent, segments=two))
    assert [one.threshold for one in manifest.segments] == [0.5, 0.25]
    names = set(parameters_of(manifest))
    assert names == {"threshold_ball", "threshold_left_lung", "volume_min_ml"}
    changed = with_parameters(manifest, {"threshold_left_lung": 0.75})
    assert [one.threshold for one in changed.segments] == [0.5, 0.75]
    alone = write_engine(tmp_path / "alone", SEGMENTATION, model=independent)
    assert "threshold" in parameters_of(load_manifest(alone))


def test_a_regression_has_nothing_to_set(tmp_path: Path) -> None:
    manifest = load_manifest(write_engine(tmp_path, REGRESSION))
    assert parameters_of(manifest) == {}
    assert facts_known(manifest) == {"outcome", "value", "value.bone_age"}


def test_a_report_tells_what_was_set() -> None:
    assert told({}) == ()
    assert told({"threshold": 0.3, "other": 2.0}) == ("set for this site: other 2, threshold 0.3",)


def test_what_is_measured_can_be_asked_for_and_nothing_else(tmp_path: Path) -> None:
    words = ["longest_diameter", "mean_value"]
    manifest = load_manifest(write_engine(tmp_path, SEGMENTATION, measurements=words))
    assert facts_known(manifest) == {
        *("outcome", "present", "volume_ml", "volume_ml.ball"),
        *("longest_diameter_mm", "longest_diameter_mm.ball"),
        *("mean_value.ball", "sd_value.ball"),
        *("min_value", "min_value.ball", "max_value", "max_value.ball"),
    }


def test_every_measurement_is_a_keyword() -> None:
    for names in NAMES.values():
        for name in names:
            assert kind_of(f"an_engine.{name}.ball") is Kind.NUMBER


@pytest.mark.parametrize("name", ENGINES)
def test_whatever_can_be_asked_is_a_keyword(name: str) -> None:
    for fact in facts_known(ENGINES[name]):
        assert kind_of(f"{name}.{fact}") is not None
        assert fact.partition(".")[0] in FINDING_FACTS


def test_each_kind_of_engine_knows_its_own_facts() -> None:
    assert facts_known(of_kind(FindingKind.CLASSIFICATION)) >= {"outcome", "present", "probability"}
    assert facts_known(of_kind(FindingKind.QUALITY)) >= {"outcome", "grade", "fault"}
    lungs = facts_known(of_kind(FindingKind.SEGMENTATION))
    assert lungs >= {"outcome", "present", "volume_ml"}
    assert not any(fact.startswith("probability") for fact in lungs)


# ---------------------------------------------------------------- what a finding says


def a_finding(kind: FindingKind, **changes: Any) -> Finding:
    return Finding(kind, findings.ENGINE, ("1.2",), "found", **changes)


def a_classification(label: str, probability: float) -> Classification:
    return Classification("1.2", findings.PNEUMONIA, label, probability, 0.5)


def a_segment(number: int, label: str, volume_ml: float) -> Segment:
    return Segment(number, label, findings.ANATOMY, findings.LUNG, None, volume_ml)


def test_a_classification_tells_what_is_present_and_the_highest_probability() -> None:
    two = (a_classification("Pneumonia", 0.75), a_classification("Pleural effusion", 0.25))
    assert facts_of(a_finding(FindingKind.CLASSIFICATION, classifications=two)) == {
        "present": ("Pneumonia",),
        "probability": ("0.75",),
        "probability.pneumonia": ("0.75",),
        "probability.pleural_effusion": ("0.25",),
    }


def test_of_several_images_each_probability_is_told() -> None:
    two = (a_classification("Pneumonia", 0.75), a_classification("Pneumonia", 0.875))
    facts = facts_of(a_finding(FindingKind.CLASSIFICATION, classifications=two))
    assert facts["probability.pneumonia"] == ("0.75", "0.875")
    assert facts["probability"] == ("0.875",)
    assert facts["present"] == ("Pneumonia",)


def test_quality_is_that_of_the_worst_image() -> None:
    good = Quality("1.2", QualityGrade.LIMITED, (Fault("rotation", 0.5, found=True),))
    bad = Quality("1.3", QualityGrade.NON_DIAGNOSTIC, (Fault("cut off", 0.875, found=True),))
    facts = facts_of(a_finding(FindingKind.QUALITY, qualities=(bad, good)))
    assert facts["grade"] == ("non-diagnostic",)
    assert facts["fault"] == ("cut off", "rotation")
    assert facts["probability"] == ("0.875",)
    assert facts["probability.cut_off"] == ("0.875",)


def test_of_several_time_points_each_number_is_told_and_what_is_worst() -> None:
    parts = tuple(
        a_finding(
            FindingKind.QUALITY,
            qualities=(Quality("", grade, (Fault("motion", probability, found=True),)),),
        )
        for grade, probability in (
            (QualityGrade.NON_DIAGNOSTIC, 0.875),
            (QualityGrade.LIMITED, 0.5),
        )
    )
    facts = facts_of(a_finding(FindingKind.QUALITY, parts=parts))
    assert facts["grade"] == ("non-diagnostic",)
    assert facts["fault"] == ("motion",)
    assert facts["probability"] == ("0.875",)
    assert facts["probability.motion"] == ("0.875", "0.5")


def test_what_was_not_found_has_a_volume_of_nothing() -> None:
    """`volume_ml.left_lung: "< 500"` must hold where there is no left lung at all."""
    two = (a_segment(1, "Right lung", 2500.5), a_segment(2, "Left lung", 0.0))
    facts = facts_of(a_finding(FindingKind.SEGMENTATION, segments=two))
    assert facts == {
        "present": ("Right lung",),
        "volume_ml": ("2500.5",),
        "volume_ml.right_lung": ("2500.5",),
        "volume_ml.left_lung": ("0",),
    }
    small = when({"ct_lungs.volume_ml.left_lung": "< 500"})
    assert small.check({f"ct_lungs.{fact}": values for fact, values in facts.items()}).holds


def a_measured_segment(number: int, label: str, **measured: float) -> Segment:
    unit = findings.MILLILITRE
    numbers = [Measurement(name, value, unit, None) for name, value in measured.items()]
    return Segment(number, label, findings.ANATOMY, findings.LUNG, None, 1.0, tuple(numbers))


def test_measurements_are_told_of_each_segment_and_of_all_where_that_means_something() -> None:
    two = (
        a_measured_segment(1, "Nodule", longest_diameter_mm=12.5, count=2, mean_value=-30.0),
        a_measured_segment(2, "Lung", longest_diameter_mm=250.0, count=1, mean_value=-800.0),
    )
    facts = facts_of(a_finding(FindingKind.SEGMENTATION, segments=two))
    assert facts["longest_diameter_mm.nodule"] == ("12.5",)
    assert facts["longest_diameter_mm"] == ("250",)
    assert facts["count"] == ("3",)
    assert facts["mean_value.lung"] == ("-800",)
    assert "mean_value" not in facts
    rule = when({"an_engine.longest_diameter_mm.nodule": ">= 6"})
    assert rule.check({f"an_engine.{fact}": values for fact, values in facts.items()}).holds


def test_a_number_is_told_by_its_name_and_without_where_there_is_but_one() -> None:
    age = Value("1.2", findings.BONE_AGE, "Bone age", 131.25, findings.MONTH)
    alone = facts_of(a_finding(FindingKind.REGRESSION, values=(age,)))
    assert alone["value.bone_age"] == alone["value"] == ("131.25",)
    other = Value("", findings.BONE_AGE, "Mean age", 120.0, findings.MONTH)
    both = facts_of(a_finding(FindingKind.REGRESSION, values=(age, other)))
    assert both["value.mean_age"] == ("120",)
    assert "value" not in both
