"""Figures against their definitions, counted pair by pair."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from engines.recipes.errors import DataUnusable
from engines.recipes.metrics import (
    auc,
    auc_interval,
    confusion,
    dice,
    dice_interval,
    operating_at,
    roc,
    sensitivity_threshold,
    specificity_threshold,
    youden_threshold,
)

ANSWERS = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40).filter(
    lambda answers: len({truth for _, truth in answers}) == 2
)


def columns(answers: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    scores, truth = zip(*answers, strict=True)
    return np.array(scores, float), np.array(truth, float)


@settings(deadline=None)
@given(ANSWERS)
def test_auc_is_the_share_of_pairs_in_the_right_order(answers: list[tuple[int, bool]]) -> None:
    scores, truth = columns(answers)
    pairs = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p in scores[truth == 1]
        for n in scores[truth == 0]
    ]
    assert auc(scores, truth) == pytest.approx(np.mean(pairs))


def test_auc_passes_over_what_nobody_knows() -> None:
    assert auc(np.array([0.1, 0.9, 0.5]), np.array([0, 1, np.nan])) == 1.0
    assert np.isnan(auc(np.array([0.1, 0.9]), np.array([1, 1])))


def test_the_interval_holds_the_auc_and_narrows_with_more_patients() -> None:
    random = np.random.default_rng(0)
    widths = []
    for count in (100, 1600):
        truth = np.arange(count) % 2
        scores = truth + random.normal(size=count)
        found = auc_interval(scores, truth, np.arange(count), repeats=300)
        assert found.low < found.value < found.high
        assert found.value == auc(scores, truth)
        widths.append(found.high - found.low)
    # sixteen times as many patients: a quarter of the width
    assert 3 < widths[0] / widths[1] < 5.5


def test_many_images_of_few_patients_are_no_many_witnesses() -> None:
    random = np.random.default_rng(1)
    of_patient = np.repeat(random.normal(size=20), 30)
    truth = np.repeat(np.arange(20) % 2, 30)
    scores = of_patient + 0.8 * truth + 0.01 * random.normal(size=600)
    patients = np.repeat(np.arange(20), 30)
    by_patient = auc_interval(scores, truth, patients, repeats=300)
    by_image = auc_interval(scores, truth, np.arange(600), repeats=300)
    assert by_patient.high - by_patient.low > 3 * (by_image.high - by_image.low)


def test_one_patient_leaves_no_interval() -> None:
    found = auc_interval(np.array([0.1, 0.9]), np.array([0, 1]), np.array(["a", "a"]))
    assert found.value == 1.0
    assert np.isnan([found.low, found.high]).all()


def test_the_same_seed_draws_the_same_interval() -> None:
    truth = np.arange(50) % 2
    scores = np.sin(np.arange(50)) + truth
    once, again = (auc_interval(scores, truth, np.arange(50), repeats=50) for _ in range(2))
    assert once == again


def test_dice_is_twice_what_is_common_over_what_is_drawn() -> None:
    drawn = np.array([[1, 1, 0, 2]])
    true = np.array([[1, 0, 0, 2]])
    assert dice(drawn, true) == pytest.approx(2 / 3)
    assert dice(drawn, true, label=2) == 1.0
    assert np.isnan(dice(drawn, true, label=3))


def test_dice_is_the_mean_over_patients_not_over_images() -> None:
    truth = np.ones((4, 1, 1), np.uint8)
    drawn = np.array([1, 1, 1, 0], np.uint8).reshape(4, 1, 1)
    found = dice_interval(drawn, truth, np.array(["a", "a", "a", "b"]), repeats=200)
    assert found.value == 0.5
    assert (found.low, found.high) == (0.0, 1.0)


@settings(deadline=None)
@given(ANSWERS)
def test_no_threshold_is_better_than_that_of_youden(answers: list[tuple[int, bool]]) -> None:
    scores, truth = columns(answers)

    def youden(threshold: float) -> float:
        found = operating_at(scores, truth, threshold)
        return found.sensitivity + found.specificity

    best = youden(youden_threshold(scores, truth))
    assert best == pytest.approx(max(youden(at) for at in np.arange(-0.5, 7.5, 0.5)))


@settings(deadline=None)
@given(ANSWERS, st.floats(0.01, 1))
def test_the_threshold_for_a_sensitivity_is_the_largest_that_has_it(
    answers: list[tuple[int, bool]], least: float
) -> None:
    scores, truth = columns(answers)
    threshold = sensitivity_threshold(scores, truth, least)
    assert operating_at(scores, truth, threshold).sensitivity >= least
    for larger in np.arange(-0.5, 7.0, 0.5):
        if larger > threshold and operating_at(scores, truth, larger).sensitivity >= least:
            assert np.array_equal(scores >= larger, scores >= threshold)


@settings(deadline=None)
@given(ANSWERS, st.floats(0.01, 1))
def test_the_threshold_for_a_specificity_is_the_smallest_that_has_it(
    answers: list[tuple[int, bool]], least: float
) -> None:
    scores, truth = columns(answers)
    threshold = specificity_threshold(scores, truth, least)
    levels, _, specificities = roc(scores, truth)
    assert all(level >= threshold for level in levels[specificities >= least])
    assert threshold in levels[specificities >= least] or (
        threshold == 1.0 and specificities.max() < least  # nobody is said to have it
    )


@settings(deadline=None)
@given(ANSWERS)
def test_every_point_of_the_curve_is_what_its_threshold_makes(
    answers: list[tuple[int, bool]],
) -> None:
    scores, truth = columns(answers)
    for threshold, sensitivity, specificity in zip(*roc(scores, truth), strict=True):
        found = operating_at(scores, truth, threshold)
        assert (found.sensitivity, found.specificity) == pytest.approx((sensitivity, specificity))


def test_neighbouring_numbers_leave_no_room_for_a_middle() -> None:
    scores = np.array([0.5, np.nextafter(0.5, 1)])
    threshold = youden_threshold(scores, np.array([0, 1]))
    assert operating_at(scores, np.array([0, 1]), threshold).specificity == 1.0


def test_no_threshold_is_chosen_where_all_is_the_same() -> None:
    with pytest.raises(DataUnusable, match="the same everywhere"):
        youden_threshold(np.array([0.1, 0.2]), np.array([1, 1]))


def test_confusion_has_the_truth_in_rows() -> None:
    counts = confusion(np.array([0, 1, 1, 2]), np.array([0, 0, 1, 2]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_a_share_of_nothing_is_not_a_number() -> None:
    found = operating_at(np.array([0.1, 0.2]), np.array([0, 0]), 0.5)
    assert np.isnan([found.sensitivity, found.positive_predictive_value]).all()
    assert (found.specificity, found.negative_predictive_value) == (1.0, 1.0)
