"""Calibration finds the line that was hidden, and keeps the order of what is said."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.special import expit, softmax

from engines.recipes.calibration import (
    Calibration,
    expected_calibration_error,
    fit_platt,
    fit_temperature,
    reliability,
)
from engines.recipes.errors import DataUnusable
from engines.recipes.metrics import auc

RANDOM = np.random.default_rng(4)
TRUE_LOGITS = RANDOM.normal(0, 2, 20_000)
PRESENT = (RANDOM.random(20_000) < expit(TRUE_LOGITS)).astype(float)


def test_a_temperature_that_was_hidden_is_found() -> None:
    assert fit_temperature(3 * TRUE_LOGITS, PRESENT).scale == pytest.approx(1 / 3, rel=0.05)


def test_a_line_that_was_hidden_is_found() -> None:
    found = fit_platt((TRUE_LOGITS - 1.5) * 2, PRESENT)
    assert (found.scale, found.offset) == pytest.approx((0.5, 1.5), rel=0.05)


def test_a_temperature_of_several_classes_is_found() -> None:
    logits = RANDOM.normal(0, 2, (20_000, 3))
    drawn = RANDOM.random((20_000, 1)) < np.cumsum(softmax(logits, axis=1), axis=1)
    assert fit_temperature(4 * logits, drawn.argmax(axis=1)).scale == pytest.approx(0.25, rel=0.05)


def test_what_is_calibrated_means_what_it_says() -> None:
    loud = 3 * TRUE_LOGITS
    half = len(loud) // 2
    calibration = fit_platt(loud[:half], PRESENT[:half])
    before = expected_calibration_error(Calibration()(loud[half:]), PRESENT[half:])
    after = expected_calibration_error(calibration(loud[half:]), PRESENT[half:])
    assert before > 0.1
    assert after < 0.02


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.floats(-8, 8), st.booleans()), min_size=4, max_size=40).filter(
        lambda answers: len({truth for _, truth in answers}) == 2
    )
)
def test_calibration_keeps_the_order(answers: list[tuple[float, bool]]) -> None:
    logits = np.round([logit for logit, _ in answers], 3)
    truth = np.array([truth for _, truth in answers], float)
    for fit in (fit_platt, fit_temperature):
        calibration = fit(logits, truth)
        assert calibration.scale > 0
        said = calibration.scale * logits + calibration.offset
        assert auc(said, truth) == auc(logits, truth)


def test_a_perfect_network_on_few_samples_does_not_become_certain() -> None:
    found = fit_platt(np.array([-1.0, -1.0, 1.0, 1.0]), np.array([0, 0, 1, 1]))
    assert 0.7 < found(np.array([1.0]))[0] < 0.8  # Platt: (2 + 1) / (2 + 2)


def test_what_nobody_knows_does_not_count() -> None:
    logits, truth = TRUE_LOGITS[:500], PRESENT[:500]
    unknown = np.append(truth, np.nan)
    assert fit_platt(np.append(logits, 100.0), unknown) == fit_platt(logits, truth)


def test_nothing_can_be_fitted_where_all_is_the_same() -> None:
    with pytest.raises(DataUnusable, match="the same everywhere"):
        fit_platt(np.array([0.1, 0.2]), np.array([1, 1]))


def test_reliability_counts_by_steps() -> None:
    steps = reliability(np.array([0.05, 0.15, 0.15, 1.0]), np.array([0, 1, 0, 1]), bins=10)
    assert steps.count.tolist() == [1, 2, 1]
    assert steps.was.tolist() == [0, 0.5, 1]
    assert steps.said.tolist() == pytest.approx([0.05, 0.15, 1.0])
    wrong_by = (0.05 * 1 + 0.35 * 2 + 0 * 1) / 4
    assert expected_calibration_error(
        np.array([0.05, 0.15, 0.15, 1.0]), np.array([0, 1, 0, 1]), bins=10
    ) == pytest.approx(wrong_by)
